/* incoming: one request inside the server, from its arrival to its one answer. */
#ifndef GY_SERVER_INCOMING_H
#define GY_SERVER_INCOMING_H

#include "server/server.h"
#include "server/stats.h"

#include "gyre/pool.h"

enum gy_lane { GY_LANE_ADMIN, GY_LANE_WRITE, GY_LANE_APPEND, GY_LANE_COPY, GY_LANE_READ, GY_LANE_SCAN, GY_LANE_SCRUB, GY_LANE_COUNT };

struct gy_server {
    gy_node *node;
    gy_pool *lanes[GY_LANE_COUNT];
    struct gy_scan_line *scans;    /* that wait for the scan lane */
    struct gy_scrubs *scrubs;       /* borrowed; NULL: none are served */
    struct gy_snapshots *snapshots; /* that members are being built from */
    size_t helpers[GY_LANE_COUNT]; /* threads of each lane beside the one that serves */
    size_t message_bytes_max;
    gy_stats stats;
};

typedef struct gy_incoming gy_incoming;

/* Serves a request whose message was unpacked: owns message (gy_wire_free), answers call once, now or later. Runs on the lane's
 * pool; on the scan lane where the request arrived, so that it must not work there: scan.c lines requests up by itself. */
typedef void gy_serve(gy_incoming *call, void *message);

struct gy_route {
    uint16_t type;
    enum gy_lane lane;
    const char *name; /* for metrics */
    const ProtobufCMessageDescriptor *message;
    gy_serve *serve;
};

struct gy_incoming {
    gy_server *server;
    const struct gy_route *route;
    const uint8_t *body; /* the bus's, or owned */
    size_t bytes;
    uint8_t *owned;
    int64_t arrived_ns, deadline_ns;
    gy_bus_request *request; /* answered through the bus, or: */
    gy_on_answer *on_answer;
    void *arg;
};

/* Answer and free the call. reply is packed before this returns. */
void gy_incoming_reply(gy_incoming *call, const ProtobufCMessage *reply);
void gy_incoming_fail(gy_incoming *call, gyre_status status, const gyre_error *err);

/* One of each request (its own file). */
gy_serve gy_serve_ensure, gy_serve_drop, gy_serve_sum, gy_serve_sample, gy_serve_write, gy_serve_append, gy_serve_snapshot, gy_serve_read,
    gy_serve_count, gy_serve_scan, gy_serve_distances,
    gy_serve_scrub;

/* Scans that wait for their turn (scan.c). */
GYRE_CHECKED gyre_status gy_scan_line_new(struct gy_scan_line **out, size_t places, gyre_error *err);
void gy_scan_line_free(struct gy_scan_line *line); /* nothing may wait any more; NULL is fine */
size_t gy_scan_line_count(struct gy_scan_line *line);

/* States of replicas that other members are being built from (snapshot.c). */
GYRE_CHECKED gyre_status gy_snapshots_new(struct gy_snapshots **out, gy_node *node, gyre_error *err);
void gy_snapshots_free(struct gy_snapshots *snapshots); /* NULL is fine */
/* Lets go of those of a replica, which is about to be dropped. */
void gy_snapshots_end(struct gy_snapshots *snapshots, uint64_t collection_id, uint32_t shard);

/* Whether a replica has applied seq min_seq; if not, GYRE_UNAVAILABLE says how far behind it is. */
GYRE_CHECKED gyre_status gy_check_behind(uint64_t applied_seq, uint64_t min_seq, gyre_error *err);

/* Limits of one request. */
enum {
    GY_REQUEST_SHARDS_MAX = 1024,
    GY_REQUEST_IDS_MAX = 1 << 20,
};

/* A range of hashes, {0, 0}: whatever the replica owns. GYRE_INVALID if it is none. */
GYRE_CHECKED gyre_status gy_check_range(uint64_t hash_first, uint64_t hash_last, gyre_error *err);
/* One for each of n_shards, or none at all. */
GYRE_CHECKED gyre_status gy_check_ranges(size_t n_shards, const uint64_t *hash_firsts, size_t n_hash_firsts,
                                         const uint64_t *hash_lasts, size_t n_hash_lasts, gyre_error *err);
/* Whether what was read of ids up to now is all there was to read: what a shard has no longer, since it was split, it never has
 * again. newest: and nobody else has anything newer. If not, GYRE_ABORTED. */
GYRE_CHECKED gyre_status gy_check_had(gy_replica *replica, const gyre_point_id *ids, size_t count, bool newest, gyre_error *err);

/* A bytes field of packed f32 rows: checks that it is whole rows of dim finite floats, each a vector of the metric, and not more
 * than rows_max of them. field names it in the sentence. */
GYRE_CHECKED gyre_status gy_check_vectors(const char *field, const ProtobufCBinaryData *data, gyre_metric metric, uint32_t dim,
                                          size_t rows_max, size_t *rows, gyre_error *err);
/* A bytes field of packed ids: whole, valid, 1 to ids_max of them. */
GYRE_CHECKED gyre_status gy_check_ids(const char *field, const ProtobufCBinaryData *data, size_t ids_max, size_t *count,
                                      gyre_error *err);
/* What a collection's vectors are, as far as this replica knows; false if it is not here. */
bool gy_learn_facts(gy_node *node, uint64_t collection_id, uint32_t shard, uint32_t *dim, gyre_metric *metric);
/* Packed little-endian f32 as floats; data is at a place malloc gave, as every bytes field of an unpacked message is. */
const float *gy_floats(const ProtobufCBinaryData *data);
/* The same for u32. */
const uint32_t *gy_numbers(const ProtobufCBinaryData *data);
/* The other way: the floats become bytes where they are. */
ProtobufCBinaryData gy_as_bytes(float *values, size_t count);

#endif
