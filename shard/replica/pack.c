#include "replica/pack.h"

#include "replica/check.h"

#include "gyre/wire.h"

#include <stdlib.h>

struct packing {
    struct gy_packed *out;
    gy_points *points;
    uint64_t upto;
};

void gy_packed_fini(struct gy_packed *packed)
{
    for (size_t i = 0; i < packed->count; i++) {
        free(packed->entries[i]->body.data);
        free(packed->entries[i]);
    }
    free(packed->entries);
    *packed = (struct gy_packed){0};
}

/* Takes body, also on failure. */
static gyre_status add(struct gy_packed *packed, uint64_t epoch, gy_bytes *body, gyre_error *err)
{
    Gyre__Node__LogEntry *entry = malloc(sizeof *entry);
    if (!entry) {
        gy_bytes_free(body);
        return gyre_fail(err, GYRE_NO_MEMORY, "log entry");
    }
    gyre__node__log_entry__init(entry);
    entry->epoch = epoch;
    entry->body = (ProtobufCBinaryData){body->size, body->data};
    packed->bytes += body->size;
    packed->entries[packed->count++] = entry;
    *body = (gy_bytes){0};
    return GYRE_OK;
}

/* What a write's codes take. */
struct coding {
    const float **vectors; /* [count] */
    uint32_t *lists;
    uint8_t *rows;
    size_t count;
};

static void coding_fini(struct coding *coding)
{
    free(coding->vectors);
    free(coding->lists);
    free(coding->rows);
}

static gyre_status encode(gy_points *points, Gyre__Node__Write *write, struct coding *coding, gyre_error *err)
{
    size_t row_bytes = gy_points_row_bytes(points), n = 0;
    coding->vectors = malloc((write->n_operations + 1) * sizeof *coding->vectors);
    coding->lists = malloc((write->n_operations + 1) * sizeof *coding->lists);
    coding->rows = malloc((write->n_operations + 1) * row_bytes);
    if (!coding->vectors || !coding->lists || !coding->rows)
        return gyre_fail(err, GYRE_NO_MEMORY, "codes of %zu operations", write->n_operations);
    for (size_t i = 0; i < write->n_operations; i++)
        if (write->operations[i]->vector.len)
            coding->vectors[coding->count++] = (const float *)(const void *)write->operations[i]->vector.data;
    GY_TRY(gy_points_encode(points, coding->vectors, coding->count, &write->codebook_version, coding->lists, coding->rows, err));
    for (size_t i = 0; i < write->n_operations; i++) {
        Gyre__Node__Operation *operation = write->operations[i];
        if (!operation->vector.len)
            continue;
        free(operation->vector.data);
        operation->vector = (ProtobufCBinaryData){0};
        operation->code.data = malloc(row_bytes);
        if (!operation->code.data)
            return gyre_fail(err, GYRE_NO_MEMORY, "code of %zu bytes", row_bytes);
        memcpy(operation->code.data, coding->rows + n * row_bytes, row_bytes);
        operation->code.len = row_bytes;
        operation->list = coding->lists[n++];
    }
    return GYRE_OK;
}

static gyre_status as_it_is(const struct gy_log_entry *entry, gy_bytes *out, gyre_error *err)
{
    *out = (gy_bytes){malloc(entry->bytes + 1), entry->bytes};
    if (!out->data)
        return gyre_fail(err, GYRE_NO_MEMORY, "log entry of %zu bytes", entry->bytes);
    if (entry->bytes)
        memcpy(out->data, entry->body, entry->bytes);
    return GYRE_OK;
}

/* The entry's write with codes for vectors. A primary's own has neither. */
static gyre_status with_codes(struct packing *packing, const struct gy_log_entry *entry, gy_bytes *out, gyre_error *err)
{
    Gyre__Node__Write *write;
    struct coding coding = {0};
    GY_TRY(gy_wire_unpack(&write, &gyre__node__write__descriptor, entry->body, entry->bytes, err));
    if (gy_write_is_own(write)) {
        gy_wire_free(write);
        return as_it_is(entry, out, err);
    }
    gyre_status status = encode(packing->points, write, &coding, err);
    coding_fini(&coding);
    /* A codebook that was switched to between two entries: the rest goes with the next append. */
    if (status == GYRE_OK && packing->out->count && write->codebook_version != packing->out->codebook_version)
        status = GYRE_CANCELLED;
    if (status == GYRE_OK) {
        packing->out->codebook_version = write->codebook_version;
        status = gy_wire_pack(out, &write->base, SIZE_MAX, err);
    }
    gy_wire_free(write);
    return status;
}

static gyre_status pack_entry(void *self, const struct gy_log_entry *entry, gyre_error *err)
{
    struct packing *packing = self;
    struct gy_packed *out = packing->out;
    gy_bytes body = {0};
    if (entry->seq > packing->upto || out->count == out->room || (out->count && out->bytes + entry->bytes > GY_SEND_BYTES_MAX))
        return GYRE_CANCELLED;
    GY_TRY(packing->points ? with_codes(packing, entry, &body, err) : as_it_is(entry, &body, err));
    return add(out, entry->epoch, &body, err);
}

gyre_status gy_pack(gy_store *store, gy_points *points, uint64_t from, uint64_t upto, struct gy_packed *out, gyre_error *err)
{
    struct packing packing = {out, points, upto};
    *out = (struct gy_packed){.codebook_version = points ? gy_points_codebook_version(points) : 0};
    if (from > upto)
        return GYRE_OK;
    out->room = upto - from + 1 < GY_SEND_ENTRIES_MAX ? (size_t)(upto - from + 1) : GY_SEND_ENTRIES_MAX;
    out->entries = calloc(out->room, sizeof(Gyre__Node__LogEntry *));
    if (!out->entries)
        return gyre_fail(err, GYRE_NO_MEMORY, "append of %zu entries", out->room);
    gyre_status status = gy_store_log_read(store, from, pack_entry, &packing, err);
    return status == GYRE_CANCELLED ? GYRE_OK : status; /* our own way to stop */
}
