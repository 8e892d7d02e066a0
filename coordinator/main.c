/* gyre-coordinator: wiring only. What is started here in order is stopped in the opposite order. */
#include "api/cluster.h"
#include "api/collections.h"
#include "api/points.h"
#include "catalog/embedded.h"
#include "catalog/migrate.h"
#include "http/pages.h"
#include "placement/placement.h"

#include "gyre/bus.h"
#include "gyre/config.h"
#include "gyre/http.h"
#include "gyre/lifecycle.h"
#include "gyre/log.h"
#include "gyre/simd.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, PATH_BYTES = 4096, READY_BYTES = 1024 };

enum {
    COLLECTIONS_THREADS = 8, /* creating and training wait for nodes */
    CLUSTER_THREADS = 2,     /* status waits for nobody */
};

struct options {
    char *listen, *bus_listen, *http_listen, *data_dir, *cluster_key_file, *catalog, *log_level;
    char *etcd_endpoints, *etcd_prefix, *etcd_ca, *etcd_cert, *etcd_key;
    uint64_t api_threads, api_queue, message_bytes_max, heartbeat_ms, replace_after_ms, moves_max, drain_ms, ready_fd;
    bool allow_insecure_listen, balance, migrate_to_etcd;
};

#define FIELD(name) offsetof(struct options, name)
static const struct gy_option option_table[] = {
    {"data-dir", GY_OPTION_TEXT, FIELD(data_dir), NULL, 0, 0, "DIR", "where the catalog is kept; one process only"},
    {"cluster-key-file", GY_OPTION_TEXT, FIELD(cluster_key_file), NULL, 0, 0, "FILE",
     "the cluster's key: 64 hex digits, readable by its owner only"},
    {"listen", GY_OPTION_TEXT, FIELD(listen), "127.0.0.1:7700", 0, 0, "ADDRESS", "where clients reach it (gRPC); port 0 for any"},
    {"bus-listen", GY_OPTION_TEXT, FIELD(bus_listen), "127.0.0.1:7601", 0, 0, "ADDRESS",
     "where shard daemons report; port 0 for any"},
    {"http-listen", GY_OPTION_TEXT, FIELD(http_listen), "127.0.0.1:7600", 0, 0, "ADDRESS",
     "status page, /metrics and /healthz; port 0 for any"},
    {"allow-insecure-listen", GY_OPTION_SWITCH, FIELD(allow_insecure_listen), "off", 0, 0, "",
     "listen and http-listen may leave loopback, though this version has neither TLS nor API keys for them"},
    {"catalog", GY_OPTION_TEXT, FIELD(catalog), "embedded", 0, 0, "BACKEND",
     "where the catalog is: embedded (in the data directory) or etcd"},
    {"etcd-endpoints", GY_OPTION_TEXT, FIELD(etcd_endpoints), "", 0, 0, "ADDRESS,…", "every member of etcd, host:port"},
    {"etcd-prefix", GY_OPTION_TEXT, FIELD(etcd_prefix), "/gyre/", 0, 0, "PREFIX",
     "of this cluster's keys in etcd: one of its own"},
    {"etcd-ca", GY_OPTION_TEXT, FIELD(etcd_ca), "", 0, 0, "FILE",
     "who signs the certificates of etcd's members (PEM); speak TLS to them"},
    {"etcd-cert", GY_OPTION_TEXT, FIELD(etcd_cert), "", 0, 0, "FILE", "the certificate to show to etcd (PEM)"},
    {"etcd-key", GY_OPTION_TEXT, FIELD(etcd_key), "", 0, 0, "FILE", "its private key (PEM)"},
    {"migrate-to-etcd", GY_OPTION_SWITCH, FIELD(migrate_to_etcd), "off", 0, 0, "",
     "copy the data directory's catalog into etcd, check the copy, and end; then start with --catalog etcd"},
    {"api-threads", GY_OPTION_COUNT, FIELD(api_threads), "32", 1, 1024, "N", "searches and reads worked on at once, and as many writes"},
    {"api-queue", GY_OPTION_COUNT, FIELD(api_queue), "1024", 1, 1 << 20, "N", "calls that may wait; more are refused"},
    {"message-bytes-max", GY_OPTION_BYTES, FIELD(message_bytes_max), "64M", 1 << 12, UINT64_C(256) << 20, "BYTES",
     "largest request of a client"},
    {"heartbeat-ms", GY_OPTION_MILLIS, FIELD(heartbeat_ms), "500", 50, 60000, "TIME",
     "how often shard daemons are asked to report"},
    {"replace-after", GY_OPTION_MILLIS, FIELD(replace_after_ms), "300s", 1000, 7 * 24 * 3600 * 1000, "TIME",
     "when a replica on a shard daemon that is silent is made anew on another"},
    {"moves", GY_OPTION_COUNT, FIELD(moves_max), "4", 1, 1024, "N", "replicas that leave draining or fuller shard daemons at a time"},
    {"balance", GY_OPTION_SWITCH, FIELD(balance), "on", 0, 0, "",
     "replicas and primaries are moved, when nothing else is to do, until shard daemons carry about the same"},
    {"drain-ms", GY_OPTION_MILLIS, FIELD(drain_ms), "10s", 0, 600000, "TIME",
     "how long running calls may take when it is told to stop"},
    {"log-level", GY_OPTION_TEXT, FIELD(log_level), "info", 0, 0, "LEVEL", "debug, info, warn or error"},
    {"ready-fd", GY_OPTION_COUNT, FIELD(ready_fd), "0", 0, 1 << 20, "FD", "write one JSON line here when serving; 0: do not"},
};

static const struct gy_program program = {
    .name = "gyre-coordinator",
    .summary = "Knows the nodes and collections of a cluster, and answers its clients.",
    .examples = "  gyre-coordinator --data-dir /var/lib/gyre/coordinator --cluster-key-file /etc/gyre/cluster.key\n"
                "  gyre-coordinator --config /etc/gyre/gyre.ini --bus-listen 10.0.0.1:7601\n"
                "  gyre-coordinator --config /etc/gyre/gyre.ini --etcd-endpoints e1:2379,e2:2379,e3:2379 --migrate-to-etcd\n",
    .options = option_table,
    .option_count = sizeof option_table / sizeof *option_table,
};

/* Everything that runs, in the order it was started; NULL: not started. */
struct daemon {
    int lock_fd;
    gy_metrics *metrics;
    gy_catalog *catalog;
    gy_placement *placement;
    gy_bus *bus;
    /* Apart, so that writes that are stuck do not hold up searches, nor these hide the cluster's state. */
    gy_pool *reads_pool, *writes_pool, *collections_pool, *cluster_pool;
    gy_collections_service *collections;
    gy_points_service *points;
    gy_cluster_service *cluster;
    gy_rpc_server *server;
    struct gy_pages pages;
    gy_http *http;
    atomic_bool draining;
};

static const char *trouble(void *self)
{
    const struct daemon *daemon = self;
    return atomic_load(&daemon->draining) ? "draining: the process is about to end" : NULL;
}

/* Whether an address is reached from this machine only. */
static bool loopback(const char *address)
{
    const char *colon = strrchr(address, ':');
    char host[INET6_ADDRSTRLEN];
    size_t bytes = colon ? (size_t)(colon - address) : strlen(address);
    if (bytes >= sizeof host)
        return false;
    memcpy(host, address, bytes);
    host[bytes] = '\0';
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static gyre_status check_options(const struct options *options, gyre_error *err)
{
    gy_log_level level;
    if (!gy_log_parse_level(options->log_level, &level))
        return gyre_fail(err, GYRE_INVALID, "log-level '%s'; it is debug, info, warn or error", options->log_level);
    gy_log_set_level(level);
    bool etcd = strcmp(options->catalog, "etcd") == 0;
    if (!etcd && strcmp(options->catalog, "embedded") != 0)
        return gyre_fail(err, GYRE_INVALID, "catalog '%s'; it is embedded or etcd", options->catalog);
    if ((etcd || options->migrate_to_etcd) && !options->etcd_endpoints[0])
        return gyre_fail(err, GYRE_INVALID, "etcd-endpoints must be given with catalog etcd and with migrate-to-etcd");
    const struct {
        const char *name, *address;
    } doors[] = {{"listen", options->listen}, {"http-listen", options->http_listen}};
    for (size_t i = 0; i < sizeof doors / sizeof *doors; i++)
        if (!loopback(doors[i].address) && !options->allow_insecure_listen)
            return gyre_fail(err, GYRE_INVALID,
                             "%s is %s, which other machines can reach, and this version has neither TLS nor API keys for it; "
                             "use a loopback address, or say --allow-insecure-listen",
                             doors[i].name, doors[i].address);
    return gyre_simd_select(getenv("GYRE_SIMD"), err);
}

static gyre_status open_bus(struct daemon *daemon, const struct options *options, gyre_error *err)
{
    uint8_t key[GY_BUS_KEY_BYTES];
    GY_TRY(gy_key_file_read(options->cluster_key_file, key, err));
    struct gy_bus_options bus = {
        .listen = options->bus_listen,
        .cluster_key = key,
        .node = "coordinator",
        .on_request = gy_placement_on_request,
        .self = daemon->placement,
    };
    gyre_status status = gy_bus_open(&daemon->bus, &bus, err);
    sodium_memzero(key, sizeof key);
    return status;
}

/* Locks the data directory and names the embedded catalog's in it. */
static gyre_status take_data_dir(struct daemon *daemon, const struct options *options, char path[static PATH_BYTES],
                                 gyre_error *err)
{
    if (snprintf(path, PATH_BYTES, "%s/catalog", options->data_dir) >= PATH_BYTES)
        return gyre_fail(err, GYRE_INVALID, "data-dir of %zu bytes; the limit is %d", strlen(options->data_dir), PATH_BYTES - 16);
    gyre_status status = gy_dir_lock(options->data_dir, &daemon->lock_fd, err); /* held until the process ends */
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "data-dir");
}

static struct gy_etcd_options etcd_options(const struct options *options)
{
    return (struct gy_etcd_options){
        .endpoints = options->etcd_endpoints, .prefix = options->etcd_prefix, .ca_file = options->etcd_ca,
        .cert_file = options->etcd_cert, .key_file = options->etcd_key,
    };
}

static gyre_status open_etcd(struct daemon *daemon, const struct options *options, const char *path, gyre_error *err)
{
    /* One that nobody migrated is the cluster's: an empty one in its place would lose everything. */
    if (gy_embedded_exists(path)) {
        char moved_to[GY_MOVED_TO_BYTES_MAX + 1];
        GY_AUTO(gy_catalog) *embedded = NULL;
        GY_TRY(gy_embedded_open_moved(&embedded, path, moved_to, err));
        if (!moved_to[0])
            return gyre_fail(err, GYRE_PRECONDITION,
                             "%s has a catalog that was not migrated: run gyre-coordinator --migrate-to-etcd, or use another "
                             "data-dir",
                             path);
    }
    struct gy_etcd_options etcd = etcd_options(options);
    return gy_catalog_etcd_open(&daemon->catalog, &etcd, err);
}

static gyre_status start_core(struct daemon *daemon, const struct options *options, gyre_error *err)
{
    char path[PATH_BYTES];
    GY_TRY(take_data_dir(daemon, options, path, err));
    GY_TRY(gy_metrics_new(&daemon->metrics, err));
    GY_TRY(strcmp(options->catalog, "etcd") == 0 ? open_etcd(daemon, options, path, err)
                                                 : gy_catalog_embedded_open(&daemon->catalog, path, err));
    struct gy_placement_options placement = {
        .catalog = daemon->catalog, .metrics = daemon->metrics, .heartbeat_ms = (uint32_t)options->heartbeat_ms,
        .replace_after_ns = (int64_t)options->replace_after_ms * GY_MILLISECOND_NS, .moves_max = (uint32_t)options->moves_max,
        .even_every_ns = options->balance ? GY_EVEN_EVERY_NS : 0,
    };
    GY_TRY(gy_placement_new(&daemon->placement, &placement, err));
    GY_TRY(open_bus(daemon, options, err));
    return gy_placement_start(daemon->placement, daemon->bus, err);
}

static gyre_status start_services(struct daemon *daemon, const struct options *options, gyre_error *err)
{
    GY_TRY(gy_pool_new(&daemon->reads_pool, "reads", options->api_threads, options->api_queue, err));
    GY_TRY(gy_pool_new_behind(&daemon->writes_pool, "writes", options->api_threads, options->api_queue, GY_WRITES_STAND_BACK,
                              err));
    GY_TRY(gy_pool_new(&daemon->collections_pool, "collection", COLLECTIONS_THREADS, options->api_queue, err));
    GY_TRY(gy_pool_new(&daemon->cluster_pool, "cluster", CLUSTER_THREADS, options->api_queue, err));
    GY_TRY(gy_collections_service_new(&daemon->collections, daemon->placement, daemon->collections_pool, daemon->metrics, err));
    GY_TRY(gy_points_service_new(&daemon->points, gy_placement_routing(daemon->placement), daemon->reads_pool, daemon->writes_pool,
                                 daemon->metrics, err));
    GY_TRY(gy_cluster_service_new(&daemon->cluster, daemon->placement, daemon->cluster_pool, daemon->metrics, err));
    struct gy_rpc_method methods[GY_COLLECTIONS_METHODS + GY_POINTS_METHODS + GY_CLUSTER_METHODS];
    gy_collections_service_methods(daemon->collections, methods);
    gy_points_service_methods(daemon->points, methods + GY_COLLECTIONS_METHODS);
    gy_cluster_service_methods(daemon->cluster, methods + GY_COLLECTIONS_METHODS + GY_POINTS_METHODS);
    struct gy_rpc_server_options server = {
        .listen = options->listen,
        .message_bytes_max = options->message_bytes_max,
        .methods = methods,
        .method_count = sizeof methods / sizeof *methods,
        .descriptors = gyre_v1_descriptors,
        .descriptors_bytes = gyre_v1_descriptors_bytes,
    };
    GY_TRY(gy_rpc_server_open(&daemon->server, &server, err));
    gy_cluster_service_set_address(daemon->cluster, gy_rpc_server_address(daemon->server));
    struct gy_http_page pages[GY_PAGES];
    daemon->pages = (struct gy_pages){daemon->cluster, daemon->placement};
    gy_pages_init(&daemon->pages, pages);
    struct gy_http_options http = {
        .listen = options->http_listen,
        .metrics = daemon->metrics,
        .trouble = trouble,
        .self = daemon,
        .pages = pages,
        .page_count = GY_PAGES,
    };
    return gy_http_open(&daemon->http, &http, err);
}

/* First no new call comes in and the running ones end; then nobody needs the nodes; then the catalog closes. */
static void stop(struct daemon *daemon, int64_t grace_ns)
{
    atomic_store(&daemon->draining, true);
    if (daemon->placement)
        gy_placement_begin_stop(daemon->placement);
    if (daemon->server) {
        gy_rpc_server_set_serving(daemon->server, false);
        gy_rpc_server_close(daemon->server, grace_ns);
    }
    if (daemon->http)
        gy_http_close(daemon->http);
    gy_pool_free(daemon->reads_pool);
    gy_pool_free(daemon->writes_pool);
    gy_pool_free(daemon->collections_pool);
    gy_pool_free(daemon->cluster_pool);
    gy_cluster_service_free(daemon->cluster);
    if (daemon->points)
        gy_points_service_free(daemon->points);
    gy_collections_service_free(daemon->collections);
    if (daemon->placement)
        gy_placement_stop(daemon->placement);
    if (daemon->bus)
        gy_bus_close(daemon->bus);
    gy_placement_free(daemon->placement);
    gy_catalog_close(daemon->catalog);
    if (daemon->metrics)
        gy_metrics_free(daemon->metrics);
    if (daemon->lock_fd >= 0)
        close(daemon->lock_fd);
}

static int serve(struct daemon *daemon, const struct options *options)
{
    const char *grpc = gy_rpc_server_address(daemon->server), *bus = gy_bus_address(daemon->bus),
               *http = gy_http_address(daemon->http);
    char line[READY_BYTES];
    snprintf(line, sizeof line, "{\"grpc\":\"%s\",\"bus\":\"%s\",\"http\":\"%s\",\"pid\":%d}", grpc, bus, http, (int)getpid());
    gy_rpc_server_set_serving(daemon->server, true);
    gy_log(GY_LOG_INFO, "serving", "grpc=%s bus=%s http=%s cluster=%s version=%s simd=%s", grpc, bus, http,
           gy_placement_cluster_id(daemon->placement), gy_version(), gyre_simd_name());
    gy_ready_tell(options->ready_fd ? (int)options->ready_fd : -1, line);
    int signal_number = gy_stop_wait();
    gy_log(GY_LOG_INFO, "stopping", "signal=%d", signal_number);
    stop(daemon, (int64_t)options->drain_ms * GY_MILLISECOND_NS);
    gy_log(GY_LOG_INFO, "stopped", "pid=%d", (int)getpid());
    return gy_stop_exit_code();
}

static int migrate(const struct options *options)
{
    char path[PATH_BYTES];
    gyre_error err;
    struct daemon daemon = {.lock_fd = -1};
    struct gy_migrated migrated;
    struct gy_etcd_options etcd = etcd_options(options);
    gyre_status status = take_data_dir(&daemon, options, path, &err);
    if (status == GYRE_OK)
        status = gy_catalog_migrate(path, &etcd, &migrated, &err);
    if (daemon.lock_fd >= 0)
        close(daemon.lock_fd);
    if (status != GYRE_OK) {
        fprintf(stderr, "gyre-coordinator: not migrated: %s\n", err.text);
        return EXIT_FAILED;
    }
    printf("migrated %zu keys, %" PRIu64 " bytes, to etcd %s, prefix %s; read back and equal. Start the coordinator with "
           "--catalog etcd.\n",
           migrated.keys, migrated.bytes, options->etcd_endpoints, options->etcd_prefix);
    return EXIT_OK;
}

static int run(const struct options *options)
{
    gyre_error err;
    if (check_options(options, &err) != GYRE_OK) {
        fprintf(stderr, "gyre-coordinator: %s\n", err.text);
        return EXIT_USAGE;
    }
    if (options->migrate_to_etcd)
        return migrate(options);
    struct daemon daemon = {.lock_fd = -1};
    gyre_status status = gy_stop_init(&err);
    if (status == GYRE_OK)
        status = start_core(&daemon, options, &err);
    if (status == GYRE_OK)
        status = start_services(&daemon, options, &err);
    if (status == GYRE_OK)
        return serve(&daemon, options);
    gy_log(GY_LOG_ERROR, "not_started", "status=%s error=%s", gyre_status_name(status), err.text);
    stop(&daemon, 0);
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    gyre_error err;
    struct options options = {0};
    bool done = false;
    /* gRPC core's own lines have another form than the log's; whoever sets the variable gets them. */
    setenv("GRPC_VERBOSITY", "NONE", 0);
    /* First of all: without it libsodium runs its slow reference code. */
    if (sodium_init() < 0) {
        fprintf(stderr, "gyre-coordinator: libsodium cannot start\n");
        return EXIT_FAILED;
    }
    if (gy_config_read(&program, argc, argv, &options, &done, &err) != GYRE_OK) {
        fprintf(stderr, "gyre-coordinator: %s\n", err.text);
        return EXIT_USAGE;
    }
    int code = done ? EXIT_OK : run(&options);
    gy_config_free(&program, &options);
    return code;
}
