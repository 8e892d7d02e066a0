/* balance: lists kept from growing too large, and from being empty.
 *
 * A list above the limit is split by k-means among its own vectors, each new piece taking the centroid of one of the smallest
 * lists, whose vectors go to their next nearest. As the limit is at least twice the mean, the smallest list is at most half as
 * large as what is split, so there always is one to take. Then each list that is still empty takes half of one of the lists that
 * cost most. Vectors that are equal cannot be told apart: a list of nothing else stays as it is. */
#include "kmeans/training.h"

#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

enum {
    PIECES_MAX = 8,   /* of one list at one time */
    PIECE_ROUNDS = 4, /* of k-means among the vectors of one list */
};

static float distance(const float *a, const float *b, uint32_t dim) { return gy_kernels_current()->vector->l2(a, b, dim); }

/* k-means++ among the members of a list: rows[0] any, each further one in proportion to its distance. Returns how many there are:
 * fewer than wanted if there are fewer different vectors. */
static size_t seed_pieces(struct gy_training *t, const uint32_t *members, size_t count, float *const *rows, size_t wanted)
{
    uint32_t dim = t->points.dim;
    size_t made = 1;
    memcpy(rows[0], gy_point(&t->points, members[gy_training_below(t, count)]), dim * sizeof(float));
    for (size_t i = 0; i < count; i++)
        t->spread[i] = INFINITY;
    for (; made < wanted; made++) {
        double sum = 0, passed = 0;
        for (size_t i = 0; i < count; i++) {
            float next = distance(gy_point(&t->points, members[i]), rows[made - 1], dim);
            if (next < t->spread[i])
                t->spread[i] = next;
            sum += (double)t->spread[i];
        }
        if (!(sum > 0))
            break;
        double drawn = gy_training_uniform(t) * sum;
        size_t chosen = 0;
        while (chosen + 1 < count && (passed += (double)t->spread[chosen]) <= drawn)
            chosen++;
        memcpy(rows[made], gy_point(&t->points, members[chosen]), dim * sizeof(float));
    }
    return made;
}

/* Splits a list among itself and the donors, whose rows are overwritten. Returns how many donors were used, the first ones: fewer
 * if there are too few different vectors. If none was, the list's row is as it was. */
static size_t split(struct gy_training *t, size_t list, const uint32_t *donors, size_t donor_count)
{
    const uint32_t *members = t->members + t->starts[list];
    size_t count = gy_training_list_size(t, list);
    float *rows[PIECES_MAX] = {gy_training_row(t, list)}, kept[GYRE_DIM_MAX];
    memcpy(kept, rows[0], t->points.dim * sizeof *kept);
    for (size_t d = 0; d < donor_count; d++)
        rows[d + 1] = gy_training_row(t, donors[d]);
    size_t pieces = seed_pieces(t, members, count, rows, donor_count + 1);
    if (pieces == 1)
        memcpy(rows[0], kept, t->points.dim * sizeof *kept);
    uint8_t *piece_of = (uint8_t *)t->spread; /* the distances of seeding are not needed any more */
    for (size_t round = 0; pieces > 1 && round < PIECE_ROUNDS; round++) {
        for (size_t i = 0; i < count; i++) {
            const float *x = gy_point(&t->points, members[i]);
            float least = distance(x, rows[0], t->points.dim);
            piece_of[i] = 0;
            for (size_t piece = 1; piece < pieces; piece++) {
                float next = distance(x, rows[piece], t->points.dim);
                if (next < least)
                    least = next, piece_of[i] = (uint8_t)piece;
            }
        }
        for (size_t piece = 0; piece < pieces; piece++)
            gy_training_mean(t, members, count, piece_of, (uint8_t)piece, rows[piece]);
    }
    return pieces - 1;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int dearest_first(const void *a, const void *b)
{
    const struct gy_list_cost *x = a, *y = b;
    return x->cost != y->cost ? (x->cost < y->cost) - (x->cost > y->cost) : (x->list > y->list) - (x->list < y->list);
}

/* Gives each of the empty lists half of one of the lists that cost most. */
static size_t fill_empty(struct gy_training *t, const uint64_t *empty, size_t count)
{
    for (size_t c = 0; c < t->k; c++) {
        t->by_cost[c] = (struct gy_list_cost){0, (uint32_t)c};
        if (gy_training_list_size(t, c) > t->limit) /* it has been split already */
            continue;
        for (size_t i = t->starts[c]; i < t->starts[c + 1]; i++)
            t->by_cost[c].cost += (double)t->distances[t->members[i]];
    }
    qsort(t->by_cost, t->k, sizeof *t->by_cost, dearest_first);
    size_t used = 0;
    for (size_t c = 0; used < count && c < t->k && t->by_cost[c].cost > 0; c++)
        used += split(t, t->by_cost[c].list, &(uint32_t){(uint32_t)empty[used]}, 1);
    return used;
}

size_t gy_training_balance(struct gy_training *t)
{
    if (t->progress.largest_list <= t->limit && t->progress.empty_lists == 0)
        return 0;
    for (size_t c = 0; c < t->k; c++)
        t->by_size[c] = (uint64_t)gy_training_list_size(t, c) << 32 | c;
    qsort(t->by_size, t->k, sizeof *t->by_size, ascending);
    size_t donor = 0;
    for (size_t last = t->k; last-- > donor && t->by_size[last] >> 32 > t->limit;) {
        size_t size = (size_t)(t->by_size[last] >> 32), wanted = gy_ceil_div(2 * size, t->limit) - 1, found = 0;
        uint32_t donors[PIECES_MAX - 1];
        while (found < wanted && found < PIECES_MAX - 1 && donor + found < last && t->by_size[donor + found] >> 32 <= size / 2) {
            donors[found] = (uint32_t)t->by_size[donor + found];
            found++;
        }
        if (found == 0)
            break;
        donor += split(t, (uint32_t)t->by_size[last], donors, found);
    }
    size_t empty = donor;
    while (empty < t->k && t->by_size[empty] >> 32 == 0)
        empty++;
    return donor + fill_empty(t, t->by_size + donor, empty - donor);
}
