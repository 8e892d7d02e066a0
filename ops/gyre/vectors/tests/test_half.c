#include "vectors_internal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The definition, in numbers instead of bits: (-1)^s · 2^(e-15) · (1 + f/1024), and 2^-14 · f/1024 where e is 0. */
static double by_definition(unsigned half)
{
    int exponent = (int)(half >> 10 & 0x1f), fraction = (int)(half & 0x3ff);
    double value = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return half & 0x8000 ? -value : value;
}

static void every_finite_half_has_its_exact_value(void **state)
{
    (void)state;
    for (unsigned half = 0; half < 65536; half++) {
        if ((half >> 10 & 0x1f) == 0x1f)
            continue;
        double want = by_definition(half), got = (double)gy_half_to_float((uint16_t)half);
        if (got != want || signbit(got) != signbit(want))
            fail_msg("half %04x: %.17g instead of %.17g", half, got, want);
    }
}

static void infinities_and_nans_stay_what_they_are(void **state)
{
    (void)state;
    assert_true(gy_half_to_float(0x7c00) == INFINITY);
    assert_true(gy_half_to_float(0xfc00) == -INFINITY);
    for (unsigned fraction = 1; fraction < 1024; fraction++) {
        float positive = gy_half_to_float((uint16_t)(0x7c00 | fraction)), negative = gy_half_to_float((uint16_t)(0xfc00 | fraction));
        uint32_t bits;
        memcpy(&bits, &positive, sizeof bits);
        assert_int_equal(bits, 0x7f800000u | fraction << 13);
        assert_true(isnan(positive) && isnan(negative) && signbit(negative));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_finite_half_has_its_exact_value),
        cmocka_unit_test(infinities_and_nans_stay_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
