/* window: the newest writes of each client, so that one that is sent again is recognised: it changes nothing and gets the answer of
 * the first.
 *
 * Part of the applied state: what is kept depends on the entries applied and on nothing else, so every replica at one seq knows the
 * same. Kept are the last GY_WINDOW_REQUESTS of each of the GY_WINDOW_CLIENTS clients whose last is the newest; whoever waits longer
 * before sending again is not recognised. At most about 8 MB.
 *
 * An entry, when it is about to be applied: _find → found: apply nothing. Not found: _note, which says what to change on disk in the
 * batch (gy_points_apply), then _applied with what the batch filled in.
 * Threads  one owner (the replica's thread) */
#ifndef GY_REPLICA_WINDOW_H
#define GY_REPLICA_WINDOW_H

#include "store/store.h"

enum { GY_WINDOW_CLIENTS = 4096, GY_WINDOW_REQUESTS = 64 };

typedef struct gy_window gy_window;

/* Empty. key: random bytes of the process, because clients choose their names. */
GYRE_CHECKED gyre_status gy_window_new(gy_window **out, uint64_t key, gyre_error *err);
void gy_window_free(gy_window *window);
GY_AUTO_DEFINE(gy_window, gy_window_free)
/* What the store has, into an empty one. GYRE_CORRUPT if it is more than would be kept, or something twice. */
GYRE_CHECKED gyre_status gy_window_load(gy_window *window, gy_store *store, gyre_error *err);

/* The seq of a request that is kept and what it deleted (0 until _applied). */
bool gy_window_find(const gy_window *window, const uint8_t client[GY_CLIENT_BYTES], uint64_t request, uint64_t *seq,
                    uint64_t *deleted);
/* Enters a request that is not there, as the entry seq, above all before, and adds what that changes. GYRE_NO_MEMORY changes
 * nothing. */
GYRE_CHECKED gyre_status gy_window_note(gy_window *window, const uint8_t client[GY_CLIENT_BYTES], uint64_t request, uint64_t seq,
                                        struct gy_request_changes *changes, gyre_error *err);
/* The changes are on disk: takes over how much each request deleted, and empties them. */
void gy_window_applied(gy_window *window, struct gy_request_changes *changes);

/* Frees what changes hold; {0} is empty. */
void gy_request_changes_fini(struct gy_request_changes *changes);

#endif
