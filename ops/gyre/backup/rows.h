/* rows: a generation of a backup as runs of points that are ready to be sent, shard after shard, by id.
 * Threads  one at a time, as feed.h asks */
#ifndef GY_BACKUP_ROWS_H
#define GY_BACKUP_ROWS_H

#include "backup/chain.h"
#include "source.h"

enum { ROWS_SAMPLE = 256 };

typedef struct backup_rows backup_rows;

/* start: points before it are read and checked, but not handed out. dir and manifest are lent. */
backup_rows *backup_rows_new(const char *dir, const backup_manifest *manifest, size_t generation, uint64_t start,
                             size_t run_rows);
void backup_rows_free(backup_rows *rows);
GY_AUTO_DEFINE(backup_rows, backup_rows_free)

/* As feed.h wants them; self is a backup_rows. */
gyre_status backup_rows_next(void *self, source_run *run, gyre_error *err);
source_run *backup_rows_run_new(void *self);
uint64_t backup_rows_next_row(void *self);

/* Of what was read: points evenly spread over it, to be compared with what is in the collection in the end. */
struct sampled {
    gyre_point_id id;
    float *vector; /* [dim] */
    char *payload;
};
/* Fills a message; uuid must outlive it. */
void point_id_message(const gyre_point_id *id, Gyre__V1__PointId *out, char uuid[GYRE_UUID_TEXT_BYTES]);
const struct sampled *backup_rows_sample(const backup_rows *rows, size_t *count);

#endif
