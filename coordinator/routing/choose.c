/* The nodes are taken one by one, as in the greedy cover of sets: whoever serves most of the shards that have none yet (which
 * needs at most ln(shards) + 1 times the nodes of the best cover: Chvatal, "A Greedy Heuristic for the Set-Covering Problem",
 * 1979). */
#include "routing/choose.h"

static const size_t unchosen = SIZE_MAX;

/* When the quickest of the best rank is expected to answer, and which rank that is. */
static int64_t best_of(const struct gy_choice_shard *shard, const int64_t *expected_ns, uint32_t *rank)
{
    int64_t best_ns = INT64_MAX;
    *rank = UINT32_MAX;
    for (size_t m = 0; m < shard->count; m++) {
        const struct gy_choice_member *member = &shard->members[m];
        if (member->rank > *rank)
            continue;
        if (member->rank < *rank)
            best_ns = INT64_MAX;
        *rank = member->rank;
        best_ns = expected_ns[member->node] < best_ns ? expected_ns[member->node] : best_ns;
    }
    return best_ns;
}

/* Clearly: what is alike is left to the turn, or the one that was a little quicker lately would get everything. */
static bool is_slower(int64_t ns, int64_t than_ns)
{
    return ns - than_ns > than_ns / 2 + GY_ALIKE_NS;
}

/* The member of the shard that is on the node, if it may serve: unchosen if not. */
static size_t servant(const struct gy_choice_shard *shard, const int64_t *expected_ns, size_t node)
{
    uint32_t rank;
    int64_t best_ns = best_of(shard, expected_ns, &rank);
    if (is_slower(expected_ns[node], best_ns))
        return unchosen;
    for (size_t m = 0; m < shard->count; m++)
        if (shard->members[m].node == node && shard->members[m].rank == rank)
            return m;
    return unchosen;
}

static size_t count_served(const struct gy_choice_shard *shards, size_t shard_count, const int64_t *expected_ns, size_t node)
{
    size_t served = 0;
    for (size_t s = 0; s < shard_count; s++)
        served += shards[s].chosen == unchosen && servant(&shards[s], expected_ns, node) != unchosen;
    return served;
}

void gy_choose(const int64_t *expected_ns, size_t node_count, struct gy_choice_shard *shards, size_t shard_count, uint64_t turn)
{
    for (size_t s = 0; s < shard_count; s++)
        shards[s].chosen = unchosen;
    for (size_t left = shard_count; left > 0;) {
        size_t best = 0, best_served = 0;
        for (size_t i = 0; i < node_count; i++) {
            size_t node = (i + turn % node_count) % node_count, served = count_served(shards, shard_count, expected_ns, node);
            if (served > best_served || (served && served == best_served && is_slower(expected_ns[best], expected_ns[node])))
                best = node, best_served = served;
        }
        for (size_t s = 0; s < shard_count; s++)
            if (shards[s].chosen == unchosen)
                shards[s].chosen = servant(&shards[s], expected_ns, best);
        left -= best_served;
    }
}
