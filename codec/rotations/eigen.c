/* eigen: a symmetric matrix to tridiagonal form by Householder's reflections, then implicit QL with Wilkinson's shift (Golub &
 * Van Loan, "Matrix Computations", 8.3). Vectors are kept as rows, so that reflections and plane rotations run along memory. */
#include "rotations/algebra.h"

#include <math.h>

/* Two or three steps find a value; a finite matrix never needs this many. */
enum { STEPS_MAX = 100 };

/* sqrt(a^2 + b^2). Not hypot: libraries round it differently. */
static double length(double a, double b)
{
    double large = fabs(a) > fabs(b) ? fabs(a) : fabs(b), small = fabs(a) > fabs(b) ? fabs(b) : fabs(a);
    if (large == 0)
        return 0;
    double ratio = small / large;
    return large * sqrt(1 + ratio * ratio);
}

/* to += factor·from. */
static void add_scaled(double *restrict to, double factor, const double *restrict from, size_t n)
{
    for (size_t j = 0; j < n; j++)
        to[j] += factor * from[j];
}

/* A = Q·T·Q^T. T's diagonal goes to diagonal, the one below it to below[0…n-2]; the reflection of column k, I - v·v^T with |v|^2
 * = 2, leaves v in row k of A from column k+1 on (0 if there is nothing to reflect). work [n]. */
static void tridiagonalize(double *a, size_t n, double *diagonal, double *below, double *work)
{
    for (size_t k = 0; k + 1 < n; k++) {
        double *v = a + k * n; /* row k is column k: A is symmetric */
        size_t first = k + 1, count = n - first;
        diagonal[k] = v[k];
        double beyond = gy_dot64(v + first + 1, v + first + 1, count - 1), norm = sqrt(v[first] * v[first] + beyond);
        if (beyond == 0) { /* already tridiagonal here */
            below[k] = v[first];
            memset(v + first, 0, count * sizeof *v);
            continue;
        }
        below[k] = v[first] > 0 ? -norm : norm;
        v[first] -= below[k]; /* no cancellation: the signs differ */
        double scale = sqrt(2 / (v[first] * v[first] + beyond));
        for (size_t j = first; j < n; j++)
            v[j] *= scale;
        /* A <- A - v·w^T - w·v^T with p = A·v, w = p - (p·v)/2·v. A·v as a sum of rows. */
        memset(work, 0, n * sizeof *work);
        for (size_t i = first; i < n; i++)
            add_scaled(work + first, v[i], a + i * n + first, count);
        double along = gy_dot64(work + first, v + first, count);
        add_scaled(work + first, -along / 2, v + first, count);
        for (size_t i = first; i < n; i++) {
            double *restrict row = a + i * n;
            for (size_t j = first; j < n; j++)
                row[j] -= v[i] * work[j] + work[i] * v[j];
        }
    }
    diagonal[n - 1] = a[n * n - 1];
}

/* Q^T of the reflections left in A: Q = H_0·H_1·…, built from the last, Q^T H_k = Q^T - (Q^T v) v^T. */
static void accumulate(const double *a, size_t n, double *transposed)
{
    gy_matrix_identity(transposed, n);
    for (size_t k = n - 1; k-- > 0;) {
        const double *v = a + k * n;
        for (size_t i = k + 1; i < n; i++) {
            double *row = transposed + i * n;
            add_scaled(row + k + 1, -gy_dot64(row + k + 1, v + k + 1, n - k - 1), v + k + 1, n - k - 1);
        }
    }
}

/* Rows i and i+1 turned in their plane. */
static void turn(double *vectors, size_t n, size_t i, double cosine, double sine)
{
    double *restrict low = vectors + i * n, *restrict high = low + n;
    for (size_t j = 0; j < n; j++) {
        double kept = high[j];
        high[j] = sine * low[j] + cosine * kept;
        low[j] = cosine * low[j] - sine * kept;
    }
}

/* One implicit QL step on l…m. */
static void ql_step(double *d, double *e, double *vectors, size_t n, size_t l, size_t m)
{
    double shift = (d[l + 1] - d[l]) / (2 * e[l]), root = length(shift, 1);
    double g = d[m] - d[l] + e[l] / (shift + (shift < 0 ? -root : root)), sine = 1, cosine = 1, p = 0;
    for (size_t i = m; i-- > l;) {
        double f = sine * e[i], b = cosine * e[i], r = length(f, g);
        e[i + 1] = r;
        if (r == 0) { /* split: what is above is done later */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        sine = f / r, cosine = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * sine + 2 * cosine * b;
        p = sine * r;
        d[i + 1] = g + p;
        g = cosine * r - b;
        turn(vectors, n, i, cosine, sine);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static bool diagonalize(double *d, double *e, double *vectors, size_t n)
{
    double largest = 0;
    e[n - 1] = 0;
    for (size_t l = 0; l < n; l++) {
        double here = fabs(d[l]) + fabs(e[l]);
        largest = here > largest ? here : largest;
    }
    for (size_t l = 0; l < n; l++)
        for (int step = 0;; step++) {
            size_t m = l;
            while (m + 1 < n && fabs(e[m]) > 0x1p-53 * largest) /* below it, rounding */
                m++;
            if (m == l)
                break;
            if (step == STEPS_MAX)
                return false;
            ql_step(d, e, vectors, n, l, m);
        }
    return true;
}

/* Largest value first, equal ones in the order they have; the largest component of each vector positive. */
static void sort(double *values, double *vectors, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t best = i;
        for (size_t j = i + 1; j < n; j++)
            if (values[j] > values[best])
                best = j;
        double value = values[best], *row = vectors + i * n, *other = vectors + best * n;
        values[best] = values[i];
        values[i] = value;
        for (size_t j = 0; j < n && best != i; j++) {
            double kept = row[j];
            row[j] = other[j];
            other[j] = kept;
        }
        size_t largest = 0;
        for (size_t j = 1; j < n; j++)
            if (fabs(row[j]) > fabs(row[largest]))
                largest = j;
        double sign = row[largest] < 0 ? -1 : 1;
        for (size_t j = 0; j < n; j++)
            row[j] *= sign;
    }
}

bool gy_matrix_eigen(double *a, size_t n, double *values, double *vectors, double *work)
{
    double largest = 0;
    for (size_t i = 0; i < n * n; i++) {
        if (!isfinite(a[i]))
            return false;
        largest = fabs(a[i]) > largest ? fabs(a[i]) : largest;
    }
    for (size_t i = 0; i < n * n && largest > 0; i++) /* so that no square under- or overflows */
        a[i] /= largest;
    tridiagonalize(a, n, values, work, work + n);
    accumulate(a, n, vectors);
    if (!diagonalize(values, work, vectors, n))
        return false;
    for (size_t i = 0; i < n; i++)
        values[i] *= largest;
    sort(values, vectors, n);
    return true;
}
