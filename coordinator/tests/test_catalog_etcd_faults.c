/* The catalog in etcd when members die, freeze, or their answers are lost. */
#include "catalog_cases.h"
#include "etcd_cluster.h"
#include "etcd_proxy.h"

#include "catalog/etcd.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct etcd_cluster etcd;
static char prefix[64];

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

static int next_prefix(void **state)
{
    (void)state;
    static int number;
    snprintf(prefix, sizeof prefix, "/test/%d/", ++number);
    return 0;
}

static gy_catalog *open_at(const char *endpoints, int64_t patience_ns)
{
    struct gy_etcd_options options = {.endpoints = endpoints, .prefix = prefix, .patience_ns = patience_ns};
    gy_catalog *catalog = NULL;
    gyre_error err = {0};
    if (gy_catalog_etcd_open(&catalog, &options, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    return catalog;
}

/* Puts numbers from..to under one key, each expecting the one before; every one must succeed. */
static uint64_t count_up(gy_catalog *catalog, uint64_t revision, int from, int to)
{
    for (int i = from; i <= to; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        revision = catalog_put(catalog, "count", revision, text);
    }
    return revision;
}

static void commits_go_on_when_the_leader_is_killed(void **state)
{
    (void)state;
    gy_catalog *catalog = open_at(etcd.endpoints, 0);
    uint64_t revision = count_up(catalog, 0, 1, 20);
    size_t leader = etcd_cluster_leader(&etcd);
    etcd_member_kill(&etcd, leader);
    revision = count_up(catalog, revision, 21, 40);
    catalog_assert_value(catalog, "count", "40", revision);
    etcd_member_start(&etcd, leader);
    etcd_cluster_leader(&etcd);
    revision = count_up(catalog, revision, 41, 50);
    catalog_assert_value(catalog, "count", "50", revision);
    gy_catalog_close(catalog);
}

static void commits_go_on_when_the_leader_is_frozen(void **state)
{
    (void)state;
    gy_catalog *catalog = open_at(etcd.endpoints, 0);
    uint64_t revision = count_up(catalog, 0, 1, 5);
    size_t leader = etcd_cluster_leader(&etcd);
    gy_etcd *client = ((struct gy_etcd_catalog *)catalog)->etcd;
    size_t at;
    for (gy_etcd_member(client, &at); at != leader; gy_etcd_member(client, &at)) /* as bad as it gets: it is the one we ask */
        gy_etcd_leave(client, at);
    etcd_member_signal(&etcd, leader, SIGSTOP);
    int64_t frozen_ns = gy_now_ns();
    revision = count_up(catalog, revision, 6, 6);
    int64_t gap_ms = (gy_now_ns() - frozen_ns) / GY_MILLISECOND_NS;
    revision = count_up(catalog, revision, 7, 10);
    etcd_member_signal(&etcd, leader, SIGCONT); /* and carries out what it had in its buffers */
    etcd_cluster_leader(&etcd);
    revision = count_up(catalog, revision, 11, 15);
    catalog_assert_value(catalog, "count", "15", revision);
    print_message("           the first commit took %lld ms\n", (long long)gap_ms);
    gy_catalog_close(catalog);
}

static void a_watch_loses_nothing_when_members_go(void **state)
{
    (void)state;
    gy_catalog *writer = open_at(etcd.endpoints, 0), *reader = open_at(etcd.endpoints, 0);
    uint64_t revision = 0, seen = 0;
    gyre_error err = {0};
    for (size_t i = 0; i < 30; i++) {
        size_t leader = i % 10 == 5 ? etcd_cluster_leader(&etcd) : 0;
        if (i == 5)
            etcd_member_kill(&etcd, leader), etcd.member[leader].pid = 0;
        if (i == 10)
            for (size_t m = 0; m < etcd.count; m++)
                if (!etcd.member[m].pid)
                    etcd_member_start(&etcd, m);
        if (i == 15) /* the one the watch is at, whichever it is now */
            gy_etcd_member(((struct gy_etcd_catalog *)reader)->etcd, &leader), etcd_member_signal(&etcd, leader, SIGSTOP);
        revision = count_up(writer, revision, (int)i, (int)i);
        while (seen < revision)
            if (reader->wait(reader, seen, gy_now_ns() + 20 * GY_SECOND_NS, &seen, &err) != GYRE_OK)
                fail_msg("change %zu: %s", i, err.text);
        if (i == 20)
            for (size_t m = 0; m < etcd.count; m++)
                etcd_member_signal(&etcd, m, SIGCONT);
    }
    assert_int_equal(seen, revision);
    gy_catalog_close(writer);
    gy_catalog_close(reader);
}

static void compact(gy_catalog *catalog, uint64_t revision)
{
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    request.revision = (int64_t)revision;
    request.physical = true;
    Etcdserverpb__CompactionResponse *reply;
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    assert_int_equal(gy_etcd_call(self->etcd, &gy_etcd_compact, &request.base, &reply, gy_etcd_patience(self->etcd), NULL, NULL),
                     GYRE_OK);
    gy_wire_free(reply);
}

static void a_watch_that_comes_back_behind_a_compaction_still_wakes(void **state)
{
    (void)state;
    char address[32];
    size_t watched = (etcd_cluster_leader(&etcd) + 1) % etcd.count;
    gy_catalog *writer = open_at(etcd.endpoints, 0);
    uint64_t revision = count_up(writer, 0, 1, 1), seen = 0;
    gy_catalog *reader = open_at(etcd_member_address(&etcd, watched, address), 0); /* knows this member alone */
    gyre_error err = {0};
    assert_int_equal(reader->wait(reader, 0, gy_now_ns(), &seen, &err), GYRE_OK);
    etcd_member_kill(&etcd, watched);
    revision = count_up(writer, revision, 2, 6);
    compact(writer, revision); /* changes 2 to 5 are gone before the watch is back */
    etcd_member_start(&etcd, watched);
    assert_int_equal(reader->wait(reader, seen, gy_now_ns() + 30 * GY_SECOND_NS, &seen, &err), GYRE_OK);
    while (seen < revision)
        assert_int_equal(reader->wait(reader, seen, gy_now_ns() + 30 * GY_SECOND_NS, &seen, &err), GYRE_OK);
    catalog_assert_value(reader, "count", "6", revision);
    revision = count_up(writer, revision, 7, 7);
    while (seen < revision)
        assert_int_equal(reader->wait(reader, seen, gy_now_ns() + 30 * GY_SECOND_NS, &seen, &err), GYRE_OK);
    gy_catalog_close(writer);
    gy_catalog_close(reader);
}

/* ---- lost answers ---- */

static void an_answer_that_is_lost_is_found_at_another_member(void **state)
{
    (void)state;
    char first[32], second[32], endpoints[96];
    etcd_proxy *proxy = etcd_proxy_start(etcd_member_address(&etcd, 0, first));
    snprintf(endpoints, sizeof endpoints, "%s,%s", etcd_proxy_address(proxy), etcd_member_address(&etcd, 1, second));
    gy_catalog *catalog = open_at(endpoints, 0), *other = open_at(etcd.endpoints, 0);
    uint64_t revision = catalog_put(catalog, "a", 0, "1");
    etcd_proxy_arm(proxy, ETCD_PROXY_MUTE);
    /* sent twice, made once: the second time the key is at another revision than expected, by our own hand */
    uint64_t next = catalog_put(catalog, "a", revision, "2");
    catalog_assert_value(other, "a", "2", next);
    gy_bytes value = text_bytes("3");
    gyre_error err;
    etcd_proxy_heal(proxy);
    struct gy_catalog_change removal = {"a", next, NULL}, wrong = {"a", revision, &value};
    etcd_proxy_arm(proxy, ETCD_PROXY_MUTE);
    assert_int_equal(catalog->commit(catalog, &removal, 1, &next, &err), GYRE_OK); /* a removal leaves no value to read back */
    assert_int_equal(catalog->commit(catalog, &wrong, 1, NULL, &err), GYRE_ABORTED);
    catalog_assert_missing(other, "a");
    gy_catalog_close(catalog);
    gy_catalog_close(other);
    etcd_proxy_stop(proxy);
}

static void a_commit_in_doubt_is_settled_by_the_next_read(void **state)
{
    (void)state;
    char first[32];
    etcd_proxy *proxy = etcd_proxy_start(etcd_member_address(&etcd, 0, first));
    gy_catalog *catalog = open_at(etcd_proxy_address(proxy), 2 * GY_SECOND_NS);
    uint64_t revision = catalog_put(catalog, "a", 0, "1");
    gy_bytes value = text_bytes("2");
    struct gy_catalog_change change = {"a", revision, &value};
    gyre_error err = {0};
    etcd_proxy_arm(proxy, ETCD_PROXY_MUTE);
    assert_int_equal(catalog->commit(catalog, &change, 1, NULL, &err), GYRE_DEADLINE);
    assert_non_null(strstr(err.text, "nobody knows"));
    gy_bytes found = {0};
    assert_int_equal(catalog->get(catalog, "a", &found, &revision, &err), GYRE_UNAVAILABLE);
    etcd_proxy_heal(proxy);
    assert_int_equal(catalog->get(catalog, "a", &found, &revision, &err), GYRE_OK);
    assert_int_equal(found.data[0], '2'); /* it was made */
    assert_true(revision > change.expected_revision);
    gy_bytes_free(&found);
    gy_catalog_close(catalog);
    etcd_proxy_stop(proxy);
}

/* The transaction sleeps on its way, its sender learns that it was not made, and then it arrives. */
static void a_copy_that_arrives_late_changes_nothing(void **state)
{
    (void)state;
    char first[32];
    etcd_proxy *proxy = etcd_proxy_start(etcd_member_address(&etcd, 0, first));
    gy_catalog *catalog = open_at(etcd_proxy_address(proxy), 2 * GY_SECOND_NS), *other = open_at(etcd.endpoints, 0);
    uint64_t revision = catalog_put(catalog, "a", 0, "1");
    gy_bytes value = text_bytes("2");
    struct gy_catalog_change change = {"a", revision, &value};
    gyre_error err = {0};
    etcd_proxy_arm(proxy, ETCD_PROXY_HOLD);
    assert_int_equal(catalog->commit(catalog, &change, 1, NULL, &err), GYRE_DEADLINE);
    /* It looks again over a second wire: the first one keeps what it holds. */
    etcd_proxy *wire = etcd_proxy_start(first);
    struct gy_etcd_catalog *self = (struct gy_etcd_catalog *)catalog;
    gy_etcd *broken = self->etcd;
    struct gy_etcd_options options = {.endpoints = etcd_proxy_address(wire), .prefix = prefix};
    gy_etcd *whole;
    assert_int_equal(gy_etcd_open(&whole, &options, &err), GYRE_OK);
    gy_etcd_watch_stop(self->watch);
    self->watch = NULL;
    self->etcd = whole;
    catalog_assert_value(catalog, "a", "1", revision); /* not made, and never will be */
    etcd_proxy_release(proxy);
    catalog_assert_value(catalog, "a", "1", revision);
    catalog_assert_value(other, "a", "1", revision);
    gy_etcd_close(broken);
    gy_catalog_close(catalog);
    gy_catalog_close(other);
    etcd_proxy_stop(wire);
    etcd_proxy_stop(proxy);
}

/* ---- everybody down ---- */

static void without_members_nothing_is_changed_and_that_is_known(void **state)
{
    (void)state;
    gy_catalog *catalog = open_at(etcd.endpoints, 40 * GY_SECOND_NS), *hasty = open_at(etcd.endpoints, 2 * GY_SECOND_NS);
    uint64_t revision = catalog_put(catalog, "a", 0, "1"), found_revision;
    for (size_t i = 0; i < etcd.count; i++)
        etcd_member_kill(&etcd, i);
    gy_bytes value = text_bytes("2"), found;
    struct gy_catalog_change change = {"a", revision, &value};
    struct gy_catalog_list list;
    gyre_error err = {0};
    assert_int_equal(hasty->commit(hasty, &change, 1, NULL, &err), GYRE_UNAVAILABLE);
    assert_non_null(strstr(err.text, "no member of etcd answered"));
    assert_int_equal(hasty->get(hasty, "a", &found, &found_revision, &err), GYRE_UNAVAILABLE);
    assert_int_equal(hasty->list(hasty, "a", &list, &err), GYRE_UNAVAILABLE);
    for (size_t i = 0; i < etcd.count; i++)
        etcd_member_start(&etcd, i);
    etcd_cluster_leader(&etcd);
    catalog_assert_value(catalog, "a", "1", revision);
    assert_int_equal(catalog->commit(catalog, &change, 1, &revision, &err), GYRE_OK);
    gy_catalog_close(catalog);
    gy_catalog_close(hasty);
}

/* ---- leases ---- */

/* The child: takes the lease, tells it, and when it is told to go on tells whether it holds it and what a commit under it says.
 * */
static int hold_a_lease(const char *endpoints, const char *below)
{
    snprintf(prefix, sizeof prefix, "%s", below);
    struct gy_etcd_options options = {.endpoints = endpoints, .prefix = prefix};
    gy_catalog *catalog;
    gy_catalog_lease *lease;
    if (gy_catalog_etcd_open(&catalog, &options, NULL) != GYRE_OK ||
        catalog->lease_acquire(catalog, "placement", "c1", GY_LEASE_TTL_NS_MIN, &lease, NULL) != GYRE_OK)
        return 1;
    char byte = catalog->lease_held(lease) ? 'h' : '-';
    if (write(STDOUT_FILENO, &byte, 1) != 1 || read(STDIN_FILENO, &byte, 1) != 1)
        return 1;
    char said[2] = {catalog->lease_held(lease) ? 'h' : '-', 0};
    gy_bytes value = text_bytes("stale");
    struct gy_catalog_change change = {"a", 0, &value};
    said[1] = (char)('0' + (int)catalog->commit_fenced(catalog, lease, &change, 1, NULL, NULL));
    if (write(STDOUT_FILENO, said, 2) != 2)
        return 1;
    catalog->lease_release(lease);
    gy_catalog_close(catalog);
    return 0;
}

static void a_holder_that_was_frozen_has_lost_it_and_changes_nothing(void **state)
{
    (void)state;
    gy_catalog *catalog = open_at(etcd.endpoints, 0);
    gy_catalog_lease *lease = NULL, *kept = NULL; /* one that is kept alive all the time */
    gyre_error err = {0};
    assert_int_equal(catalog->lease_acquire(catalog, "kept", "c2", GY_LEASE_TTL_NS_MIN, &kept, &err), GYRE_OK);
    int64_t kept_ns = gy_now_ns();
    int in[2], out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl("/proc/self/exe", "test", "hold-a-lease", etcd.endpoints, prefix, (char *)NULL);
        _exit(127);
    }
    char byte, said[2];
    assert_int_equal(read(out[0], &byte, 1), 1);
    assert_int_equal(byte, 'h');
    uint64_t seen = 0, next;
    do { /* until the child's taking it is behind us */
        assert_int_equal(catalog->wait(catalog, 0, gy_now_ns(), &seen, &err), GYRE_OK);
    } while (catalog->wait(catalog, seen, gy_now_ns() + GY_SECOND_NS, &next, &err) == GYRE_OK);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    int64_t frozen_ns = gy_now_ns();
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c2", GY_LEASE_TTL_NS_MIN, &lease, &err), GYRE_EXISTS);
    assert_int_equal(catalog->wait(catalog, seen, gy_now_ns() + 40 * GY_SECOND_NS, &seen, &err), GYRE_OK); /* the lease went */
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c2", GY_LEASE_TTL_NS_MIN, &lease, &err), GYRE_OK);
    print_message("           free after %lld ms\n", (long long)((gy_now_ns() - frozen_ns) / GY_MILLISECOND_NS));
    assert_true(catalog->lease_held(lease));
    assert_int_equal(write(in[1], "", 1), 1);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(read(out[0], said, 1), 1);
    assert_int_equal(read(out[0], said + 1, 1), 1);
    assert_int_equal(said[0], '-');
    assert_int_equal(said[1] - '0', GYRE_PRECONDITION);
    catalog_assert_missing(catalog, "a");
    gy_bytes value = text_bytes("ours");
    struct gy_catalog_change change = {"a", 0, &value};
    uint64_t revision;
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, &revision, &err), GYRE_OK);
    assert_true(gy_now_ns() - kept_ns > GY_LEASE_TTL_NS_MIN && catalog->lease_held(kept)); /* beyond its time */
    change.expected_revision = revision;
    assert_int_equal(catalog->commit_fenced(catalog, kept, &change, 1, NULL, &err), GYRE_OK);
    catalog->lease_release(kept);
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFEXITED(code) && WEXITSTATUS(code) == 0);
    catalog->lease_release(lease);
    gy_catalog_close(catalog);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}

static void a_lease_outlives_the_leader(void **state)
{
    (void)state;
    gy_catalog *catalog = open_at(etcd.endpoints, 0);
    gy_catalog_lease *lease;
    gyre_error err = {0};
    assert_int_equal(catalog->lease_acquire(catalog, "placement", "c1", GY_LEASE_TTL_NS_MIN, &lease, &err), GYRE_OK);
    size_t leader = etcd_cluster_leader(&etcd);
    etcd_member_kill(&etcd, leader);
    gy_bytes value = text_bytes("v");
    struct gy_catalog_change change = {"a", 0, &value};
    assert_int_equal(catalog->commit_fenced(catalog, lease, &change, 1, NULL, &err), GYRE_OK);
    assert_true(catalog->lease_held(lease));
    etcd_member_start(&etcd, leader);
    etcd_cluster_leader(&etcd);
    catalog->lease_release(lease);
    gy_catalog_close(catalog);
}

#define TEST(name) cmocka_unit_test_setup(name, next_prefix)

int main(int argc, char **argv)
{
    if (sodium_init() < 0)
        return 1;
    setenv("GRPC_VERBOSITY", "NONE", 0);
    if (argc == 4 && strcmp(argv[1], "hold-a-lease") == 0)
        return hold_a_lease(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        TEST(commits_go_on_when_the_leader_is_killed),
        TEST(commits_go_on_when_the_leader_is_frozen),
        TEST(a_watch_loses_nothing_when_members_go),
        TEST(a_watch_that_comes_back_behind_a_compaction_still_wakes),
        TEST(an_answer_that_is_lost_is_found_at_another_member),
        TEST(a_commit_in_doubt_is_settled_by_the_next_read),
        TEST(a_copy_that_arrives_late_changes_nothing),
        TEST(without_members_nothing_is_changed_and_that_is_known),
        TEST(a_holder_that_was_frozen_has_lost_it_and_changes_nothing),
        TEST(a_lease_outlives_the_leader),
    };
    return cmocka_run_group_tests(tests, start_etcd, stop_etcd);
}
