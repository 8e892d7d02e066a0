/* tally: what `eval` adds up: recall, times and what the answers rested on. Zeroed is empty; tally_fini frees. Pure. */
#ifndef GY_TALLY_H
#define GY_TALLY_H

#include "cli.h"

struct tally {
    uint64_t queries;
    uint64_t found, wanted;  /* of the true neighbours: recall is found / wanted */
    uint64_t codes_scanned, candidates, reranked;
    uint64_t certified;      /* answers */
    uint64_t lists_probed, lists_total; /* of all answers; of the last one */
    double recall_expected;  /* sum over the answers that had one */
    uint64_t expecting;      /* answers that had one */
    int64_t *times_ns;       /* [queries]; grows, the tally's own */
    size_t times_max;        /* room */
};

void tally_fini(struct tally *tally);
/* Counts one answer. truth: the ids of its k true neighbours. */
void tally_add(struct tally *tally, const Gyre__V1__SearchReply *reply, const uint64_t *truth, size_t k, int64_t time_ns);
/* Adds other to tally. */
void tally_merge(struct tally *tally, const struct tally *other);

double tally_recall(const struct tally *tally); /* 1 if nothing was wanted */
/* The time that a share of the answers (0…1) did not exceed, by the nearest rank; 0 without answers. Sorts the times. */
int64_t tally_percentile_ns(struct tally *tally, double share);

#endif
