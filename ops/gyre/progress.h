/* progress: how far a long command is: one line that redraws itself on a terminal, a plain line every few seconds elsewhere.
 *
 * Written to stderr, so that results can be piped. Threads: one at a time. */
#ifndef GY_PROGRESS_H
#define GY_PROGRESS_H

#include "cli.h"

#include <stdio.h>

struct progress {
    FILE *out;
    bool terminal;        /* out is one */
    bool quiet;           /* nothing at all */
    const char *verb;     /* "imported" */
    const char *unit;     /* "points" */
    uint64_t total;       /* 0: unknown */
    int64_t started_ns;
    int64_t shown_ns;     /* of the last line; 0: none yet */
};

void progress_init(struct progress *progress, FILE *out, bool quiet, const char *verb, const char *unit, uint64_t total);
/* Shows done of total if it is time to; cheap otherwise. */
void progress_show(struct progress *progress, uint64_t done);
/* Shows a sentence instead of a count, if it is time to. */
void progress_say(struct progress *progress, const char *text);
/* Clears the terminal's line; a plain log keeps its lines. */
void progress_end(struct progress *progress);
/* How long to wait before the next progress_show is of use. */
int64_t progress_interval_ns(const struct progress *progress);

/* The line without control characters: "imported 20,000 of 40,000 points (50%), 41,000/s, 0:01 left". */
enum { PROGRESS_TEXT_BYTES = 192 };
char *progress_text(const struct progress *progress, uint64_t done, int64_t now_ns, char out[PROGRESS_TEXT_BYTES]);

#endif
