/* spec: what a collection is asked to be, and what this version can make. */
#ifndef GY_CATALOG_SPEC_H
#define GY_CATALOG_SPEC_H

#include "gyre/codec.h"

enum {
    GY_NAME_BYTES_MAX = 64,
    GY_CODEC_NAME_BYTES_MAX = 31,
    GY_BITS_MAX = 8,
    GY_SHARDS_MAX = 1024,
    GY_SHARDS_DEFAULT = 4,
    GY_COPIES_MAX = 7,
    GY_QUANTIZED_MAX = 7,
};

struct gy_collection_spec {
    char name[GY_NAME_BYTES_MAX + 1];
    uint32_t dim;
    gyre_metric metric;
    char codec[GY_CODEC_NAME_BYTES_MAX + 1]; /* "rabitq", or a name of libgyrecodec */
    uint32_t bits;                           /* as the codec's; chosen with "rabitq" only */
    uint32_t shards;
    uint32_t copies;     /* full members of each shard */
    uint32_t quantized;  /* members that hold codes only */
    bool allow_approximate; /* where no full copy of a shard is within reach its codes answer searches */
    uint32_t min_copies; /* writes are refused while fewer are in sync; 0: one less than copies, but at least one */
};

/* A collection's name: 1 to 64 bytes of a-z 0-9 _ -, the first a letter. GYRE_INVALID says which byte is wrong. */
GYRE_CHECKED gyre_status gy_collection_name_check(const char *name, gyre_error *err);
/* Every field, defaults already filled in. GYRE_INVALID for what no version takes, GYRE_UNIMPLEMENTED for what this one cannot;
 * both name the field and what is allowed. */
GYRE_CHECKED gyre_status gy_collection_spec_check(const struct gy_collection_spec *spec, gyre_error *err);
/* The codec that name and bits ask for: "rabitq" with 1 to 8 bits is rabitq1, rabitq2-fast … rabitq8-fast (the best scale of each
 * vector costs a hundredfold to encode and gains a few percent); else one of gyre_codec_list whose rows a scan can move from list
 * to list, which are those that have signs and need no training. bits 0 is the default: 1, or what the name says. GYRE_INVALID
 * names field and limits. */
GYRE_CHECKED gyre_status gy_collection_codec(const char *name, uint32_t bits, const gyre_codec **out, gyre_error *err);
/* A node's name: 1 to 64 printable ASCII bytes without spaces, quotes or backslashes. */
GYRE_CHECKED gyre_status gy_primary_name_check(const char *name, gyre_error *err);

#endif
