/* The store: what it keeps, what it refuses, and how damage reads. */
#include "points_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { DIM = 16, BODY_BYTES = 1000 };

static struct fixture bare(void)
{
    gyre_error err;
    struct fixture f = {.directory = fixture_directory()};
    snprintf(f.path, sizeof f.path, "%s/replica", f.directory);
    assert_ok(gy_store_env_new(&f.env, 8 << 20, &err));
    gyre_codebook *codebook = fixture_codebook(GYRE_COSINE, DIM, 1, 0.5f);
    const struct gy_shard_config config = fixture_config(7);
    assert_ok(gy_store_create(&f.store, f.env, f.path, &fixture_identity, 1, &config, "rabitq1", codebook, &err));
    gyre_codebook_free(codebook);
    return f;
}

static void reopen(struct fixture *f)
{
    gyre_error err;
    gy_store_close(f->store);
    f->store = NULL;
    assert_ok(gy_store_open(&f->store, f->env, f->path, &err));
}

static void append(struct fixture *f, uint64_t epoch, uint64_t first, size_t count)
{
    gyre_error err;
    static uint8_t body[BODY_BYTES];
    struct gy_log_entry entries[64];
    assert_true(count <= 64);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct gy_log_entry){epoch, first + i, body, (first + i) % BODY_BYTES};
    assert_ok(gy_store_log_append(f->store, entries, count, false, &err));
}

struct seen {
    uint64_t next, last_epoch, stop_at;
};

static gyre_status see(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    struct seen *seen = self;
    assert_int_equal(entry->seq, seen->next++);
    assert_int_equal(entry->bytes, entry->seq % BODY_BYTES);
    seen->last_epoch = entry->epoch;
    return entry->seq == seen->stop_at ? gyre_fail(err, GYRE_CANCELLED, "enough") : GYRE_OK;
}

static void a_new_replica_says_who_it_is_after_every_opening(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    for (int i = 0; i < 2; i++, reopen(&f)) {
        uint64_t epoch, seq;
        assert_int_equal(gy_store_identity(f.store)->collection_id, 42);
        assert_int_equal(gy_store_identity(f.store)->shard, 3);
        assert_string_equal(gy_store_identity(f.store)->collection, "words");
        assert_int_equal(gyre_codebook_version(gy_store_codebook(f.store)), 1);
        assert_int_equal(gyre_codebook_metric(gy_store_codebook(f.store)), GYRE_COSINE);
        assert_int_equal(gy_store_epoch(f.store), 7 + i);
        assert_int_equal(gy_store_applied_seq(f.store), 0);
        gy_store_log_last(f.store, &epoch, &seq);
        assert_int_equal(epoch, 0), assert_int_equal(seq, 0);
        const struct gy_shard_config newer = fixture_config(8);
        assert_ok(gy_store_set_config(f.store, &newer, &err));
    }
    f.points = NULL;
    fixture_fini(&f);
}

static void a_replica_is_made_once_and_found_only_where_it_is(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    gy_store *other = NULL;
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 1, 0);
    const struct gy_shard_config config = fixture_config(1);
    assert_int_equal(gy_store_create(&other, f.env, f.path, &fixture_identity, 1, &config, "rabitq1", codebook, &err),
                     GYRE_EXISTS);
    assert_int_equal(gy_store_open(&other, f.env, f.path, &err), GYRE_PRECONDITION); /* it is open already */
    gy_store_close(f.store);
    f.store = NULL;
    assert_ok(gy_store_destroy(f.path, &err));
    assert_int_equal(access(f.path, F_OK), -1);
    assert_int_equal(gy_store_open(&other, f.env, f.path, &err), GYRE_NOT_FOUND);
    assert_int_equal(gy_store_destroy(f.path, &err), GYRE_NOT_FOUND);
    gyre_codebook_free(codebook);
    fixture_fini(&f);
}

static void what_a_crash_left_of_a_replica_being_made_is_in_nobodys_way(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char path[256], leftover[300];
    snprintf(path, sizeof path, "%s/second", f.directory);
    snprintf(leftover, sizeof leftover, "%s/.second.creating", f.directory);
    assert_int_equal(mkdir(leftover, 0700), 0);
    gy_store *second = NULL;
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 1, 0);
    const struct gy_shard_config config = fixture_config(1);
    assert_ok(gy_store_create(&second, f.env, path, &fixture_identity, 1, &config, "rabitq1", codebook, &err));
    assert_int_equal(access(leftover, F_OK), -1);
    gy_store_close(second);
    gyre_codebook_free(codebook);
    fixture_fini(&f);
}

static void the_log_gives_back_what_was_appended_from_anywhere(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    append(&f, 7, 1, 20), append(&f, 8, 21, 30);
    for (int i = 0; i < 2; i++, reopen(&f)) {
        uint64_t epoch, seq;
        gy_store_log_last(f.store, &epoch, &seq);
        assert_int_equal(epoch, 8), assert_int_equal(seq, 50);
        for (uint64_t from = 1; from <= 51; from += 10) {
            struct seen seen = {.next = from};
            assert_ok(gy_store_log_read(f.store, from, see, &seen, &err));
            assert_int_equal(seen.next, 51);
        }
        struct seen seen = {.next = 5, .stop_at = 9};
        assert_int_equal(gy_store_log_read(f.store, 5, see, &seen, &err), GYRE_CANCELLED);
        assert_int_equal(seen.next, 10);
        assert_int_equal(seen.last_epoch, 7);
    }
    fixture_fini(&f);
}

static void apply_up_to(struct fixture *f, uint64_t seq)
{
    gyre_error err;
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    assert_ok(gy_store_commit_applied(f->store, batch, seq, 0, &(struct gy_digest){0}, NULL, &err));
    assert_ok(gy_store_flush(f->store, &err));
}

static void a_trimmed_log_knows_where_it_starts_and_ends(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    append(&f, 7, 1, 40);
    assert_int_equal(gy_store_log_trim(f.store, 2, &err), GYRE_PRECONDITION); /* nothing is applied yet */
    apply_up_to(&f, 40);
    assert_ok(gy_store_log_trim(f.store, 31, &err));
    assert_ok(gy_store_log_trim(f.store, 11, &err)); /* already gone */
    for (int i = 0; i < 2; i++, reopen(&f)) {
        struct seen seen = {.next = 31};
        assert_int_equal(gy_store_log_read(f.store, 30, see, &seen, &err), GYRE_OUT_OF_RANGE);
        assert_non_null(strstr(err.text, "30"));
        assert_ok(gy_store_log_read(f.store, 31, see, &seen, &err));
        assert_int_equal(seen.next, 41);
    }
    assert_ok(gy_store_log_trim(f.store, 41, &err));
    for (int i = 0; i < 2; i++, reopen(&f)) {
        uint64_t epoch, seq;
        struct seen seen = {.next = 41};
        gy_store_log_last(f.store, &epoch, &seq);
        assert_int_equal(epoch, 7), assert_int_equal(seq, 40);
        assert_ok(gy_store_log_read(f.store, 41, see, &seen, &err));
        assert_int_equal(seen.next, 41);
    }
    append(&f, 9, 41, 1);
    reopen(&f);
    uint64_t epoch, seq;
    gy_store_log_last(f.store, &epoch, &seq);
    assert_int_equal(epoch, 9), assert_int_equal(seq, 41);
    fixture_fini(&f);
}

static void log_key(uint8_t key[8], uint64_t seq)
{
    gy_store_u64_be(key, seq);
}

static void a_gap_in_the_log_is_corruption_and_named(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    append(&f, 7, 1, 20);
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    uint8_t key[8];
    log_key(key, 11);
    gy_batch_delete(batch, f.store, GY_FAMILY_LOG, (struct gy_slice){key, sizeof key});
    assert_ok(gy_store_commit(f.store, batch, &err));
    struct seen seen = {.next = 1};
    assert_int_equal(gy_store_log_read(f.store, 1, see, &seen, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "11"));
    assert_int_equal(seen.next, 11);
    seen.next = 12;
    assert_ok(gy_store_log_read(f.store, 12, see, &seen, &err));
    fixture_fini(&f);
}

static void a_log_that_ends_below_what_is_applied_does_not_open(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    append(&f, 7, 1, 3);
    apply_up_to(&f, 5);
    gy_store_close(f.store);
    f.store = NULL;
    assert_int_equal(gy_store_open(&f.store, f.env, f.path, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "seq 3"));
    fixture_fini(&f);
}

static void put_meta(struct fixture *f, const char *key, const void *value, size_t bytes)
{
    gyre_error err;
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_batch_put(batch, f->store, GY_FAMILY_META, (struct gy_slice){key, strlen(key)}, (struct gy_slice){value, bytes});
    assert_ok(gy_store_commit(f->store, batch, &err));
    gy_store_close(f->store);
    f->store = NULL;
}

static void another_format_is_refused_and_a_strange_record_is_corruption(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint8_t value[8];
        size_t bytes;
        gyre_status status;
    } cases[] = {
        {"format", {3}, 4, GYRE_UNIMPLEMENTED}, {"format", {0}, 4, GYRE_CORRUPT}, {"format", {2}, 3, GYRE_CORRUPT},
        {"format", {1}, 4, GYRE_UNIMPLEMENTED}, {"member", {1}, 4, GYRE_CORRUPT}, {"member", {0}, 5, GYRE_CORRUPT},
        {"identity", {1}, 1, GYRE_CORRUPT},     {"applied", {1}, 4, GYRE_CORRUPT}, {"codebook", {1, 2, 3}, 3, GYRE_CORRUPT},
        {"member", {1, 0, 0, 0, 2}, 5, GYRE_CORRUPT}, {"config", {1}, 8, GYRE_CORRUPT}, {"log_base", {9}, 1, GYRE_CORRUPT},
        {"codec", {'x', 'y'}, 2, GYRE_UNIMPLEMENTED}, {"codec", {'p', 'q', '-', 'p', '8'}, 5, GYRE_CORRUPT},
        {"range", {1}, 8, GYRE_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gyre_error err;
        struct fixture f = bare();
        put_meta(&f, cases[i].key, cases[i].value, cases[i].bytes);
        assert_int_equal(gy_store_open(&f.store, f.env, f.path, &err), cases[i].status);
        assert_non_null(strstr(err.text, f.path));
        fixture_fini(&f);
    }
}

static void what_is_owned_is_a_range_within_what_is_there(void **state)
{
    (void)state;
    enum { BYTES = 49 };
    static const struct {
        uint64_t numbers[4];
        uint8_t foreign;
        bool good;
    } cases[] = {
        {{3, 9, 3, 9}, 0, true},  {{3, 9, 0, 0}, 1, true},  {{0, 0, 0, 0}, 0, true},  {{3, 9, 3, 8}, 0, false},
        {{9, 3, 0, 0}, 0, false}, {{0, 0, 3, 9}, 0, false}, {{3, 9, 3, 9}, 2, false}, {{3, 9, 9, 3}, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gyre_error err;
        struct fixture f = bare();
        uint8_t value[BYTES] = {0};
        for (size_t n = 0; n < 4; n++)
            gy_store_u64(value + 8 * n, cases[i].numbers[n]);
        value[32] = 77, value[BYTES - 1] = cases[i].foreign;
        put_meta(&f, "range", value, sizeof value);
        gyre_status status = gy_store_open(&f.store, f.env, f.path, &err);
        assert_int_equal(status, cases[i].good ? GYRE_OK : GYRE_CORRUPT);
        if (status == GYRE_OK) {
            struct gy_range_record range;
            gy_store_range(f.store, &range);
            assert_true(range.owned.first == cases[i].numbers[0] && range.owned.last == cases[i].numbers[1]);
            assert_true(range.content.first == cases[i].numbers[2] && range.content.last == cases[i].numbers[3]);
            assert_true(range.hash_key[0] == 77 && range.foreign == cases[i].foreign);
        } else {
            assert_non_null(strstr(err.text, "'range'"));
        }
        fixture_fini(&f);
    }
}

static void the_codec_is_the_one_it_was_made_with(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char path[256];
    gy_store *other = NULL;
    gyre_codebook *codebook = fixture_codebook(GYRE_COSINE, DIM, 1, 0.5f);
    const struct gy_shard_config config = fixture_config(1);
    snprintf(path, sizeof path, "%s/other", f.directory);
    assert_int_equal(gy_store_create(&other, f.env, path, &fixture_identity, 1, &config, "pq-p8", codebook, &err), GYRE_INVALID);
    assert_int_equal(gy_store_create(&other, f.env, path, &fixture_identity, 1, &config, "nothing", codebook, &err),
                     GYRE_INVALID);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(gy_store_create(&other, f.env, path, &fixture_identity, 1, &config, "signblock-p8b2", codebook, &err));
    gyre_codebook_free(codebook);
    gy_store_close(other);
    assert_ok(gy_store_open(&other, f.env, path, &err));
    assert_string_equal(gy_store_codec(other)->name, "signblock-p8b2");
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    gy_batch_delete(batch, other, GY_FAMILY_META, (struct gy_slice){"codec", 5});
    assert_ok(gy_store_commit(other, batch, &err));
    gy_store_close(other);
    assert_int_equal(gy_store_open(&other, f.env, path, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "'codec' is missing"));
    fixture_fini(&f);
}

/* The write-ahead log that holds something. */
static void find_wal(const struct fixture *f, char out[400])
{
    DIR *directory = opendir(f->path);
    assert_non_null(directory);
    off_t largest = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[400];
        struct stat found;
        snprintf(path, sizeof path, "%s/%s", f->path, entry->d_name);
        size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".log") == 0 && stat(path, &found) == 0 && found.st_size > largest)
            largest = found.st_size, snprintf(out, 400, "%s", path);
    }
    closedir(directory);
    assert_true(largest > 0);
}

static void a_torn_tail_opens_with_the_entries_before_it(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char wal[400];
    struct stat found;
    for (uint64_t seq = 1; seq <= 50; seq++)
        append(&f, 7, seq, 1);
    gy_store_close(f.store);
    find_wal(&f, wal);
    assert_int_equal(stat(wal, &found), 0);
    assert_int_equal(truncate(wal, found.st_size - 5), 0);
    assert_ok(gy_store_open(&f.store, f.env, f.path, &err));
    uint64_t epoch, seq;
    gy_store_log_last(f.store, &epoch, &seq);
    assert_int_equal(seq, 49);
    fixture_fini(&f);
}

static void a_flipped_byte_in_the_middle_of_the_log_is_said_not_skipped(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char wal[400];
    struct stat found;
    for (uint64_t seq = 1; seq <= 50; seq++)
        append(&f, 7, seq, 1);
    gy_store_close(f.store);
    f.store = NULL;
    find_wal(&f, wal);
    assert_int_equal(stat(wal, &found), 0);
    int fd = open(wal, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, found.st_size / 2), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, found.st_size / 2), 1);
    close(fd);
    assert_int_equal(gy_store_open(&f.store, f.env, f.path, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, f.path));
    fixture_fini(&f);
}

struct many {
    size_t visited, missing;
};

static gyre_status count_value(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    (void)err;
    struct many *many = self;
    assert_int_equal(i, many->visited++);
    if (!value.data)
        many->missing++;
    else
        assert_int_equal(*(const uint8_t *)value.data, i % 251);
    return GYRE_OK;
}

static void many_keys_are_read_in_their_order_present_or_not(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    enum { KEYS = 300 };
    uint8_t keys[KEYS][2];
    GY_AUTO(gy_batch) *batch = gy_batch_new();
    for (unsigned i = 0; i < KEYS; i++) {
        keys[i][0] = (uint8_t)(i * 7), keys[i][1] = (uint8_t)(i >> 5);
        uint8_t value = (uint8_t)(i % 251);
        if (i % 3)
            gy_batch_put(batch, f.store, GY_FAMILY_POINTS, (struct gy_slice){keys[i], 2}, (struct gy_slice){&value, 1});
    }
    assert_ok(gy_store_commit(f.store, batch, &err));
    for (int flushed = 0; flushed < 2; flushed++) {
        struct many many = {0};
        assert_ok(gy_store_get_many(f.store, NULL, GY_FAMILY_POINTS, keys, 2, KEYS, true, count_value, &many, &err));
        assert_int_equal(many.visited, KEYS);
        assert_int_equal(many.missing, KEYS / 3);
        assert_ok(gy_store_flush(f.store, &err));
    }
    fixture_fini(&f);
}

/* ---- configuration ---- */
static struct gy_shard_config three_members(uint64_t epoch)
{
    struct gy_shard_config config = {.epoch = epoch, .primary = 2, .primary_since = 3, .min_copies = 2, .next_member = 9,
                                     .range = {5, UINT64_MAX - 5}, .hash_key = {1, 2, 3}, .split = {4, UINT64_MAX - 9},
                                     .member_count = 3};
    config.members[0] = (struct gy_member){.id = 2, .in_sync = true, .node = "b"};
    config.members[1] = (struct gy_member){.id = 5, .in_sync = true, .leaving = true, .node = "a"};
    config.members[2] = (struct gy_member){.id = 8, .kind = GY_MEMBER_QUANTIZED, .node = "c"};
    memset(config.members[1].node, 'x', GY_MEMBER_NODE_BYTES_MAX);
    return config;
}

static void assert_config(const gy_store *store, const struct gy_shard_config *want)
{
    struct gy_shard_config got;
    gy_store_config(store, &got);
    assert_int_equal(got.epoch, want->epoch), assert_int_equal(got.primary, want->primary);
    assert_int_equal(got.primary_since, want->primary_since), assert_int_equal(got.min_copies, want->min_copies);
    assert_int_equal(got.range.first, want->range.first), assert_int_equal(got.range.last, want->range.last);
    assert_int_equal(got.split.shard, want->split.shard), assert_int_equal(got.split.first, want->split.first);
    assert_memory_equal(got.hash_key, want->hash_key, sizeof got.hash_key);
    assert_int_equal(got.next_member, want->next_member), assert_int_equal(got.member_count, want->member_count);
    for (uint32_t i = 0; i < want->member_count; i++) {
        assert_int_equal(got.members[i].id, want->members[i].id), assert_int_equal(got.members[i].kind, want->members[i].kind);
        assert_int_equal(got.members[i].in_sync, want->members[i].in_sync);
        assert_int_equal(got.members[i].leaving, want->members[i].leaving);
        assert_string_equal(got.members[i].node, want->members[i].node);
    }
}

static void a_configuration_is_kept_whole_and_never_replaced_by_an_older_one(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    struct gy_shard_config config = three_members(9), older = three_members(8), wrong = three_members(10);
    assert_int_equal(gy_store_member(f.store), 1);
    assert_false(gy_store_quantized(f.store));
    assert_ok(gy_store_set_config(f.store, &config, &err));
    for (int i = 0; i < 2; i++, reopen(&f)) {
        assert_config(f.store, &config);
        assert_int_equal(gy_store_epoch(f.store), 9);
        assert_int_equal(gy_store_member(f.store), 1); /* although the configuration dropped it */
        assert_int_equal(gy_store_set_config(f.store, &older, &err), GYRE_PRECONDITION);
        wrong.primary = 8;
        assert_int_equal(gy_store_set_config(f.store, &wrong, &err), GYRE_INVALID);
    }
    fixture_fini(&f);
}

static void a_replica_is_made_as_a_member_of_its_configuration_and_of_that_kind(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char path[256];
    gy_store *other = NULL;
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 1, 0);
    struct gy_shard_config config = three_members(9);
    snprintf(path, sizeof path, "%s/other", f.directory);
    assert_int_equal(gy_store_create(&other, f.env, path, &fixture_identity, 3, &config, "rabitq1", codebook, &err),
                     GYRE_INVALID);
    assert_non_null(strstr(err.text, "member 3"));
    assert_ok(gy_store_create(&other, f.env, path, &fixture_identity, 8, &config, "rabitq1", codebook, &err));
    gy_store_close(other);
    assert_ok(gy_store_open(&other, f.env, path, &err));
    assert_int_equal(gy_store_member(other), 8);
    assert_true(gy_store_quantized(other));
    assert_config(other, &config);
    gy_store_close(other);
    gyre_codebook_free(codebook);
    fixture_fini(&f);
}

struct record {
    uint8_t bytes[2048];
    size_t count;
};

static gyre_status take_record(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    (void)i, (void)err;
    struct record *record = self;
    assert_in_range(value.bytes, 1, sizeof record->bytes);
    memcpy(record->bytes, value.data, record->count = value.bytes);
    return GYRE_OK;
}

static void every_damaged_byte_of_a_configuration_is_noticed(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    struct gy_shard_config config = three_members(9);
    struct record record;
    assert_ok(gy_store_set_config(f.store, &config, &err));
    assert_ok(gy_store_get_many(f.store, NULL, GY_FAMILY_META, "config", 6, 1, false, take_record, &record, &err));
    for (size_t i = 0; i < record.count; i += 5) {
        if (!f.store)
            assert_ok(gy_store_open(&f.store, f.env, f.path, &err));
        record.bytes[i] ^= 0x04;
        put_meta(&f, "config", record.bytes, record.count);
        gyre_status status = gy_store_open(&f.store, f.env, f.path, &err);
        assert_int_equal(status, i == 0 ? GYRE_UNIMPLEMENTED : GYRE_CORRUPT);
        assert_non_null(strstr(err.text, "config"));
        record.bytes[i] ^= 0x04;
        fixture_fini(&f);
        f = bare();
    }
    put_meta(&f, "config", record.bytes, record.count);
    assert_ok(gy_store_open(&f.store, f.env, f.path, &err));
    assert_config(f.store, &config);
    put_meta(&f, "config", record.bytes, record.count - 1);
    assert_int_equal(gy_store_open(&f.store, f.env, f.path, &err), GYRE_CORRUPT);
    fixture_fini(&f);
}

/* ---- cutting the log, and its epochs ---- */
static void append_cut(struct fixture *f, uint64_t epoch, uint64_t first, size_t count)
{
    gyre_error err;
    static uint8_t body[BODY_BYTES];
    struct gy_log_entry entries[64];
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct gy_log_entry){epoch, first + i, body, (first + i) % BODY_BYTES};
    assert_ok(gy_store_log_append(f->store, entries, count, true, &err));
}

static void assert_starts(struct fixture *f, size_t room, const struct gy_epoch_start *want, size_t want_count)
{
    gyre_error err;
    struct gy_epoch_start starts[8];
    size_t count = 0;
    assert_ok(gy_store_log_starts(f->store, starts, room, &count, &err));
    assert_int_equal(count, want_count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(starts[i].epoch, want[i].epoch), assert_int_equal(starts[i].first, want[i].first);
}

static void a_cut_log_ends_with_what_replaced_its_end(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    append(&f, 7, 1, 40), append(&f, 8, 41, 20);
    apply_up_to(&f, 30);
    struct gy_log_entry applied = {9, 30, NULL, 0};
    assert_int_equal(gy_store_log_append(f.store, &applied, 1, true, &err), GYRE_INTERNAL);
    assert_non_null(strstr(err.text, "30"));
    append_cut(&f, 9, 36, 3); /* shorter than what it replaces */
    for (int i = 0; i < 2; i++, reopen(&f)) {
        uint64_t epoch, seq;
        struct seen seen = {.next = 1};
        gy_store_log_last(f.store, &epoch, &seq);
        assert_int_equal(epoch, 9), assert_int_equal(seq, 38);
        assert_ok(gy_store_log_read(f.store, 1, see, &seen, &err));
        assert_int_equal(seen.next, 39);
        assert_int_equal(seen.last_epoch, 9);
        assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}, {7, 1}, {9, 36}}, 3);
    }
    append_cut(&f, 10, 39, 2); /* nothing to cut */
    append_cut(&f, 11, 31, 30);
    append(&f, 11, 61, 1);
    reopen(&f);
    struct seen seen = {.next = 1};
    assert_ok(gy_store_log_read(f.store, 1, see, &seen, &err));
    assert_int_equal(seen.next, 62);
    assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}, {7, 1}, {11, 31}}, 3);
    fixture_fini(&f);
}

static void a_torn_cut_leaves_the_end_there_was(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    char wal[400];
    struct stat found;
    append(&f, 7, 1, 50);
    append_cut(&f, 8, 41, 20);
    gy_store_close(f.store);
    find_wal(&f, wal);
    assert_int_equal(stat(wal, &found), 0);
    assert_int_equal(truncate(wal, found.st_size - 5), 0);
    assert_ok(gy_store_open(&f.store, f.env, f.path, &err));
    struct seen seen = {.next = 1};
    assert_ok(gy_store_log_read(f.store, 1, see, &seen, &err));
    assert_int_equal(seen.next, 51);
    assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}, {7, 1}}, 2);
    fixture_fini(&f);
}

static void the_epochs_of_a_log_are_found_where_they_start(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}}, 1);
    append(&f, 3, 1, 1);
    assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}, {3, 1}}, 2);
    append(&f, 4, 2, 1), append(&f, 6, 3, 30), append(&f, 7, 33, 1), append(&f, 9, 34, 11);
    for (int i = 0; i < 2; i++, reopen(&f)) {
        assert_starts(&f, 8, (struct gy_epoch_start[]){{0, 0}, {3, 1}, {4, 2}, {6, 3}, {7, 33}, {9, 34}}, 6);
        assert_starts(&f, 3, (struct gy_epoch_start[]){{6, 3}, {7, 33}, {9, 34}}, 3);
        assert_starts(&f, 1, (struct gy_epoch_start[]){{9, 34}}, 1);
    }
    apply_up_to(&f, 44);
    assert_ok(gy_store_log_trim(f.store, 11, &err)); /* within an epoch: its range begins with the entry trimmed */
    for (int i = 0; i < 2; i++, reopen(&f))
        assert_starts(&f, 8, (struct gy_epoch_start[]){{6, 10}, {7, 33}, {9, 34}}, 3);
    assert_ok(gy_store_log_trim(f.store, 45, &err));
    assert_starts(&f, 8, (struct gy_epoch_start[]){{9, 44}}, 1);
    append(&f, 9, 45, 2);
    assert_starts(&f, 8, (struct gy_epoch_start[]){{9, 44}}, 1);
    fixture_fini(&f);
}

static void epochs_that_go_down_are_corruption(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = bare();
    struct gy_epoch_start starts[8];
    size_t count;
    append(&f, 9, 1, 20), append(&f, 8, 21, 20);
    assert_int_equal(gy_store_log_starts(f.store, starts, 8, &count, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "epoch 9"));
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_replica_says_who_it_is_after_every_opening),
        cmocka_unit_test(a_replica_is_made_once_and_found_only_where_it_is),
        cmocka_unit_test(what_a_crash_left_of_a_replica_being_made_is_in_nobodys_way),
        cmocka_unit_test(the_log_gives_back_what_was_appended_from_anywhere),
        cmocka_unit_test(a_trimmed_log_knows_where_it_starts_and_ends),
        cmocka_unit_test(a_gap_in_the_log_is_corruption_and_named),
        cmocka_unit_test(a_log_that_ends_below_what_is_applied_does_not_open),
        cmocka_unit_test(another_format_is_refused_and_a_strange_record_is_corruption),
        cmocka_unit_test(the_codec_is_the_one_it_was_made_with),
        cmocka_unit_test(a_torn_tail_opens_with_the_entries_before_it),
        cmocka_unit_test(a_flipped_byte_in_the_middle_of_the_log_is_said_not_skipped),
        cmocka_unit_test(many_keys_are_read_in_their_order_present_or_not),
        cmocka_unit_test(what_is_owned_is_a_range_within_what_is_there),
        cmocka_unit_test(a_configuration_is_kept_whole_and_never_replaced_by_an_older_one),
        cmocka_unit_test(a_replica_is_made_as_a_member_of_its_configuration_and_of_that_kind),
        cmocka_unit_test(every_damaged_byte_of_a_configuration_is_noticed),
        cmocka_unit_test(a_cut_log_ends_with_what_replaced_its_end),
        cmocka_unit_test(a_torn_cut_leaves_the_end_there_was),
        cmocka_unit_test(the_epochs_of_a_log_are_found_where_they_start),
        cmocka_unit_test(epochs_that_go_down_are_corruption),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
