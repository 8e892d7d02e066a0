/* What of its points a replica owns: from its configuration, narrowed, kept over restarts and copies; and the child it makes of
 * its own files. */
#include "split_fixture.h"

#include "index/snapshot.h"
#include "store/copy.h"

#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { DIM = 24, IDS = 1500, LISTS = 5 };

static void make(struct fixture *f)
{
    uint64_t random = 11;
    fixture_init_with(f, "rabitq1", fixture_partition(GYRE_L2, DIM, 1, 0, LISTS));
    fixture_fill(f, 0, IDS, 100, &random);
}

static void reopen(struct fixture *f)
{
    fixture_close(f);
    fixture_open(f);
}

static bool same_range(struct gy_hash_range a, struct gy_hash_range b)
{
    return a.first == b.first && a.last == b.last;
}

static void assert_ownership(struct fixture *f, struct gy_hash_range owned, struct gy_hash_range content, uint64_t foreign)
{
    struct gy_ownership ownership = gy_points_ownership(f->points);
    assert_true(same_range(ownership.owned, owned));
    assert_true(same_range(ownership.content, content));
    assert_int_equal(ownership.foreign, foreign);
}

/* ---- what is read ---- */

struct counting {
    struct gy_hash_range range;
    size_t in, out;
};

static gyre_status count_vector(void *self, const gyre_point_id *id, const float *vector, gyre_error *err)
{
    (void)vector, (void)err;
    struct counting *counting = self;
    if (is_in(counting->range, gyre_point_id_number(id)))
        counting->in++;
    else
        counting->out++;
    return GYRE_OK;
}

static gyre_status count_exported(void *self, const struct gy_export_point *point, gyre_error *err)
{
    gyre_point_id id;
    memcpy(id.bytes, point->id, sizeof id.bytes);
    return count_vector(self, &id, NULL, err);
}

static gyre_status read_exported(struct fixture *f, struct gy_hash_range range, uint64_t since, struct counting *counting,
                                 gyre_error *err)
{
    gy_export *export = NULL;
    bool done = false;
    GY_TRY(gy_export_open(&export, f->store, false, err));
    gyre_status status = gy_export_read_points(export, NULL, since, range, SIZE_MAX, count_exported, counting, &done, err);
    gy_export_free(export);
    return status;
}

/* Everything that is read of owned is of its points alone. */
static void assert_reads(struct fixture *f, struct gy_hash_range owned)
{
    gyre_error err;
    size_t expected = count_of(owned, IDS), drawn;
    uint64_t count;
    struct counting walked = {owned, 0, 0}, exported = walked, newest = walked;
    double sums[DIM], slow[DIM] = {0};
    float *vectors = malloc(IDS * DIM * sizeof *vectors);
    assert_int_equal(gy_points_count(f->points), expected);
    assert_ok(gy_points_count_in(f->points, GY_RANGE_OWNED, &count, &err));
    assert_int_equal(count, expected);
    assert_ok(gy_points_each_vector(f->points, count_vector, &walked, &err));
    assert_int_equal(walked.in, expected), assert_int_equal(walked.out, 0);
    assert_ok(gy_points_sum(f->points, INT64_MAX, sums, &count, &err));
    assert_int_equal(count, expected);
    assert_ok(gy_points_sample(f->points, IDS, 5, vectors, &drawn, &err));
    assert_int_equal(drawn, expected);
    for (size_t i = 0; i < drawn * DIM; i++)
        slow[i % DIM] += (double)vectors[i];
    for (size_t i = 0; i < DIM; i++)
        assert_true(fabs(slow[i] - sums[i]) < 1e-3);
    assert_ok(read_exported(f, GY_RANGE_OWNED, 0, &exported, &err));
    assert_int_equal(exported.in, expected), assert_int_equal(exported.out, 0);
    assert_ok(read_exported(f, GY_RANGE_OWNED, 7, &newest, &err)); /* some with their vectors, some by id */
    assert_int_equal(newest.in, expected), assert_int_equal(newest.out, 0);
    free(vectors);
}

static struct gy_operation an_upsert(uint64_t number, const float *vector)
{
    return (struct gy_operation){.id = gyre_point_id_from_number(number), .vector = vector, .payload = "{}"};
}

static uint64_t first_in(struct gy_hash_range range, uint64_t from)
{
    while (!is_in(range, from))
        from++;
    return from;
}

/* ---- the tests ---- */

/* One whose configuration, of this epoch, gives it the upper half. */
static void make_upper(struct fixture *f, uint64_t epoch)
{
    gyre_error err;
    struct gy_shard_config config = fixture_config(epoch);
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, DIM, 1, 0);
    *f = (struct fixture){.directory = fixture_directory()};
    snprintf(f->path, sizeof f->path, "%s/replica", f->directory);
    config.range = upper;
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    assert_ok(gy_store_env_new(&f->env, 8 << 20, &err));
    assert_ok(gy_store_create(&f->store, f->env, f->path, &fixture_identity, 1, &config, "rabitq1", codebook, &err));
    gyre_codebook_free(codebook);
    gy_store_close(f->store);
    fixture_open(f);
}

static void a_replica_made_later_owns_all_until_its_log_says_otherwise(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    bool deleted[2];
    const float vector[DIM] = {1};
    make_upper(&f, 5);
    uint64_t own = first_in(upper, 0), other = first_in(lower, 0);
    struct gy_operation operations[] = {an_upsert(own, vector), an_upsert(other, vector)};
    const uint64_t versions[] = {1, 1};
    split_entry(&f); /* of before the shard was split */
    assert_ok(gy_points_apply(f.points, operations, versions, 2, 1, NULL, deleted, &err));
    split_narrow(&f, upper);
    assert_ownership(&f, upper, (struct gy_hash_range){0}, 1);
    assert_int_equal(split_forget(&f, 2), 1);
    reopen(&f);
    assert_ownership(&f, upper, upper, 0);
    assert_int_equal(gy_points_count(f.points), 1);
    fixture_fini(&f);
}

static void a_new_replica_owns_its_configurations_range(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    bool deleted[2];
    const float vector[DIM] = {1};
    make_upper(&f, 1);
    assert_ownership(&f, upper, upper, 0);
    uint64_t own = first_in(upper, 0), other = first_in(lower, 0);
    gyre_point_id id = gyre_point_id_from_number(own);
    assert_true(gy_points_owns(f.points, &id) && gy_points_has_id(f.points, &id));
    id = gyre_point_id_from_number(other);
    assert_false(gy_points_owns(f.points, &id) || gy_points_has_id(f.points, &id));
    assert_true(gy_points_has(f.points, upper) && gy_points_has(f.points, GY_RANGE_OWNED));
    assert_false(gy_points_has(f.points, lower) || gy_points_has(f.points, whole));

    struct gy_operation operations[] = {an_upsert(own, vector), an_upsert(other, vector)};
    const uint64_t versions[] = {1, 1};
    split_entry(&f);
    assert_int_equal(gy_points_apply(f.points, operations, versions, 2, 1, NULL, deleted, &err), GYRE_INVALID);
    assert_int_equal(gy_points_count(f.points), 0);
    assert_ok(gy_points_apply(f.points, operations, versions, 1, 1, NULL, deleted, &err));
    reopen(&f);
    assert_ownership(&f, upper, upper, 0);
    assert_int_equal(gy_points_count(f.points), 1);
    fixture_fini(&f);
}

static void narrowed_and_forgotten_over_restarts(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    struct counting counting = {upper, 0, 0};
    const uint8_t other_key[GY_HASH_KEY_BYTES] = {1};
    uint64_t count;
    make(&f);
    size_t foreign = count_of(upper, IDS);
    assert_in_range(foreign, IDS / 3, 2 * IDS / 3);
    assert_ownership(&f, GY_RANGE_OWNED, GY_RANGE_OWNED, 0);
    assert_reads(&f, whole);

    struct gy_points_state before = gy_points_state(f.points);
    for (int again = 0; again < 3; again++) { /* applied twice, and read from disk */
        if (again < 2)
            split_narrow(&f, lower);
        else
            reopen(&f);
        struct gy_points_state after = gy_points_state(f.points);
        assert_memory_equal(&after.digest, &before.digest, sizeof after.digest);
        assert_int_equal(after.points, IDS);
        assert_ownership(&f, lower, GY_RANGE_OWNED, foreign);
        assert_reads(&f, lower);
        assert_true(gy_points_has(f.points, whole));
        assert_ok(gy_points_count_in(f.points, upper, &count, &err));
        assert_int_equal(count, foreign);
        assert_ok(gy_points_count_in(f.points, whole, &count, &err));
        assert_int_equal(count, IDS);
        fixture_assert_whole(&f);
    }
    assert_ok(read_exported(&f, upper, 0, &counting, &err));
    assert_int_equal(counting.in, foreign), assert_int_equal(counting.out, 0);
    assert_int_equal(gy_points_narrow(f.points, upper, hash_key, f.seq + 1, &err), GYRE_INVALID);
    assert_int_equal(gy_points_narrow(f.points, lower, other_key, f.seq + 1, &err), GYRE_INVALID);

    gyre_point_id own = gyre_point_id_from_number(first_in(lower, 0)), not_own = gyre_point_id_from_number(first_in(upper, 0));
    assert_true(gy_points_has_id(f.points, &not_own));
    assert_ok(gy_points_forget(f.points, &own, 1, split_entry(&f), &err)); /* passed over */
    assert_ownership(&f, lower, lower, foreign);
    assert_false(gy_points_has_id(f.points, &not_own));
    assert_int_equal(gy_points_count_in(f.points, whole, &count, &err), GYRE_ABORTED);
    assert_int_equal(gy_points_count_in(f.points, upper, &count, &err), GYRE_ABORTED);
    assert_int_equal(read_exported(&f, upper, 0, &counting, &err), GYRE_ABORTED);
    for (size_t left = foreign, gone; left; left -= gone) {
        gone = split_forget(&f, 100);
        assert_int_equal(gone, left < 100 ? left : 100);
        assert_ownership(&f, lower, lower, left - gone);
        if (left > foreign / 2)
            reopen(&f);
        assert_ownership(&f, lower, lower, left - gone);
        assert_reads(&f, lower);
    }
    assert_int_equal(split_forget(&f, 100), 0);
    assert_ownership(&f, lower, lower, 0);
    assert_int_equal(gy_points_state(f.points).points, IDS - foreign);
    fixture_assert_whole(&f);
    reopen(&f);
    assert_ownership(&f, lower, lower, 0);
    assert_reads(&f, lower);
    fixture_fini(&f);
}

/* ---- children ---- */

struct code {
    uint32_t list; /* + 1 */
    uint8_t row[64];
};

static struct code *codes_of(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const struct gy_layout *layout = &snapshot->codebook->layout;
    struct code *codes = calloc(IDS, sizeof *codes);
    assert_in_range(layout->row_bytes, 1, sizeof codes->row);
    for (size_t c = 0; c < snapshot->count; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        for (size_t place = 0; chunk && place < chunk->rows; place++)
            if (gy_chunk_holds(layout, chunk, place)) {
                struct code *code = &codes[gyre_point_id_number(&chunk->ids[place])];
                code->list = chunk->list + 1;
                gy_chunk_row(layout, chunk, place, code->row);
            }
    }
    return codes;
}

static void assert_same_codes(gy_points *a, gy_points *b)
{
    struct code *of_a = codes_of(a), *of_b = codes_of(b);
    assert_memory_equal(of_a, of_b, IDS * sizeof *of_a);
    free(of_a);
    free(of_b);
}

static struct gy_shard_config child_config(struct gy_hash_range range)
{
    struct gy_shard_config config = fixture_config_quantized(4);
    config.range = range;
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    return config;
}

static gyre_status take_request(void *self, const struct gy_request *request, gyre_error *err)
{
    (void)err;
    *(struct gy_request *)self = *request;
    return GYRE_OK;
}

/* A write with a request that is recognised later, and entries behind it that are not applied. */
static void note_request(struct fixture *f)
{
    gyre_error err;
    struct gy_request request = {.seq = f->seq + 1, .client = {5}, .request = 77};
    struct gy_request_changes changes = {.noted = &request, .noted_count = 1};
    struct gy_operation operation = {.id = gyre_point_id_from_number(3)};
    bool deleted;
    split_entry(f);
    assert_ok(gy_points_apply(f->points, &operation, &f->seq, 1, f->seq, &changes, &deleted, &err));
    assert_true(deleted);
}

static void a_child_has_the_same_codes_and_owns_the_other_half(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f, child;
    make(&f);
    note_request(&f);
    struct gy_log_entry behind[] = {{1, f.seq + 1, NULL, 0}, {1, f.seq + 2, NULL, 0}};
    assert_ok(gy_store_log_append(f.store, behind, 2, false, &err));
    char leftover[160], command[400];
    snprintf(leftover, sizeof leftover, "%s/.42-9.waiting.creating", f.directory); /* of a crash */
    snprintf(command, sizeof command, "mkdir %s && echo x > %s/CURRENT", leftover, leftover);
    assert_int_equal(system(command), 0);
    const struct gy_shard_config config = child_config(upper);
    split_child(&f, "42-9.waiting", 9, &config, upper, &child);

    struct stat found;
    uint64_t epoch, seq, base_epoch, base_seq;
    struct gy_shard_config stored;
    struct gy_request request = {0};
    struct gy_points_state of_f = gy_points_state(f.points), of_child = gy_points_state(child.points);
    assert_int_equal(stat(leftover, &found), -1);
    assert_memory_equal(&of_f.digest, &of_child.digest, sizeof of_f.digest);
    assert_same_codes(f.points, child.points);
    gy_store_log_last(child.store, &epoch, &seq);
    gy_store_log_base(child.store, &base_epoch, &base_seq);
    assert_int_equal(epoch, 1), assert_int_equal(seq, f.seq + 1);
    assert_int_equal(base_epoch, 1), assert_int_equal(base_seq, f.seq + 1);
    assert_int_equal(gy_store_identity(child.store)->shard, 9);
    assert_int_equal(gy_store_identity(child.store)->collection_id, 42);
    assert_int_equal(gy_store_member(child.store), 1);
    gy_store_config(child.store, &stored);
    assert_true(stored.epoch == 4 && same_range(stored.range, upper));
    assert_ok(gy_store_requests(child.store, take_request, &request, &err));
    assert_true(request.seq == f.seq && request.request == 77 && request.deleted == 1 && request.client[0] == 5);

    size_t own = count_of(upper, IDS) - is_in(upper, 3), foreign = count_of(lower, IDS) - is_in(lower, 3);
    assert_ownership(&child, upper, upper, foreign);
    assert_ownership(&f, GY_RANGE_OWNED, GY_RANGE_OWNED, 0);
    assert_int_equal(gy_points_count(child.points), own);
    fixture_assert_whole(&child);
    fixture_assert_whole(&f);
    const struct gy_store_identity identity = fixture_identity;
    assert_int_equal(gy_store_split(f.store, child.path, &identity, &config, upper, hash_key, 1, f.seq + 1, &err), GYRE_EXISTS);

    /* Each goes its own way. */
    const float vector[DIM] = {2};
    struct gy_operation operation = an_upsert(first_in(upper, 50), vector);
    fixture_apply(&child, &operation, 1, NULL);
    split_entry(&child);
    assert_ok(gy_points_narrow(child.points, upper, hash_key, child.seq, &err));
    while (split_forget(&child, 200))
        ;
    assert_ownership(&child, upper, upper, 0);
    assert_int_equal(gy_points_count(child.points), own);
    f.seq++;
    assert_ok(gy_points_narrow(f.points, lower, hash_key, f.seq++, &err));
    while (gy_points_ownership(f.points).foreign)
        split_forget(&f, 200);
    assert_int_equal(gy_points_count(f.points), foreign);
    reopen(&f);
    reopen(&child);
    fixture_assert_whole(&child);
    fixture_assert_whole(&f);
    assert_ownership(&child, upper, upper, 0);
    assert_ownership(&f, lower, lower, 0);
    fixture_close(&child);
    fixture_fini(&f);
}

static void what_can_be_no_child_is_refused(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    make(&f);
    char path[160];
    struct stat found;
    const struct gy_store_identity identity = fixture_identity;
    struct gy_shard_config config = child_config(upper);
    snprintf(path, sizeof path, "%s/child", f.directory);
    assert_int_equal(gy_store_split(f.store, path, &identity, &config, upper, hash_key, 1, f.seq, &err), GYRE_PRECONDITION);
    assert_int_equal(gy_store_split(f.store, path, &identity, &config, upper, hash_key, 1, f.seq + 2, &err), GYRE_PRECONDITION);
    const struct gy_hash_range none = {9, 3};
    assert_int_equal(gy_store_split(f.store, path, &identity, &config, none, hash_key, 1, f.seq + 1, &err), GYRE_INVALID);
    config.members[0].kind = GY_MEMBER_QUANTIZED, config.members[0].in_sync = false;
    config.members[1].kind = GY_MEMBER_FULL, config.members[1].in_sync = true, config.primary = 2;
    assert_int_equal(gy_store_split(f.store, path, &identity, &config, upper, hash_key, 1, f.seq + 1, &err), GYRE_INVALID);
    config = child_config(upper);
    split_narrow(&f, lower);
    split_forget(&f, 10);
    assert_int_equal(gy_store_split(f.store, path, &identity, &config, upper, hash_key, 1, f.seq + 1, &err), GYRE_INVALID);
    assert_int_equal(stat(path, &found), -1);
    fixture_fini(&f);
}

/* Makes a replica, its child and narrows it, in memory alone; then the process is gone. */
static int die_splitting(struct fixture *f, const char *path)
{
    gyre_error err;
    uint64_t random = 11;
    const struct gy_shard_config config = child_config(upper), own = fixture_config(1);
    const struct gy_store_identity identity = fixture_identity;
    gyre_codebook *codebook = fixture_partition(GYRE_L2, DIM, 1, 0, LISTS);
    if (gy_store_env_new(&f->env, 8 << 20, &err) != GYRE_OK ||
        gy_store_create(&f->store, f->env, f->path, &fixture_identity, 1, &own, "rabitq1", codebook, &err) != GYRE_OK)
        return 2;
    gy_store_close(f->store);
    fixture_open(f);
    fixture_fill(f, 0, IDS, 100, &random);
    uint64_t seq = split_entry(f);
    if (gy_store_split(f->store, path, &identity, &config, upper, hash_key, 1, seq, &err) != GYRE_OK)
        return 3;
    return gy_points_narrow(f->points, lower, hash_key, seq, &err) == GYRE_OK ? 0 : 4;
}

/* Who dies between the child and its own narrowing has that to do again, and finds the child there. The first of the tests: a
 * child of a process that has RocksDB's threads would have none of them. */
static void a_crash_after_the_child_loses_neither(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = {.directory = fixture_directory()};
    char path[160];
    snprintf(f.path, sizeof f.path, "%s/replica", f.directory);
    snprintf(path, sizeof path, "%s/child", f.directory);
    pid_t process = fork();
    if (process == 0)
        _exit(die_splitting(&f, path));
    int status;
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    assert_ok(gy_store_env_new(&f.env, 8 << 20, &err));
    fixture_open(&f);
    assert_int_equal(f.seq, IDS / 100);
    assert_ownership(&f, GY_RANGE_OWNED, GY_RANGE_OWNED, 0);
    struct fixture child = {.env = f.env, .directory = f.directory};
    snprintf(child.path, sizeof child.path, "%s/child", f.directory);
    fixture_open(&child);
    assert_int_equal(child.seq, f.seq + 1);
    assert_ownership(&child, upper, upper, count_of(lower, IDS));
    assert_ok(gy_points_narrow(f.points, lower, hash_key, ++f.seq, &err));
    assert_ownership(&f, lower, GY_RANGE_OWNED, count_of(upper, IDS));
    fixture_assert_whole(&f);
    fixture_assert_whole(&child);
    fixture_close(&child);
    fixture_fini(&f);
}

/* ---- copies ---- */

struct copying {
    gy_import *import;
    bool without_range; /* from a program before there was that record */
    bool denies;        /* says that there is nothing foreign */
};

static gyre_status copy_row(void *self, const struct gy_row *row, gyre_error *err)
{
    struct copying *copying = self;
    struct gy_row copy = *row;
    uint8_t value[64];
    bool is_range = row->family == GY_FAMILY_META && row->key_bytes == 5 && memcmp(row->key, "range", 5) == 0;
    if (is_range && copying->without_range)
        return GYRE_OK;
    if (is_range && copying->denies) {
        memcpy(value, row->value, row->value_bytes);
        value[row->value_bytes - 1] = 0;
        copy.value = value;
    }
    return gy_import_row(copying->import, &copy, err);
}

static gyre_status copy(struct fixture *f, const char *name, uint32_t member, struct copying copying, struct fixture *out,
                        gyre_error *err)
{
    gy_export *exported = NULL;
    bool done = false;
    const struct gy_shard_config config = child_config(lower);
    *out = (struct fixture){.directory = f->directory, .env = f->env};
    snprintf(out->path, sizeof out->path, "%s/%s", f->directory, name);
    GY_TRY(gy_export_open(&exported, f->store, member == 2, err));
    GY_AUTO(gy_export) *export = exported;
    struct gy_export_state state = gy_export_state(export);
    GY_TRY(gy_import_open(&copying.import, f->env, out->path, &fixture_identity, member, &config, state.epoch, state.seq, err));
    GY_AUTO(gy_import) *import = copying.import;
    GY_TRY(gy_export_read(export, 0, NULL, 0, SIZE_MAX, copy_row, &copying, &done, err));
    GY_TRY(gy_import_finish(import, &out->store, err));
    gy_store_close(out->store);
    fixture_open(out);
    return GYRE_OK;
}

static void a_copy_owns_what_its_original_does(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f, full, quantized, child, older, denied;
    make(&f);
    split_narrow(&f, lower);
    size_t foreign = count_of(upper, IDS);
    assert_ok(copy(&f, "full", 1, (struct copying){0}, &full, &err));
    assert_ok(copy(&f, "quantized", 2, (struct copying){0}, &quantized, &err));
    assert_ok(copy(&f, "older", 1, (struct copying){.without_range = true}, &older, &err));
    assert_ownership(&full, lower, GY_RANGE_OWNED, foreign);
    assert_ownership(&quantized, lower, GY_RANGE_OWNED, foreign);
    assert_ownership(&older, GY_RANGE_OWNED, GY_RANGE_OWNED, 0);
    assert_int_equal(copy(&f, "denied", 1, (struct copying){.denies = true}, &denied, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "is not of the shard"));

    /* A quantized member splits like any other. */
    const struct gy_shard_config config = child_config(upper);
    split_child(&quantized, "child", 9, &config, upper, &child);
    assert_true(gy_store_quantized(child.store));
    assert_int_equal(gy_store_member(child.store), 2);
    assert_ownership(&child, upper, upper, count_of(lower, IDS));
    assert_same_codes(quantized.points, child.points);
    fixture_assert_whole(&child);
    while (split_forget(&child, 300))
        ;
    while (split_forget(&quantized, 300))
        ;
    while (split_forget(&f, 300))
        ;
    struct gy_points_state of_f = gy_points_state(f.points), of_quantized = gy_points_state(quantized.points);
    assert_memory_equal(&of_f.digest.points, &of_quantized.digest.points, sizeof of_f.digest.points);
    assert_memory_equal(&of_f.digest.codes, &of_quantized.digest.codes, sizeof of_f.digest.codes);
    assert_int_equal(gy_points_count(child.points), foreign);
    fixture_assert_whole(&child);
    fixture_assert_whole(&quantized);
    fixture_close(&child);
    fixture_close(&older);
    fixture_close(&quantized);
    fixture_close(&full);
    assert_ok(copy(&f, "full2", 1, (struct copying){0}, &full, &err)); /* checked: each of its points is owned */
    assert_ownership(&full, lower, lower, 0);
    fixture_close(&full);
    fixture_fini(&f);
}

/* A newer codebook encodes what is foreign, too, and does not forget that it is. */
static void a_newer_codebook_changes_nothing_of_what_is_owned(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    make(&f);
    split_narrow(&f, lower);
    gyre_codebook *codebook = fixture_partition(GYRE_L2, DIM, 2, 0, LISTS + 3);
    assert_ok(gy_points_set_codebook(f.points, codebook, &err));
    gyre_codebook_free(codebook);
    size_t forgotten = split_forget(&f, 50);
    while (gy_points_codebook_version(f.points) != 2)
        usleep(200);
    assert_ownership(&f, lower, lower, count_of(upper, IDS) - forgotten);
    assert_reads(&f, lower);
    fixture_assert_whole(&f);
    reopen(&f);
    assert_ownership(&f, lower, lower, count_of(upper, IDS) - forgotten);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_after_the_child_loses_neither),
        cmocka_unit_test(a_new_replica_owns_its_configurations_range),
        cmocka_unit_test(a_replica_made_later_owns_all_until_its_log_says_otherwise),
        cmocka_unit_test(narrowed_and_forgotten_over_restarts),
        cmocka_unit_test(a_child_has_the_same_codes_and_owns_the_other_half),
        cmocka_unit_test(what_can_be_no_child_is_refused),
        cmocka_unit_test(a_copy_owns_what_its_original_does),
        cmocka_unit_test(a_newer_codebook_changes_nothing_of_what_is_owned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
