/* kill -9 of a process that writes, at random moments, also while it starts: after each, every acknowledged write is there, bit
 * for bit, and nothing that was never sent.
 *
 * The writer is this same program, started anew. Each of its threads owns some points and writes them all in one write per
 * revision, so a write is there whole or not at all; every fifth revision deletes them. After each acknowledgement it
 * tells (thread, revision) through a pipe. What may be on disk is then the last revision told or the one after it. */
#include "replica_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { KILLS = 25, THREADS = 4, POINTS_EACH = 8, REVISIONS_A_ROUND = 1000000, LIFE_MS_MAX = 160 };

static const struct gy_replica_limits limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10};
static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};

struct told {
    uint32_t thread;
    uint32_t revision;
};

static bool deletes(uint64_t revision)
{
    return revision % 5 == 4;
}

/* ---- the writer ---- */

struct writer {
    pthread_t thread;
    gy_replica *replica;
    uint32_t index, first_revision;
};

static void *write_for_ever(void *arg)
{
    struct writer *writer = arg;
    for (uint32_t revision = writer->first_revision;; revision++) {
        Gyre__Node__Write *message = fixture_write(4, writer->index * 1000, POINTS_EACH, revision, deletes(revision) ? 0 : FIXTURE_DIM);
        struct fixture_answer answer = fixture_submit(writer->replica, message);
        if (answer.status != GYRE_OK)
            exit(3);
        struct told told = {writer->index, revision};
        if (write(STDOUT_FILENO, &told, sizeof told) != (ssize_t)sizeof told) /* less than PIPE_BUF: whole or not at all */
            exit(4);
    }
    return NULL;
}

static int be_writer(const char *path, uint32_t first_revision)
{
    gy_store_env *env;
    gy_replica *replica;
    gyre_error err;
    if (gy_store_env_new(&env, 8 << 20, &err) != GYRE_OK || gy_replica_open(&replica, env, path, &limits, &err) != GYRE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 2;
    }
    static struct writer writers[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){.replica = replica, .index = i, .first_revision = first_revision};
        if (pthread_create(&writers[i].thread, NULL, write_for_ever, &writers[i]) != 0)
            return 2;
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    return 0;
}

/* ---- the witness ---- */

/* What a thread's points may be: the effect of one of two revisions. */
struct expected {
    bool found[2];
    uint64_t revision[2];
};

struct seen {
    size_t count, missing;
    uint64_t number;
    uint64_t revisions[POINTS_EACH];
    bool damaged;
};

static gyre_status see(void *self, size_t i, const struct gy_point_view *view, gyre_error *err)
{
    (void)err;
    struct seen *seen = self;
    unsigned long long number, revision;
    float vector[FIXTURE_DIM];
    if (!view->found) {
        seen->missing++;
        return GYRE_OK;
    }
    if (sscanf(view->payload, "{\"n\":%llu,\"r\":%llu}", &number, &revision) != 2 || number != seen->number + i) {
        seen->damaged = true;
        return GYRE_OK;
    }
    fixture_vector(vector, FIXTURE_DIM, number, revision);
    seen->damaged |= memcmp(vector, view->vector, sizeof vector) != 0;
    seen->revisions[seen->count++] = revision;
    return GYRE_OK;
}

/* Reads every thread's points, demands one of the two effects, and makes what is there the only one for the next round. */
static void check(const char *path, gy_store_env *env, struct expected expected[THREADS])
{
    gyre_error err = {0};
    gy_replica *replica;
    if (gy_replica_open(&replica, env, path, &limits, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    for (uint64_t t = 0; t < THREADS; t++) {
        gyre_point_id ids[POINTS_EACH];
        struct seen seen = {.number = t * 1000};
        for (uint64_t i = 0; i < POINTS_EACH; i++)
            ids[i] = gyre_point_id_from_number(t * 1000 + i);
        assert_int_equal(gy_points_read(gy_replica_points(replica), ids, POINTS_EACH, true, true, see, &seen, &err), GYRE_OK);
        assert_false(seen.damaged);
        assert_true(seen.missing == 0 || seen.missing == POINTS_EACH);
        for (size_t i = 1; i < seen.count; i++)
            assert_int_equal(seen.revisions[i], seen.revisions[0]);
        bool found = seen.missing == 0, allowed = false;
        for (int e = 0; e < 2; e++)
            allowed |= found == expected[t].found[e] && (!found || seen.revisions[0] == expected[t].revision[e]);
        if (!allowed)
            fail_msg("thread %d: found %d revision %llu; expected %d %llu or %d %llu", (int)t, found, (unsigned long long)seen.revisions[0],
                     expected[t].found[0], (unsigned long long)expected[t].revision[0], expected[t].found[1],
                     (unsigned long long)expected[t].revision[1]);
        for (int e = 0; e < 2; e++) {
            expected[t].found[e] = found;
            expected[t].revision[e] = seen.revisions[0];
        }
    }
    gy_replica_close(replica);
}

static void expect(struct expected *expected, int which, uint64_t revision)
{
    expected->found[which] = !deletes(revision);
    expected->revision[which] = revision;
}

/* Starts a writer, kills it after life_ms, and takes everything it told. Returns how many acknowledgements that were. */
static size_t run_and_kill(const char *path, uint32_t first_revision, int life_ms, struct expected expected[THREADS])
{
    int ends[2];
    char revision_text[32];
    snprintf(revision_text, sizeof revision_text, "%u", first_revision);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "writer", path, revision_text, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    close(ends[1]);
    for (size_t t = 0; t < THREADS; t++)
        expect(&expected[t], 1, first_revision); /* the first may be there without an acknowledgement */
    int64_t kill_ns = gy_now_ns() + life_ms * GY_MILLISECOND_NS;
    bool killed = false;
    size_t told_count = 0;
    struct told told;
    for (;;) {
        struct pollfd end = {.fd = ends[0], .events = POLLIN};
        int64_t left_ms = (kill_ns - gy_now_ns()) / GY_MILLISECOND_NS;
        if (!killed && left_ms <= 0) {
            assert_int_equal(kill(pid, SIGKILL), 0);
            killed = true;
        }
        poll(&end, 1, killed ? -1 : (int)left_ms);
        if (!(end.revents & (POLLIN | POLLHUP)))
            continue;
        if (read(ends[0], &told, sizeof told) != (ssize_t)sizeof told)
            break; /* records are written whole, so this is the end */
        assert_true(told.thread < THREADS);
        expect(&expected[told.thread], 0, told.revision);
        expect(&expected[told.thread], 1, told.revision + 1);
        told_count++;
    }
    close(ends[0]);
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(killed && WIFSIGNALED(how));
    return told_count;
}

static void acknowledged_writes_survive_being_killed_at_any_moment(void **state)
{
    (void)state;
    char *directory = fixture_directory(), *path;
    assert_true(asprintf(&path, "%s/7-3", directory) > 0);
    gy_store_env *env;
    gy_replica *replica;
    const struct gy_shard_config config = fixture_config(4);
    gyre_error err = {0};
    gyre_codebook *codebook = fixture_codebook(GYRE_COSINE, FIXTURE_DIM, 1, NULL);
    assert_int_equal(gy_store_env_new(&env, 8 << 20, &err), GYRE_OK);
    assert_int_equal(gy_replica_create(&replica, env, path, &identity, 1, &config, "rabitq1", codebook, &limits, &err),
                     GYRE_OK);
    gy_replica_close(replica);
    gyre_codebook_free(codebook);

    struct expected expected[THREADS] = {0};
    const char *asked = getenv("GYRE_SEED");
    unsigned seed = asked ? (unsigned)strtoul(asked, NULL, 0) : (unsigned)time(NULL);
    print_message("GYRE_SEED=%u\n", seed);
    size_t told_count = 0;
    for (uint32_t round = 0; round < KILLS; round++) {
        int life_ms = 5 + (int)(rand_r(&seed) % LIFE_MS_MAX);
        told_count += run_and_kill(path, (round + 1) * REVISIONS_A_ROUND, life_ms, expected);
        check(path, env, expected);
    }
    /* However slow the machine: a life long enough to write must show writes. */
    for (uint32_t round = KILLS; told_count == 0 && round < KILLS + 10; round++) {
        told_count += run_and_kill(path, (round + 1) * REVISIONS_A_ROUND, 3000, expected);
        check(path, env, expected);
    }
    print_message("%d kills, %zu acknowledged writes\n", KILLS, told_count);
    assert_true(told_count > 0);
    gy_store_env_free(env);
    fixture_directory_free(directory);
    free(path);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return be_writer(argv[1], (uint32_t)strtoul(argv[2], NULL, 10));
    const struct CMUnitTest tests[] = {cmocka_unit_test(acknowledged_writes_survive_being_killed_at_any_moment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
