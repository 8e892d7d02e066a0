/* piece: see piece.h. */
#include "backup/piece.h"

#include "cli.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[8] = "GYREPIEC";
enum {
    FORMAT = 1,
    AT_FORMAT = 8, AT_DIM = 12, AT_POINTS = 16, AT_GONE = 20, AT_PAYLOAD_BYTES = 24, AT_BODY_HASH = 32, AT_INDEX_HASH = 40,
    HEADER_BYTES = 48,
    AT_VERSION = 16, AT_LENGTH = 24, AT_POINT_SUM = 28, AT_VECTOR_SUM = 36, ENTRY_BYTES = 44,
    SUM_POINT = 1, SUM_VECTOR = 3, SUM_HEAD_BYTES = 48, /* of digest.c */
};

/* ---- sums ---- */

static uint64_t sum_of(uint64_t kind, const gyre_point_id *id, uint64_t number, const void *data, size_t bytes)
{
    uint8_t head[SUM_HEAD_BYTES];
    XXH128_hash_t of_data = XXH3_128bits(data, bytes);
    gy_store_u64(head, kind);
    memcpy(head + 8, id->bytes, GYRE_ID_BYTES);
    gy_store_u64(head + 24, number);
    gy_store_u64(head + 32, of_data.low64);
    gy_store_u64(head + 40, of_data.high64);
    return XXH3_128bits(head, sizeof head).low64;
}

struct sums sums_of(const gyre_point_id *id, uint64_t version, const void *payload, size_t payload_bytes, const float *vector,
                    size_t dim)
{
    return (struct sums){sum_of(SUM_POINT, id, version, payload, payload_bytes),
                         sum_of(SUM_VECTOR, id, 0, vector, dim * sizeof *vector)};
}

void sums_add(struct sums *sums, struct sums term)
{
    sums->point += term.point;
    sums->vector += term.vector;
}

bool sums_equal(struct sums a, struct sums b)
{
    return a.point == b.point && a.vector == b.vector;
}

/* ---- writing ---- */

struct bytes {
    uint8_t *data;
    size_t used, room;
};

struct piece_builder {
    size_t dim;
    uint32_t points, gone;
    struct bytes index, gone_ids, vectors, payloads; /* each at most PIECE_BYTES and a point */
};

piece_builder *piece_builder_new(size_t dim)
{
    piece_builder *builder = cli_alloc(1, sizeof *builder);
    builder->dim = dim;
    return builder;
}

void piece_builder_free(piece_builder *builder)
{
    if (!builder)
        return;
    free(builder->index.data), free(builder->gone_ids.data), free(builder->vectors.data), free(builder->payloads.data);
    free(builder);
}

static uint8_t *extend(struct bytes *bytes, size_t more)
{
    if (bytes->room - bytes->used < more) {
        bytes->room = (bytes->used + more) * 2;
        bytes->data = cli_resize(bytes->data, bytes->room, 1);
    }
    bytes->used += more;
    return bytes->data + bytes->used - more;
}

void piece_add(piece_builder *builder, const struct record *record)
{
    if (record->gone) {
        memcpy(extend(&builder->gone_ids, GYRE_ID_BYTES), record->id.bytes, GYRE_ID_BYTES);
        builder->gone++;
        return;
    }
    uint8_t *entry = extend(&builder->index, ENTRY_BYTES);
    memcpy(entry, record->id.bytes, GYRE_ID_BYTES);
    gy_store_u64(entry + AT_VERSION, record->version);
    gy_store_u32(entry + AT_LENGTH, (uint32_t)record->payload_bytes);
    gy_store_u64(entry + AT_POINT_SUM, record->sums.point);
    gy_store_u64(entry + AT_VECTOR_SUM, record->sums.vector);
    size_t vector_bytes = builder->dim * sizeof(float);
    memcpy(extend(&builder->vectors, vector_bytes), record->vector, vector_bytes);
    if (record->payload_bytes)
        memcpy(extend(&builder->payloads, record->payload_bytes), record->payload, record->payload_bytes);
    builder->points++;
}

bool piece_full(const piece_builder *builder)
{
    return builder->index.used + builder->gone_ids.used + builder->vectors.used + builder->payloads.used >= PIECE_BYTES;
}

uint32_t piece_points(const piece_builder *builder)
{
    return builder->points;
}

uint32_t piece_gone(const piece_builder *builder)
{
    return builder->gone;
}

static uint64_t index_hash(const uint8_t *file, size_t index_bytes)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, file, AT_INDEX_HASH);
    XXH3_64bits_update(&state, file + HEADER_BYTES, index_bytes);
    return XXH3_64bits_digest(&state);
}

void piece_rehash(uint8_t *file, size_t bytes)
{
    size_t index_bytes =
        (size_t)gy_load_u32(file + AT_POINTS) * ENTRY_BYTES + (size_t)gy_load_u32(file + AT_GONE) * GYRE_ID_BYTES;
    if (index_bytes > bytes - HEADER_BYTES) /* counts of a file that was changed */
        index_bytes = bytes - HEADER_BYTES;
    gy_store_u64(file + AT_BODY_HASH, XXH3_64bits(file + HEADER_BYTES + index_bytes, bytes - HEADER_BYTES - index_bytes));
    gy_store_u64(file + AT_INDEX_HASH, index_hash(file, index_bytes));
}

static uint8_t *append(uint8_t *at, struct bytes *bytes)
{
    if (bytes->used)
        memcpy(at, bytes->data, bytes->used);
    at += bytes->used;
    bytes->used = 0;
    return at;
}

uint8_t *piece_seal(piece_builder *builder, size_t *bytes, uint8_t hash[PIECE_HASH_BYTES])
{
    size_t index_bytes = builder->index.used + builder->gone_ids.used;
    size_t body_bytes = builder->vectors.used + builder->payloads.used, size = HEADER_BYTES + index_bytes + body_bytes;
    uint8_t *file = cli_alloc(size, 1);
    memcpy(file, MAGIC, sizeof MAGIC);
    gy_store_u32(file + AT_FORMAT, FORMAT);
    gy_store_u32(file + AT_DIM, (uint32_t)builder->dim);
    gy_store_u32(file + AT_POINTS, builder->points);
    gy_store_u32(file + AT_GONE, builder->gone);
    gy_store_u64(file + AT_PAYLOAD_BYTES, builder->payloads.used);
    uint8_t *body = append(append(file + HEADER_BYTES, &builder->index), &builder->gone_ids);
    append(append(body, &builder->vectors), &builder->payloads);
    piece_rehash(file, size);
    builder->points = builder->gone = 0;
    piece_hash(file, size, hash);
    *bytes = size;
    return file;
}

void piece_hash(const uint8_t *data, size_t bytes, uint8_t hash[PIECE_HASH_BYTES])
{
    XXH128_hash_t sum = XXH3_128bits(data, bytes);
    gy_store_u64(hash, sum.low64);
    gy_store_u64(hash + 8, sum.high64);
}

/* ---- reading ---- */

struct backup_piece {
    uint8_t *file;
    uint32_t dim, points, gone;
    bool index_only;
    const uint8_t *gone_ids, *vectors;
    const char *payloads;
    uint32_t next_point, next_gone; /* cursors */
    size_t payload_at;
};

void piece_close(backup_piece *piece)
{
    if (!piece)
        return;
    free(piece->file);
    free(piece);
}

static gyre_status read_at(int fd, uint8_t *out, size_t bytes, size_t at, gyre_error *err)
{
    while (bytes) {
        ssize_t got = pread(fd, out, bytes, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return gyre_fail(err, GYRE_CORRUPT, "at byte %zu: %s", at, got ? strerror(errno) : "the file ends");
        out += got, at += (size_t)got, bytes -= (size_t)got;
    }
    return GYRE_OK;
}

/* Counts and sizes agree with each other, with the manifest and with the file. */
static gyre_status check_header(const uint8_t header[HEADER_BYTES], const struct piece_claim *claim, gyre_error *err)
{
    if (memcmp(header, MAGIC, sizeof MAGIC) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "it is no piece of a backup");
    uint32_t format = gy_load_u32(header + AT_FORMAT);
    if (format != FORMAT)
        return gyre_fail(err, format > FORMAT ? GYRE_UNIMPLEMENTED : GYRE_CORRUPT, "format %u; this program reads format %d",
                         format, FORMAT);
    uint32_t dim = gy_load_u32(header + AT_DIM), points = gy_load_u32(header + AT_POINTS), gone = gy_load_u32(header + AT_GONE);
    if (dim != claim->dim || points != claim->points || gone != claim->gone)
        return gyre_fail(err, GYRE_CORRUPT, "dim %u, %u points and %u gone ids; the manifest says %u, %u and %u", dim, points,
                         gone, claim->dim, claim->points, claim->gone);
    uint64_t payload_bytes = gy_load_u64(header + AT_PAYLOAD_BYTES);
    uint64_t others = HEADER_BYTES + (uint64_t)points * ENTRY_BYTES + (uint64_t)gone * GYRE_ID_BYTES +
                      (uint64_t)points * dim * sizeof(float);
    if (payload_bytes > claim->bytes || others > claim->bytes || others + payload_bytes != claim->bytes)
        return gyre_fail(err, GYRE_CORRUPT, "its counts make another size than its %" PRIu64 " bytes", claim->bytes);
    return GYRE_OK;
}

/* What the index promises to the readers of records: ids that are ids and ascend, payloads that fill their place. */
static gyre_status check_index(const struct backup_piece *piece, uint64_t payload_bytes, gyre_error *err)
{
    uint64_t lengths = 0;
    for (uint32_t i = 0; i < piece->points + piece->gone; i++) {
        bool is_gone = i >= piece->points;
        const uint8_t *id = is_gone ? piece->gone_ids + (size_t)(i - piece->points) * GYRE_ID_BYTES
                                    : piece->file + HEADER_BYTES + (size_t)i * ENTRY_BYTES;
        GY_TRY(gyre_point_id_check(id, err));
        if (i != 0 && i != piece->points && memcmp(id - (is_gone ? GYRE_ID_BYTES : ENTRY_BYTES), id, GYRE_ID_BYTES) >= 0)
            return gyre_fail(err, GYRE_CORRUPT, "its ids do not ascend");
        if (!is_gone)
            lengths += gy_load_u32(id + AT_LENGTH);
    }
    if (lengths != payload_bytes)
        return gyre_fail(err, GYRE_CORRUPT, "its payloads have %" PRIu64 " bytes by their lengths, %" PRIu64 " by the header",
                         lengths, payload_bytes);
    return GYRE_OK;
}

static gyre_status read_piece(struct backup_piece *piece, int fd, const struct piece_claim *claim, gyre_error *err)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode))
        return gyre_fail(err, GYRE_CORRUPT, "it is no regular file");
    if ((uint64_t)stat.st_size != claim->bytes)
        return gyre_fail(err, GYRE_CORRUPT, "it has %" PRIu64 " bytes; the manifest says %" PRIu64, (uint64_t)stat.st_size,
                         claim->bytes);
    if (claim->bytes < HEADER_BYTES || claim->bytes > PIECE_FILE_BYTES_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "it has %" PRIu64 " bytes; a piece has %d to %d", claim->bytes, HEADER_BYTES,
                         PIECE_FILE_BYTES_MAX);
    uint8_t header[HEADER_BYTES], hash[PIECE_HASH_BYTES];
    GY_TRY(read_at(fd, header, HEADER_BYTES, 0, err));
    GY_TRY(check_header(header, claim, err));
    size_t index_bytes = (size_t)claim->points * ENTRY_BYTES + (size_t)claim->gone * GYRE_ID_BYTES;
    size_t wanted = piece->index_only ? HEADER_BYTES + index_bytes : (size_t)claim->bytes;
    piece->file = cli_alloc(wanted, 1);
    GY_TRY(read_at(fd, piece->file, wanted, 0, err));
    if (memcmp(piece->file, header, HEADER_BYTES) != 0)
        return gyre_fail(err, GYRE_CORRUPT, "it changes while it is read");
    if (!piece->index_only) {
        piece_hash(piece->file, wanted, hash);
        if (memcmp(hash, claim->hash, PIECE_HASH_BYTES) != 0)
            return gyre_fail(err, GYRE_CORRUPT, "its bytes are not those that were written: the hash is another");
    }
    if (gy_load_u64(header + AT_INDEX_HASH) != index_hash(piece->file, index_bytes))
        return gyre_fail(err, GYRE_CORRUPT, "its index is damaged");
    piece->dim = claim->dim, piece->points = claim->points, piece->gone = claim->gone;
    piece->gone_ids = piece->file + HEADER_BYTES + (size_t)claim->points * ENTRY_BYTES;
    piece->vectors = piece->file + HEADER_BYTES + index_bytes;
    piece->payloads = (const char *)piece->vectors + (size_t)claim->points * claim->dim * sizeof(float);
    if (!piece->index_only &&
        gy_load_u64(header + AT_BODY_HASH) != XXH3_64bits(piece->vectors, wanted - HEADER_BYTES - index_bytes))
        return gyre_fail(err, GYRE_CORRUPT, "its body is damaged");
    return check_index(piece, gy_load_u64(header + AT_PAYLOAD_BYTES), err);
}

gyre_status piece_open(backup_piece **out, const char *path, const struct piece_claim *claim, bool index_only, gyre_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return gyre_fail(err, errno == ENOENT ? GYRE_CORRUPT : GYRE_PRECONDITION, "%s: %s", path,
                         errno == ENOENT ? "the manifest names it, and it is not there" : strerror(errno));
    GY_AUTO(backup_piece) *opened = cli_alloc(1, sizeof *opened);
    opened->index_only = index_only;
    gyre_status status = read_piece(opened, fd, claim, err);
    close(fd);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "%s", path);
    *out = GY_TAKE(opened);
    return GYRE_OK;
}

bool piece_next(backup_piece *piece, struct record *out)
{
    const uint8_t *point = piece->file + HEADER_BYTES + (size_t)piece->next_point * ENTRY_BYTES;
    const uint8_t *gone = piece->gone_ids + (size_t)piece->next_gone * GYRE_ID_BYTES;
    bool more_points = piece->next_point < piece->points, more_gone = piece->next_gone < piece->gone;
    if (!more_points && !more_gone)
        return false;
    *out = (struct record){.gone = !more_points || (more_gone && memcmp(gone, point, GYRE_ID_BYTES) < 0)};
    if (out->gone) {
        memcpy(out->id.bytes, gone, GYRE_ID_BYTES);
        piece->next_gone++;
        return true;
    }
    memcpy(out->id.bytes, point, GYRE_ID_BYTES);
    out->version = gy_load_u64(point + AT_VERSION);
    out->payload_bytes = gy_load_u32(point + AT_LENGTH);
    out->sums = (struct sums){gy_load_u64(point + AT_POINT_SUM), gy_load_u64(point + AT_VECTOR_SUM)};
    if (!piece->index_only) {
        out->vector = piece->vectors + (size_t)piece->next_point * piece->dim * sizeof(float);
        out->payload = piece->payloads + piece->payload_at;
    }
    piece->payload_at += out->payload_bytes;
    piece->next_point++;
    return true;
}
