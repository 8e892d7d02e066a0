/* quantizer: a codec bound to a codebook: vectors to rows and back.
 *
 * One interface for all codecs: a row's bytes depend on (vector, codec, codebook) alone and are the same on every CPU, compiler
 * and optimisation level.
 * Source   codec/MATH.md section 0: one estimator, one bound, one set of factors for all of them
 * Bytes    FORMAT.md, "row" and "quantizer"          Threads  immutable after _new; share freely */
#ifndef GYRE_QUANTIZER_H
#define GYRE_QUANTIZER_H

#include "gyre/codebook.h"
#include "gyre/codec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct gyre_quantizer gyre_quantizer;

/* Binds a codec to a codebook, which is borrowed and must outlive the quantizer. GYRE_INVALID if the codec must be trained or
 * cannot serve the dim. */
GYRE_CHECKED gyre_status gyre_quantizer_new(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err);

/* As _new, for codecs that learn from data (pq, segments).
 *   sample  [n][dim] vectors as the client gives them
 * Deterministic: the same arguments give the same quantizer on every CPU. GYRE_INVALID for bad vectors or too few. */
GYRE_CHECKED gyre_status gyre_quantizer_train(gyre_quantizer **out, const gyre_codec *codec, const gyre_codebook *codebook,
                                              const float *sample, size_t n, gyre_error *err);
void gyre_quantizer_free(gyre_quantizer *quantizer);
GY_AUTO_DEFINE(gyre_quantizer, gyre_quantizer_free)

/* Size of, and the bytes of, what a reader must know besides the codebook: codec, hash of its constant books, fingerprint of the
 * codebook, and what was trained. _decode: GYRE_CORRUPT for bytes that cannot be, GYRE_UNIMPLEMENTED for a newer format or books
 * this build does not have, GYRE_PRECONDITION for another codebook. */
size_t gyre_quantizer_encoded_bytes(const gyre_quantizer *quantizer);
void gyre_quantizer_encode_header(const gyre_quantizer *quantizer, uint8_t *out);
GYRE_CHECKED gyre_status gyre_quantizer_decode_header(gyre_quantizer **out, const gyre_codebook *codebook, const uint8_t *data,
                                                      size_t bytes, gyre_error *err);

const gyre_codec *gyre_quantizer_codec(const gyre_quantizer *quantizer);
const gyre_codebook *gyre_quantizer_codebook(const gyre_quantizer *quantizer);

/* Encodes n vectors.
 *   vectors  [n][dim] f32 as the client gave them (normalised here if the metric is cosine; not modified)
 *   rows     [n][gyre_codec_row_bytes], written; must not overlap vectors
 * GYRE_INVALID as gyre_vector_check says, with first_row + i as the row. Allocates at most once per call, never per vector. */
GYRE_CHECKED gyre_status gyre_quantizer_encode(const gyre_quantizer *quantizer, const float *vectors, size_t n, size_t first_row,
                                               uint8_t *rows, gyre_error *err);

/* As _encode, for rows of a list: residuals are taken from reference instead of the codebook's mean, so they are shorter and so
 * are the bounds. What the reference adds to <y,zb> is folded into the row (FORMAT.md, "row of a list"), so that a query is
 * rounded once and serves every list (gyre_query_move).
 *   reference  [dim] centroid of the list, in the space of gyre_vector_normalize
 *   rows       [n][gyre_codec_list_row_bytes]
 * With reference equal to the codebook's mean the scan rows are those of _encode, bit for bit. GYRE_INVALID besides for codecs
 * that cannot (those that do not rotate or spread their error: pq, segments, hamming; all that gyre_codec_has_signs can), or a
 * reference that gyre_vector_check refuses under l2. */
GYRE_CHECKED gyre_status gyre_quantizer_encode_list(const gyre_quantizer *quantizer, const float *reference, const float *vectors,
                                                    size_t n, size_t first_row, uint8_t *rows, gyre_error *err);

/* Decodes one row, by its best plane, to the reconstruction of least squared error: x^ = c + (R·rho/nu^2) P^T zb (for codecs whose
 * own scale is part of what they are: with that scale). out [dim]; cosine: of unit vectors. */
void gyre_quantizer_decode(const gyre_quantizer *quantizer, const uint8_t *row, float *out);

#ifdef __cplusplus
}
#endif
#endif
