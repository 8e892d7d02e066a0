/* bench: what the benches share: time, seeded numbers, the machine's name, and contenders that take turns.
 *
 * The first contender is the ceiling. Every run times each of them once, right after one another, so that what else the machine
 * does hits all of them, and ratios are taken within a run. */
#ifndef GYRE_CODEC_BENCH_H
#define GYRE_CODEC_BENCH_H

#include "gyre/simd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BENCH_RUNS_MAX = 99 };

#define BENCH_UNUSED __attribute__((unused))

/* Of this thread: what others run meanwhile is not counted, only what it does to caches, memory and clock. */
static inline double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline uint64_t bench_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static BENCH_UNUSED double bench_normal(uint64_t *state)
{
    double u = ((double)(bench_random(state) >> 11) + 1) * 0x1p-53, v = (double)(bench_random(state) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* Memory that a bench cannot do without. */
static BENCH_UNUSED void *bench_alloc(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!memory) {
        fprintf(stderr, "no %zu bytes of memory\n", bytes);
        exit(1);
    }
    return memory;
}

struct bench_contender {
    char name[32], table[16];
    void (*run)(void *work); /* does all of the work once */
    void *work;
    /* Sorted by bench_measure; ratio: of the first one's time to this one's. */
    double seconds[BENCH_RUNS_MAX], ratios[BENCH_RUNS_MAX];
};

static int bench_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A contender's table is selected while it runs; "" is the best. */
static BENCH_UNUSED void bench_measure(struct bench_contender *contenders, size_t count, size_t runs)
{
    for (size_t r = 0; r < runs; r++)
        for (size_t c = 0; c < count; c++) {
            if (gyre_simd_select(contenders[c].table, NULL) != GYRE_OK)
                abort();
            double start = bench_now_s();
            contenders[c].run(contenders[c].work);
            contenders[c].seconds[r] = bench_now_s() - start;
            contenders[c].ratios[r] = contenders[0].seconds[r] / contenders[c].seconds[r];
        }
    for (size_t c = 0; c < count; c++) {
        qsort(contenders[c].seconds, runs, sizeof(double), bench_by_value);
        qsort(contenders[c].ratios, runs, sizeof(double), bench_by_value);
    }
}

/* machine, compiler, commit (of the folder given), table. */
static BENCH_UNUSED void bench_print_machine(const char *folder)
{
    char line[256], model[256] = "unknown\n", commit[64] = "unknown\n", command[512];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(model, sizeof model, "%s", strchr(line, ':') + 2);
            break;
        }
    if (file)
        fclose(file);
    snprintf(command, sizeof command, "git -C '%s' describe --always --dirty 2>/dev/null", folder);
    FILE *git = popen(command, "r");
    if (git && !fgets(commit, sizeof commit, git))
        snprintf(commit, sizeof commit, "unknown\n");
    if (git)
        pclose(git);
    printf("machine   %scompiler  %s\ncommit    %stable     %s picked here\n", model, __VERSION__, commit, gyre_simd_name());
}

#endif
