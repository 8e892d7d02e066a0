/* A run: a while of trouble, then everything is mended, and within HEAL_SECONDS_MAX every shard that still can must be as wished;
 * then clients stop, all must come to the same end, and what clients saw is judged. */
#include "world.h"

#include "faults.h"
#include "network.h"
#include "replica.h"

#include <stdarg.h>
#include <stdlib.h>

enum { HEAL_SECONDS_MAX = 90, LOOK_MS = 250, CHECK_ALL_MS = 5000, CLOCK_PPM_MAX = 50000 };

const char *gy_sim_endpoint_name(uint8_t endpoint)
{
    static const char *const names[GY_SIM_ENDPOINTS] = {"n0", "n1", "n2", "n3", "n4", "n5", "coordinator 0", "coordinator 1",
                                                        "client 0", "client 1", "client 2", "client 3", "client 4", "client 5",
                                                        "client 6", "client 7"};
    return names[endpoint];
}

bool gy_sim_up(const struct gy_sim *sim, uint8_t endpoint)
{
    if (endpoint < GY_SIM_FIRST_COORDINATOR)
        return sim->nodes[endpoint].up;
    return endpoint >= GY_SIM_FIRST_CLIENT || sim->coordinators[endpoint - GY_SIM_FIRST_COORDINATOR].up;
}

void gy_sim_after(struct gy_sim *sim, int64_t after_ns, uint8_t owner, gy_sim_run *run, uint32_t shard, uint64_t number,
                  void *object)
{
    gy_sim_events_push(&sim->events, (struct gy_sim_event){.at_ns = sim->now_ns + after_ns, .run = run, .object = object,
                                                           .number = number, .shard = shard, .owner = owner,
                                                           .life = owner == GY_SIM_NOBODY ? 0 : sim->life[owner]});
}

void gy_sim_after_to_replica(struct gy_sim *sim, int64_t after_ns, uint8_t owner, gy_sim_run *run, uint32_t shard,
                             uint64_t number)
{
    gy_sim_events_push(&sim->events, (struct gy_sim_event){.at_ns = sim->now_ns + after_ns, .run = run, .number = number,
                                                           .shard = shard, .owner = owner, .life = sim->life[owner],
                                                           .to_replica = true});
}

void gy_sim_write_trace(struct gy_sim *sim, const char *format, ...)
{
    fprintf(sim->trace, "[%10.6f] ", (double)sim->now_ns / 1e9);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(sim->trace, format, arguments);
    va_end(arguments);
    fputc('\n', sim->trace);
}

void gy_sim_fail(struct gy_sim *sim, const char *invariant, const char *format, ...)
{
    snprintf(sim->invariant, sizeof sim->invariant, "%s", invariant);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim->story, sizeof sim->story, format, arguments);
    va_end(arguments);
    sim->failed = true;
    GY_SIM_TRACE(sim, "%s: %s", sim->invariant, sim->story);
    longjmp(sim->out, 1);
}

/* ---- the loop ---- */

/* false: there is nothing more. */
static bool next(struct gy_sim *sim)
{
    struct gy_sim_event event;
    if (!gy_sim_events_pop(&sim->events, &event))
        return false;
    sim->now_ns = event.at_ns;
    if (event.owner != GY_SIM_NOBODY) {
        if (event.life != UINT32_MAX && event.life != sim->life[event.owner]) {
            free(event.object);
            return true;
        }
        int64_t later_ns = sim->frozen_until_ns[event.owner];
        if (event.to_replica && sim->weather.blocking) {
            const struct gy_sim_replica *replica = sim->nodes[event.owner].replicas[event.shard];
            if (replica && replica->io_until_ns > later_ns)
                later_ns = replica->io_until_ns;
        }
        if (later_ns > sim->now_ns) {
            event.at_ns = later_ns;
            gy_sim_events_push(&sim->events, event);
            return true;
        }
    }
    event.run(sim, &event);
    free(event.object);
    return true;
}

static void run_until(struct gy_sim *sim, int64_t until_ns)
{
    int64_t check_ns = sim->now_ns + gy_sim_ms(CHECK_ALL_MS);
    while (sim->events.count && sim->events.heap[0].at_ns <= until_ns) {
        next(sim);
        if (sim->now_ns >= check_ns) {
            gy_sim_check_all(sim);
            check_ns = sim->now_ns + gy_sim_ms(CHECK_ALL_MS);
        }
    }
    sim->now_ns = until_ns;
}

/* ---- a run ---- */

static void draw_cluster(struct gy_sim *sim)
{
    sim->node_count = 3 + (uint32_t)gy_sim_below(&sim->random, GY_SIM_NODES_MAX - 2);
    sim->coordinator_count = gy_sim_chance(&sim->random, 300) ? 2 : 1;
    sim->client_count = 1 + (uint32_t)gy_sim_below(&sim->random, GY_SIM_CLIENTS_MAX);
    sim->family_count = gy_sim_chance(&sim->random, 700) ? 1 : 1 + (uint32_t)gy_sim_below(&sim->random, GY_SIM_FAMILIES_MAX);
    sim->shard_count = sim->family_count;
    struct gy_plan_wish wish = {.copies = gy_sim_chance(&sim->random, 600) ? 3 : 1 + (uint32_t)gy_sim_below(&sim->random, 3)};
    wish.min_copies = (uint32_t)gy_sim_below(&sim->random, wish.copies + 1);
    if (wish.copies < sim->node_count && gy_sim_chance(&sim->random, 200))
        wish.quantized = 1;
    for (uint32_t s = 0; s < sim->shard_count; s++) {
        sim->wishes.shards[s] = wish;
        sim->families[s] = s;
        for (uint32_t key = 0; key < GY_SIM_KEYS; key++)
            sim->checks.owners[s][key] = s;
    }
    sim->wishes.replace_after_ns = gy_sim_between(&sim->random, gy_sim_ms(4000), gy_sim_ms(30000));
    for (uint32_t n = 0; n < sim->node_count; n++) {
        sim->nodes[n].clock_ppm = (int32_t)gy_sim_between(&sim->random, -CLOCK_PPM_MAX, CLOCK_PPM_MAX);
        sim->nodes[n].clock_offset_ns = gy_sim_between(&sim->random, 100 * GY_SECOND_NS, 1000 * GY_SECOND_NS);
    }
}

static const char *unsettled(struct gy_sim *sim, uint32_t *shard)
{
    const char *why;
    for (uint32_t s = 0; s < sim->shard_count; s++) {
        *shard = s;
        /* A split does not end without its child, nor a child begin without its parent. */
        uint32_t child = gy_sim_catalog_now(sim, s)->split.shard;
        bool never = (gy_sim_catalog_hidden(sim, s) && gy_sim_check_dead(sim, sim->parents[s])) ||
                     (child && child < sim->shard_count && gy_sim_check_dead(sim, child));
        if (!never && !gy_sim_check_dead(sim, s) && !gy_sim_check_settled(sim, s, &why))
            return why;
    }
    return NULL;
}

static void settle(struct gy_sim *sim, const char *invariant, int64_t until_ns)
{
    uint32_t shard;
    const char *why;
    while ((why = unsettled(sim, &shard)) && sim->now_ns < until_ns)
        run_until(sim, sim->now_ns + gy_sim_ms(LOOK_MS));
    for (uint8_t n = 0; why && n < sim->node_count; n++) {
        const struct gy_sim_replica *replica = sim->nodes[n].replicas[shard];
        if (replica)
            GY_SIM_TRACE(sim, "n%u shard %u member %u: epoch %llu, applied %llu, committed %llu, synced %llu, last %llu%s%s", n,
                         shard, replica->core.self, (unsigned long long)replica->core.config.epoch,
                         (unsigned long long)replica->core.applied, (unsigned long long)replica->core.committed,
                         (unsigned long long)replica->core.synced, (unsigned long long)replica->core.last,
                         gy_replica_core_primary(&replica->core) ? ", primary" : "", replica->io ? ", writes" : "");
    }
    if (why)
        gy_sim_fail(sim, invariant, "shard %u, %.1f s after everything was mended: %s", shard,
                    (double)(sim->now_ns - sim->heal_ns) / 1e9, why);
}

static bool clients_are_done(const struct gy_sim *sim)
{
    for (uint32_t c = 0; c < sim->client_count; c++)
        if (sim->clients[c].busy)
            return false;
    return true;
}

static void live(struct gy_sim *sim)
{
    draw_cluster(sim);
    gy_sim_coordinator_create(sim);
    gy_sim_faults_begin(sim);
    for (uint32_t c = 0; c < sim->coordinator_count; c++)
        gy_sim_coordinator_start(sim, (uint8_t)(GY_SIM_FIRST_COORDINATOR + c));
    for (uint8_t n = 0; n < sim->node_count; n++)
        gy_sim_node_start(sim, n);
    for (uint32_t c = 0; c < sim->client_count; c++)
        gy_sim_client_start(sim, (uint8_t)(GY_SIM_FIRST_CLIENT + c));
    sim->heal_ns = gy_sim_between(&sim->random, gy_sim_ms(20000), gy_sim_ms(150000));
    run_until(sim, sim->heal_ns);
    gy_sim_faults_heal(sim);
    settle(sim, "liveness", sim->heal_ns + HEAL_SECONDS_MAX * GY_SECOND_NS);
    sim->quiet = true;
    while (!clients_are_done(sim))
        run_until(sim, sim->now_ns + gy_sim_ms(LOOK_MS));
    settle(sim, "converge", sim->now_ns + 10 * GY_SECOND_NS);
    for (uint32_t s = 0; s < sim->shard_count; s++)
        sim->counts.dead_shards += gy_sim_check_dead(sim, s);
    gy_sim_check_all(sim);
    gy_sim_check_histories(sim);
}

bool gy_sim_run_seed(struct gy_sim *sim, uint64_t seed, gy_sim_plant plant, FILE *trace)
{
    memset(sim, 0, sizeof *sim);
    sim->seed = seed;
    sim->random = gy_sim_mix(seed ^ 0x67797265);
    sim->plant = plant;
    sim->trace = trace;
    if (setjmp(sim->out) == 0)
        live(sim);
    return !sim->failed;
}

void gy_sim_fini(struct gy_sim *sim)
{
    for (uint8_t n = 0; n < GY_SIM_NODES_MAX; n++)
        gy_sim_node_fini(sim, n);
    gy_sim_checks_fini(sim);
    gy_sim_catalog_fini(sim);
    gy_sim_events_fini(&sim->events);
    free(sim->scratch[0]);
    free(sim->scratch[1]);
}
