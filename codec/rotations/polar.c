/* polar: the nearest orthogonal matrix, X <- (g·X + X^-T/g)/2 (Higham, "Computing the polar decomposition", 1986).
 *
 * The step takes each singular value s to (g·s + 1/(g·s))/2 and leaves the singular vectors alone; g =
 * (|X^-1|·|X^-1|/|X|·|X|)^(1/4), of the 1- and infinity-norms, centres the values about 1 first, so that ten steps serve any
 * condition number. Of a singular X, gy_lu_factor inverts a matrix within rounding of it; after one step all values are at least
 * about 1, so it matters once. The last step, X <- X·(3·I - X^T·X)/2, needs no inverse and leaves only the rounding of one
 * product. */
#include "rotations/algebra.h"

#include <math.h>

/* A step from within `near` of orthogonal is within about near^2/2. */
static const double scaled_until = 1e-2, near_enough = 1e-6;
/* Scaled steps take any double's condition number to 1 in 10; the rest is room. */
enum { STEPS_MAX = 40 };

/* The largest sum of magnitudes in a column times that in a row. sums [n]. */
static double norms(const double *a, size_t n, double *sums)
{
    double rows = 0, columns = 0;
    memset(sums, 0, n * sizeof *sums);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++) {
            double magnitude = fabs(a[i * n + j]);
            sum += magnitude;
            sums[j] += magnitude;
        }
        rows = sum > rows ? sum : rows;
    }
    for (size_t j = 0; j < n; j++)
        columns = sums[j] > columns ? sums[j] : columns;
    return rows * columns;
}

/* x <- x·(3·I - x^T·x)/2. gram, product: [n][n] each. */
static void polish(double *x, size_t n, double *gram, double *product)
{
    gy_matrix_multiply_at(gram, x, x, n);
    for (size_t i = 0; i < n * n; i++)
        gram[i] *= -0.5;
    for (size_t i = 0; i < n; i++)
        gram[i * n + i] += 1.5;
    gy_matrix_multiply(product, x, gram, n);
    memcpy(x, product, n * n * sizeof *x);
}

bool gy_matrix_polar(double *a, size_t n, double *work, uint32_t *pivots)
{
    double largest = 0;
    for (size_t i = 0; i < n * n; i++) {
        if (!isfinite(a[i]))
            return false;
        largest = fabs(a[i]) > largest ? fabs(a[i]) : largest;
    }
    if (largest == 0) {
        gy_matrix_identity(a, n);
        return true;
    }
    for (size_t i = 0; i < n * n; i++)
        a[i] /= largest;
    double *lu = work, *inverse = work + n * n, *spare = work + 2 * n * n, change = INFINITY;
    for (int step = 0; step < STEPS_MAX && change > near_enough; step++) {
        gy_matrix_transpose(lu, a, n);
        gy_lu_factor(lu, n, pivots);
        gy_matrix_identity(inverse, n);
        gy_lu_solve(lu, pivots, n, inverse, n);
        double scale = change > scaled_until ? sqrt(sqrt(norms(inverse, n, spare) / norms(a, n, spare))) : 1;
        double half = scale / 2, other = 1 / (2 * scale), squares = 0;
        for (size_t i = 0; i < n * n; i++) {
            double next = half * a[i] + other * inverse[i], moved = next - a[i];
            squares += moved * moved;
            a[i] = next;
        }
        change = sqrt(squares);
    }
    polish(a, n, lu, spare);
    polish(a, n, lu, spare);
    return true;
}
