/* The linear algebra of learning: against definitions, and the same bits from every kernel table. */
#include "kernels/kernels.h"
#include "rotations/algebra.h"
#include "rotations/keystream.h"
#include "support.h"

enum { N_MAX = 131 };
static const size_t sizes[] = {1, 2, 3, 7, 16, 17, 47, 48, 49, 64, 100, 131};
enum { SIZES = sizeof sizes / sizeof *sizes };

static double *new_matrix(size_t n)
{
    double *a = must_alloc(n * n * sizeof *a);
    for (size_t i = 0; i < n * n; i++)
        a[i] = random_normal();
    return a;
}

/* max |A - B|. */
static double difference(const double *a, const double *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n * n; i++)
        worst = fmax(worst, fabs(a[i] - b[i]));
    return worst;
}

/* max |A·A^T - I|. */
static double defect(const double *a, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            worst = fmax(worst, fabs(gy_dot64(a + i * n, a + j * n, n) - (i == j)));
    return worst;
}

static void products_are_equal_from_every_table(void **state)
{
    (void)state;
    enum { STRIDE = N_MAX + 5 };
    static double a[STRIDE * 600], b[600 * STRIDE], wanted[STRIDE * STRIDE], got[STRIDE * STRIDE];
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        a[i] = random_u64() % 8 ? random_normal() : random_u64() % 2 ? 0 : 1e-310,
        b[i] = random_u64() % 8 ? random_normal() : -0.0;
    for (int round = 0; round < 60; round++) {
        size_t rows = sizes[random_u64() % SIZES], columns = sizes[random_u64() % SIZES], inner = random_u64() % 600;
        double alpha = round % 3 ? -1 : 0.3;
        struct gy_matrix_view view = round % 2 ? (struct gy_matrix_view){a, 600, 1} : (struct gy_matrix_view){a, 1, STRIDE};
        for (size_t i = 0; i < STRIDE * STRIDE; i++)
            wanted[i] = (double)i;
        for (size_t i = 0; i < rows; i++)
            for (size_t j = 0; j < columns; j++)
                for (size_t k = 0; k < inner; k++)
                    wanted[i * STRIDE + j] += alpha * view.at[i * view.row + k * view.column] * b[k * STRIDE + j];
        for (size_t t = 0; gy_kernels_all[t]; t++) {
            if (!gy_kernels_all[t]->runs_here())
                continue;
            for (size_t i = 0; i < STRIDE * STRIDE; i++)
                got[i] = (double)i;
            gy_kernels_all[t]->matrix->multiply_add(got, STRIDE, alpha, view, b, STRIDE, rows, inner, columns);
            if (memcmp(wanted, got, sizeof got) != 0)
                fail_msg("%s: %zu x %zu x %zu differs", gy_kernels_all[t]->name, rows, inner, columns);
        }
    }
}

static void systems_are_solved(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        uint32_t pivots[N_MAX];
        double *a = new_matrix(n), *lu = must_alloc(n * n * sizeof *lu), *inverse = must_alloc(n * n * sizeof *inverse);
        double *product = must_alloc(n * n * sizeof *product), *identity = must_alloc(n * n * sizeof *identity);
        a[0] = 0; /* no elimination without exchange */
        if (n == 1)
            a[0] = -3;
        memcpy(lu, a, n * n * sizeof *a);
        gy_lu_factor(lu, n, pivots);
        gy_matrix_identity(identity, n), gy_matrix_identity(inverse, n);
        gy_lu_solve(lu, pivots, n, inverse, n);
        gy_matrix_multiply(product, a, inverse, n);
        if (difference(product, identity, n) > 1e-9)
            fail_msg("n = %zu: A·A^-1 differs from I by %g", n, difference(product, identity, n));
        free(a), free(lu), free(inverse), free(product), free(identity);
    }
}

static void rows_become_orthonormal_and_keep_their_span(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        double *a = new_matrix(n), *q = must_alloc(n * n * sizeof *q);
        for (size_t j = 0; n > 2 && j < n; j++)
            a[n + j] = a[j] + 1e-6 * a[n + j]; /* nearly parallel: one pass of Gram-Schmidt leaves 1e-10 */
        memcpy(q, a, n * n * sizeof *a);
        assert_true(gy_matrix_orthonormalize(q, n));
        assert_true(defect(q, n) < 1e-13);
        for (size_t i = 0; i < n; i++) {
            assert_true(gy_dot64(q + i * n, a + i * n, n) > 0); /* the diagonal of R */
            for (size_t j = 0; j < i; j++)                      /* row j has nothing of later ones */
                assert_true(fabs(gy_dot64(q + i * n, a + j * n, n)) < 1e-12 * (double)n);
        }
        free(a), free(q);
    }
    double dependent[9] = {1, 2, 3, 2, 4, 6, 0, 0, 1};
    assert_false(gy_matrix_orthonormalize(dependent, 3));
}

/* Q is orthogonal, and Q^T·A symmetric and positive semidefinite: no orthogonal matrix has a larger trace with A. */
static void check_polar(const char *name, const double *a, size_t n)
{
    double *q = must_alloc(n * n * sizeof *q), *work = must_alloc(3 * n * n * sizeof *work), *h = must_alloc(n * n * sizeof *h);
    double *vectors = must_alloc(n * n * sizeof *vectors), values[N_MAX], largest = 0, skew = 0;
    uint32_t pivots[N_MAX];
    memcpy(q, a, n * n * sizeof *q);
    assert_true(gy_matrix_polar(q, n, work, pivots));
    if (!(defect(q, n) < 1e-13))
        fail_msg("%s, n = %zu: Q is off by %g", name, n, defect(q, n));
    gy_matrix_multiply_at(h, q, a, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            largest = fmax(largest, fabs(h[i * n + j])), skew = fmax(skew, fabs(h[i * n + j] - h[j * n + i]));
    if (skew > 1e-11 * largest * (double)n)
        fail_msg("%s, n = %zu: Q^T·A is skew by %g of %g", name, n, skew, largest);
    assert_true(gy_matrix_eigen(h, n, values, vectors, work));
    if (values[n - 1] < -1e-11 * values[0] * (double)n)
        fail_msg("%s, n = %zu: Q^T·A has the eigenvalue %g beside %g", name, n, values[n - 1], values[0]);
    free(q), free(work), free(h), free(vectors);
}

static void the_nearest_rotation_is_found_of_singular_matrices_too(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++) {
        size_t n = sizes[s];
        double *a = new_matrix(n);
        check_polar("random", a, n);
        for (size_t i = 0; i < n * n; i++)
            a[i] *= 1e-200;
        check_polar("tiny", a, n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                a[i * n + j] = ((double)i - 1) * ((double)j + 0.5);
        check_polar("of rank one", a, n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                a[i * n + j] = i < n / 2 ? random_normal() : 0;
        check_polar("half zero", a, n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                a[i * n + j] = random_normal() * pow(10, -16.0 * (double)i / (double)n);
        check_polar("graded", a, n);
        memset(a, 0, n * n * sizeof *a);
        check_polar("zero", a, n);
        double work[3] = {0};
        uint32_t pivot;
        a[0] = NAN;
        assert_false(gy_matrix_polar(a, 1, work, &pivot));
        free(a);
    }
}

static void eigenvectors_rebuild_the_matrix(void **state)
{
    (void)state;
    for (size_t s = 0; s < SIZES; s++)
        for (int kind = 0; kind < 4; kind++) {
            size_t n = sizes[s];
            double *a = new_matrix(n), *copy = must_alloc(n * n * sizeof *copy), *vectors = must_alloc(n * n * sizeof *vectors);
            double *back = must_alloc(n * n * sizeof *back), values[N_MAX], work[2 * N_MAX];
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j <= i; j++) {
                    double value = a[i * n + j];
                    if (kind) /* the identity; of rank one; diagonal with equal values */
                        value = kind == 1 ? (i == j) : kind == 2 ? (double)(i * j) : i == j ? (double)(i % 3) : 0;
                    a[i * n + j] = a[j * n + i] = value;
                }
            memcpy(copy, a, n * n * sizeof *a);
            assert_true(gy_matrix_eigen(a, n, values, vectors, work));
            if (!(defect(vectors, n) < 1e-12))
                fail_msg("n = %zu, kind %d: eigenvectors are off by %g", n, kind, defect(vectors, n));
            for (size_t i = 0; i < n; i++)
                for (size_t j = 0; j < n; j++) {
                    back[i * n + j] = 0;
                    for (size_t k = 0; k < n; k++)
                        back[i * n + j] += values[k] * vectors[k * n + i] * vectors[k * n + j];
                }
            double scale = fmax(fabs(values[0]), fabs(values[n - 1]));
            if (difference(back, copy, n) > 1e-12 * fmax(scale, 1))
                fail_msg("n = %zu, kind %d: rebuilt with an error of %g", n, kind, difference(back, copy, n));
            for (size_t k = 0; k + 1 < n; k++)
                assert_true(values[k] >= values[k + 1]);
            free(a), free(copy), free(vectors), free(back);
        }
}

static void every_table_learns_the_same_bits(void **state)
{
    (void)state;
    enum { N = 100 };
    static double start[N * N], polar[2][N * N], vectors[2][N * N], work[3 * N * N];
    double values[2][N];
    uint32_t pivots[N];
    for (size_t i = 0; i < N * N; i++)
        start[i] = random_normal();
    for (size_t t = 0; gy_kernels_all[t]; t++) {
        if (!gy_kernels_all[t]->runs_here())
            continue;
        must(gyre_simd_select(gy_kernels_all[t]->name, &err));
        size_t into = t > 0;
        memcpy(polar[into], start, sizeof start);
        assert_true(gy_matrix_polar(polar[into], N, work, pivots));
        double symmetric[N * N];
        gy_matrix_multiply_at(symmetric, start, start, N);
        assert_true(gy_matrix_eigen(symmetric, N, values[into], vectors[into], work));
        assert_memory_equal(polar[0], polar[into], sizeof *polar);
        assert_memory_equal(vectors[0], vectors[into], sizeof *vectors);
    }
    must(gyre_simd_select(NULL, &err));
}

static void normals_are_normal_and_reproducible(void **state)
{
    (void)state;
    enum { DRAWS = 200000 };
    const uint8_t seed[GYRE_SEED_BYTES] = {3};
    struct gy_normals normals = {0};
    gy_keystream_start(&normals.stream, seed, "TEST", 1, 2);
    double sum = 0, squares = 0, fourth = 0, beyond = 0;
    uint64_t hash = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = gy_normals_next(&normals);
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        hash = (hash ^ bits) * UINT64_C(0x9e3779b97f4a7c15);
        sum += x, squares += x * x, fourth += x * x * x * x, beyond += fabs(x) > 3;
    }
    assert_true(fabs(sum / DRAWS) < 5 / sqrt(DRAWS));
    assert_true(fabs(squares / DRAWS - 1) < 5 * sqrt(2.0 / DRAWS));
    assert_true(fabs(fourth / DRAWS - 3) < 5 * sqrt(96.0 / DRAWS));
    assert_true(fabs(beyond / DRAWS - .0027) < 5 * sqrt(.0027 / DRAWS));
    if (hash != UINT64_C(0x15d14e8cfc17a09e)) /* of all time */
        fail_msg("the draws hash to 0x%llx", (unsigned long long)hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_equal_from_every_table),
        cmocka_unit_test(systems_are_solved),
        cmocka_unit_test(rows_become_orthonormal_and_keep_their_span),
        cmocka_unit_test(the_nearest_rotation_is_found_of_singular_matrices_too),
        cmocka_unit_test(eigenvectors_rebuild_the_matrix),
        cmocka_unit_test(every_table_learns_the_same_bits),
        cmocka_unit_test(normals_are_normal_and_reproducible),
    };
    return cmocka_run_group_tests_name("codec.algebra", tests, NULL, NULL);
}
