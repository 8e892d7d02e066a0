/* neon matrix: tiles of 6 x 4: twelve sums, two registers of B, one factor. */
#define GY_TILE_WIDTH 2
#define GY_TILE_ROWS 6
#include "kernels/matrix_tile.h"

const gy_matrix_kernels gy_matrix_neon = {multiply_add};
