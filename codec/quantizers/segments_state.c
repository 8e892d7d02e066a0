/* segments_state: a segments codec learned from a sample, and its state as stored:
 *   u32 rows   u32 segments   for each: u16 dims, u16 bits   then the components f32 [rows][dim]
 *
 * The gate. Unequal bits pay where few directions carry most of the variance, and cost where they do not: a flat spectrum has
 * nothing to give unequally, and what a sample shows of it is noise. So training refuses unless the effective dimension of the
 * sample is below a third of dim, and unless on a fifth of the sample, kept out of the learning, the codec errs clearly less than
 * RaBitQ of the same bits. */
#include "quantizers/coding.h"
#include "quantizers/segments.h"
#include "rotations/dense.h"
#include "rotations/pca.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

enum {
    HELD_OUT = 5,             /* every fifth vector */
    HELD_OUT_MAX = 1000,      /* more would not change what a check of a factor of 0.9 says */
    PARTNERS = 4,             /* queries per held-out vector */
    SAMPLES_PER_DIM = 2,      /* below, the components of smallest variance are mostly noise */
    HEADER_BYTES = 8,
    SEGMENT_BYTES = 4,
};
/* Share of dim below which the effective dimension must be (codec/MATH.md 2.7), and of RaBitQ's squared error the codec's. */
static const double dim_share_max = 1 / 3.0, error_share_max = 0.9;

/* A sample in two parts, as the coder sees vectors (rotated, if the codebook's rotation is learned). */
struct sample {
    float *rows; /* [learn_count + held_count][dim], those to learn from first */
    size_t learn_count, held_count;
};

static gyre_status sample_init(struct sample *sample, const gyre_quantizer *quantizer, const float *residuals, size_t n,
                               gyre_error *err)
{
    size_t dim = gy_quantizer_dim(quantizer), held = n / HELD_OUT, learn_at = 0, held_at = n - held;
    *sample = (struct sample){.rows = malloc(n * dim * sizeof *sample->rows), .learn_count = n - held, .held_count = held};
    if (!sample->rows)
        return gyre_fail(err, GYRE_NO_MEMORY, "a sample of %zu vectors of dim %zu", n, dim);
    for (size_t i = 0; i < n; i++) {
        float *row = sample->rows + (i % HELD_OUT == HELD_OUT - 1 ? held_at++ : learn_at++) * dim;
        memcpy(row, residuals + i * dim, dim * sizeof *row);
        if (gy_quantizer_rotates(quantizer))
            gyre_rotation_apply(gyre_codebook_rotation(quantizer->codebook), row, row);
    }
    return GYRE_OK;
}

/* Plan and components, if the spectrum is skewed enough. */
static gyre_status learn(const gyre_quantizer *quantizer, const struct sample *sample, struct gy_segments **out, gyre_error *err)
{
    const gyre_codec *codec = quantizer->codec;
    uint32_t dim = gy_quantizer_dim(quantizer);
    struct gy_moments moments;
    GY_TRY(gy_moments_init(&moments, sample->rows, sample->learn_count, dim, err));
    double effective = gy_effective_dim(&moments, dim);
    if (!(effective < dim_share_max * dim)) {
        gy_moments_fini(&moments);
        return gyre_fail(err, GYRE_PRECONDITION,
                         "codec %s: the effective dimension of the sample is %.1f of %u; unequal bits pay below %.1f: use %s",
                         codec->name, effective, dim, dim_share_max * dim, gy_segments_rabitq(codec->bits)->name);
    }
    size_t square = (size_t)dim * dim;
    double *components = malloc((square + dim) * sizeof *components); /* the variances lie behind */
    gyre_status status = GYRE_OK;
    if (!components)
        status = gyre_fail(err, GYRE_NO_MEMORY, "components of dim %u", dim);
    else
        status = gy_principal_components(&moments, dim, components + square, components, err);
    gy_moments_fini(&moments);
    struct gy_segments_plan plan;
    if (status == GYRE_OK)
        status = gy_segments_plan_make(&plan, components + square, dim, quantizer->code_bytes[0], err);
    float *basis = NULL;
    if (status == GYRE_OK && !(basis = malloc((size_t)plan.rows * dim * sizeof *basis)))
        status = gyre_fail(err, GYRE_NO_MEMORY, "components of dim %u", dim);
    if (status == GYRE_OK) {
        for (size_t i = 0; i < (size_t)plan.rows * dim; i++)
            basis[i] = (float)components[i];
        status = gy_segments_new(out, quantizer->codebook, &plan, &basis, err);
    }
    free(components), free(basis);
    return status;
}

/* Mean of (<g,error>/(G·R))^2 over held-out vectors, the next few being the queries g.
 *   errors  [count][dim] s·zb - z */
static double mean_square(const float *z, const float *errors, size_t count, size_t dim)
{
    double sum = 0, pairs = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 1; k <= PARTNERS && k < count; k++) {
            const float *query = z + (i + k) % count * dim;
            double squares = gy_sum_squares(z + i * dim, dim) * gy_sum_squares(query, dim);
            double error = gy_sum_products(query, errors + i * dim, dim);
            sum += squares > 0 ? error * error / squares : 0;
            pairs++;
        }
    return pairs > 0 ? sum / pairs : 0;
}

/* errors <- s·zb - z by the codec itself. */
static void own_errors(const gyre_quantizer *quantizer, const struct gy_segments *segments, const float *z, size_t count,
                       float *errors, uint8_t *code, void *scratch)
{
    size_t dim = segments->dim;
    for (size_t i = 0; i < count; i++) {
        const float *row = z + i * dim;
        float *error = errors + i * dim;
        double r2 = gy_sum_squares(row, dim), length = sqrt(r2);
        gy_segments_encode(quantizer, segments, &(struct gy_residual){.z = row, .r2 = r2}, code, error, scratch);
        for (size_t j = 0; j < dim; j++)
            error[j] = (float)(length * (double)error[j] - (double)row[j]);
    }
}

/* z <- P z, and errors by RaBitQ. */
static void flat_errors(struct gy_coding *coding, const gyre_rotation *rotation, float *z, size_t count, size_t dim,
                        float *errors)
{
    for (size_t i = 0; i < count; i++) {
        float *row = z + i * dim, *error = errors + i * dim;
        gyre_rotation_apply(rotation, row, row);
        double r2 = gy_sum_squares(row, dim);
        memset(error, 0, dim * sizeof *error);
        if (!(r2 > 0))
            continue;
        gy_coding_run(coding, row, error);
        double scale = r2 / gy_sum_products(row, error, dim);
        for (size_t j = 0; j < dim; j++)
            error[j] = (float)(scale * (double)error[j] - (double)row[j]);
    }
}

/* GYRE_PRECONDITION unless the codec errs clearly less than RaBitQ. Uses the held-out vectors up. */
static gyre_status compare(const gyre_quantizer *quantizer, const struct gy_segments *segments, struct sample *sample,
                           gyre_error *err)
{
    const gyre_codec *codec = quantizer->codec, *flat = gy_segments_rabitq(codec->bits);
    size_t dim = segments->dim, count = sample->held_count < HELD_OUT_MAX ? sample->held_count : HELD_OUT_MAX;
    float *z = sample->rows + sample->learn_count * dim, *errors = malloc(count * dim * sizeof *errors);
    uint8_t *code = malloc(quantizer->code_bytes[0]);
    void *scratch = aligned_alloc(64, (quantizer->scratch_bytes + 64) / 64 * 64);
    struct gy_coding coding = {0};
    gyre_status status = GYRE_OK;
    if (!errors || !code || !scratch)
        status = gyre_fail(err, GYRE_NO_MEMORY, "errors of %zu vectors", count);
    else
        status = gy_coding_init(&coding, flat, quantizer->codebook, err);
    if (status == GYRE_OK) {
        own_errors(quantizer, segments, z, count, errors, code, scratch);
        double own = mean_square(z, errors, count, dim);
        flat_errors(&coding, gyre_codebook_rotation(quantizer->codebook), z, count, dim, errors);
        double share = own / mean_square(z, errors, count, dim);
        if (!(share < error_share_max))
            status = gyre_fail(err, GYRE_PRECONDITION,
                               "codec %s: on the %zu vectors held out its squared error is %.2f of that of %s; below %.2f it "
                               "pays: use %s",
                               codec->name, count, share, flat->name, error_share_max, flat->name);
    }
    gy_coding_fini(&coding);
    free(errors), free(code), free(scratch);
    return status;
}

gyre_status gy_segments_train(const gyre_quantizer *quantizer, const float *residuals, size_t n, void **state, gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    if (n < SAMPLES_PER_DIM * (size_t)dim)
        return gyre_fail(err, GYRE_INVALID, "codec %s: a sample of %zu vectors; dim %u takes at least %u", quantizer->codec->name,
                         n, dim, SAMPLES_PER_DIM * dim);
    struct sample sample;
    struct gy_segments *segments = NULL;
    GY_TRY(sample_init(&sample, quantizer, residuals, n, err));
    gyre_status status = learn(quantizer, &sample, &segments, err);
    if (status == GYRE_OK)
        status = compare(quantizer, segments, &sample, err);
    free(sample.rows);
    if (status == GYRE_OK)
        *state = segments;
    else
        gy_segments_free(segments);
    return status;
}

size_t gy_segments_state_bytes(const gyre_quantizer *quantizer, const void *state)
{
    const struct gy_segments *segments = state;
    return HEADER_BYTES + SEGMENT_BYTES * segments->plan.count + 4 * (size_t)segments->plan.rows * gy_quantizer_dim(quantizer);
}

void gy_segments_state_encode(const gyre_quantizer *quantizer, const void *state, uint8_t *out)
{
    const struct gy_segments *segments = state;
    const struct gy_segments_plan *plan = &segments->plan;
    gy_store_u32(out, plan->rows);
    gy_store_u32(out + 4, plan->count);
    out += HEADER_BYTES;
    for (uint32_t s = 0; s < plan->count; s++, out += SEGMENT_BYTES) {
        gy_store_u16(out, plan->dims[s]);
        gy_store_u16(out + 2, plan->bits[s]);
    }
    for (size_t i = 0; i < (size_t)plan->rows * gy_quantizer_dim(quantizer); i++)
        gy_store_f32(out + 4 * i, segments->basis[i]);
}

/* A plan that fits the dim and the code. data: behind the header, at least count segments. */
static bool plan_read(struct gy_segments_plan *plan, const gyre_quantizer *quantizer, const uint8_t *data, uint32_t count,
                      uint32_t rows)
{
    *plan = (struct gy_segments_plan){.count = count};
    for (uint32_t s = 0; s < count; s++) {
        uint16_t dims = gy_load_u16(data + SEGMENT_BYTES * s), bits = gy_load_u16(data + SEGMENT_BYTES * s + 2);
        if (dims < 2 || dims > GYRE_DIM_MAX || bits < 1 || bits > GY_SEGMENT_BITS_MAX)
            return false;
        plan->dims[s] = dims;
        plan->bits[s] = (uint8_t)bits;
        plan->rows += dims;
    }
    uint32_t dim = gy_quantizer_dim(quantizer);
    return plan->rows == rows && rows <= dim && gy_segments_plan_bytes(plan, dim) <= quantizer->code_bytes[0];
}

gyre_status gy_segments_state_decode(const gyre_quantizer *quantizer, const uint8_t *data, size_t bytes, void **state,
                                     gyre_error *err)
{
    uint32_t dim = gy_quantizer_dim(quantizer);
    if (bytes < HEADER_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "segments of %zu bytes; the header takes %d", bytes, HEADER_BYTES);
    uint32_t rows = gy_load_u32(data), count = gy_load_u32(data + 4);
    struct gy_segments_plan plan;
    if (rows > dim || count == 0 || count > GY_SEGMENTS_MAX ||
        bytes != HEADER_BYTES + SEGMENT_BYTES * count + 4 * (size_t)rows * dim)
        return gyre_fail(err, GYRE_CORRUPT, "segments of %zu bytes claim %u components of dim %u in %u segments", bytes, rows,
                         dim, count);
    if (!plan_read(&plan, quantizer, data + HEADER_BYTES, count, rows))
        return gyre_fail(err, GYRE_CORRUPT, "segments: a plan of %u segments that codes of dim %u cannot have", count, dim);
    float *basis = malloc((size_t)rows * dim * sizeof *basis);
    if (!basis)
        return gyre_fail(err, GYRE_NO_MEMORY, "segments: %u components of dim %u", rows, dim);
    data += HEADER_BYTES + SEGMENT_BYTES * count;
    for (size_t i = 0; i < (size_t)rows * dim; i++)
        basis[i] = gy_load_f32(data + 4 * i);
    struct gy_segments *segments = NULL;
    gyre_status status = gy_dense_check(basis, rows, dim, err);
    if (status == GYRE_INVALID)
        status = gyre_wrap(err, GYRE_CORRUPT, "segments");
    if (status == GYRE_OK)
        status = gy_segments_new(&segments, quantizer->codebook, &plan, &basis, err);
    free(basis);
    if (status == GYRE_OK)
        *state = segments;
    return status;
}
