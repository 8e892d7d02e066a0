#include "quantizers/coding.h"

#include "quantizer_internal.h"
#include "sums.h"

#include <math.h>
#include <stdlib.h>

gyre_status gy_coding_init(struct gy_coding *coding, const gyre_codec *codec, const gyre_codebook *codebook, gyre_error *err)
{
    GY_AUTO(gyre_quantizer) *quantizer = NULL;
    GY_TRY(gyre_quantizer_new(&quantizer, codec, codebook, err));
    size_t bytes = gyre_codec_row_bytes(codec, gyre_codebook_dim(codebook));
    *coding = (struct gy_coding){.code = malloc(bytes), .scratch = aligned_alloc(64, (quantizer->scratch_bytes + 64) / 64 * 64)};
    if (!coding->code || !coding->scratch) {
        gy_coding_fini(coding);
        return gyre_fail(err, GYRE_NO_MEMORY, "codec %s: a code of %zu bytes", codec->name, bytes);
    }
    coding->quantizer = GY_TAKE(quantizer);
    return GYRE_OK;
}

void gy_coding_fini(struct gy_coding *coding)
{
    gyre_quantizer_free(coding->quantizer);
    free(coding->code), free(coding->scratch);
    *coding = (struct gy_coding){0};
}

void gy_coding_run(struct gy_coding *coding, const float *z, float *zb)
{
    const gyre_quantizer *quantizer = coding->quantizer;
    uint32_t dim = gy_quantizer_dim(quantizer);
    double r2 = gy_sum_squares(z, dim);
    struct gy_residual residual = {.z = z, .r2 = r2, .per_unit = (float)sqrt(dim / r2)};
    uint8_t *code = coding->code;
    for (size_t plane = 0; plane < GY_PLANES && quantizer->coder[plane]; plane++) {
        quantizer->coder[plane]->encode(quantizer, quantizer->state[plane], &residual, code, zb, coding->scratch);
        residual.signs = coding->code;
        code += quantizer->code_bytes[0];
    }
}
