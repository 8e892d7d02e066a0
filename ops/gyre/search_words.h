/* search_words: the options that `search` and `eval` share, and what they become in a request. */
#ifndef GY_SEARCH_WORDS_H
#define GY_SEARCH_WORDS_H

#include "args.h"

enum { SEARCH_K_DEFAULT = 10, SEARCH_K_MAX = 10000 };

struct search_words {
    uint64_t k;
    double confidence; /* 0: the server's default */
    bool exact, approximate, partial;
};

/* The rows of a command's table that read the words at w. */
#define SEARCH_WORDS_ARGS(w) \
    {"k", 'k', ARG_COUNT, &(w)->k, 1, SEARCH_K_MAX, "N", "how many neighbours (10)"}, \
    {"exact", 0, ARG_SWITCH, &(w)->exact, 0, 0, NULL, "compare with every full vector"}, \
    {"approximate", 0, ARG_SWITCH, &(w)->approximate, 0, 0, NULL, "answer from codes alone: distances are estimates"}, \
    {"confidence", 0, ARG_REAL, &(w)->confidence, 0.9, 0.9999999, "P", "of each neighbour's bound: 0.9 to 0.9999999 (0.98)"}, \
    {"allow-partial", 0, ARG_SWITCH, &(w)->partial, 0, 0, NULL, "answer from the shards that can be reached, and say so"}

/* Fills *out, or returns GYRE_INVALID for words that exclude each other. */
GYRE_CHECKED gyre_status search_words_options(const struct search_words *words, Gyre__V1__SearchOptions *out, gyre_error *err);

#endif
