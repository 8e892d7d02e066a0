/* The replica with a real disk under it: group commit, reopening, refusals, the watermark, trimming. */
#include "replica_fixture.h"

#include "replica/check.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct gy_replica_limits usual = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10};
static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};

struct world {
    char *directory, *path;
    gy_store_env *env;
    gy_replica *replica;
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    const struct gy_shard_config config = fixture_config(4);
    gyre_error err = {0};
    world->directory = fixture_directory();
    if (asprintf(&world->path, "%s/7-3", world->directory) < 0)
        return -1;
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    if (gy_store_env_new(&world->env, 8 << 20, &err) != GYRE_OK ||
        gy_replica_create(&world->replica, world->env, world->path, &identity, 1, &config, "rabitq1", codebook, &usual,
                          &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gyre_codebook_free(codebook);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    gy_replica_close(world->replica);
    gy_store_env_free(world->env);
    fixture_directory_free(world->directory);
    free(world->path);
    free(world);
    return 0;
}

static void reopen(struct world *world, const struct gy_replica_limits *limits)
{
    gyre_error err = {0};
    gy_replica_close(world->replica);
    world->replica = NULL;
    if (gy_replica_open(&world->replica, world->env, world->path, limits, &err) != GYRE_OK)
        fail_msg("%s", err.text);
}

static void assert_point(gy_replica *replica, uint64_t number, uint64_t revision)
{
    struct fixture_found found;
    assert_int_equal(fixture_look(replica, number, revision + 3, &found), GYRE_OK);
    assert_true(found.found);
    assert_int_equal(found.revision, revision);
}

static uint64_t seq_of(struct fixture_answer answer)
{
    if (answer.status != GYRE_OK)
        fail_msg("%s", answer.err.text);
    return answer.seq;
}

static void a_written_point_is_there_when_the_answer_comes(void **state)
{
    struct world *world = *state;
    assert_int_equal(seq_of(fixture_submit(world->replica, fixture_write(4, 0, 5, 0, FIXTURE_DIM))), 1);
    assert_int_equal(seq_of(fixture_submit(world->replica, fixture_write(4, 3, 1, 1, FIXTURE_DIM))), 2);
    assert_point(world->replica, 2, 0);
    assert_point(world->replica, 3, 1);
    assert_int_equal(gy_points_count(gy_replica_points(world->replica)), 5);
}

static void a_delete_says_how_many_were_there(void **state)
{
    struct world *world = *state;
    fixture_submit(world->replica, fixture_write(4, 0, 5, 0, FIXTURE_DIM));
    struct fixture_answer answer = fixture_submit(world->replica, fixture_write(4, 3, 10, 0, 0));
    assert_int_equal(seq_of(answer), 2);
    assert_int_equal(answer.deleted, 2);
    assert_int_equal(gy_points_count(gy_replica_points(world->replica)), 3);
}

enum { WRITERS = 8, WRITES = 30 };
struct writer {
    pthread_t thread;
    gy_replica *replica;
    uint64_t number;
    uint64_t seqs[WRITES];
    size_t refused;
};

static void *write_many(void *arg)
{
    struct writer *writer = arg;
    for (size_t i = 0; i < WRITES; i++) {
        struct fixture_answer answer = fixture_submit(writer->replica, fixture_write(4, writer->number * 100, 4, i, FIXTURE_DIM));
        writer->refused += answer.status != GYRE_OK;
        writer->seqs[i] = answer.seq;
    }
    return NULL;
}

static void many_writers_get_dense_seqs_and_survive_a_reopening(void **state)
{
    struct world *world = *state;
    struct writer writers[WRITERS];
    bool seen[WRITERS * WRITES + 1] = {false};
    for (size_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.replica = world->replica, .number = i};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_many, &writers[i]), 0);
    }
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
    for (size_t i = 0; i < WRITERS; i++) {
        assert_int_equal(writers[i].refused, 0);
        for (size_t j = 0; j < WRITES; j++) {
            assert_in_range(writers[i].seqs[j], 1, WRITERS * WRITES);
            assert_false(seen[writers[i].seqs[j]]);
            seen[writers[i].seqs[j]] = true;
            assert_true(j == 0 || writers[i].seqs[j] > writers[i].seqs[j - 1]);
        }
    }
    for (int round = 0; round < 2; round++) {
        assert_int_equal(gy_points_applied_seq(gy_replica_points(world->replica)), WRITERS * WRITES);
        for (size_t i = 0; i < WRITERS; i++)
            for (uint64_t k = 0; k < 4; k++)
                assert_point(world->replica, i * 100 + k, WRITES - 1);
        reopen(world, &usual);
    }
}

static void writes_together_share_an_append(void **state)
{
    struct world *world = *state;
    enum { TOGETHER = 200 };
    static struct fixture_answer answers[TOGETHER];
    int64_t started_ns = gy_now_ns();
    fixture_submit(world->replica, fixture_write(4, 0, 1, 0, FIXTURE_DIM));
    int64_t one_ns = gy_now_ns() - started_ns;
    started_ns = gy_now_ns();
    for (size_t i = 0; i < TOGETHER; i++) {
        answers[i] = (struct fixture_answer)FIXTURE_ANSWER;
        gy_replica_write(world->replica, fixture_write(4, i, 1, 1, FIXTURE_DIM), GY_NEVER, fixture_on_written, &answers[i]);
    }
    for (size_t i = 0; i < TOGETHER; i++) {
        fixture_wait(&answers[i]);
        assert_int_equal(seq_of(answers[i]), i + 2);
    }
    print_message("one write %.2f ms, %d together %.2f ms\n", (double)one_ns / 1e6, TOGETHER, (double)(gy_now_ns() - started_ns) / 1e6);
}

static void bad_operations_are_refused_and_write_nothing(void **state)
{
    struct world *world = *state;
    struct fixture_answer answer;

    answer = fixture_submit(world->replica, fixture_write(4, 0, 3, 0, FIXTURE_DIM - 1));
    assert_int_equal(answer.status, GYRE_INVALID);
    assert_non_null(strstr(answer.err.text, "operation 0: vector of 92 bytes; the collection has 24 dimensions, 96 bytes"));

    Gyre__Node__Write *write = fixture_write(4, 0, 3, 0, FIXTURE_DIM);
    ((float *)(void *)write->operations[2]->vector.data)[5] = __builtin_nanf("");
    answer = fixture_submit(world->replica, write);
    assert_int_equal(answer.status, GYRE_INVALID);
    assert_non_null(strstr(answer.err.text, "operation 2"));

    write = fixture_write(4, 0, 3, 0, FIXTURE_DIM);
    strcpy(write->operations[1]->payload, "[1]");
    answer = fixture_submit(world->replica, write);
    assert_int_equal(answer.status, GYRE_INVALID);
    assert_non_null(strstr(answer.err.text, "operation 1"));

    write = fixture_write(4, 0, 1, 0, FIXTURE_DIM);
    write->operations[0]->id.len = 15;
    answer = fixture_submit(world->replica, write);
    assert_int_equal(answer.status, GYRE_INVALID);

    answer = fixture_submit(world->replica, fixture_write(4, 0, 0, 0, FIXTURE_DIM));
    assert_int_equal(answer.status, GYRE_INVALID);

    assert_int_equal(gy_points_count(gy_replica_points(world->replica)), 0);
    assert_int_equal(gy_points_applied_seq(gy_replica_points(world->replica)), 0);
}

static void a_write_past_its_deadline_is_not_written(void **state)
{
    struct world *world = *state;
    struct fixture_answer answer = FIXTURE_ANSWER;
    gy_replica_write(world->replica, fixture_write(4, 0, 1, 0, FIXTURE_DIM), gy_now_ns() - 1, fixture_on_written, &answer);
    fixture_wait(&answer);
    assert_int_equal(answer.status, GYRE_DEADLINE);
    assert_int_equal(gy_points_count(gy_replica_points(world->replica)), 0);
}

static gyre_status set_epoch(struct world *world, uint64_t epoch, gyre_error *err)
{
    const struct gy_shard_config config = fixture_config(epoch);
    return gy_replica_set_config(world->replica, &config, err);
}

static void epochs_only_grow_and_are_remembered(void **state)
{
    struct world *world = *state;
    gyre_error err;
    assert_int_equal(set_epoch(world, 3, &err), GYRE_ABORTED);
    assert_int_equal(set_epoch(world, 4, &err), GYRE_OK);
    assert_int_equal(set_epoch(world, 6, &err), GYRE_OK);
    struct fixture_answer answer = fixture_submit(world->replica, fixture_write(7, 0, 1, 0, FIXTURE_DIM));
    assert_int_equal(answer.status, GYRE_ABORTED);
    assert_non_null(strstr(answer.err.text, "shard 3 of collection 7: sent for epoch 7, the replica is at epoch 6"));
    reopen(world, &usual);
    assert_int_equal(set_epoch(world, 5, &err), GYRE_ABORTED);
    seq_of(fixture_submit(world->replica, fixture_write(6, 0, 1, 0, FIXTURE_DIM)));
    seq_of(fixture_submit(world->replica, fixture_write(4, 1, 1, 0, FIXTURE_DIM))); /* the same primary since then */
}

static void a_disk_below_the_watermark_refuses_writes_and_serves_reads(void **state)
{
    struct world *world = *state;
    seq_of(fixture_submit(world->replica, fixture_write(4, 0, 1, 0, FIXTURE_DIM)));
    struct gy_replica_limits full = usual;
    full.disk_free_min = UINT64_MAX;
    reopen(world, &full);
    struct fixture_answer answer = fixture_submit(world->replica, fixture_write(4, 0, 1, 1, FIXTURE_DIM));
    assert_int_equal(answer.status, GYRE_EXHAUSTED);
    assert_non_null(strstr(answer.err.text, "disk of "));
    assert_non_null(strstr(answer.err.text, "MiB free; a write needs"));
    Gyre__Node__ReplicaStatus status;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    gy_replica_status(world->replica, &status, trouble, sizeof trouble);
    assert_non_null(strstr(trouble, "a write needs"));
    assert_point(world->replica, 0, 0);
    reopen(world, &usual);
    seq_of(fixture_submit(world->replica, fixture_write(4, 0, 1, 1, FIXTURE_DIM)));
    assert_point(world->replica, 0, 1);
}

static void a_full_queue_refuses_and_says_its_limit(void **state)
{
    struct world *world = *state;
    struct gy_replica_limits small = usual;
    small.queue_bytes_max = 1000;
    reopen(world, &small);
    struct fixture_answer answer = fixture_submit(world->replica, fixture_write(4, 0, 100, 0, FIXTURE_DIM));
    assert_int_equal(answer.status, GYRE_EXHAUSTED);
    assert_non_null(strstr(answer.err.text, "1000"));
    seq_of(fixture_submit(world->replica, fixture_write(4, 0, 1, 0, FIXTURE_DIM)));
}

static gyre_status count_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    (void)entry, (void)err;
    ++*(size_t *)self;
    return GYRE_OK;
}

/* Closes the replica and asserts that its log holds first to last, and little before: the trim comes a few entries before last. */
static void assert_log(struct world *world, uint64_t first, uint64_t last)
{
    gy_store *store;
    gyre_error err;
    size_t kept = 0;
    gy_replica_close(world->replica);
    world->replica = NULL;
    assert_int_equal(gy_store_open(&store, world->env, world->path, &err), GYRE_OK);
    assert_int_equal(gy_store_log_read(store, first - 6, count_entry, &kept, &err), GYRE_OUT_OF_RANGE);
    assert_int_equal(gy_store_log_read(store, first, count_entry, &kept, &err), GYRE_OK);
    assert_int_equal(kept, last - first + 1);
    gy_store_close(store);
}

static void the_log_is_trimmed_by_entries_and_by_bytes(void **state)
{
    struct world *world = *state;
    enum { LARGE_WRITES = 44, POINTS_EACH = 12000 }; /* 1.6 MiB of log each; the trim comes with 64 MiB, after the 40th or so */
    gyre_error err;
    for (uint64_t i = 0; i < LARGE_WRITES; i++)
        assert_int_equal(seq_of(fixture_submit(world->replica, fixture_write(4, 0, POINTS_EACH, i, FIXTURE_DIM))), i + 1);
    assert_log(world, LARGE_WRITES - usual.log_keep, LARGE_WRITES);
    /* Room for all of them in number, but not in bytes: the next trim forgets what was there before. */
    struct gy_replica_limits many = usual;
    many.log_keep = 1000;
    assert_int_equal(gy_replica_open(&world->replica, world->env, world->path, &many, &err), GYRE_OK);
    for (uint64_t i = LARGE_WRITES; i < 2 * LARGE_WRITES; i++)
        assert_int_equal(seq_of(fixture_submit(world->replica, fixture_write(4, 0, POINTS_EACH, i, FIXTURE_DIM))), i + 1);
    assert_log(world, LARGE_WRITES + 1, 2 * LARGE_WRITES);
    assert_int_equal(gy_replica_open(&world->replica, world->env, world->path, &usual, &err), GYRE_OK);
    assert_point(world->replica, 11999, 2 * LARGE_WRITES - 1);
}

static gyre_status append_write(gy_store *store, uint64_t seq, uint64_t first, uint64_t revision, uint32_t dim)
{
    Gyre__Node__Write *write = fixture_write(4, first, 3, revision, dim);
    gy_bytes body;
    assert_int_equal(gy_wire_pack(&body, &write->base, 1 << 20, NULL), GYRE_OK);
    struct gy_log_entry entry = {.epoch = 4, .seq = seq, .body = body.data, .bytes = body.size};
    gyre_status status = gy_store_log_append(store, &entry, 1, false, NULL);
    gy_bytes_free(&body);
    gy_wire_free(write);
    return status;
}

static void entries_that_were_logged_but_not_applied_are_applied_at_opening(void **state)
{
    struct world *world = *state;
    gyre_error err;
    seq_of(fixture_submit(world->replica, fixture_write(4, 0, 3, 0, FIXTURE_DIM)));
    gy_replica_close(world->replica);
    world->replica = NULL;
    gy_store *store;
    assert_int_equal(gy_store_open(&store, world->env, world->path, &err), GYRE_OK);
    for (uint64_t seq = 2; seq < 200; seq++)
        assert_int_equal(append_write(store, seq, seq, seq, FIXTURE_DIM), GYRE_OK);
    gy_store_close(store);
    assert_int_equal(gy_replica_open(&world->replica, world->env, world->path, &usual, &err), GYRE_OK);
    assert_int_equal(gy_points_applied_seq(gy_replica_points(world->replica)), 199);
    assert_point(world->replica, 100, 100);
    assert_point(world->replica, 201, 199);
    assert_int_equal(seq_of(fixture_submit(world->replica, fixture_write(4, 0, 1, 1, FIXTURE_DIM))), 200);
}

static void a_log_entry_that_is_no_write_refuses_to_open(void **state)
{
    struct world *world = *state;
    gyre_error err;
    gy_replica_close(world->replica);
    world->replica = NULL;
    gy_store *store;
    assert_int_equal(gy_store_open(&store, world->env, world->path, &err), GYRE_OK);
    assert_int_equal(append_write(store, 1, 0, 0, FIXTURE_DIM), GYRE_OK);
    assert_int_equal(append_write(store, 2, 0, 0, FIXTURE_DIM + 1), GYRE_OK);
    gy_store_close(store);
    assert_int_equal(gy_replica_open(&world->replica, world->env, world->path, &usual, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "log entry 2"));
    assert_null(world->replica);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_written_point_is_there_when_the_answer_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_delete_says_how_many_were_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_writers_get_dense_seqs_and_survive_a_reopening, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writes_together_share_an_append, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_operations_are_refused_and_write_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_write_past_its_deadline_is_not_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(epochs_only_grow_and_are_remembered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_below_the_watermark_refuses_writes_and_serves_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_queue_refuses_and_says_its_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_log_is_trimmed_by_entries_and_by_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(entries_that_were_logged_but_not_applied_are_applied_at_opening, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_log_entry_that_is_no_write_refuses_to_open, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
