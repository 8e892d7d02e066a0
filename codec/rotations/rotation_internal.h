/* rotation_internal: what codebook.c and those who learn know of a rotation besides what it does. */
#ifndef GY_ROTATION_INTERNAL_H
#define GY_ROTATION_INTERNAL_H

#include "gyre/rotation.h"

/* Numbers are stored (FORMAT.md, "codebook"); a Haar rotation never is. */
enum gy_rotation_kind { GY_ROTATION_SEEDED = 0, GY_ROTATION_LEARNED = 1, GY_ROTATION_HAAR = 2 };

/* The matrix L of a learned rotation L·P, [dim][dim]; NULL for a seeded one. */
const float *gy_rotation_matrix(const gyre_rotation *rotation);

#endif
