/* matrix_tile: the one form of multiply_add for every vector width, included by a kernel file that says
 *   GY_TILE_WIDTH  doubles of a register       GY_TILE_ROWS  rows of a tile
 *
 * C is done in tiles of GY_TILE_ROWS x 2 registers that stay in registers while k runs through a strip of INNER; the strip of B
 * is packed once for all rows of A (32 KiB at most: the first-level cache). Per k a tile costs 2 loads of B, GY_TILE_ROWS
 * broadcasts and 2·GY_TILE_ROWS multiplies and adds, which are the limit. Vectors run over j alone, so every element is summed in
 * order of k as the definition says. */
#ifndef GY_KERNELS_MATRIX_TILE_H
#define GY_KERNELS_MATRIX_TILE_H

#include "kernels/matrix.h"

enum { COLUMNS = 2 * GY_TILE_WIDTH, INNER = 256 };

typedef double lanes __attribute__((vector_size(GY_TILE_WIDTH * sizeof(double))));

static inline lanes load(const double *from)
{
    lanes value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* ROWS is a constant at every call, so that the sums are registers. a: A(0,0) of the tile. */
static inline __attribute__((always_inline)) void tile(double *c, size_t c_stride, double alpha, struct gy_matrix_view a,
                                                       const double packed[][COLUMNS], size_t inner, const size_t rows)
{
    lanes low[GY_TILE_ROWS], high[GY_TILE_ROWS];
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++) {
        low[i] = load(c + i * c_stride);
        high[i] = load(c + i * c_stride + GY_TILE_WIDTH);
    }
    for (size_t k = 0; k < inner; k++) {
        lanes b_low = load(packed[k]), b_high = load(packed[k] + GY_TILE_WIDTH);
#pragma GCC unroll 16
        for (size_t i = 0; i < rows; i++) {
            double factor = alpha * a.at[i * a.row + k * a.column];
            low[i] += factor * b_low;
            high[i] += factor * b_high;
        }
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < rows; i++) {
        memcpy(c + i * c_stride, &low[i], sizeof low[i]);
        memcpy(c + i * c_stride + GY_TILE_WIDTH, &high[i], sizeof high[i]);
    }
}

/* A tile of fewer columns than registers hold, by way of a copy. */
static void edge(double *c, size_t c_stride, double alpha, struct gy_matrix_view a, const double packed[][COLUMNS], size_t inner,
                 size_t columns)
{
    double copy[COLUMNS] = {0};
    (void)c_stride;
    memcpy(copy, c, columns * sizeof *c);
    tile(copy, COLUMNS, alpha, a, packed, inner, 1);
    memcpy(c, copy, columns * sizeof *c);
}

static void strip(double *c, size_t c_stride, double alpha, struct gy_matrix_view a, const double packed[][COLUMNS], size_t rows,
                  size_t inner, size_t columns)
{
    size_t i = 0;
    if (columns == COLUMNS)
        for (; i + GY_TILE_ROWS <= rows; i += GY_TILE_ROWS) {
            struct gy_matrix_view from = {a.at + i * a.row, a.row, a.column};
            tile(c + i * c_stride, c_stride, alpha, from, packed, inner, GY_TILE_ROWS);
        }
    for (; i < rows; i++)
        edge(c + i * c_stride, c_stride, alpha, (struct gy_matrix_view){a.at + i * a.row, a.row, a.column}, packed, inner,
             columns);
}

static void multiply_add(double *c, size_t c_stride, double alpha, struct gy_matrix_view a, const double *b, size_t b_stride,
                         size_t rows, size_t inner, size_t columns)
{
    _Alignas(64) double packed[INNER][COLUMNS];
    for (size_t j = 0; j < columns; j += COLUMNS) {
        size_t wide = columns - j < COLUMNS ? columns - j : COLUMNS;
        for (size_t k = 0; k < inner; k += INNER) {
            size_t deep = inner - k < INNER ? inner - k : INNER;
            for (size_t l = 0; l < deep; l++) {
                memcpy(packed[l], b + (k + l) * b_stride + j, wide * sizeof *b);
                memset(packed[l] + wide, 0, (COLUMNS - wide) * sizeof *b);
            }
            strip(c + j, c_stride, alpha, (struct gy_matrix_view){a.at + k * a.column, a.row, a.column},
                  (const double(*)[COLUMNS])packed, rows, deep, wide);
        }
    }
}

#endif
