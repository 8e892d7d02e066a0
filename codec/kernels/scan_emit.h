/* scan_emit: what every table's scan shares: fetching ahead, the order of queries and blocks, and the definition of what becomes
 * of a row once its H is known. Tables do the same operations on several rows at once. */
#ifndef GY_SCAN_EMIT_H
#define GY_SCAN_EMIT_H

#include "kernels/scan.h"
#include "layout.h"

#include <math.h>

/* A core keeps few reads of memory in flight, and a scan is as fast as they are kept busy. Every line is asked for twice: far
 * ahead into the second cache, and shortly before its use into the first. One of the two alone, other distances and hints that
 * spare the caches are slower (kernels/README.md). Fetching beyond the last block is harmless: a prefetch never faults. */
enum { GY_FETCH_FAR_BYTES = 3584, GY_FETCH_NEAR_BYTES = 1024 };

/* Belongs between the loads of one line and of the next, and the compiler may not move it from there: prefetches that it gathers
 * cost a tenth of the speed. As integers: a pointer that far behind the last block would not be a pointer. */
static inline void gy_scan_prefetch(const uint8_t *from)
{
    __asm__ volatile("" ::: "memory");
    __builtin_prefetch((const void *)((uintptr_t)from + GY_FETCH_FAR_BYTES), 0, 2);
    __builtin_prefetch((const void *)((uintptr_t)from + GY_FETCH_NEAR_BYTES), 0, 3);
    __asm__ volatile("" ::: "memory");
}

/* The lines of a block's factors; of r2 too, which no scan reads: a gap costs more than its two lines. */
static inline void gy_scan_prefetch_factors(const uint8_t *factors)
{
    for (size_t at = 0; at < GY_BLOCK_FACTOR_BYTES; at += 64)
        gy_scan_prefetch(factors + at);
}

/* The factors of a row that a scan uses. */
struct gy_scan_factors {
    float s, add, e;
};

/* Of a place of a block.
 *   factors  behind the block's codes */
static inline struct gy_scan_factors gy_scan_factors_at(const uint8_t *factors, size_t place)
{
    return (struct gy_scan_factors){
        .s = gy_load_f32(factors + GY_BLOCK_S + 4 * place),
        .add = gy_load_f32(factors + GY_BLOCK_ADD + 4 * place),
        .e = gy_bf16_float(gy_load_u16(factors + GY_BLOCK_E + 2 * place)),
    };
}

/* Writes the hit of one row if its exact bound lets it through; returns how many were written: 0 or 1.
 *   misses  H of the row */
static inline size_t gy_scan_emit(const struct gy_scan *scan, struct gy_scan_factors factors, uint32_t misses, uint32_t row,
                                  float threshold, gyre_hit *hit)
{
    float s = factors.s, add = factors.add, e = factors.e;
    if (add == INFINITY) /* an empty place */
        return 0;
    float t = (float)(scan->levels - 2 * (int32_t)misses);
    float estimate = (add + scan->base) - s * (scan->step * t);
    float most = (e * scan->per_e_up + s * scan->per_s_up) + (add * scan->rounding_add_up + scan->rounding_base_up);
    if (!(estimate - most <= threshold)) /* the fast test: half_width is at most most */
        return 0;
    double from_code = (double)e * scan->per_e, from_query = (double)s * scan->per_s;
    double rounding = scan->rounding_base + (double)add * scan->rounding_add + (double)s * scan->rounding_s;
    float half_width = (float)(sqrt(from_code * from_code + from_query * from_query) + rounding);
    if (half_width > most) /* only among denormals, where most has lost its margin */
        half_width = most;
    if (!(estimate - half_width <= threshold))
        return 0;
    *hit = (gyre_hit){row, estimate, half_width};
    return 1;
}

/* Blocks first…end-1 for the first queries of a job: as many as the function is made for. Adds to found. */
typedef void gy_scan_blocks(const struct gy_scan_job *job, size_t first, size_t end);

/* A job by functions for 1…largest queries, in order. Groups of more queries than that take turns at every block, which stays in
 * the first cache: memory is read once all the same. */
static inline void gy_scan_in_groups(gy_scan_blocks *const *functions, size_t largest, const struct gy_scan_job *job)
{
    struct gy_scan_job groups[GYRE_SCAN_QUERIES_MAX];
    size_t group_count = 0, step = job->count > largest ? 1 : job->block_count;
    memset(job->found, 0, job->count * sizeof *job->found);
    for (size_t q = 0; q < job->count; q += largest) {
        struct gy_scan_job *group = &groups[group_count++];
        *group = *job;
        group->count = job->count - q < largest ? job->count - q : largest;
        group->scans += q, group->thresholds += q, group->hits += q, group->found += q;
    }
    for (size_t b = 0; b < job->block_count; b += step)
        for (size_t g = 0; g < group_count; g++)
            functions[groups[g].count - 1](&groups[g], b, b + step);
}

#endif
