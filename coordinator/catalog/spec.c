#include "catalog/spec.h"

gyre_status gy_collection_name_check(const char *name, gyre_error *err)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > GY_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "collection name of %zu bytes; it must be 1 to %d", bytes, GY_NAME_BYTES_MAX);
    if (name[0] < 'a' || name[0] > 'z')
        return gyre_fail(err, GYRE_INVALID, "collection name begins with byte 0x%02x; it must begin with a letter a-z", (unsigned char)name[0]);
    for (size_t i = 1; i < bytes; i++)
        if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '_' && name[i] != '-')
            return gyre_fail(err, GYRE_INVALID, "collection name has byte 0x%02x at position %zu; it may hold a-z 0-9 _ -",
                             (unsigned char)name[i], i);
    return GYRE_OK;
}

gyre_status gy_primary_name_check(const char *name, gyre_error *err)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > GY_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "node name of %zu bytes; it must be 1 to %d", bytes, GY_NAME_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '"' || name[i] == '\'' || name[i] == '\\')
            return gyre_fail(err, GYRE_INVALID,
                             "node name has byte 0x%02x at position %zu; it may hold printable ASCII without spaces, quotes and \\",
                             (unsigned char)name[i], i);
    return GYRE_OK;
}

gyre_status gy_collection_spec_check(const struct gy_collection_spec *spec, gyre_error *err)
{
    GY_TRY(gy_collection_name_check(spec->name, err));
    if (spec->dim == 0 || spec->dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; it must be 1 to %d", spec->dim, GYRE_DIM_MAX);
    if (!gyre_metric_name(spec->metric))
        return gyre_fail(err, GYRE_INVALID, "metric is %d; it must be l2 (1), ip (2) or cosine (3)", (int)spec->metric);
    if (strcmp(spec->codec, "rabitq") != 0)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "codec is not known; this version has \"rabitq\"");
    if (spec->bits != 1)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "bits is %u; this version stores 1 bit per dimension", spec->bits);
    if (spec->shards == 0 || spec->shards > GY_SHARDS_MAX)
        return gyre_fail(err, GYRE_INVALID, "shards is %u; it must be 1 to %d", spec->shards, GY_SHARDS_MAX);
    if (spec->copies != 1)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "copies is %u; this version keeps 1 full copy of a shard", spec->copies);
    if (spec->quantized != 0)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "quantized is %u; this version keeps no quantized copies, so it must be 0", spec->quantized);
    return GYRE_OK;
}
