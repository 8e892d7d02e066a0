/* How many of the new lists hold the true neighbours of the held-back queries.
 *
 * The truth comes from the collection as it serves now, over all of its lists at the default confidence, so that nothing of the
 * new codebook need exist anywhere but here: queries → their ten nearest → those vectors → their new lists → at which place of
 * the query's probe order these stand. What it does not measure: neighbours that a code's bound loses (the confidence says how
 * many). */
#include "placement/costs.h"
#include "placement/train.h"
#include "routing/fetch.h"
#include "search/search.h"

#include "gyre/partition.h"

#include <stdlib.h>

enum {
    NEIGHBOURS = 10,
    QUERIES_AT_ONCE = 32,   /* a search that is asked: cancelled between, and small enough to let others in */
    SIZES_PER_LIST = 32,    /* vectors of the sample from which a list's share of the points is taken */
    ASSIGNED_AT_ONCE = 4096,
};

/* Every code of the collection, 32 times. */
#define SEARCH_DEADLINE_NS (120 * GY_SECOND_NS)

struct ranking {
    struct gy_trainer *trainer;
    const gy_route *route;
    const gyre_codebook *codebook;
    const struct gy_train_sample *sample;
    uint32_t *found, *ranks, *orders; /* gy_cost_sample */
    uint64_t *list_points;
    uint32_t *places;                 /* [lists] of the query at hand: where in its order each list stands */
};

/* The vectors of one search's hits, as they are read. */
struct hits {
    const gy_route *route;
    float *vectors; /* [count][dim] normalised */
    bool *there;    /* [count] */
};

static gyre_status take_vector(void *self, size_t place, const Gyre__Node__ReadPoint *point, gyre_error *err)
{
    (void)err;
    struct hits *hits = self;
    uint32_t dim = hits->route->dim;
    hits->there[place] = point->found;
    if (point->found) {
        memcpy(hits->vectors + place * dim, point->vector.data, dim * sizeof(float));
        gyre_vector_normalize(hits->route->metric, hits->vectors + place * dim, hits->vectors + place * dim, dim);
    }
    return GYRE_OK;
}

/* Ranks the neighbours of query q, whose vectors these are: the query itself, found first, is none. */
static gyre_status rank(struct ranking *self, size_t q, const struct gy_search_answer *answer, const float *vectors,
                        const bool *there, gyre_error *err)
{
    uint32_t lists = gyre_codebook_lists(self->codebook), dim = self->route->dim, list;
    const float *query = self->sample->queries + q * dim;
    uint32_t *order = self->orders + q * lists;
    GY_TRY(gyre_partition_probe(self->codebook, query, NULL, lists, order, err));
    for (uint32_t i = 0; i < lists; i++)
        self->places[order[i]] = i;
    bool itself = false;
    for (size_t i = 0; i < answer->count && self->found[q] < NEIGHBOURS; i++) {
        if (!there[i])
            continue;
        if (!itself && memcmp(vectors + i * dim, query, dim * sizeof *query) == 0) {
            itself = true;
            continue;
        }
        GY_TRY(gyre_partition_assign(self->codebook, vectors + i * dim, 1, i, &list, err));
        self->ranks[q * NEIGHBOURS + self->found[q]++] = self->places[list];
    }
    return GYRE_OK;
}

static gyre_status rank_hits(struct ranking *self, size_t first, size_t count, const struct gy_search_answer *answers,
                             int64_t deadline_ns, gyre_error *err)
{
    uint32_t dim = self->route->dim;
    size_t total = 0;
    for (size_t q = 0; q < count; q++)
        total += answers[q].count;
    gyre_point_id *ids = calloc(total + 1, sizeof *ids);
    struct hits hits = {self->route, calloc(total + 1, dim * sizeof *hits.vectors), calloc(total + 1, sizeof *hits.there)};
    gyre_status status = ids && hits.vectors && hits.there ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "%zu neighbours", total);
    size_t used = 0;
    for (size_t q = 0; status == GYRE_OK && q < count; q++)
        for (size_t i = 0; i < answers[q].count; i++)
            ids[used++] = answers[q].hits[i].id;
    const struct gy_fetch fetch = {.from = GY_FETCH_ANY, .routing = self->trainer->placement->routing, .with_vector = true,
                                   .deadline_ns = deadline_ns};
    if (status == GYRE_OK)
        status = gy_points_fetch(self->route, ids, total, &fetch, take_vector, &hits, err);
    used = 0;
    for (size_t q = 0; status == GYRE_OK && q < count; q++) {
        status = rank(self, first + q, &answers[q], hits.vectors + used * dim, hits.there + used, err);
        used += answers[q].count;
    }
    free(ids), free(hits.vectors), free(hits.there);
    return status;
}

static gyre_status rank_queries(struct ranking *self, size_t first, size_t count, gyre_error *err)
{
    struct gy_search_options options = {
        .k = NEIGHBOURS + 1,
        .spare = 1,
        .recall_target = 1,
        .confidence = GY_CONFIDENCE_DEFAULT,
        .deadline_ns = gy_trainer_deadline(self->trainer, SEARCH_DEADLINE_NS),
        .cancelled = gy_trainer_unwanted,
        .cancelled_arg = self->trainer,
    };
    struct gy_search_answer answers[QUERIES_AT_ONCE] = {0};
    gyre_status status =
        gy_search_run(self->route, self->sample->queries + first * self->route->dim, count, &options, answers, err);
    if (status == GYRE_OK)
        status = rank_hits(self, first, count, answers, options.deadline_ns, err);
    gy_search_answers_free(answers, count);
    return status;
}

/* How the points lie over the lists, by some of the sample. */
static gyre_status weigh_lists(struct ranking *self, gyre_error *err)
{
    uint32_t lists = gyre_codebook_lists(self->codebook), dim = self->route->dim, assigned[ASSIGNED_AT_ONCE];
    size_t wanted = (size_t)lists * SIZES_PER_LIST, step = self->sample->count / wanted + 1;
    float *rows = malloc(ASSIGNED_AT_ONCE * dim * sizeof *rows);
    gyre_status status = rows ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "sizes of %u lists", lists);
    for (size_t i = 0; status == GYRE_OK && i < self->sample->count;) {
        size_t n = 0;
        for (; n < ASSIGNED_AT_ONCE && i < self->sample->count; i += step)
            memcpy(rows + n++ * dim, self->sample->vectors + i * dim, dim * sizeof *rows);
        status = gyre_partition_assign(self->codebook, rows, n, 0, assigned, err);
        for (size_t r = 0; status == GYRE_OK && r < n; r++)
            self->list_points[assigned[r]]++;
        if (status == GYRE_OK)
            status = gy_trainer_wanted(self->trainer, "the sizes of its lists", err);
    }
    free(rows);
    return status;
}

static void log_costs(const struct ranking *self, const struct gy_probe_cost *costs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        gy_log(GY_LOG_INFO, "training_probe_cost", "collection=%s recall=%g lists=%u of=%u", self->trainer->name, costs[i].recall,
               costs[i].lists, gyre_codebook_lists(self->codebook));
}

static gyre_status measure(struct ranking *self, struct gy_probe_cost *costs, uint32_t *count, gyre_error *err)
{
    size_t queries = self->sample->query_count;
    uint32_t lists = gyre_codebook_lists(self->codebook);
    self->found = calloc(queries + 1, sizeof *self->found);
    self->ranks = calloc(queries * NEIGHBOURS + 1, sizeof *self->ranks);
    self->orders = calloc(queries * lists + 1, sizeof *self->orders);
    self->list_points = calloc(lists, sizeof *self->list_points);
    self->places = calloc(lists, sizeof *self->places);
    if (!self->found || !self->ranks || !self->orders || !self->list_points || !self->places)
        return gyre_fail(err, GYRE_NO_MEMORY, "probe costs of %zu queries over %u lists", queries, lists);
    for (size_t q = 0; q < queries; q += QUERIES_AT_ONCE) {
        gy_trainer_says(self->trainer, "probe costs", (double)q / (double)queries);
        GY_TRY(rank_queries(self, q, queries - q < QUERIES_AT_ONCE ? queries - q : QUERIES_AT_ONCE, err));
    }
    GY_TRY(weigh_lists(self, err));
    struct gy_cost_sample sample = {.lists = lists,
                                    .queries = queries,
                                    .neighbours = NEIGHBOURS,
                                    .found = self->found,
                                    .ranks = self->ranks,
                                    .orders = self->orders,
                                    .list_points = self->list_points};
    GY_TRY(gy_costs_measure(&sample, costs, count, err));
    log_costs(self, costs, *count);
    return GYRE_OK;
}

gyre_status gy_train_costs(struct gy_trainer *trainer, const gyre_codebook *codebook, const struct gy_train_sample *sample,
                           struct gy_probe_cost *costs, uint32_t *count, gyre_error *err)
{
    gy_trainer_says(trainer, "probe costs", 0);
    struct ranking ranking = {.trainer = trainer, .codebook = codebook, .sample = sample};
    GY_TRY(gy_route_hold(trainer->placement->routing, trainer->name, &ranking.route, err));
    gyre_status status = ranking.route->collection_id == trainer->collection_id
                             ? measure(&ranking, costs, count, err)
                             : gyre_fail(err, GYRE_ABORTED, "the collection was dropped meanwhile");
    gy_route_release(ranking.route);
    free(ranking.found), free(ranking.ranks), free(ranking.orders), free(ranking.list_points), free(ranking.places);
    if (status == GYRE_CANCELLED)
        GY_TRY(gy_trainer_wanted(trainer, "its probe costs", err)); /* says why */
    return status;
}
