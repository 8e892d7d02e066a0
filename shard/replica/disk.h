/* disk: our own watermark, met before RocksDB meets a full disk: its write-ahead log may abort the process there.
 * Threads  one */
#ifndef GY_REPLICA_DISK_H
#define GY_REPLICA_DISK_H

#include "gyre/base.h"

typedef struct gy_disk_watch {
    const char *path;      /* borrowed */
    uint64_t free_min;
    uint64_t free_bytes;   /* when it was last looked at */
    uint64_t spent_bytes;  /* written since */
    int64_t looked_ns;     /* 0: never */
} gy_disk_watch;

/* Whether the disk is below free_min, so that nothing may be written. Asks the system at most every 100 ms, unless much was
 * written since; a disk that cannot be asked counts as low. */
bool gy_disk_watch_low(gy_disk_watch *watch, int64_t now_ns);
/* Says what was written since. */
void gy_disk_watch_spend(gy_disk_watch *watch, uint64_t bytes);
/* "disk of /data has 12.0 MiB free; a write needs 512.0 MiB" as GYRE_EXHAUSTED. */
gyre_status gy_disk_watch_fail(const gy_disk_watch *watch, gyre_error *err);

#endif
