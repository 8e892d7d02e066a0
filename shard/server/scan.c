/* SCAN: candidates of one or more of a collection's shards here.
 *
 * A scan is unpacked where it arrived, which costs less than the unsealing that went on there, and stands in line with its
 * collection's (turns.h). For each that stands in line one job is in the pool; a job takes whoever's turn it is, and along with
 * it other scans of that collection that ask for the same: they share the pass over the codes. Nobody waits for others to come:
 * when the node is idle none is there to go along, the longer the line the more do. */
#include "server/scan_call.h"

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>

enum {
    GATHER_LOOK_MAX = 64, /* of a line's scans are compared with the one whose turn it is */
    COST_BYTES = 4096,    /* of queries: a line pays for bytes, as the work grows with dimensions and queries alike */
};

struct gy_scan_line {
    pthread_mutex_t mu;
    /* Guarded by mu. Jobs in the pool = scans in line + spare. */
    struct gy_turns turns;
    size_t spare;
};

gyre_status gy_scan_line_new(struct gy_scan_line **out, size_t places, gyre_error *err)
{
    struct gy_scan_line *line = malloc(sizeof *line);
    if (!line)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a line of scans");
    *line = (struct gy_scan_line){.spare = 0};
    pthread_mutex_init(&line->mu, NULL);
    gy_turns_init(&line->turns, places);
    *out = line;
    return GYRE_OK;
}

void gy_scan_line_free(struct gy_scan_line *line)
{
    if (!line)
        return;
    assert(!line->turns.count);
    pthread_mutex_destroy(&line->mu);
    free(line);
}

size_t gy_scan_line_count(struct gy_scan_line *line)
{
    pthread_mutex_lock(&line->mu);
    size_t count = line->turns.count;
    pthread_mutex_unlock(&line->mu);
    return count;
}

/* ---- one scan ---- */

void gy_scan_call_free(struct gy_scan_call *scan)
{
    gy_wire_free(scan->request);
    free(scan);
}

void gy_scan_call_fail(struct gy_scan_call *scan, gyre_status status, const gyre_error *err)
{
    gy_incoming_fail(scan->call, status, err);
    gy_scan_call_free(scan);
}

/* The scan that waits as turn. */
static struct gy_scan_call *scan_of(struct gy_turn *turn)
{
    return (struct gy_scan_call *)(void *)((uint8_t *)turn - offsetof(struct gy_scan_call, turn));
}

/* Whether it may still be worked on and is right in every field; if not it was answered and is gone. */
static bool ready(struct gy_scan_call *scan)
{
    gyre_error err;
    const gy_incoming *call = scan->call;
    gyre_status status;
    if (call->deadline_ns <= gy_now_ns())
        status = gyre_fail(&err, GYRE_DEADLINE, "node %s: scan waited past its deadline", gy_node_name(call->server->node));
    else if (call->request && gy_bus_request_abandoned(call->request))
        status = gyre_fail(&err, GYRE_CANCELLED, "node %s: the caller of a scan that waited is gone",
                           gy_node_name(call->server->node));
    else
        status = gy_scan_check(scan, &err);
    if (status != GYRE_OK)
        gy_scan_call_fail(scan, status, &err);
    return status == GYRE_OK;
}

/* ---- who goes along ---- */

struct gathering {
    const struct gy_scan_call *leader;
    size_t query_count; /* of all so far */
};

static bool same_ranges(const Gyre__Node__Scan *a, const Gyre__Node__Scan *b)
{
    size_t bytes = a->n_hash_firsts * sizeof *a->hash_firsts;
    return a->n_hash_firsts == b->n_hash_firsts &&
           (!bytes || (memcmp(a->hash_firsts, b->hash_firsts, bytes) == 0 && memcmp(a->hash_lasts, b->hash_lasts, bytes) == 0));
}

static bool same_question(const Gyre__Node__Scan *a, const Gyre__Node__Scan *b)
{
    return a->keep == b->keep && a->seed == b->seed && a->k == b->k && a->share == b->share && a->scan_bits == b->scan_bits && a->alone == b->alone &&
           a->exact == b->exact && a->codebook_version == b->codebook_version && a->epsilon >= b->epsilon &&
           a->epsilon <= b->epsilon && !a->limits.len == !b->limits.len && !a->probes.len == !b->probes.len &&
           a->n_shards == b->n_shards && memcmp(a->shards, b->shards, a->n_shards * sizeof *a->shards) == 0 && same_ranges(a, b);
}

/* Counts those that fit: what fits is taken. */
static bool goes_along(void *self, const struct gy_turn *turn)
{
    struct gathering *gathering = self;
    const struct gy_scan_call *leader = gathering->leader;
    const Gyre__Node__Scan *request = scan_of((struct gy_turn *)(uintptr_t)turn)->request; /* only read */
    size_t row_bytes = leader->dim * sizeof(float), query_count = request->queries.len / row_bytes + gathering->query_count;
    if (request->queries.len == 0 || request->queries.len % row_bytes != 0 || query_count > GY_PASS_QUERIES_MAX ||
        query_count * request->n_shards * request->keep > GY_SCAN_CANDIDATES_MAX || !same_question(leader->request, request))
        return false;
    gathering->query_count = query_count;
    return true;
}

/* Adds to the leader in members[0] those of its line that go along; returns how many there are then. */
static size_t gather(struct gy_scan_line *line, struct gy_scan_call **members)
{
    struct gathering gathering = {.leader = members[0], .query_count = members[0]->query_count};
    struct gy_turn *others[GY_PASS_QUERIES_MAX - 1];
    size_t count = 1;
    if (members[0]->request->exact || gathering.query_count == 0 || gathering.query_count >= GY_PASS_QUERIES_MAX)
        return count;
    pthread_mutex_lock(&line->mu);
    size_t other_count = gy_turns_gather(&line->turns, members[0]->turn.key, goes_along, &gathering, others,
                                         GY_PASS_QUERIES_MAX - 1, GATHER_LOOK_MAX);
    line->spare += other_count;
    pthread_mutex_unlock(&line->mu);
    for (size_t i = 0; i < other_count; i++) {
        struct gy_scan_call *other = scan_of(others[i]);
        other->dim = members[0]->dim;
        other->metric = members[0]->metric;
        if (ready(other))
            members[count++] = other;
    }
    return count;
}

/* One job of the pool. */
static void serve_next(void *arg)
{
    gy_server *server = arg;
    struct gy_scan_line *line = server->scans;
    pthread_mutex_lock(&line->mu);
    struct gy_turn *turn = gy_turns_pop(&line->turns);
    if (!turn)
        line->spare--;
    pthread_mutex_unlock(&line->mu);
    if (!turn)
        return;
    struct gy_scan_call *members[GY_PASS_QUERIES_MAX] = {scan_of(turn)};
    if (ready(members[0]))
        gy_pass_run(server, members, gather(line, members));
}

/* ---- the door ---- */

static uint32_t cost_of(const Gyre__Node__Scan *request)
{
    size_t cost = (1 + request->queries.len / COST_BYTES) * request->n_shards;
    return cost < GY_TURN_COST_MAX ? (uint32_t)cost : GY_TURN_COST_MAX;
}

static void refuse(gy_server *server, struct gy_scan_call *scan)
{
    gyre_error err;
    static const char sentence[] = "node %s: %zu scans wait, which is the limit (--scan-queue); try again in a moment, or spread "
                                   "the collection over more nodes";
    gyre_status status = gyre_fail(&err, GYRE_EXHAUSTED, sentence, gy_node_name(server->node), server->scans->turns.places);
    gy_scan_call_fail(scan, status, &err);
}

void gy_serve_scan(gy_incoming *call, void *message)
{
    gyre_error err;
    gy_server *server = call->server;
    struct gy_scan_line *line = server->scans;
    gyre_status status = gy_scan_check_numbers(message, &err);
    struct gy_scan_call *scan = status == GYRE_OK ? calloc(1, sizeof *scan) : NULL;
    if (!scan) {
        if (status == GYRE_OK)
            status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan");
        gy_wire_free(message);
        gy_incoming_fail(call, status, &err);
        return;
    }
    scan->call = call;
    scan->request = message;
    scan->turn.key = scan->request->collection_id;
    scan->turn.cost = cost_of(scan->request);
    pthread_mutex_lock(&line->mu);
    struct gy_turn *victim = gy_turns_push(&line->turns, &scan->turn);
    bool new_job = !victim && !line->spare;
    if (!victim && line->spare)
        line->spare--;
    /* With mu held, so that a job is there before anybody else can find the scan. There is a place: the pool has as many. */
    if (new_job)
        status = gy_pool_submit(server->lanes[GY_LANE_SCAN], serve_next, server, &err);
    pthread_mutex_unlock(&line->mu);
    assert(status == GYRE_OK);
    if (victim)
        refuse(server, scan_of(victim));
}
