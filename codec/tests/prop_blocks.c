/* Nibble tables of books (quantizers/nibbles.c): what rounding them to bytes adds to the error of a scan, and that books of the
 * same bytes err in the order that codec/MATH.md 2.4 gives them. */
#include "each_codec.h"
#include "gyre/query.h"
#include "query_internal.h"

enum { DIM = 128, ROWS = 512, QUERIES = 100 };

struct errors {
    double of_code, of_rounding, rounding_sum, predicted; /* squared, but rounding_sum */
};

/* bits: of the scan; 0: none, only estimates. */
static struct errors measure(const char *name, uint8_t bits)
{
    const gyre_codec *codec = codec_named(name);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, NULL);
    GY_AUTO(gyre_quantizer) *quantizer = new_quantizer(name, codebook);
    static float x[ROWS][DIM];
    size_t row_bytes = gyre_codec_row_bytes(codec, DIM);
    uint8_t *rows = must_alloc(ROWS * row_bytes);
    const uint8_t *addresses[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        random_unit(x[i], DIM);
        addresses[i] = rows + i * row_bytes;
    }
    must(gyre_quantizer_encode(quantizer, &x[0][0], ROWS, 0, rows, &err));
    uint8_t *blocks = bits ? new_blocks(codec, DIM, rows, ROWS) : NULL;
    struct errors errors = {0};
    for (size_t q = 0; q < QUERIES; q++) {
        float asked[DIM];
        random_unit(asked, DIM);
        const gyre_query_options options = {.epsilon = 1.9f, .scan_bits = bits};
        GY_AUTO(gyre_query) *query = NULL;
        must(gyre_query_new(&query, quantizer, asked, NULL, &options, &err));
        static gyre_hit hits[ROWS];
        static gyre_estimate estimates[ROWS];
        gyre_query_estimate(query, addresses, ROWS, estimates);
        if (bits)
            assert_int_equal(gyre_query_scan(query, blocks, ROWS / GYRE_BLOCK_ROWS, INFINITY, hits), ROWS);
        for (size_t i = 0; i < ROWS; i++) {
            double exact = (double)gyre_distance(GYRE_IP, x[i], asked, DIM), unrounded = (double)estimates[i].distance;
            errors.of_code += (unrounded - exact) * (unrounded - exact);
            if (!bits)
                continue;
            double rounding = (double)hits[i].estimate - unrounded, s = row_plane(quantizer, addresses[i], 0).s;
            errors.of_rounding += rounding * rounding;
            errors.rounding_sum += rounding;
            errors.predicted += pow(s * query->scan.per_s / (double)options.epsilon, 2);
        }
    }
    free(rows), free(blocks);
    return errors;
}

static void rounding_the_tables_adds_less_than_a_hundredth_to_the_variance(void **state)
{
    (void)state;
    static const char *const names[] = {"blockquant-p4b1", "blockquant-p2b2", "additive-p8b1"};
    /* The allowance is D^2/12 a table. */
    static const double most[] = {.01, .02, .01}; /* two bits a dimension err a fourth as much as one */
    for (size_t c = 0; c < 3; c++)
        for (uint8_t bits = 4; bits <= 8; bits += 2) {
            struct errors errors = measure(names[c], bits);
            double share = errors.of_rounding / errors.of_code, law = errors.of_rounding / errors.predicted;
            double deviation = sqrt(errors.of_rounding / (ROWS * QUERIES));
            printf("%s, %d bits: rounding adds %.5f of the variance, %.3f of the allowance\n", names[c], bits, share, law);
            if (share > most[c] / pow(16, (bits - 4) / 2))
                fail_msg("%s, %d bits: rounding adds %g of the variance", names[c], bits, share);
            if (law > 1.1 || law < .8)
                fail_msg("%s, %d bits: rounding has %g of the variance allowed for it", names[c], bits, law);
            /* One table's roundings repeat from row to row, so their sum does not shrink with rows, only with queries. */
            if (fabs(errors.rounding_sum) / (ROWS * QUERIES) > 5 * deviation / sqrt(QUERIES))
                fail_msg("%s, %d bits: rounding is biased by %g", names[c], bits, errors.rounding_sum / (ROWS * QUERIES));
        }
}

static void larger_books_of_the_same_bytes_err_less(void **state)
{
    (void)state;
    static const char *const names[] = {"rabitq1", "blockquant-p4b1", "additive-p8b1", "blockquant-p8b1"};
    double last = INFINITY;
    for (size_t c = 0; c < 4; c++) {
        assert_int_equal(gyre_codec_row_bytes(codec_named(names[c]), DIM), gyre_codec_row_bytes(codec_named(names[0]), DIM));
        double variance = measure(names[c], 0).of_code / (ROWS * QUERIES);
        printf("%s: variance %.6f\n", names[c], variance);
        assert_true(variance < last * .985);
        last = variance;
    }
}

int main(void)
{
    random_seed_from_environment();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_the_tables_adds_less_than_a_hundredth_to_the_variance),
        cmocka_unit_test(larger_books_of_the_same_bytes_err_less),
    };
    return cmocka_run_group_tests_name("codec.prop_blocks", tests, NULL, NULL);
}
