/* Kills a process that appends, applies, flushes, trims and re-encodes, at any moment, many times over one replica; then opens
 * it and holds it to its word:
 *   - every log entry whose append returned is there; what a flush returned for is applied;
 *   - points, vectors and codes are those of exactly the applied seq: nothing of a later one, nothing missing;
 *   - the codes are all of one codebook, and are what encoding the vectors with it gives;
 *   - replaying the log from there gives what the log says.
 * The operations of entry n follow from n alone, so the model needs no memory of what the killed process did. */
#include "points_model.h"

#include <signal.h>
#include <sys/wait.h>

enum { DIM = 24, KILLS = 25, KILLS_MAX = 250, ENTRIES_A_FLUSH = 23, ENTRIES_A_CODEBOOK = 17, LOG_KEPT = 10 };

struct promise {
    uint64_t logged, flushed; /* last seq for which each call has returned */
};

static void draw_entry(struct model *model, struct drawn *drawn, uint64_t seq)
{
    uint64_t random = seq * 0x9e3779b97f4a7c15u;
    model_draw(model, drawn, seq, &random);
}

static void apply_entry(struct fixture *f, const struct drawn *drawn, uint64_t seq)
{
    gyre_error err;
    uint64_t versions[BATCH_MAX];
    bool deleted[BATCH_MAX];
    for (size_t i = 0; i < drawn->count; i++)
        versions[i] = seq;
    assert_ok(gy_points_apply(f->points, drawn->operations, versions, drawn->count, seq, NULL, deleted, &err));
}

static gyre_status replay_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    static struct drawn drawn;
    (void)err;
    struct model *unused = model_new(DIM);
    draw_entry(unused, &drawn, entry->seq);
    apply_entry(self, &drawn, entry->seq);
    model_free(unused);
    return GYRE_OK;
}

static uint64_t last_logged(struct fixture *f)
{
    uint64_t epoch, seq;
    gy_store_log_last(f->store, &epoch, &seq);
    return seq;
}

/* The process that is killed: works as a replica does, and says on fd what it was promised. */
static int work(const char *directory, int fd)
{
    static struct drawn drawn;
    gyre_error err;
    struct fixture f = {0};
    struct promise promise = {0};
    snprintf(f.path, sizeof f.path, "%s/replica", directory);
    assert_ok(gy_store_env_new(&f.env, 8 << 20, &err));
    fixture_open(&f);
    assert_ok(gy_store_log_read(f.store, f.seq + 1, replay_entry, &f, &err));
    struct model *unused = model_new(DIM);
    for (uint64_t seq = last_logged(&f) + 1;; seq++) {
        struct gy_log_entry entry = {1, seq, (const uint8_t *)drawn.vectors, sizeof drawn.vectors / 4};
        draw_entry(unused, &drawn, seq);
        assert_ok(gy_store_log_append(f.store, &entry, 1, false, &err));
        promise.logged = seq;
        if (write(fd, &promise, sizeof promise) != sizeof promise)
            return 1;
        apply_entry(&f, &drawn, seq);
        if (seq % ENTRIES_A_FLUSH == 0) {
            assert_ok(gy_points_flush(f.points, &err));
            promise.flushed = seq;
            assert_ok(gy_store_log_trim(f.store, seq > LOG_KEPT ? seq - LOG_KEPT : 0, &err));
        }
        if (seq % ENTRIES_A_CODEBOOK == 0) {
            gyre_codebook *codebook = model_codebook(GYRE_L2, DIM, gy_points_codebook_version(f.points) + 1);
            assert_ok(gy_points_set_codebook(f.points, codebook, &err));
            gyre_codebook_free(codebook);
        }
    }
}

/* Starts the worker, lets it promise a few times, kills it; returns the last promise. */
static struct promise run_and_kill(const char *directory, uint64_t *random)
{
    int pipe_fds[2];
    struct promise promise = {0}, next;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", pipe_fds[1]);
        close(pipe_fds[0]);
        execl("/proc/self/exe", "fault_store", "work", directory, fd, (char *)NULL);
        _exit(127);
    }
    close(pipe_fds[1]);
    size_t promises = fixture_below(random, 60);
    for (size_t i = 0; i <= promises && read(pipe_fds[0], &next, sizeof next) == sizeof next; i++)
        promise = next;
    usleep((useconds_t)fixture_below(random, 5000)); /* to be somewhere between two promises; any place will do */
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    while (read(pipe_fds[0], &next, sizeof next) == sizeof next)
        promise = next;
    close(pipe_fds[0]);
    return promise;
}

static void check_codebook(struct fixture *f)
{
    gy_snapshot *snapshot = gy_points_snapshot(f->points);
    gyre_codebook *wanted = model_codebook(GYRE_L2, DIM, gyre_codebook_version(gy_snapshot_codebook(snapshot)));
    assert_int_equal(gyre_codebook_fingerprint(gy_snapshot_codebook(snapshot)), gyre_codebook_fingerprint(wanted));
    gyre_codebook_free(wanted);
    gy_snapshot_release(snapshot);
}

static void a_killed_replica_is_what_its_log_says(void **state)
{
    (void)state;
    static struct drawn drawn;
    gyre_error err;
    uint64_t random = fixture_seed(), modelled = 0;
    struct fixture f;
    struct model *model = model_new(DIM);
    fixture_init_with(&f, "rabitq4-fast", model_codebook(GYRE_L2, DIM, 1));
    fixture_close(&f);
    uint64_t behind = 0, reencoded = 0, before = 0;
    int kills = 0;
    /* More kills if chance left something untried. */
    for (; kills < KILLS || (kills < KILLS_MAX && (!behind || !reencoded)); kills++) {
        struct promise promise = run_and_kill(f.directory, &random);
        fixture_open(&f);
        uint64_t applied = gy_points_applied_seq(f.points), last = last_logged(&f);
        assert_true(last >= promise.logged);
        assert_true(applied >= promise.flushed);
        assert_true(applied <= last);
        behind += applied < last;
        if (applied < modelled) { /* the model has replayed further before; start it anew */
            uint32_t version = model->codebook_version;
            model_free(model);
            model = model_new(DIM);
            model->codebook_version = version;
            modelled = 0;
        }
        while (modelled < applied)
            draw_entry(model, &drawn, ++modelled);
        model->codebook_version = gy_points_codebook_version(f.points);
        reencoded += kills > 0 && model->codebook_version != before;
        before = model->codebook_version;
        check_codebook(&f);
        model_check_codes(&f, model, &random);
        model_check_reads(&f, model);
        assert_ok(gy_store_log_read(f.store, applied + 1, replay_entry, &f, &err));
        while (modelled < last)
            draw_entry(model, &drawn, ++modelled);
        f.seq = last;
        model_check_codes(&f, model, &random);
        model_check_reads(&f, model);
        fixture_close(&f);
    }
    print_message("%d kills, %llu left the log ahead of the points, %llu found a new codebook\n", kills,
                  (unsigned long long)behind, (unsigned long long)reencoded);
    assert_true(behind > 0 && reencoded > 0); /* or nothing above was put to the test */
    model_free(model);
    fixture_open(&f);
    fixture_fini(&f);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "work") == 0)
        return work(argv[2], atoi(argv[3]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_killed_replica_is_what_its_log_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
