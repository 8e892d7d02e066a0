/* gyre-shard: wiring only. What is started here in order is stopped in the opposite order. */
#include "server/datadir.h"
#include "server/fsck.h"
#include "server/gauges.h"
#include "server/node.h"
#include "server/report.h"
#include "server/scrub.h"
#include "server/server.h"

#include "gyre/bus.h"
#include "gyre/config.h"
#include "gyre/http.h"
#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "gyre/simd.h"

#include <malloc.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Messages are many small blocks, made on one thread and freed on another; with glibc's default of 8 arenas a core each keeps
 * what it once held: 245 MB resident after an import of 340,000 x 100, 178 MB with two arenas, at the same speed. */
enum { MALLOC_ARENAS = 2 };

enum { OTHER_REQUESTS = 256, REQUESTS_MAX = 16384 /* the bus's limit */ };

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

struct options {
    char *listen, *advertise, *http_listen, *data_dir, *coordinators, *cluster_key_file, *node, *zone, *log_level;
    uint64_t scan_threads, scan_queue, cache_bytes, memory_budget, disk_free_min, log_keep, write_queue_bytes, message_bytes_max,
        scrub_hours,
        ready_fd;
};

#define FIELD(name) offsetof(struct options, name)
static const struct gy_option option_table[] = {
    {"data-dir", GY_OPTION_TEXT, FIELD(data_dir), NULL, 0, 0, "DIR", "where this node keeps its replicas; one process only"},
    {"cluster-key-file", GY_OPTION_TEXT, FIELD(cluster_key_file), NULL, 0, 0, "FILE",
     "the cluster's key: 64 hex digits, readable by its owner only"},
    {"listen", GY_OPTION_TEXT, FIELD(listen), "127.0.0.1:7701", 0, 0, "ADDRESS",
     "where other nodes reach this one; port 0 for any"},
    {"advertise", GY_OPTION_TEXT, FIELD(advertise), "", 0, 0, "ADDRESS",
     "what other nodes are told to dial; default: the address listened on"},
    {"http-listen", GY_OPTION_TEXT, FIELD(http_listen), "127.0.0.1:7702", 0, 0, "ADDRESS",
     "where /metrics and /healthz are; port 0 for any"},
    {"coordinators", GY_OPTION_TEXT, FIELD(coordinators), "", 0, 0, "ADDRESSES",
     "bus addresses of the coordinators, separated by commas"},
    {"node", GY_OPTION_TEXT, FIELD(node), "", 0, 0, "NAME",
     "this node's name; default: the one in the data directory, or a new random one"},
    {"zone", GY_OPTION_TEXT, FIELD(zone), "", 0, 0, "LABEL",
     "what fails together with this node, as a rack or a site: copies of a shard go to different zones where they can"},
    {"scan-threads", GY_OPTION_COUNT, FIELD(scan_threads), "0", 0, 1024, "N", "threads that scan; 0: one per core"},
    {"scan-queue", GY_OPTION_COUNT, FIELD(scan_queue), "1024", 1, 1 << 20, "N", "scans that may wait; more are refused"},
    {"cache-bytes", GY_OPTION_BYTES, FIELD(cache_bytes), "32M", 1 << 20, UINT64_C(1) << 40, "BYTES",
     "block cache shared by all replicas"},
    {"memory-budget", GY_OPTION_MEMORY, FIELD(memory_budget), "85%", 1 << 20, UINT64_C(1) << 50, "BYTES|%",
     "what codes in RAM may take, or a share of the machine's (or its control group's) memory; upserts beyond are refused"},
    /* A replica may hold about 32 MiB unflushed and write it back in addition to its log; many replicas share the disk. */
    {"disk-free-min", GY_OPTION_BYTES, FIELD(disk_free_min), "512M", 1 << 20, UINT64_C(1) << 50, "BYTES",
     "refuse writes when the disk has less free; reads go on"},
    {"log-keep", GY_OPTION_COUNT, FIELD(log_keep), "256", 0, UINT64_C(1) << 32, "N",
     "applied log entries kept per replica, for followers that catch up; of large ones fewer"},
    {"write-queue-bytes", GY_OPTION_BYTES, FIELD(write_queue_bytes), "32M", 1 << 20, UINT64_C(1) << 32, "BYTES",
     "writes that may wait per replica, and the largest single one"},
    {"message-bytes-max", GY_OPTION_BYTES, FIELD(message_bytes_max), "256M", 1 << 20, GY_BUS_MESSAGE_BYTES_MAX, "BYTES",
     "largest request and reply"},
    {"scrub-hours", GY_OPTION_COUNT, FIELD(scrub_hours), "24", 0, 24 * 365, "N",
     "read and check each replica's data on disk once in so many hours; 0: only when asked"},
    {"log-level", GY_OPTION_TEXT, FIELD(log_level), "info", 0, 0, "LEVEL", "debug, info, warn or error"},
    {"ready-fd", GY_OPTION_COUNT, FIELD(ready_fd), "0", 0, 1 << 20, "FD", "write one JSON line here when serving; 0: do not"},
};

static const struct gy_program program = {
    .name = "gyre-shard",
    .summary = "Holds shards of vector collections and answers the coordinators' searches over them.",
    .examples = "  gyre-shard --fsck /var/lib/gyre    (checks what a stopped one keeps, and ends)\n"
                "  gyre-shard --data-dir /var/lib/gyre --cluster-key-file /etc/gyre/cluster.key --coordinators 10.0.0.1:7601\n"
                "  GYRE_SHARD_LISTEN=10.0.0.7:7701 gyre-shard --config /etc/gyre/gyre.ini\n",
    .options = option_table,
    .option_count = sizeof option_table / sizeof *option_table,
};

/* Everything that runs, in the order it was started; NULL: not started. */
struct daemon {
    int lock_fd;
    char name[GY_NODE_NAME_BYTES];
    gy_metrics *metrics;
    gy_node *node;
    gy_scrubs *scrubs;
    gy_server *server;
    gy_bus *bus;
    gy_http *http;
    gy_report *report;
    atomic_bool draining;
};

static const char *trouble(void *self)
{
    const struct daemon *daemon = self;
    return atomic_load(&daemon->draining) ? "draining: the process is about to end" : NULL;
}

static size_t core_count(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 1 ? (size_t)cores : 1;
}

static gyre_status start_node(struct daemon *daemon, const struct options *options, gyre_error *err)
{
    GY_TRY(gy_datadir_lock(options->data_dir, &daemon->lock_fd, err));
    GY_TRY(gy_datadir_name(options->data_dir, options->node, daemon->name, err));
    GY_TRY(gy_metrics_new(&daemon->metrics, err));
    struct gy_node_options node = {
        .data_dir = options->data_dir,
        .name = daemon->name,
        .cache_bytes = options->cache_bytes,
        .memory_budget = options->memory_budget,
        .limits = {.queue_bytes_max = options->write_queue_bytes,
                   .disk_free_min = options->disk_free_min,
                   .log_keep = options->log_keep},
    };
    GY_TRY(gy_node_open(&daemon->node, &node, err));
    gy_gauges_new(daemon->metrics, daemon->node);
    struct gy_scrub_options scrubs = {.node = daemon->node,
                                      .metrics = daemon->metrics,
                                      .interval_ns = (int64_t)options->scrub_hours * 3600 * GY_SECOND_NS};
    GY_TRY(gy_scrubs_new(&daemon->scrubs, &scrubs, err));
    struct gy_server_options server = {
        .node = daemon->node,
        .scrubs = daemon->scrubs,
        .metrics = daemon->metrics,
        .scan_threads = options->scan_threads ? options->scan_threads : core_count(),
        .scan_queue = options->scan_queue,
        .message_bytes_max = options->message_bytes_max,
    };
    return gy_server_new(&daemon->server, &server, err);
}

/* As many as may wait here and some that are worked on, so that it is the queues that refuse, each its own kind, and not one
 * connection that is read no further. */
static uint32_t requests_max(const struct options *options)
{
    uint64_t wanted = options->scan_queue + OTHER_REQUESTS;
    return wanted < REQUESTS_MAX ? (uint32_t)wanted : REQUESTS_MAX;
}

static gyre_status start_doors(struct daemon *daemon, const struct options *options, gyre_error *err)
{
    uint8_t key[GY_BUS_KEY_BYTES];
    GY_TRY(gy_key_file_read(options->cluster_key_file, key, err));
    struct gy_bus_options bus = {
        .listen = options->listen,
        .cluster_key = key,
        .node = daemon->name,
        .message_bytes_max = options->message_bytes_max,
        .requests_max = requests_max(options),
        .on_request = gy_server_on_request,
        .self = daemon->server,
    };
    gyre_status status = gy_bus_open(&daemon->bus, &bus, err);
    sodium_memzero(key, sizeof key);
    GY_TRY(status);
    GY_TRY(gy_links_start(gy_node_links(daemon->node), daemon->bus, options->coordinators, err));
    struct gy_http_options http = {
        .listen = options->http_listen, .metrics = daemon->metrics, .trouble = trouble, .self = daemon};
    GY_TRY(gy_http_open(&daemon->http, &http, err));
    struct gy_report_options report = {
        .node = daemon->node,
        .bus = daemon->bus,
        .coordinators = options->coordinators,
        .address = *options->advertise ? options->advertise : gy_bus_address(daemon->bus),
        .http_address = gy_http_address(daemon->http),
        .zone = options->zone,
    };
    return gy_report_start(&daemon->report, &report, err);
}

/* First nothing new comes in and what came in is answered; then the replicas close. */
static void stop(struct daemon *daemon)
{
    atomic_store(&daemon->draining, true);
    gy_report_stop(daemon->report);
    if (daemon->scrubs)
        gy_scrubs_stop(daemon->scrubs);
    if (daemon->node)
        gy_node_end_writes(daemon->node);
    if (daemon->bus)
        gy_bus_close(daemon->bus);
    if (daemon->http)
        gy_http_close(daemon->http);
    gy_server_free(daemon->server);
    gy_scrubs_free(daemon->scrubs);
    gy_node_close(daemon->node);
    if (daemon->metrics)
        gy_metrics_free(daemon->metrics);
    if (daemon->lock_fd >= 0)
        close(daemon->lock_fd);
}

static int serve(struct daemon *daemon, const struct options *options)
{
    char line[512];
    snprintf(line, sizeof line, "{\"node\":\"%s\",\"bus\":\"%s\",\"http\":\"%s\",\"pid\":%d}", daemon->name,
             gy_bus_address(daemon->bus), gy_http_address(daemon->http), (int)getpid());
    gy_log(GY_LOG_INFO, "serving", "node=%s bus=%s http=%s version=%s simd=%s", daemon->name, gy_bus_address(daemon->bus),
           gy_http_address(daemon->http), gy_version(), gyre_simd_name());
    gy_ready_tell(options->ready_fd ? (int)options->ready_fd : -1, line);
    int signal_number = gy_stop_wait();
    gy_log(GY_LOG_INFO, "stopping", "signal=%d", signal_number);
    stop(daemon);
    gy_log(GY_LOG_INFO, "stopped", "node=%s", daemon->name);
    return gy_stop_exit_code();
}

static int usage_error(const gyre_error *err)
{
    fprintf(stderr, "gyre-shard: %s\n", err->text);
    return EXIT_USAGE;
}

static int run(const struct options *options)
{
    gyre_error err;
    gy_log_level level;
    if (!gy_log_parse_level(options->log_level, &level)) {
        GY_IGNORE(gyre_fail(&err, GYRE_INVALID, "log-level '%s'; it is debug, info, warn or error",
                            options->log_level)); /* printed below */
        return usage_error(&err);
    }
    gy_log_set_level(level);
    if (gy_report_zone_check(options->zone, &err) != GYRE_OK)
        return usage_error(&err);
    if (gyre_simd_select(getenv("GYRE_SIMD"), &err) != GYRE_OK)
        return usage_error(&err);
    struct daemon daemon = {.lock_fd = -1};
    gyre_status status = gy_stop_init(&err);
    if (status == GYRE_OK)
        status = start_node(&daemon, options, &err);
    if (status == GYRE_OK)
        status = start_doors(&daemon, options, &err);
    if (status == GYRE_OK)
        return serve(&daemon, options);
    gy_log(GY_LOG_ERROR, "not_started", "status=%s error=%s", gyre_status_name(status), err.text);
    stop(&daemon);
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    gyre_error err;
    struct options options = {0};
    bool done = false;
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    /* First of all: without it libsodium runs its slow reference code. */
    if (sodium_init() < 0) {
        fprintf(stderr, "gyre-shard: libsodium cannot start\n");
        return EXIT_FAILED;
    }
    if (argc > 1 && strcmp(argv[1], "--fsck") == 0)
        return gy_fsck_main(argc - 2, argv + 2);
    if (gy_config_read(&program, argc, argv, &options, &done, &err) != GYRE_OK)
        return usage_error(&err);
    int code = done ? EXIT_OK : run(&options);
    gy_config_free(&program, &options);
    return code;
}
