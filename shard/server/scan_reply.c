/* The reply of one member of a pass: its own queries' candidates of every shard.
 *
 * Arrays have a place more than needed, so that none is ever of size zero. One block for the whole reply's structs and another
 * per answer for its numbers, as protobuf-c wants pointers to pointers. */
#include "server/scan_call.h"

#include <stdlib.h>

struct packing {
    Gyre__Node__ShardCandidates *shards, **shard_list;
    Gyre__Node__Candidates *answers, **answer_list;
    gyre_error *behind; /* [shards] why the member cannot take what others of the pass can */
};

static bool pack_answer(Gyre__Node__Candidates *out, const struct gy_candidates *in)
{
    gyre__node__candidates__init(out);
    out->cutoff = in->cutoff;
    out->scanned = in->scanned;
    out->seeds_read = in->seeds_read;
    out->lists_probed = in->lists_probed;
    if (in->count == 0)
        return true;
    size_t ids_bytes = in->count * GYRE_ID_BYTES, floats_bytes = in->count * sizeof(float);
    uint8_t *ids = malloc(ids_bytes + 2 * floats_bytes);
    if (!ids)
        return false;
    uint8_t *estimates = ids + ids_bytes, *half_widths = estimates + floats_bytes;
    for (size_t i = 0; i < in->count; i++) {
        memcpy(ids + i * GYRE_ID_BYTES, in->items[i].id.bytes, GYRE_ID_BYTES);
        gy_store_f32(estimates + i * sizeof(float), in->items[i].estimate);
        gy_store_f32(half_widths + i * sizeof(float), in->items[i].half_width);
    }
    out->ids = (ProtobufCBinaryData){ids_bytes, ids};
    out->estimates = (ProtobufCBinaryData){floats_bytes, estimates};
    out->half_widths = (ProtobufCBinaryData){floats_bytes, half_widths};
    return true;
}

static bool pack(const struct gy_pass *pass, const struct gy_scan_call *member, size_t first_query, struct packing *packing)
{
    size_t shard_count = member->request->n_shards, query_count = member->query_count;
    packing->shards = calloc(shard_count, sizeof *packing->shards);
    packing->shard_list = calloc(shard_count, sizeof(Gyre__Node__ShardCandidates *));
    packing->answers = calloc(shard_count * query_count + 1, sizeof *packing->answers);
    packing->answer_list = calloc(shard_count * query_count + 1, sizeof(Gyre__Node__Candidates *));
    packing->behind = calloc(shard_count, sizeof *packing->behind);
    bool packed = packing->behind && packing->shards && packing->shard_list && packing->answers && packing->answer_list;
    for (size_t s = 0; packed && s < shard_count; s++) {
        Gyre__Node__ShardCandidates *out = packing->shard_list[s] = &packing->shards[s];
        struct gy_scan_part *part = &pass->parts[s];
        gyre__node__shard_candidates__init(out);
        out->shard = member->request->shards[s];
        out->status = (uint32_t)part->status;
        if (part->status != GYRE_OK) {
            out->error = part->err.text;
            continue;
        }
        out->codebook_version = part->codebook_version;
        out->applied_seq = part->applied_seq;
        gyre_error *behind = &packing->behind[s];
        out->status = (uint32_t)gy_check_behind(part->applied_seq, gy_scan_min_seq(member->request, s), behind);
        if (out->status != GYRE_OK) {
            out->error = behind->text;
            continue;
        }
        out->n_queries = query_count;
        out->queries = packing->answer_list + s * query_count;
        for (size_t q = 0; packed && q < query_count; q++) {
            out->queries[q] = &packing->answers[s * query_count + q];
            packed = pack_answer(out->queries[q], &part->candidates[first_query + q]);
        }
    }
    return packed;
}

static void free_packing(const struct gy_scan_call *member, struct packing *packing)
{
    for (size_t i = 0; packing->answers && i < member->request->n_shards * member->query_count; i++)
        free(packing->answers[i].ids.data); /* the other two lie behind it */
    free(packing->behind);
    free(packing->answers);
    free(packing->answer_list);
    free(packing->shards);
    free(packing->shard_list);
}

void gy_pass_reply(const struct gy_pass *pass, size_t member_index, size_t first_query)
{
    struct gy_scan_call *member = pass->members[member_index];
    gy_incoming *call = GY_TAKE(member->call);
    struct packing packing = {0};
    if (pack(pass, member, first_query, &packing)) {
        Gyre__Node__ScanReply reply = GYRE__NODE__SCAN_REPLY__INIT;
        reply.n_shards = member->request->n_shards;
        reply.shards = packing.shard_list;
        gy_incoming_reply(call, &reply.base);
    } else {
        gyre_error err;
        gyre_status status = gyre_fail(&err, GYRE_NO_MEMORY, "no memory for a scan's reply");
        gy_incoming_fail(call, status, &err);
    }
    free_packing(member, &packing);
}
