/* clients: what people do: write, delete, read, search, one thing at a time each, with the same request number until they know
 * or give up. What they saw goes into the histories (history.h). */
#ifndef GY_SIM_CLIENTS_H
#define GY_SIM_CLIENTS_H

#include "catalog.h"
#include "state.h"

struct gy_sim;
struct gy_sim_message;

typedef enum gy_sim_want { GY_SIM_WANT_WRITE, GY_SIM_WANT_GET, GY_SIM_WANT_SEARCH } gy_sim_want;

struct gy_sim_client {
    uint32_t request;
    const struct gy_shard_config *routes[GY_SIM_SHARDS_MAX]; /* NULL: there is none that it knows of */
    bool routed;
    uint64_t token[GY_SIM_SHARDS_MAX];             /* newest seq it was acknowledged */
    uint64_t seen[GY_SIM_FAMILIES_MAX][GY_SIM_KEYS]; /* seq of its newest acknowledged write of the key */
    /* What it is at. */
    bool busy, unknown; /* unknown: an attempt may have happened */
    gy_sim_want want;
    uint32_t family, shard;
    struct gy_sim_entry entry;
    int64_t began_ns, until_ns;
    uint64_t call;
    int64_t gap_ns; /* between two things, at most */
};

void gy_sim_client_start(struct gy_sim *sim, uint8_t endpoint);
void gy_sim_client_receive(struct gy_sim *sim, struct gy_sim_message *message);

#endif
