/* codec/MATH.md section 5, properties 1 and 2, for every codec of which section 0 speaks: the error of <g,o>, in units of
 * kappa·sqrt(G^2 - <g,o>^2)/sqrt(d-1), is T: mean 0, deviation 1, and tails as in the table of section 0; for pairs on the
 * sphere, in clusters around a centroid, and for near pairs alone. The error is taken from the bits: zb as decoded, no stored
 * factor. */
#include "each_codec.h"

enum { DIM = 128, ROTATIONS = 25 };

/* What some encoders cost lets them have fewer vectors, each with more queries: >= 2·10^5 pairs for all, and the limits of the
 * mean follow the count of vectors as section 5.1 says. */
static void shares(const gyre_codec *codec, size_t *vectors, size_t *queries)
{
    bool slow = codec->kind == GYRE_TRELLIS || codec->kind == GYRE_SIGNTRELLIS ||
                (codec->kind == GYRE_RABITQ && codec->bits >= 4) || codec->kind == GYRE_TURBOQUANT;
    *vectors = slow ? 40 : 80;
    *queries = slow ? 200 : 100;
}

/* Errors in standard errors over many pairs. */
struct law {
    double count, sum, squares;
    double beyond[3]; /* share of |t| above 1.9, 2.5, 3.0 */
};
static const double eps[] = {1.9, 2.5, 3.0}, table_128[] = {.0571, .01185, .00239}, tolerance[] = {.10, .15, .25};

static void law_add(struct law *law, double t)
{
    law->count++, law->sum += t, law->squares += t * t;
    for (int i = 0; i < 3; i++)
        law->beyond[i] += fabs(t) > eps[i];
}

static void law_check(const char *codec, const char *pairs, const struct law *law, double mean_limit)
{
    double mean = law->sum / law->count, deviation = sqrt(law->squares / law->count - mean * mean);
    if (!(fabs(mean) <= mean_limit))
        fail_msg("%s, %s: mean %.4f of %.0f pairs is beyond %.4f", codec, pairs, mean, law->count, mean_limit);
    if (!(fabs(deviation - 1) <= .02))
        fail_msg("%s, %s: deviation %.4f", codec, pairs, deviation);
    for (int i = 0; i < 3; i++) {
        double share = law->beyond[i] / law->count;
        if (!(fabs(share - table_128[i]) <= table_128[i] * tolerance[i]))
            fail_msg("%s, %s: %.5f of |t| beyond %.1f, the table says %.5f", codec, pairs, share, eps[i], table_128[i]);
    }
}

/* One vector's code as the errors need it. */
struct code {
    float z[DIM];
    double zb[DIM], rho, r, kappa; /* zb scaled to <z,zb> = rho = R */
};

static void code_take(const gyre_quantizer *quantizer, const float *x, uint8_t *row, struct code *code)
{
    float zb[DIM];
    must(gyre_quantizer_encode(quantizer, x, 1, 0, row, &err));
    struct plane plane = row_plane(quantizer, row, plane_count(gyre_quantizer_codec(quantizer)) - 1);
    plane_decode(quantizer, &plane, zb);
    double r2 = rotated_residual(quantizer, x, code->z), rho = 0, nu2 = 0;
    for (size_t i = 0; i < DIM; i++)
        rho += (double)code->z[i] * (double)zb[i], nu2 += (double)zb[i] * (double)zb[i];
    assert_true(rho > 0);
    code->r = sqrt(r2);
    code->kappa = sqrt(nu2 * r2 / (rho * rho) - 1);
    for (size_t i = 0; i < DIM; i++)
        code->zb[i] = (double)zb[i] * r2 / rho;
}

static double dot(const double *a, const double *b)
{
    double lane[8] = {0};
    for (size_t i = 0; i < DIM; i += 8)
        for (size_t j = 0; j < 8; j++)
            lane[j] += a[i + j] * b[i + j];
    return lane[0] + lane[1] + lane[2] + lane[3] + lane[4] + lane[5] + lane[6] + lane[7];
}

static void widen(const float *in, double *out)
{
    for (size_t i = 0; i < DIM; i++)
        out[i] = (double)in[i];
}

/* A query g and what the codes see of it. */
struct query {
    double g[DIM], y[DIM], g2;
};

static void query_take(const gyre_codebook *codebook, const float *g, struct query *query)
{
    float y[DIM];
    gyre_rotation_apply(gyre_codebook_rotation(codebook), g, y);
    widen(g, query->g), widen(y, query->y);
    query->g2 = dot(query->g, query->g);
}

/* t of a pair: estimated is <y,zb> at the scale of <g,r>, exact is <g,r>, length2 is |g|^2. */
static double error_of(const struct code *code, double estimated, double exact, double length2)
{
    double along = exact / code->r; /* <g,o> */
    return (estimated - exact) / code->r * sqrt(DIM - 1.0) / (code->kappa * sqrt(length2 - along * along));
}

/* One rotation: vectors and queries, all pairs of them. */
static void add_rotation(const gyre_codec *codec, struct law *sphere, struct law *near, struct law *clustered)
{
    size_t vectors, queries;
    shares(codec, &vectors, &queries);
    float centre[DIM];
    random_unit(centre, DIM);
    GY_AUTO(gyre_codebook) *plain = new_codebook(GYRE_L2, DIM, NULL), *centred = new_codebook(GYRE_L2, DIM, centre);
    GY_AUTO(gyre_quantizer) *plain_quantizer = any_quantizer(codec, plain), *centred_quantizer = any_quantizer(codec, centred);
    struct query *asked = must_alloc(queries * sizeof *asked), *spread = must_alloc(queries * sizeof *spread);
    uint8_t *row = must_alloc(gyre_codec_row_bytes(codec, DIM));
    for (size_t q = 0; q < queries; q++) {
        float g[DIM];
        random_unit(g, DIM);
        query_take(plain, g, &asked[q]);
        for (size_t i = 0; i < DIM / 8; i++) /* a cluster that is three times as wide in an eighth of the dimensions */
            g[i] *= 3;
        query_take(centred, g, &spread[q]);
    }
    for (size_t v = 0; v < vectors; v++) {
        float x[DIM], member[DIM];
        double wide[DIM], residual[DIM];
        struct code code, member_code;
        random_unit(x, DIM);
        code_take(plain_quantizer, x, row, &code);
        for (size_t i = 0; i < DIM; i++) {
            member[i] = centre[i] + .3f * x[i] * (i < DIM / 8 ? 3 : 1);
            residual[i] = (double)(member[i] - centre[i]);
        }
        widen(x, wide);
        code_take(centred_quantizer, member, row, &member_code);
        for (size_t q = 0; q < queries; q++) {
            double exact = dot(asked[q].g, wide), estimated = dot(asked[q].y, code.zb);
            law_add(sphere, error_of(&code, estimated, exact, asked[q].g2));
            law_add(clustered,
                    error_of(&member_code, dot(spread[q].y, member_code.zb), dot(spread[q].g, residual), spread[q].g2));
            /* A neighbour x + w·q, cosine between .5 and 1: all is linear in w. */
            double w = .1 + 1.5 * (double)(q + 1) / (double)queries, r2 = code.r * code.r;
            double length2 = r2 + 2 * w * exact + w * w * asked[q].g2;
            if ((r2 + w * exact) / sqrt(length2 * r2) > .5)
                law_add(near, error_of(&code, r2 + w * estimated, r2 + w * exact, length2));
        }
    }
    free(asked), free(spread), free(row);
}

static void estimates_are_unbiased_and_follow_the_law(void **state)
{
    (void)state;
    size_t count;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t c = 0; c < count; c++) {
        if (!has_law(&codecs[c]))
            continue;
        struct law sphere = {0}, near = {0}, clustered = {0};
        for (size_t r = 0; r < ROTATIONS; r++)
            add_rotation(&codecs[c], &sphere, &near, &clustered);
        size_t vectors, queries;
        shares(&codecs[c], &vectors, &queries);
        assert_true(sphere.count >= 200000 && near.count >= 50000);
        law_check(codecs[c].name, "sphere", &sphere, 5 / sqrt((double)(ROTATIONS * vectors)));
        law_check(codecs[c].name, "clustered", &clustered, 5 / sqrt((double)(ROTATIONS * vectors)));
        law_check(codecs[c].name, "near pairs", &near, .1);
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(estimates_are_unbiased_and_follow_the_law),
    };
    return cmocka_run_group_tests_name("codec.prop_law", tests, NULL, NULL);
}
