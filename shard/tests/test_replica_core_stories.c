/* Random stories of 3 to 5 cores, a catalog with compare-and-set, a network that loses, doubles, delays and reorders; processes
 * crash and keep what was synced, stand still, close, trim; the coordinator promotes whom it likes within the in-sync set.
 *
 * After every step: the cores' invariants; nobody commits another entry than the first who committed that seq; every in-sync
 * member of the catalog's configuration has all that was acknowledged; who may serve reads has applied it. Once the faults stop,
 * the shard takes a write again. GYRE_SEED=n tells one story again, with GYRE_STORIES=m so many from there. */
#include "replica_core_fixture.h"

#include <string.h>

enum { NODES_MAX = 5, LOG = 512, BAG = 64, CARRIED = 5, GROUP_MAX = 6, TOKENS_MAX = LOG, STEPS = 1500 };

struct entry {
    uint64_t epoch, token;
};

struct message {
    enum { NONE, APPEND, REPLY, ASK, CONFIG } kind;
    uint32_t from, to;
    uint64_t asker; /* process that is answered */
    bool with_config;
    struct gy_append append;
    struct entry entries[CARRIED];
    struct gy_shard_config config;
    struct gy_append_reply reply;
    struct gy_replica_action wish;
};

struct node {
    gy_replica_core core;
    bool up;
    uint64_t process; /* another with each start */
    /* On disk: entries of seqs base + 1 … last, and the epoch of entry base. */
    struct entry log[LOG];
    uint64_t base, last, flushed;
    struct gy_shard_config config;
    /* Under way: the I/O, with the entries to be written; the append being answered; from whom it is restored. */
    struct gy_replica_action io;
    struct entry pending[GROUP_MAX];
    struct message held;
    uint32_t restoring_from;
    int64_t asked_ns;
};

static struct {
    uint32_t node_count;
    struct node nodes[NODES_MAX + 1]; /* [id] */
    struct message bag[BAG];
    struct gy_shard_config catalog;
    int64_t now_ns;
    uint64_t processes, tokens;
    bool answered[TOKENS_MAX];
    struct entry truth[LOG]; /* as first committed */
    uint64_t acknowledged;   /* highest seq */
    uint64_t trouble; /* of 30: how often something goes wrong */
    bool calm;
} world;

static uint64_t story_seed, random_state;
static struct gy_replica_actions actions;
/* What the stories came to, so that one can see that they do. */
static struct {
    uint64_t acknowledged, promoted, joined, left, restored, cut, leased;
} tally;

#define CHECK(condition)                                                                                                        \
    do {                                                                                                                        \
        if (!(condition))                                                                                                       \
            fail_msg("GYRE_SEED=%" PRIu64 ": %s", story_seed, #condition);                                                      \
    } while (0)

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

/* ---- what must hold ---- */

static void check_node(const struct node *node, uint64_t committed_before)
{
    const char *why;
    if (!gy_replica_core_check(&node->core, &why))
        fail_msg("GYRE_SEED=%" PRIu64 ": member %u: %s", story_seed, node->core.self, why);
    for (uint64_t seq = committed_before + 1; seq <= node->core.committed; seq++) {
        if (seq <= node->base)
            continue;
        if (!world.truth[seq].epoch)
            world.truth[seq] = node->log[seq];
        CHECK(world.truth[seq].epoch == node->log[seq].epoch && world.truth[seq].token == node->log[seq].token);
    }
    if (gy_replica_core_lease_ns(&node->core) > world.now_ns) {
        CHECK(node->core.applied >= world.acknowledged);
        tally.leased++;
    }
}

static void check_in_sync(void)
{
    for (uint32_t id = 1; id <= world.node_count; id++) {
        const struct node *node = &world.nodes[id];
        if (!gy_config_member(&world.catalog, id)->in_sync)
            continue;
        CHECK(node->last >= world.acknowledged);
        for (uint64_t seq = node->base + 1; seq <= world.acknowledged; seq++)
            CHECK(node->log[seq].token == world.truth[seq].token && node->log[seq].epoch == world.truth[seq].epoch);
    }
}

/* ---- a node ---- */

static void tell(struct node *node, struct gy_replica_event event);

static void post(struct message message)
{
    size_t at = 0;
    while (at < BAG && world.bag[at].kind)
        at++;
    if (at == BAG)
        at = random_below(BAG); /* lost, as messages are */
    world.bag[at] = message;
}

static void crash(struct node *node)
{
    node->up = false;
    node->io.kind = GY_DO_REPLY;
    node->restoring_from = 0;
}

static void send_append(struct node *node, const struct gy_replica_action *action)
{
    struct message message = {.kind = APPEND, .from = node->core.self, .to = action->member, .asker = node->process,
                              .append = action->append, .with_config = action->with_config, .config = node->core.config};
    uint64_t count = action->upto - action->append.prev_seq;
    message.append.count = count > CARRIED ? 1 + random_below(CARRIED) : count;
    for (size_t i = 0; i < message.append.count; i++) {
        uint64_t seq = action->append.prev_seq + 1 + i;
        CHECK(seq > node->base && seq <= node->last);
        message.entries[i] = node->log[seq];
    }
    post(message);
}

static void begin_io(struct node *node, const struct gy_replica_action *action)
{
    CHECK(node->io.kind < GY_DO_APPEND);
    node->io = *action;
    for (size_t i = 0; i < action->count && action->kind == GY_DO_APPEND; i++)
        node->pending[i] = (struct entry){action->epoch, gy_replica_core_token(&node->core, action->seq + i)};
    if (action->kind == GY_DO_APPEND_TAKEN)
        memcpy(node->pending, node->held.entries + node->held.append.count - action->count,
               action->count * sizeof *node->pending);
    CHECK(action->kind < GY_DO_APPEND || action->kind > GY_DO_APPEND_TAKEN || action->seq <= node->last + 1);
}

static void do_actions(struct node *node)
{
    static struct gy_replica_actions todo[1];
    *todo = actions;
    for (size_t i = 0; i < todo->count; i++) {
        const struct gy_replica_action *action = &todo->items[i];
        CHECK(action->kind < GY_DO_APPEND || i + 1 == todo->count);
        switch (action->kind) {
        case GY_DO_REPLY:
            CHECK(!world.answered[action->token]);
            world.answered[action->token] = true;
            if (action->why == GY_REPLY_DONE) {
                CHECK(world.truth[action->seq].token == action->token && action->seq > 0);
                world.acknowledged = action->seq > world.acknowledged ? action->seq : world.acknowledged;
                tally.acknowledged++;
            }
            break;
        case GY_DO_ANSWER:
            post((struct message){.kind = REPLY, .from = node->core.self, .to = node->held.from, .asker = node->held.asker,
                                  .reply = action->reply});
            break;
        case GY_DO_SEND:
            send_append(node, action);
            break;
        case GY_DO_ASK:
            node->asked_ns = world.now_ns;
            post((struct message){.kind = ASK, .from = node->core.self, .asker = node->process, .wish = *action});
            break;
        case GY_DO_RESTORE:
            node->restoring_from = node->held.from;
            break;
        case GY_DO_FINISH:
        case GY_DO_STOP:
            crash(node);
            return;
        default:
            begin_io(node, action);
        }
    }
}

static void tell(struct node *node, struct gy_replica_event event)
{
    uint64_t committed = event.kind == GY_ON_OPENED ? 0 : node->core.committed;
    event.now_ns = world.now_ns;
    gy_replica_step(&node->core, &event, &actions);
    check_node(node, committed);
    if (event.kind == GY_ON_TICK)
        CHECK(gy_replica_core_due_ns(&node->core) > world.now_ns);
    do_actions(node);
}

static void start(struct node *node, uint32_t id)
{
    struct gy_epoch_start starts[LOG] = {{node->log[node->base].epoch, node->base}};
    size_t count = 1;
    for (uint64_t seq = node->base + 1; seq <= node->last; seq++)
        if (node->log[seq].epoch != starts[count - 1].epoch)
            starts[count++] = (struct gy_epoch_start){node->log[seq].epoch, seq};
    size_t kept = count < GY_EPOCH_STARTS_MAX ? count : GY_EPOCH_STARTS_MAX;
    crash(node);
    node->up = true;
    node->process = ++world.processes;
    gy_replica_core_init(&node->core, GROUP_MAX);
    tell(node, (struct gy_replica_event){.kind = GY_ON_OPENED, .self = id, .config = &node->config,
                                         .starts = starts + count - kept, .start_count = kept, .seq = node->last,
                                         .applied_seq = node->flushed});
}

/* Brings the disk to where the I/O under way leads. */
static void write_disk(struct node *node)
{
    if (node->io.kind == GY_DO_STORE_CONFIG)
        node->config = *gy_replica_core_next_config(&node->core);
    if (node->io.kind != GY_DO_APPEND && node->io.kind != GY_DO_APPEND_TAKEN)
        return;
    CHECK(node->io.cut ? gy_config_member(&node->config, node->core.self)->kind == GY_MEMBER_FULL
                       : node->io.seq == node->last + 1);
    tally.cut += node->io.cut;
    for (size_t i = 0; i < node->io.count; i++)
        node->log[node->io.seq + i] = node->pending[i];
    node->last = node->io.seq + node->io.count - 1;
}

static void finish_io(struct node *node)
{
    struct gy_replica_action io = node->io;
    if (io.kind < GY_DO_APPEND)
        return;
    if (random_below(1000) == 0 && !world.calm) {
        node->io.kind = GY_DO_REPLY;
        tell(node, (struct gy_replica_event){.kind = GY_ON_IO_FAILED});
        return;
    }
    write_disk(node);
    node->io.kind = GY_DO_REPLY;
    if (io.kind == GY_DO_STORE_CONFIG)
        tell(node, (struct gy_replica_event){.kind = GY_ON_CONFIG_STORED});
    else if (io.kind == GY_DO_APPLY)
        tell(node, (struct gy_replica_event){.kind = GY_ON_APPLIED, .seq = io.seq + random_below(io.upto - io.seq + 1)});
    else
        tell(node, (struct gy_replica_event){.kind = GY_ON_SYNCED, .seq = node->last});
}

/* The whole new state replaces the old one at once, or nothing does. */
static void restore(struct node *node)
{
    const struct node *from = &world.nodes[node->restoring_from];
    uint32_t id = node->core.self;
    node->restoring_from = 0;
    if (!from->up || node->io.kind >= GY_DO_APPEND || !gy_replica_core_primary(&from->core)) {
        tell(node, (struct gy_replica_event){.kind = GY_ON_RESTORE_FAILED});
        return;
    }
    node->base = node->last = node->flushed = from->core.applied;
    node->log[node->base] = (struct entry){gy_replica_core_epoch_at(&from->core, node->base), world.truth[node->base].token};
    tally.restored++;
    start(node, id);
}

/* Keeps the state that is applied, and trims the log to it or less. */
static void flush(struct node *node)
{
    node->flushed = node->core.applied;
    uint64_t upto = node->base + random_below(node->flushed - node->base + 1);
    if (upto == node->base)
        return;
    node->base = upto;
    tell(node, (struct gy_replica_event){.kind = GY_ON_TRIMMED, .seq = upto});
}

/* ---- the coordinator ---- */

static void change_catalog(struct gy_shard_config next)
{
    next.epoch++;
    world.catalog = next;
    check_in_sync();
}

static void take_wish(const struct message *message)
{
    struct gy_shard_config next = world.catalog;
    if (message->wish.epoch == next.epoch && next.primary == message->from) {
        for (uint32_t i = 0; i < next.member_count; i++) {
            bool in = false;
            for (uint32_t k = 0; k < message->wish.in_sync.count; k++)
                in |= message->wish.in_sync.ids[k] == next.members[i].id;
            tally.joined += in && !next.members[i].in_sync;
            tally.left += !in && next.members[i].in_sync;
            next.members[i].in_sync = in;
        }
        change_catalog(next);
    }
    post((struct message){.kind = CONFIG, .to = message->from, .asker = message->asker, .config = world.catalog});
}

static void promote(void)
{
    struct gy_shard_config next = world.catalog;
    struct gy_member *member = &next.members[random_below(next.member_count)];
    if (!member->in_sync || member->id == next.primary)
        return;
    for (uint32_t i = 0; i < next.member_count; i++)
        if (next.members[i].id == next.primary && random_below(2))
            next.members[i].in_sync = false;
    next.primary = member->id;
    next.primary_since = next.epoch + 1;
    tally.promoted++;
    change_catalog(next);
}

/* ---- the network ---- */

/* Whether it was taken: configurations and appends wait for the disk. */
static bool deliver(struct message message)
{
    if (message.kind == ASK) {
        take_wish(&message);
        return true;
    }
    struct node *node = &world.nodes[message.to];
    bool answers = message.kind != APPEND;
    if (!node->up || (answers && message.asker && message.asker != node->process))
        return true;
    if (message.kind == REPLY) {
        tell(node, (struct gy_replica_event){.kind = GY_ON_APPEND_REPLY, .member = message.from, .reply = &message.reply});
        return true;
    }
    if (!gy_replica_core_idle(&node->core))
        return false;
    if (message.kind == CONFIG || (message.with_config && message.config.epoch > node->core.config.epoch)) {
        tell(node, (struct gy_replica_event){.kind = GY_ON_CONFIG, .config = &message.config});
        return message.kind == CONFIG;
    }
    uint64_t epochs[CARRIED];
    for (size_t i = 0; i < message.append.count; i++)
        epochs[i] = message.entries[i].epoch;
    message.append.epochs = epochs;
    node->held = message;
    tell(node, (struct gy_replica_event){.kind = GY_ON_APPEND, .append = &message.append});
    return true;
}

/* The driver's deadlines: what is lost is not waited for for ever. An answer may come all the same. */
static void give_up_late(struct node *node, int64_t patience_ns)
{
    for (size_t i = 0; i < node->core.peer_count; i++)
        if (node->core.peers[i].under_way && world.now_ns - node->core.peers[i].sent_ns >= patience_ns)
            tell(node, (struct gy_replica_event){.kind = GY_ON_SEND_FAILED, .member = node->core.peers[i].id});
    if (node->core.ask_under_way && world.now_ns - node->asked_ns >= patience_ns)
        tell(node, (struct gy_replica_event){.kind = GY_ON_ASK_FAILED});
}

static void some_message(void)
{
    size_t at = random_below(BAG), tried = 0;
    while (tried++ < BAG && !world.bag[at].kind)
        at = (at + 1) % BAG;
    struct message message = world.bag[at];
    uint64_t dice = world.calm ? 50 : random_below(100);
    if (!message.kind)
        return;
    if (dice < 5) {
        world.bag[at].kind = NONE;
    } else if (dice < 10) {
        (void)deliver(message); /* and again, some time */
    } else {
        world.bag[at].kind = NONE;
        if (!deliver(message))
            post(message);
    }
}

/* ---- stories ---- */

static void write_to(struct node *node)
{
    if (world.tokens + 1 < TOKENS_MAX)
        tell(node, (struct gy_replica_event){.kind = GY_ON_WRITE, .token = ++world.tokens, .bytes = 1,
                                             .epoch = node->core.config.epoch});
}

static void fault(struct node *node)
{
    uint64_t dice = random_below(100);
    if (dice < 30) {
        if (random_below(2))
            write_disk(node); /* it had come that far, and nobody knows */
        crash(node);
    } else if (dice < 55) {
        promote();
    } else if (dice < 75) {
        tell(node, (struct gy_replica_event){.kind = random_below(2) ? GY_ON_DISK_OK : GY_ON_DISK_LOW});
    } else if (dice < 80) {
        tell(node, (struct gy_replica_event){.kind = GY_ON_CLOSE});
    } else if (dice < 90) {
        world.now_ns += (int64_t)random_below(4000) * GY_MILLISECOND_NS;
    } else {
        flush(node);
    }
}

static void something_happens(void)
{
    uint32_t id = 1 + (uint32_t)random_below(world.node_count);
    struct node *node = &world.nodes[id];
    uint64_t dice = random_below(1000);
    world.now_ns += (int64_t)random_below(8) * GY_MILLISECOND_NS;
    if (!node->up) {
        if (world.calm || random_below(10) == 0)
            start(node, id);
    } else if (node->restoring_from && random_below(5) == 0) {
        restore(node);
    } else if (dice < 400) {
        some_message();
    } else if (dice < 650) {
        finish_io(node);
    } else if (dice < 750) {
        give_up_late(node, (int64_t)(world.calm ? 300 : random_below(600)) * GY_MILLISECOND_NS);
        tell(node, (struct gy_replica_event){.kind = GY_ON_TICK});
    } else if (dice < 850) {
        write_to(world.nodes[world.catalog.primary].up ? &world.nodes[world.catalog.primary] : node);
    } else if (dice < 950) {
        tell(node, (struct gy_replica_event){.kind = GY_ON_GATHERED});
    } else if (dice < 970) {
        (void)deliver((struct message){.kind = CONFIG, .to = id, .config = world.catalog});
    } else if (!world.calm && random_below(30) < world.trouble) {
        fault(node);
    }
    check_in_sync();
}

static void tell_story(uint64_t seed)
{
    story_seed = seed;
    random_state = seed * 2654435761u + 88172645463325252u;
    memset(&world, 0, sizeof world);
    world.node_count = 3 + (uint32_t)random_below(3);
    world.trouble = 1 + random_below(30);
    world.now_ns = 1000 * GY_MILLISECOND_NS;
    world.catalog = config_of(1, 1, 1, 1 + (uint32_t)random_below(2), world.node_count == 3   ? "sss"
                                                                      : world.node_count == 4 ? "ssfq"
                                                                                              : "sfsfq");
    for (uint32_t id = 1; id <= world.node_count; id++) {
        world.nodes[id].config = world.catalog;
        start(&world.nodes[id], id);
    }
    for (int i = 0; i < STEPS; i++)
        something_happens();
    /* The faults stop: the shard takes writes again. Those lost in closed processes aside, everybody is answered. */
    world.calm = true;
    for (uint32_t id = 1; id <= world.node_count; id++)
        start(&world.nodes[id], id);
    uint64_t before = world.acknowledged;
    for (int i = 0; i < 20000 && world.acknowledged <= before; i++)
        something_happens();
    CHECK(world.acknowledged > before || world.tokens + 1 == TOKENS_MAX);
}

static void random_stories_lose_nothing_and_end_well(void **state)
{
    (void)state;
    const char *asked = getenv("GYRE_SEED");
    const char *many = getenv("GYRE_STORIES");
    uint64_t first = asked ? strtoull(asked, NULL, 0) : 1, count = many ? strtoull(many, NULL, 0) : asked ? 1 : 1000;
    for (uint64_t seed = first; seed < first + count; seed++)
        tell_story(seed);
    print_message("%" PRIu64 " acknowledged, %" PRIu64 " promoted, %" PRIu64 " joined, %" PRIu64 " left, %" PRIu64
                  " restored, %" PRIu64 " cut, %" PRIu64 " steps with a lease\n",
                  tally.acknowledged, tally.promoted, tally.joined, tally.left, tally.restored, tally.cut, tally.leased);
    assert_true(asked || (tally.acknowledged && tally.promoted && tally.joined && tally.left && tally.restored && tally.cut));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_stories_lose_nothing_and_end_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
