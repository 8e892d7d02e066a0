/* kernels: what is worth writing once per instruction set, as tables of slots. ref is the definition; every other table
 * gives the same bits: integers for free, floats because the order of operations is fixed and never contracted.
 * Threads  tables are const; gy_kernels_current may be called from anywhere */
#ifndef GY_KERNELS_H
#define GY_KERNELS_H

#include "kernels/assign.h"
#include "kernels/book.h"
#include "kernels/matrix.h"
#include "kernels/misses.h"
#include "kernels/planes.h"
#include "kernels/rotate.h"
#include "kernels/scan.h"
#include "kernels/signs.h"
#include "kernels/sums.h"
#include "kernels/trellis.h"
#include "kernels/vector.h"

/* One group per subject, each with its own header, and a file of its name in the folder of an instruction set. A set that has no
 * faster form of a group points at the next set down. */
typedef struct gy_kernels {
    const char *name;
    bool (*runs_here)(void); /* CPU and operating system */
    const gy_scan_kernels *scan;
    const gy_misses_kernels *misses;
    const gy_vector_kernels *vector;
    const gy_planes_kernels *planes;
    const gy_rotate_kernels *rotate;
    const gy_sums_kernels *sums;
    const gy_signs_kernels *signs;
    const gy_assign_kernels *assign;
    const gy_matrix_kernels *matrix;
    const gy_book_kernels *book;
    const gy_trellis_kernels *trellis;
} gy_kernels;

/* Every table built in, slowest first, NULL last; [0] is ref. */
extern const gy_kernels *const gy_kernels_all[];

/* The table this process runs: the last of gy_kernels_all that runs here, or what gyre_simd_select said. */
const gy_kernels *gy_kernels_current(void);

#endif
