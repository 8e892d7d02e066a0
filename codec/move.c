/* move: a query turned to the rows of one list. Its tables and its rounded y = P (q - m), m the codebook's mean, stay: rows of a
 * list carry what their reference c adds (quantizer.c), so only the sizes that depend on c are made anew, from one pass over it.
 *
 * With d = P (c - m), S = s·|zb|:    g = q - c,  s·<P g,zb> = s·<y,zb> - s·<d,zb>,  and a row's add has factor·s·<d,zb> in it. */
#include "query_internal.h"
#include "sums.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* How far P v in floats is from P v, in units of |v|, added up over the three vectors that are rotated for one estimate. Each
 * level of butterflies and each scale rounds every coordinate once, so moves a vector by at most 2^-24 of its length: 3·14 times
 * that at most, over P q, P m and P (c - m); 9 more for what adds and subtracts them, and half as much again where |s·zb| is
 * known only to a factor of sqrt 2 (GY_SCALE_OWN). A learned matrix sums dim products for each coordinate, hence a share more. */
static double rotation_share(const gyre_query *query, double share)
{
    return 0x1.2p-17 + (gyre_codebook_is_learned(query->quantizer->codebook) ? share : 0);
}

/* What float arithmetic may lose (query.c: share and tiny), for rows of a list.
 *   reference2  |c|^2;  exact: by how much g2 may differ from |q - c|^2
 * Sizes: L = |q|, M = |m|, N = |c|, A = |q - m|, C = |c - m|, G; of a row R and S, R <= S at the unbiased scale.
 *   rotations      y and d err by a share of L + M and of C, which S multiplies. (P r errs by one of R: within what follows)
 *   l2             |x-q|^2 <= 2(R^2 + G^2), as in other rows. But add is R^2 + 2·s·<d,zb> here, not R^2, and may be negative:
 *                  R^2 <= add + 2·C·S, so a share of R^2 is that of add and one of 2·C for each S. Estimates have r2 at hand
 *   ip, cosine     |<x,q>| <= N·L + R·L, |<r,c>| <= R·N
 *   estimates      besides, <y,zb> is summed in floats: a share of A·S */
static void allow_for_rounding(gyre_query *query, double reference2, double exact)
{
    const gyre_codebook *codebook = query->quantizer->codebook;
    uint32_t dim = query->quantizer->dim;
    gyre_metric metric = gyre_codebook_metric(codebook);
    double share = gy_rounding_share(dim), tiny = gy_rounding_tiny(dim);
    double length = sqrt(query->query2), mean = sqrt(query->mean2), asked = sqrt(query->y2), reference = sqrt(reference2);
    double offset = fmin(asked + query->g, reference + mean); /* C at most */
    double rotations = query->factor * rotation_share(query, share) * (length + mean + offset);
    if (metric == GYRE_L2) {
        query->rounding_base = share * query->g2 + exact;
        query->rounding_add = share;
        query->rounding_s = rotations + share * 2 * offset;
        query->rounding_row = rotations + share * asked;
    } else {
        query->rounding_base = share * (length * reference + (metric == GYRE_COSINE ? 1 : 0));
        query->rounding_add = 0;
        query->rounding_s = rotations + share * (length + reference);
        query->rounding_row = query->rounding_s + share * asked;
    }
    query->rounding_base += tiny * (1 + query->g + asked + offset); /* s among denormals multiplies these */
    query->rounding_s += tiny;
    query->rounding_row += tiny;
}

void gyre_query_move(gyre_query *query, const float *reference)
{
    assert(gy_quantizer_folds(query->quantizer)); /* or no rows of a list were made */
    uint32_t dim = query->quantizer->dim;
    gyre_metric metric = gyre_codebook_metric(query->quantizer->codebook);
    double center, reference2;
    gy_sum_pair(query->vector, reference, dim, &center, &reference2);
    /* |q-c|^2 from sums of exact products in double: what cancellation can leave of their roundings is exact, and g2 has it on
     * top, so that no width is too small where the query is its list's centroid. */
    double exact = (dim / 8.0 + 8) * 0x1p-51 * (query->query2 + reference2);
    double distance2 = fmax(0, query->query2 - 2 * center + reference2);
    query->g2 = distance2 + exact;
    query->g = sqrt(query->g2);
    query->base = metric == GYRE_L2 ? distance2 : metric == GYRE_IP ? -center : 1 - center;
    query->moved = true;
    if (query->bound == GYRE_BOUND_CALIBRATED) /* it asks for <g,r> by itself, which a folded row does not tell from <d,zb> */
        query->bound = GYRE_BOUND_PLAIN;
    allow_for_rounding(query, reference2, exact);
    if (query->scan.lookup_count)
        gy_query_place_scan(query);
}

/* Where an address inside one query is in its copy; NULL stays NULL. */
static const void *moved_to(const gyre_query *from, const gyre_query *to, const void *inside)
{
    return inside ? (const uint8_t *)to + ((const uint8_t *)inside - (const uint8_t *)from) : NULL;
}

gyre_status gyre_query_copy(gyre_query **out, const gyre_query *query, gyre_error *err)
{
    gyre_query *copy = aligned_alloc(64, query->bytes);
    if (!copy)
        return gyre_fail(err, GYRE_NO_MEMORY, "query of dim %u: %zu bytes", query->quantizer->dim, query->bytes);
    memcpy(copy, query, query->bytes);
    copy->vector = moved_to(query, copy, query->vector);
    for (size_t t = 0; t < 2; t++)
        copy->scan.lookup[t] = moved_to(query, copy, query->scan.lookup[t]);
    copy->misses.planes = moved_to(query, copy, query->misses.planes);
    copy->prepared = moved_to(query, copy, query->prepared);
    *out = copy;
    return GYRE_OK;
}
