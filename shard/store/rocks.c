/* Error strings of RocksDB start with the name of its status code; the rest is kept as it is, because it names the file. */
#include "store/rocks.h"

#include <stdlib.h>

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static gyre_status translate(const char *complaint)
{
    if (starts(complaint, "Corruption"))
        return GYRE_CORRUPT;
    if (starts(complaint, "NotFound"))
        return GYRE_NOT_FOUND;
    if (starts(complaint, "Not implemented"))
        return GYRE_UNIMPLEMENTED;
    if (starts(complaint, "IO error")) {
        if (strstr(complaint, "No space left"))
            return GYRE_EXHAUSTED;
        if (strstr(complaint, "lock"))
            return GYRE_PRECONDITION; /* another process has it open */
        if (strstr(complaint, "No such file"))
            return GYRE_CORRUPT; /* a file that the manifest names is gone */
        return GYRE_INTERNAL;
    }
    return GYRE_INTERNAL;
}

gyre_status gy_rocks_check(char **complaint, gyre_error *err, const char *doing)
{
    if (!*complaint)
        return GYRE_OK;
    gyre_status status = gyre_fail(err, translate(*complaint), "%s: %s", doing, *complaint);
    rocksdb_free(*complaint);
    *complaint = NULL;
    return status;
}

const char *gy_family_name(enum gy_family family)
{
    static const char *const names[GY_FAMILY_COUNT] = {"meta", "log", "points", "vectors", "codes", "payload_index",
                                                       "requests"};
    return names[family];
}
