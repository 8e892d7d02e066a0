/* Codes lie as they are written: packed chunks, rows written since, the lists of chunks. The lists are read first, for a code's term
 * in the digest has its list; then each packed chunk, with its rows; then the rows of chunks that were never packed. A family ends
 * at the first block that cannot be read, for nobody knows which keys were in it. */
#include "index/inspect.h"

#include "index/digest.h"
#include "index/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PACE_BYTES = 1 << 20 };
#define NO_LIST UINT32_MAX

struct inspecting {
    gy_store *store;
    struct gy_inspection *inspection;
    struct gy_shared_codebook *codebook;
    const struct gy_layout *layout;
    uint32_t dim, version;
    gyre_metric metric;
    uint64_t applied_seq, rows;
    struct gy_digest found;
    uint32_t *lists; /* [count] by chunk; NO_LIST: none */
    bool *seen;      /* [count] */
    size_t count;
    struct gy_chunk *chunk; /* being put together */
    uint32_t number;        /* its */
};

/* ---- what all families share ---- */

void gy_inspection_note(struct gy_inspection *inspection, const gyre_error *why)
{
    const char *family = inspection->family ? inspection->family : "";
    if (inspection->damaged++ == 0)
        snprintf(inspection->first, sizeof inspection->first, "%s%s%.400s", family, *family ? ": " : "", why->text);
    if (inspection->on_damage)
        inspection->on_damage(inspection->self, family, why->text);
}

gyre_status gy_inspection_step(struct gy_inspection *inspection, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    inspection->bytes += key.bytes + value.bytes;
    inspection->unpaced += key.bytes + value.bytes;
    if (!inspection->pace || inspection->unpaced < PACE_BYTES)
        return GYRE_OK;
    uint64_t bytes = inspection->unpaced;
    inspection->unpaced = 0;
    return inspection->pace(inspection->self, bytes, err);
}

gyre_status gy_inspection_noted(struct gy_inspection *inspection, gyre_status status, const gyre_error *why, gyre_error *err)
{
    if (status == GYRE_OK)
        return GYRE_OK;
    if (status != GYRE_CORRUPT && status != GYRE_INVALID && status != GYRE_INTERNAL) /* the last: a disk that cannot read */
        return gyre_fail(err, status, "%s", why->text);
    gy_inspection_note(inspection, why);
    return GYRE_OK;
}

static gyre_status walk(struct inspecting *self, enum gy_family family, struct gy_slice from, struct gy_slice to,
                        gy_on_record *visit, gyre_error *err)
{
    gyre_error why;
    return gy_inspection_noted(self->inspection, gy_store_walk(self->store, family, from, to, visit, self, &why), &why, err);
}

static gyre_status named(const gyre_point_id *id, gyre_status status, gyre_error *why)
{
    char text[GYRE_UUID_TEXT_BYTES];
    return status == GYRE_OK ? status : gyre_wrap(why, status, "point %s", gyre_point_id_format(id, text));
}

/* ---- points and vectors ---- */

static gyre_status look_at_point(struct inspecting *self, struct gy_slice key, struct gy_slice value, gyre_error *why)
{
    gyre_point_id id;
    uint64_t version;
    struct gy_slice payload;
    GY_TRY(gy_vector_key_decode(key, &id, why));
    GY_TRY(named(&id, gy_point_decode(value, &version, &payload, why), why));
    gy_sum_add(&self->found.points, gy_point_sum(&id, version, payload.data, payload.bytes));
    if (version > self->applied_seq)
        return named(&id, gyre_fail(why, GYRE_CORRUPT, "its version is %" PRIu64 "; %" PRIu64 " is applied", version,
                                    self->applied_seq), why);
    return GYRE_OK;
}

static gyre_status take_point(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    GY_TRY(gy_inspection_step(self->inspection, key, value, err));
    self->inspection->points++;
    return gy_inspection_noted(self->inspection, look_at_point(self, key, value, &why), &why, err);
}

static gyre_status look_at_vector(struct inspecting *self, struct gy_slice key, struct gy_slice value, gyre_error *why)
{
    gyre_point_id id;
    float vector[GYRE_DIM_MAX];
    GY_TRY(gy_vector_key_decode(key, &id, why));
    GY_TRY(named(&id, gy_vector_decode(value, self->dim, vector, why), why));
    gy_sum_add(&self->found.vectors, gy_vector_sum(&id, vector, self->dim));
    return named(&id, gyre_vector_check(self->metric, vector, self->dim, 0, why), why);
}

static gyre_status take_vector(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    GY_TRY(gy_inspection_step(self->inspection, key, value, err));
    self->inspection->vectors++;
    return gy_inspection_noted(self->inspection, look_at_vector(self, key, value, &why), &why, err);
}

/* ---- codes ---- */

static gyre_status of_chunk(uint32_t number, gyre_status status, gyre_error *why)
{
    return status == GYRE_OK ? status : gyre_wrap(why, status, "chunk %u", number);
}

static gyre_status make_room(struct inspecting *self, uint32_t number, gyre_error *err)
{
    if (number >= (uint32_t)GY_CHUNK_NUMBER_MAX)
        return gyre_fail(err, GYRE_CORRUPT, "chunk %u: there is no such number", number);
    if (number < self->count)
        return GYRE_OK;
    size_t count = number + number / 2 + 64;
    uint32_t *lists = realloc(self->lists, count * sizeof *lists);
    if (lists)
        self->lists = lists;
    bool *seen = realloc(self->seen, count * sizeof *seen);
    if (seen)
        self->seen = seen;
    if (!lists || !seen)
        return gyre_fail(err, GYRE_NO_MEMORY, "lists of %zu chunks", count);
    for (size_t i = self->count; i < count; i++)
        lists[i] = NO_LIST, seen[i] = false;
    self->count = count;
    return GYRE_OK;
}

static gyre_status look_at_list(struct inspecting *self, uint32_t number, struct gy_slice value, gyre_error *why)
{
    uint32_t list;
    GY_TRY(make_room(self, number, why));
    GY_TRY(of_chunk(number, gy_list_decode(value, gyre_codebook_lists(self->codebook->codebook), &list, why), why));
    self->lists[number] = list;
    self->inspection->chunks++;
    return GYRE_OK;
}

static gyre_status take_list(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    uint32_t version, number;
    enum gy_code_kind kind;
    GY_TRY(gy_inspection_step(self->inspection, key, value, err));
    gyre_status status = gy_code_key_decode(key, &version, &kind, &number, &why);
    if (status == GYRE_OK)
        status = look_at_list(self, number, value, &why);
    return gy_inspection_noted(self->inspection, status, &why, err);
}

/* Puts a row that is newer than the packed value into the chunk that is being put together. */
static gyre_status look_at_row(struct inspecting *self, uint32_t slot, struct gy_slice value, gyre_error *why)
{
    size_t place = slot % GY_CHUNK_ROWS;
    struct gy_row_record row;
    gyre_status status = gy_row_record_decode(value, self->layout, &row, why);
    if (status == GYRE_OK && row.seq > self->applied_seq)
        status = gyre_fail(why, GYRE_CORRUPT, "its seq is %" PRIu64 "; %" PRIu64 " is applied", row.seq, self->applied_seq);
    if (status != GYRE_OK)
        return gyre_wrap(why, status, "slot %u", slot);
    if (!self->chunk || self->chunk->capacity <= place) {
        struct gy_chunk *larger = self->chunk ? gy_chunk_copy(self->layout, self->chunk, place + 1)
                                              : gy_chunk_new(self->layout, 0, place + 1);
        if (!larger)
            return gyre_fail(why, GYRE_NO_MEMORY, "chunk %u", slot / GY_CHUNK_ROWS);
        gy_chunk_release(self->chunk);
        self->chunk = larger;
    }
    if (row.seq > self->chunk->packed_seq && row.held)
        gy_chunk_set(self->layout, self->chunk, place, &row.id, row.row);
    else if (row.seq > self->chunk->packed_seq)
        gy_chunk_clear(self->layout, self->chunk, place);
    return GYRE_OK;
}

/* The chunk is whole: its rows' terms, with its list. */
static gyre_status finish_chunk(struct inspecting *self, gyre_error *err)
{
    struct gy_chunk *chunk = GY_TAKE(self->chunk);
    uint8_t row[GY_ROW_BYTES_MAX];
    gyre_error why;
    gyre_status status = GYRE_OK;
    if (!chunk)
        return GYRE_OK;
    if (self->number >= self->count || self->lists[self->number] == NO_LIST) {
        status = gyre_fail(&why, GYRE_CORRUPT, "chunk %u: its list is missing", self->number);
    } else {
        self->seen[self->number] = true;
        for (size_t place = 0; place < chunk->rows; place++)
            if (gy_chunk_holds(self->layout, chunk, place)) {
                gy_chunk_row(self->layout, chunk, place, row);
                gy_sum_add(&self->found.codes,
                           gy_code_sum(&chunk->ids[place], self->lists[self->number], row, self->layout->row_bytes));
                self->rows++;
            }
    }
    gy_chunk_release(chunk);
    return gy_inspection_noted(self->inspection, status, &why, err);
}

static gyre_status take_row(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    uint32_t version, slot;
    enum gy_code_kind kind;
    GY_TRY(gy_inspection_step(self->inspection, key, value, err));
    gyre_status status = gy_code_key_decode(key, &version, &kind, &slot, &why);
    if (status == GYRE_OK && self->chunk && slot / GY_CHUNK_ROWS != self->number)
        GY_TRY(finish_chunk(self, err));
    if (status == GYRE_OK) {
        self->number = slot / GY_CHUNK_ROWS;
        if (self->number < self->count && self->seen[self->number])
            return GYRE_OK; /* with its packed value */
        status = look_at_row(self, slot, value, &why);
    }
    return gy_inspection_noted(self->inspection, status, &why, err);
}

static gyre_status take_own_row(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    uint32_t version, slot;
    enum gy_code_kind kind;
    gyre_status status = gy_code_key_decode(key, &version, &kind, &slot, &why);
    if (status == GYRE_OK)
        status = look_at_row(self, slot, value, &why);
    return gy_inspection_noted(self->inspection, status, &why, err);
}

static gyre_status take_packed(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    gyre_error why;
    uint32_t version;
    enum gy_code_kind kind;
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    GY_TRY(gy_inspection_step(self->inspection, key, value, err));
    gyre_status status = gy_code_key_decode(key, &version, &kind, &self->number, &why);
    if (status == GYRE_OK)
        status = make_room(self, self->number, &why);
    if (status == GYRE_OK)
        status = of_chunk(self->number, gy_packed_decode(&self->chunk, value, self->layout, self->version, &why), &why);
    if (status == GYRE_OK && self->chunk->packed_seq > self->applied_seq)
        status = gyre_fail(&why, GYRE_CORRUPT, "chunk %u: its seq is %" PRIu64 "; %" PRIu64 " is applied", self->number,
                           self->chunk->packed_seq, self->applied_seq);
    if (status != GYRE_OK) {
        if (self->number < self->count)
            self->seen[self->number] = true; /* and wrong, which was said */
        return gy_inspection_noted(self->inspection, status, &why, err);
    }
    gy_code_key(first, self->version, GY_CODE_ROW, self->number * GY_CHUNK_ROWS);
    gy_code_key(behind, self->version, GY_CODE_ROW, (self->number + 1) * GY_CHUNK_ROWS);
    GY_TRY(walk(self, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first}, (struct gy_slice){behind, sizeof behind},
                take_own_row, err));
    return finish_chunk(self, err);
}

static gyre_status walk_kind(struct inspecting *self, enum gy_code_kind kind, gy_on_record *visit, gyre_error *err)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gy_code_key(first, self->version, kind, 0);
    gy_code_key(behind, self->version, (enum gy_code_kind)(kind + 1), 0);
    return walk(self, GY_FAMILY_CODES, (struct gy_slice){first, sizeof first}, (struct gy_slice){behind, sizeof behind}, visit,
                err);
}

/* Codes of other codebooks are leftovers, which the next opening deletes; that they can be read is all that is asked. */
static gyre_status take_leftover(void *arg, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct inspecting *self = arg;
    return gy_inspection_step(self->inspection, key, value, err);
}

static gyre_status inspect_codes(struct inspecting *self, gyre_error *err)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gy_code_key(first, self->version, 0, 0);
    gy_code_key(behind, self->version, UINT8_MAX, UINT32_MAX);
    self->inspection->family = gy_family_name(GY_FAMILY_CODES);
    GY_TRY(walk(self, GY_FAMILY_CODES, (struct gy_slice){0}, (struct gy_slice){first, sizeof first}, take_leftover, err));
    GY_TRY(walk_kind(self, GY_CODE_LIST, take_list, err));
    GY_TRY(walk_kind(self, GY_CODE_PACKED, take_packed, err));
    GY_TRY(walk_kind(self, GY_CODE_ROW, take_row, err));
    GY_TRY(finish_chunk(self, err));
    GY_TRY(walk(self, GY_FAMILY_CODES, (struct gy_slice){behind, sizeof behind}, (struct gy_slice){0}, take_leftover, err));
    for (uint32_t i = 0; i < self->count; i++)
        if (self->lists[i] != NO_LIST && !self->seen[i]) {
            gyre_error why;
            GY_IGNORE(gyre_fail(&why, GYRE_CORRUPT, "chunk %u has a list and no rows", i)); /* noted, not returned */
            gy_inspection_note(self->inspection, &why);
        }
    return GYRE_OK;
}

/* A sum and a count that must be the stored ones. */
static void compare(struct inspecting *self, enum gy_family family, struct gy_sum found, struct gy_sum stored, uint64_t count,
                    uint64_t wanted)
{
    gyre_error why;
    self->inspection->family = gy_family_name(family);
    if (count == wanted && gy_sum_equal(found, stored))
        return;
    GY_IGNORE(gyre_fail(&why, GYRE_CORRUPT, "%" PRIu64 " of %" PRIu64 " are there, and their digest is %s", count, wanted,
                        gy_sum_equal(found, stored) ? "right" : "not the stored one")); /* noted, not returned */
    gy_inspection_note(self->inspection, &why);
}

static gyre_status inspect(struct inspecting *self, gyre_error *err)
{
    struct gy_digest stored;
    uint64_t points = gy_store_point_count(self->store);
    gy_store_digest(self->store, &stored);
    self->inspection->family = gy_family_name(GY_FAMILY_POINTS);
    GY_TRY(walk(self, GY_FAMILY_POINTS, (struct gy_slice){0}, (struct gy_slice){0}, take_point, err));
    self->inspection->family = gy_family_name(GY_FAMILY_VECTORS);
    GY_TRY(walk(self, GY_FAMILY_VECTORS, (struct gy_slice){0}, (struct gy_slice){0}, take_vector, err));
    GY_TRY(inspect_codes(self, err));
    compare(self, GY_FAMILY_POINTS, self->found.points, stored.points, self->inspection->points, points);
    compare(self, GY_FAMILY_VECTORS, self->found.vectors, stored.vectors, self->inspection->vectors,
            gy_store_quantized(self->store) ? 0 : points);
    compare(self, GY_FAMILY_CODES, self->found.codes, stored.codes, self->rows, points);
    return GYRE_OK;
}

gyre_status gy_inspect_points(gy_store *store, struct gy_inspection *inspection, gyre_error *err)
{
    gyre_codebook *copy = NULL;
    struct inspecting self = {.store = store, .inspection = inspection, .applied_seq = gy_store_applied_seq(store)};
    GY_TRY(gy_codebook_copy(&copy, gy_store_codebook(store), err));
    GY_TRY(gy_shared_codebook_new(&self.codebook, gy_store_codec(store), copy, err));
    self.layout = &self.codebook->layout;
    self.dim = gyre_codebook_dim(self.codebook->codebook), self.metric = gyre_codebook_metric(self.codebook->codebook);
    self.version = gyre_codebook_version(self.codebook->codebook);
    gyre_status status = inspect(&self, err);
    gy_chunk_release(self.chunk);
    gy_shared_codebook_release(self.codebook);
    free(self.lists);
    free(self.seen);
    return status;
}
