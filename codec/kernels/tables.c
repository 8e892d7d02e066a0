#include "kernels/kernels.h"

static bool anywhere(void) { return true; }

static const gy_kernels ref = {
    .name = "ref",
    .runs_here = anywhere,
    .scan = &gy_scan_ref,
    .misses = &gy_misses_ref,
    .vector = &gy_vector_ref,
    .planes = &gy_planes_ref,
    .rotate = &gy_rotate_ref,
    .sums = &gy_sums_ref,
    .signs = &gy_signs_ref,
    .assign = &gy_assign_ref,
    .matrix = &gy_matrix_ref,
    .book = &gy_book_ref,
    .trellis = &gy_trellis_ref,
};

#ifdef GY_KERNELS_X86
/* Haswell, Zen 1 and what came after: fused multiply-adds came with it. */
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

/* What Ice Lake and Zen 4 added: byte permutes and multishifts, integer dot products, popcounts of vectors. */
static bool has_avx512_vbmi(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg");
}

static const gy_kernels avx2 = {
    .name = "avx2",
    .runs_here = has_avx2,
    .scan = &gy_scan_avx2,
    .misses = &gy_misses_avx2,
    .vector = &gy_vector_avx2,
    .planes = &gy_planes_avx2,
    .rotate = &gy_rotate_avx2,
    .sums = &gy_sums_avx2,
    .signs = &gy_signs_avx2,
    .assign = &gy_assign_avx2,
    .matrix = &gy_matrix_avx2,
    .book = &gy_book_avx2,
    .trellis = &gy_trellis_avx2,
};

static const gy_kernels avx512 = {
    .name = "avx512",
    .runs_here = has_avx512,
    .scan = &gy_scan_avx512,
    .misses = &gy_misses_avx2,
    .vector = &gy_vector_avx512,
    .planes = &gy_planes_avx512,
    .rotate = &gy_rotate_avx512,
    .sums = &gy_sums_avx512,
    .signs = &gy_signs_avx512,
    .assign = &gy_assign_avx512,
    .matrix = &gy_matrix_avx512,
    .book = &gy_book_avx512,
    .trellis = &gy_trellis_avx512,
};

static const gy_kernels avx512_vbmi = {
    .name = "avx512vbmi",
    .runs_here = has_avx512_vbmi,
    .scan = &gy_scan_avx512,
    .misses = &gy_misses_avx512_vbmi,
    .vector = &gy_vector_avx512,
    .planes = &gy_planes_avx512_vbmi,
    .rotate = &gy_rotate_avx512,
    .sums = &gy_sums_avx512,
    .signs = &gy_signs_avx512,
    .assign = &gy_assign_avx512,
    .matrix = &gy_matrix_avx512,
    .book = &gy_book_avx512,
    .trellis = &gy_trellis_avx512_vbmi,
};
#endif

#ifdef GY_KERNELS_ARM
static const gy_kernels neon = {
    .name = "neon",
    .runs_here = anywhere, /* every 64-bit Arm has it */
    .scan = &gy_scan_neon,
    .misses = &gy_misses_neon,
    .vector = &gy_vector_neon,
    .planes = &gy_planes_neon,
    .rotate = &gy_rotate_neon,
    .sums = &gy_sums_neon,
    .signs = &gy_signs_neon,
    .assign = &gy_assign_neon,
    .matrix = &gy_matrix_neon,
    .book = &gy_book_neon,
    .trellis = &gy_trellis_neon,
};
#endif

const gy_kernels *const gy_kernels_all[] = {
    &ref,
#ifdef GY_KERNELS_X86
    &avx2,
    &avx512,
    &avx512_vbmi,
#endif
#ifdef GY_KERNELS_ARM
    &neon,
#endif
    NULL,
};
