#include "state.h"

#include "random.h"

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

struct gy_sim_result gy_sim_state_apply(struct gy_sim_state *state, const struct gy_sim_entry *entry, bool forget_requests)
{
    state->seq++;
    struct gy_sim_result *known = &state->results[entry->client][entry->request % GY_SIM_WINDOW];
    if (known->request == entry->request && !forget_requests)
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
    uint64_t digest = 0;
    for (uint64_t key = 0; key < GY_SIM_KEYS; key++)
        digest ^= cell_digest(&state->cells[key], key);
    for (uint64_t client = 0; client < GY_SIM_CLIENTS_MAX; client++)
        for (int i = 0; i < GY_SIM_WINDOW; i++)
            digest ^= result_digest(&state->results[client][i], client);
    return digest;
}
