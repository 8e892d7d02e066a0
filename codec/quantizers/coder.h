/* coder: what tells one quantizer from another. Everything common to all (checks, centring, rotation, factors, estimates, bounds) is
 * in quantizer.c and query.c; a coder turns a rotated residual into a code and says what the code stands for.
 *
 * With z = P (x - c) (not scaled to unit length), R = |x - c|, and zb what the code stands for, at any scale of the coder's choice,
 * quantizer.c stores  s  so that <g,r> ~ s·<y,zb>,  and  e = |z - s·zb| / sqrt(dim-1), rounded up:
 *     GY_SCALE_UNBIASED  s = R^2/<z,zb>          e = R·kappa/sqrt(dim-1)       the scale for search
 *     GY_SCALE_SHRUNK    s = <z,zb>/|zb|^2       least squared error; scores shrink
 *     GY_SCALE_OWN       s = R                   zb is in units of z/R and carries its own scale
 * Threads  coders are const; everything hung on a quantizer is immutable once it is made */
#ifndef GY_CODER_H
#define GY_CODER_H

#include "gyre/quantizer.h"

enum gy_scale { GY_SCALE_UNBIASED, GY_SCALE_SHRUNK, GY_SCALE_OWN };

/* What a coder encodes. */
struct gy_residual {
    const float *z;       /* [dim] P r, or r itself for coders with unrotated set */
    double r2;            /* |r|^2, > 0 */
    float per_unit;       /* (float)(sqrt(dim)/R): z_i·per_unit is about N(0,1). One rounded constant per vector (MATH.md 1.3) */
    const uint8_t *signs; /* the sign plane of RaBitQ, for coders of a second plane; NULL for a first */
};

/* A code of one row, as stored. */
struct gy_code {
    const uint8_t *signs; /* the sign plane, for coders of a second plane; NULL for a first */
    const uint8_t *code;
};

/* Nibble tables of a scan (kernels/scan.h), filled for [2 · code_bytes] nibbles, low nibble of byte 0 first. */
struct gy_nibbles {
    uint8_t (*low)[16];  /* h of each value; at most GY_LOOKUP_ENTRY_MAX */
    uint8_t (*high)[16]; /* the second tables, weight 16; used if bits is more than 4 */
    double step;         /* D, out */
    int32_t levels;      /* out: <y,zb> ~ D/2·(levels - 2H) */
    double positions;    /* out: roundings of variance D^2/12 in one sum */
    double reach;        /* in: sqrt(dim); out, if it can be more: the most |zb| can be, so that R <= s·reach */
};

struct gy_coder {
    /* GYRE_INVALID if the codec cannot serve the dim; NULL: every dim. */
    gyre_status (*check)(const gyre_codec *codec, uint32_t dim, gyre_error *err);
    size_t (*code_bytes)(const gyre_codec *codec, uint32_t dim); /* of this plane */

    /* What is derived from the codebook (tables, matrices), and what is learned from a sample of residuals [n][dim] (plain, not rotated):
     * an allocation that _close frees. NULL where there is none. */
    gyre_status (*open)(const gyre_quantizer *quantizer, void **state, gyre_error *err);
    gyre_status (*train)(const gyre_quantizer *quantizer, const float *residuals, size_t n, void **state, gyre_error *err);
    void (*close)(void *state);
    /* Bytes of the learned state, as stored, and back. NULL where nothing is learned. */
    size_t (*state_bytes)(const gyre_quantizer *quantizer, const void *state);
    void (*state_encode)(const gyre_quantizer *quantizer, const void *state, uint8_t *out);
    gyre_status (*state_decode)(const gyre_quantizer *quantizer, const uint8_t *data, size_t bytes, void **state, gyre_error *err);
    /* Hash of the constant books the codes refer to; NULL: none (0). */
    uint64_t (*book_hash)(const gyre_codec *codec);

    /* Writes code and zb [dim]. scratch: scratch_bytes of 64-byte aligned memory, contents undefined. */
    size_t (*scratch_bytes)(const gyre_codec *codec, uint32_t dim); /* NULL: none */
    void (*encode)(const gyre_quantizer *quantizer, const void *state, const struct gy_residual *residual, uint8_t *code, float *zb,
                   void *scratch);
    /* Whether a stored code could have come from _encode (padding zero, indices in range); NULL: all bytes could. */
    bool (*valid)(const gyre_codec *codec, uint32_t dim, const uint8_t *code);
    /* zb [dim], the same bits that encode wrote. */
    void (*decode)(const gyre_quantizer *quantizer, const void *state, const struct gy_code *code, float *zb);

    enum gy_scale scale;
    bool refines_signs; /* a second plane over the sign plane of RaBitQ */
    bool unrotated;     /* works on r itself unless the codebook's rotation is learned (PQ) */

    /* Fills the tables of a block scan for a query y [dim] = P(q - c), rounded to bits 4, 6 or 8; NULL: no block scan. */
    void (*nibbles)(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, struct gy_nibbles *out);
    /* Where the code is the sign plane of RaBitQ: the rounded query that nibbles makes tables of, u [dim], 0…2^bits-1. Else NULL. */
    void (*levels)(const float *y, uint32_t dim, uint32_t bits, uint8_t *u);

    /* Estimation row by row. query_prepare writes query_bytes (64-byte aligned) of what dot reads; dot gives <y,zb> of the rounded y.
     * bits is 4, 6, 8 or 0 (float); *step gets the D of the rounding, 0 for none: each rounded y_i errs by at most D/2.
     * query_bytes and query_prepare NULL: dot reads y [dim] as floats, rounded to the grid of gy_query_round if bits is not 0. dot
     * NULL too: kernels' dot of that y with the decoded zb. */
    size_t (*query_bytes)(const gyre_quantizer *quantizer, uint32_t bits);
    void (*query_prepare)(const gyre_quantizer *quantizer, const void *state, const float *y, uint32_t bits, void *prepared, double *step);
    double (*dot)(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code);
    /* Where one e and one G are too coarse (segments): the error of s·dot is random·T + at most certain. NULL: e·G, 0. */
    void (*spread)(const gyre_quantizer *quantizer, const void *state, const void *prepared, const struct gy_code *code, double s,
                   double *random, double *certain);
};

/* The symmetric grid of refinement: y_i ~ D·v_i, v_i whole, |v_i| <= 2^(bits-1) - 1, D = max|y|/that, nearest, halves away from zero.
 * Writes levels [dim] and returns D (0 for y = 0). */
double gy_query_round(const float *y, uint32_t dim, uint32_t bits, int8_t *levels);

/* The coder of a codec's first and of its second plane (NULL: none). */
const struct gy_coder *gy_coder_first(const gyre_codec *codec);
const struct gy_coder *gy_coder_second(const gyre_codec *codec);

/* One per file of this folder. */
extern const struct gy_coder gy_coder_rabitq, gy_coder_extended, gy_coder_pq, gy_coder_segments;
extern const struct gy_coder gy_coder_trellis, gy_coder_signtrellis;
extern const struct gy_coder gy_coder_blockquant, gy_coder_blockquant_nibble, gy_coder_additive, gy_coder_signblock;
extern const struct gy_coder gy_coder_eden, gy_coder_eden_biased, gy_coder_turboquant, gy_coder_hamming, gy_coder_dithered, gy_coder_jl;

/* For coders: the state they made in open, train or state_decode. plane 0 or 1. */
const void *gy_quantizer_state(const gyre_quantizer *quantizer, size_t plane);

/* Dimension of a quantizer's codebook. */
static inline uint32_t gy_quantizer_dim(const gyre_quantizer *quantizer)
{
    return gyre_codebook_dim(gyre_quantizer_codebook(quantizer));
}

#endif
