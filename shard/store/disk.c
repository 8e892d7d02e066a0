#include "store/disk.h"

#include "gyre/lifecycle.h"

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

gyre_status gy_disk_refuse(const char *path, uint64_t free_bytes, uint64_t free_min, const char *what, gyre_error *err)
{
    return gyre_fail(err, GYRE_EXHAUSTED, "disk of %s has %.1f MiB free; %s needs %.1f MiB", path, mebibytes(free_bytes), what,
                     mebibytes(free_min));
}

gyre_status gy_disk_check(const char *path, uint64_t free_min, const char *what, gyre_error *err)
{
    uint64_t free_bytes, total_bytes;
    GY_TRY(gy_disk_free(path, &free_bytes, &total_bytes, err));
    return free_bytes < free_min ? gy_disk_refuse(path, free_bytes, free_min, what, err) : GYRE_OK;
}
