/* train_tables: makes tables.c, or trains anew and compares.
 *
 *   train_tables DIRECTORY   writes tables.c
 *   train_tables --check     trains again from other samples; fails if a committed table errs more than 0.5% above the new one
 *
 * A round finds the best paths for fresh Gaussian vectors and moves the value of each state to the mean of the samples that it
 * coded, its old value counting as OLD_WEIGHT more. Values and samples are floats until the end: in steps of 1/scale the
 * rounds stop short, at 4 bits with an error 5% larger. What decides how good a table gets is where it starts:
 *   - the values of a start are the quantiles of the samples' distribution in random order. Orders that spread the branches of
 *     a state evenly (bit reversal, and shuffles within it) end 1 to 9% worse: such a table makes the code of a scalar
 *     quantizer, whose neighbouring states mean neighbouring values, and the rounds never leave it;
 *   - while the path is found, a sample has some noise on it, less every round. It shakes a table out of poor optima: 0.3 to 2%.
 * The best of several starts goes on without noise. README.md has the figures. Deterministic: only + - * / and sqrt, in a
 * fixed order, so the same bytes on every machine. 20 minutes of one core. */
#include "gyre/codec.h"
#include "kernels/inline.h"
#include "kernels/trellis.h"
#include "trellis/tables.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DIM = 128,
    STARTS = 12,
    VECTORS = 3000, /* of a round */
    ROUNDS = 160,
    QUIET_ROUNDS = 50, /* the last of them, without noise */
    LAST_VECTORS = 12000,
    LAST_ROUNDS = 100, /* of the best start */
    JUDGED = 20000,    /* vectors by which starts are compared */
    OLD_WEIGHT = 8,
    CHECK_STARTS = 3,
    CHECK_LAST_ROUNDS = 20,
};

/* What is trained. noise: of the first round, in standard deviations of the samples; about the best of seven from 0 to 1.5. */
static const struct plan {
    uint8_t kind, window, fresh, scale;
    double noise;
} plans[] = {
    {GYRE_TRELLIS, 6, 1, 48, 0.8},     {GYRE_TRELLIS, 8, 1, 48, 0.6},     {GYRE_TRELLIS, 8, 2, 40, 0.8},
    {GYRE_SIGNTRELLIS, 8, 1, 64, 0.6}, {GYRE_SIGNTRELLIS, 8, 2, 64, 0.35}, {GYRE_SIGNTRELLIS, 8, 3, 64, 0.2},
};
enum { PLANS = sizeof plans / sizeof *plans };

static uint64_t random_state;

static uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* In (-1, 1). */
static double random_signed(void) { return ((double)(random_u64() >> 11) + 0.5) * 0x1p-52 - 1; }

/* log(x) of 0 < x <= 1 by the series of the inverse hyperbolic tangent: no libm decides a table. */
static double logarithm(double x)
{
    double halvings = 0;
    for (; x < 0.70710678118654752; x *= 2)
        halvings++;
    double t = (x - 1) / (x + 1), square = t * t, sum = 0;
    for (int n = 21; n > 0; n -= 2)
        sum = sum * square + 1.0 / n;
    return 2 * t * sum - halvings * 0.69314718055994531;
}

/* Two independent N(0,1), by Marsaglia's polar method. */
static void random_normals(double pair[2])
{
    double a, b, square;
    do {
        a = random_signed(), b = random_signed(), square = a * a + b * b;
    } while (square >= 1 || square == 0);
    double length = sqrt(-2 * logarithm(square) / square);
    pair[0] = a * length, pair[1] = b * length;
}

/* A table in training, in standard deviations of the samples. */
struct training {
    const struct plan *plan;
    double values[GY_TRELLIS_STATES_MAX];
    double error; /* mean square, as judged: not rounded yet */
};

static uint32_t state_count(const struct plan *plan) { return UINT32_C(1) << plan->window; }
static bool has_magnitudes(const struct plan *plan) { return plan->kind == GYRE_SIGNTRELLIS; }

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantiles, from the means of slices of a large sorted sample, in random order. */
static void start(struct training *t, const struct plan *plan)
{
    enum { SLICE = 512 };
    static double samples[GY_TRELLIS_STATES_MAX * SLICE];
    uint32_t count = state_count(plan);
    for (size_t i = 0; i < (size_t)count * SLICE; i += 2)
        random_normals(samples + i);
    if (has_magnitudes(plan))
        for (size_t i = 0; i < (size_t)count * SLICE; i++)
            samples[i] = fabs(samples[i]);
    qsort(samples, (size_t)count * SLICE, sizeof *samples, by_value);
    *t = (struct training){.plan = plan};
    for (uint32_t s = 0; s < count; s++) {
        for (size_t i = 0; i < SLICE; i++)
            t->values[s] += samples[s * SLICE + i] / SLICE;
        uint32_t other = (uint32_t)(random_u64() % (s + 1));
        double swap = t->values[other];
        t->values[other] = t->values[s], t->values[s] = swap;
    }
}

/* The states of the path nearest to x, as quantizers/path.c finds it but in floats. For constant window and k. */
GY_INLINE void find_path(const float *values, uint32_t window, uint32_t k, const float *x, uint8_t *states)
{
    static uint8_t choices[DIM][GY_TRELLIS_STATES_MAX / 2];
    const uint32_t count = 1u << window, stems = count >> k;
    float costs[GY_TRELLIS_STATES_MAX], least[GY_TRELLIS_STATES_MAX / 2];
    for (uint32_t s = 0; s < count; s++)
        costs[s] = (x[0] - values[s]) * (x[0] - values[s]);
    for (size_t i = 1; i < DIM; i++) {
        int32_t choice[GY_TRELLIS_STATES_MAX / 2];
        for (uint32_t p = 0; p < stems; p++) {
            least[p] = costs[p], choice[p] = 0;
            for (uint32_t t = 1; t < 1u << k; t++) {
                float cost = costs[t * stems + p];
                choice[p] = cost < least[p] ? (int32_t)t : choice[p];
                least[p] = cost < least[p] ? cost : least[p];
            }
        }
        for (uint32_t p = 0; p < stems; p++)
            choices[i][p] = (uint8_t)choice[p];
        for (uint32_t s = 0; s < count; s++)
            costs[s] = least[s >> k] + (x[i] - values[s]) * (x[i] - values[s]);
    }
    uint32_t state = 0;
    for (uint32_t s = 1; s < count; s++)
        state = costs[s] < costs[state] ? s : state;
    for (size_t i = DIM; i-- > 1;) {
        states[i] = (uint8_t)state;
        state = choices[i][state >> k] * stems + (state >> k);
    }
    states[0] = (uint8_t)state;
}

static void find(const struct plan *plan, const float *values, const float *x, uint8_t *states)
{
    switch (plan->window * 8 + plan->fresh) {
    case 6 * 8 + 1: find_path(values, 6, 1, x, states); break;
    case 8 * 8 + 1: find_path(values, 8, 1, x, states); break;
    case 8 * 8 + 2: find_path(values, 8, 2, x, states); break;
    case 8 * 8 + 3: find_path(values, 8, 3, x, states); break;
    default: abort();
    }
}

/* Codes n fresh vectors; sums and counts [states] of what each state coded. Returns the mean squared error. */
static double code(const struct training *t, size_t n, double noise, double *sums, double *counts)
{
    float values[GY_TRELLIS_STATES_MAX];
    double error = 0;
    for (uint32_t s = 0; s < state_count(t->plan); s++)
        values[s] = (float)t->values[s], sums[s] = counts[s] = 0;
    for (size_t v = 0; v < n; v++) {
        double x[DIM];
        float shaken[DIM];
        uint8_t states[DIM];
        for (size_t i = 0; i < DIM; i += 2)
            random_normals(x + i);
        for (size_t i = 0; i < DIM; i++) {
            double pair[2] = {0};
            if (noise > 0)
                random_normals(pair);
            x[i] = has_magnitudes(t->plan) ? fabs(x[i]) : x[i];
            shaken[i] = (float)(x[i] + noise * pair[0]);
        }
        find(t->plan, values, shaken, states);
        for (size_t i = 0; i < DIM; i++) {
            double off = x[i] - (double)values[states[i]];
            sums[states[i]] += x[i];
            counts[states[i]]++;
            error += off * off;
        }
    }
    return error / (double)(n * DIM);
}

static void rounds(struct training *t, size_t vectors, size_t count, size_t quiet)
{
    for (size_t r = 0; r < count; r++) {
        double sums[GY_TRELLIS_STATES_MAX], counts[GY_TRELLIS_STATES_MAX];
        code(t, vectors, r + quiet < count ? t->plan->noise * (1 - (double)r / (double)(count - quiet)) : 0, sums, counts);
        for (uint32_t s = 0; s < state_count(t->plan); s++)
            t->values[s] = (sums[s] + OLD_WEIGHT * t->values[s]) / (counts[s] + OLD_WEIGHT);
    }
}

/* Of the same vectors for all. */
static double judge(const struct training *t)
{
    double sums[GY_TRELLIS_STATES_MAX], counts[GY_TRELLIS_STATES_MAX];
    random_state = 1;
    return code(t, JUDGED, 0, sums, counts);
}

/* The best of some starts, finished. seed: 0 for the committed tables. */
static struct training train(const struct plan *plan, uint64_t seed, uint64_t starts, size_t last_rounds)
{
    struct training best = {0}, next;
    uint64_t stream = (seed << 24 | (uint64_t)plan->kind << 16 | (uint64_t)plan->window << 8 | plan->fresh) << 16;
    for (uint64_t s = 0; s < starts; s++) {
        random_state = stream + s;
        start(&next, plan);
        rounds(&next, VECTORS, ROUNDS, QUIET_ROUNDS);
        next.error = judge(&next);
        if (s == 0 || next.error < best.error)
            best = next;
    }
    random_state = stream + starts;
    rounds(&best, LAST_VECTORS, last_rounds, last_rounds);
    best.error = judge(&best);
    return best;
}

static void to_integers(const struct training *t, int16_t *values)
{
    double least = has_magnitudes(t->plan) ? 0 : -128, most = has_magnitudes(t->plan) ? 255 : 127;
    for (uint32_t s = 0; s < state_count(t->plan); s++)
        values[s] = (int16_t)fmin(fmax(floor(t->values[s] * t->plan->scale + 0.5), least), most);
}

static uint64_t hash_of(const struct plan *plan, const int16_t *values)
{
    uint8_t bytes[4 + 2 * GY_TRELLIS_STATES_MAX] = {plan->kind, plan->window, plan->fresh, plan->scale}, hash[32];
    for (uint32_t s = 0; s < state_count(plan); s++)
        gy_store_u16(bytes + 4 + 2 * s, (uint16_t)values[s]);
    crypto_generichash(hash, sizeof hash, bytes, 4 + 2 * (size_t)state_count(plan), NULL, 0);
    return gy_load_u64(hash);
}

static const char *kind_name(const struct plan *plan) { return has_magnitudes(plan) ? "sign" : "plain"; }

static void write_values(FILE *file, const struct plan *plan, const int16_t *values)
{
    fprintf(file, "\nstatic const int16_t %s_l%dk%d[] = {", kind_name(plan), plan->window, plan->fresh);
    for (uint32_t s = 0; s < state_count(plan); s++)
        fprintf(file, "%s%4d,", s % 16 ? " " : "\n    ", values[s]);
    fprintf(file, "\n};\n");
}

static int write_tables(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tables.c", directory);
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        return 1;
    }
    fprintf(file, "/* Written by train_tables. README.md says how good the tables are. */\n"
                  "#include \"trellis/tables.h\"\n");
    uint64_t hashes[PLANS];
    for (size_t i = 0; i < PLANS; i++) {
        int16_t values[GY_TRELLIS_STATES_MAX];
        struct training trained = train(&plans[i], 0, STARTS, LAST_ROUNDS);
        to_integers(&trained, values);
        write_values(file, &plans[i], values);
        hashes[i] = hash_of(&plans[i], values);
        printf("%-5s L=%d k=%d  %.5f\n", kind_name(&plans[i]), plans[i].window, plans[i].fresh, trained.error);
        fflush(stdout);
    }
    fprintf(file, "\nconst struct gy_trellis_table gy_trellis_tables[] = {\n");
    for (size_t i = 0; i < PLANS; i++)
        fprintf(file, "    {UINT64_C(0x%016llx), %d, %d, %d, %d, %s_l%dk%d},\n", (unsigned long long)hashes[i], plans[i].kind,
                plans[i].window, plans[i].fresh, plans[i].scale, kind_name(&plans[i]), plans[i].window, plans[i].fresh);
    fprintf(file, "};\nconst size_t gy_trellis_table_count = sizeof gy_trellis_tables / sizeof *gy_trellis_tables;\n");
    if (fclose(file)) {
        perror(path);
        return 1;
    }
    return 0;
}

static int check(void)
{
    int failed = 0;
    for (size_t i = 0; i < PLANS; i++) {
        const struct plan *plan = &plans[i];
        const struct gy_trellis_table *table = gy_trellis_table_find(plan->kind, plan->window, plan->fresh);
        struct training trained = train(plan, 1, CHECK_STARTS, CHECK_LAST_ROUNDS), committed = {.plan = plan};
        for (uint32_t s = 0; s < state_count(plan); s++)
            committed.values[s] = (double)table->values[s] / table->scale;
        committed.error = judge(&committed);
        bool bad = committed.error > trained.error * 1.005;
        printf("%-5s L=%d k=%d  committed %.5f  trained %.5f%s\n", kind_name(plan), plan->window, plan->fresh, committed.error,
               trained.error, bad ? "  WORSE" : "");
        fflush(stdout);
        failed |= bad;
    }
    return failed;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: train_tables DIRECTORY | --check\n");
        return 2;
    }
    return strcmp(argv[1], "--check") == 0 ? check() : write_tables(argv[1]);
}
