/* train_books: makes the constants of this folder, or trains them anew and compares.
 *
 *   train_books DIRECTORY   writes block_books.c, sign_books.c and additive_books.c
 *   train_books --check     trains again from other samples; fails if a committed book's error is 0.5% above the new one's
 *
 * k-means on N(0, I_p), magnitudes for sign books. Codewords start as samples of N(0, (p+2)/p·I), the density of a good
 * quantizer's codewords; every round draws fresh samples, so no book fits one sample. Several starts run to near the end; the
 * best is finished with many more samples, which takes the noise out of its means. Additive books alternate {best of all 256
 * sums, least squares}. Same libm: same bytes. Minutes of one core. */
#include "books/books.h"
#include "kernels/kernels.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    COUNT_MAX = 4096,
    CHUNK = 8192, /* samples drawn at once */
    LINE = 120,
    HALF = 16,    /* codewords of each of the two additive books */
    /* Per round. */
    SAMPLES_PER_CODEWORD = 250,
    SAMPLES_LEAST = 1 << 15,
    SAMPLES_AT_END = 1 << 22, /* at least; takes the noise out of the means, and of the choice among starts */
    ROUNDS = 250,
};

struct plan {
    enum gy_book_kind kind;
    uint32_t dims, bits;
};

/* Every book of a codec, and of what its blocks leave over at dims that they do not divide. */
static const struct plan plans[] = {
    {GY_BOOK_BLOCK, 1, 1}, {GY_BOOK_BLOCK, 2, 1}, {GY_BOOK_BLOCK, 3, 1}, {GY_BOOK_BLOCK, 4, 1}, {GY_BOOK_BLOCK, 5, 1},
    {GY_BOOK_BLOCK, 6, 1}, {GY_BOOK_BLOCK, 7, 1}, {GY_BOOK_BLOCK, 8, 1}, {GY_BOOK_BLOCK, 1, 2}, {GY_BOOK_BLOCK, 2, 2},
    {GY_BOOK_BLOCK, 3, 2}, {GY_BOOK_BLOCK, 4, 2}, {GY_BOOK_BLOCK, 1, 3}, {GY_BOOK_BLOCK, 2, 3}, {GY_BOOK_BLOCK, 3, 3},
    {GY_BOOK_BLOCK, 4, 3}, {GY_BOOK_BLOCK, 1, 4}, {GY_BOOK_BLOCK, 2, 4},
    {GY_BOOK_SIGN, 1, 2},  {GY_BOOK_SIGN, 2, 2},  {GY_BOOK_SIGN, 3, 2},  {GY_BOOK_SIGN, 4, 2},  {GY_BOOK_SIGN, 5, 2},
    {GY_BOOK_SIGN, 6, 2},  {GY_BOOK_SIGN, 7, 2},  {GY_BOOK_SIGN, 8, 2},  {GY_BOOK_SIGN, 1, 3},  {GY_BOOK_SIGN, 2, 3},
    {GY_BOOK_SIGN, 3, 3},  {GY_BOOK_SIGN, 4, 3},  {GY_BOOK_SIGN, 1, 4},  {GY_BOOK_SIGN, 2, 4},
    {GY_BOOK_ADDITIVE, 8, 1},
};
enum { PLANS = sizeof plans / sizeof *plans };

static uint32_t codeword_count(const struct plan *plan)
{
    switch (plan->kind) {
    case GY_BOOK_BLOCK:
        return UINT32_C(1) << plan->bits * plan->dims;
    case GY_BOOK_SIGN:
        return UINT32_C(1) << (plan->bits - 1) * plan->dims;
    default:
        return 2 * HALF;
    }
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static uint64_t random_state;

static uint64_t random_u64(void) /* splitmix64 */
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void draw(const struct plan *plan, size_t n, float *out)
{
    size_t count = n * plan->dims;
    for (size_t i = 0; i < count; i += 2) { /* Box and Muller; float ends at 5.9 standard deviations */
        uint64_t bits = random_u64();
        float length = sqrtf(-2 * logf(((float)(bits >> 40) + 0.5f) * 0x1p-24f));
        float angle = (float)(bits & 0xffffff) * (2 * (float)M_PI * 0x1p-24f);
        out[i] = length * cosf(angle);
        if (i + 1 < count)
            out[i + 1] = length * sinf(angle);
    }
    if (plan->kind == GY_BOOK_SIGN)
        for (size_t i = 0; i < count; i++)
            out[i] = fabsf(out[i]);
}

/* A book in training, with what a round collects. An additive book's codewords are the 256 sums of its parts. */
struct training {
    struct plan plan;
    uint32_t count;
    float rows[COUNT_MAX * 4], half_norms[COUNT_MAX];
    double sums[COUNT_MAX * 4], members[COUNT_MAX];
    double parts[2 * HALF][GY_BLOCK_DIMS_MAX];
    double error; /* squared, per coordinate */
};

static void refresh(struct training *t)
{
    if (t->plan.kind == GY_BOOK_ADDITIVE)
        for (uint32_t k = 0; k < HALF * HALF; k++)
            for (uint32_t j = 0; j < t->plan.dims; j++)
                t->rows[k * t->plan.dims + j] = (float)(t->parts[k % HALF][j] + t->parts[HALF + k / HALF][j]);
    for (uint32_t k = 0; k < t->count; k++) {
        double norm = 0;
        for (uint32_t j = 0; j < t->plan.dims; j++)
            norm += (double)t->rows[k * t->plan.dims + j] * (double)t->rows[k * t->plan.dims + j];
        t->half_norms[k] = (float)(norm / 2);
    }
}

static void start(struct training *t, const struct plan *plan)
{
    *t = (struct training){.plan = *plan, .count = codeword_count(plan)};
    if (plan->kind == GY_BOOK_ADDITIVE) {
        t->count = HALF * HALF;
        for (uint32_t k = 0; k < 2 * HALF; k++) {
            float sample[GY_BLOCK_DIMS_MAX];
            draw(plan, 1, sample);
            for (uint32_t j = 0; j < plan->dims; j++)
                t->parts[k][j] = (double)sample[j] * 0.6;
        }
    } else {
        draw(plan, t->count, t->rows);
        for (uint32_t i = 0; i < t->count * plan->dims; i++)
            t->rows[i] *= (float)sqrt((plan->dims + 2.0) / plan->dims);
    }
    refresh(t);
}

/* Assigns n fresh samples. */
static void assign(struct training *t, size_t n)
{
    static float samples[CHUNK * GY_BLOCK_DIMS_MAX];
    static uint16_t index[CHUNK];
    uint32_t dims = t->plan.dims;
    const struct gy_codewords book = {.rows = t->rows, .half_norms = t->half_norms, .count = t->count, .dims = dims};
    memset(t->sums, 0, sizeof t->sums);
    memset(t->members, 0, sizeof t->members);
    double error = 0;
    for (size_t done = 0; done < n; done += CHUNK) {
        draw(&t->plan, CHUNK, samples);
        gy_kernels_current()->book->nearest(&book, samples, CHUNK, index);
        for (size_t i = 0; i < CHUNK; i++) {
            t->members[index[i]]++;
            for (uint32_t j = 0; j < dims; j++) {
                double value = (double)samples[i * dims + j], off = value - (double)t->rows[index[i] * dims + j];
                t->sums[index[i] * dims + j] += value;
                error += off * off;
            }
        }
    }
    t->error = error / (double)((n + CHUNK - 1) / CHUNK * CHUNK * dims);
}

/* Solves a·x = b for dims right sides by elimination; a is positive definite. */
static void solve(double a[2 * HALF][2 * HALF], double b[2 * HALF][GY_BLOCK_DIMS_MAX], uint32_t dims)
{
    for (uint32_t i = 0; i < 2 * HALF; i++)
        for (uint32_t r = 0; r < 2 * HALF; r++) {
            double share = a[r][i] / a[i][i];
            if (r == i || share == 0)
                continue;
            for (uint32_t c = 0; c < 2 * HALF; c++)
                a[r][c] -= share * a[i][c];
            for (uint32_t j = 0; j < dims; j++)
                b[r][j] -= share * b[i][j];
        }
    for (uint32_t i = 0; i < 2 * HALF; i++)
        for (uint32_t j = 0; j < dims; j++)
            b[i][j] /= a[i][i];
}

/* The parts whose sums are nearest to their samples. Adding a vector to one half and taking it from the other changes no sum, so
 * the system is singular; the little weight on the diagonal picks the shortest solution. */
static void move_parts(struct training *t)
{
    double a[2 * HALF][2 * HALF] = {{0}}, b[2 * HALF][GY_BLOCK_DIMS_MAX] = {{0}};
    for (uint32_t k = 0; k < t->count; k++) {
        uint32_t i = k % HALF, o = HALF + k / HALF;
        a[i][i] += t->members[k], a[o][o] += t->members[k];
        a[i][o] += t->members[k], a[o][i] += t->members[k];
        for (uint32_t j = 0; j < t->plan.dims; j++) {
            b[i][j] += t->sums[k * t->plan.dims + j];
            b[o][j] += t->sums[k * t->plan.dims + j];
        }
    }
    for (uint32_t i = 0; i < 2 * HALF; i++)
        a[i][i] += 0.01;
    solve(a, b, t->plan.dims);
    memcpy(t->parts, b, sizeof t->parts);
}

/* Codewords become the means of their samples; one without samples starts again as a sample. */
static void move(struct training *t)
{
    uint32_t dims = t->plan.dims;
    if (t->plan.kind == GY_BOOK_ADDITIVE)
        move_parts(t);
    else
        for (uint32_t k = 0; k < t->count; k++)
            if (t->members[k] == 0)
                draw(&t->plan, 1, t->rows + k * dims);
            else
                for (uint32_t j = 0; j < dims; j++)
                    t->rows[k * dims + j] = (float)(t->sums[k * dims + j] / t->members[k]);
    refresh(t);
}

static void rounds(struct training *t, size_t count, size_t samples)
{
    for (size_t r = 0; r < count; r++) {
        assign(t, samples);
        move(t);
    }
}

static int16_t rounded(double value) { return (int16_t)fmin(fmax(round(value * GY_BOOK_UNIT), INT16_MIN), INT16_MAX); }

/* The stored numbers, codeword by codeword; rows become what they stand for. Returns how many. */
static size_t quantize(struct training *t, int16_t *values)
{
    size_t count = (size_t)(t->plan.kind == GY_BOOK_ADDITIVE ? 2 * HALF : t->count) * t->plan.dims;
    for (size_t i = 0; i < count; i++) {
        double *part = &t->parts[i / t->plan.dims][i % t->plan.dims];
        values[i] = rounded(t->plan.kind == GY_BOOK_ADDITIVE ? *part : (double)t->rows[i]);
        if (t->plan.kind == GY_BOOK_ADDITIVE)
            *part = (double)values[i] / GY_BOOK_UNIT;
        else
            t->rows[i] = (float)values[i] / GY_BOOK_UNIT;
    }
    refresh(t);
    return count;
}

/* Small books end far apart, large ones near to each other; on a line there is one best book. */
static uint64_t start_count(const struct plan *plan)
{
    uint32_t count = codeword_count(plan);
    if (plan->dims == 1)
        return 1;
    return count <= 32 ? 24 : count <= 256 ? 6 : 1;
}

/* Leaves a trained book in values and its error on samples of its own. seed: 0 for the committed books. */
static double train(const struct plan *plan, uint64_t seed, int16_t *values, size_t *count)
{
    static struct training best, next;
    size_t samples = larger((size_t)codeword_count(plan) * SAMPLES_PER_CODEWORD, SAMPLES_LEAST);
    size_t many = larger(16 * samples, SAMPLES_AT_END);
    uint64_t stream = (seed << 24 | (uint64_t)plan->kind << 16 | (uint64_t)plan->dims << 8 | plan->bits) << 16;
    for (uint64_t s = 0; s < start_count(plan); s++) {
        random_state = stream + s;
        start(&next, plan);
        rounds(&next, ROUNDS, samples);
        assign(&next, SAMPLES_AT_END);
        if (s == 0 || next.error < best.error)
            best = next;
    }
    rounds(&best, ROUNDS, samples);
    rounds(&best, 3, many);
    *count = quantize(&best, values);
    assign(&best, many);
    return best.error;
}

/* The error of a committed book. */
static double committed_error(const struct plan *plan)
{
    static struct training t;
    const struct gy_book *book = gy_book_find(plan->kind, plan->dims, plan->bits);
    random_state = 1;
    start(&t, plan);
    for (size_t i = 0; i < (size_t)book->count * book->dims; i++)
        if (plan->kind == GY_BOOK_ADDITIVE)
            t.parts[i / book->dims][i % book->dims] = (double)book->values[i] / GY_BOOK_UNIT;
        else
            t.rows[i] = (float)book->values[i] / GY_BOOK_UNIT;
    refresh(&t);
    assign(&t, (size_t)1 << 24);
    return t.error;
}

static uint64_t hash_of(const struct plan *plan, const int16_t *values, size_t count)
{
    uint8_t bytes[3 + 2 * COUNT_MAX * 4] = {(uint8_t)plan->kind, (uint8_t)plan->dims, (uint8_t)plan->bits}, hash[32];
    for (size_t i = 0; i < count; i++)
        gy_store_u16(bytes + 3 + 2 * i, (uint16_t)values[i]);
    crypto_generichash(hash, sizeof hash, bytes, 3 + 2 * count, NULL, 0);
    return gy_load_u64(hash);
}

static const char *kind_name(enum gy_book_kind kind)
{
    return kind == GY_BOOK_BLOCK ? "block" : kind == GY_BOOK_SIGN ? "sign" : "additive";
}

static void write_values(FILE *file, const struct plan *plan, const int16_t *values, size_t count)
{
    fprintf(file, "\nstatic const int16_t p%ub%u[] = {", plan->dims, plan->bits);
    int column = LINE;
    for (size_t i = 0; i < count; i++) {
        char text[16];
        int length = snprintf(text, sizeof text, "%d,", values[i]);
        column = column + 1 + length > LINE ? fprintf(file, "\n    %s", text) - 1 : column + fprintf(file, " %s", text);
    }
    fprintf(file, "\n};\n");
}

/* One file per kind: the numbers as they come, the table of them at the end. */
static int write_kind(const char *directory, enum gy_book_kind kind)
{
    char path[4096], rows[PLANS * 100] = "";
    snprintf(path, sizeof path, "%s/%s_books.c", directory, kind_name(kind));
    FILE *file = fopen(path, "w");
    if (!file) {
        perror(path);
        return 1;
    }
    fprintf(file, "/* Written by train_books: codewords in units of 1/%d. README.md says how good they are. */\n", GY_BOOK_UNIT);
    fprintf(file, "#include \"books/books.h\"\n");
    size_t used = 0;
    for (size_t i = 0; i < PLANS; i++) {
        const struct plan *plan = &plans[i];
        if (plan->kind != kind)
            continue;
        int16_t values[COUNT_MAX * 4];
        size_t count;
        double error = train(plan, 0, values, &count);
        write_values(file, plan, values, count);
        used += (size_t)snprintf(rows + used, sizeof rows - used, "    {UINT64_C(0x%016llx), %d, %u, %u, %u, p%ub%u},\n",
                                 (unsigned long long)hash_of(plan, values, count), (int)kind, plan->dims, plan->bits,
                                 codeword_count(plan), plan->dims, plan->bits);
        printf("%-8s p=%u b=%u  %4u codewords  %.5f\n", kind_name(kind), plan->dims, plan->bits, codeword_count(plan), error);
        fflush(stdout);
    }
    const char *name = kind_name(kind);
    fprintf(file, "\nconst struct gy_book gy_books_%s[] = {\n%s};\n", name, rows);
    fprintf(file, "const size_t gy_books_%s_count = sizeof gy_books_%s / sizeof *gy_books_%s;\n", name, name, name);
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
        int16_t values[COUNT_MAX * 4];
        size_t count;
        double trained = train(&plans[i], 1, values, &count), committed = committed_error(&plans[i]);
        bool bad = committed > trained * 1.005;
        printf("%-8s p=%u b=%u  committed %.5f  trained %.5f%s\n", kind_name(plans[i].kind), plans[i].dims, plans[i].bits,
               committed, trained, bad ? "  WORSE" : "");
        fflush(stdout);
        failed |= bad;
    }
    return failed;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: train_books DIRECTORY | --check\n");
        return 2;
    }
    if (strcmp(argv[1], "--check") == 0)
        return check();
    int failed = 0;
    for (enum gy_book_kind kind = GY_BOOK_BLOCK; kind <= GY_BOOK_ADDITIVE; kind++)
        failed |= write_kind(argv[1], kind);
    return failed;
}
