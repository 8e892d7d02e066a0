/* avx512 matrix: tiles of 8 x 16: sixteen sums, two registers of B, one factor. */
#define GY_TILE_WIDTH 8
#define GY_TILE_ROWS 8
#include "kernels/matrix_tile.h"

const gy_matrix_kernels gy_matrix_avx512 = {multiply_add};
