/* simd: which instruction set's kernels this process runs. Answers never depend on it, only speed does.
 * Threads  one atomic pointer; gyre_simd_select changes it for calls that begin later */
#ifndef GYRE_SIMD_H
#define GYRE_SIMD_H

#include "gyre/base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Name of the kernel table this process runs: "ref", "avx2", "avx512", "avx512vbmi", "neon". */
const char *gyre_simd_name(void);

/* Forces a table by name (programs pass the environment's GYRE_SIMD at start); NULL or "" picks the best. GYRE_INVALID names
 * the tables that run here and leaves the best one. */
GYRE_CHECKED gyre_status gyre_simd_select(const char *name, gyre_error *err);

#ifdef __cplusplus
}
#endif
#endif
