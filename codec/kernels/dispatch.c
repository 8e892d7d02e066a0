#include "gyre/simd.h"
#include "kernels/kernels.h"

#include <stdatomic.h>
#include <stdio.h>

/* NULL until first used or selected. Racing first users store the same pointer. */
static _Atomic(const gy_kernels *) current;

static const gy_kernels *best(void)
{
    const gy_kernels *found = gy_kernels_all[0];
    for (size_t i = 1; gy_kernels_all[i]; i++)
        if (gy_kernels_all[i]->runs_here())
            found = gy_kernels_all[i];
    return found;
}

const gy_kernels *gy_kernels_current(void)
{
    const gy_kernels *kernels = atomic_load_explicit(&current, memory_order_relaxed);
    if (!kernels) {
        kernels = best();
        atomic_store_explicit(&current, kernels, memory_order_relaxed);
    }
    return kernels;
}

const char *gyre_simd_name(void) { return gy_kernels_current()->name; }

gyre_status gyre_simd_select(const char *name, gyre_error *err)
{
    atomic_store_explicit(&current, best(), memory_order_relaxed);
    if (!name || !*name)
        return GYRE_OK;
    char names[128] = "";
    for (size_t i = 0, used = 0; gy_kernels_all[i]; i++) {
        const gy_kernels *kernels = gy_kernels_all[i];
        if (!kernels->runs_here())
            continue;
        if (strcmp(kernels->name, name) == 0) {
            atomic_store_explicit(&current, kernels, memory_order_relaxed);
            return GYRE_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", kernels->name);
    }
    return gyre_fail(err, GYRE_INVALID, "GYRE_SIMD is \"%.32s\"; this machine runs %s", name, names);
}
