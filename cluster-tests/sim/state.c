#include "state.h"

#include "random.h"

#include <string.h>

static uint64_t cell_digest(const struct gy_sim_cell *cell, uint64_t key)
{
    return cell->value ? gy_sim_mix(cell->value * 31 + cell->seq * 7 + cell->present + key * 0x9e3779b97f4a7c15u) : 0;
}

static uint64_t result_digest(const struct gy_sim_result *result, uint64_t client)
{
    return result->request
               ? gy_sim_mix(((uint64_t)result->request << 32 | result->seq) ^ gy_sim_mix(client * 2 + 3 + result->existed))
               : 0;
}

static uint64_t range_digest(struct gy_hash_range range, uint64_t which)
{
    return gy_range_is_all(range) ? 0 : gy_sim_mix(range.first ^ gy_sim_mix(range.last + which));
}

static uint64_t ranges_digest(const struct gy_sim_state *state)
{
    return range_digest(state->owned, 1) ^ range_digest(state->content, 2);
}

static struct gy_hash_range common(struct gy_hash_range a, struct gy_hash_range b)
{
    if (gy_range_is_all(a) || gy_range_is_all(b))
        return gy_range_is_all(a) ? b : a;
    return (struct gy_hash_range){a.first > b.first ? a.first : b.first, a.last < b.last ? a.last : b.last};
}

static void forget(struct gy_sim_state *state, uint32_t key)
{
    if (key < GY_SIM_KEYS && !gy_sim_state_owns(state, key)) {
        state->digest ^= cell_digest(&state->cells[key], key);
        state->cells[key] = (struct gy_sim_cell){0};
    }
    state->content = state->owned;
}

struct gy_sim_result gy_sim_state_apply(struct gy_sim_state *state, const struct gy_sim_entry *entry, gy_sim_plant plant)
{
    state->seq++;
    if (entry->kind != GY_SIM_ENTRY_WRITE) {
        state->digest ^= ranges_digest(state);
        if (entry->kind == GY_SIM_ENTRY_NARROW)
            state->owned = common(state->owned, entry->range);
        else
            forget(state, entry->key);
        state->digest ^= ranges_digest(state);
        return (struct gy_sim_result){.seq = (uint32_t)state->seq};
    }
    if (!gy_sim_state_owns(state, entry->key) && plant != GY_PLANT_OWNED_AT_SUBMIT)
        return (struct gy_sim_result){.request = entry->request, .seq = (uint32_t)state->seq, .aborted = true};
    struct gy_sim_result *known = &state->results[entry->client][entry->request % GY_SIM_WINDOW];
    if (known->request == entry->request && plant != GY_PLANT_NO_WINDOW)
        return *known;
    struct gy_sim_cell *cell = &state->cells[entry->key];
    struct gy_sim_result result = {.request = entry->request, .seq = (uint32_t)state->seq, .existed = cell->present};
    state->digest ^= cell_digest(cell, entry->key) ^ result_digest(known, entry->client);
    *cell = (struct gy_sim_cell){gy_sim_value(entry->client, entry->request), state->seq, !entry->deletes};
    *known = result;
    state->digest ^= cell_digest(cell, entry->key) ^ result_digest(known, entry->client);
    return result;
}

uint64_t gy_sim_state_digest(const struct gy_sim_state *state)
{
    uint64_t digest = ranges_digest(state);
    for (uint64_t key = 0; key < GY_SIM_KEYS; key++)
        digest ^= cell_digest(&state->cells[key], key);
    for (uint64_t client = 0; client < GY_SIM_CLIENTS_MAX; client++)
        for (int i = 0; i < GY_SIM_WINDOW; i++)
            digest ^= result_digest(&state->results[client][i], client);
    return digest;
}

void gy_sim_state_split(struct gy_sim_state *child, const struct gy_sim_state *state, const struct gy_sim_entry *narrowing,
                        gy_sim_plant plant)
{
    uint64_t last = gy_range_is_all(state->owned) ? UINT64_MAX : state->owned.last;
    *child = *state;
    child->seq++;
    child->owned = child->content = (struct gy_hash_range){narrowing->range.last + 1, last};
    if (plant == GY_PLANT_NO_CHILD_WINDOW)
        memset(child->results, 0, sizeof child->results);
    child->digest = gy_sim_state_digest(child);
}

uint32_t gy_sim_state_foreign(const struct gy_sim_state *state)
{
    uint32_t key = 0;
    while (key < GY_SIM_KEYS && (state->cells[key].value == 0 || gy_sim_state_owns(state, key)))
        key++;
    return key;
}
