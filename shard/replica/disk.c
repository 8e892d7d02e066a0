#include "replica/disk.h"

#include "gyre/clock.h"
#include "gyre/lifecycle.h"

/* A look costs about a microsecond, a group commit milliseconds: often enough that many replicas on one disk see each
 * other's growth, and so much written since that the watermark (hundreds of MiB) cannot be passed in between. */
enum { LOOK_EVERY_MS = 100, LOOK_AFTER_BYTES = 8 << 20, OPEN_FREE_MIN = 64 << 20 };

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

bool gy_disk_watch_low(gy_disk_watch *watch, int64_t now_ns)
{
    if (!watch->looked_ns || now_ns - watch->looked_ns >= LOOK_EVERY_MS * GY_MILLISECOND_NS || watch->spent_bytes >= LOOK_AFTER_BYTES) {
        uint64_t total;
        if (gy_disk_free(watch->path, &watch->free_bytes, &total, NULL) != GYRE_OK)
            watch->free_bytes = 0;
        watch->looked_ns = now_ns;
        watch->spent_bytes = 0;
    }
    return watch->free_bytes < watch->free_min;
}

void gy_disk_watch_spend(gy_disk_watch *watch, uint64_t bytes)
{
    watch->spent_bytes += bytes;
}

gyre_status gy_disk_watch_fail(const gy_disk_watch *watch, gyre_error *err)
{
    return gyre_fail(err, GYRE_EXHAUSTED, "disk of %s has %.1f MiB free; writes need %.1f MiB", watch->path, mebibytes(watch->free_bytes),
                     mebibytes(watch->free_min));
}

gyre_status gy_disk_check_open(const char *path, gyre_error *err)
{
    uint64_t free_bytes, total;
    GY_TRY(gy_disk_free(path, &free_bytes, &total, err));
    if (free_bytes < OPEN_FREE_MIN)
        return gyre_fail(err, GYRE_EXHAUSTED, "disk of %s has %.1f MiB free; opening a replica needs %.1f MiB", path, mebibytes(free_bytes),
                         mebibytes(OPEN_FREE_MIN));
    return GYRE_OK;
}
