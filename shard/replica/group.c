#include "replica/group.h"

#include <stdlib.h>

static gyre_status reserve(gy_group *group, size_t count, gyre_error *err)
{
    if (count <= group->room)
        return GYRE_OK;
    size_t room = group->room * 2 > count ? group->room * 2 : count;
    /* Each array is kept as soon as it has grown; room says what all of them have. */
    struct gy_operation *operations = realloc(group->operations, room * sizeof *operations);
    if (operations)
        group->operations = operations;
    uint64_t *versions = realloc(group->versions, room * sizeof *versions);
    if (versions)
        group->versions = versions;
    bool *deleted = realloc(group->deleted, room * sizeof *deleted);
    if (deleted)
        group->deleted = deleted;
    if (!operations || !versions || !deleted)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a group of %zu operations", room);
    group->room = room;
    return GYRE_OK;
}

bool gy_write_is_foreign(const Gyre__Node__Write *write, gy_points *points)
{
    bool owns_all = gy_range_is_all(gy_points_ownership(points).owned);
    for (size_t i = 0; i < write->n_operations && !owns_all; i++) {
        gyre_point_id id;
        memcpy(id.bytes, write->operations[i]->id.data, GYRE_ID_BYTES);
        if (!gy_points_owns(points, &id))
            return true;
    }
    return false;
}

gyre_status gy_group_add(gy_group *group, const Gyre__Node__Write *write, uint64_t seq, bool *foreign, gyre_error *err)
{
    uint64_t first_seq, deleted;
    bool to_note = group->window && write->client.len;
    *foreign = false;
    if (to_note && gy_window_find(group->window, write->client.data, write->request, &first_seq, &deleted))
        return GYRE_OK;
    *foreign = gy_write_is_foreign(write, group->points);
    if (*foreign)
        return GYRE_OK;
    if (to_note)
        GY_TRY(gy_window_note(group->window, write->client.data, write->request, seq, &group->requests, err));
    GY_TRY(reserve(group, group->count + write->n_operations, err));
    for (size_t i = 0; i < write->n_operations; i++) {
        const Gyre__Node__Operation *from = write->operations[i];
        struct gy_operation *to = &group->operations[group->count];
        *to = (struct gy_operation){0};
        memcpy(to->id.bytes, from->id.data, GYRE_ID_BYTES);
        if (from->vector.len) {
            to->vector = (const float *)(const void *)from->vector.data;
            to->payload = from->payload;
        } else if (from->code.len) {
            to->row = from->code.data;
            to->list = from->list;
            to->codebook_version = write->codebook_version;
            to->payload = from->payload;
        }
        group->versions[group->count] = seq;
        group->deleted[group->count] = false;
        group->count++;
    }
    return GYRE_OK;
}

gyre_status gy_group_apply(gy_group *group, uint64_t seq, gyre_error *err)
{
    GY_TRY(gy_points_apply(group->points, group->operations, group->versions, group->count, seq, &group->requests,
                           group->deleted, err));
    if (group->window)
        gy_window_applied(group->window, &group->requests);
    return GYRE_OK;
}

void gy_group_clear(gy_group *group)
{
    group->count = 0;
}

void gy_group_fini(gy_group *group)
{
    free(group->operations);
    free(group->versions);
    free(group->deleted);
    gy_request_changes_fini(&group->requests);
    *group = (gy_group){0};
}
