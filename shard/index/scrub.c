/* What a scrub asks of a serving replica, beside the inspection of its files (inspect.h): the digest it keeps, and whether the
 * codes in RAM, which no file shows, still add up to it. */
#include "index/digest.h"
#include "index/state.h"

#include <inttypes.h>

struct gy_points_state gy_points_state(gy_points *points)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    return (struct gy_points_state){
        .applied_seq = snapshot->applied_seq,
        .points = snapshot->points,
        .codebook_version = gyre_codebook_version(snapshot->codebook->codebook),
        .digest = snapshot->digest,
    };
}

gyre_status gy_points_memory_check(gy_points *points, gyre_error *err)
{
    GY_AUTO(gy_snapshot) *snapshot = gy_points_snapshot(points);
    const struct gy_layout *layout = &snapshot->codebook->layout;
    uint8_t row[GY_ROW_BYTES_MAX];
    struct gy_sum found = {0, 0};
    uint64_t count = 0;
    for (size_t c = 0; c < snapshot->count; c++) {
        const struct gy_chunk *chunk = gy_snapshot_at(snapshot, c);
        for (size_t place = 0; chunk && place < chunk->rows; place++)
            if (gy_chunk_holds(layout, chunk, place)) {
                gy_chunk_row(layout, chunk, place, row);
                gy_sum_add(&found, gy_code_sum(&chunk->ids[place], chunk->list, row, layout->row_bytes));
                count++;
            }
    }
    if (count == snapshot->points && gy_sum_equal(found, snapshot->digest.codes))
        return GYRE_OK;
    return gyre_fail(err, GYRE_CORRUPT, "codes in memory: %" PRIu64 " of %" PRIu64 ", and their digest is %s", count,
                     snapshot->points, gy_sum_equal(found, snapshot->digest.codes) ? "right" : "not the replica's");
}
