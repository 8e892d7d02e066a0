/* disk: what of a replica outlives its process.
 *
 * The log is what the driver reads; of it, `durable` entries survive a crash. An honest driver appends only what was synced, so
 * both are the same; a planted bug makes them differ. The applied state survives as it was flushed last. */
#ifndef GY_SIM_DISK_H
#define GY_SIM_DISK_H

#include "state.h"

#include "gyre/shard_config.h"

#include <stddef.h>

struct gy_sim_disk {
    bool exists;
    bool waiting; /* made by a split, and not taken yet: nobody runs it */
    bool damaged; /* a checksum did not fit: what it held is lost */
    uint32_t member;
    uint64_t wiped; /* bit (id % 64) of members that were here until somebody put in an empty disk */
    const struct gy_shard_config *config, *config_durable; /* of the catalog's history */
    uint64_t base, base_epoch;       /* the last entry trimmed */
    struct gy_sim_entry *entries;    /* [room], seqs base + 1 … */
    size_t count, room;
    uint64_t durable;                /* last seq that survives */
    struct gy_sim_state flushed;
};

static inline uint64_t gy_sim_disk_last(const struct gy_sim_disk *disk) { return disk->base + disk->count; }
/* base < seq <= last */
static inline const struct gy_sim_entry *gy_sim_disk_at(const struct gy_sim_disk *disk, uint64_t seq)
{
    return &disk->entries[seq - disk->base - 1];
}
/* 0: not in the log, nor the last one trimmed. */
uint64_t gy_sim_disk_epoch_at(const struct gy_sim_disk *disk, uint64_t seq);
void gy_sim_disk_append(struct gy_sim_disk *disk, const struct gy_sim_entry *entries, size_t count);
/* Takes out what is behind seq. */
void gy_sim_disk_cut(struct gy_sim_disk *disk, uint64_t seq);
/* Takes out what is up to seq. */
void gy_sim_disk_trim(struct gy_sim_disk *disk, uint64_t seq);
/* Only the state is left, and the epoch of the entry it ends with. */
void gy_sim_disk_replace(struct gy_sim_disk *disk, const struct gy_sim_state *state, uint64_t epoch);
/* All but which were wiped. */
void gy_sim_disk_remove(struct gy_sim_disk *disk);

#endif
