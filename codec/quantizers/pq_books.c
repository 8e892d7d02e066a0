#include "quantizers/pq_books.h"

#include "rotations/keystream.h"

#include <stdlib.h>

/* How far beside, as a share of each coordinate. */
static const float apart = 0x1p-7f;

enum { LANES = 16 };

static size_t row_count(const struct gy_pq_books *books) { return (size_t)books->count * GY_PQ_WORDS; }

gyre_status gy_pq_books_new(struct gy_pq_books **out, uint32_t dim, uint32_t block, gyre_error *err)
{
    struct gy_pq_books *books = calloc(1, sizeof *books);
    if (!books)
        return gyre_fail(err, GYRE_NO_MEMORY, "books of dim %u", dim);
    *books = (struct gy_pq_books){.dim = dim, .block = block, .count = (dim + block - 1) / block};
    size_t elements = row_count(books) * block;
    books->rows = calloc(2 * elements + row_count(books), sizeof *books->rows);
    if (!books->rows) {
        free(books);
        return gyre_fail(err, GYRE_NO_MEMORY, "books of dim %u", dim);
    }
    books->columns = books->rows + elements;
    books->half_norms = books->columns + elements;
    *out = books;
    return GYRE_OK;
}

void gy_pq_books_free(struct gy_pq_books *books)
{
    if (books)
        free(books->rows);
    free(books);
}

gyre_status gy_pq_means_init(struct gy_pq_means *means, const struct gy_pq_books *books, gyre_error *err)
{
    means->sums = malloc(row_count(books) * (books->block + 1) * sizeof *means->sums);
    means->counts = malloc(row_count(books) * sizeof *means->counts);
    if (means->sums && means->counts) {
        means->errors = means->sums + row_count(books) * books->block;
        return GYRE_OK;
    }
    gy_pq_means_fini(means);
    return gyre_fail(err, GYRE_NO_MEMORY, "means of dim %u", books->dim);
}

void gy_pq_means_fini(struct gy_pq_means *means)
{
    free(means->sums), free(means->counts);
    *means = (struct gy_pq_means){0};
}

/* Coordinates of a block: block, or what is left of dim. */
static uint32_t width(const struct gy_pq_books *books, uint32_t b)
{
    uint32_t left = books->dim - b * books->block;
    return left < books->block ? left : books->block;
}

gyre_status gy_pq_books_draw(struct gy_pq_books *books, const float *sample, size_t n, const uint8_t *seed, gyre_error *err)
{
    uint32_t *order = malloc(n * sizeof *order);
    if (!order)
        return gyre_fail(err, GYRE_NO_MEMORY, "a draw from %zu vectors", n);
    struct gy_keystream stream;
    for (uint32_t b = 0; b < books->count; b++) {
        gy_keystream_start(&stream, seed, "PQ01", books->dim, b);
        for (uint32_t i = 0; i < n; i++)
            order[i] = i;
        for (uint32_t k = 0; k < GY_PQ_WORDS; k++) { /* the first of a Fisher-Yates shuffle */
            uint32_t pick = k + gy_keystream_below(&stream, (uint32_t)n - k), kept = order[k];
            order[k] = order[pick];
            order[pick] = kept;
            memcpy(books->rows + ((size_t)b * GY_PQ_WORDS + k) * books->block,
                   sample + (size_t)order[k] * books->dim + (size_t)b * books->block, width(books, b) * sizeof *sample);
        }
    }
    sodium_memzero(&stream, sizeof stream);
    free(order);
    gy_pq_books_refresh(books);
    return GYRE_OK;
}

void gy_pq_books_refresh(struct gy_pq_books *books)
{
    for (size_t r = 0; r < row_count(books); r++) {
        const float *row = books->rows + r * books->block;
        float *column = books->columns + r / GY_PQ_WORDS * GY_PQ_WORDS * books->block + r % GY_PQ_WORDS, norm = 0;
        for (uint32_t j = 0; j < books->block; j++) {
            column[j * GY_PQ_WORDS] = row[j];
            norm += row[j] * row[j];
        }
        books->half_norms[r] = norm / 2;
    }
}

/* |v - c|^2/2 - |v|^2/2 of each codeword, sixteen beside each other; then the first that has the least. */
static uint8_t nearest(const float *columns, const float *half_norms, const float *v, uint32_t count)
{
    float score[GY_PQ_WORDS], least[LANES];
    memcpy(score, half_norms, sizeof score);
    for (uint32_t j = 0; j < count; j++)
        for (size_t k = 0; k < GY_PQ_WORDS; k++)
            score[k] -= v[j] * columns[j * GY_PQ_WORDS + k];
    memcpy(least, score, sizeof least);
    for (size_t k = LANES; k < GY_PQ_WORDS; k += LANES)
        for (size_t l = 0; l < LANES; l++)
            least[l] = score[k + l] < least[l] ? score[k + l] : least[l];
    for (size_t l = 1; l < LANES; l++)
        least[0] = least[l] < least[0] ? least[l] : least[0];
    for (size_t k = 0; k < GY_PQ_WORDS - 1; k++)
        if (score[k] <= least[0])
            return (uint8_t)k;
    return GY_PQ_WORDS - 1;
}

void gy_pq_nearest(const struct gy_pq_books *books, const float *vector, uint8_t *code)
{
    for (uint32_t b = 0; b < books->count; b++)
        code[b] = nearest(books->columns + (size_t)b * GY_PQ_WORDS * books->block, books->half_norms + (size_t)b * GY_PQ_WORDS,
                          vector + (size_t)b * books->block, width(books, b));
}

void gy_pq_decode(const struct gy_pq_books *books, const uint8_t *code, float *out)
{
    for (uint32_t b = 0; b < books->count; b++)
        memcpy(out + (size_t)b * books->block, books->rows + ((size_t)b * GY_PQ_WORDS + code[b]) * books->block,
               width(books, b) * sizeof *out);
}

void gy_pq_means_clear(const struct gy_pq_books *books, struct gy_pq_means *means)
{
    memset(means->sums, 0, row_count(books) * (books->block + 1) * sizeof *means->sums);
    memset(means->counts, 0, row_count(books) * sizeof *means->counts);
}

void gy_pq_means_add(const struct gy_pq_books *books, struct gy_pq_means *means, const float *vector, const uint8_t *code)
{
    for (uint32_t b = 0; b < books->count; b++) {
        size_t row = (size_t)b * GY_PQ_WORDS + code[b];
        means->counts[row]++;
        for (uint32_t j = 0; j < width(books, b); j++) {
            double value = (double)vector[b * books->block + j], off = value - (double)books->rows[row * books->block + j];
            means->sums[row * books->block + j] += value;
            means->errors[row] += off * off;
        }
    }
}

/* Codeword k, which nobody uses, moves beside the one that errs most, and so takes half of its vectors at the next assignment.
 * That one stays: what the others code is never coded worse. */
static void split(float *rows, double *errors, uint32_t block, size_t k)
{
    size_t most = 0;
    for (size_t i = 1; i < GY_PQ_WORDS; i++)
        if (errors[i] > errors[most])
            most = i;
    for (uint32_t j = 0; j < block; j++) {
        float from = rows[most * block + j];
        rows[k * block + j] = from + from * (j % 2 ? -apart : apart);
    }
    errors[k] = errors[most] /= 2;
}

void gy_pq_books_update(struct gy_pq_books *books, struct gy_pq_means *means)
{
    uint32_t block = books->block;
    for (size_t r = 0; r < row_count(books); r++)
        for (uint32_t j = 0; j < block && means->counts[r]; j++)
            books->rows[r * block + j] = (float)(means->sums[r * block + j] / means->counts[r]);
    for (size_t r = 0; r < row_count(books); r++)
        if (means->counts[r] == 0) {
            size_t first = r / GY_PQ_WORDS * GY_PQ_WORDS;
            split(books->rows + first * block, means->errors + first, block, r - first);
        }
    gy_pq_books_refresh(books);
}
