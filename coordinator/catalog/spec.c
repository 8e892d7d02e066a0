#include "catalog/spec.h"

#include <stdio.h>

gyre_status gy_collection_name_check(const char *name, gyre_error *err)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > GY_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "collection name of %zu bytes; it must be 1 to %d", bytes, GY_NAME_BYTES_MAX);
    if (name[0] < 'a' || name[0] > 'z')
        return gyre_fail(err, GYRE_INVALID, "collection name begins with byte 0x%02x; it must begin with a letter a-z",
                         (unsigned char)name[0]);
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
            return gyre_fail(
                err, GYRE_INVALID,
                "node name has byte 0x%02x at position %zu; it may hold printable ASCII without spaces, quotes and \\",
                (unsigned char)name[i], i);
    return GYRE_OK;
}

/* Codecs that a collection can have, for a sentence. */
static gyre_status refuse_codec(const char *name, gyre_error *err)
{
    char known[512] = "";
    size_t count, used = 0;
    const gyre_codec *codecs = gyre_codec_list(&count);
    for (size_t i = 0; i < count; i++)
        if (codecs[i].kind != GYRE_RABITQ && gyre_codec_has_signs(&codecs[i]) && !gyre_codec_is_trained(&codecs[i]))
            used += (size_t)snprintf(known + used, used < sizeof known ? sizeof known - used : 0, ", %s", codecs[i].name);
    return gyre_fail(err, GYRE_INVALID,
                     "codec \"%.*s\" cannot hold a collection; these can: rabitq with bits 1 to %d, rabitq1 to rabitq8%s",
                     GY_CODEC_NAME_BYTES_MAX, name, GY_BITS_MAX, known);
}

gyre_status gy_collection_codec(const char *name, uint32_t bits, const gyre_codec **out, gyre_error *err)
{
    char rabitq[GY_CODEC_NAME_BYTES_MAX + 1];
    bool by_bits = strcmp(name, "rabitq") == 0;
    if (by_bits && bits > GY_BITS_MAX)
        return gyre_fail(err, GYRE_INVALID, "bits is %u; it must be 1 to %d", bits, GY_BITS_MAX);
    snprintf(rabitq, sizeof rabitq, "rabitq%u%s", bits ? bits : 1, bits > 1 ? "-fast" : "");
    const gyre_codec *codec;
    if (gyre_codec_find(&codec, by_bits ? rabitq : name, NULL) != GYRE_OK || !gyre_codec_has_signs(codec) ||
        gyre_codec_is_trained(codec))
        return refuse_codec(name, err);
    if (bits && bits != codec->bits)
        return gyre_fail(err, GYRE_INVALID, "bits is %u, but codec %s has %u; leave it out", bits, codec->name, codec->bits);
    *out = codec;
    return GYRE_OK;
}

gyre_status gy_collection_spec_check(const struct gy_collection_spec *spec, gyre_error *err)
{
    GY_TRY(gy_collection_name_check(spec->name, err));
    if (spec->dim == 0 || spec->dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; it must be 1 to %d", spec->dim, GYRE_DIM_MAX);
    if (!gyre_metric_name(spec->metric))
        return gyre_fail(err, GYRE_INVALID, "metric is %d; it must be l2 (1), ip (2) or cosine (3)", (int)spec->metric);
    const gyre_codec *codec;
    GY_TRY(gy_collection_codec(spec->codec, spec->bits, &codec, err));
    if (spec->bits != codec->bits)
        return gyre_fail(err, GYRE_INVALID, "bits is %u; codec %s has %u", spec->bits, codec->name, codec->bits);
    if (spec->shards == 0 || spec->shards > GY_SHARDS_MAX)
        return gyre_fail(err, GYRE_INVALID, "shards is %u; it must be 1 to %d", spec->shards, GY_SHARDS_MAX);
    if (spec->copies == 0 || spec->copies > GY_COPIES_MAX)
        return gyre_fail(err, GYRE_INVALID, "copies is %u; it must be 1 to %d", spec->copies, GY_COPIES_MAX);
    if (spec->quantized > GY_QUANTIZED_MAX)
        return gyre_fail(err, GYRE_INVALID, "quantized is %u; it must be 0 to %d", spec->quantized, GY_QUANTIZED_MAX);
    if (spec->min_copies > spec->copies)
        return gyre_fail(err, GYRE_INVALID, "min_copies is %u; of %u copies it must be 1 to %u, or 0 for the default",
                         spec->min_copies, spec->copies, spec->copies);
    return GYRE_OK;
}
