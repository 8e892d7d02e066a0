/* take: a backup as it is taken: shards in parallel, each as it is at one seq, into pieces and notes; nothing of the manifest.
 *
 * Threads  take_run blocks and has threads of its own */
#ifndef GY_BACKUP_TAKE_H
#define GY_BACKUP_TAKE_H

#include "backup/manifest.h"

#include "cli.h"

struct take {
    const struct cli *cli;
    gyre_client *client;
    const char *dir;
    const backup_manifest *manifest; /* NULL: there is no earlier one; its newest generation is what is followed: */
    bool follow;                     /* else every shard is full */
    const char *collection;
    uint64_t points_expected;        /* for the progress */
    size_t parallel;
    bool quiet;
    struct backup_generation *made;  /* all but its shards is set; those are filled, room for them is there (malloc'ed). It gets more
                                      * of them when some are split meanwhile */
};

struct take_result {
    uint64_t bytes, resumed; /* written now; shards that an interrupted backup had finished */
    uint64_t retries;
    double seconds;
    int signal;              /* that ended it; 0: none */
    gyre_error failure;      /* status GYRE_OK if none */
    char (*reasons)[GYRE_ERROR_TEXT_BYTES]; /* [shard_count] why a shard that was to follow is full; empty: it is not. free() */
};

/* Every shard is in made->shards, and its files on disk, unless the result says why not. What is there then, another take_run
 * with the same made goes on with. */
void take_run(const struct take *take, struct take_result *result);
/* After the manifest names the generation. */
void take_forget_notes(const struct take *take);

#endif
