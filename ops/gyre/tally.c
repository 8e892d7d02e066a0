/* tally: see tally.h. */
#include "tally.h"

#include <math.h>
#include <stdlib.h>

static void make_room(struct tally *tally, uint64_t times)
{
    if (times <= tally->times_max)
        return;
    tally->times_max = (size_t)(times + times / 2 + 64);
    tally->times_ns = cli_resize(tally->times_ns, tally->times_max, sizeof *tally->times_ns);
}

void tally_fini(struct tally *tally)
{
    free(tally->times_ns);
    *tally = (struct tally){0};
}

static bool holds(const uint64_t *truth, size_t k, const Gyre__V1__PointId *id)
{
    if (!id || id->id_case != GYRE__V1__POINT_ID__ID_NUM)
        return false;
    for (size_t i = 0; i < k; i++)
        if (truth[i] == id->num)
            return true;
    return false;
}

void tally_add(struct tally *tally, const Gyre__V1__SearchReply *reply, const uint64_t *truth, size_t k, int64_t time_ns)
{
    /* An answer longer than k would find more than was asked; only its first k count. */
    for (size_t i = 0; i < reply->n_hits && i < k; i++)
        tally->found += holds(truth, k, reply->hits[i]->id);
    tally->wanted += k;
    make_room(tally, tally->queries + 1);
    tally->times_ns[tally->queries++] = time_ns;
    if (reply->basis) {
        tally->codes_scanned += reply->basis->codes_scanned;
        tally->candidates += reply->basis->candidates;
        tally->reranked += reply->basis->reranked;
        tally->certified += reply->basis->certified ? 1 : 0;
        tally->lists_probed += reply->basis->lists_probed;
        tally->lists_total = reply->basis->lists_total;
        tally->recall_expected += reply->basis->recall_expected;
        tally->expecting += reply->basis->recall_expected > 0;
    }
}

void tally_merge(struct tally *tally, const struct tally *other)
{
    make_room(tally, tally->queries + other->queries);
    if (other->queries)
        memcpy(tally->times_ns + tally->queries, other->times_ns, (size_t)other->queries * sizeof *other->times_ns);
    tally->queries += other->queries;
    tally->found += other->found;
    tally->wanted += other->wanted;
    tally->codes_scanned += other->codes_scanned;
    tally->candidates += other->candidates;
    tally->reranked += other->reranked;
    tally->certified += other->certified;
    tally->lists_probed += other->lists_probed;
    if (other->queries)
        tally->lists_total = other->lists_total;
    tally->recall_expected += other->recall_expected;
    tally->expecting += other->expecting;
}

double tally_recall(const struct tally *tally)
{
    return tally->wanted ? (double)tally->found / (double)tally->wanted : 1;
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t tally_percentile_ns(struct tally *tally, double share)
{
    if (!tally->queries)
        return 0;
    qsort(tally->times_ns, (size_t)tally->queries, sizeof *tally->times_ns, compare_times);
    double rank = ceil(share * (double)tally->queries);
    size_t at = rank < 1 ? 0 : (size_t)rank - 1;
    return tally->times_ns[at < tally->queries ? at : tally->queries - 1];
}
