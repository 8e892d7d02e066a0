#include "faults.h"

#include "world.h"

static int64_t some_ms(struct gy_sim *sim, int64_t low, int64_t high)
{
    return gy_sim_between(&sim->random, gy_sim_ms(low), gy_sim_ms(high));
}

/* Never, rare, usual, frequent, all the time. */
static int64_t gap_ns(struct gy_sim *sim, int64_t usual_s)
{
    switch (gy_sim_below(&sim->random, 10)) {
    case 0:
    case 1: return 0;
    case 2:
    case 3: return usual_s * 3 * GY_SECOND_NS;
    case 4:
    case 5: return usual_s * GY_SECOND_NS / 4;
    case 6: return usual_s * GY_SECOND_NS / 16;
    default: return usual_s * GY_SECOND_NS;
    }
}

static void draw_weather(struct gy_sim *sim)
{
    static const uint32_t rates[] = {0, 0, 2, 20, 100};
    struct gy_sim_weather *weather = &sim->weather;
    weather->drop = rates[gy_sim_below(&sim->random, 5)];
    weather->duplicate = rates[gy_sim_below(&sim->random, 5)];
    weather->late = rates[gy_sim_below(&sim->random, 5)];
    weather->delay_ns = some_ms(sim, 1, 20);
    weather->late_ns = some_ms(sim, 50, 5000);
    weather->sync_ns = gy_sim_chance(&sim->random, 800) ? some_ms(sim, 1, 10) : some_ms(sim, 10, 200);
    weather->sync_fails = gy_sim_chance(&sim->random, 300) ? 100 : 0;
    weather->crash_gap_ns = gap_ns(sim, 15);
    weather->cut_gap_ns = gap_ns(sim, 15);
    weather->freeze_gap_ns = gap_ns(sim, 20);
    weather->damage_gap_ns = gap_ns(sim, 60);
    weather->full_gap_ns = gap_ns(sim, 60);
    weather->coordinator_gap_ns = gap_ns(sim, 30);
    weather->catalog_gap_ns = gap_ns(sim, 30);
    weather->operator_gap_ns = gap_ns(sim, 20);
    weather->jump_gap_ns = gap_ns(sim, 60);
    weather->split_gap_ns = gap_ns(sim, 20);
    weather->trouble_ns = some_ms(sim, 500, 10000);
    weather->call_ns = some_ms(sim, 200, 1500);
    weather->log_keep = gy_sim_chance(&sim->random, 800) ? (uint32_t)gy_sim_below(&sim->random, 40) : 100000;
    weather->blocking = gy_sim_chance(&sim->random, 700);
}

static uint8_t any_node(struct gy_sim *sim) { return (uint8_t)gy_sim_below(&sim->random, sim->node_count); }
static uint8_t any_coordinator(struct gy_sim *sim)
{
    return (uint8_t)(GY_SIM_FIRST_COORDINATOR + gy_sim_below(&sim->random, sim->coordinator_count));
}
static int64_t lasts_ns(struct gy_sim *sim) { return gy_sim_between(&sim->random, 1, sim->weather.trouble_ns); }

/* ---- each kind ---- */

static void start_node(struct gy_sim *sim, struct gy_sim_event *event) { gy_sim_node_start(sim, (uint8_t)event->number); }

static void crash(struct gy_sim *sim)
{
    uint8_t node = any_node(sim);
    if (gy_sim_chance(&sim->random, 200))
        gy_sim_node_stop(sim, node);
    else
        gy_sim_node_crash(sim, node);
    gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, start_node, 0, node, NULL);
    if (gy_sim_chance(&sim->random, 50)) /* the power of all of them */
        for (uint8_t n = 0; n < sim->node_count; n++) {
            gy_sim_node_crash(sim, n);
            gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, start_node, 0, n, NULL);
        }
}

static void mend_cuts(struct gy_sim *sim, struct gy_sim_event *event)
{
    (void)event;
    if (--sim->cuts > 0)
        return; /* cuts overlap: the last one to end mends all */
    memset(sim->loss, 0, sizeof sim->loss);
}

/* How much of what goes between two endpoints the trouble around `one` loses, in which directions; per mille. */
struct loss {
    uint16_t out, in;
};
typedef enum cut_shape {
    CUT_SOME_LINKS,
    CUT_INWARDS,
    CUT_OUTWARDS,
    CUT_FROM_HOUSE,        /* not from clients */
    CUT_FROM_COORDINATORS, /* it is well, and taken for dead */
    CUT_FROM_COORDINATORS_AND_SOME,
    CUT_SHAPES,
} cut_shape;

static struct loss loss_of(struct gy_sim *sim, cut_shape shape, uint16_t lossy, uint8_t one, uint8_t other)
{
    bool node_to_node = other < GY_SIM_FIRST_COORDINATOR && one < GY_SIM_FIRST_COORDINATOR;
    bool client = other >= GY_SIM_FIRST_CLIENT;
    switch (shape) {
    case CUT_INWARDS: return (struct loss){0, 1000};
    case CUT_OUTWARDS: return (struct loss){1000, 0};
    case CUT_SOME_LINKS: return gy_sim_chance(&sim->random, 300) ? (struct loss){1000, 1000} : (struct loss){0, 0};
    case CUT_FROM_HOUSE: return client ? (struct loss){0, 0} : (struct loss){1000, 1000};
    case CUT_FROM_COORDINATORS:
        return client ? (struct loss){0, 0} : node_to_node ? (struct loss){lossy, lossy} : (struct loss){1000, 1000};
    case CUT_FROM_COORDINATORS_AND_SOME:
        return client || (node_to_node && gy_sim_chance(&sim->random, 500)) ? (struct loss){0, 0} : (struct loss){1000, 1000};
    case CUT_SHAPES: break;
    }
    return (struct loss){0, 0};
}

static void cut(struct gy_sim *sim)
{
    uint8_t one = gy_sim_chance(&sim->random, 800) ? any_node(sim) : any_coordinator(sim);
    cut_shape shape = (cut_shape)gy_sim_below(&sim->random, CUT_SHAPES);
    uint16_t lossy = (uint16_t)(gy_sim_below(&sim->random, 3) * 300);
    for (uint8_t other = 0; other < GY_SIM_ENDPOINTS; other++) {
        struct loss loss = loss_of(sim, shape, lossy, one, other);
        if (other != one && loss.out > sim->loss[one][other])
            sim->loss[one][other] = loss.out;
        if (other != one && loss.in > sim->loss[other][one])
            sim->loss[other][one] = loss.in;
    }
    sim->cuts++;
    sim->counts.cuts++;
    GY_SIM_TRACE(sim, "%s is cut off, shape %d", gy_sim_endpoint_name(one), (int)shape);
    gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, mend_cuts, 0, 0, NULL);
}

static void freeze(struct gy_sim *sim)
{
    uint8_t one = gy_sim_chance(&sim->random, 800) ? any_node(sim) : any_coordinator(sim);
    if (!gy_sim_up(sim, one))
        return;
    sim->frozen_until_ns[one] = sim->now_ns + lasts_ns(sim);
    GY_SIM_TRACE(sim, "%s stands still until %.3f s", gy_sim_endpoint_name(one), (double)sim->frozen_until_ns[one] / 1e9);
}

/* Whether there is a whole one in sync on another node; of what a split has made and nobody has taken: one on another node. */
static bool another_has(const struct gy_sim *sim, uint8_t node, uint32_t shard)
{
    bool another = false;
    for (uint8_t n = 0; shard >= sim->shard_count && n < sim->node_count; n++)
        another |= n != node && sim->nodes[n].disks[shard].exists;
    if (shard >= sim->shard_count)
        return another;
    const struct gy_sim_disk *disk = &sim->nodes[node].disks[shard];
    const struct gy_shard_config *config = gy_sim_catalog_now(sim, shard);
    for (uint32_t i = 0; i < config->member_count; i++) {
        const struct gy_member *member = &config->members[i];
        const struct gy_sim_disk *its = &sim->nodes[gy_sim_node_named(member->node)].disks[shard];
        another |= member->in_sync && its != disk && its->exists && its->member == member->id && !its->damaged;
    }
    return another;
}

/* Never the last whole one in sync: no protocol could help then. */
static void damage(struct gy_sim *sim)
{
    uint8_t node = any_node(sim);
    uint32_t shard = (uint32_t)gy_sim_below(&sim->random, sim->shard_count);
    const struct gy_sim_disk *disk = &sim->nodes[node].disks[shard];
    if (!disk->exists || disk->damaged || !another_has(sim, node, shard))
        return;
    if (gy_sim_chance(&sim->random, 700)) {
        gy_sim_node_damage(sim, node, shard);
        return;
    }
    for (uint32_t s = 0; s < GY_SIM_SHARDS_MAX; s++)
        if (sim->nodes[node].disks[s].exists && !another_has(sim, node, s))
            return;
    gy_sim_node_wipe(sim, node);
    gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, start_node, 0, node, NULL);
}

static void disk_ok(struct gy_sim *sim, struct gy_sim_event *event) { gy_sim_node_disk_low(sim, (uint8_t)event->number, false); }

static void fill_disk(struct gy_sim *sim)
{
    uint8_t node = any_node(sim);
    if (sim->nodes[node].disk_low)
        return;
    gy_sim_node_disk_low(sim, node, true);
    gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, disk_ok, 0, node, NULL);
}

static void start_coordinator(struct gy_sim *sim, struct gy_sim_event *event)
{
    gy_sim_coordinator_start(sim, (uint8_t)event->number);
}

static void crash_coordinator(struct gy_sim *sim)
{
    uint8_t one = any_coordinator(sim);
    if (gy_sim_up(sim, one))
        gy_sim_coordinator_crash(sim, one);
    gy_sim_after(sim, lasts_ns(sim), GY_SIM_NOBODY, start_coordinator, 0, one, NULL);
}

static void take_catalog_away(struct gy_sim *sim)
{
    sim->catalog.away_until_ns = sim->now_ns + lasts_ns(sim);
    GY_SIM_TRACE(sim, "the catalog is away until %.3f s", (double)sim->catalog.away_until_ns / 1e9);
}

static void jump(struct gy_sim *sim)
{
    uint8_t one = any_coordinator(sim);
    sim->coordinators[one - GY_SIM_FIRST_COORDINATOR].clock_jump_ns += some_ms(sim, -10000, 10000);
    GY_SIM_TRACE(sim, "the clock of %s jumps", gy_sim_endpoint_name(one));
}

/* What people wish for: other numbers of copies, drains, moves. */
static void operate(struct gy_sim *sim)
{
    uint32_t shard = (uint32_t)gy_sim_below(&sim->random, sim->shard_count);
    struct gy_plan_wish *wish = &sim->wishes.shards[shard];
    switch (gy_sim_below(&sim->random, 4)) {
    case 0:
        wish->copies = 1 + (uint32_t)gy_sim_below(&sim->random, sim->node_count < 4 ? sim->node_count : 4);
        wish->min_copies = (uint32_t)gy_sim_below(&sim->random, wish->copies + 1);
        if (wish->quantized + wish->copies > sim->node_count)
            wish->quantized = 0;
        GY_SIM_TRACE(sim, "wish: shard %u has %u copies, %u of them at least", shard, wish->copies, wish->min_copies);
        break;
    case 1:
        if (wish->copies < sim->node_count)
            wish->quantized = (uint32_t)gy_sim_below(&sim->random, 2);
        GY_SIM_TRACE(sim, "wish: shard %u has %u quantized copies", shard, wish->quantized);
        break;
    case 2: {
        uint8_t node = any_node(sim);
        sim->wishes.draining[node] ^= true;
        GY_SIM_TRACE(sim, "wish: n%u %s", node, sim->wishes.draining[node] ? "drains" : "drains no longer");
        break;
    }
    default:
        gy_sim_coordinator_move(sim, any_coordinator(sim), shard, any_node(sim), any_node(sim));
    }
}

static void split(struct gy_sim *sim)
{
    gy_sim_coordinator_split(sim, any_coordinator(sim), (uint32_t)gy_sim_below(&sim->random, sim->shard_count));
}

/* ---- all ---- */

static const struct {
    void (*strike)(struct gy_sim *sim);
    size_t gap; /* where in the weather its mean gap is */
} kinds[] = {
    {crash, offsetof(struct gy_sim_weather, crash_gap_ns)},
    {cut, offsetof(struct gy_sim_weather, cut_gap_ns)},
    {freeze, offsetof(struct gy_sim_weather, freeze_gap_ns)},
    {damage, offsetof(struct gy_sim_weather, damage_gap_ns)},
    {fill_disk, offsetof(struct gy_sim_weather, full_gap_ns)},
    {crash_coordinator, offsetof(struct gy_sim_weather, coordinator_gap_ns)},
    {take_catalog_away, offsetof(struct gy_sim_weather, catalog_gap_ns)},
    {jump, offsetof(struct gy_sim_weather, jump_gap_ns)},
    {operate, offsetof(struct gy_sim_weather, operator_gap_ns)},
    {split, offsetof(struct gy_sim_weather, split_gap_ns)},
};

static void strike(struct gy_sim *sim, struct gy_sim_event *event);

static void schedule(struct gy_sim *sim, size_t kind)
{
    int64_t mean_ns;
    memcpy(&mean_ns, (const char *)&sim->weather + kinds[kind].gap, sizeof mean_ns);
    if (mean_ns)
        gy_sim_after(sim, gy_sim_between(&sim->random, 1, mean_ns * 2), GY_SIM_NOBODY, strike, 0, kind, NULL);
}

static void strike(struct gy_sim *sim, struct gy_sim_event *event)
{
    if (sim->healed)
        return;
    kinds[event->number].strike(sim);
    schedule(sim, event->number);
}

void gy_sim_faults_begin(struct gy_sim *sim)
{
    draw_weather(sim);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
        schedule(sim, kind);
}

void gy_sim_faults_heal(struct gy_sim *sim)
{
    GY_SIM_TRACE(sim, "everything is mended");
    sim->healed = true;
    sim->catalog.away_until_ns = 0;
    memset(sim->loss, 0, sizeof sim->loss);
    memset(sim->frozen_until_ns, 0, sizeof sim->frozen_until_ns);
    memset(sim->wishes.draining, 0, sizeof sim->wishes.draining);
    for (uint8_t n = 0; n < sim->node_count; n++) {
        if (sim->nodes[n].disk_low)
            gy_sim_node_disk_low(sim, n, false);
        if (sim->nodes[n].stopping)
            gy_sim_node_crash(sim, n);
        gy_sim_node_start(sim, n);
    }
    for (uint32_t c = 0; c < sim->coordinator_count; c++)
        gy_sim_coordinator_start(sim, (uint8_t)(GY_SIM_FIRST_COORDINATOR + c));
}
