/* The scrub: one moment of disk and RAM, held by a view and a snapshot taken under the apply lock, is read from one end to the other.
 *
 *   points, vectors   walked; each record decoded, its term added to a sum, which must be the digest's
 *   codes in RAM      the same
 *   codes on disk     chunk by chunk: the packed value, the rows written since, the list; the chunk they make must be the one in RAM
 * A record that is wrong is noted and the walk goes on; a block that RocksDB cannot read ends the walk of its family. What the block
 * cache holds is not read from the disk again. */
#include "index/digest.h"
#include "index/record.h"
#include "index/state.h"

#include "gyre/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS_BETWEEN_LOOKS = 256 /* at the clock */ };

struct scrub {
    gy_points *points;
    gy_view *disk;
    gy_snapshot *snapshot;
    struct gy_digest_report *report;
    int64_t deadline_ns;
    uint64_t records;
    struct gy_digest found;
    /* codes on disk */
    uint32_t next;         /* chunk: all before were compared */
    bool begun, unreadable;
    struct gy_chunk *made; /* what the disk has of it; NULL: nothing yet */
    uint64_t lists;
};

static void note(struct scrub *scrub, const gyre_error *why)
{
    if (scrub->report->damaged++ == 0)
        snprintf(scrub->report->first, sizeof scrub->report->first, "%s", why->text);
}

static gyre_status go_on(struct scrub *scrub, gyre_error *err)
{
    if (scrub->records++ % RECORDS_BETWEEN_LOOKS == 0 && gy_now_ns() >= scrub->deadline_ns)
        return gyre_fail(err, GYRE_DEADLINE, "check: the deadline passed after %" PRIu64 " records", scrub->records - 1);
    return GYRE_OK;
}

/* Only the deadline ends a check; everything else is what it looks for. */
static gyre_status noted(struct scrub *scrub, gyre_status status, const gyre_error *why, gyre_error *err)
{
    if (status == GYRE_DEADLINE)
        return gyre_fail(err, status, "%s", why->text);
    if (status != GYRE_OK)
        note(scrub, why);
    return GYRE_OK;
}

/* ---- points and vectors ---- */
static gyre_status named(const gyre_point_id *id, gyre_status status, gyre_error *why)
{
    char text[GYRE_UUID_TEXT_BYTES];
    return status == GYRE_OK ? status : gyre_wrap(why, status, "point %s", gyre_point_id_format(id, text));
}

static gyre_status look_at_point(struct scrub *scrub, struct gy_slice key, struct gy_slice value, gyre_error *why)
{
    gyre_point_id id;
    uint64_t version;
    struct gy_slice payload;
    GY_TRY(gy_vector_key_decode(key, &id, why));
    GY_TRY(named(&id, gy_point_decode(value, &version, &payload, why), why));
    gy_sum_add(&scrub->found.points, gy_point_sum(&id, version, payload.data, payload.bytes));
    if (version > scrub->snapshot->applied_seq)
        return named(&id, gyre_fail(why, GYRE_CORRUPT, "its version is %" PRIu64 "; %" PRIu64 " is applied", version,
                                    scrub->snapshot->applied_seq), why);
    return GYRE_OK;
}

static gyre_status take_point(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct scrub *scrub = self;
    gyre_error why;
    GY_TRY(go_on(scrub, err));
    scrub->report->points++;
    return noted(scrub, look_at_point(scrub, key, value, &why), &why, err);
}

static gyre_status look_at_vector(struct scrub *scrub, struct gy_slice key, struct gy_slice value, gyre_error *why)
{
    const gy_points *points = scrub->points;
    gyre_point_id id;
    float vector[GYRE_DIM_MAX];
    GY_TRY(gy_vector_key_decode(key, &id, why));
    GY_TRY(named(&id, gy_vector_decode(value, points->dim, vector, why), why));
    gy_sum_add(&scrub->found.vectors, gy_vector_sum(&id, vector, points->dim));
    return named(&id, gyre_vector_check(points->metric, vector, points->dim, 0, why), why);
}

static gyre_status take_vector(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct scrub *scrub = self;
    gyre_error why;
    GY_TRY(go_on(scrub, err));
    scrub->report->vectors++;
    return noted(scrub, look_at_vector(scrub, key, value, &why), &why, err);
}

/* ---- codes ---- */
static void sum_codes(struct scrub *scrub)
{
    const struct gy_layout *layout = &scrub->snapshot->codebook->layout;
    uint8_t row[GY_ROW_BYTES_MAX];
    for (size_t c = 0; c < scrub->snapshot->count; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(scrub->snapshot, c);
        scrub->report->chunks += chunk != NULL;
        for (size_t place = 0; chunk && place < chunk->rows; place++)
            if (gy_chunk_holds(layout, chunk, place)) {
                gy_chunk_row(layout, chunk, place, row);
                gy_sum_add(&scrub->found.codes, gy_code_sum(&chunk->ids[place], chunk->list, row, layout->row_bytes));
            }
    }
}

static gyre_status chunk_fails(uint32_t number, gyre_error *why, const char *what)
{
    return gyre_fail(why, GYRE_CORRUPT, "codes, chunk %u: %s", number, what);
}

static bool same_rows(const struct gy_layout *layout, const struct gy_chunk *a, const struct gy_chunk *b)
{
    uint8_t of_a[GY_ROW_BYTES_MAX], of_b[GY_ROW_BYTES_MAX];
    size_t rows = a->rows > b->rows ? a->rows : b->rows;
    for (size_t place = 0; place < rows; place++) {
        bool held = gy_chunk_holds(layout, a, place);
        if (held != gy_chunk_holds(layout, b, place))
            return false;
        if (!held)
            continue;
        gy_chunk_row(layout, a, place, of_a);
        gy_chunk_row(layout, b, place, of_b);
        if (gyre_point_id_compare(&a->ids[place], &b->ids[place]) != 0 || memcmp(of_a, of_b, layout->row_bytes) != 0)
            return false;
    }
    return true;
}

static gyre_status take_packed(void *self, size_t i, struct gy_slice value, gyre_error *err)
{
    (void)i;
    struct scrub *scrub = self;
    const struct gy_shared_codebook *codebook = scrub->snapshot->codebook;
    return value.data ? gy_packed_decode(&scrub->made, value, &codebook->layout, gyre_codebook_version(codebook->codebook), err)
                      : GYRE_OK;
}

/* Reads the packed value of the next chunk, once. */
static gyre_status begin_chunk(struct scrub *scrub, gyre_error *why)
{
    uint8_t key[GY_CODE_KEY_BYTES];
    if (scrub->begun)
        return GYRE_OK;
    scrub->begun = true;
    gy_code_key(key, gyre_codebook_version(scrub->snapshot->codebook->codebook), GY_CODE_PACKED, scrub->next);
    gyre_status status = gy_store_get_many(scrub->points->store, scrub->disk, GY_FAMILY_CODES, key, sizeof key, 1, false,
                                           take_packed, scrub, why);
    scrub->unreadable = status != GYRE_OK;
    return status == GYRE_OK ? status : gyre_wrap(why, status, "codes, chunk %u", scrub->next);
}

static gyre_status compare_chunk(struct scrub *scrub, gyre_error *why)
{
    const struct gy_chunk *chunk = gy_snapshot_at(scrub->snapshot, scrub->next);
    GY_TRY(begin_chunk(scrub, why));
    if (scrub->unreadable)
        return GYRE_OK; /* was said */
    if (!chunk != !scrub->made)
        return chunk_fails(scrub->next, why, chunk ? "it is in memory and not on disk" : "it is on disk and not in memory");
    if (chunk && !same_rows(&scrub->snapshot->codebook->layout, chunk, scrub->made))
        return chunk_fails(scrub->next, why, "memory and disk differ");
    return GYRE_OK;
}

static gyre_status finish_chunks(struct scrub *scrub, size_t below, gyre_error *err)
{
    for (; scrub->next < below; scrub->next++, scrub->begun = scrub->unreadable = false) {
        gyre_error why;
        GY_TRY(go_on(scrub, err));
        GY_TRY(noted(scrub, compare_chunk(scrub, &why), &why, err));
        gy_chunk_release(GY_TAKE(scrub->made));
    }
    return GYRE_OK;
}

/* A row written since its chunk was packed. */
static gyre_status look_at_row(struct scrub *scrub, uint32_t slot, struct gy_slice value, gyre_error *why)
{
    const struct gy_layout *layout = &scrub->snapshot->codebook->layout;
    size_t place = slot % GY_CHUNK_ROWS;
    struct gy_row_record row;
    GY_TRY(begin_chunk(scrub, why));
    if (scrub->unreadable)
        return GYRE_OK;
    gyre_status status = gy_row_record_decode(value, layout, &row, why);
    if (status != GYRE_OK)
        return gyre_wrap(why, status, "codes, slot %u", slot);
    if (!scrub->made || scrub->made->capacity <= place) {
        struct gy_chunk *larger = scrub->made ? gy_chunk_copy(layout, scrub->made, place + 1) : gy_chunk_new(layout, 0, place + 1);
        if (!larger)
            return gyre_fail(why, GYRE_NO_MEMORY, "chunk %u", scrub->next);
        gy_chunk_release(scrub->made);
        scrub->made = larger;
    }
    if (row.seq > scrub->made->packed_seq && row.held)
        gy_chunk_set(layout, scrub->made, place, &row.id, row.row);
    else if (row.seq > scrub->made->packed_seq)
        gy_chunk_clear(layout, scrub->made, place);
    return GYRE_OK;
}

static gyre_status look_at_list(struct scrub *scrub, uint32_t number, struct gy_slice value, gyre_error *why)
{
    uint32_t list;
    gyre_status status = gy_list_decode(value, gyre_codebook_lists(scrub->snapshot->codebook->codebook), &list, why);
    if (status != GYRE_OK)
        return gyre_wrap(why, status, "codes, chunk %u", number);
    const struct gy_chunk *chunk = gy_snapshot_at(scrub->snapshot, number);
    if (!chunk || chunk->list != list)
        return chunk_fails(number, why, chunk ? "it is of another list in memory" : "its list is on disk, it is not in memory");
    scrub->lists++;
    return GYRE_OK;
}

static gyre_status take_code(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct scrub *scrub = self;
    gyre_error why;
    uint32_t version, number;
    enum gy_code_kind kind;
    GY_TRY(go_on(scrub, err));
    gyre_status status = gy_code_key_decode(key, &version, &kind, &number, &why);
    if (status == GYRE_OK && kind == GY_CODE_ROW) {
        if (number / GY_CHUNK_ROWS > (uint32_t)GY_CHUNK_NUMBER_MAX)
            return noted(scrub, chunk_fails(number / GY_CHUNK_ROWS, &why, "there is no such number"), &why, err);
        GY_TRY(finish_chunks(scrub, number / GY_CHUNK_ROWS, err));
        status = look_at_row(scrub, number, value, &why);
    } else if (status == GYRE_OK) {
        status = look_at_list(scrub, number, value, &why);
    }
    return noted(scrub, status, &why, err);
}

/* Keys in order: rows, chunk by chunk, then lists; packed values are looked up when their chunk's turn comes. */
static gyre_status check_codes(struct scrub *scrub, gyre_error *err)
{
    uint8_t first[GY_CODE_KEY_BYTES], behind[GY_CODE_KEY_BYTES];
    gyre_error why;
    uint32_t version = gyre_codebook_version(scrub->snapshot->codebook->codebook);
    gy_code_key(first, version, GY_CODE_ROW, 0);
    gy_code_key(behind, version, UINT8_MAX, UINT32_MAX);
    gyre_status status = gy_store_walk_at(scrub->points->store, scrub->disk, GY_FAMILY_CODES,
                                          (struct gy_slice){first, sizeof first}, (struct gy_slice){behind, sizeof behind},
                                          take_code, scrub, &why);
    GY_TRY(noted(scrub, status, &why, err));
    GY_TRY(finish_chunks(scrub, scrub->snapshot->count, err));
    if (scrub->lists != scrub->report->chunks) {
        GY_IGNORE(gyre_fail(&why, GYRE_CORRUPT, "codes: %" PRIu64 " of %" PRIu64 " chunks have their list on disk", scrub->lists,
                            scrub->report->chunks)); /* noted, not returned */
        note(scrub, &why);
    }
    return GYRE_OK;
}

static gyre_status check_family(struct scrub *scrub, enum gy_family family, gy_on_record *visit, gyre_error *err)
{
    gyre_error why;
    return noted(scrub, gy_store_walk_at(scrub->points->store, scrub->disk, family, (struct gy_slice){0}, (struct gy_slice){0},
                                         visit, scrub, &why), &why, err);
}

/* A sum and a count that must be the replica's. */
static void compare(struct scrub *scrub, const char *what, struct gy_sum found, struct gy_sum rolling, uint64_t count,
                    uint64_t wanted)
{
    gyre_error why;
    if (count == wanted && gy_sum_equal(found, rolling))
        return;
    GY_IGNORE(gyre_fail(&why, GYRE_CORRUPT, "%s: %" PRIu64 " of %" PRIu64 ", and their digest is %s", what, count, wanted,
                        gy_sum_equal(found, rolling) ? "right" : "not the replica's")); /* noted, not returned */
    note(scrub, &why);
}

static gyre_status check(struct scrub *scrub, gyre_error *err)
{
    const struct gy_digest_report *report = scrub->report;
    const struct gy_digest *digest = &report->state.digest;
    bool quantized = scrub->points->quantized;
    GY_TRY(check_family(scrub, GY_FAMILY_POINTS, take_point, err));
    GY_TRY(check_family(scrub, GY_FAMILY_VECTORS, take_vector, err));
    sum_codes(scrub);
    GY_TRY(check_codes(scrub, err));
    compare(scrub, "points", scrub->found.points, digest->points, report->points, report->state.points);
    compare(scrub, "vectors", scrub->found.vectors, digest->vectors, report->vectors, quantized ? 0 : report->state.points);
    compare(scrub, "codes in memory", scrub->found.codes, digest->codes, scrub->snapshot->points, report->state.points);
    return GYRE_OK;
}

static struct gy_points_state state_of(const gy_snapshot *snapshot)
{
    return (struct gy_points_state){
        .applied_seq = snapshot->applied_seq,
        .points = snapshot->points,
        .codebook_version = gyre_codebook_version(snapshot->codebook->codebook),
        .digest = snapshot->digest,
    };
}

struct gy_points_state gy_points_state(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return state_of(snapshot);
}

gyre_status gy_points_digest_check(gy_points *points, int64_t deadline_ns, struct gy_digest_report *report, gyre_error *err)
{
    pthread_mutex_lock(&points->apply_mu);
    bool broken = points->broken;
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    GY_AUTO(gy_view) *disk = gy_view_new(points->store);
    pthread_mutex_unlock(&points->apply_mu);
    if (broken)
        return gyre_fail(err, GYRE_PRECONDITION, "an earlier batch failed; the replica must be opened anew");
    if (!disk)
        return gyre_fail(err, GYRE_NO_MEMORY, "check");
    struct scrub scrub = {.points = points, .disk = disk, .snapshot = snapshot, .report = report, .deadline_ns = deadline_ns};
    *report = (struct gy_digest_report){.state = state_of(snapshot)};
    gyre_status status = check(&scrub, err);
    gy_chunk_release(scrub.made);
    return status;
}

gyre_status gy_points_memory_check(gy_points *points, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    struct gy_digest_report report = {.state = state_of(snapshot)};
    struct scrub scrub = {.points = points, .snapshot = snapshot, .report = &report, .deadline_ns = GY_NEVER};
    sum_codes(&scrub);
    compare(&scrub, "codes in memory", scrub.found.codes, report.state.digest.codes, snapshot->points, report.state.points);
    return report.damaged ? gyre_fail(err, GYRE_CORRUPT, "%s", report.first) : GYRE_OK;
}
