#include "replica/disk.h"

#include "gyre/clock.h"
#include "gyre/lifecycle.h"
#include "store/disk.h"

/* A look costs about a microsecond, a group commit milliseconds: often enough that many replicas on one disk see each
 * other's growth, and so much written since that the watermark (hundreds of MiB) cannot be passed in between. */
enum { LOOK_EVERY_MS = 100, LOOK_AFTER_BYTES = 8 << 20 };

bool gy_disk_watch_low(gy_disk_watch *watch, int64_t now_ns)
{
    if (!watch->looked_ns || now_ns - watch->looked_ns >= LOOK_EVERY_MS * GY_MILLISECOND_NS ||
        watch->spent_bytes >= LOOK_AFTER_BYTES) {
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
    return gy_disk_refuse(watch->path, watch->free_bytes, watch->free_min, "a write", err);
}
