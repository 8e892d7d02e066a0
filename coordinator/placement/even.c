/* Evens out what nodes carry while nothing else is to do: replicas leave fuller nodes, a few at a time; where none needs to,
 * primaries hand over, one at a time, for the next one commits nothing for a second. Only the placement thread. */
#include "placement/state.h"

#include <stdlib.h>

/* A change that was chosen. */
struct pick {
    uint64_t collection_id;
    struct gy_config_change change;
};

/* Every shard of every collection, as a plan sees it. It borrows from the table: only under mu. */
struct sight {
    struct gy_plan_node *nodes;
    struct gy_plan_world world;
    struct gy_plan_shard_view *shards; /* [count] */
    struct gy_plan_fact (*facts)[GY_MEMBERS_MAX];
    uint64_t *collections;             /* whose shards[i] is */
    uint32_t *numbers;                 /* and which of it */
    size_t count;
};

static void sight_fini(struct sight *self)
{
    free(self->nodes);
    free(self->shards);
    free(self->facts);
    free(self->collections);
    free(self->numbers);
}

static gyre_status sight_init(struct sight *self, gy_placement *placement, int64_t now_ns, gyre_error *err)
{
    size_t room = 1;
    int64_t due_ns;
    struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        room += entry->record.spec.shards;
    GY_TRY(gy_table_world(placement, now_ns, &self->nodes, &self->world, &due_ns, err));
    self->shards = calloc(room, sizeof *self->shards);
    self->facts = calloc(room, sizeof *self->facts);
    self->collections = calloc(room, sizeof *self->collections);
    self->numbers = calloc(room, sizeof *self->numbers);
    if (!self->shards || !self->facts || !self->collections || !self->numbers)
        return gyre_fail(err, GYRE_NO_MEMORY, "a look at %zu shards", room);
    HASH_ITER(hh, placement->collections, entry, next)
        for (uint32_t i = 0; entry->record.state == GY_COLLECTION_ACTIVE && i < entry->record.spec.shards; i++) {
            gy_steer_facts(entry, i, self->facts[self->count]);
            self->shards[self->count] = (struct gy_plan_shard_view){&entry->record.shards[i], self->facts[self->count]};
            self->collections[self->count] = entry->record.id;
            self->numbers[self->count++] = i;
        }
    return GYRE_OK;
}

/* Whether every member is where it shall be and well; what is under way or broken comes first. */
static bool calm(const gy_placement *placement, const struct sight *self)
{
    for (size_t i = 0; i < self->count; i++)
        if (!gy_plan_settled(&self->shards[i], &self->world))
            return false;
    const struct gy_collection_entry *entry, *next;
    HASH_ITER(hh, placement->collections, entry, next)
        for (uint32_t i = 0; i < entry->record.spec.shards; i++)
            if (entry->record.state != GY_COLLECTION_ACTIVE || entry->shards[i].obstacle)
                return false;
    return true;
}

/* Puts a replica's bytes and itself where it will be, for the next choice. */
static void carry_over(struct sight *self, size_t shard, const struct gy_shard_config *next)
{
    const struct gy_shard_config *now = self->shards[shard].config;
    for (uint32_t i = 0; i < next->member_count; i++) {
        const struct gy_member *older = gy_config_member(now, next->members[i].id);
        bool leaves = older && next->members[i].leaving && !older->leaving;
        for (size_t n = 0; n < self->world.node_count && (leaves || !older); n++) {
            if (strcmp(self->nodes[n].name, next->members[i].node) != 0)
                continue;
            uint64_t bytes = 0;
            for (uint32_t m = 0; m < now->member_count; m++)
                if (next->members[m].leaving)
                    bytes = self->facts[shard][m].bytes;
            self->nodes[n].replicas += leaves ? UINT64_MAX : 1; /* one less, or one more */
            uint64_t had = self->nodes[n].bytes;
            self->nodes[n].bytes = !leaves ? had + bytes : had > bytes ? had - bytes : 0;
        }
    }
}

static struct pick make_pick(const struct sight *self, size_t shard, const struct gy_shard_config *next, const char *reason)
{
    return (struct pick){self->collections[shard], {self->numbers[shard], *next, reason}};
}

/* Moves, moves_max of them at most; else one primary that hands over. */
static size_t choose(struct sight *self, struct pick *picks, uint32_t moves_max)
{
    size_t count = 0, shard;
    struct gy_shard_config next;
    while (count < moves_max && gy_plan_balance(self->shards, self->count, &self->world, &shard, &next)) {
        picks[count] = make_pick(self, shard, &next, "its node holds notably more than another: a member shall leave");
        carry_over(self, shard, &next);
        self->shards[shard].config = &picks[count++].change.config; /* it leaves: not chosen again */
    }
    if (!count && gy_plan_hand_over(self->shards, self->count, &self->world, &shard, &next))
        picks[count++] = make_pick(self, shard, &next, "its node has more primaries than another: it hands over");
    return count;
}

static void commit(gy_placement *placement, const struct pick *picks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t done;
        gyre_error err;
        if (gy_steer_commit(placement, picks[i].collection_id, &picks[i].change, 1, &done, &err) != GYRE_OK)
            gy_log(GY_LOG_WARN, "load_not_evened", "collection_id=%llu shard=%u error=%s",
                   (unsigned long long)picks[i].collection_id, picks[i].change.shard, err.text);
    }
}

bool gy_even(gy_placement *placement, int64_t now_ns, int64_t *due_ns)
{
    *due_ns = placement->even_every_ns ? placement->even_due_ns : GY_NEVER;
    if (now_ns < *due_ns)
        return false;
    *due_ns = placement->even_due_ns = now_ns + placement->even_every_ns;
    struct sight sight = {0};
    gyre_error err;
    size_t count = 0;
    struct pick *picks = calloc(placement->moves_max, sizeof *picks);
    gyre_status status = picks ? sight_init(&sight, placement, now_ns, &err)
                               : gyre_fail(&err, GYRE_NO_MEMORY, "%u moves", placement->moves_max);
    if (status != GYRE_OK)
        gy_log(GY_LOG_WARN, "load_not_evened", "error=%s", err.text);
    else if (calm(placement, &sight))
        count = choose(&sight, picks, placement->moves_max);
    sight_fini(&sight);
    if (count) {
        pthread_mutex_unlock(&placement->mu);
        commit(placement, picks, count);
        pthread_mutex_lock(&placement->mu);
    }
    free(picks);
    return count > 0;
}
