#include "learned.h"

#include <sodium.h>

enum { DIM = 37 };

/* What a writer with a bug, or an adversary with the format at hand, would send: any fields, a good checksum. */
static void seal(uint8_t *encoded, size_t bytes)
{
    uint8_t digest[32];
    crypto_generichash(digest, sizeof digest, encoded, bytes - 8, NULL, 0);
    memcpy(encoded + bytes - 8, digest, 8);
}

static uint8_t *new_encoded(size_t *bytes)
{
    float mean[DIM];
    random_vector(mean, DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_IP, DIM, mean);
    *bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *encoded = must_alloc(*bytes);
    gyre_codebook_encode(codebook, encoded);
    return encoded;
}

static void decode_reads_what_encode_wrote(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *encoded = new_encoded(&bytes), *again = must_alloc(bytes);
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    assert_int_equal(gyre_codebook_dim(codebook), DIM);
    assert_int_equal(gyre_codebook_metric(codebook), GYRE_IP);
    assert_int_equal(gyre_codebook_version(codebook), 1);
    gyre_codebook_encode(codebook, again);
    assert_memory_equal(encoded, again, bytes);
    free(encoded), free(again);
}

static uint8_t *new_encoded_learned(size_t *bytes)
{
    float mean[DIM], *matrix = new_rotation_matrix(DIM);
    random_vector(mean, DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_learned_codebook(GYRE_IP, DIM, mean, matrix);
    free(matrix);
    *bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *encoded = must_alloc(*bytes);
    gyre_codebook_encode(codebook, encoded);
    return encoded;
}

static void decode_reads_a_learned_rotation_back(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *encoded = new_encoded_learned(&bytes), *again = must_alloc(bytes);
    assert_int_equal(bytes, 48 + 4 * DIM + 4 + 4 * DIM * DIM + 8);
    assert_int_equal(gy_load_u16(encoded + 4), 2);
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    assert_true(gyre_codebook_is_learned(codebook));
    gyre_codebook_encode(codebook, again);
    assert_memory_equal(encoded, again, bytes);
    free(encoded), free(again);
}

enum { LISTS = 70 };

static gyre_codebook *new_partitioned(gyre_metric metric, uint32_t version, const float *mean, const float *centroids)
{
    const uint8_t seed[GYRE_SEED_BYTES] = {7};
    gyre_codebook *codebook = NULL;
    must(gyre_codebook_new_partitioned(&codebook, metric, DIM, version, seed, mean, centroids, LISTS, &err));
    return codebook;
}

static uint8_t *new_encoded_partitioned(size_t *bytes)
{
    float mean[DIM], centroids[LISTS * DIM];
    random_vector(mean, DIM, 1), random_vector(centroids, LISTS * DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_partitioned(GYRE_COSINE, 1, mean, centroids);
    *bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *encoded = must_alloc(*bytes);
    gyre_codebook_encode(codebook, encoded);
    for (uint32_t list = 0; list < LISTS; list++)
        assert_memory_equal(gyre_codebook_centroid(codebook, list), centroids + list * DIM, DIM * sizeof *centroids);
    return encoded;
}

static void decode_reads_a_partition_back(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *encoded = new_encoded_partitioned(&bytes), *again = must_alloc(bytes);
    assert_int_equal(bytes, 48 + 4 * DIM + 4 + 4 * LISTS * DIM + 8);
    assert_int_equal(gy_load_u16(encoded + 4), 3);
    GY_AUTO(gyre_codebook) *codebook = NULL;
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    assert_int_equal(gyre_codebook_lists(codebook), LISTS);
    gyre_codebook_encode(codebook, again);
    assert_memory_equal(encoded, again, bytes);
    free(encoded), free(again);
}

static void without_centroids_there_is_one_list_around_the_mean(void **state)
{
    (void)state;
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, NULL);
    assert_int_equal(gyre_codebook_lists(codebook), 1);
    assert_ptr_equal(gyre_codebook_centroid(codebook, 0), gyre_codebook_mean(codebook));
}

static void the_fingerprint_depends_on_every_centroid(void **state)
{
    (void)state;
    float mean[DIM] = {0}, centroids[LISTS * DIM];
    random_vector(centroids, LISTS * DIM, 1);
    const uint8_t seed[GYRE_SEED_BYTES] = {7};
    GY_AUTO(gyre_codebook) *plain = NULL, *first = new_partitioned(GYRE_IP, 1, mean, centroids);
    GY_AUTO(gyre_codebook) *version = new_partitioned(GYRE_IP, 2, mean, centroids),
                           *metric = new_partitioned(GYRE_L2, 1, mean, centroids);
    must(gyre_codebook_new(&plain, GYRE_IP, DIM, 1, seed, mean, &err));
    centroids[LISTS * DIM - 1] += 1;
    GY_AUTO(gyre_codebook) *last = new_partitioned(GYRE_IP, 1, mean, centroids);
    uint64_t fingerprint = gyre_codebook_fingerprint(first);
    assert_true(gyre_codebook_fingerprint(version) == fingerprint);
    assert_true(gyre_codebook_fingerprint(plain) != fingerprint);
    assert_true(gyre_codebook_fingerprint(metric) != fingerprint);
    assert_true(gyre_codebook_fingerprint(last) != fingerprint);
}

static void centroids_that_cannot_be_are_refused(void **state)
{
    (void)state;
    const uint8_t seed[GYRE_SEED_BYTES] = {0};
    float centroids[3 * DIM] = {0};
    gyre_codebook *codebook = NULL;
#define REFUSED(lists, words) \
    must_fail(gyre_codebook_new_partitioned(&codebook, GYRE_L2, DIM, 1, seed, NULL, centroids, lists, &err), GYRE_INVALID, words)
    REFUSED(0, "0 lists; there must be 1 to 16777216");
    REFUSED(GYRE_LISTS_MAX + 1, "16777217 lists");
    centroids[2 * DIM + 4] = NAN;
    REFUSED(3, "centroids: vector: row 2 column 4");
    centroids[2 * DIM + 4] = 2e16f;
    REFUSED(3, "centroids");
#undef REFUSED
    must(gyre_codebook_new_partitioned(&codebook, GYRE_L2, DIM, 1, seed, NULL, centroids, 2, &err));
    gyre_codebook_free(codebook);
}

static void the_rotated_mean_is_the_rotation_of_the_mean(void **state)
{
    (void)state;
    float mean[DIM], rotated[DIM];
    random_vector(mean, DIM, 1);
    GY_AUTO(gyre_codebook) *codebook = new_codebook(GYRE_L2, DIM, mean);
    gyre_rotation_apply(gyre_codebook_rotation(codebook), mean, rotated);
    assert_memory_equal(gyre_codebook_mean(codebook), mean, sizeof mean);
    assert_memory_equal(gyre_codebook_rotated_mean(codebook), rotated, sizeof rotated);
}

static void the_fingerprint_depends_on_all_but_the_version(void **state)
{
    (void)state;
    uint8_t seed[GYRE_SEED_BYTES] = {1};
    float mean[DIM] = {0.5f};
    GY_AUTO(gyre_codebook) *first = NULL, *version = NULL, *metric = NULL, *other_seed = NULL, *other_mean = NULL, *dim = NULL;
    must(gyre_codebook_new(&first, GYRE_L2, DIM, 1, seed, mean, &err));
    must(gyre_codebook_new(&version, GYRE_L2, DIM, 2, seed, mean, &err));
    must(gyre_codebook_new(&metric, GYRE_IP, DIM, 1, seed, mean, &err));
    must(gyre_codebook_new(&dim, GYRE_L2, DIM - 1, 1, seed, mean, &err));
    must(gyre_codebook_new(&other_mean, GYRE_L2, DIM, 1, seed, NULL, &err));
    seed[30] = 1;
    must(gyre_codebook_new(&other_seed, GYRE_L2, DIM, 1, seed, mean, &err));
    GY_AUTO(gyre_codebook) *learned = NULL, *other_matrix = NULL, *learned_version = NULL;
    float *matrix = new_rotation_matrix(DIM);
    seed[30] = 0;
    must(gyre_codebook_new_learned(&learned, GYRE_L2, DIM, 1, seed, mean, matrix, &err));
    must(gyre_codebook_new_learned(&learned_version, GYRE_L2, DIM, 2, seed, mean, matrix, &err));
    for (int j = 0; j < DIM; j++)
        matrix[5 * DIM + j] *= -1;
    must(gyre_codebook_new_learned(&other_matrix, GYRE_L2, DIM, 1, seed, mean, matrix, &err));
    free(matrix);
    uint64_t fingerprint = gyre_codebook_fingerprint(first);
    assert_true(gyre_codebook_fingerprint(learned) != fingerprint);
    assert_true(gyre_codebook_fingerprint(learned) == gyre_codebook_fingerprint(learned_version));
    assert_true(gyre_codebook_fingerprint(learned) != gyre_codebook_fingerprint(other_matrix));
    assert_true(gyre_codebook_fingerprint(version) == fingerprint);
    assert_true(gyre_codebook_fingerprint(metric) != fingerprint);
    assert_true(gyre_codebook_fingerprint(dim) != fingerprint);
    assert_true(gyre_codebook_fingerprint(other_mean) != fingerprint);
    assert_true(gyre_codebook_fingerprint(other_seed) != fingerprint);
}

static void a_matrix_that_is_no_rotation_is_refused(void **state)
{
    (void)state;
    const uint8_t seed[GYRE_SEED_BYTES] = {0};
    float *matrix = new_rotation_matrix(DIM), kept = matrix[3 * DIM + 7];
    gyre_codebook *codebook = NULL;
    matrix[3 * DIM + 7] = NAN;
    must_fail(gyre_codebook_new_learned(&codebook, GYRE_L2, DIM, 1, seed, NULL, matrix, &err), GYRE_INVALID,
              "row 3 column 7 is nan");
    matrix[3 * DIM + 7] = INFINITY;
    must_fail(gyre_codebook_new_learned(&codebook, GYRE_L2, DIM, 1, seed, NULL, matrix, &err), GYRE_INVALID,
              "row 3 column 7 is inf");
    matrix[3 * DIM + 7] = kept + 3e-6f;
    must_fail(gyre_codebook_new_learned(&codebook, GYRE_L2, DIM, 1, seed, NULL, matrix, &err), GYRE_INVALID,
              "differs from the identity by");
    matrix[3 * DIM + 7] = kept;
    must_fail(gyre_codebook_new_learned(&codebook, GYRE_L2, 0, 1, seed, NULL, matrix, &err), GYRE_INVALID, "dim is 0");
    must_fail(gyre_codebook_new_learned(&codebook, GYRE_L2, 5000, 1, seed, NULL, matrix, &err), GYRE_INVALID, "dim is 5000");
    assert_null(codebook);
    must(gyre_codebook_new_learned(&codebook, GYRE_L2, DIM, 1, seed, NULL, matrix, &err));
    gyre_codebook_free(codebook);
    free(matrix);
}

static void bad_arguments_are_named(void **state)
{
    (void)state;
    const uint8_t seed[GYRE_SEED_BYTES] = {0};
    float mean[DIM] = {0};
    gyre_codebook *codebook = NULL;
    must_fail(gyre_codebook_new(&codebook, (gyre_metric)9, DIM, 1, seed, NULL, &err), GYRE_INVALID, "metric is 9");
    must_fail(gyre_codebook_new(&codebook, GYRE_L2, 0, 1, seed, NULL, &err), GYRE_INVALID, "dim is 0");
    must_fail(gyre_codebook_new(&codebook, GYRE_L2, 5000, 1, seed, NULL, &err), GYRE_INVALID, "dim is 5000");
    mean[4] = NAN;
    must_fail(gyre_codebook_new(&codebook, GYRE_L2, DIM, 1, seed, mean, &err), GYRE_INVALID, "mean: vector: row 0 column 4");
    assert_null(codebook);
}

/* Every step-th bit. */
static void refuse_truncations_and_flips(uint8_t *encoded, size_t bytes, size_t step)
{
    gyre_codebook *codebook = NULL;
    for (size_t n = 0; n < bytes; n += step)
        must_fail(gyre_codebook_decode(&codebook, encoded, n, &err), GYRE_CORRUPT, "codebook");
    for (size_t bit = 0; bit < 8 * bytes; bit += step) {
        encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(gyre_codebook_decode(&codebook, encoded, bytes, NULL), GYRE_OK);
        encoded[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_null(codebook);
}

static void every_truncation_and_every_flipped_bit_is_refused(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *encoded = new_encoded(&bytes);
    refuse_truncations_and_flips(encoded, bytes, 1);
    free(encoded);
    encoded = new_encoded_learned(&bytes);
    refuse_truncations_and_flips(encoded, bytes, 7);
    free(encoded);
    encoded = new_encoded_partitioned(&bytes);
    refuse_truncations_and_flips(encoded, bytes, 13);
    free(encoded);
}

static void lying_fields_are_refused_under_a_good_checksum(void **state)
{
    (void)state;
    size_t bytes;
    uint8_t *encoded = new_encoded(&bytes);
    gyre_codebook *codebook = NULL;
    gy_store_u16(encoded + 4, 4), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_UNIMPLEMENTED, "format version 4");
    gy_store_u16(encoded + 4, 3), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT,
              "format version 3 of dim 37 takes 208 at least");
    gy_store_u16(encoded + 4, 2), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "format version 2 of dim 37 takes");
    gy_store_u16(encoded + 4, 0), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "format version 0");
    gy_store_u16(encoded + 4, 1), gy_store_u16(encoded + 6, 4), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "metric is 4");
    gy_store_u16(encoded + 6, 1), gy_store_u32(encoded + 8, DIM + 1), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "format version 1 of dim 38 takes");
    gy_store_u32(encoded + 8, UINT32_MAX), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "dim 4294967295");
    gy_store_u32(encoded + 8, DIM), gy_store_f32(encoded + 48 + 4 * 5, INFINITY), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "column 5 is infinite");
    gy_store_f32(encoded + 48 + 4 * 5, 0), seal(encoded, bytes);
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    gyre_codebook_free(codebook);
    free(encoded);
}

static void a_learned_codebook_that_lies_is_refused_under_a_good_checksum(void **state)
{
    (void)state;
    enum { KIND = 48 + 4 * DIM, MATRIX = KIND + 4 };
    size_t bytes;
    uint8_t *encoded = new_encoded_learned(&bytes);
    gyre_codebook *codebook = NULL;
    gy_store_u32(encoded + KIND, 2), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_UNIMPLEMENTED, "kind of rotation 2");
    gy_store_u32(encoded + KIND, 1);
    float kept = gy_load_f32(encoded + MATRIX + 4 * (2 * DIM + 9));
    gy_store_f32(encoded + MATRIX + 4 * (2 * DIM + 9), NAN), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "row 2 column 9 is nan");
    gy_store_f32(encoded + MATRIX + 4 * (2 * DIM + 9), kept + 1e-5f), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "codebook: matrix: M M^T differs");
    gy_store_f32(encoded + MATRIX + 4 * (2 * DIM + 9), kept);
    gy_store_u16(encoded + 4, 1), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "format version 1 of dim 37 takes");
    gy_store_u16(encoded + 4, 2), gy_store_u32(encoded + 8, 4096), seal(encoded, bytes);
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), GYRE_CORRUPT, "format version 2 of dim 4096 takes");
    gy_store_u32(encoded + 8, DIM), seal(encoded, bytes);
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    gyre_codebook_free(codebook);
    free(encoded);
}

static void a_partition_that_lies_is_refused_under_a_good_checksum(void **state)
{
    (void)state;
    enum { COUNT = 48 + 4 * DIM, CENTROIDS = COUNT + 4 };
    size_t bytes;
    uint8_t *encoded = new_encoded_partitioned(&bytes);
    gyre_codebook *codebook = NULL;
#define REFUSED(status, words)        \
    seal(encoded, bytes);             \
    must_fail(gyre_codebook_decode(&codebook, encoded, bytes, &err), status, words)
    gy_store_u32(encoded + COUNT, 0);
    REFUSED(GYRE_CORRUPT, "claims 0 lists");
    gy_store_u32(encoded + COUNT, UINT32_MAX);
    REFUSED(GYRE_CORRUPT, "claims 4294967295 lists; there must be 1 to 16777216");
    gy_store_u32(encoded + COUNT, GYRE_LISTS_MAX);
    REFUSED(GYRE_CORRUPT, "(lists: 16777216)");
    gy_store_u32(encoded + COUNT, LISTS - 1);
    REFUSED(GYRE_CORRUPT, "(lists: 69)");
    gy_store_u32(encoded + COUNT, LISTS), gy_store_u16(encoded + 4, 2);
    REFUSED(GYRE_CORRUPT, "format version 2");
    gy_store_u16(encoded + 4, 3), gy_store_f32(encoded + CENTROIDS + 4 * (2 * DIM + 9), INFINITY);
    REFUSED(GYRE_CORRUPT, "codebook: centroids: vector: row 2 column 9");
    gy_store_f32(encoded + CENTROIDS + 4 * (2 * DIM + 9), 0), gy_store_u32(encoded + 8, 4096);
    REFUSED(GYRE_CORRUPT, "format version 3 of dim 4096 takes");
    gy_store_u32(encoded + 8, DIM), seal(encoded, bytes);
#undef REFUSED
    must(gyre_codebook_decode(&codebook, encoded, bytes, &err));
    gyre_codebook_free(codebook);
    free(encoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_reads_what_encode_wrote),
        cmocka_unit_test(decode_reads_a_learned_rotation_back),
        cmocka_unit_test(the_rotated_mean_is_the_rotation_of_the_mean),
        cmocka_unit_test(the_fingerprint_depends_on_all_but_the_version),
        cmocka_unit_test(a_matrix_that_is_no_rotation_is_refused),
        cmocka_unit_test(bad_arguments_are_named),
        cmocka_unit_test(every_truncation_and_every_flipped_bit_is_refused),
        cmocka_unit_test(lying_fields_are_refused_under_a_good_checksum),
        cmocka_unit_test(a_learned_codebook_that_lies_is_refused_under_a_good_checksum),
        cmocka_unit_test(decode_reads_a_partition_back),
        cmocka_unit_test(without_centroids_there_is_one_list_around_the_mean),
        cmocka_unit_test(the_fingerprint_depends_on_every_centroid),
        cmocka_unit_test(centroids_that_cannot_be_are_refused),
        cmocka_unit_test(a_partition_that_lies_is_refused_under_a_good_checksum),
    };
    return cmocka_run_group_tests_name("codec.codebook", tests, NULL, NULL);
}
