#include "placement/costs.h"

#include <math.h>
#include <stdlib.h>

#define FLAT_SHARE 0.5 /* of all points, from which on every list is scanned */

static const double recalls[] = {0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1};
#define RECALLS (sizeof recalls / sizeof *recalls)
_Static_assert(RECALLS <= GY_PROBE_COSTS_MAX, "the table holds them");

/* A neighbour and the place of its list. */
struct place {
    uint32_t rank, query;
};

static int place_order(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a->query < b->query ? -1 : a->query > b->query;
}

/* What looking into more and more lists finds. */
struct walk {
    const struct gy_cost_sample *sample;
    struct place *places; /* [place_count] by rank */
    size_t place_count, next;
    uint32_t *hits;       /* [queries] neighbours found so far */
    size_t counted;       /* queries with neighbours */
    double sum, squares;  /* of the queries' recalls so far */
    double scanned;       /* mean share of the points in the lists so far */
    double total;         /* points in all lists */
};

/* Looks into list number m (from 0) of every query's order. */
static void step(struct walk *walk, uint32_t m)
{
    const struct gy_cost_sample *sample = walk->sample;
    for (; walk->next < walk->place_count && walk->places[walk->next].rank == m; walk->next++) {
        uint32_t query = walk->places[walk->next].query;
        double found = sample->found[query], before = walk->hits[query]++ / found, after = walk->hits[query] / found;
        walk->sum += after - before;
        walk->squares += after * after - before * before;
    }
    double points = 0;
    for (size_t q = 0; q < sample->queries; q++)
        points += (double)sample->list_points[sample->orders[q * sample->lists + m]];
    walk->scanned += points / (double)sample->queries / walk->total;
}

/* Mean recall less its standard error. */
static double sure_recall(const struct walk *walk)
{
    double n = (double)walk->counted, mean = walk->sum / n, variance = walk->squares / n - mean * mean;
    return walk->next == walk->place_count ? 1 : mean - sqrt(fmax(variance, 0) / n);
}

static uint32_t fill(struct walk *walk, struct gy_probe_cost *costs)
{
    uint32_t lists = walk->sample->lists, m = 0, row = 0;
    for (; row < RECALLS && recalls[row] < 1; row++) {
        while (m < lists && (m == 0 || sure_recall(walk) < recalls[row]) && walk->scanned <= FLAT_SHARE)
            step(walk, m++);
        costs[row] = (struct gy_probe_cost){recalls[row], walk->scanned > FLAT_SHARE ? lists : m};
    }
    costs[row++] = (struct gy_probe_cost){1, lists};
    return row;
}

gyre_status gy_costs_measure(const struct gy_cost_sample *sample, struct gy_probe_cost *costs, uint32_t *count, gyre_error *err)
{
    struct walk walk = {.sample = sample, .places = calloc(sample->queries * sample->neighbours + 1, sizeof *walk.places),
                        .hits = calloc(sample->queries + 1, sizeof *walk.hits)};
    gyre_status status =
        walk.places && walk.hits ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "probe costs of %zu queries", sample->queries);
    for (size_t q = 0; status == GYRE_OK && q < sample->queries; q++) {
        walk.counted += sample->found[q] > 0;
        for (uint32_t i = 0; i < sample->found[q]; i++)
            walk.places[walk.place_count++] = (struct place){sample->ranks[q * sample->neighbours + i], (uint32_t)q};
    }
    for (uint32_t l = 0; l < sample->lists; l++)
        walk.total += (double)sample->list_points[l];
    if (status == GYRE_OK) {
        if (walk.place_count)
            qsort(walk.places, walk.place_count, sizeof *walk.places, place_order);
        *count = walk.counted && walk.total > 0 ? fill(&walk, costs) : 0;
    }
    free(walk.places), free(walk.hits);
    return status;
}
