/* bound: how many standard errors hold a given share of the errors.
 *
 * The error of an estimate is T standard errors, where T/sqrt(n), n = dim-1, is one coordinate of a uniformly random unit
 * vector of n dimensions: T^2/n ~ Beta(1/2,(n-1)/2), symmetric (codec/MATH.md section 0). So for eps >= 0
 *     P(T > eps) = 1/2 · I_{1-x}((n-1)/2, 1/2),   x = eps^2/n
 * with I the regularised incomplete beta function, here by its continued fraction (Abramowitz & Stegun 26.5.8), evaluated
 * by Lentz's method. */
#include "gyre/bound.h"

#include <math.h>

/* B(a,b), for a, b > 0; lgamma_r because lgamma writes a global. */
static double log_beta(double a, double b)
{
    int sign;
    return lgamma_r(a, &sign) + lgamma_r(b, &sign) - lgamma_r(a + b, &sign);
}

/* I_x(a,b) for x below (a+1)/(a+b+2), where the fraction converges in few steps. */
static double beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double fraction = d;
    for (int m = 1; m < 500; m++) {
        for (int odd = 0; odd < 2; odd++) {
            double coefficient = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                     : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + coefficient * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + coefficient / c;
            c = fabs(c) < tiny ? tiny : c;
            fraction *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return exp(a * log(x) + b * log1p(-x) - log_beta(a, b)) / a * fraction;
}

/* P(T > eps), eps in [0, sqrt(n)], n >= 2. */
static double tail(double eps, double n)
{
    double a = (n - 1) / 2, b = 0.5, x = eps * eps / n;
    if (x <= 0)
        return 0.5;
    if (x >= 1)
        return 0;
    if (1 - x < (a + 1) / (a + b + 2))
        return beta_fraction(a, b, 1 - x) / 2;
    return (1 - beta_fraction(b, a, x)) / 2;
}

float gyre_bound_epsilon(double confidence, uint32_t dim)
{
    /* Too few dimensions for a law: eps >= 1 covers the code's error (|T| <= sqrt(dim-1)), eps = sqrt(3·dim) the worst
     * rounding of the query, s·D·dim/2. */
    if (dim < 3)
        return (float)sqrt(3.0 * dim);
    double wanted = 1 - confidence, n = dim - 1.0;
    double low = 0, high = sqrt(n), eps = high < 2 ? high / 2 : 2;
    double log_scale = 0.5 * log(n) + log_beta(0.5, (n - 1) / 2);
    /* Newton's steps on the tail, whose slope is minus the density of T; where one leaves the bracket, its middle. */
    for (int i = 0; i < 60 && high - low > 1e-9; i++) {
        double excess = tail(eps, n) - wanted;
        if (excess > 0)
            low = eps;
        else
            high = eps;
        double step = excess * exp(log_scale - (n - 3) / 2 * log1p(-eps * eps / n));
        double next = eps + step;
        if (!(next > low && next < high))
            next = (low + high) / 2;
        if (fabs(next - eps) < 1e-9)
            break;
        eps = next;
    }
    /* Up to a grid far coarser than what libm's variants for different CPUs disagree by, so that they agree after all. */
    return (float)(ceil(eps * 0x1p22) * 0x1p-22);
}

void gyre_bound_calibrated(double c, double h, double *low, double *high)
{
    double h2 = h * h, radicand = 1 + h2 - c * c;
    double reach = radicand > 0 ? h * sqrt(radicand) : 0;
    *low = fmin(fmax((c - reach) / (1 + h2), -1), 1);
    *high = fmin(fmax((c + reach) / (1 + h2), -1), 1);
}
