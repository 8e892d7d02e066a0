/* DISTANCES: exact distances of named points: the last word on candidates. A task whose shard cannot answer says so in its own
 * place. */
#include "server/incoming.h"
#include "server/fan.h"

#include <inttypes.h>
#include <stdlib.h>

struct task {
    gyre_status status;
    gyre_error err;
    float *distances; /* [id_count] */
    uint64_t applied_seq;
    size_t id_count;
};

struct measuring {
    gy_incoming *call;
    Gyre__Node__Distances *request;
    uint32_t dim;
    gyre_metric metric;
    struct task *tasks; /* [request->n_tasks] */
    size_t id_count;    /* of all tasks */
};

enum {
    TASKS_MAX = 65536,
    IDS_BETWEEN_LOOKS = 64, /* at the clock */
    IDS_A_THREAD = 256,     /* fewer are measured in less time than a thread takes to wake */
};

static gyre_status check_tasks(struct measuring *measuring, gyre_error *err)
{
    const Gyre__Node__Distances *request = measuring->request;
    if (request->n_tasks == 0 || request->n_tasks > TASKS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%zu tasks; a request has 1 to %d", request->n_tasks, TASKS_MAX);
    measuring->tasks = calloc(request->n_tasks, sizeof *measuring->tasks);
    if (!measuring->tasks)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu tasks", request->n_tasks);
    for (size_t i = 0; i < request->n_tasks; i++) {
        struct task *task = &measuring->tasks[i];
        gyre_status status = gy_check_ids("ids", &request->tasks[i]->ids, GY_REQUEST_IDS_MAX, &task->id_count, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "tasks[%zu]", i);
        measuring->id_count += task->id_count;
    }
    if (measuring->id_count > GY_REQUEST_IDS_MAX)
        return gyre_fail(err, GYRE_INVALID, "tasks have %zu ids together; the limit is %d", measuring->id_count, GY_REQUEST_IDS_MAX);
    return GYRE_OK;
}

static gyre_status check_queries(const struct measuring *measuring, gyre_error *err)
{
    const Gyre__Node__Distances *request = measuring->request;
    size_t count;
    GY_TRY(gy_check_vectors("queries", &request->queries, measuring->metric, measuring->dim, TASKS_MAX, &count, err));
    for (size_t i = 0; i < request->n_tasks; i++)
        if (request->tasks[i]->query >= count)
            return gyre_fail(err, GYRE_INVALID, "tasks[%zu].query is %u; there are %zu queries", i, request->tasks[i]->query,
                             count);
    return GYRE_OK;
}

/* As for a scan: the first shard that is here knows dim and metric. */
static bool learn_facts(struct measuring *measuring)
{
    const Gyre__Node__Distances *request = measuring->request;
    bool known = false;
    for (size_t i = 0; i < request->n_tasks && !known; i++)
        known = gy_learn_facts(measuring->call->server->node, request->collection_id, request->tasks[i]->shard, &measuring->dim,
                               &measuring->metric);
    return known;
}

static gyre_status measure(struct measuring *measuring, gy_replica *replica, size_t i, gyre_error *err)
{
    gy_points *points = gy_replica_points(replica);
    const Gyre__Node__DistanceTask *asked = measuring->request->tasks[i];
    struct task *task = &measuring->tasks[i];
    if (gy_points_dim(points) != measuring->dim)
        return gyre_fail(err, GYRE_INTERNAL, "this shard has %u dimensions, its neighbour %u", gy_points_dim(points),
                         measuring->dim);
    task->applied_seq = gy_points_applied_seq(points);
    GY_TRY(gy_check_behind(task->applied_seq, asked->min_seq, err));
    task->distances = malloc(task->id_count * sizeof *task->distances);
    if (!task->distances)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu distances", task->id_count);
    const float *query = gy_floats(&measuring->request->queries) + (size_t)asked->query * measuring->dim;
    const gyre_point_id *ids = (const gyre_point_id *)(const void *)asked->ids.data;
    for (size_t done = 0; done < task->id_count; done += IDS_BETWEEN_LOOKS) {
        size_t left = task->id_count - done, count = left < IDS_BETWEEN_LOOKS ? left : IDS_BETWEEN_LOOKS;
        if (measuring->call->deadline_ns <= gy_now_ns())
            return gyre_fail(err, GYRE_DEADLINE, "the time ran out after %zu of %zu distances were measured", done,
                             task->id_count);
        GY_TRY(gy_points_distances(points, query, ids + done, count, task->distances + done, err));
    }
    return gy_check_had(replica, ids, task->id_count, false, err);
}

static void measure_part(void *self, size_t i)
{
    struct measuring *measuring = self;
    gy_node *node = measuring->call->server->node;
    struct task *task = &measuring->tasks[i];
    gy_hosted *hosted;
    task->status = gy_node_hold(node, measuring->request->collection_id, measuring->request->tasks[i]->shard, &hosted,
                                &task->err);
    if (task->status != GYRE_OK)
        return;
    task->status = measure(measuring, gy_hosted_replica(hosted), i, &task->err);
    task->status = gy_node_judge(node, hosted, task->status, &task->err);
    gy_node_release(node, hosted);
}

static void free_measuring(struct measuring *measuring)
{
    for (size_t i = 0; measuring->tasks && i < measuring->request->n_tasks; i++)
        free(measuring->tasks[i].distances);
    free(measuring->tasks);
    gy_wire_free(measuring->request);
    free(measuring);
}

static void measure_done(void *self)
{
    struct measuring *measuring = self;
    size_t count = measuring->request->n_tasks;
    uint64_t compared = 0;
    Gyre__Node__DistanceResult *results = calloc(count, sizeof *results),
                               **list = calloc(count, sizeof(Gyre__Node__DistanceResult *));
    if (results && list) {
        for (size_t i = 0; i < count; i++) {
            struct task *task = &measuring->tasks[i];
            list[i] = &results[i];
            gyre__node__distance_result__init(&results[i]);
            results[i].status = (uint32_t)task->status;
            if (task->status != GYRE_OK) {
                results[i].error = task->err.text;
                continue;
            }
            results[i].applied_seq = task->applied_seq;
            results[i].distances = gy_as_bytes(task->distances, task->id_count);
            compared += task->id_count;
        }
        gy_counter_add(measuring->call->server->stats.vectors_compared, compared);
        Gyre__Node__DistancesReply reply = GYRE__NODE__DISTANCES_REPLY__INIT;
        reply.n_results = count;
        reply.results = list;
        gy_incoming_reply(measuring->call, &reply.base);
    } else {
        gyre_error err;
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for %zu results", count);
        gy_incoming_fail(measuring->call, status, &err);
    }
    free(results);
    free(list);
    free_measuring(measuring);
}

void gy_serve_distances(gy_incoming *call, void *message)
{
    gyre_error err;
    struct measuring *measuring = calloc(1, sizeof *measuring);
    if (!measuring) {
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for distances");
        gy_wire_free(message);
        gy_incoming_fail(call, status, &err);
        return;
    }
    measuring->call = call;
    measuring->request = message;
    gyre_status status = check_tasks(measuring, &err);
    if (status == GYRE_OK && learn_facts(measuring))
        status = check_queries(measuring, &err);
    if (status != GYRE_OK) {
        free_measuring(measuring);
        gy_incoming_fail(call, status, &err);
        return;
    }
    const gy_server *server = call->server;
    size_t helpers = measuring->id_count / IDS_A_THREAD;
    if (helpers > server->helpers[GY_LANE_READ])
        helpers = server->helpers[GY_LANE_READ];
    gy_fan_run(server->lanes[GY_LANE_READ], helpers, measuring->request->n_tasks, measure_part, measure_done, measuring);
}
