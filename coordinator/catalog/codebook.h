/* codebook: a codebook as the coordinator holds it: decoded, beside its bytes, and counted. With centroids it is tens of
 * megabytes, so the table, the views of requests and the messages to nodes share one.
 * Threads  any */
#ifndef GY_CATALOG_CODEBOOK_H
#define GY_CATALOG_CODEBOOK_H

#include "gyre/codebook.h"
#include "gyre/wire.h"

typedef struct gy_codebook gy_codebook;

/* Takes codebook, also on failure; held once, by the caller. */
GYRE_CHECKED gyre_status gy_codebook_new(gy_codebook **out, gyre_codebook *codebook, gyre_error *err);
/* Reads what the catalog stored; takes bytes on success. GYRE_CORRUPT, GYRE_UNIMPLEMENTED as gyre_codebook_decode. */
GYRE_CHECKED gyre_status gy_codebook_decode(gy_codebook **out, gy_bytes *bytes, gyre_error *err);
gy_codebook *gy_codebook_hold(gy_codebook *codebook); /* NULL is fine */
void gy_codebook_release(gy_codebook *codebook);      /* the same */
GY_AUTO_DEFINE(gy_codebook, gy_codebook_release)

const gyre_codebook *gy_codebook_decoded(const gy_codebook *codebook);
const gy_bytes *gy_codebook_bytes(const gy_codebook *codebook); /* gyre_codebook_encode: a secret of the cluster */

#endif
