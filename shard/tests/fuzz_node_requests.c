/* Arbitrary bytes at every request's door: decode, checks, and the work itself on a small node with a real disk.
 * Input: one byte, the message type; the rest is the message. Whatever comes, there is exactly one answer. */
#include "replica_fixture.h"

#include "server/server.h"

static struct {
    gy_metrics *metrics;
    gy_node *node;
    gy_server *server;
    gyre_codebook *codebook;
    char *directory;
} world;

static void ensure_replicas(void)
{
    for (uint32_t shard = 0; shard < 2; shard++) {
        struct gy_store_identity identity = {.collection_id = 7, .shard = shard, .collection = "words"};
        gy_hosted *hosted;
        gyre_error err;
        struct gy_node_wish wish = {.identity = &identity,
                                    .member = 1,
                                    .config = fixture_config(4),
                                    .create = true,
                                    .codec = "rabitq1",
                                    .codebook = world.codebook};
        gyre_status status = gy_node_ensure(world.node, &wish, GY_NEVER, &hosted, &err);
        if (status == GYRE_OK)
            gy_node_release(world.node, hosted);
        else if (status != GYRE_ABORTED) { /* an input may have asked for a newer epoch */
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
    }
}

static void remove_world(void)
{
    gy_server_free(world.server);
    gy_node_close(world.node);
    gy_metrics_free(world.metrics);
    gyre_codebook_free(world.codebook);
    fixture_directory_free(world.directory);
}

static void make_world(void)
{
    world.directory = fixture_directory();
    static const uint8_t seed[GYRE_SEED_BYTES] = {7};
    static const float centroids[3][4] = {{1, 2, 3, 4}, {-1, 0, 0, 1}, {0, 0, 0, 0}};
    if (gyre_codebook_new_partitioned(&world.codebook, GYRE_L2, 4, 1, seed, NULL, centroids[0], 3, NULL) != GYRE_OK)
        abort();
    struct gy_node_options node = {.data_dir = world.directory,
                                   .name = "n1",
                                   .cache_bytes = 1 << 20,
                                   .memory_budget = 64 << 20,
                                   .limits = {.queue_bytes_max = 1 << 20, .disk_free_min = 1 << 20, .log_keep = 10}};
    if (gy_metrics_new(&world.metrics, NULL) != GYRE_OK || gy_node_open(&world.node, &node, NULL) != GYRE_OK)
        abort();
    struct gy_server_options server = {
        .node = world.node, .metrics = world.metrics, .scan_threads = 1, .scan_queue = 4, .message_bytes_max = 1 << 20};
    if (gy_server_new(&world.server, &server, NULL) != GYRE_OK)
        abort();
    ensure_replicas();
    atexit(remove_world);
}

static void on_answer(void *arg, gyre_status status, const gyre_error *err, const uint8_t *body, size_t bytes)
{
    (void)body, (void)bytes;
    fixture_on_written(arg, status, err, 0, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes == 0)
        return 0;
    if (!world.server)
        make_world();
    struct fixture_answer answer = FIXTURE_ANSWER;
    gy_server_submit(world.server, data[0], data + 1, bytes - 1, gy_now_ns() + 10 * GY_SECOND_NS, on_answer, &answer);
    fixture_wait(&answer);
    if (data[0] == GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA && answer.status == GYRE_OK)
        ensure_replicas();
    return 0;
}
