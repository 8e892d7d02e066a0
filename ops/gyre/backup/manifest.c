/* manifest: see manifest.h. Numbers beyond 2^53 travel as hex strings: JSON readers round them. */
#include "backup/manifest.h"

#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    FORMAT = 2, /* 1 had no ranges, and as many shards in each generation as in the one that it follows */
    SHARDS_MAX = 1024,
    FILES_MAX = 1 << 24,
    MANIFEST_BYTES_MAX = 1 << 30,
    HASH_TEXT_BYTES = 2 * PIECE_HASH_BYTES + 1
};
#define SEQ_MAX ((json_int_t)1 << 53)

void backup_shard_fini(struct backup_shard *shard)
{
    free(shard->files);
    *shard = (struct backup_shard){0};
}

void manifest_free(backup_manifest *manifest)
{
    if (!manifest)
        return;
    for (size_t i = 0; i < manifest->count; i++) {
        struct backup_generation *generation = &manifest->generations[i];
        for (uint32_t s = 0; generation->shards && s < generation->shard_count; s++)
            backup_shard_fini(&generation->shards[s]);
        free(generation->shards);
    }
    free(manifest->generations);
    free(manifest);
}

static int range_order(const void *left, const void *right)
{
    const struct backup_shard *const *a = left, *const *b = right;
    return ((*a)->hash_first > (*b)->hash_first) - ((*a)->hash_first < (*b)->hash_first);
}

bool generation_is_whole(const struct backup_generation *generation)
{
    const struct backup_shard **sorted = cli_alloc(generation->shard_count, sizeof *sorted);
    bool known = true, whole = true;
    for (uint32_t s = 0; s < generation->shard_count; s++) {
        sorted[s] = &generation->shards[s];
        known = known && sorted[s]->hash_last != 0;
    }
    qsort(sorted, generation->shard_count, sizeof *sorted, range_order);
    uint64_t next = 0;
    for (uint32_t s = 0; s < generation->shard_count; s++) {
        whole = whole && sorted[s]->hash_first == next && sorted[s]->hash_last >= next;
        next = sorted[s]->hash_last + 1; /* 0: no hash is left */
        whole = whole && (next == 0) == (s + 1 == generation->shard_count);
    }
    free(sorted);
    return whole || !known;
}

uint64_t generation_count(const struct backup_generation *generation)
{
    uint64_t count = 0;
    for (uint32_t s = 0; s < generation->shard_count; s++)
        count += generation->shards[s].count;
    return count;
}

size_t manifest_chain_begin(const backup_manifest *manifest, size_t at, uint32_t shard)
{
    while (!manifest->generations[at].shards[shard].full)
        at--; /* manifest_read has seen that there is a full one */
    return at;
}

void generation_path(char out[MANIFEST_PATH_BYTES], const char *dir, uint32_t generation)
{
    snprintf(out, MANIFEST_PATH_BYTES, "%s/g%06u", dir, generation);
}

void piece_path(char out[MANIFEST_PATH_BYTES], const char *dir, uint32_t generation, uint32_t shard, size_t file)
{
    snprintf(out, MANIFEST_PATH_BYTES, "%s/g%06u/s%05u-%06zu.piece", dir, generation, shard, file);
}

/* ---- files ---- */

static gyre_status file_failure(const char *path, const char *what, gyre_error *err)
{
    return gyre_fail(err, errno == ENOSPC || errno == EDQUOT ? GYRE_EXHAUSTED : GYRE_PRECONDITION, "%s: %s: %s", path, what,
                     strerror(errno));
}

static gyre_status sync_directory_of(const char *path, gyre_error *err)
{
    char copy[MANIFEST_PATH_BYTES];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    gyre_status status = synced ? GYRE_OK : file_failure(path, "its directory cannot be synced", err);
    if (fd >= 0)
        close(fd);
    return status;
}

gyre_status file_write(const char *path, const void *data, size_t bytes, gyre_error *err)
{
    char part[MANIFEST_PATH_BYTES + 8];
    snprintf(part, sizeof part, "%s.part", path);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return file_failure(part, "cannot be made", err);
    bool written = true;
    for (const char *at = data; written && bytes;) {
        ssize_t count = write(fd, at, bytes);
        written = count > 0 || (count < 0 && errno == EINTR);
        if (count > 0)
            at += count, bytes -= (size_t)count;
    }
    written = written && fsync(fd) == 0;
    gyre_status status = written ? GYRE_OK : file_failure(part, "cannot be written", err);
    close(fd);
    if (status == GYRE_OK && rename(part, path) != 0)
        status = file_failure(path, "cannot be put into place", err);
    if (status != GYRE_OK)
        unlink(part);
    return status == GYRE_OK ? sync_directory_of(path, err) : status;
}

/* ---- to JSON ---- */

static json_t *hex_u64(uint64_t value)
{
    return json_sprintf("%016" PRIx64, value);
}

static json_t *hex_hash(const uint8_t hash[PIECE_HASH_BYTES])
{
    char text[HASH_TEXT_BYTES];
    for (size_t i = 0; i < PIECE_HASH_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    return json_string(text);
}

static json_t *shard_json(const struct backup_shard *shard, uint32_t number)
{
    json_t *files = json_array();
    for (size_t i = 0; i < shard->file_count; i++) {
        const struct backup_file *file = &shard->files[i];
        json_array_append_new(files,
                              json_pack("{sI sI sI so}", "bytes", (json_int_t)file->bytes, "points", (json_int_t)file->points,
                                        "gone", (json_int_t)file->gone, "xxh3_128", hex_hash(file->hash)));
    }
    return json_pack("{sI sb so so sI sI sI sI sI sI so so so}", "shard", (json_int_t)number, "full", (int)shard->full, "hash_first",
                     hex_u64(shard->hash_first), "hash_last", hex_u64(shard->hash_last), "seq",
                     (json_int_t)shard->seq, "epoch", (json_int_t)shard->epoch, "count", (json_int_t)shard->count, "points",
                     (json_int_t)shard->points, "gone", (json_int_t)shard->gone, "codebook_version",
                     (json_int_t)shard->codebook_version, "point_sum", hex_u64(shard->sums.point), "vector_sum",
                     hex_u64(shard->sums.vector), "files", files);
}

static json_t *generation_json(const struct backup_generation *generation)
{
    json_t *shards = json_array();
    for (uint32_t s = 0; s < generation->shard_count; s++)
        json_array_append_new(shards, shard_json(&generation->shards[s], s));
    json_t *spec = json_pack("{sI sI ss sI sI sI sI sI sb}", "dim", (json_int_t)generation->dim, "metric",
                             (json_int_t)generation->metric, "codec", generation->codec, "bits", (json_int_t)generation->bits,
                             "shards", (json_int_t)generation->shard_count, "copies", (json_int_t)generation->copies,
                             "quantized", (json_int_t)generation->quantized, "min_copies", (json_int_t)generation->min_copies,
                             "allow_approximate", (int)generation->allow_approximate);
    return json_pack("{sI ss ss so so so}", "generation", (json_int_t)generation->number, "time", generation->time, "cluster",
                     generation->cluster, "collection_id", hex_u64(generation->collection_id), "spec", spec, "shards", shards);
}

/* Checksummed as jansson writes it with sorted keys and no spaces, but for the checksum. */
static json_t *checksum(json_t *root, gyre_error *err)
{
    json_t *bare = json_copy(root);
    json_object_del(bare, "checksum");
    char *text = json_dumps(bare, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(bare);
    if (!text) {
        GY_IGNORE(gyre_fail(err, GYRE_NO_MEMORY, "no memory for a manifest")); /* the caller sees NULL */
        return NULL;
    }
    uint8_t hash[PIECE_HASH_BYTES];
    piece_hash((const uint8_t *)text, strlen(text), hash);
    free(text);
    return hex_hash(hash);
}

gyre_status manifest_write_json(json_t *root, const char *path, gyre_error *err)
{
    json_t *sum = checksum(root, err);
    char *text = sum ? (json_object_set_new(root, "checksum", sum), json_dumps(root, JSON_INDENT(1))) : NULL;
    json_decref(root);
    if (!text)
        return gyre_fail(err, GYRE_NO_MEMORY, "%s: no memory for it", path);
    gyre_status status = file_write(path, text, strlen(text), err);
    free(text);
    return status;
}

gyre_status manifest_write(const backup_manifest *manifest, const char *dir, gyre_error *err)
{
    char path[MANIFEST_PATH_BYTES];
    json_t *generations = json_array();
    for (size_t i = 0; i < manifest->count; i++)
        json_array_append_new(generations, generation_json(&manifest->generations[i]));
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    return manifest_write_json(
        json_pack("{sI ss so}", "format", (json_int_t)FORMAT, "collection", manifest->collection, "generations", generations),
        path, err);
}

/* ---- from JSON ---- */

static gyre_status take_number(const json_t *object, const char *key, uint64_t most, uint64_t *out, gyre_error *err)
{
    const json_t *value = json_object_get(object, key);
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number > most)
        return gyre_fail(err, GYRE_CORRUPT, "%s: a whole number up to %" PRIu64 " is needed", key, most);
    *out = (uint64_t)number;
    return GYRE_OK;
}

static gyre_status take_u32(const json_t *object, const char *key, uint32_t most, uint32_t *out, gyre_error *err)
{
    uint64_t number = 0;
    GY_TRY(take_number(object, key, most, &number, err));
    *out = (uint32_t)number;
    return GYRE_OK;
}

static gyre_status take_text(const json_t *object, const char *key, char *out, size_t room, gyre_error *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= room)
        return gyre_fail(err, GYRE_CORRUPT, "%s: text of at most %zu bytes is needed", key, room - 1);
    memcpy(out, text, strlen(text) + 1);
    return GYRE_OK;
}

static gyre_status take_hex(const json_t *object, const char *key, uint8_t *out, size_t bytes, gyre_error *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    bool fits = text && strlen(text) == 2 * bytes && strspn(text, "0123456789abcdef") == 2 * bytes;
    for (size_t i = 0; fits && i < bytes; i++) {
        unsigned byte;
        fits = sscanf(text + 2 * i, "%2x", &byte) == 1;
        out[i] = fits ? (uint8_t)byte : 0;
    }
    return fits ? GYRE_OK : gyre_fail(err, GYRE_CORRUPT, "%s: %zu hexadecimal digits are needed", key, 2 * bytes);
}

static gyre_status take_hex_u64(const json_t *object, const char *key, uint64_t *out, gyre_error *err)
{
    uint8_t bytes[8];
    GY_TRY(take_hex(object, key, bytes, sizeof bytes, err));
    *out = gy_load_u64_be(bytes);
    return GYRE_OK;
}

static gyre_status read_file(const json_t *object, struct backup_file *out, gyre_error *err)
{
    GY_TRY(take_number(object, "bytes", PIECE_FILE_BYTES_MAX, &out->bytes, err));
    GY_TRY(take_u32(object, "points", PIECE_FILE_BYTES_MAX, &out->points, err));
    GY_TRY(take_u32(object, "gone", PIECE_FILE_BYTES_MAX, &out->gone, err));
    return take_hex(object, "xxh3_128", out->hash, PIECE_HASH_BYTES, err);
}

static gyre_status read_files(const json_t *list, struct backup_shard *out, gyre_error *err)
{
    uint64_t points = 0, gone = 0;
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > FILES_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "files: a list of at most %d is needed", FILES_MAX);
    out->files = cli_alloc(count, sizeof *out->files);
    out->file_count = count;
    for (size_t i = 0; i < count; i++) {
        gyre_status status = read_file(json_array_get(list, i), &out->files[i], err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "files[%zu]", i);
        points += out->files[i].points, gone += out->files[i].gone;
    }
    if (points != out->points || gone != out->gone)
        return gyre_fail(err, GYRE_CORRUPT,
                         "its files have %" PRIu64 " points and %" PRIu64 " gone ids, not %" PRIu64 " and %" PRIu64, points,
                         gone, out->points, out->gone);
    if (out->full && (out->gone || out->points != out->count))
        return gyre_fail(err, GYRE_CORRUPT, "it is full, but has %" PRIu64 " points and %" PRIu64 " gone ids for %" PRIu64,
                         out->points, out->gone, out->count);
    return GYRE_OK;
}

static gyre_status read_shard(const json_t *object, uint32_t number, struct backup_shard *out, gyre_error *err)
{
    uint32_t said;
    const json_t *full = json_object_get(object, "full");
    GY_TRY(take_u32(object, "shard", SHARDS_MAX, &said, err));
    if (said != number || !json_is_boolean(full))
        return gyre_fail(err, GYRE_CORRUPT, "shard %u of its place, and full or not, are needed", number);
    out->full = json_is_true(full);
    if (json_object_get(object, "hash_last")) {
        GY_TRY(take_hex_u64(object, "hash_first", &out->hash_first, err));
        GY_TRY(take_hex_u64(object, "hash_last", &out->hash_last, err));
    }
    GY_TRY(take_number(object, "seq", SEQ_MAX, &out->seq, err));
    GY_TRY(take_number(object, "epoch", SEQ_MAX, &out->epoch, err));
    GY_TRY(take_number(object, "count", SEQ_MAX, &out->count, err));
    GY_TRY(take_number(object, "points", SEQ_MAX, &out->points, err));
    GY_TRY(take_number(object, "gone", SEQ_MAX, &out->gone, err));
    GY_TRY(take_u32(object, "codebook_version", UINT32_MAX, &out->codebook_version, err));
    GY_TRY(take_hex_u64(object, "point_sum", &out->sums.point, err));
    GY_TRY(take_hex_u64(object, "vector_sum", &out->sums.vector, err));
    return read_files(json_object_get(object, "files"), out, err);
}

static gyre_status read_spec(const json_t *spec, struct backup_generation *out, gyre_error *err)
{
    GY_TRY(take_u32(spec, "dim", 4096, &out->dim, err));
    GY_TRY(take_u32(spec, "metric", 3, &out->metric, err));
    GY_TRY(take_u32(spec, "bits", 8, &out->bits, err));
    GY_TRY(take_u32(spec, "shards", SHARDS_MAX, &out->shard_count, err));
    GY_TRY(take_u32(spec, "copies", 7, &out->copies, err));
    GY_TRY(take_u32(spec, "quantized", 7, &out->quantized, err));
    GY_TRY(take_u32(spec, "min_copies", 7, &out->min_copies, err));
    GY_TRY(take_text(spec, "codec", out->codec, sizeof out->codec, err));
    out->allow_approximate = json_is_true(json_object_get(spec, "allow_approximate")); /* older manifests do not have it */
    if (!out->dim || !out->metric || !out->shard_count || !out->copies)
        return gyre_fail(err, GYRE_CORRUPT, "dim, metric, shards and copies are not 0");
    return GYRE_OK;
}

/* before: the generation that this one may follow; NULL for the first. */
static gyre_status read_generation(const json_t *object, const struct backup_generation *before, struct backup_generation *out,
                                   gyre_error *err)
{
    GY_TRY(take_u32(object, "generation", 999999, &out->number, err));
    GY_TRY(take_text(object, "time", out->time, sizeof out->time, err));
    GY_TRY(take_text(object, "cluster", out->cluster, sizeof out->cluster, err));
    GY_TRY(take_hex_u64(object, "collection_id", &out->collection_id, err));
    gyre_status status = read_spec(json_object_get(object, "spec"), out, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "spec");
    const json_t *shards = json_object_get(object, "shards");
    if (json_array_size(shards) != out->shard_count)
        return gyre_fail(err, GYRE_CORRUPT, "shards: %zu; the spec has %u", json_array_size(shards), out->shard_count);
    if (out->number == 0 || (before && out->number <= before->number))
        return gyre_fail(err, GYRE_CORRUPT, "generation %u: numbers ascend from 1", out->number);
    bool follows = before && before->dim == out->dim && before->shard_count <= out->shard_count &&
                   before->collection_id == out->collection_id && strcmp(before->cluster, out->cluster) == 0;
    out->shards = cli_alloc(out->shard_count, sizeof *out->shards);
    for (uint32_t s = 0; s < out->shard_count; s++) {
        bool followed = follows && s < before->shard_count;
        status = read_shard(json_array_get(shards, s), s, &out->shards[s], err);
        if (status == GYRE_OK && !out->shards[s].full && (!followed || before->shards[s].seq > out->shards[s].seq))
            status = gyre_fail(err, GYRE_CORRUPT, "it follows nothing that it could follow");
        out->shards[s].chain = 1 + (out->shards[s].full || !followed ? 0 : before->shards[s].chain);
        if (status == GYRE_OK && out->shards[s].chain > MANIFEST_CHAIN_MAX)
            status = gyre_fail(err, GYRE_CORRUPT, "more than %d generations follow each other", MANIFEST_CHAIN_MAX);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "shards[%u]", s);
    }
    if (!generation_is_whole(out))
        return gyre_fail(err, GYRE_CORRUPT, "shards: their hashes leave some out or have some twice");
    return GYRE_OK;
}

static gyre_status take_manifest(const json_t *root, backup_manifest *out, gyre_error *err)
{
    const json_t *generations = json_object_get(root, "generations");
    size_t count = json_array_size(generations);
    GY_TRY(take_text(root, "collection", out->collection, sizeof out->collection, err));
    if (count < 1 || count > MANIFEST_GENERATIONS_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "generations: 1 to %d are needed", MANIFEST_GENERATIONS_MAX);
    out->generations = cli_alloc(count, sizeof *out->generations);
    for (size_t i = 0; i < count; i++) {
        struct backup_generation *generation = &out->generations[i];
        out->count = i + 1; /* what is half read is freed too */
        gyre_status status = read_generation(json_array_get(generations, i), i ? generation - 1 : NULL, generation, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "generations[%zu]", i);
    }
    return GYRE_OK;
}

/* A JSON file with our format and checksum; NULL with the sentence. */
static gyre_status read_json(const char *path, json_t **out, gyre_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return gyre_fail(err, errno == ENOENT ? GYRE_NOT_FOUND : GYRE_PRECONDITION, "%s: %s", path, strerror(errno));
    json_error_t why;
    fseeko(file, 0, SEEK_END);
    bool fits = ftello(file) <= MANIFEST_BYTES_MAX;
    rewind(file);
    json_t *root = fits ? json_loadf(file, JSON_REJECT_DUPLICATES, &why) : NULL;
    fclose(file);
    if (!root)
        return fits ? gyre_fail(err, GYRE_CORRUPT, "%s: line %d: %s", path, why.line, why.text)
                    : gyre_fail(err, GYRE_CORRUPT, "%s: it is longer than %d bytes", path, MANIFEST_BYTES_MAX);
    const json_t *format = json_object_get(root, "format");
    json_t *sum = checksum(root, err);
    gyre_status status = sum ? GYRE_OK : GYRE_NO_MEMORY;
    if (!json_is_integer(format) || json_integer_value(format) < 1)
        status = gyre_fail(err, GYRE_CORRUPT, "%s: it is no manifest of a backup: format is missing", path);
    else if (json_integer_value(format) > FORMAT)
        status = gyre_fail(err, GYRE_UNIMPLEMENTED, "%s: format %" JSON_INTEGER_FORMAT "; this program reads format %d", path,
                           json_integer_value(format), FORMAT);
    else if (sum && !json_equal(sum, json_object_get(root, "checksum")))
        status = gyre_fail(err, GYRE_CORRUPT, "%s: its checksum is another: it was changed or damaged", path);
    json_decref(sum);
    if (status == GYRE_OK)
        *out = root;
    else
        json_decref(root);
    return status;
}

gyre_status manifest_read(backup_manifest **out, const char *dir, gyre_error *err)
{
    char path[MANIFEST_PATH_BYTES];
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    json_t *root = NULL;
    GY_TRY(read_json(path, &root, err));
    GY_AUTO(backup_manifest) *manifest = cli_alloc(1, sizeof *manifest);
    gyre_status status = take_manifest(root, manifest, err);
    json_decref(root);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "%s", path);
    *out = GY_TAKE(manifest);
    return GYRE_OK;
}

/* ---- a shard that is done while others are not ---- */

static void note_path(char out[MANIFEST_PATH_BYTES], const char *dir, uint32_t generation, uint32_t number)
{
    snprintf(out, MANIFEST_PATH_BYTES, "%s/g%06u/s%05u.json", dir, generation, number);
}

gyre_status shard_note_write(const struct backup_shard *shard, uint32_t number, const char *key, const char *dir,
                             uint32_t generation, gyre_error *err)
{
    char path[MANIFEST_PATH_BYTES];
    note_path(path, dir, generation, number);
    return manifest_write_json(
        json_pack("{sI ss so}", "format", (json_int_t)FORMAT, "key", key, "shard", shard_json(shard, number)), path, err);
}

gyre_status shard_note_read(struct backup_shard *out, uint32_t number, const char *key, const char *dir, uint32_t generation,
                            gyre_error *err)
{
    char path[MANIFEST_PATH_BYTES];
    json_t *root = NULL;
    struct backup_shard shard = {0};
    note_path(path, dir, generation, number);
    GY_TRY(read_json(path, &root, err));
    const char *said = json_string_value(json_object_get(root, "key"));
    gyre_status status = said && strcmp(said, key) == 0 ? read_shard(json_object_get(root, "shard"), number, &shard, err)
                                                        : gyre_fail(err, GYRE_NOT_FOUND, "%s: it is of another backup", path);
    json_decref(root);
    if (status == GYRE_OK)
        *out = shard;
    else
        backup_shard_fini(&shard);
    return status;
}

void shard_note_remove(const char *dir, uint32_t generation, uint32_t number)
{
    char path[MANIFEST_PATH_BYTES];
    note_path(path, dir, generation, number);
    unlink(path);
}
