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
    size_t *places;        /* [count], beside ids: which of picked each is */
    size_t *starts;        /* [shard_count + 1] where each shard's candidates begin in ids and queries */
    gyre_point_id *ids;    /* [count], by shard, then query */
    uint32_t *queries;     /* [count], beside ids */
    size_t count;
    Gyre__Node__DistanceTask *tasks;
    Gyre__Node__DistanceTask **task_pointers; /* [task_count] room for a message's */
    size_t *task_starts;   /* [shard_count + 1] where each shard's tasks begin */
    size_t task_count;
    bool *wanted;          /* [shard_count] */
    const struct gy_contest *contest;
};

static void round_fini(struct round *round)
{
    free(round->picked), free(round->starts), free(round->ids), free(round->queries), free(round->tasks),
        free(round->task_pointers);
    free(round->places), free(round->task_starts), free(round->wanted);
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
    round->places = malloc(room * sizeof *round->places);
    round->task_starts = calloc(contest->route->shard_count + 1, sizeof *round->task_starts);
    round->wanted = calloc(contest->route->shard_count, sizeof *round->wanted);
    if (!round->picked || !round->starts || !round->ids || !round->queries || !round->tasks || !round->task_pointers ||
        !round->places || !round->task_starts || !round->wanted)
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
        round->places[place] = i;
    }
    for (uint32_t s = 0; s < contest->route->shard_count; s++) {
        round->task_starts[s] = round->task_count;
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
    round->task_starts[contest->route->shard_count] = round->task_count;
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

static size_t task_count_of(const struct round *round, uint32_t shard)
{
    return round->task_starts[shard + 1] - round->task_starts[shard];
}

/* ---- what a node is asked, and answers ---- */

static gyre_status pack(void *self, const uint32_t *shards, const uint64_t *seqs, size_t count, gy_bytes *out, gyre_error *err)
{
    const struct round *round = self;
    const struct gy_contest *contest = round->contest;
    Gyre__Node__Distances request = GYRE__NODE__DISTANCES__INIT;
    request.collection_id = contest->route->collection_id;
    request.queries = (ProtobufCBinaryData){contest->n * contest->route->dim * sizeof(float),
        (uint8_t *)(uintptr_t)contest->queries};
    request.tasks = round->task_pointers;
    for (size_t i = 0; i < count; i++)
        for (size_t t = round->task_starts[shards[i]]; t < round->task_starts[shards[i] + 1]; t++) {
            round->tasks[t].min_seq = seqs[i];
            request.tasks[request.n_tasks++] = &round->tasks[t];
        }
    return gy_wire_pack(out, &request.base, GY_BUS_MESSAGE_BYTES_MAX, err);
}

/* Where in a reply the results of shards[i] begin. */
static size_t first_result(const struct round *round, const uint32_t *shards, size_t i)
{
    size_t first = 0;
    for (size_t before = 0; before < i; before++)
        first += task_count_of(round, shards[before]);
    return first;
}

static gyre_status check(void *self, const void *message, const uint32_t *shards, size_t count, size_t i, uint64_t *applied_seq,
                         gyre_error *err)
{
    const struct round *round = self;
    const Gyre__Node__DistancesReply *reply = message;
    size_t tasks = first_result(round, shards, count), first = first_result(round, shards, i);
    if (reply->n_results != tasks)
        return gyre_fail(err, GYRE_CORRUPT, "%zu results for %zu tasks", reply->n_results, tasks);
    for (size_t t = 0; t < task_count_of(round, shards[i]); t++) {
        const Gyre__Node__DistanceResult *result = reply->results[first + t];
        size_t ids = round->tasks[round->task_starts[shards[i]] + t].ids.len / GYRE_ID_BYTES;
        if (result->status != GYRE_OK)
            return gyre_fail(err, (gyre_status)result->status, "%s", result->error);
        if (result->distances.len != ids * sizeof(float))
            return gyre_fail(err, GYRE_CORRUPT, "%zu bytes of distances for %zu points", result->distances.len, ids);
        *applied_seq = result->applied_seq;
    }
    return GYRE_OK;
}

/* ---- what becomes of it ---- */

/* A shard's distances go to the merges of their queries. */
static gyre_status take_shard(struct gy_contest *contest, const struct round *round, uint32_t shard,
                              const struct gy_consulted *consulted, gyre_error *err)
{
    const Gyre__Node__DistancesReply *reply = consulted->reply;
    Gyre__Node__DistanceResult *const *results = reply->results + first_result(round, consulted->shards, consulted->place);
    for (size_t t = 0; t < task_count_of(round, shard); t++) {
        const Gyre__Node__DistanceTask *task = &round->tasks[round->task_starts[shard] + t];
        size_t count = task->ids.len / GYRE_ID_BYTES;
        for (size_t i = 0; i < count; i++) {
            gyre_point_id id;
            memcpy(id.bytes, task->ids.data + i * GYRE_ID_BYTES, GYRE_ID_BYTES);
            GY_TRY(gy_merge_offer(&contest->merges[task->query], shard, &id,
                                  gy_load_f32(results[t]->distances.data + i * sizeof(float)), err));
        }
        contest->basis[task->query].reranked += count;
    }
    return GYRE_OK;
}

/* A shard whose vectors nobody can read: its candidates stay what they are estimated to be. */
static gyre_status take_estimates(struct gy_contest *contest, const struct round *round, uint32_t shard, gyre_error *err)
{
    for (size_t i = round->starts[shard]; i < round->starts[shard + 1]; i++)
        GY_TRY(gy_merge_offer_estimate(&contest->merges[round->queries[i]], &round->picked[round->places[i]].contender, err));
    return GYRE_OK;
}

static gyre_status round_take(struct gy_contest *contest, const struct round *round, const gy_consultation *consultation,
                              gyre_error *err)
{
    const struct gy_consulted *consulted = gy_consultation_shards(consultation);
    for (uint32_t s = 0; s < contest->route->shard_count; s++) {
        if (!consulted[s].decided)
            continue;
        if (consulted[s].status == GYRE_OK)
            GY_TRY(take_shard(contest, round, s, &consulted[s], err));
        else if (consulted[s].no_full && contest->options->allow_approximate)
            contest->from_codes[s] = true;
        else
            GY_TRY(gy_contest_lose(contest, s, &consulted[s], err));
    }
    return GYRE_OK;
}

static gyre_status round_ask(struct gy_contest *contest, struct round *round, gyre_error *err)
{
    uint32_t shards = contest->route->shard_count, asked = 0;
    round->contest = contest;
    for (uint32_t s = 0; s < shards; s++) {
        round->wanted[s] = task_count_of(round, s) > 0 && !contest->lost[s] && !contest->from_codes[s];
        asked += round->wanted[s];
    }
    if (asked) {
        struct gy_consult consult = gy_contest_consult(contest);
        consult.kind = GY_READ_DISTANCES, consult.work = round->count / asked, consult.full = true;
        consult.type = GYRE__NODE__MESSAGE_TYPE__DISTANCES, consult.reply_type = &gyre__node__distances_reply__descriptor;
        consult.pack = pack, consult.check = check, consult.self = round;
        gy_consultation *consultation;
        GY_TRY(gy_consult_run(&consult, round->wanted, &consultation, err));
        gyre_status status = round_take(contest, round, consultation, err);
        gy_consultation_free(consultation);
        GY_TRY(status);
    }
    for (uint32_t s = 0; s < shards; s++)
        if (contest->from_codes[s] && !contest->lost[s])
            GY_TRY(take_estimates(contest, round, s, err));
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
        if (status == GYRE_OK)
            status = round_ask(contest, &round, err);
        round_fini(&round);
        GY_TRY(status);
    }
}
