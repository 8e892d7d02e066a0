/* history: what clients saw of one key, and whether a single copy could have shown it (linearizability).
 *
 * A key is a register whose writes are all different. Then no search over orders is needed: group every write with the reads that
 * saw it. From its operation that ends first to the one that begins last the value was there (a forward zone), or, if these
 * overlap, it can have been there for one moment between them (a backward zone). The history is linearizable if and only if no
 * two forward zones overlap, and no backward zone lies within a forward one.
 * Source  Gibbons & Korach, "Testing shared memories", SIAM J. Comput. 26(4), 1997, section 3 */
#ifndef GY_SIM_HISTORY_H
#define GY_SIM_HISTORY_H

#include "state.h"

#include <stddef.h>

struct gy_sim;

typedef enum gy_sim_outcome {
    GY_SIM_DONE,
    GY_SIM_UNKNOWN, /* may have happened, may happen yet */
    GY_SIM_REFUSED, /* did not happen */
} gy_sim_outcome;

struct gy_sim_operation {
    uint64_t value;  /* written or read; 0: the key was never written */
    int64_t began_ns, ended_ns;
    bool reads;
    gy_sim_outcome outcome;
};

struct gy_sim_history {
    struct gy_sim_operation *operations; /* [room] */
    size_t count, room;
};

void gy_sim_history_write(struct gy_sim *sim, uint32_t family, const struct gy_sim_entry *entry, int64_t began_ns,
                          gy_sim_outcome outcome);
void gy_sim_history_read(struct gy_sim *sim, uint32_t family, uint8_t key, uint64_t value, int64_t began_ns);
/* Fails the run if it is not linearizable. Writes that nobody heard the end of must have been recorded. O(n log n). */
void gy_sim_history_check(struct gy_sim *sim, uint32_t family, uint32_t key);

#endif
