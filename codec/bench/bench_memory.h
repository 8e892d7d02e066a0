/* bench_memory: memory in pages of 2 MiB or 4 KiB, and a plain read of it: the ceiling of what goes through it once. */
#ifndef GYRE_CODEC_BENCH_MEMORY_H
#define GYRE_CODEC_BENCH_MEMORY_H

#include "bench.h"
#include "gyre/base.h"

#include <sys/mman.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

struct bench_memory {
    uint8_t *data; /* at the start of a huge page */
    void *mapped;
    size_t mapped_bytes;
};

/* Ends the program if there is not so much. */
static BENCH_UNUSED struct bench_memory bench_map(size_t bytes, bool huge)
{
    const size_t page = 2 << 20;
    struct bench_memory memory = {.mapped_bytes = bytes + page};
    memory.mapped = mmap(NULL, memory.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory.mapped == MAP_FAILED) {
        fprintf(stderr, "no %zu bytes of memory\n", bytes);
        exit(1);
    }
    memory.data = (uint8_t *)memory.mapped + (page - (uintptr_t)memory.mapped % page) % page;
    if (huge && madvise(memory.data, bytes, MADV_HUGEPAGE) != 0)
        fprintf(stderr, "no huge pages\n");
    return memory;
}

static BENCH_UNUSED void bench_unmap(const struct bench_memory *memory) { munmap(memory->mapped, memory->mapped_bytes); }

/* The ceiling: every cache line loaded and folded into a sum that is used. Fetching ahead pays, how hardly matters. */
static inline void bench_fetch_ahead(const uint8_t *data)
{
    __asm__ volatile("" ::: "memory");
    __builtin_prefetch((const void *)((uintptr_t)data + 1792), 0, 2);
}

static uint64_t bench_read_words(const uint8_t *data, size_t bytes)
{
    uint64_t sum[8] = {0};
    for (size_t i = 0; i + 64 <= bytes; i += 64) {
        for (size_t w = 0; w < 8; w++)
            sum[w] += gy_load_u64(data + i + 8 * w);
        bench_fetch_ahead(data + i);
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
#ifdef __x86_64__
__attribute__((target("avx512f"))) static uint64_t bench_read_avx512(const uint8_t *data, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i + 64 <= bytes; i += 64) {
        sum = _mm512_add_epi64(sum, _mm512_loadu_si512(data + i));
        bench_fetch_ahead(data + i);
    }
    return (uint64_t)_mm512_reduce_add_epi64(sum);
}
__attribute__((target("avx2"))) static uint64_t bench_read_avx2(const uint8_t *data, size_t bytes)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i + 64 <= bytes; i += 64) {
        sum = _mm256_add_epi64(sum, _mm256_loadu_si256((const __m256i *)(data + i)));
        sum = _mm256_add_epi64(sum, _mm256_loadu_si256((const __m256i *)(data + i + 32)));
        bench_fetch_ahead(data + i);
    }
    uint64_t word[4];
    _mm256_storeu_si256((__m256i *)word, sum);
    return word[0] + word[1] + word[2] + word[3];
}
#endif

static BENCH_UNUSED uint64_t bench_read(const uint8_t *data, size_t bytes)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        return bench_read_avx512(data, bytes);
    if (__builtin_cpu_supports("avx2"))
        return bench_read_avx2(data, bytes);
#endif
    return bench_read_words(data, bytes);
}

#endif
