/* Random operations on points, compared after every few steps with a model in plain arrays: what is held, with which bits, in
 * which codes; through reopening and re-encoding, with writers going on meanwhile. */
#include "points_model.h"

#include <pthread.h>
#include <stdatomic.h>

enum { STEPS = 120 };

static void step(struct fixture *f, struct model *model, uint64_t *random)
{
    static struct drawn drawn;
    bool deleted[BATCH_MAX];
    model_draw(model, &drawn, f->seq + 1, random);
    fixture_apply(f, drawn.operations, drawn.count, deleted);
    for (size_t i = 0; i < drawn.count; i++)
        assert_int_equal(deleted[i], drawn.deletes_held[i]);
}

static void wait_for_codebook(struct fixture *f, uint32_t version)
{
    for (int i = 0; i < 120000 && gy_points_codebook_version(f->points) != version; i++)
        usleep(500);
    assert_int_equal(gy_points_codebook_version(f->points), version);
}

static void run(uint64_t *random, const char *codec)
{
    gyre_error err;
    struct fixture f;
    gyre_metric metric = (gyre_metric)(1 + fixture_below(random, 3));
    struct model *model = model_new((uint32_t)(2 + fixture_below(random, DIM_MAX - 2)));
    fixture_init_with(&f, codec, model_codebook(metric, model->dim, 1));
    for (int i = 0; i < STEPS; i++) {
        step(&f, model, random);
        switch (fixture_below(random, 12)) {
        case 0: /* reopen, as after a clean stop */
            fixture_close(&f);
            fixture_open(&f);
            break;
        case 1: { /* re-encode, and write on while it runs */
            gyre_codebook *codebook = model_codebook(metric, model->dim, ++model->codebook_version);
            assert_ok(gy_points_set_codebook(f.points, codebook, &err));
            gyre_codebook_free(codebook);
            for (uint64_t n = fixture_below(random, 6); n; n--)
                step(&f, model, random);
            wait_for_codebook(&f, model->codebook_version);
            break;
        }
        case 2: { /* re-encode, and stop before it ends (or just after) */
            gyre_codebook *codebook = model_codebook(metric, model->dim, model->codebook_version + 1);
            assert_ok(gy_points_set_codebook(f.points, codebook, &err));
            gyre_codebook_free(codebook);
            if (fixture_below(random, 2))
                usleep((useconds_t)fixture_below(random, 20000));
            fixture_close(&f);
            fixture_open(&f);
            uint32_t now = gy_points_codebook_version(f.points);
            assert_true(now == model->codebook_version || now == model->codebook_version + 1);
            model->codebook_version = now;
            break;
        }
        case 3:
            assert_ok(gy_points_flush(f.points, &err));
            break;
        case 4:
            model_wait_for_compaction(&f);
            break;
        default:
            break;
        }
        if (fixture_below(random, 4) == 0)
            model_check_codes(&f, model, random);
        if (fixture_below(random, 10) == 0)
            model_check_reads(&f, model);
    }
    fixture_close(&f);
    fixture_open(&f);
    model_check_codes(&f, model, random);
    model_check_reads(&f, model);
    fixture_fini(&f);
    model_free(model);
}

static void random_operations_leave_what_the_model_holds(void **state)
{
    (void)state;
    uint64_t random = fixture_seed();
    static const char *const codecs[] = {"rabitq1", "rabitq4-fast", "signblock-p8b2", "rabitq1"};
    for (int i = 0; i < 4; i++)
        run(&random, codecs[i]);
}

/* ---- readers beside a writer and a re-encoder ---- */
struct readers {
    struct fixture *f;
    atomic_bool stop;
    atomic_size_t scans;
};

/* A snapshot is of one moment and stays whole, whatever is written meanwhile: each list has the points it says, in the chunks it
 * says, and every row that its full vector is still there for can be ranked. */
static void *read_on(void *arg)
{
    enum { DIM = 16 };
    struct readers *readers = arg;
    float query[DIM] = {0}, distances[GY_CHUNK_ROWS];
    uint32_t slots[GY_CHUNK_ROWS];
    do { /* once at least, however late this thread begins */
        gyre_error err;
        gy_snapshot *snapshot = gy_points_snapshot(readers->f->points);
        struct gy_layout layout;
        gy_layout_init(&layout, gy_points_codec(readers->f->points), DIM);
        uint64_t total = 0;
        for (uint32_t list = 0; list < gyre_codebook_lists(gy_snapshot_codebook(snapshot)); list++) {
            const uint32_t *chunks;
            uint64_t points, seen = 0;
            size_t count = gy_snapshot_list(snapshot, list, &chunks, &points);
            for (size_t c = 0; c < count; c++) {
                struct gy_chunk_view chunk = gy_snapshot_chunk(snapshot, chunks[c]);
                size_t n = 0;
                assert_int_equal(chunk.list, list);
                for (uint32_t place = 0; place < chunk.rows; place++)
                    if (gyre_block_holds(layout.code_bytes, chunk.blocks + place / GYRE_BLOCK_ROWS * layout.block_bytes,
                                         place % GYRE_BLOCK_ROWS))
                        slots[n++] = chunks[c] * GY_CHUNK_ROWS + place;
                assert_ok(gy_points_rank(readers->f->points, snapshot, query, slots, n, distances, &err));
                seen += n;
            }
            assert_int_equal(seen, points);
            total += seen;
        }
        assert_int_equal(total, gy_snapshot_count(snapshot));
        gy_snapshot_release(snapshot);
        atomic_fetch_add(&readers->scans, 1);
    } while (!atomic_load(&readers->stop));
    return NULL;
}

static void readers_go_on_while_points_are_written_and_reencoded(void **state)
{
    (void)state;
    gyre_error err;
    struct fixture f;
    uint64_t random = fixture_seed();
    fixture_init(&f, GYRE_L2, 16);
    fixture_fill(&f, 0, 5000, 500, &random);
    struct readers readers = {.f = &f};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers), 0);
    for (uint32_t version = 2; version < 6; version++) {
        gyre_codebook *codebook = model_codebook(GYRE_L2, 16, version);
        assert_ok(gy_points_set_codebook(f.points, codebook, &err));
        gyre_codebook_free(codebook);
        while (gy_points_codebook_version(f.points) != version)
            fixture_fill(&f, fixture_below(&random, 8000), 100, 50, &random);
    }
    atomic_store(&readers.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&readers.scans) > 0);
    fixture_assert_whole(&f);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_leave_what_the_model_holds),
        cmocka_unit_test(readers_go_on_while_points_are_written_and_reencoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
