/* node: one shard daemon: its disks, its clock, its process, and for every replica the driver around the core: it hands in what
 * happened and does what the core says, with one thing at a time on its way to the disk, as shard/replica/replica.c does.
 *
 * A process that dies takes everything with it but the disks. One that stands still loses nothing and knows nothing of it. */
#ifndef GY_SIM_NODE_H
#define GY_SIM_NODE_H

#include "catalog.h"
#include "disk.h"

#include "replica/core.h"

struct gy_sim;
struct gy_sim_message;
struct gy_sim_replica; /* of the process; replica.h */

struct gy_sim_node {
    bool up, stopping, disk_low;
    int64_t clock_offset_ns;
    int32_t clock_ppm; /* how much faster it runs */
    struct gy_sim_disk disks[GY_SIM_SHARDS_MAX];
    struct gy_sim_replica *replicas[GY_SIM_SHARDS_MAX]; /* NULL: does not run */
};

/* Its monotonic clock. */
int64_t gy_sim_node_now_ns(const struct gy_sim *sim, uint8_t node);
/* How long from now until its clock shows local_ns; 0 if it does. */
int64_t gy_sim_node_until_ns(const struct gy_sim *sim, uint8_t node, int64_t local_ns);
/* The node of that name. */
uint8_t gy_sim_node_named(const char *name);

void gy_sim_node_start(struct gy_sim *sim, uint8_t node);
/* Dies now; what was not on disk is gone, what was on its way there may be. */
void gy_sim_node_crash(struct gy_sim *sim, uint8_t node);
/* Is asked to stop: goes down once its replicas have answered all they took, or after a while. */
void gy_sim_node_stop(struct gy_sim *sim, uint8_t node);
/* The replica's disk has rotted, which is found at once. */
void gy_sim_node_damage(struct gy_sim *sim, uint8_t node, uint32_t shard);
/* Dies, and comes back with an empty disk. */
void gy_sim_node_wipe(struct gy_sim *sim, uint8_t node);
void gy_sim_node_disk_low(struct gy_sim *sim, uint8_t node, bool low);
/* Whether it keeps the message. */
bool gy_sim_node_receive(struct gy_sim *sim, uint8_t node, struct gy_sim_message *message);
void gy_sim_node_fini(struct gy_sim *sim, uint8_t node);

#endif
