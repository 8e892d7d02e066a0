/* disk: looks at the free space before RocksDB meets the end of it: its write-ahead log may abort the process there.
 * Threads  any */
#ifndef GY_STORE_DISK_H
#define GY_STORE_DISK_H

#include "gyre/base.h"

/* Below it nothing is opened or written, not even what the watermark of writes lets pass: RocksDB's recovery writes back what its
 * write buffers held. Much less than the watermark, so that a node that ran full can start again, take a configuration and
 * serve reads. */
#define GY_DISK_FLOOR_BYTES (UINT64_C(64) << 20)

/* "disk of /data has 12.0 MiB free; opening a replica needs 64.0 MiB" as GYRE_EXHAUSTED if less than free_min is free. */
GYRE_CHECKED gyre_status gy_disk_check(const char *path, uint64_t free_min, const char *what, gyre_error *err);
/* The same sentence about free_bytes that were looked up before. Always GYRE_EXHAUSTED. */
gyre_status gy_disk_refuse(const char *path, uint64_t free_bytes, uint64_t free_min, const char *what, gyre_error *err);

#endif
