/* codebook: encoded form (FORMAT.md, "codebook"), all little-endian:
 *   0  magic "GYCB"   4  u16 format version   6  u16 metric   8  u32 dim   12  u32 version
 *   16 seed[32]   48  mean f32[dim]
 *   format 2 only, for learned rotations: u32 kind of rotation = 1, matrix f32[dim][dim]
 *   format 3 only, for partitions: u32 lists, centroids f32[lists][dim]
 *   u64 checksum of everything before it
 * Checksum and fingerprint are the first 8 bytes of BLAKE2b-256, keyed by nothing, over the bytes named. */
#include "gyre/codebook.h"

#include "codebook_internal.h"
#include "partition_internal.h"
#include "rotations/rotation_internal.h"

#include <sodium.h>
#include <stdlib.h>

enum {
    MAGIC_AT = 0,
    FORMAT_AT = 4,
    METRIC_AT = 6,
    DIM_AT = 8,
    VERSION_AT = 12,
    SEED_AT = 16,
    MEAN_AT = SEED_AT + GYRE_SEED_BYTES,
    CHECKSUM_BYTES = 8,
    KIND_BYTES = 4,
    LISTS_BYTES = 4,
    FORMAT_SEEDED = 1,
    FORMAT_LEARNED = 2,
    FORMAT_PARTITIONED = 3,
};
static const char magic[4] = {'G', 'Y', 'C', 'B'};

struct gyre_codebook {
    gyre_metric metric;
    uint32_t dim;
    uint32_t version;
    uint8_t seed[GYRE_SEED_BYTES];
    uint64_t fingerprint;
    gyre_rotation *rotation;
    float *mean;                    /* [dim] c, then [dim] P c */
    struct gy_partition *partition; /* NULL: one list, around the mean */
};

/* What a codebook is made of: at most one of matrix and centroids; neither for format 1. */
struct parts {
    gyre_metric metric;
    uint32_t dim, version;
    const uint8_t *seed;
    const float *mean;      /* NULL: zero */
    const float *matrix;    /* [dim][dim], NULL: the seeded rotation */
    const float *centroids; /* [lists][dim] */
    uint32_t lists;
};

static uint64_t hash64(const uint8_t *data, size_t bytes)
{
    uint8_t digest[crypto_generichash_BYTES];
    crypto_generichash(digest, sizeof digest, data, bytes, NULL, 0);
    return gy_load_u64(digest);
}

static uint16_t format_of(const gyre_codebook *codebook)
{
    return codebook->partition ? FORMAT_PARTITIONED : gyre_codebook_is_learned(codebook) ? FORMAT_LEARNED : FORMAT_SEEDED;
}

/* Within the limits of dim and lists nothing overflows: 2^38 at most. */
static size_t encoded_bytes(uint16_t format, uint32_t dim, uint32_t lists)
{
    size_t row_bytes = dim * sizeof(float), bytes = MEAN_AT + row_bytes + CHECKSUM_BYTES;
    if (format == FORMAT_LEARNED)
        bytes += KIND_BYTES + dim * row_bytes;
    if (format == FORMAT_PARTITIONED)
        bytes += LISTS_BYTES + lists * row_bytes;
    return bytes;
}

static void store_floats(uint8_t *out, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        gy_store_f32(out + 4 * i, values[i]);
}

static void load_floats(float *out, const uint8_t *data, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = gy_load_f32(data + 4 * i);
}

static void encode_with_version(const gyre_codebook *codebook, uint32_t version, uint8_t *out)
{
    size_t dim = codebook->dim;
    uint16_t format = format_of(codebook);
    uint32_t lists = gyre_codebook_lists(codebook);
    memcpy(out + MAGIC_AT, magic, sizeof magic);
    gy_store_u16(out + FORMAT_AT, format);
    gy_store_u16(out + METRIC_AT, (uint16_t)codebook->metric);
    gy_store_u32(out + DIM_AT, codebook->dim);
    gy_store_u32(out + VERSION_AT, version);
    memcpy(out + SEED_AT, codebook->seed, GYRE_SEED_BYTES);
    store_floats(out + MEAN_AT, codebook->mean, dim);
    uint8_t *at = out + MEAN_AT + 4 * dim;
    if (format == FORMAT_LEARNED) {
        gy_store_u32(at, GY_ROTATION_LEARNED);
        store_floats(at + KIND_BYTES, gy_rotation_matrix(codebook->rotation), dim * dim);
    }
    if (format == FORMAT_PARTITIONED) {
        gy_store_u32(at, lists);
        store_floats(at + LISTS_BYTES, gyre_codebook_centroid(codebook, 0), lists * dim);
    }
    size_t hashed = encoded_bytes(format, codebook->dim, lists) - CHECKSUM_BYTES;
    gy_store_u64(out + hashed, hash64(out, hashed));
}

/* The first 8 bytes of the encoded form's hash with version 0. */
static gyre_status take_fingerprint(gyre_codebook *codebook, gyre_error *err)
{
    size_t bytes = gyre_codebook_encoded_bytes(codebook);
    uint8_t *encoded = malloc(bytes);
    if (!encoded)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of dim %u: %zu bytes", codebook->dim, bytes);
    encode_with_version(codebook, 0, encoded);
    codebook->fingerprint = gy_load_u64(encoded + bytes - CHECKSUM_BYTES);
    sodium_memzero(encoded, bytes);
    free(encoded);
    return GYRE_OK;
}

static gyre_status new_codebook(gyre_codebook **out, const struct parts *parts, gyre_error *err)
{
    gyre_metric metric = parts->metric;
    uint32_t dim = parts->dim;
    const float *mean = parts->mean;
    if (!gyre_metric_name(metric))
        return gyre_fail(err, GYRE_INVALID, "metric is %d; it must be l2 (1), ip (2) or cosine (3)", (int)metric);
    if (dim == 0 || dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_INVALID, "dim is %u; it must be 1 to %d", dim, GYRE_DIM_MAX);
    /* The mean of unit vectors may be zero: it is held to the limits of l2 whatever the metric. */
    if (mean && gyre_vector_check(GYRE_L2, mean, dim, 0, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_INVALID, "codebook mean");
    GY_AUTO(gyre_codebook) *codebook = calloc(1, sizeof *codebook);
    if (!codebook)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook");
    codebook->metric = metric;
    codebook->dim = dim;
    codebook->version = parts->version;
    memcpy(codebook->seed, parts->seed, GYRE_SEED_BYTES);
    codebook->mean = calloc(2 * (size_t)dim, sizeof *codebook->mean);
    if (!codebook->mean)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of dim %u", dim);
    if (mean)
        memcpy(codebook->mean, mean, dim * sizeof *mean);
    if (parts->matrix)
        GY_TRY(gyre_rotation_new_learned(&codebook->rotation, dim, parts->seed, parts->matrix, err));
    else
        GY_TRY(gyre_rotation_new(&codebook->rotation, dim, parts->seed, err));
    gyre_rotation_apply(codebook->rotation, codebook->mean, codebook->mean + dim);
    if (parts->centroids)
        GY_TRY(gy_partition_new(&codebook->partition, codebook, parts->centroids, parts->lists, err));
    GY_TRY(take_fingerprint(codebook, err));
    *out = GY_TAKE(codebook);
    return GYRE_OK;
}

gyre_status gyre_codebook_new(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                              const uint8_t seed[GYRE_SEED_BYTES], const float *mean, gyre_error *err)
{
    return new_codebook(out, &(struct parts){.metric = metric, .dim = dim, .version = version, .seed = seed, .mean = mean}, err);
}

gyre_status gyre_codebook_new_learned(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                                      const uint8_t seed[GYRE_SEED_BYTES], const float *mean, const float *matrix,
                                      gyre_error *err)
{
    const struct parts parts = {.metric = metric, .dim = dim, .version = version, .seed = seed, .mean = mean, .matrix = matrix};
    return new_codebook(out, &parts, err);
}

gyre_status gyre_codebook_new_partitioned(gyre_codebook **out, gyre_metric metric, uint32_t dim, uint32_t version,
                                          const uint8_t seed[GYRE_SEED_BYTES], const float *mean, const float *centroids,
                                          uint32_t lists, gyre_error *err)
{
    if (lists == 0 || lists > GYRE_LISTS_MAX)
        return gyre_fail(err, GYRE_INVALID, "%u lists; there must be 1 to %d", lists, GYRE_LISTS_MAX);
    const struct parts parts = {.metric = metric,
                                .dim = dim,
                                .version = version,
                                .seed = seed,
                                .mean = mean,
                                .centroids = centroids,
                                .lists = lists};
    return new_codebook(out, &parts, err);
}

void gyre_codebook_free(gyre_codebook *codebook)
{
    if (!codebook)
        return;
    gy_partition_free(codebook->partition);
    gyre_rotation_free(codebook->rotation);
    free(codebook->mean);
    sodium_memzero(codebook, sizeof *codebook);
    free(codebook);
}

size_t gyre_codebook_encoded_bytes(const gyre_codebook *codebook)
{
    return encoded_bytes(format_of(codebook), codebook->dim, gyre_codebook_lists(codebook));
}

void gyre_codebook_encode(const gyre_codebook *codebook, uint8_t *out)
{
    encode_with_version(codebook, codebook->version, out);
}

gyre_status gyre_codebook_decode(gyre_codebook **out, const uint8_t *data, size_t bytes, gyre_error *err)
{
    if (bytes < MEAN_AT + CHECKSUM_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "codebook of %zu bytes; header and checksum alone are %d", bytes,
                         MEAN_AT + CHECKSUM_BYTES);
    if (memcmp(data + MAGIC_AT, magic, sizeof magic) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "codebook does not start with \"GYCB\"");
    uint16_t format = gy_load_u16(data + FORMAT_AT);
    if (format > FORMAT_PARTITIONED)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "codebook of format version %u; this build reads up to %d", format,
                         FORMAT_PARTITIONED);
    uint32_t dim = gy_load_u32(data + DIM_AT);
    bool learned = format == FORMAT_LEARNED, partitioned = format == FORMAT_PARTITIONED;
    if (format < FORMAT_SEEDED || dim == 0 || dim > GYRE_DIM_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "codebook claims format version %u and dim %u; dim must be 1 to %d", format, dim,
                         GYRE_DIM_MAX);
    const uint8_t *behind = data + MEAN_AT + 4 * (size_t)dim;
    if (bytes < encoded_bytes(format, dim, 0))
        return gyre_fail(err, GYRE_CORRUPT, "codebook of %zu bytes; format version %u of dim %u takes %zu at least", bytes,
                         format, dim, encoded_bytes(format, dim, 0));
    uint32_t lists = partitioned ? gy_load_u32(behind) : 1;
    if (partitioned && (lists == 0 || lists > GYRE_LISTS_MAX))
        return gyre_fail(err, GYRE_CORRUPT, "codebook claims %u lists; there must be 1 to %d", lists, GYRE_LISTS_MAX);
    if (bytes != encoded_bytes(format, dim, lists))
        return gyre_fail(err, GYRE_CORRUPT, "codebook of %zu bytes; format version %u of dim %u takes %zu (lists: %u)", bytes,
                         format, dim, encoded_bytes(format, dim, lists), lists);
    if (gy_load_u64(data + bytes - CHECKSUM_BYTES) != hash64(data, bytes - CHECKSUM_BYTES))
        return gyre_fail(err, GYRE_CORRUPT, "codebook of dim %u: checksum differs", dim);
    if (learned && gy_load_u32(behind) != GY_ROTATION_LEARNED)
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "codebook of dim %u: kind of rotation %u; this build knows %d", dim,
                         gy_load_u32(behind), GY_ROTATION_LEARNED);
    size_t elements = (learned ? dim : partitioned ? lists : 0) * (size_t)dim; /* behind the mean and a u32 */
    float *numbers = malloc((dim + elements) * sizeof *numbers);
    if (!numbers)
        return gyre_fail(err, GYRE_NO_MEMORY, "codebook of dim %u and %u lists", dim, lists);
    load_floats(numbers, data + MEAN_AT, dim);
    load_floats(numbers + dim, behind + sizeof(uint32_t), elements);
    const struct parts parts = {.metric = (gyre_metric)gy_load_u16(data + METRIC_AT),
                                .dim = dim,
                                .version = gy_load_u32(data + VERSION_AT),
                                .seed = data + SEED_AT,
                                .mean = numbers,
                                .matrix = learned ? numbers + dim : NULL,
                                .centroids = partitioned ? numbers + dim : NULL,
                                .lists = lists};
    gyre_status status = new_codebook(out, &parts, err);
    free(numbers);
    /* What _new calls invalid is, in stored bytes, corruption. */
    return status == GYRE_INVALID ? gyre_wrap(err, GYRE_CORRUPT, "codebook") : status;
}

bool gyre_codebook_is_learned(const gyre_codebook *codebook) { return gyre_rotation_is_learned(codebook->rotation); }
const uint8_t *gy_codebook_seed(const gyre_codebook *codebook) { return codebook->seed; }
gyre_metric gyre_codebook_metric(const gyre_codebook *codebook) { return codebook->metric; }
uint32_t gyre_codebook_dim(const gyre_codebook *codebook) { return codebook->dim; }
uint32_t gyre_codebook_version(const gyre_codebook *codebook) { return codebook->version; }
uint64_t gyre_codebook_fingerprint(const gyre_codebook *codebook) { return codebook->fingerprint; }
const gyre_rotation *gyre_codebook_rotation(const gyre_codebook *codebook) { return codebook->rotation; }
const float *gyre_codebook_mean(const gyre_codebook *codebook) { return codebook->mean; }
const float *gyre_codebook_rotated_mean(const gyre_codebook *codebook) { return codebook->mean + codebook->dim; }
const struct gy_partition *gy_codebook_partition(const gyre_codebook *codebook) { return codebook->partition; }

uint32_t gyre_codebook_lists(const gyre_codebook *codebook)
{
    return codebook->partition ? (uint32_t)gyre_centroids_count(gy_partition_centroids(codebook->partition)) : 1;
}

const float *gyre_codebook_centroid(const gyre_codebook *codebook, uint32_t list)
{
    if (!codebook->partition)
        return codebook->mean;
    return gyre_centroids_row(gy_partition_centroids(codebook->partition), list);
}
