/* A replica copied row by row while it is written to, what a crash in the middle leaves, and rows that are none. */
#include "store/copy.h"

#include "index/digest.h"
#include "index/snapshot.h"
#include "points_fixture.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { DIM = 24, IDS = 600, OPERATIONS = 40, LISTS = 5, PIECE_BYTES = 20000 };

/* ---- what is written: the entry of a seq is always the same ---- */
struct drawn {
    struct gy_operation operations[OPERATIONS];
    float vectors[OPERATIONS][DIM];
    char payloads[OPERATIONS][32];
};

static void draw(struct drawn *drawn, uint64_t seq)
{
    uint64_t random = seq * 77;
    for (size_t i = 0; i < OPERATIONS; i++) {
        bool deletes = fixture_below(&random, 5) == 0;
        fixture_vector(&random, drawn->vectors[i], DIM);
        snprintf(drawn->payloads[i], sizeof drawn->payloads[i], "{\"seq\":%u}", (unsigned)seq);
        drawn->operations[i] = (struct gy_operation){
            .id = gyre_point_id_from_number(fixture_below(&random, IDS)),
            .vector = deletes ? NULL : drawn->vectors[i],
            .payload = deletes ? NULL : drawn->payloads[i],
        };
    }
}

static void write_up_to(struct fixture *f, uint64_t seq)
{
    static _Thread_local struct drawn drawn;
    while (f->seq < seq) {
        draw(&drawn, f->seq + 1);
        fixture_apply(f, drawn.operations, OPERATIONS, NULL);
    }
}

static void make(struct fixture *f)
{
    fixture_init_with(f, "rabitq1", fixture_partition(GYRE_L2, DIM, 1, 0, LISTS));
}

/* ---- copies ---- */
static struct gy_shard_config members(void)
{
    struct gy_shard_config config = fixture_config_quantized(6);
    config.members[1].kind = GY_MEMBER_FULL, config.next_member = 4, config.member_count = 3;
    config.members[2] = (struct gy_member){.id = 3, .kind = GY_MEMBER_QUANTIZED, .node = "c"};
    return config;
}

struct copying {
    gy_import *import;
    uint32_t family;
    uint8_t after[32];
    size_t after_bytes, rows, bytes;
    size_t spoil; /* this row; SIZE_MAX: none */
    void (*how)(struct gy_row *row);
    size_t stop;  /* before this row */
};

static gyre_status copy_row(void *self, const struct gy_row *row, gyre_error *err)
{
    struct copying *copying = self;
    struct gy_row taken = *row;
    if (copying->rows == copying->stop)
        return gyre_fail(err, GYRE_CANCELLED, "far enough");
    if (copying->rows == copying->spoil)
        copying->how(&taken);
    copying->family = row->family;
    memcpy(copying->after, row->key, copying->after_bytes = row->key_bytes);
    copying->bytes += row->key_bytes + row->value_bytes;
    copying->rows++;
    return gy_import_row(copying->import, &taken, err);
}

static gyre_status copy_rows(struct copying *copying, gy_export *export, gyre_error *err)
{
    for (bool done = false; !done;) {
        size_t before = copying->rows, bytes = copying->bytes;
        GY_TRY(gy_export_read(export, copying->family, copying->after, copying->after_bytes, PIECE_BYTES, copy_row, copying,
                              &done, err));
        assert_true(done || copying->rows > before);
        assert_true(copying->bytes - bytes <= PIECE_BYTES || copying->rows == before + 1);
    }
    return GYRE_OK;
}

static void copy_path(const struct fixture *f, char path[128])
{
    snprintf(path, 128, "%s/copy", f->directory);
}

static gyre_status begin(struct fixture *f, gy_export *export, uint32_t member, gy_import **import, gyre_error *err)
{
    char path[128];
    struct gy_shard_config config = members();
    struct gy_export_state state = gy_export_state(export);
    copy_path(f, path);
    return gy_import_open(import, f->env, path, &fixture_identity, member, &config, state.epoch, state.seq, err);
}

static gy_store *copy(struct fixture *f, gy_export *export, uint32_t member)
{
    gyre_error err;
    gy_store *store = NULL;
    struct copying copying = {.spoil = SIZE_MAX, .stop = SIZE_MAX};
    assert_ok(begin(f, export, member, &copying.import, &err));
    assert_ok(copy_rows(&copying, export, &err));
    assert_ok(gy_import_finish(copying.import, &store, &err));
    gy_import_free(copying.import);
    return store;
}

/* ---- comparing ---- */
struct held {
    struct gy_point_view view;
    float vector[DIM];
    char payload[32];
};

static gyre_status keep(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)err;
    struct held *held = (struct held *)self + i;
    held->view = *view;
    if (view->found && view->vector)
        memcpy(held->vector, view->vector, sizeof held->vector);
    if (view->found)
        snprintf(held->payload, sizeof held->payload, "%s", view->payload);
    return GYRE_OK;
}

static struct held *read_all(gy_points *points)
{
    gyre_error err;
    struct held *held = calloc(IDS, sizeof *held);
    gyre_point_id ids[IDS];
    for (size_t i = 0; i < IDS; i++)
        ids[i] = gyre_point_id_from_number(i);
    assert_ok(gy_points_read(points, ids, IDS, true, true, keep, held, &err));
    return held;
}

static void assert_same_points(gy_points *a, gy_points *b)
{
    struct held *of_a = read_all(a), *of_b = read_all(b);
    size_t found = 0;
    for (size_t i = 0; i < IDS; i++) {
        assert_int_equal(of_a[i].view.found, of_b[i].view.found);
        if (!of_a[i].view.found)
            continue;
        found++;
        assert_int_equal(of_a[i].view.version, of_b[i].view.version);
        assert_memory_equal(of_a[i].vector, of_b[i].vector, sizeof of_a[i].vector);
        assert_string_equal(of_a[i].payload, of_b[i].payload);
    }
    assert_int_equal(found, gy_points_count(a));
    assert_int_equal(found, gy_points_count(b));
    free(of_a);
    free(of_b);
}

struct code {
    bool held;
    uint32_t list;
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
        for (size_t place = 0; chunk && place < chunk->rows; place++) {
            if (!gy_chunk_holds(layout, chunk, place))
                continue;
            struct code *code = &codes[gyre_point_id_number(&chunk->ids[place])];
            assert_false(code->held);
            code->held = true, code->list = chunk->list;
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

static void assert_same(gy_points *a, gy_points *b)
{
    struct gy_points_state of_a = gy_points_state(a), of_b = gy_points_state(b);
    assert_same_points(a, b);
    assert_same_codes(a, b);
    assert_memory_equal(&of_a.digest, &of_b.digest, sizeof of_a.digest);
}

/* ---- the tests ---- */
struct writer {
    struct fixture *f;
    atomic_bool stop;
    _Atomic(uint64_t) seq;
};

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    while (!atomic_load(&writer->stop)) {
        write_up_to(writer->f, writer->f->seq + 1);
        atomic_store(&writer->seq, writer->f->seq);
    }
    return NULL;
}

static void a_copy_made_while_writes_go_on_is_the_state_of_its_seq(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f, same;
    make(&f), make(&same);
    write_up_to(&f, 60);
    struct writer writer = {.f = &f, .seq = 60};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    while (atomic_load(&writer.seq) < 100)
        sched_yield();
    gy_export *export = NULL;
    assert_ok(gy_export_open(&export, f.store, false, &err));
    struct gy_export_state of = gy_export_state(export);
    while (atomic_load(&writer.seq) < of.seq + 50)
        sched_yield();
    gy_store *store = copy(&f, export, 2);
    gy_export_free(export);
    atomic_store(&writer.stop, true);
    pthread_join(thread, NULL);

    uint64_t epoch, seq;
    gy_store_log_last(store, &epoch, &seq);
    assert_in_range(of.seq, 100, f.seq - 50);
    assert_int_equal(seq, of.seq), assert_int_equal(epoch, of.epoch), assert_int_equal(epoch, 1);
    assert_int_equal(gy_store_applied_seq(store), of.seq);
    assert_int_equal(gy_store_member(store), 2), assert_int_equal(gy_store_epoch(store), 6);
    assert_string_equal(gy_store_identity(store)->collection, "words");
    gy_points *points = NULL;
    assert_ok(gy_points_open(&points, store, &err));
    write_up_to(&same, of.seq);
    assert_int_equal(gy_points_count(points), of.points);
    assert_same(points, same.points);

    struct fixture copied = f; /* the copy goes on from there as the others do, also after it was opened anew */
    copied.store = store, copied.points = points, copied.seq = of.seq;
    copy_path(&f, copied.path);
    write_up_to(&copied, of.seq + 20);
    fixture_close(&copied);
    fixture_open(&copied);
    assert_int_equal(copied.seq, of.seq + 20);
    write_up_to(&same, copied.seq);
    assert_same(copied.points, same.points);
    fixture_close(&copied);
    fixture_fini(&same);
    fixture_fini(&f);
}

static void a_copy_of_a_copy_and_of_nothing_are_the_same_again(void **state)
{
    (void)state;
    gyre_error err;
    for (uint64_t seq = 0; seq <= 30; seq += 30) {
        struct fixture f;
        make(&f);
        write_up_to(&f, seq);
        char path[128], moved[150];
        copy_path(&f, path);
        snprintf(moved, sizeof moved, "%s.first", path);
        gy_export *export = NULL;
        assert_ok(gy_export_open(&export, f.store, false, &err));
        gy_store_close(copy(&f, export, 2));
        gy_export_free(export);
        assert_int_equal(rename(path, moved), 0);
        gy_store *first = NULL;
        assert_ok(gy_store_open(&first, f.env, moved, &err));
        assert_ok(gy_export_open(&export, first, false, &err));
        assert_int_equal(gy_export_state(export).epoch, seq ? 1 : 0); /* of the base: the log is empty */
        gy_store *second = copy(&f, export, 2);
        gy_export_free(export);
        gy_points *points = NULL;
        assert_ok(gy_points_open(&points, second, &err));
        assert_same(points, f.points);
        gy_points_close(points);
        gy_store_close(second);
        gy_store_close(first);
        fixture_fini(&f);
    }
}

static gyre_status to_codebook(struct fixture *f, uint32_t version)
{
    gyre_error err;
    gyre_codebook *codebook = fixture_partition(GYRE_L2, DIM, version, 0, LISTS + 1);
    gyre_status status = gy_points_set_codebook(f->points, codebook, &err);
    gyre_codebook_free(codebook);
    while (status == GYRE_OK && gy_points_codebook_version(f->points) != version)
        sched_yield();
    return status;
}

static void a_copy_has_the_codes_of_its_codebook_only(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f, same;
    make(&f), make(&same);
    write_up_to(&f, 30), write_up_to(&same, 30);
    gy_export *before = NULL, *after = NULL;
    assert_ok(gy_export_open(&before, f.store, false, &err));
    assert_int_equal(to_codebook(&f, 2), GYRE_OK);
    assert_ok(gy_export_open(&after, f.store, false, &err));
    for (int i = 0; i < 2; i++) {
        gy_store *store = copy(&f, i ? after : before, 2);
        gy_points *points = NULL;
        assert_ok(gy_points_open(&points, store, &err));
        assert_int_equal(gy_points_codebook_version(points), 1 + i);
        assert_same(points, i ? f.points : same.points);
        gy_points_close(points);
        char path[128];
        copy_path(&f, path);
        gy_store_close(store);
        assert_ok(gy_store_destroy(path, &err));
    }
    gy_export_free(before);
    gy_export_free(after);
    fixture_fini(&same);
    fixture_fini(&f);
}

static size_t visible(const struct fixture *f)
{
    size_t count = 0;
    DIR *directory = opendir(f->directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* Makes a replica and ends in the middle of a copy of it, without a word to anybody. */
static int die_copying(struct fixture *f)
{
    gyre_error err;
    gy_export *export = NULL;
    struct copying copying = {.spoil = SIZE_MAX, .stop = 900};
    struct gy_shard_config config = fixture_config(1);
    gyre_codebook *codebook = fixture_partition(GYRE_L2, DIM, 1, 0, LISTS);
    assert_ok(gy_store_env_new(&f->env, 8 << 20, &err));
    assert_ok(gy_store_create(&f->store, f->env, f->path, &fixture_identity, 1, &config, "rabitq1", codebook, &err));
    gy_store_close(f->store);
    fixture_open(f);
    write_up_to(f, 80);
    assert_ok(gy_points_flush(f->points, &err));
    assert_ok(gy_export_open(&export, f->store, false, &err));
    assert_ok(begin(f, export, 2, &copying.import, &err));
    return copy_rows(&copying, export, &err) == GYRE_CANCELLED ? 0 : 2;
}

/* The first of the tests: a child of a process that has RocksDB's threads would have none of them. */
static void a_crash_in_the_middle_leaves_nothing_to_be_seen(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f = {.directory = fixture_directory()};
    char path[128];
    snprintf(f.path, sizeof f.path, "%s/replica", f.directory);
    copy_path(&f, path);
    pid_t child = fork();
    if (child == 0)
        _exit(die_copying(&f));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(visible(&f), 1);
    char hidden[220];
    snprintf(hidden, sizeof hidden, "%s/.copy.creating", f.directory);
    assert_int_equal(access(hidden, F_OK), 0);

    assert_ok(gy_store_env_new(&f.env, 8 << 20, &err));
    fixture_open(&f);
    assert_int_equal(f.seq, 80);
    gy_export *export = NULL;
    assert_ok(gy_export_open(&export, f.store, false, &err));
    gy_store_close(copy(&f, export, 2));
    assert_int_equal(access(hidden, F_OK), -1);
    struct copying again = {.spoil = SIZE_MAX, .stop = SIZE_MAX};
    assert_ok(begin(&f, export, 2, &again.import, &err));
    assert_ok(copy_rows(&again, export, &err));
    gy_store *store = NULL;
    assert_int_equal(gy_import_finish(again.import, &store, &err), GYRE_EXISTS);
    gy_import_free(again.import); /* leaves nothing behind */
    assert_int_equal(access(hidden, F_OK), -1);
    assert_int_equal(visible(&f), 2);
    gy_export_free(export);
    fixture_fini(&f);
}

/* ---- rows that are none ---- */
static uint8_t spoiled[70000];

static void another_value(struct gy_row *row, size_t bytes)
{
    memcpy(spoiled, row->value, bytes < row->value_bytes ? bytes : row->value_bytes);
    row->value = spoiled, row->value_bytes = bytes;
}

static void shorter(struct gy_row *row)
{
    another_value(row, row->value_bytes < 8 ? 0 : 7);
}

static void of_later(struct gy_row *row)
{
    another_value(row, row->value_bytes);
    spoiled[5] = 1;
}

static void not_finite(struct gy_row *row)
{
    another_value(row, row->value_bytes);
    memset(spoiled, 0xff, 4);
}

static void strange_family(struct gy_row *row)
{
    row->family = 9;
}

static void of_the_log(struct gy_row *row)
{
    row->family = GY_FAMILY_LOG;
}

static void shorter_key(struct gy_row *row)
{
    row->key_bytes--;
}

static void no_key(struct gy_row *row)
{
    row->key_bytes = 0;
}

static void long_key(struct gy_row *row)
{
    row->key = spoiled, row->key_bytes = sizeof spoiled;
}

static void low_key(struct gy_row *row)
{
    static const uint8_t low[16];
    row->key = low;
}

static void of_another_codebook(struct gy_row *row)
{
    static uint8_t key[16];
    memcpy(key, row->key, row->key_bytes);
    key[3]++;
    row->key = key;
}

static void another_record(struct gy_row *row)
{
    row->key = "member", row->key_bytes = 6;
}

static gyre_status count_family(void *self, const struct gy_row *row, gyre_error *err)
{
    (void)err;
    ((size_t *)self)[row->family]++;
    return GYRE_OK;
}

static void a_row_that_is_none_is_refused_by_name(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    make(&f);
    write_up_to(&f, 30);
    gy_export *export = NULL;
    size_t families[GY_FAMILY_COUNT] = {0};
    bool done;
    assert_ok(gy_export_open(&export, f.store, false, &err));
    assert_ok(gy_export_read(export, 0, NULL, 0, SIZE_MAX, count_family, families, &done, &err));
    assert_true(done);
    assert_int_equal(families[GY_FAMILY_LOG], 0);
    size_t points = families[GY_FAMILY_META], vectors = points + families[GY_FAMILY_POINTS],
           codes = vectors + families[GY_FAMILY_VECTORS];
    assert_int_equal(gy_export_read(export, 77, NULL, 0, 1, count_family, families, &done, &err), GYRE_INVALID);
    const struct {
        size_t row;
        void (*how)(struct gy_row *row);
        const char *says;
    } cases[] = {
        {0, shorter, "meta"},        {0, another_record, "meta"},     {0, of_later, "applied"},      {1, shorter, "meta"},
        {2, shorter, "meta"},        {points, shorter, "family points"},
        {points + 3, of_later, "version"},   {points + 3, shorter_key, "family points"}, {points + 3, low_key, "behind a row"},
        {points + 3, strange_family, "unknown (9)"}, {points + 3, of_the_log, "family log"}, {points + 3, no_key, "keys of 1"},
        {points + 3, long_key, "keys of 1"}, {vectors, not_finite, "family vectors"},    {vectors + 1, shorter, "family vectors"},
        {codes, of_another_codebook, "codebook 1"}, {codes + 1, shorter_key, "family codes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct copying copying = {.spoil = cases[i].row, .how = cases[i].how, .stop = SIZE_MAX};
        assert_ok(begin(&f, export, 2, &copying.import, &err));
        assert_int_equal(copy_rows(&copying, export, &err), GYRE_CORRUPT);
        if (!strstr(err.text, cases[i].says))
            print_error("case %zu: %s\n", i, err.text);
        assert_non_null(strstr(err.text, cases[i].says));
        gy_import_free(copying.import);
        assert_int_equal(visible(&f), 1);
    }
    const size_t stops[] = {0, 2, points + 3, vectors + 3};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        struct copying copying = {.spoil = SIZE_MAX, .stop = stops[i]};
        gy_store *store = NULL;
        assert_ok(begin(&f, export, 2, &copying.import, &err));
        assert_int_equal(copy_rows(&copying, export, &err), GYRE_CANCELLED);
        assert_int_equal(gy_import_finish(copying.import, &store, &err), GYRE_CORRUPT);
        gy_import_free(copying.import);
        assert_int_equal(visible(&f), 1);
    }
    struct copying copying = {.spoil = SIZE_MAX, .stop = SIZE_MAX}; /* vectors to a quantized member */
    assert_ok(begin(&f, export, 3, &copying.import, &err));
    assert_int_equal(copy_rows(&copying, export, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "takes no vectors"));
    gy_import_free(copying.import);
    gy_export_free(export);
    fixture_fini(&f);
}

/* What a reader of points got, by number. */
struct got {
    uint64_t since;
    uint8_t after[GYRE_ID_BYTES];
    size_t points, known, bytes;
    struct gy_digest digest;
    bool seen[IDS];
};

static gyre_status get_point(void *self, const struct gy_export_point *point, gyre_error *err)
{
    struct got *got = self;
    gyre_point_id id;
    struct held held;
    memcpy(id.bytes, point->id, sizeof id.bytes);
    uint64_t number = gyre_point_id_number(&id), version = gy_load_u64(point->value);
    assert_true(got->points + got->known == 0 || memcmp(got->after, point->id, GYRE_ID_BYTES) < 0);
    memcpy(got->after, point->id, GYRE_ID_BYTES);
    got->seen[number] = true;
    got->bytes += GYRE_ID_BYTES + (point->vector ? point->value_bytes + point->vector_bytes : 0);
    assert_int_equal(point->vector == NULL, version <= got->since);
    if (!point->vector) {
        got->known++;
        return GYRE_OK;
    }
    got->points++;
    assert_int_equal(point->vector_bytes, DIM * sizeof(float));
    const uint8_t *payload = (const uint8_t *)point->value + sizeof version;
    gy_sum_add(&got->digest.points, gy_point_sum(&id, version, payload, point->value_bytes - sizeof version));
    memcpy(held.vector, point->vector, sizeof held.vector);
    gy_sum_add(&got->digest.vectors, gy_vector_sum(&id, held.vector, DIM));
    (void)err;
    return GYRE_OK;
}

static void get_points(gy_export *export, struct got *got)
{
    gyre_error err;
    for (bool done = false; !done;) {
        size_t before = got->points + got->known, bytes = got->bytes;
        assert_ok(
            gy_export_read_points(export, before ? got->after : NULL, got->since, GY_RANGE_OWNED, PIECE_BYTES,
                                  get_point, got, &done, &err));
        assert_true(done || got->points + got->known > before);
        assert_true(got->bytes - bytes <= PIECE_BYTES || got->points + got->known == before + 1);
    }
}

static void points_come_whole_by_id_or_as_known(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    make(&f);
    write_up_to(&f, 60);
    gy_export *export = NULL;
    assert_ok(gy_export_open(&export, f.store, false, &err));
    struct gy_export_state held = gy_export_state(export);
    write_up_to(&f, 90); /* not part of it */
    assert_int_equal(held.seq, 60);
    struct got all = {0};
    get_points(export, &all);
    assert_int_equal(all.points, held.points);
    assert_int_equal(all.known, 0);
    assert_true(gy_sum_equal(all.digest.points, held.digest.points));
    assert_true(gy_sum_equal(all.digest.vectors, held.digest.vectors));
    const uint64_t since[] = {1, 30, 59, 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof since / sizeof *since; i++) {
        struct got some = {.since = since[i]};
        get_points(export, &some);
        assert_int_equal(some.points + some.known, held.points);
        assert_memory_equal(some.seen, all.seen, sizeof all.seen);
        assert_true(since[i] >= 60 ? some.points == 0 : some.points > 0);
    }
    bool done;
    gy_export_free(export);
    assert_ok(gy_export_open(&export, f.store, true, &err));
    struct got none = {0};
    assert_int_equal(gy_export_read_points(export, NULL, 0, GY_RANGE_OWNED, PIECE_BYTES, get_point, &none, &done, &err),
                     GYRE_INVALID);
    gy_export_free(export);
    GY_AUTO(gy_batch) *spoiling = gy_batch_new();
    uint64_t number = 0;
    while (!all.seen[number]) /* a point of before, deleted since or not: it gets no vector */
        number++;
    gyre_point_id id = gyre_point_id_from_number(number);
    uint8_t version[8] = {1};
    gy_batch_put(spoiling, f.store, GY_FAMILY_POINTS, (struct gy_slice){id.bytes, sizeof id.bytes},
                 (struct gy_slice){version, sizeof version});
    gy_batch_delete(spoiling, f.store, GY_FAMILY_VECTORS, (struct gy_slice){id.bytes, sizeof id.bytes});
    assert_ok(gy_store_commit(f.store, spoiling, &err));
    assert_ok(gy_export_open(&export, f.store, false, &err));
    gyre_status status = GYRE_OK;
    for (done = false; status == GYRE_OK && !done;)
        status = gy_export_read_points(export, none.points ? none.after : NULL, 0, GY_RANGE_OWNED, PIECE_BYTES, get_point,
                                       &none, &done, &err);
    assert_int_equal(status, GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "no vector"));
    gy_export_free(export);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crash_in_the_middle_leaves_nothing_to_be_seen),
        cmocka_unit_test(a_copy_made_while_writes_go_on_is_the_state_of_its_seq),
        cmocka_unit_test(a_copy_of_a_copy_and_of_nothing_are_the_same_again),
        cmocka_unit_test(a_copy_has_the_codes_of_its_codebook_only),
        cmocka_unit_test(a_row_that_is_none_is_refused_by_name),
        cmocka_unit_test(points_come_whole_by_id_or_as_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
