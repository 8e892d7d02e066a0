/* chain: see chain.h. One piece of each generation is in memory: MANIFEST_CHAIN_MAX bounds them. */
#include "backup/chain.h"

#include "cli.h"

#include <inttypes.h>
#include <stdlib.h>

struct stream {
    const struct backup_generation *generation;
    size_t next_file;
    backup_piece *piece;          /* NULL: none open */
    struct record head;    /* lent by the piece */
    bool has_head, ended;
    gyre_point_id last;    /* of the head before; valid if any_last */
    bool any_last;
};

struct backup_chain {
    const char *dir;
    const struct backup_shard *state; /* what it must come to */
    uint32_t shard;
    bool index_only;
    struct stream *streams; /* [count] oldest first */
    size_t count;
    float *vector;          /* [dim], aligned: what is summed */
    uint64_t points;
    struct sums sums;
};

void chain_open(backup_chain **out, const char *dir, const backup_manifest *manifest, size_t generation, uint32_t shard,
                bool index_only)
{
    size_t first = manifest_chain_begin(manifest, generation, shard);
    backup_chain *chain = cli_alloc(1, sizeof *chain);
    *chain = (backup_chain){.dir = dir, .state = &manifest->generations[generation].shards[shard], .shard = shard,
                            .index_only = index_only, .count = generation - first + 1};
    chain->streams = cli_alloc(chain->count, sizeof *chain->streams);
    chain->vector = cli_alloc(manifest->generations[generation].dim, sizeof *chain->vector);
    for (size_t i = 0; i < chain->count; i++)
        chain->streams[i].generation = &manifest->generations[first + i];
    *out = chain;
}

void chain_close(backup_chain *chain)
{
    if (!chain)
        return;
    for (size_t i = 0; i < chain->count; i++)
        piece_close(chain->streams[i].piece);
    free(chain->streams);
    free(chain->vector);
    free(chain);
}

static gyre_status open_next(const backup_chain *chain, struct stream *stream, gyre_error *err)
{
    const struct backup_generation *generation = stream->generation;
    const struct backup_file *file = &generation->shards[chain->shard].files[stream->next_file];
    struct piece_claim claim = {.bytes = file->bytes, .points = file->points, .gone = file->gone, .dim = generation->dim};
    memcpy(claim.hash, file->hash, PIECE_HASH_BYTES);
    char path[MANIFEST_PATH_BYTES];
    piece_path(path, chain->dir, generation->number, chain->shard, stream->next_file);
    GY_TRY(piece_open(&stream->piece, path, &claim, chain->index_only, err));
    stream->next_file++;
    return GYRE_OK;
}

static gyre_status fill_head(const backup_chain *chain, struct stream *stream, gyre_error *err)
{
    while (!stream->has_head && !stream->ended) {
        if (stream->piece && piece_next(stream->piece, &stream->head)) {
            stream->has_head = true;
            break;
        }
        piece_close(stream->piece);
        stream->piece = NULL;
        if (stream->next_file == stream->generation->shards[chain->shard].file_count)
            stream->ended = true;
        else
            GY_TRY(open_next(chain, stream, err));
    }
    if (!stream->has_head)
        return GYRE_OK;
    if (stream->any_last && gyre_point_id_compare(&stream->last, &stream->head.id) >= 0) {
        char path[MANIFEST_PATH_BYTES];
        piece_path(path, chain->dir, stream->generation->number, chain->shard, stream->next_file - 1);
        return gyre_fail(err, GYRE_CORRUPT, "%s: its ids do not ascend from those of the file before", path);
    }
    return GYRE_OK;
}

static gyre_status come_to_end(const backup_chain *chain, gyre_error *err)
{
    if (chain->points == chain->state->count && sums_equal(chain->sums, chain->state->sums))
        return GYRE_OK;
    return gyre_fail(err, GYRE_CORRUPT, "%s: shard %u: its files come to %" PRIu64 " points%s; the shard had %" PRIu64,
                     chain->dir, chain->shard, chain->points, chain->points == chain->state->count ? " of other contents" : "",
                     chain->state->count);
}

/* Sums of what was read, so that they speak of the bytes that will be restored. */
static void count(backup_chain *chain, const struct record *record, size_t dim)
{
    struct sums sums = record->sums;
    if (!chain->index_only) {
        memcpy(chain->vector, record->vector, dim * sizeof *chain->vector);
        sums = sums_of(&record->id, record->version, record->payload, record->payload_bytes, chain->vector, dim);
    }
    sums_add(&chain->sums, sums);
    chain->points++;
}

gyre_status chain_next(backup_chain *chain, struct record *out, bool *more, gyre_error *err)
{
    for (;;) {
        struct stream *newest = NULL; /* of those with the lowest id */
        for (size_t i = 0; i < chain->count; i++) {
            struct stream *stream = &chain->streams[i];
            GY_TRY(fill_head(chain, stream, err));
            if (stream->has_head && (!newest || gyre_point_id_compare(&stream->head.id, &newest->head.id) <= 0))
                newest = stream;
        }
        if (!newest) {
            *more = false;
            return come_to_end(chain, err);
        }
        *out = newest->head;
        for (size_t i = 0; i < chain->count; i++) {
            struct stream *stream = &chain->streams[i];
            if (!stream->has_head || gyre_point_id_compare(&stream->head.id, &out->id) != 0)
                continue;
            stream->last = out->id;
            stream->any_last = true;
            stream->has_head = false;
        }
        if (out->gone)
            continue;
        count(chain, out, newest->generation->dim);
        *more = true;
        return GYRE_OK;
    }
}
