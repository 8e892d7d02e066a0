/* choose: which of a shard's members each shard of a request is asked of.
 *
 * Better ranks go first whatever their load. Among the members of a shard's best rank those count whose nodes are expected to
 * answer about as soon as the best of them; of these nodes as few as possible are taken, so that a request costs few messages,
 * and they take turns.
 * Pure: the same input gives the same choice. Threads  none */
#ifndef GY_CHOOSE_H
#define GY_CHOOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gy_choice_member {
    uint32_t node; /* its place in expected_ns */
    uint32_t rank; /* smaller is better */
};

struct gy_choice_shard {
    const struct gy_choice_member *members; /* [count], at least one */
    size_t count;
    size_t chosen; /* out: place in members */
};

/* Loads are alike up to half more, and up to this: less than what a message costs. */
#define GY_ALIKE_NS 200000

/*   expected_ns  [node_count] when each node is expected to answer
 *   turn         of nodes that are otherwise equal the one at turn mod node_count goes first, then those behind it
 * O(nodes · shards · members); allocates nothing. */
void gy_choose(const int64_t *expected_ns, size_t node_count, struct gy_choice_shard *shards, size_t shard_count, uint64_t turn);

#endif
