/* A round takes the most promising candidates of every query and asks the shards that hold them, one message a node. The first
 * takes the seeds, which set tau close to where it ends; a second reads who can still win, and nearly every query is then done.
 * Where bounds are tight the seeds decide everything and there is no second. */
#include "search/rerank.h"

#include "gyre/node/node.pb-c.h"

#include <math.h>
#include <stdlib.h>

/* Candidates of one query in one round. Larger rounds save exchanges but read vectors that a smaller one would have ruled out;
 * tau moves little after the seeds, so nearly every query should be done in one. */
enum { ROUND_CANDIDATES = 1024 };

/* One round's requests. A task is a run of picked candidates of equal (shard, query). */
struct round {
    struct picked {
        struct gy_contender contender;
        uint32_t query;
    } *picked;             /* [count], by query */
    size_t *starts;        /* [shard_count + 1] where each shard's candidates begin in ids and queries */
    gyre_point_id *ids;    /* [count], by shard, then query */
    uint32_t *queries;     /* [count], beside ids */
    size_t count;
    Gyre__Node__DistanceTask *tasks;
    Gyre__Node__DistanceTask **task_pointers; /* in call order */
    size_t task_count;
    Gyre__Node__Distances *requests;
    struct gy_gather_call *calls;
    size_t call_count;
};

static void round_fini(struct round *round)
{
    for (size_t c = 0; round->calls && c < round->call_count; c++)
        gy_wire_free(round->calls[c].reply);
    free(round->picked), free(round->starts), free(round->ids), free(round->queries), free(round->tasks),
        free(round->task_pointers);
    free(round->requests), free(round->calls);
    *round = (struct round){0};
}

static gyre_status round_room(const struct gy_contest *contest, struct round *round, size_t room, gyre_error *err)
{
    round->picked = malloc(room * sizeof *round->picked);
    round->starts = calloc(contest->route->shard_count + 2, sizeof *round->starts);
    round->ids = malloc(room * sizeof *round->ids);
    round->queries = malloc(room * sizeof *round->queries);
    round->tasks = malloc(room * sizeof *round->tasks);
    round->task_pointers = malloc(room * sizeof *round->task_pointers);
    round->requests = calloc(contest->route->shard_count, sizeof *round->requests);
    round->calls = calloc(contest->route->shard_count, sizeof *round->calls);
    if (!round->picked || !round->starts || !round->ids || !round->queries || !round->tasks || !round->task_pointers ||
        !round->requests || !round->calls)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to re-rank %zu candidates", room);
    return GYRE_OK;
}

/* Lays the picked out by shard (a counting sort, so queries stay in order within) and makes a task of each run. */
static void round_tasks(const struct gy_contest *contest, struct round *round)
{
    size_t *ends = round->starts + 1; /* first counts, then where the next of a shard goes, at last where its run ends */
    for (size_t i = 0; i < round->count; i++)
        ends[round->picked[i].contender.shard + 1]++;
    for (uint32_t s = 0; s < contest->route->shard_count; s++)
        ends[s + 1] += ends[s];
    for (size_t i = 0; i < round->count; i++) {
        size_t place = ends[round->picked[i].contender.shard]++;
        round->ids[place] = round->picked[i].contender.id;
        round->queries[place] = round->picked[i].query;
    }
    for (uint32_t s = 0; s < contest->route->shard_count; s++)
        for (size_t i = round->starts[s]; i < round->starts[s + 1]; i++) {
            if (i == round->starts[s] || round->queries[i] != round->queries[i - 1]) {
                Gyre__Node__DistanceTask *task = &round->tasks[round->task_count++];
                gyre__node__distance_task__init(task);
                task->shard = s, task->query = round->queries[i];
                task->ids.data = round->ids[i].bytes;
            }
            round->tasks[round->task_count - 1].ids.len += GYRE_ID_BYTES;
        }
}

/* The seeds of a query that knows too few distances for a tau, else whoever can still win. */
static size_t pick_query(struct gy_contest *contest, size_t q, struct gy_contender *out, size_t max)
{
    gy_merge *merge = &contest->merges[q];
    return isfinite(gy_merge_tau(merge)) ? gy_merge_next(merge, out, max) : gy_merge_seeds(merge, out, max);
}

/* Takes the candidates of this round out of the merges. */
static gyre_status round_pick(struct gy_contest *contest, struct round *round, gyre_error *err)
{
    size_t per_query = contest->options->k > ROUND_CANDIDATES ? contest->options->k : ROUND_CANDIDATES, room = 0;
    for (size_t q = 0; q < contest->n; q++)
        room += contest->merges[q].open_count < per_query ? contest->merges[q].open_count : per_query;
    if (room == 0)
        return GYRE_OK;
    GY_TRY(round_room(contest, round, room, err));
    struct gy_contender *taking = malloc(per_query * sizeof *taking);
    if (!taking)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to re-rank %zu candidates", per_query);
    for (size_t q = 0; q < contest->n; q++) {
        size_t taken = pick_query(contest, q, taking, per_query);
        for (size_t i = 0; i < taken; i++)
            round->picked[round->count++] = (struct picked){taking[i], (uint32_t)q};
        contest->basis[q].rerank_rounds += taken > 0;
    }
    free(taking);
    round_tasks(contest, round);
    return GYRE_OK;
}

/* Groups the tasks by peer: a shard with candidates has answered a scan, so it has one. */
static void round_address(const struct gy_contest *contest, struct round *round)
{
    const gy_route *route = contest->route;
    size_t used = 0;
    for (size_t first = 0; first < round->task_count; first++) {
        gy_peer *peer = route->shards[round->tasks[first].shard].peer;
        if (contest->lost[round->tasks[first].shard])
            continue;
        size_t c = 0;
        while (c < round->call_count && round->calls[c].peer != peer)
            c++;
        if (c < round->call_count)
            continue;
        Gyre__Node__Distances *request = &round->requests[c];
        gyre__node__distances__init(request);
        request->collection_id = route->collection_id;
        request->queries = (ProtobufCBinaryData){contest->n * route->dim * sizeof(float), (uint8_t *)(uintptr_t)contest->queries};
        request->tasks = round->task_pointers + used;
        for (size_t t = first; t < round->task_count; t++)
            if (route->shards[round->tasks[t].shard].peer == peer && !contest->lost[round->tasks[t].shard])
                request->tasks[request->n_tasks++] = &round->tasks[t];
        used += request->n_tasks;
        round->calls[c] = (struct gy_gather_call){.peer = peer, .type = GYRE__NODE__MESSAGE_TYPE__DISTANCES,
            .request = &request->base, .reply_type = &gyre__node__distances_reply__descriptor};
        round->call_count++;
    }
}

/* One task's distances go to its query's merge. */
static gyre_status take_result(struct gy_contest *contest, const Gyre__Node__DistanceTask *task,
                               const Gyre__Node__DistanceResult *result, gyre_error *err)
{
    size_t count = task->ids.len / GYRE_ID_BYTES;
    gyre_error cause = {0};
    gyre_status status = GYRE_OK;
    if (result->status != GYRE_OK)
        status = gyre_fail(&cause, (gyre_status)result->status, "%s", result->error);
    else if (result->distances.len != count * sizeof(float))
        status = gyre_fail(&cause, GYRE_CORRUPT, "%zu bytes of distances for %zu points", result->distances.len, count);
    if (status != GYRE_OK)
        return gy_contest_lose(contest, task->shard, status, &cause, err);
    for (size_t i = 0; i < count; i++) {
        gyre_point_id id;
        memcpy(id.bytes, task->ids.data + i * GYRE_ID_BYTES, GYRE_ID_BYTES);
        GY_TRY(gy_merge_offer(&contest->merges[task->query], task->shard, &id,
                              gy_load_f32(result->distances.data + i * sizeof(float)), err));
    }
    contest->basis[task->query].reranked += count;
    return GYRE_OK;
}

static gyre_status round_take(struct gy_contest *contest, struct round *round, gyre_error *err)
{
    for (size_t c = 0; c < round->call_count; c++) {
        const struct gy_gather_call *call = &round->calls[c];
        const Gyre__Node__Distances *request = &round->requests[c];
        const Gyre__Node__DistancesReply *reply = call->reply;
        gyre_error cause = call->err;
        gyre_status status = call->status;
        if (status == GYRE_OK && reply->n_results != request->n_tasks)
            status = gyre_fail(&cause, GYRE_CORRUPT, "%zu results for %zu tasks", reply->n_results, request->n_tasks);
        for (size_t t = 0; t < request->n_tasks; t++) {
            if (contest->lost[request->tasks[t]->shard])
                continue;
            if (status != GYRE_OK)
                GY_TRY(gy_contest_lose(contest, request->tasks[t]->shard, status, &cause, err));
            else
                GY_TRY(take_result(contest, request->tasks[t], reply->results[t], err));
        }
    }
    return GYRE_OK;
}

gyre_status gy_rerank(struct gy_contest *contest, gyre_error *err)
{
    for (;;) {
        struct round round = {0};
        gyre_status status = round_pick(contest, &round, err);
        if (status == GYRE_OK && round.count == 0) {
            round_fini(&round);
            return GYRE_OK;
        }
        if (status == GYRE_OK)
            status = gy_contest_wanted(contest, "all candidates were re-ranked", err);
        if (status == GYRE_OK) {
            round_address(contest, &round);
            gy_contest_ask(contest, round.calls, round.call_count);
            status = round_take(contest, &round, err);
        }
        round_fini(&round);
        GY_TRY(status);
    }
}
