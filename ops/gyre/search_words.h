/* search_words: the options that `search` and `eval` share, and what they become in a request. */
#ifndef GY_SEARCH_WORDS_H
#define GY_SEARCH_WORDS_H

#include "args.h"

enum { SEARCH_K_DEFAULT = 10, SEARCH_K_MAX = 10000, SEARCH_RECALLS_MAX = 32, SEARCH_NPROBE_MAX = INT32_MAX };

struct search_words {
    uint64_t k;
    double confidence; /* 0: the server's default */
    uint64_t nprobe;   /* 0: by recall */
    const char *recall; /* as typed; NULL: the server's default */
    bool exact, approximate, partial, from_codes;
};

/* The rows of a command's table that read the words at w; --recall is the command's own, since some take many. */
#define SEARCH_WORDS_ARGS(w) \
    {"k", 'k', ARG_COUNT, &(w)->k, 1, SEARCH_K_MAX, "N", "how many neighbours (10)"}, \
    {"exact", 0, ARG_SWITCH, &(w)->exact, 0, 0, NULL, "compare with every full vector"}, \
    {"approximate", 0, ARG_SWITCH, &(w)->approximate, 0, 0, NULL, "answer from codes alone: distances are estimates"}, \
    {"nprobe", 0, ARG_COUNT, &(w)->nprobe, 1, SEARCH_NPROBE_MAX, "N", "look into the N most promising lists (as --recall needs)"}, \
    {"confidence", 0, ARG_REAL, &(w)->confidence, 0.9, 0.9999999, "P", "of each neighbour's bound: 0.9 to 0.9999999 (0.98)"}, \
    {"allow-partial", 0, ARG_SWITCH, &(w)->partial, 0, 0, NULL, "answer from the shards that can be reached, and say so"}, \
    {"allow-approximate", 0, ARG_SWITCH, &(w)->from_codes, 0, 0, NULL, \
     "let codes answer for a shard none of whose full copies can be reached, and say so"}

/* Fills *out but for recall_target, which is 0, or returns GYRE_INVALID for words that exclude each other. */
GYRE_CHECKED gyre_status search_words_options(const struct search_words *words, Gyre__V1__SearchOptions *out, gyre_error *err);

/* Reads "0.95" or "0.9,0.95,0.99", each from 0.5 to 1 and at most max of them; NULL: one 0, the server's default. */
GYRE_CHECKED gyre_status search_words_recalls(const struct search_words *words, size_t max, double *out, size_t *count, gyre_error *err);

#endif
