/* feed: points go into a collection, over several streams at once, and whoever feeds them learns up to where they are surely
 * there.
 *
 * Threads  feed_run blocks and has threads of its own, which take their runs from the source one at a time */
#ifndef GY_FEED_H
#define GY_FEED_H

#include "source.h"

struct feed {
    const struct cli *cli;
    gyre_client *client;
    const char *collection;
    size_t batch;     /* points in a message, at most */
    size_t streams;
    bool quiet;
    const char *verb; /* of the progress: "imported" */
    uint64_t rows;    /* the source will hand out */
    /* Where they come from, in order: as source_next, source_run_new and source_next_row. */
    gyre_status (*next)(void *self, source_run *run, gyre_error *err);
    source_run *(*run_new)(void *self);
    uint64_t (*next_row)(void *self);
    void *self;
};

struct feed_result {
    uint64_t acknowledged; /* points */
    uint64_t retries;
    uint64_t resume_row;   /* every row before it is written */
    double seconds;
    int signal;            /* that ended it; 0: none */
    gyre_error failure;    /* status GYRE_OK if none */
};

/* Sends everything, until the first failure that does not pass, SIGINT or SIGTERM. */
void feed_run(const struct feed *feed, struct feed_result *result);

#endif
