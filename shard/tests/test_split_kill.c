/* kill -9 of a node that splits a shard while it is written to, at random moments: the next life goes on with the split, and in
 * the end every acknowledged write is there, bit for bit, in the half whose it is and in no other.
 *
 * * The node is this same program, started anew. It tells each acknowledged point through a pipe, and when the split is over. */
#include "replica_fixture.h"

#include "server/node.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { ROUNDS = 6, LIVES_MAX = 12, LIFE_MS_MAX = 300, POINTS = 2500, NEW_SHARD = 1 };
enum { NUMBERS_A_LIFE = 1000000, NUMBERS_MAX = 1 << 16 };
#define MID UINT64_C(0x8000000000000000)
#define OVER UINT64_MAX

static const uint8_t hash_key[GY_HASH_KEY_BYTES] = {2, 7, 1, 8};

static bool is_upper(uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    return gy_point_hash(hash_key, &id) >= MID;
}

static struct gy_shard_config config_of(uint64_t epoch, uint64_t first, uint64_t last, uint32_t split_into)
{
    struct gy_shard_config config = fixture_config(epoch);
    config.range = (struct gy_hash_range){first, last};
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    config.split.shard = split_into, config.split.first = split_into ? MID : 0;
    return config;
}

static gy_node *open_node(const char *directory)
{
    gy_node *node;
    gyre_error err;
    struct gy_node_options options = {.data_dir = directory,
                                      .name = "n1",
                                      .cache_bytes = 8 << 20,
                                      .memory_budget = 1 << 30,
                                      .limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10}};
    if (gy_node_open(&node, &options, &err) != GYRE_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(2);
    }
    return node;
}

static gyre_status ensure(gy_node *node, uint32_t shard, struct gy_shard_config config, bool create, gyre_error *err)
{
    struct gy_store_identity identity = {.collection_id = 7, .shard = shard, .collection = "words"};
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    struct gy_node_wish wish = {
        .identity = &identity, .member = 1, .config = config, .create = create, .codec = "rabitq1", .codebook = codebook};
    gy_hosted *hosted;
    gyre_status status = gy_node_ensure(node, &wish, GY_NEVER, &hosted, err);
    if (status == GYRE_OK)
        gy_node_release(node, hosted);
    gyre_codebook_free(codebook);
    return status;
}

static gyre_status write_to(gy_node *node, uint32_t shard, uint64_t first, size_t count)
{
    gy_hosted *hosted;
    gyre_error err;
    GY_TRY(gy_node_hold(node, 7, shard, &hosted, &err));
    struct fixture_answer answer = fixture_submit(gy_hosted_replica(hosted), fixture_write(4, first, count, 0, FIXTURE_DIM));
    gy_node_release(node, hosted);
    return answer.status;
}

/* ---- the node ---- */

struct writer {
    gy_node *node;
    uint64_t first;
};

static void tell(uint64_t number)
{
    if (write(STDOUT_FILENO, &number, sizeof number) != (ssize_t)sizeof number) /* less than PIPE_BUF: whole or not at all */
        exit(4);
}

/* As a coordinator does whose view may be old: what the one refuses is the other's, now or in a moment. */
static void *write_for_ever(void *arg)
{
    const struct writer *writer = arg;
    for (uint64_t number = writer->first;; number++) {
        for (uint32_t shard = 0; write_to(writer->node, shard, number, 1) != GYRE_OK; shard = NEW_SHARD - shard)
            sched_yield();
        tell(number);
    }
    return NULL;
}

static bool is_narrow(gy_node *node)
{
    struct gy_node_status *statuses;
    size_t count, there = 0;
    if (gy_node_statuses(node, &statuses, &count, NULL) != GYRE_OK)
        exit(2);
    for (size_t i = 0; i < count; i++)
        there += statuses[i].message.shard == NEW_SHARD || statuses[i].message.hash_last == MID - 1;
    gy_node_statuses_free(statuses);
    return there == 2;
}

static bool is_clean(gy_node *node)
{
    struct gy_node_status *statuses;
    size_t count;
    uint64_t foreign = 0;
    if (gy_node_statuses(node, &statuses, &count, NULL) != GYRE_OK)
        exit(2);
    for (size_t i = 0; i < count; i++)
        foreign += statuses[i].message.foreign;
    gy_node_statuses_free(statuses);
    return foreign == 0;
}

static void await(gy_node *node, bool (*is_it)(gy_node *node))
{
    uint64_t seen = 0;
    while (!is_it(node))
        gy_node_wait_change(node, &seen, GY_NEVER);
}

/* What a coordinator says, from the beginning in every life; what is older than what the node has is refused. */
static int be_node(const char *directory, uint64_t first)
{
    gyre_error err;
    pthread_t thread;
    gy_node *node = open_node(directory);
    struct writer writer = {node, first};
    if (pthread_create(&thread, NULL, write_for_ever, &writer) != 0)
        return 2;
    gyre_status status = ensure(node, 0, config_of(5, 0, UINT64_MAX, NEW_SHARD), false, &err);
    if (status == GYRE_OK)
        await(node, is_narrow);
    if (status == GYRE_OK || status == GYRE_ABORTED)
        status = ensure(node, NEW_SHARD, config_of(5, MID, UINT64_MAX, 0), false, &err);
    if (status == GYRE_OK)
        status = ensure(node, 0, config_of(6, 0, MID - 1, 0), false, &err);
    if (status != GYRE_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 3;
    }
    await(node, is_clean);
    tell(OVER);
    pthread_join(thread, NULL);
    return 0;
}

/* ---- the witness ---- */

struct acknowledged {
    uint64_t numbers[NUMBERS_MAX];
    size_t count;
};

/* Starts a node, kills it after life_ms (0: once it says that the split is over), and takes what it tells. Returns whether it was
 * over. */
static bool run_and_kill(const char *directory, uint64_t first, int life_ms, struct acknowledged *acknowledged)
{
    int ends[2];
    char first_text[32];
    snprintf(first_text, sizeof first_text, "%" PRIu64, first);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "node", directory, first_text, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    close(ends[1]);
    int64_t kill_ns = gy_now_ns() + life_ms * GY_MILLISECOND_NS;
    bool killed = false, over = false;
    for (;;) {
        struct pollfd end = {.fd = ends[0], .events = POLLIN};
        int64_t left_ms = (kill_ns - gy_now_ns()) / GY_MILLISECOND_NS;
        if (!killed && (life_ms ? left_ms <= 0 : over)) {
            assert_int_equal(kill(pid, SIGKILL), 0);
            killed = true;
        }
        poll(&end, 1, killed || !life_ms ? -1 : (int)left_ms);
        if (!(end.revents & (POLLIN | POLLHUP)))
            continue;
        uint64_t number;
        if (read(ends[0], &number, sizeof number) != (ssize_t)sizeof number)
            break; /* records are written whole, so this is the end */
        over |= number == OVER;
        if (number != OVER && acknowledged->count < NUMBERS_MAX)
            acknowledged->numbers[acknowledged->count++] = number;
    }
    close(ends[0]);
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(killed && WIFSIGNALED(how));
    return over;
}

static struct fixture_found look(gy_node *node, uint32_t shard, uint64_t number)
{
    gy_hosted *hosted;
    gyre_error err;
    struct fixture_found found;
    if (gy_node_hold(node, 7, shard, &hosted, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(fixture_look(gy_hosted_replica(hosted), number, 0, &found), GYRE_OK);
    gy_node_release(node, hosted);
    return found;
}

static bool serves(gy_node *node, uint32_t shard)
{
    gy_hosted *hosted;
    if (gy_node_hold(node, 7, shard, &hosted, NULL) != GYRE_OK)
        return false;
    gy_node_release(node, hosted);
    return true;
}

static void check(const char *directory, const struct acknowledged *acknowledged, bool over)
{
    gy_node *node = open_node(directory);
    bool both = serves(node, NEW_SHARD);
    assert_true(both || !over);
    for (size_t i = 0; i < acknowledged->count; i++) {
        uint64_t number = acknowledged->numbers[i];
        uint32_t owner = both && is_upper(number) ? NEW_SHARD : 0;
        struct fixture_found found = look(node, owner, number);
        if (!found.found || found.revision != 0)
            fail_msg("point %" PRIu64 " of shard %u: found %d", number, owner, found.found);
        if (over)
            assert_false(look(node, NEW_SHARD - owner, number).found);
    }
    assert_true(!over || is_clean(node));
    gy_node_close(node);
}

static void make_shard(const char *directory, struct acknowledged *acknowledged)
{
    gyre_error err;
    gy_node *node = open_node(directory);
    if (ensure(node, 0, config_of(4, 0, UINT64_MAX, 0), true, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(write_to(node, 0, 0, POINTS), GYRE_OK);
    gy_node_close(node);
    for (acknowledged->count = 0; acknowledged->count < POINTS; acknowledged->count++)
        acknowledged->numbers[acknowledged->count] = acknowledged->count;
}

static void a_split_that_is_killed_at_any_moment_comes_about(void **state)
{
    static struct acknowledged acknowledged;
    const char *asked = getenv("GYRE_SEED");
    unsigned seed = asked ? (unsigned)strtoul(asked, NULL, 0) : (unsigned)time(NULL);
    (void)state;
    print_message("GYRE_SEED=%u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        char *directory = fixture_directory();
        bool over = false;
        int lives = 0;
        make_shard(directory, &acknowledged);
        while (!over) {
            int life_ms = lives < LIVES_MAX ? 20 + (int)(rand_r(&seed) % LIFE_MS_MAX) : 0;
            over = run_and_kill(directory, (uint64_t)(++lives) * NUMBERS_A_LIFE, life_ms, &acknowledged);
            check(directory, &acknowledged, over);
        }
        print_message("%d lives, %zu acknowledged writes\n", lives, acknowledged.count - POINTS);
        fixture_directory_free(directory);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return be_node(argv[1], strtoull(argv[2], NULL, 10));
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_split_that_is_killed_at_any_moment_comes_about)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
