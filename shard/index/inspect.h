/* inspect: reads every record of a replica's files and says each that is not as it should be.
 *
 * Everything comes from the disk and nothing from what a serving replica keeps in memory: for files that nobody writes to
 * (gy_store_open_to_check). Points, vectors and codes are decoded one by one and summed, and the sums must be the digest that was
 * stored with the last of them.
 * Threads  one an inspection */
#ifndef GY_INSPECT_H
#define GY_INSPECT_H

#include "store/rows.h"

struct gy_inspection {
    /* Set by the caller. on_damage gets every finding, family "" for the whole replica. pace is called now and then with how many bytes
     * were read since; what it returns other than GYRE_OK ends the inspection. Both may be NULL. */
    void (*on_damage)(void *self, const char *family, const char *what);
    gyre_status (*pace)(void *self, uint64_t bytes, gyre_error *err);
    void *self;
    /* Written. */
    uint64_t log_entries, points, vectors, chunks, requests; /* looked at */
    uint64_t bytes;                                          /* of keys and values */
    uint64_t damaged;
    char first[GYRE_ERROR_TEXT_BYTES];                       /* the first finding; "" */
    uint64_t unpaced;                                        /* bytes since pace was called */
    const char *family;                                      /* being read */
};

/* Notes a finding. */
void gy_inspection_note(struct gy_inspection *inspection, const gyre_error *why);
/* A record was read: GYRE_OK, or pace's refusal. */
GYRE_CHECKED gyre_status gy_inspection_step(struct gy_inspection *inspection, struct gy_slice key, struct gy_slice value,
                                            gyre_error *err);
/* What a look came to: damage is noted; what is no finding (pace's refusal, no memory, a newer format) is returned. */
GYRE_CHECKED gyre_status gy_inspection_noted(struct gy_inspection *inspection, gyre_status status, const gyre_error *why,
                                             gyre_error *err);

/* Points, vectors and codes of a store. GYRE_OK whatever is found; a failure: pace's, or no memory. */
GYRE_CHECKED gyre_status gy_inspect_points(gy_store *store, struct gy_inspection *inspection, gyre_error *err);

#endif
