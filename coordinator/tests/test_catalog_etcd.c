/* The catalog in etcd: what every backend must do, and what is this one's own: parts, compaction, prefixes, TLS. */
#include "catalog_cases.h"
#include "etcd_cluster.h"

#include "catalog/embedded.h"
#include "catalog/etcd_blob.h"
#include "catalog/migrate.h"
#include "catalog/records.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

static struct etcd_cluster etcd;

static gyre_status open_etcd(const struct catalog_rig *rig, gy_catalog **out, gyre_error *err)
{
    struct gy_etcd_options options = {.endpoints = rig->endpoints, .prefix = rig->prefix};
    return gy_catalog_etcd_open(out, &options, err);
}

static int start_etcd(void **state)
{
    (void)state;
    etcd_cluster_start(&etcd, 3, false);
    return 0;
}

static int stop_etcd(void **state)
{
    (void)state;
    etcd_cluster_stop(&etcd);
    return 0;
}

/* Each case has a prefix of its own. */
static int make_rig(void **state)
{
    static struct catalog_rig rig;
    static int number;
    rig = (struct catalog_rig){.open = open_etcd, .endpoints = etcd.endpoints, .child = {"commit-for-ever", etcd.endpoints}};
    snprintf(rig.prefix, sizeof rig.prefix, "/test/%d/", ++number);
    rig.child[2] = rig.prefix;
    *state = &rig;
    return 0;
}

/* ---- what lies in etcd ---- */

/* Keys of a kind, and how many of them go by themselves with an etcd lease. */
static size_t count_below(gy_catalog *catalog, const char *kind, size_t *leased)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name from = gy_etcd_name(self, kind, ""), end = gy_etcd_name_end(&from);
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&from);
    request.range_end = gy_etcd_data(&end);
    request.keys_only = true;
    Etcdserverpb__RangeResponse *reply;
    assert_int_equal(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, NULL),
                     GYRE_OK);
    size_t count = reply->n_kvs;
    for (size_t i = 0; leased && i < count; i++)
        *leased += reply->kvs[i]->lease != 0;
    gy_wire_free(reply);
    return count;
}

static void overwrite(gy_catalog *catalog, const char *name, const char *value)
{
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name key = gy_etcd_name(self, name, "");
    GY_AUTO(gy_txn) *txn = NULL;
    assert_int_equal(gy_txn_new(&txn, NULL), GYRE_OK);
    if (value)
        gy_txn_put(&txn->success, &key, value, strlen(value), 0);
    else
        gy_txn_delete(&txn->success, &key);
    Etcdserverpb__TxnResponse *reply;
    assert_int_equal(gy_txn_run(txn, self->etcd, &reply, gy_etcd_patience(self->etcd), NULL, NULL), GYRE_OK);
    gy_wire_free(reply);
}

static gy_bytes zeros(size_t bytes) { return (gy_bytes){calloc(1, bytes), bytes}; }

static void a_large_value_lies_in_parts_that_go_with_it(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gy_bytes value = zeros((5 << 20) + 1), edge = zeros(GY_ETCD_INLINE_BYTES);
    struct gy_catalog_change change = {"codebook/1/1", 0, &value}, inlined = {"edge", 0, &edge};
    uint64_t revision, edge_revision;
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, &change, 1, &revision, &err), GYRE_OK);
    assert_int_equal(count_below(catalog, "p/", NULL), 6);
    size_t leased = 0;
    assert_int_equal(count_below(catalog, "r/", &leased), 1);
    assert_int_equal(leased, 0); /* or it would be gone in ten minutes, and the value at the next start */
    assert_int_equal(catalog->commit(catalog, &inlined, 1, &edge_revision, &err), GYRE_OK);
    assert_int_equal(count_below(catalog, "p/", NULL), 6); /* what fits stands under its key */
    gy_catalog_close(catalog);
    catalog = rig_open(state); /* sweeps, but not what is referred to */
    assert_int_equal(count_below(catalog, "p/", NULL), 6);
    assert_int_equal(catalog->commit(catalog, &change, 1, NULL, &err),
                     GYRE_ABORTED); /* and one that cannot be made stores nothing */
    assert_int_equal(count_below(catalog, "p/", NULL), 6);
    change.expected_revision = revision, change.value = NULL;
    assert_int_equal(catalog->commit(catalog, &change, 1, NULL, &err), GYRE_OK);
    assert_int_equal(count_below(catalog, "p/", NULL), 0);
    assert_int_equal(count_below(catalog, "r/", NULL), 0);
    gy_bytes_free(&value);
    gy_bytes_free(&edge);
    gy_catalog_close(catalog);
}

static void parts_that_a_crash_left_are_swept(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gy_bytes value = zeros(3 << 20);
    char id[GY_ETCD_ID_ROOM], ref[GY_ETCD_ID_ROOM + 2];
    uint8_t pointer[GY_ETCD_POINTER_BYTES];
    gyre_error err = {0};
    assert_int_equal(gy_etcd_blob_store((struct gy_etcd_catalog *)catalog, &value, id, pointer, &err), GYRE_OK);
    gy_bytes_free(&value);
    size_t leased = 0;
    assert_int_equal(count_below(catalog, "r/", &leased), 1);
    assert_int_equal(leased, 1);
    gy_catalog_close(catalog);
    catalog = rig_open(state); /* its writer may be at work still */
    assert_int_equal(count_below(catalog, "p/", NULL), 3);
    snprintf(ref, sizeof ref, "r/%s", id);
    overwrite(catalog, ref, NULL); /* as the end of the scratch lease does */
    gy_catalog_close(catalog);
    catalog = rig_open(state);
    assert_int_equal(count_below(catalog, "p/", NULL), 0);
    gy_catalog_close(catalog);
}

static void damaged_values_are_corrupt(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gy_bytes value = zeros(3 << 20), found;
    struct gy_catalog_change change = {"large", 0, &value};
    uint64_t revision;
    gyre_error err = {0};
    assert_int_equal(catalog->commit(catalog, &change, 1, NULL, &err), GYRE_OK);
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    struct gy_etcd_name key = gy_etcd_name(self, "k/", "large");
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = gy_etcd_data(&key);
    Etcdserverpb__RangeResponse *reply;
    assert_int_equal(gy_etcd_call(self->etcd, &gy_etcd_range, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, &err),
                     GYRE_OK);
    struct gy_etcd_value stored;
    assert_int_equal(gy_etcd_value_read(&stored, &reply->kvs[0]->value, &err), GYRE_OK);
    gy_wire_free(reply);
    char part[128], *other = malloc(GY_ETCD_PART_BYTES + 1);
    memset(other, 'x', GY_ETCD_PART_BYTES);
    other[GY_ETCD_PART_BYTES] = 0;
    snprintf(part, sizeof part, "p/%s/%08x", stored.id, 1);
    overwrite(catalog, part, other);
    assert_int_equal(catalog->get(catalog, "large", &found, &revision, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "hash"));
    overwrite(catalog, part, "short");
    assert_int_equal(catalog->get(catalog, "large", &found, &revision, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "part 1"));
    overwrite(catalog, "k/odd", "\003what");
    assert_int_equal(catalog->get(catalog, "odd", &found, &revision, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "'odd'"));
    free(other);
    gy_bytes_free(&value);
    gy_catalog_close(catalog);
}

static void values_from_anywhere_are_read_or_refused(void **state)
{
    (void)state;
    uint8_t bytes[GY_ETCD_POINTER_BYTES] = {2};
    struct gy_etcd_value value;
    ProtobufCBinaryData stored = {0, bytes};
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_CORRUPT);
    stored.len = sizeof bytes - 1;
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_CORRUPT);
    stored.len = sizeof bytes;
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_CORRUPT); /* its id is no hex */
    memset(bytes + 1 + 8 + GY_ETCD_HASH_BYTES, 'a', GY_ETCD_ID_ROOM - 1);
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_OK);
    gy_store_u64(bytes + 1, (uint64_t)GY_CATALOG_VALUE_BYTES_MAX + 1);
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_CORRUPT);
    bytes[0] = 1;
    assert_int_equal(gy_etcd_value_read(&value, &stored, NULL), GYRE_OK);
    assert_int_equal(value.bytes, sizeof bytes - 1);
}

/* ---- prefixes and formats ---- */

static void assert_open_fails(void **state, gyre_status status, const char *word)
{
    gy_catalog *catalog = NULL;
    gyre_error err = {0};
    gyre_status got = open_etcd(*state, &catalog, &err);
    if (got != status || !strstr(err.text, word))
        fail_msg("%s \"%s\"; expected %s and \"%s\"", gyre_status_name(got), err.text, gyre_status_name(status), word);
}

static void what_is_no_catalog_of_this_version_is_refused(void **state)
{
    struct catalog_rig *rig = *state;
    gy_catalog *catalog = rig_open(state);
    overwrite(catalog, "format", "2");
    assert_open_fails(state, GYRE_UNIMPLEMENTED, "format 2");
    overwrite(catalog, "format", "one");
    assert_open_fails(state, GYRE_CORRUPT, "format");
    overwrite(catalog, "format", NULL);
    overwrite(catalog, "something", "else");
    assert_open_fails(state, GYRE_PRECONDITION, "no catalog");
    gy_catalog_close(catalog);
    snprintf(rig->prefix, sizeof rig->prefix, "gyre/");
    assert_open_fails(state, GYRE_INVALID, "begins and ends with /");
    snprintf(rig->prefix, sizeof rig->prefix, "/g re/");
    assert_open_fails(state, GYRE_INVALID, "0x20");
}

static void two_prefixes_are_two_catalogs(void **state)
{
    gy_catalog *catalog = rig_open(state);
    uint64_t revision = catalog_put(catalog, "a", 0, "mine");
    struct catalog_rig *rig = *state;
    strcat(rig->prefix, "deeper/");
    catalog_put(catalog, "b", 0, "mine");
    gy_catalog_close(catalog);
    catalog = rig_open(state);
    catalog_assert_missing(catalog, "a");
    catalog_put(catalog, "a", 0, "theirs");
    gy_catalog_close(catalog);
    rig->prefix[strlen(rig->prefix) - strlen("deeper/")] = 0;
    catalog = rig_open(state);
    catalog_assert_value(catalog, "a", "mine", revision);
    gy_catalog_close(catalog);
}

/* ---- leases and fences ---- */

static void a_commit_under_a_lost_lease_changes_nothing(void **state)
{
    gy_catalog *catalog = rig_open(state);
    gyre_error err = {0};
    gy_catalog_lease *lease, *next;
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", 10 * GY_SECOND_NS, &lease, &err), GYRE_OK);
    overwrite(catalog, "l/placement", NULL);
    gy_bytes value = text_bytes("v");
    struct gy_catalog_change change = {"a", 0, &value};
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, NULL, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "placement"));
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", 10 * GY_SECOND_NS, &next, &err), GYRE_OK);
    /* the same name and owner again, but not the same lease */
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, NULL, &err), GYRE_PRECONDITION);
    catalog_assert_missing(catalog, "a");
    assert_int_equal(catalog->commit_fenced(catalog, next, &change, 1, NULL, &err), GYRE_OK);
    catalog->lease_release(next);
    catalog->lease_release(lease);
    gy_catalog_close(catalog);
}

/* ---- migrating ---- */

/* An embedded catalog with a cluster's record, a collection and a large codebook. */
static void make_embedded(const char *path, struct gy_cluster_record *cluster)
{
    gy_catalog *catalog;
    gyre_error err = {0};
    gy_bytes record = {0}, codebook = zeros(3 << 20), collection = text_bytes("{}");
    gy_cluster_record_init(cluster);
    assert_int_equal(gy_cluster_record_encode(cluster, &record, &err), GYRE_OK);
    assert_int_equal(gy_catalog_embedded_open(&catalog, path, &err), GYRE_OK);
    struct gy_catalog_change changes[] = {
        {GY_CLUSTER_KEY, 0, &record}, {"codebook/1/1", 0, &codebook}, {"collection/a", 0, &collection}};
    assert_int_equal(catalog->commit(catalog, changes, 3, NULL, &err), GYRE_OK);
    gy_catalog_close(catalog);
    gy_bytes_free(&record);
    gy_bytes_free(&codebook);
}

static void a_migration_that_was_cut_off_goes_on_and_takes_what_changed(void **state)
{
    const struct catalog_rig *rig = *state;
    char dir[] = "/tmp/gyre-migrate-XXXXXX", path[64], other_path[64], command[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/catalog", dir), snprintf(other_path, sizeof other_path, "%s/other", dir);
    struct gy_etcd_options options = {.endpoints = rig->endpoints, .prefix = rig->prefix};
    struct gy_migrated migrated;
    gyre_error err = {0};
    assert_int_equal(gy_catalog_migrate(path, &options, &migrated, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "nothing to migrate"));
    struct gy_cluster_record cluster, other;
    make_embedded(path, &cluster), make_embedded(other_path, &other);
    gy_catalog *half;
    assert_int_equal(gy_etcd_open_for_migration(&half, &options, cluster.id, true, &err), GYRE_OK);
    catalog_put(half, "collection/a", 0, "copied before it changed");
    catalog_put(half, "collection/gone", 0, "copied before it went");
    gy_catalog_close(half); /* here it was cut off */
    assert_open_fails(state, GYRE_PRECONDITION, "not finished");
    assert_int_equal(gy_catalog_migrate(other_path, &options, &migrated, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "another cluster"));
    if (gy_catalog_migrate(path, &options, &migrated, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(migrated.keys, 3);
    gy_catalog *catalog = rig_open(state);
    struct gy_catalog_list keys;
    assert_int_equal(catalog->keys(catalog, &keys, &err), GYRE_OK);
    assert_int_equal(keys.count, 3);
    catalog_assert_value(catalog, "collection/a", "{}", keys.entries[2].revision);
    gy_catalog_list_free(&keys);
    assert_int_equal(gy_catalog_migrate(other_path, &options, &migrated, &err), GYRE_PRECONDITION); /* a prefix that is in use */
    assert_non_null(strstr(err.text, "a catalog already"));
    /* a crash between the two marks: the embedded catalog has moved, the prefix is not free yet */
    overwrite(catalog, "migration", cluster.id);
    gy_catalog_close(catalog);
    assert_open_fails(state, GYRE_PRECONDITION, "not finished");
    assert_int_equal(gy_catalog_migrate(path, &options, &migrated, &err), GYRE_OK);
    gy_catalog_close(rig_open(state));
    assert_int_equal(gy_catalog_migrate(path, &options, &migrated, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "has moved to"));
    assert_int_equal(gy_catalog_embedded_open(&catalog, path, &err), GYRE_PRECONDITION);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* ---- TLS ---- */

static void tls_is_spoken_with_both_certificates_or_not_at_all(void **state)
{
    (void)state;
    struct etcd_cluster secure;
    etcd_cluster_start(&secure, 1, true);
    char ca[ETCD_TEXT_BYTES], other[ETCD_TEXT_BYTES], cert[ETCD_TEXT_BYTES], key[ETCD_TEXT_BYTES];
    etcd_cluster_path(&secure, "ca.pem", ca), etcd_cluster_path(&secure, "other.pem", other);
    etcd_cluster_path(&secure, "client.pem", cert), etcd_cluster_path(&secure, "client.key", key);
    struct gy_etcd_options options = {.endpoints = secure.endpoints, .prefix = "/gyre/", .ca_file = ca, .cert_file = cert,
                                      .key_file = key, .patience_ns = 20 * GY_SECOND_NS};
    gy_catalog *catalog;
    gyre_error err = {0};
    if (gy_catalog_etcd_open(&catalog, &options, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    uint64_t revision = catalog_put(catalog, "a", 0, "v"), reached = 0;
    while (reached < revision)
        assert_int_equal(catalog->wait(catalog, reached, gy_now_ns() + 20 * GY_SECOND_NS, &reached, &err), GYRE_OK);
    catalog_assert_value(catalog, "a", "v", revision);
    gy_catalog_close(catalog);
    options.patience_ns = GY_SECOND_NS;
    struct gy_etcd_options wrong[] = {options, options, options};
    wrong[0].ca_file = other;                                          /* does not trust the member */
    wrong[1].cert_file = wrong[1].key_file = NULL;                     /* the member does not trust it */
    wrong[2].ca_file = wrong[2].cert_file = wrong[2].key_file = NULL;  /* plain */
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(gy_catalog_etcd_open(&catalog, &wrong[i], &err), GYRE_UNAVAILABLE);
    wrong[0].key_file = NULL;
    assert_int_equal(gy_catalog_etcd_open(&catalog, &wrong[0], &err), GYRE_INVALID);
    wrong[1].ca_file = secure.dir;
    assert_int_equal(gy_catalog_etcd_open(&catalog, &wrong[1], &err), GYRE_PRECONDITION);
    etcd_cluster_stop(&secure);
}

#define TEST(name) cmocka_unit_test_setup(name, make_rig)

int main(int argc, char **argv)
{
    if (sodium_init() < 0)
        return 1;
    setenv("GRPC_VERBOSITY", "NONE", 0);
    if (argc == 4 && strcmp(argv[1], "commit-for-ever") == 0) {
        struct catalog_rig rig = {.endpoints = argv[2]};
        snprintf(rig.prefix, sizeof rig.prefix, "%s", argv[3]);
        gy_catalog *catalog;
        return open_etcd(&rig, &catalog, NULL) == GYRE_OK ? catalog_commit_for_ever(catalog) : 1;
    }
    const struct CMUnitTest tests[] = {
        CATALOG_CASES(TEST),
        TEST(a_large_value_lies_in_parts_that_go_with_it),
        TEST(parts_that_a_crash_left_are_swept),
        TEST(damaged_values_are_corrupt),
        TEST(values_from_anywhere_are_read_or_refused),
        TEST(what_is_no_catalog_of_this_version_is_refused),
        TEST(two_prefixes_are_two_catalogs),
        TEST(a_commit_under_a_lost_lease_changes_nothing),
        TEST(a_migration_that_was_cut_off_goes_on_and_takes_what_changed),
        TEST(tls_is_spoken_with_both_certificates_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, start_etcd, stop_etcd);
}
