/* chain: the state of one shard at one generation, put together from its full generation and those that follow it: all their
 * pieces are walked side by side by id, and of records of one id the newest generation's holds.
 * Threads  one owner */
#ifndef GY_BACKUP_CHAIN_H
#define GY_BACKUP_CHAIN_H

#include "backup/manifest.h"

typedef struct backup_chain backup_chain;

/* index_only: ids, versions and sums alone. The manifest and dir are lent until it is closed. */
void chain_open(backup_chain **out, const char *dir, const backup_manifest *manifest, size_t generation, uint32_t shard,
                bool index_only);
void chain_close(backup_chain *chain);
GY_AUTO_DEFINE(backup_chain, chain_close)

/* The next point by id, lent until the next call; *more false after the last, when count and sums were found to be those that the
 * shard said it had. GYRE_CORRUPT names the file. */
GYRE_CHECKED gyre_status chain_next(backup_chain *chain, struct record *out, bool *more, gyre_error *err);

#endif
