#include "disk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint64_t gy_sim_disk_epoch_at(const struct gy_sim_disk *disk, uint64_t seq)
{
    if (seq == disk->base)
        return disk->base_epoch;
    return seq > disk->base && seq <= gy_sim_disk_last(disk) ? gy_sim_disk_at(disk, seq)->epoch : 0;
}

void gy_sim_disk_append(struct gy_sim_disk *disk, const struct gy_sim_entry *entries, size_t count)
{
    if (disk->count + count > disk->room) {
        disk->room = (disk->count + count) * 2;
        disk->entries = realloc(disk->entries, disk->room * sizeof *disk->entries);
        if (!disk->entries)
            abort();
    }
    if (count)
        memcpy(disk->entries + disk->count, entries, count * sizeof *entries);
    disk->count += count;
}

void gy_sim_disk_cut(struct gy_sim_disk *disk, uint64_t seq)
{
    assert(seq >= disk->base && seq <= gy_sim_disk_last(disk));
    disk->count = (size_t)(seq - disk->base);
    if (disk->durable > seq)
        disk->durable = seq;
}

void gy_sim_disk_trim(struct gy_sim_disk *disk, uint64_t seq)
{
    if (seq <= disk->base)
        return;
    assert(seq <= gy_sim_disk_last(disk));
    size_t gone = (size_t)(seq - disk->base);
    disk->base_epoch = gy_sim_disk_at(disk, seq)->epoch;
    memmove(disk->entries, disk->entries + gone, (disk->count - gone) * sizeof *disk->entries);
    disk->count -= gone;
    disk->base = seq;
    if (disk->durable < seq)
        disk->durable = seq;
}

void gy_sim_disk_replace(struct gy_sim_disk *disk, const struct gy_sim_state *state, uint64_t epoch)
{
    disk->flushed = *state;
    disk->base = disk->durable = state->seq;
    disk->base_epoch = epoch;
    disk->count = 0;
}

void gy_sim_disk_remove(struct gy_sim_disk *disk)
{
    free(disk->entries);
    *disk = (struct gy_sim_disk){.wiped = disk->wiped};
}
