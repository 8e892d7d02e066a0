/* block: scan rows interleaved for the scan, GYRE_BLOCK_ROWS at a time.
 *
 * A block depends on nothing but the bytes of a scan code, so it is made without a codebook. Blocks are 64-byte aligned.
 * Bytes    FORMAT.md, "block"          Threads  no state; call from anywhere */
#ifndef GYRE_BLOCK_H
#define GYRE_BLOCK_H

#include "gyre/codec.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { GYRE_BLOCK_ROWS = 32 };

/* Bytes of a block of codes of code_bytes (gyre_codec_scan_code_bytes): a multiple of 64. */
size_t gyre_block_bytes(size_t code_bytes);

/* Leaves every place empty. */
void gyre_block_init(size_t code_bytes, uint8_t *block);
/* Writes a scan row into its place (0…GYRE_BLOCK_ROWS-1), reads it back verbatim, or empties the place so that no scan can return it. */
void gyre_block_set(size_t code_bytes, uint8_t *block, size_t place, const uint8_t *scan_row);
void gyre_block_get(size_t code_bytes, const uint8_t *block, size_t place, uint8_t *scan_row);
void gyre_block_clear(size_t code_bytes, uint8_t *block, size_t place);
bool gyre_block_holds(size_t code_bytes, const uint8_t *block, size_t place);

#ifdef __cplusplus
}
#endif
#endif
