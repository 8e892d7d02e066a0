/* avx2 matrix: tiles of 4 x 8: eight sums, two registers of B, one factor. */
#define GY_TILE_WIDTH 4
#define GY_TILE_ROWS 4
#include "kernels/matrix_tile.h"

const gy_matrix_kernels gy_matrix_avx2 = {multiply_add};
