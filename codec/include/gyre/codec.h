/* codec: the ways to turn a rotated vector into bits, by name, and the sizes of what they store.
 *
 * A code has one or two *planes*. The first is what a scan reads; a second refines the survivors of the scan. Codecs with two
 * planes (Extended RaBitQ, SignBlock, SignTrellis) share the first: the sign bits of RaBitQ, so one scan serves them all.
 *   row         scan row | refine row (two planes only)         one point's code as it is logged and moved
 *   scan row    code | s f32 | add f32 | r2 f32 | e bf16
 *   refine row  code | s f32 | e bf16
 * Bytes    FORMAT.md, "row"          Threads  no state; call from anywhere */
#ifndef GYRE_CODEC_H
#define GYRE_CODEC_H

#include "gyre/metric.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Numbers are stored: never reuse one. */
typedef enum gyre_codec_kind {
    GYRE_RABITQ = 1,      /* bits 1: sign bits; 2…8: Extended RaBitQ, two planes */
    GYRE_BLOCKQUANT = 2,  /* block: p, coordinates per codeword */
    GYRE_ADDITIVE = 3,    /* two nibble books whose sum stands for block = 8 coordinates */
    GYRE_SIGNBLOCK = 4,   /* block: p; two planes */
    GYRE_TRELLIS = 5,     /* block: L, bits of state */
    GYRE_SIGNTRELLIS = 6, /* block: L; two planes */
    GYRE_EDEN = 7,
    GYRE_TURBOQUANT = 8,
    GYRE_HAMMING = 9,
    GYRE_DITHERED = 10,
    GYRE_PQ = 11,         /* block: p; trained on the data */
    GYRE_JL = 12,         /* block: coordinates per one that is kept */
    GYRE_SEGMENTS = 13,   /* principal components with unequal bits; trained on the data */
} gyre_codec_kind;

typedef enum gyre_codec_variant {
    GYRE_VARIANT_NONE = 0,
    GYRE_VARIANT_FAST = 1,   /* Extended RaBitQ: one fixed scale instead of the search for the best */
    GYRE_VARIANT_BIASED = 2, /* EDEN: the scale of least squared error, which shrinks scores */
    GYRE_VARIANT_MSE = 3,    /* TurboQuant */
    GYRE_VARIANT_PROD = 4,   /* TurboQuant with a sign sketch of the residual */
    GYRE_VARIANT_FLOAT = 5,  /* JL: coordinates kept as f32 */
    GYRE_VARIANT_BYTE = 6,   /* JL: as bytes */
} gyre_codec_variant;

/* Small enough to pass by value. Only those of gyre_codec_list exist. */
typedef struct gyre_codec {
    const char *name;  /* "rabitq1", "signblock-p8b2", …: what people type */
    const char *about; /* one line for people */
    uint16_t kind;     /* gyre_codec_kind */
    uint8_t bits;      /* per dimension, all planes together, rounded to the nearest whole number */
    uint8_t block;     /* as the kind says, or 0 */
    uint8_t variant;   /* gyre_codec_variant */
} gyre_codec;

/* Every codec there is, by kind and bits. Static storage; count may be NULL. */
const gyre_codec *gyre_codec_list(size_t *count);
/* The codec of a name. GYRE_INVALID names one of each kind. */
GYRE_CHECKED gyre_status gyre_codec_find(const gyre_codec **out, const char *name, gyre_error *err);

bool gyre_codec_has_refinement(const gyre_codec *codec); /* a second plane */
bool gyre_codec_scans(const gyre_codec *codec);          /* its first plane has nibbles that blocks can be made of */
bool gyre_codec_has_signs(const gyre_codec *codec);      /* its first plane is the sign bits of RaBitQ */
bool gyre_codec_is_trained(const gyre_codec *codec);     /* needs gyre_quantizer_train */

/* Sizes at a dim 1…GYRE_DIM_MAX. refine bytes are 0 without a second plane; row = scan row + refine row. */
size_t gyre_codec_scan_code_bytes(const gyre_codec *codec, uint32_t dim);
size_t gyre_codec_scan_row_bytes(const gyre_codec *codec, uint32_t dim);
size_t gyre_codec_refine_code_bytes(const gyre_codec *codec, uint32_t dim);
size_t gyre_codec_refine_row_bytes(const gyre_codec *codec, uint32_t dim);
size_t gyre_codec_row_bytes(const gyre_codec *codec, uint32_t dim);
/* Rows of a list (gyre_quantizer_encode_list): the scan row is as long; a refine row has 4 bytes more (f32 add of the second plane). */
size_t gyre_codec_list_refine_row_bytes(const gyre_codec *codec, uint32_t dim);
size_t gyre_codec_list_row_bytes(const gyre_codec *codec, uint32_t dim);
/* As gyre_codec_row_check, for a row of a list. */
GYRE_CHECKED gyre_status gyre_codec_list_row_check(const gyre_codec *codec, uint32_t dim, const uint8_t *row, gyre_error *err);

/* Checks that a stored or received row could be one of a quantizer's: finite factors within their limits, padding bits zero. Every
 * function that reads rows takes only such rows. GYRE_CORRUPT names the factor and its limits. */
GYRE_CHECKED gyre_status gyre_codec_row_check(const gyre_codec *codec, uint32_t dim, const uint8_t *row, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
