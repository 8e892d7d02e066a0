/* The files of a backup: written, read back, spoilt in every place, and written by somebody hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "backup/chain.h"
#include "backup/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 3, POINTS = 40 };

static int make_dir(void **state)
{
    char *dir = strdup("/tmp/gyre-backup-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char text[128];
    snprintf(text, sizeof text, "rm -rf '%s'", (char *)*state);
    free(*state);
    return system(text);
}

#define assert_ok(expression)                                        \
    do {                                                             \
        if ((expression) != GYRE_OK)                                 \
            fail_msg("%s: %s", #expression, err.text);               \
    } while (0)

/* ---- what is written: point n of a version; every third has no payload ---- */

struct drawn {
    float vector[DIM];
    char payload[48];
    struct record record;
};

static void draw(struct drawn *drawn, uint64_t number, uint64_t version)
{
    *drawn = (struct drawn){.vector = {(float)number, (float)version, -0.5f}};
    if (number % 3)
        snprintf(drawn->payload, sizeof drawn->payload, "{\"number\":%u,\"version\":%u}", (unsigned)number, (unsigned)version);
    drawn->record = (struct record){.id = gyre_point_id_from_number(number), .version = version, .payload = drawn->payload,
                                    .payload_bytes = strlen(drawn->payload), .vector = (const uint8_t *)drawn->vector};
    drawn->record.sums = sums_of(&drawn->record.id, version, drawn->payload, drawn->record.payload_bytes, drawn->vector, DIM);
}

static struct record gone(uint64_t number)
{
    return (struct record){.id = gyre_point_id_from_number(number), .gone = true};
}

/* Puts what the builder has into the next file of a shard. */
static void put_file(piece_builder *builder, const char *dir, uint32_t generation, uint32_t shard, struct backup_shard *made)
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    struct backup_file file = {.points = piece_points(builder), .gone = piece_gone(builder)};
    size_t bytes;
    uint8_t *data = piece_seal(builder, &bytes, file.hash);
    file.bytes = bytes;
    generation_path(path, dir, generation);
    mkdir(path, 0700);
    piece_path(path, dir, generation, shard, made->file_count);
    assert_ok(file_write(path, data, bytes, &err));
    free(data);
    made->files = realloc(made->files, (made->file_count + 1) * sizeof *made->files);
    made->files[made->file_count++] = file;
    made->points += file.points, made->gone += file.gone;
}

/* One shard in two generations. The first: POINTS points in four files, each of version number + 1. The second: 10 … 19 written
 * again by version 100 + number, 5 and 39 gone, 50 new. */
static backup_manifest *make_backup(const char *dir)
{
    gyre_error err;
    backup_manifest *manifest = calloc(1, sizeof *manifest);
    snprintf(manifest->collection, sizeof manifest->collection, "words");
    manifest->generations = calloc(2, sizeof *manifest->generations);
    manifest->count = 2;
    for (uint32_t g = 0; g < 2; g++) {
        struct backup_generation *made = &manifest->generations[g];
        *made = (struct backup_generation){.number = g + 1,
                                           .time = "2026-01-01T00:00:00Z",
                                           .cluster = "c",
                                           .collection_id = UINT64_MAX,
                                           .dim = DIM,
                                           .metric = 1,
                                           .bits = 1,
                                           .copies = 1,
                                           .min_copies = 1,
                                           .allow_approximate = true,
                                           .codec = "rabitq",
                                           .shards = calloc(1, sizeof *made->shards),
                                           .shard_count = 1};
        made->shards[0] =
            (struct backup_shard){.full = g == 0, .seq = g ? 200 : 90, .epoch = 1, .codebook_version = 1, .chain = g + 1};
    }
    struct backup_shard *first = manifest->generations[0].shards, *second = manifest->generations[1].shards;
    GY_AUTO(piece_builder) *builder = piece_builder_new(DIM);
    struct drawn drawn;
    for (uint64_t n = 0; n < POINTS; n++) {
        draw(&drawn, n, n + 1);
        piece_add(builder, &drawn.record);
        sums_add(&first->sums, drawn.record.sums);
        first->count++;
        if (n % 10 == 9)
            put_file(builder, dir, 1, 0, first);
        if ((n < 10 || n > 19) && n != 5 && n != 39)
            sums_add(&second->sums, drawn.record.sums), second->count++;
    }
    for (uint64_t n = 5; n <= 50; n++) {
        struct record record = gone(n);
        bool is_point = (n >= 10 && n <= 19) || n == 50;
        if (is_point) {
            draw(&drawn, n, 100 + n);
            record = drawn.record;
            sums_add(&second->sums, record.sums), second->count++;
        }
        if (is_point || n == 5 || n == 39)
            piece_add(builder, &record);
    }
    put_file(builder, dir, 2, 0, second);
    assert_ok(manifest_write(manifest, dir, &err));
    return manifest;
}

static gyre_status walk(const char *dir, const backup_manifest *manifest, size_t generation, bool index_only, uint64_t *points,
                        gyre_error *err)
{
    GY_AUTO(backup_chain) *chain = NULL;
    struct record record;
    bool more = true;
    *points = 0;
    chain_open(&chain, dir, manifest, generation, 0, index_only);
    for (;;) {
        GY_TRY(chain_next(chain, &record, &more, err));
        if (!more)
            return GYRE_OK;
        uint64_t number = gyre_point_id_number(&record.id);
        bool again = generation == 1 && ((number >= 10 && number <= 19) || number == 50);
        struct drawn drawn;
        draw(&drawn, number, again ? 100 + number : number + 1);
        assert_int_equal(record.version, drawn.record.version);
        assert_int_equal(record.payload_bytes, drawn.record.payload_bytes);
        assert_true(sums_equal(record.sums, drawn.record.sums));
        if (!index_only) {
            assert_memory_equal(record.payload, drawn.payload, record.payload_bytes);
            assert_memory_equal(record.vector, drawn.vector, sizeof drawn.vector);
        }
        ++*points;
    }
}

static void a_chain_is_the_state_of_each_generation(void **state)
{
    gyre_error err;
    GY_AUTO(backup_manifest) *made = make_backup(*state);
    GY_AUTO(backup_manifest) *read = NULL;
    assert_ok(manifest_read(&read, *state, &err));
    assert_int_equal(read->count, 2);
    assert_true(read->generations[1].allow_approximate);
    assert_int_equal(read->generations[1].collection_id, UINT64_MAX);
    assert_int_equal(read->generations[1].shards[0].chain, 2);
    for (size_t g = 0; g < 2; g++)
        for (int index_only = 0; index_only < 2; index_only++) {
            uint64_t points;
            assert_ok(walk(*state, read, g, index_only, &points, &err));
            assert_int_equal(points, g ? POINTS - 1 : POINTS);
        }
}

static uint8_t *slurp(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    uint8_t *data = malloc(1 << 20);
    *bytes = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* Not synced, as file_write is: these tests write thousands of files. */
static void spill(const char *path, const uint8_t *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void a_piece_with_any_byte_changed_or_missing_is_refused_by_name(void **state)
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    piece_path(path, *state, 2, 0, 0);
    size_t bytes;
    uint8_t *data = slurp(path, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        uint64_t points;
        data[i] ^= 0x20;
        spill(path, data, bytes);
        assert_int_not_equal(walk(*state, manifest, 1, false, &points, &err), GYRE_OK);
        assert_non_null(strstr(err.text, "s00000-000000.piece"));
        data[i] ^= 0x20;
        spill(path, data, i);
        assert_int_equal(walk(*state, manifest, 1, i % 2, &points, &err), GYRE_CORRUPT);
        assert_non_null(strstr(err.text, "s00000-000000.piece"));
    }
    free(data);
}

/* Sized by the manifest, hashed right, and wrong in itself. */
static void a_piece_that_was_written_wrongly_is_refused(void **state)
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    snprintf(path, sizeof path, "%s/piece", (char *)*state);
    static const struct {
        size_t at;
        uint8_t value;
        const char *why;
    } wrong[] = {
        {0, 'X', "no piece"},           {8, 2, "format 2"},        {12, 4, "dim 4"},          {16, 9, "9 points"},
        {20, 9, "9 gone"},              {27, 1, "another size"},   {48 + 15, 200, "ascend"},  {31, 0xff, "another size"},
        {48 + 24, 0xff, "payloads"},    {48 + 7, 1, "UUID"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        GY_AUTO(piece_builder) *builder = piece_builder_new(DIM);
        struct drawn drawn;
        for (uint64_t n = 1; n < 5; n++) {
            draw(&drawn, n, n);
            piece_add(builder, &drawn.record);
        }
        struct piece_claim claim = {.points = 4, .dim = DIM};
        size_t bytes;
        uint8_t *data = piece_seal(builder, &bytes, claim.hash);
        claim.bytes = bytes;
        data[wrong[i].at] = wrong[i].value;
        piece_rehash(data, bytes);
        piece_hash(data, bytes, claim.hash);
        assert_ok(file_write(path, data, bytes, &err));
        free(data);
        backup_piece *piece = NULL;
        gyre_status status = piece_open(&piece, path, &claim, false, &err);
        assert_int_not_equal(status, GYRE_OK);
        if (!strstr(err.text, wrong[i].why))
            fail_msg("byte %zu: '%s' does not say '%s'", wrong[i].at, err.text, wrong[i].why);
    }
}

static void a_state_that_does_not_add_up_is_refused(void **state)
{
    gyre_error err;
    uint64_t points;
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    struct backup_shard *shard = manifest->generations[1].shards;
    shard->sums.vector++;
    assert_int_equal(walk(*state, manifest, 1, true, &points, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "shard 0"));
    shard->sums.vector--, shard->count++;
    assert_int_equal(walk(*state, manifest, 1, false, &points, &err), GYRE_CORRUPT);
    shard->count--;
    assert_ok(walk(*state, manifest, 1, false, &points, &err));
}

/* Changes a value in a manifest whose checksum is right again. */
static void forge(const backup_manifest *manifest, const char *dir, void (*change)(json_t *generation))
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    assert_ok(manifest_write(manifest, dir, &err));
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    json_t *root = json_load_file(path, 0, NULL);
    change(json_array_get(json_object_get(root, "generations"), 1));
    assert_ok(manifest_write_json(root, path, &err));
}

static json_t *shard_of(json_t *generation)
{
    return json_array_get(json_object_get(generation, "shards"), 0);
}

static json_t *file_of(json_t *generation)
{
    return json_array_get(json_object_get(shard_of(generation), "files"), 0);
}

static void set(json_t *object, const char *key, json_int_t value)
{
    json_object_set_new(object, key, json_integer(value));
}

static void huge_file(json_t *generation) { set(file_of(generation), "bytes", (json_int_t)1 << 60); }
static void other_counts(json_t *generation) { set(file_of(generation), "points", 12); }
static void negative_seq(json_t *generation) { set(shard_of(generation), "seq", -1); }
static void seq_before(json_t *generation) { set(shard_of(generation), "seq", 1); }
static void many_shards(json_t *generation) { set(json_object_get(generation, "spec"), "shards", 1 << 20); }
static void other_shards(json_t *generation) { set(json_object_get(generation, "spec"), "shards", 2); }
static void no_dim(json_t *generation) { set(json_object_get(generation, "spec"), "dim", 0); }
static void other_dim(json_t *generation) { set(json_object_get(generation, "spec"), "dim", 4); }
static void same_number(json_t *generation) { set(generation, "generation", 1); }
static void other_cluster(json_t *generation) { json_object_set_new(generation, "cluster", json_string("d")); }
static void long_cluster(json_t *generation)
{
    json_object_set_new(generation, "cluster", json_string("0123456789012345678901234567890123456789012345678901234567890123"));
}
static void no_hash(json_t *generation) { json_object_set_new(file_of(generation), "xxh3_128", json_string("zz")); }
static void half_range(json_t *generation)
{
    json_object_set_new(shard_of(generation), "hash_last", json_string("7fffffffffffffff"));
}
static void no_files(json_t *generation) { json_object_del(shard_of(generation), "files"); }
static void no_shards(json_t *generation) { json_object_set_new(generation, "shards", json_object()); }
static void full_with_gone(json_t *generation) { json_object_set_new(shard_of(generation), "full", json_true()); }

static void a_hostile_manifest_is_refused_by_place(void **state)
{
    static const struct {
        void (*change)(json_t *generation);
        const char *why;
    } forged[] = {
        {huge_file, "files[0]: bytes"},
        {other_counts, "12 points"},
        {negative_seq, "seq"},
        {seq_before, "follows nothing"},
        {many_shards, "spec: shards"},
        {other_shards, "shards: 1"},
        {no_dim, "dim"},
        {other_dim, "follows nothing"},
        {same_number, "ascend"},
        {other_cluster, "follows nothing"},
        {long_cluster, "cluster"},
        {no_hash, "xxh3_128"},
        {no_files, "files: a list"},
        {no_shards, "shards: 0"},
        {half_range, "leave some out"},
        {full_with_gone, "it is full"},
    };
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        gyre_error err;
        backup_manifest *read = NULL;
        forge(manifest, *state, forged[i].change);
        assert_int_equal(manifest_read(&read, *state, &err), GYRE_CORRUPT);
        if (!strstr(err.text, forged[i].why) || !strstr(err.text, "generations[1]"))
            fail_msg("%zu: '%s' does not say '%s'", i, err.text, forged[i].why);
    }
}

/* As backups were written before shards could be split. */
static void a_manifest_without_ranges_is_read(void **state)
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    GY_AUTO(backup_manifest) *read = NULL;
    snprintf(path, sizeof path, "%s/manifest.json", (char *)*state);
    json_t *root = json_load_file(path, 0, NULL);
    set(root, "format", 1);
    for (size_t g = 0; g < 2; g++) {
        json_t *shard = shard_of(json_array_get(json_object_get(root, "generations"), g));
        assert_int_equal(json_object_del(shard, "hash_first") + json_object_del(shard, "hash_last"), 0);
    }
    assert_ok(manifest_write_json(root, path, &err));
    assert_ok(manifest_read(&read, *state, &err));
    assert_int_equal(read->generations[1].shards[0].hash_last, 0);
    assert_true(generation_is_whole(&read->generations[1]));
}

static void a_manifest_cut_or_changed_anywhere_is_refused(void **state)
{
    gyre_error err;
    char path[MANIFEST_PATH_BYTES];
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    snprintf(path, sizeof path, "%s/manifest.json", (char *)*state);
    size_t bytes;
    uint8_t *data = slurp(path, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        backup_manifest *read = NULL;
        if (i + 1 < bytes) { /* the last byte is a brace or a newline after it */
            spill(path, data, i);
            assert_int_equal(manifest_read(&read, *state, &err), GYRE_CORRUPT);
        }
        if (data[i] >= '0' && data[i] <= '9') {
            data[i] ^= 1;
            spill(path, data, bytes);
            assert_int_not_equal(manifest_read(&read, *state, &err), GYRE_OK);
            data[i] ^= 1;
        }
    }
    free(data);
    unlink(path);
    backup_manifest *read = NULL;
    assert_int_equal(manifest_read(&read, *state, &err), GYRE_NOT_FOUND);
}

static void a_note_is_taken_by_its_own_backup_only(void **state)
{
    gyre_error err;
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    struct backup_shard read = {0};
    const struct backup_shard *made = manifest->generations[1].shards;
    assert_int_equal(shard_note_read(&read, 0, "a", *state, 2, &err), GYRE_NOT_FOUND);
    assert_ok(shard_note_write(made, 0, "a", *state, 2, &err));
    assert_int_equal(shard_note_read(&read, 0, "b", *state, 2, &err), GYRE_NOT_FOUND);
    assert_ok(shard_note_read(&read, 0, "a", *state, 2, &err));
    assert_int_equal(read.count, made->count);
    assert_int_equal(read.files[0].bytes, made->files[0].bytes);
    backup_shard_fini(&read);
    shard_note_remove(*state, 2, 0);
    assert_int_equal(shard_note_read(&read, 0, "a", *state, 2, &err), GYRE_NOT_FOUND);
}

static void rows_begin_where_they_are_told(void **state)
{
    gyre_error err;
    GY_AUTO(backup_manifest) *manifest = make_backup(*state);
    GY_AUTO(backup_rows) *rows = backup_rows_new(*state, manifest, 1, 17, 4);
    source_run *run = backup_rows_run_new(rows);
    assert_int_equal(backup_rows_next_row(rows), 17);
    uint64_t row = 17;
    for (;;) {
        assert_ok(backup_rows_next(rows, run, &err));
        assert_int_equal(run->first_row, row);
        if (!run->rows)
            break;
        for (size_t i = 0; i < run->rows; i++, row++) {
            /* 0 … 38 without 5, then 50 */
            uint64_t number = row == POINTS - 2 ? 50 : row + 1;
            struct drawn drawn;
            draw(&drawn, number, (number >= 10 && number <= 19) || number == 50 ? 100 + number : number + 1);
            assert_int_equal(run->points[i]->id->num, number);
            assert_string_equal(run->points[i]->payload, drawn.payload);
            assert_memory_equal(run->points[i]->vector, drawn.vector, sizeof drawn.vector);
        }
    }
    assert_int_equal(row, POINTS - 1);
    size_t sampled;
    backup_rows_sample(rows, &sampled);
    assert_int_equal(sampled, POINTS - 1);
    source_run_free(run);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_is_the_state_of_each_generation),
        TEST(a_piece_with_any_byte_changed_or_missing_is_refused_by_name),
        TEST(a_piece_that_was_written_wrongly_is_refused),
        TEST(a_state_that_does_not_add_up_is_refused),
        TEST(a_hostile_manifest_is_refused_by_place),
        TEST(a_manifest_without_ranges_is_read),
        TEST(a_manifest_cut_or_changed_anywhere_is_refused),
        TEST(a_note_is_taken_by_its_own_backup_only),
        TEST(rows_begin_where_they_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
