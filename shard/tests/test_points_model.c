/* Random operations on points, compared after every few steps with a model in plain arrays: what is held, with which bits, in
 * which codes; through reopening and re-encoding, with writers going on meanwhile. */
#include "points_model.h"

#include "gyre/clock.h"
#include "scan/scan.h"

#include <math.h>
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

static void check_exact(struct fixture *f, const struct model *model, uint64_t *random)
{
    enum { KEEP = 10 };
    gyre_error err;
    float query[DIM_MAX];
    gyre_metric metric = gy_points_metric(f->points);
    fixture_vector(random, query, model->dim);
    gyre_vector_normalize(metric, query, query, model->dim);
    struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 3, .keep = KEEP, .exact = true, .deadline_ns = GY_NEVER};
    struct gy_candidates out;
    uint32_t version;
    uint64_t seq;
    assert_ok(gy_scan_run(f->points, NULL, &request, &out, &version, &seq, &err));
    assert_int_equal(out.count, model->count < KEEP ? model->count : KEEP);
    assert_int_equal(out.scanned, model->count);
    for (size_t i = 0; i < out.count; i++) { /* the i-th has exactly i before it */
        size_t before = 0;
        for (size_t n = 0; n < IDS; n++) {
            gyre_point_id id = model_id(n);
            float distance = model->held[n] ? gyre_distance(metric, model->vectors[n], query, model->dim) : INFINITY;
            before += distance < out.items[i].estimate || (distance == out.items[i].estimate && gyre_point_id_compare(&id, &out.items[i].id) < 0);
        }
        assert_int_equal(before, i);
    }
    gy_candidates_free(&out, 1);
}

static void wait_for_codebook(struct fixture *f, uint32_t version)
{
    for (int i = 0; i < 20000 && gy_points_codebook_version(f->points) != version; i++)
        usleep(500);
    assert_int_equal(gy_points_codebook_version(f->points), version);
}

static void run(uint64_t *random)
{
    gyre_error err;
    struct fixture f;
    gyre_metric metric = (gyre_metric)(1 + fixture_below(random, 3));
    struct model *model = model_new((uint32_t)(2 + fixture_below(random, DIM_MAX - 2)));
    fixture_init(&f, metric, model->dim);
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
        default:
            break;
        }
        if (fixture_below(random, 4) == 0)
            model_check_codes(&f, model);
        if (fixture_below(random, 10) == 0)
            model_check_reads(&f, model), check_exact(&f, model, random);
    }
    fixture_close(&f);
    fixture_open(&f);
    model_check_codes(&f, model);
    model_check_reads(&f, model);
    fixture_fini(&f);
    free(model->vectors);
    free(model);
}

static void random_operations_leave_what_the_model_holds(void **state)
{
    (void)state;
    uint64_t random = fixture_seed();
    for (int i = 0; i < 4; i++)
        run(&random);
}

/* ---- readers beside a writer and a re-encoder ---- */
struct readers {
    struct fixture *f;
    atomic_bool stop;
    atomic_size_t scans;
};

/* What a scan returns is in order and of one moment, whatever is written meanwhile. */
static void *scan_on(void *arg)
{
    enum { DIM = 16 };
    struct readers *readers = arg;
    float query[DIM] = {0};
    while (!atomic_load(&readers->stop)) {
        gyre_error err;
        struct gy_scan_request request = {.queries = query, .query_count = 1, .epsilon = 4, .keep = 50, .seed = 10, .deadline_ns = GY_NEVER};
        struct gy_candidates out;
        uint32_t version;
        uint64_t seq;
        assert_ok(gy_scan_run(readers->f->points, NULL, &request, &out, &version, &seq, &err));
        assert_true(out.count == 0 || seq > 0);
        for (size_t i = 1; i < out.count; i++)
            assert_true(out.items[i - 1].estimate - out.items[i - 1].half_width <= out.items[i].estimate - out.items[i].half_width);
        gy_candidates_free(&out, 1);
        atomic_fetch_add(&readers->scans, 1);
    }
    return NULL;
}

static void scans_go_on_while_points_are_written_and_reencoded(void **state)
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
        assert_int_equal(pthread_create(&threads[i], NULL, scan_on, &readers), 0);
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
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_leave_what_the_model_holds),
        cmocka_unit_test(scans_go_on_while_points_are_written_and_reencoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
