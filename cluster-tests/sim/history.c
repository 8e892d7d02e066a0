#include "history.h"

#include "world.h"

#include <stdlib.h>

typedef unsigned long long ull;

static void add(struct gy_sim_history *history, struct gy_sim_operation operation)
{
    if (history->count == history->room) {
        history->room = history->room ? history->room * 2 : 64;
        history->operations = realloc(history->operations, history->room * sizeof *history->operations);
        if (!history->operations)
            abort();
    }
    history->operations[history->count++] = operation;
}

void gy_sim_history_write(struct gy_sim *sim, uint32_t family, const struct gy_sim_entry *entry, int64_t began_ns,
                          gy_sim_outcome outcome)
{
    GY_SIM_TRACE(sim, "client %u request %u: %s of key %u in collection %u %s", entry->client, entry->request,
                 entry->deletes ? "delete" : "upsert", entry->key, family,
                 outcome == GY_SIM_DONE ? "done" : outcome == GY_SIM_UNKNOWN ? "unknown" : "refused");
    sim->counts.writes += outcome == GY_SIM_DONE;
    sim->counts.unknown += outcome == GY_SIM_UNKNOWN;
    add(&sim->checks.histories[family][entry->key],
        (struct gy_sim_operation){.value = gy_sim_value(entry->client, entry->request), .began_ns = began_ns,
                                  .ended_ns = outcome == GY_SIM_DONE ? sim->now_ns : INT64_MAX, .outcome = outcome});
}

void gy_sim_history_read(struct gy_sim *sim, uint32_t family, uint8_t key, uint64_t value, int64_t began_ns)
{
    GY_SIM_TRACE(sim, "get of key %u in collection %u, begun at %.3f s, saw request %u of client %d", key, family,
                 (double)began_ns / 1e9, (uint32_t)value, (int)(value >> 32) - 1);
    sim->counts.gets++;
    add(&sim->checks.histories[family][key],
        (struct gy_sim_operation){.value = value, .began_ns = began_ns, .ended_ns = sim->now_ns, .reads = true});
}

/* The operations of one value. */
struct zone {
    int64_t from_ns, to_ns;
    uint64_t value;
};

static int by_value(const void *left, const void *right)
{
    const struct gy_sim_operation *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return (int)a->reads - (int)b->reads; /* the write first */
}

static int by_begin(const void *left, const void *right)
{
    const struct zone *a = left, *b = right;
    return a->from_ns < b->from_ns ? -1 : a->from_ns > b->from_ns;
}

static void say_who(char *out, size_t bytes, uint64_t value)
{
    if (value)
        snprintf(out, bytes, "request %u of client %u", (uint32_t)value, (uint32_t)(value >> 32) - 1);
    else
        snprintf(out, bytes, "nothing");
}

static _Noreturn void fail_zones(struct gy_sim *sim, uint32_t family, uint32_t key, const struct zone *a, const struct zone *b)
{
    char first[48], second[48];
    say_who(first, sizeof first, a->value);
    say_who(second, sizeof second, b->value);
    gy_sim_fail(sim, "linearizable",
                "collection %u key %u: it was what %s wrote from %.6f to %.6f s, and what %s wrote between %.6f and %.6f s",
                family, key, first, (double)a->from_ns / 1e9, (double)a->to_ns / 1e9, second, (double)b->from_ns / 1e9,
                (double)b->to_ns / 1e9);
}

/* The zone of operations[0 … count-1], all of one value. false: it is of no consequence. */
static bool zone_of(struct gy_sim *sim, uint32_t family, uint32_t key, const struct gy_sim_operation *operations, size_t count,
                    struct zone *out, bool *forward)
{
    int64_t first_end_ns = INT64_MAX, last_begin_ns = INT64_MIN;
    uint64_t value = operations[0].value;
    bool written = !operations[0].reads;
    if (value == 0) /* there from the start */
        first_end_ns = last_begin_ns = -1;
    else if (!written || (count > 1 && operations[0].outcome == GY_SIM_REFUSED))
        gy_sim_fail(sim, "linearizable", "collection %u key %u: a read saw request %u of client %u, which %s", family, key,
                    (uint32_t)value, (uint32_t)(value >> 32) - 1, written ? "was refused" : "was never sent");
    for (size_t i = 0; i < count; i++) {
        if (value && operations[i].ended_ns < operations[0].began_ns)
            gy_sim_fail(sim, "linearizable", "collection %u key %u: a read saw a write before it was sent", family, key);
        first_end_ns = operations[i].ended_ns < first_end_ns ? operations[i].ended_ns : first_end_ns;
        last_begin_ns = operations[i].began_ns > last_begin_ns ? operations[i].began_ns : last_begin_ns;
    }
    if (first_end_ns == INT64_MAX)
        return false; /* not known to have happened, and nobody saw it */
    *forward = first_end_ns < last_begin_ns;
    *out = *forward ? (struct zone){first_end_ns, last_begin_ns, value} : (struct zone){last_begin_ns, first_end_ns, value};
    return true;
}

void gy_sim_history_check(struct gy_sim *sim, uint32_t family, uint32_t key)
{
    struct gy_sim_history *history = &sim->checks.histories[family][key];
    struct gy_sim_operation *operations = history->operations;
    if (history->count == 0)
        return;
    qsort(operations, history->count, sizeof *operations, by_value);
    struct zone *forward = calloc(history->count, sizeof *forward), *backward = calloc(history->count, sizeof *backward);
    if (!forward || !backward)
        abort();
    sim->scratch[0] = forward; /* freed with the run, which may end in here */
    sim->scratch[1] = backward;
    size_t forward_count = 0, backward_count = 0;
    for (size_t i = 0, next; i < history->count; i = next) {
        for (next = i + 1; next < history->count && operations[next].value == operations[i].value;)
            next++;
        struct zone zone;
        bool is_forward;
        if (!zone_of(sim, family, key, operations + i, next - i, &zone, &is_forward))
            continue;
        if (is_forward)
            forward[forward_count++] = zone;
        else
            backward[backward_count++] = zone;
    }
    qsort(forward, forward_count, sizeof *forward, by_begin);
    for (size_t i = 1; i < forward_count; i++)
        if (forward[i].from_ns < forward[i - 1].to_ns)
            fail_zones(sim, family, key, &forward[i - 1], &forward[i]);
    qsort(backward, backward_count, sizeof *backward, by_begin);
    for (size_t i = 0, f = 0; i < backward_count; i++) { /* forward zones do not overlap: only the last one begun can hold it */
        while (f + 1 < forward_count && forward[f + 1].from_ns < backward[i].from_ns)
            f++;
        if (f < forward_count && forward[f].from_ns < backward[i].from_ns && forward[f].to_ns > backward[i].to_ns)
            fail_zones(sim, family, key, &forward[f], &backward[i]);
    }
    free(forward);
    free(backward);
    sim->scratch[0] = sim->scratch[1] = NULL;
}
