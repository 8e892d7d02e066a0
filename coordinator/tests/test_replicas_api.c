/* Shards of several members, from outside: nodes that a test plays fall silent, lose replicas, ask for in-sync sets. */
#include "world.h"

#include "gyre/shard_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- what is to be seen of "words", of one shard ---- */

/* The shard as the API shows it; the caller frees the collection. */
static const Gyre__V1__ShardInfo *see(struct world *world, Gyre__V1__Collection **found)
{
    gyre_error err = {0};
    MUST(world_get(world, "words", found, &err));
    return (*found)->shards[0];
}

static size_t node_index(const struct world *world, const char *name)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (strcmp(world->nodes[i].name, name) == 0)
            return i;
    fail_msg("no node %s", name);
    return 0;
}

static size_t primary_index(struct world *world)
{
    Gyre__V1__Collection *found;
    size_t index = node_index(world, see(world, &found)->primary);
    gy_wire_free(found);
    return index;
}

static uint64_t epoch(struct world *world)
{
    Gyre__V1__Collection *found;
    uint64_t now = see(world, &found)->epoch;
    gy_wire_free(found);
    return now;
}

/* What a member is, as letters: primary, in sync, leaving, quantized, reachable; empty for a node without one. */
static const char *member_on(struct world *world, size_t node, char room[8])
{
    Gyre__V1__Collection *found;
    const Gyre__V1__ShardInfo *shard = see(world, &found);
    char *at = room;
    for (size_t i = 0; i < shard->n_members; i++) {
        const Gyre__V1__MemberInfo *member = shard->members[i];
        if (strcmp(member->node, world->nodes[node].name) != 0)
            continue;
        *at++ = member->primary ? 'p' : '-', *at++ = member->in_sync ? 's' : '-', *at++ = member->leaving ? 'l' : '-';
        *at++ = member->quantized ? 'q' : 'f', *at++ = member->reachable ? 'r' : '-';
    }
    *at = 0;
    gy_wire_free(found);
    return room;
}

static size_t member_count(struct world *world)
{
    Gyre__V1__Collection *found;
    size_t count = see(world, &found)->n_members;
    gy_wire_free(found);
    return count;
}

/* Some node that has no member; NODES_MAX if every one has. */
static size_t free_node(struct world *world)
{
    char room[8];
    for (size_t i = 0; i < world->node_count; i++)
        if (!member_on(world, i, room)[0])
            return i;
    return NODES_MAX;
}

/* A follower of the primary. */
static size_t follower(struct world *world)
{
    char room[8];
    for (size_t i = 0; i < world->node_count; i++)
        if (member_on(world, i, room)[0] == '-')
            return i;
    fail_msg("no follower");
    return 0;
}

static uint32_t member_id(fake_node *node)
{
    pthread_mutex_lock(&node->mu);
    uint32_t id = node->count ? node->replicas[0].member : 0;
    pthread_mutex_unlock(&node->mu);
    return id;
}

/* Every replica that is being built is complete. */
static void built(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        for (size_t r = 0; r < world->nodes[i].count; r++)
            world->nodes[i].replicas[r].restoring = false;
        pthread_mutex_unlock(&world->nodes[i].mu);
    }
}

/* The primary of every shard that is reachable asks for all members that there are. */
static void ask_for_all(struct world *world)
{
    Gyre__V1__Collection *found;
    see(world, &found);
    for (size_t s = 0; s < found->n_shards; s++) {
        const Gyre__V1__ShardInfo *shard = found->shards[s];
        uint32_t in_sync[GY_MEMBERS_MAX];
        size_t count = 0, waiting = 0;
        bool primary_there = false;
        for (size_t i = 0; i < shard->n_members; i++) {
            bool joins = !shard->members[i]->quantized && shard->members[i]->reachable;
            waiting += joins != shard->members[i]->in_sync && !shard->members[i]->quantized;
            primary_there |= shard->members[i]->primary && shard->members[i]->reachable;
            if (joins)
                in_sync[count++] = shard->members[i]->id;
        }
        struct gy_shard_config now;
        gyre_error err = {0};
        if (primary_there && waiting)
            MUST(fake_node_ask(&world->nodes[node_index(world, shard->primary)], (uint32_t)s, in_sync, count, &now, &err));
    }
    gy_wire_free(found);
}

static gyre_status ask_to_drain(struct world *world, Gyre__V1__DrainRequest request, uint32_t *members, gyre_error *err)
{
    Gyre__V1__DrainReply *reply = NULL;
    gyre_status status =
        world_call(world, "/gyre.v1.Cluster/Drain", &request.base, &gyre__v1__drain_reply__descriptor, &reply, err);
    if (status == GYRE_OK)
        *members = reply->members;
    gy_wire_free(reply);
    return status;
}

static gyre_status drain(struct world *world, const char *node, bool undo, uint32_t *members, gyre_error *err)
{
    Gyre__V1__DrainRequest request = GYRE__V1__DRAIN_REQUEST__INIT;
    request.node = (char *)(uintptr_t)node, request.undo = undo;
    return ask_to_drain(world, request, members, err);
}

/* As `gyre replace` does. */
static gyre_status replace(struct world *world, const char *node, const char *heir, uint32_t *members, gyre_error *err)
{
    Gyre__V1__DrainRequest request = GYRE__V1__DRAIN_REQUEST__INIT;
    request.node = (char *)(uintptr_t)node, request.heir = (char *)(uintptr_t)heir;
    return ask_to_drain(world, request, members, err);
}

static gyre_status remove_node(struct world *world, const char *node, gyre_error *err)
{
    Gyre__V1__RemoveNodeRequest request = GYRE__V1__REMOVE_NODE_REQUEST__INIT;
    Gyre__V1__RemoveNodeReply *reply = NULL;
    request.node = (char *)(uintptr_t)node;
    gyre_status status =
        world_call(world, "/gyre.v1.Cluster/RemoveNode", &request.base, &gyre__v1__remove_node_reply__descriptor, &reply, err);
    gy_wire_free(reply);
    return status;
}

/* Nodes that the status shows. */
static size_t nodes_shown(struct world *world)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    gyre_error err = {0};
    MUST(world_call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
    size_t count = reply->n_nodes;
    gy_wire_free(reply);
    return count;
}

/* ---- the tests ---- */

static void every_member_is_made_and_told_the_same_configuration(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 2, 1);
    size_t primary = primary_index(world), holders = 0, primaries = 0;
    for (size_t i = 0; i < world->node_count; i++) {
        world_report(&world->nodes[i]);
        assert_int_equal(world->nodes[i].nodes_told, NODES_MAX);
        if (world->nodes[i].count == 0)
            continue;
        const struct fake_replica *replica = &world->nodes[i].replicas[0];
        holders++;
        primaries += replica->config.primary == replica->member;
        assert_int_equal(replica->config.epoch, 1);
        assert_int_equal(replica->config.member_count, 3);
        assert_int_equal(replica->config.min_copies, 1);
        assert_int_equal(gy_config_in_sync_count(&replica->config), 2);
    }
    assert_int_equal(holders, 3);
    assert_int_equal(primaries, 1);
    char room[8];
    assert_string_equal(member_on(world, primary, room), "ps-fr");
    const gy_route *route;
    gyre_error err = {0};
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_int_equal(route->shards[0].member_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(route->shards[0].members[i].up && route->shards[0].members[i].peer);
    gy_route_release(route);
}

static bool second_epoch(struct world *world) { return epoch(world) == 2; }

static void a_silent_primary_is_followed_by_one_in_sync(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t dead = primary_index(world);
    bool silent[NODES_MAX] = {0};
    silent[dead] = true;
    world_await(world, silent, second_epoch, "another primary");
    size_t primary = primary_index(world);
    char room[8];
    assert_int_not_equal(primary, dead);
    assert_string_equal(member_on(world, primary, room), "ps-fr");
    assert_string_equal(member_on(world, dead, room), "---f-");
    fake_node_await(&world->nodes[primary], fake_was_told_epoch, 2, "its epoch as primary");
    assert_int_equal(world->nodes[primary].replicas[0].config.primary_since, 2);
    const gy_route *route;
    gyre_error err = {0};
    MUST(gy_route_hold(gy_placement_routing(world->placement), "words", &route, &err));
    assert_string_equal(route->shards[0].node, world->nodes[primary].name);
    assert_string_equal(gy_peer_address(route->shards[0].peer), gy_bus_address(world->nodes[primary].bus));
    assert_int_equal(route->shards[0].epoch, 2);
    gy_route_release(route);
}

static bool replaced(struct world *world)
{
    char room[8];
    built(world);
    if (free_node(world) == NODES_MAX) /* four nodes, three members: never */
        return false;
    for (size_t i = 0; i < world->node_count; i++)
        if (strcmp(member_on(world, i, room), "---fr") == 0 && member_id(&world->nodes[i]) == 4)
            return true;
    return false;
}

static bool all_in_sync(struct world *world)
{
    char room[8];
    size_t in_sync = 0;
    built(world);
    ask_for_all(world);
    for (size_t i = 0; i < world->node_count; i++)
        in_sync += member_on(world, i, room)[0] && room[1] == 's' && room[2] == '-' && room[4] == 'r';
    return in_sync == 3 && member_count(world) == 3;
}

static bool fourth_in_sync(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (member_id(&world->nodes[i]) == 4)
            return all_in_sync(world);
    return false;
}

static bool codebook_is_back(struct world *world)
{
    bool back = true;
    for (size_t i = 0; i < world->node_count; i++) {
        pthread_mutex_lock(&world->nodes[i].mu);
        back &= world->nodes[i].count == 0 || world->nodes[i].replicas[0].codebook_version == 1;
        pthread_mutex_unlock(&world->nodes[i].mu);
    }
    return back;
}

static void a_member_on_a_dead_node_is_made_anew_on_another(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    bool silent[NODES_MAX] = {0};
    size_t spare = free_node(world);
    silent[follower(world)] = true;
    world_await(world, silent, replaced, "a new member");
    assert_int_equal(member_id(&world->nodes[spare]), 4);
    world_await(world, silent, all_in_sync, "the new member in sync");
    char room[8];
    assert_string_equal(member_on(world, spare, room), "-s-fr");
}

static bool lost_one_is_another(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (member_id(&world->nodes[i]) == 4)
            return member_count(world) == 3;
    return false;
}

static void a_replica_that_is_gone_is_never_made_anew_under_its_id(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t loser = primary_index(world);
    uint32_t lost_id = member_id(&world->nodes[loser]);
    fake_node_lose(&world->nodes[loser], 0);
    world_report(&world->nodes[loser]); /* it might have been on its way while the replica was made */
    assert_int_equal(epoch(world), 1);
    world_await(world, NULL, lost_one_is_another, "a new member");
    assert_int_not_equal(primary_index(world), loser);
    for (size_t i = 0; i < world->node_count; i++)
        assert_int_not_equal(member_id(&world->nodes[i]), lost_id);
}

static bool fourth_is_made(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++)
        if (member_id(&world->nodes[i]) == 4)
            return true;
    return false;
}

static void a_damaged_replica_is_dropped_and_another_begins(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    fake_node *node = &world->nodes[follower(world)];
    unsigned drops = node->asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA];
    pthread_mutex_lock(&node->mu);
    node->replicas[0].lost = true;
    uint32_t lost_id = node->replicas[0].member;
    pthread_mutex_unlock(&node->mu);
    world_await(world, NULL, fourth_is_made, "a new member");
    while (member_id(node) == lost_id)
        world_report(node);
    /* Of its one member by its id: a report that was on its way meanwhile has it told once more. */
    assert_true(node->asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA] > drops);
}

/* What its node says from now on: it has the replica and cannot open it, however often it is told to. */
static void close_replica(fake_node *node)
{
    pthread_mutex_lock(&node->mu);
    node->replicas[0].closed = true;
    node->refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_UNAVAILABLE;
    pthread_mutex_unlock(&node->mu);
}

static bool told_oftener(const fake_node *node, uint64_t count)
{
    return node->asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] > count;
}

static void a_primary_that_cannot_be_opened_hands_over_and_stays_a_member(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t closed = primary_index(world), spare = free_node(world);
    fake_node *node = &world->nodes[closed];
    uint32_t id = member_id(node);
    unsigned told = node->asked[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA];
    close_replica(node);
    world_report(node);
    world_report(node);
    char room[8];
    assert_string_equal(member_on(world, closed, room), "ps-f-"); /* for a moment that is nothing */
    assert_int_equal(epoch(world), 1);
    world_await(world, NULL, second_epoch, "another primary");
    assert_int_not_equal(primary_index(world), closed);
    assert_string_equal(member_on(world, closed, room), "---f-");
    fake_node_await(node, told_oftener, told, "it to be told to open the replica");
    assert_int_equal(node->asked[GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA], 0);
    pthread_mutex_lock(&node->mu);
    node->refuse[GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA] = GYRE_OK; /* there is room on its disk again */
    pthread_mutex_unlock(&node->mu);
    world_await(world, NULL, all_in_sync, "it to be opened");
    assert_string_equal(member_on(world, closed, room), "-s-fr");
    assert_int_equal(member_id(node), id);
    assert_string_equal(member_on(world, spare, room), "");
}

static void a_member_that_stays_closed_is_made_anew_elsewhere(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t closed = follower(world), spare = free_node(world);
    close_replica(&world->nodes[closed]);
    world->nodes[closed].replicas[0].named = true; /* it was open once */
    world_await(world, NULL, fourth_in_sync, "a new member in sync");
    char room[8];
    assert_string_equal(member_on(world, closed, room), "");
    assert_string_equal(member_on(world, spare, room), "-s-fr");
    while (world->nodes[closed].count) /* nobody's any more: what is left there goes */
        world_report(&world->nodes[closed]);
}

static void another_in_sync_set_is_told_without_the_codebook(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t primary = primary_index(world);
    fake_node *other = &world->nodes[follower(world)];
    uint32_t alone[] = {member_id(&world->nodes[primary])};
    struct gy_shard_config now;
    gyre_error err = {0};
    for (size_t i = 0; i < world->node_count; i++)
        assert_int_equal(world->nodes[i].codebooks, world->nodes[i].count);
    MUST(fake_node_ask(&world->nodes[primary], 0, alone, 1, &now, &err));
    for (size_t i = 0; i < world->node_count; i++)
        if (world->nodes[i].count)
            fake_node_await(&world->nodes[i], fake_was_told_epoch, 2, "the next epoch");
    for (size_t i = 0; i < world->node_count; i++)
        assert_int_equal(world->nodes[i].codebooks, world->nodes[i].count);
    pthread_mutex_lock(&other->mu);
    other->replicas[0].codebook_version = 0; /* of a disk that was set back, say */
    pthread_mutex_unlock(&other->mu);
    world->nodes[primary].replicas[0].epoch = 2;
    MUST(fake_node_ask(&world->nodes[primary], 0, alone, 1, &now, &err));
    world_await(world, NULL, codebook_is_back, "the codebook");
    assert_int_equal(world->nodes[primary].codebooks, 1);
}

static void the_in_sync_set_is_what_the_primary_asked_for(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t primary = primary_index(world), other = follower(world);
    uint32_t pair[] = {member_id(&world->nodes[primary]), member_id(&world->nodes[other])};
    struct gy_shard_config now;
    gyre_error err = {0};
    MUST(fake_node_ask(&world->nodes[other], 0, pair, 2, &now, &err)); /* a follower: told what holds */
    assert_int_equal(now.epoch, 1);
    assert_int_equal(gy_config_in_sync_count(&now), 3);
    world->nodes[other].replicas[0].member = pair[0]; /* one that takes itself for the primary */
    MUST(fake_node_ask(&world->nodes[other], 0, pair, 2, &now, &err));
    assert_int_equal(now.epoch, 1);
    world->nodes[other].replicas[0].member = pair[1];
    MUST(fake_node_ask(&world->nodes[primary], 0, pair, 2, &now, &err));
    assert_int_equal(now.epoch, 2);
    assert_int_equal(gy_config_in_sync_count(&now), 2);
    assert_true(gy_config_member(&now, pair[1])->in_sync);
    fake_node_await(&world->nodes[other], fake_was_told_epoch, 2, "the next epoch");
    fake_node_await(&world->nodes[primary], fake_was_told_epoch, 2, "the next epoch");
    world->nodes[primary].replicas[0].epoch = 1; /* an answer was lost: the same question again */
    MUST(fake_node_ask(&world->nodes[primary], 0, pair, 2, &now, &err));
    assert_int_equal(now.epoch, 2);
    world->nodes[primary].replicas[0].collection_id++;
    assert_int_equal(fake_node_ask(&world->nodes[primary], 0, pair, 2, &now, &err), GYRE_NOT_FOUND);
    world->nodes[primary].replicas[0].collection_id--;
}

static bool drained(struct world *world)
{
    built(world);
    ask_for_all(world);
    char room[8];
    return member_count(world) == 3 && !member_on(world, 0, room)[0] && world->nodes[0].count == 0;
}

static void a_draining_node_hands_its_members_over(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    uint32_t members = 0;
    gyre_error err = {0};
    assert_int_equal(drain(world, "n9", false, &members, &err), GYRE_NOT_FOUND);
    MUST(drain(world, "n1", false, &members, &err));
    assert_int_equal(members, free_node(world) == 0 ? 0 : 1);
    world_await(world, NULL, drained, "the node to be empty");
    world_restart(world);
    for (size_t i = 0; i < world->node_count; i++)
        world_report(&world->nodes[i]);
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    MUST(world_call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
    assert_true(reply->nodes[0]->draining && !reply->nodes[1]->draining);
    gy_wire_free(reply);
    MUST(drain(world, "n1", true, &members, &err));
    MUST(drain(world, "n1", true, &members, &err));
}

static bool follows_the_wishes(struct world *world)
{
    char room[8];
    size_t quantized = 0;
    built(world);
    for (size_t i = 0; i < world->node_count; i++)
        quantized += strcmp(member_on(world, i, room), "---qr") == 0;
    return quantized == 1 && member_count(world) == 3;
}

static void other_wishes_are_followed_while_it_lives(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    Gyre__V1__UpdateCollectionRequest request = GYRE__V1__UPDATE_COLLECTION_REQUEST__INIT;
    Gyre__V1__Number copies = GYRE__V1__NUMBER__INIT, quantized = GYRE__V1__NUMBER__INIT;
    Gyre__V1__Collection *updated = NULL;
    gyre_error err = {0};
    request.name = (char *)(uintptr_t)"words";
    request.copies = &copies, request.quantized = &quantized;
    copies.value = 0;
    assert_int_equal(world_call(world, "/gyre.v1.Collections/Update", &request.base, &gyre__v1__collection__descriptor, &updated,
                                &err),
                     GYRE_INVALID);
    copies.value = 2, quantized.value = 1;
    MUST(world_call(world, "/gyre.v1.Collections/Update", &request.base, &gyre__v1__collection__descriptor, &updated, &err));
    assert_int_equal(updated->spec->copies, 2);
    assert_int_equal(updated->spec->min_copies, 1);
    gy_wire_free(updated);
    world_await(world, NULL, follows_the_wishes, "two full members and a quantized one");
}

static void a_replica_is_moved_by_hand(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    Gyre__V1__MoveRequest request = GYRE__V1__MOVE_REQUEST__INIT;
    Gyre__V1__MoveReply *reply = NULL;
    gyre_error err = {0};
    size_t from = primary_index(world), to = free_node(world);
    request.collection = (char *)(uintptr_t)"words";
    request.from = world->nodes[from].name, request.to = world->nodes[from].name;
    assert_int_equal(
        world_call(world, "/gyre.v1.Cluster/Move", &request.base, &gyre__v1__move_reply__descriptor, &reply, &err),
        GYRE_PRECONDITION);
    request.to = world->nodes[to].name;
    MUST(world_call(world, "/gyre.v1.Cluster/Move", &request.base, &gyre__v1__move_reply__descriptor, &reply, &err));
    assert_int_equal(reply->epoch, 2);
    gy_wire_free(reply);
    world_await(world, NULL, all_in_sync, "the move to end");
    char room[8];
    assert_string_equal(member_on(world, from, room), "");
    assert_string_equal(member_on(world, to, room) + 1, "s-fr");
    assert_int_not_equal(primary_index(world), from);
}

static bool all_reachable(struct world *world)
{
    Gyre__V1__Collection *found;
    const Gyre__V1__ShardInfo *shard = see(world, &found);
    bool all = true;
    for (size_t i = 0; i < shard->n_members; i++)
        all &= shard->members[i]->reachable;
    gy_wire_free(found);
    return all;
}

static void configurations_outlive_the_coordinator(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t primary = primary_index(world);
    uint32_t alone[] = {member_id(&world->nodes[primary])};
    struct gy_shard_config now;
    gyre_error err = {0};
    MUST(fake_node_ask(&world->nodes[primary], 0, alone, 1, &now, &err));
    world_restart(world);
    assert_int_equal(epoch(world), 2);
    world_await(world, NULL, all_reachable, "every member to be reached"); /* connections are made after reports */
    char room[8];
    assert_string_equal(member_on(world, primary, room), "ps-fr");
    assert_string_equal(member_on(world, follower(world), room), "---fr");
}

static bool first_is_down(struct world *world)
{
    Gyre__V1__ClusterStatusRequest request = GYRE__V1__CLUSTER_STATUS_REQUEST__INIT;
    Gyre__V1__ClusterStatusReply *reply = NULL;
    gyre_error err = {0};
    MUST(world_call(world, "/gyre.v1.Cluster/Status", &request.base, &gyre__v1__cluster_status_reply__descriptor, &reply, &err));
    bool down = reply->nodes[0]->state == GYRE__V1__NODE_STATE__NODE_STATE_DOWN;
    gy_wire_free(reply);
    return down;
}

static bool is_down(struct world *world)
{
    Gyre__V1__Collection *found;
    bool down = see(world, &found)->obstacle[0] != 0;
    gy_wire_free(found);
    return down;
}

static void without_a_member_in_sync_nobody_is_promoted(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t primary = primary_index(world);
    uint32_t alone[] = {member_id(&world->nodes[primary])};
    struct gy_shard_config now;
    gyre_error err = {0};
    MUST(fake_node_ask(&world->nodes[primary], 0, alone, 1, &now, &err));
    bool silent[NODES_MAX] = {0};
    silent[primary] = true;
    world_await(world, silent, is_down, "the obstacle");
    assert_int_equal(primary_index(world), primary);
    assert_int_equal(epoch(world), 2);
}

static bool n1_is_empty(struct world *world)
{
    built(world);
    ask_for_all(world);
    char room[8];
    return member_count(world) == 3 && !member_on(world, 0, room)[0];
}

static void a_dead_node_is_replaced_by_another_and_forgotten(void **state)
{
    struct world *world = *state;
    uint32_t members;
    gyre_error err = {0};
    MUST(drain(world, "n4", false, &members, &err));
    world_create_shard(world, 3, 0);
    MUST(drain(world, "n4", true, &members, &err));
    bool silent[NODES_MAX] = {true};
    world_await(world, silent, first_is_down, "the node to be down");
    assert_int_equal(replace(world, "n1", "n9", &members, &err), GYRE_NOT_FOUND);
    assert_int_equal(replace(world, "n9", "n1", &members, &err), GYRE_NOT_FOUND);
    assert_int_equal(replace(world, "n2", "n1", &members, &err), GYRE_PRECONDITION);
    assert_says(&err, "n1, which shall take the replicas, is down");
    assert_int_equal(replace(world, "n2", "n2", &members, &err), GYRE_PRECONDITION);
    assert_int_equal(remove_node(world, "n1", &err), GYRE_PRECONDITION);
    assert_says(&err, "is to have 1 replicas");
    MUST(replace(world, "n1", "n4", &members, &err));
    assert_int_equal(members, 1);
    world_await(world, silent, n1_is_empty, "the node to have nothing");
    char room[8];
    assert_string_equal(member_on(world, 3, room) + 2, "-fr");
    MUST(remove_node(world, "n1", &err));
    assert_int_equal(nodes_shown(world), 3);
    assert_int_equal(remove_node(world, "n1", &err), GYRE_NOT_FOUND);
    assert_int_equal(fake_node_report(&world->nodes[0], &err), GYRE_PRECONDITION); /* a daemon that was only cut off */
    assert_int_equal(nodes_shown(world), 3);
    fake_node_restart(&world->nodes[0], world_key, gy_bus_address(world->bus));
    while (world->nodes[0].count) /* comes back as a new one, and what it had is nobody's */
        world_report(&world->nodes[0]);
    assert_int_equal(nodes_shown(world), 4);
    MUST(drain(world, "n1", true, &members, &err));
}

static void the_last_copies_are_not_given_up_with_a_dead_node(void **state)
{
    struct world *world = *state;
    uint32_t members;
    gyre_error err = {0};
    world_create_shard(world, 1, 0);
    size_t dead = primary_index(world);
    bool silent[NODES_MAX] = {0};
    silent[dead] = true;
    world_await(world, silent, is_down, "the obstacle");
    assert_int_equal(replace(world, world->nodes[dead].name, world->nodes[(dead + 1) % NODES_MAX].name, &members, &err),
                     GYRE_PRECONDITION);
    assert_says(&err, "has the last copies in sync of 1 shard, the first of them shard 0 of 'words'");
}

static gyre_status recover(struct world *world, bool accept, uint32_t member, Gyre__V1__RecoverReply **reply, gyre_error *err)
{
    Gyre__V1__RecoverRequest request = GYRE__V1__RECOVER_REQUEST__INIT;
    request.collection = (char *)(uintptr_t)"words";
    request.accept_data_loss = accept, request.member = member;
    return world_call(world, "/gyre.v1.Cluster/Recover", &request.base, &gyre__v1__recover_reply__descriptor, reply, err);
}

static bool three_in_sync(struct world *world)
{
    built(world);
    ask_for_all(world);
    Gyre__V1__Collection *found;
    const Gyre__V1__ShardInfo *shard = see(world, &found);
    size_t in_sync = 0;
    for (size_t i = 0; i < shard->n_members; i++)
        in_sync += shard->members[i]->in_sync && shard->members[i]->reachable;
    gy_wire_free(found);
    return in_sync == 3;
}

static void a_shard_without_members_in_sync_is_recovered_by_an_operators_word(void **state)
{
    struct world *world = *state;
    world_create_shard(world, 3, 0);
    size_t dead = primary_index(world);
    uint32_t alone[] = {member_id(&world->nodes[dead])};
    struct gy_shard_config now;
    gyre_error err = {0};
    Gyre__V1__RecoverReply *reply = NULL;
    assert_int_equal(recover(world, true, 0, &reply, &err), GYRE_PRECONDITION);
    assert_says(&err, "in sync and up");
    MUST(fake_node_ask(&world->nodes[dead], 0, alone, 1, &now, &err));
    size_t best = follower(world);
    world->nodes[best].replicas[0].log_seq = 77;
    bool silent[NODES_MAX] = {0};
    silent[dead] = true;
    world_await(world, silent, is_down, "the obstacle");
    assert_int_equal(recover(world, false, 0, &reply, &err), GYRE_PRECONDITION);
    assert_says(&err, "first try to bring back node");
    assert_int_equal(epoch(world), 2);
    MUST(recover(world, true, 0, &reply, &err));
    assert_int_equal(reply->epoch, 3);
    assert_int_equal(reply->log_seq, 77);
    assert_string_equal(reply->node, world->nodes[best].name);
    gy_wire_free(reply);
    world_await(world, NULL, three_in_sync, "new members in sync"); /* the dead one is back, too */
    for (size_t i = 0; i < world->node_count; i++)
        if (i != best && world->nodes[i].count)
            assert_true(member_id(&world->nodes[i]) > 3);
    assert_int_equal(primary_index(world), best);
    world_restart(world);
    Gyre__V1__Collection *found;
    const Gyre__V1__ShardInfo *shard = see(world, &found);
    assert_int_equal(shard->unclean_epoch, 3);
    assert_true(shard->unclean_unix_ms > UINT64_C(1700000000000));
    gy_wire_free(found);
}

/* ---- evener loads ---- */

static size_t most_primaries(struct world *world)
{
    Gyre__V1__Collection *found;
    size_t most = 0;
    see(world, &found);
    for (size_t i = 0; i < found->n_shards; i++) {
        size_t same = 0;
        for (size_t j = 0; j < found->n_shards; j++)
            same += strcmp(found->shards[i]->primary, found->shards[j]->primary) == 0;
        most = same > most ? same : most;
    }
    gy_wire_free(found);
    return most;
}

static bool one_has_all_primaries(struct world *world) { return most_primaries(world) == 4; }
static bool primaries_are_even(struct world *world)
{
    built(world);
    ask_for_all(world);
    return most_primaries(world) == 2;
}

static void make_four_shards(struct world *world, uint32_t copies)
{
    Gyre__V1__CollectionSpec spec = world_a_spec();
    Gyre__V1__Collection *made = NULL;
    uint32_t members;
    gyre_error err = {0};
    MUST(drain(world, "n3", false, &members, &err));
    MUST(drain(world, "n4", false, &members, &err));
    spec.shards = 4, spec.copies = copies;
    MUST(world_create(world, &spec, &made, &err));
    gy_wire_free(made);
}

static void primaries_are_spread_again_after_a_failover(void **state)
{
    struct world *world = *state;
    make_four_shards(world, 2);
    assert_int_equal(most_primaries(world), 2);
    bool silent[NODES_MAX] = {true};
    world_await(world, silent, one_has_all_primaries, "the other to take over");
    world_await(world, NULL, primaries_are_even, "the primaries to be spread");
}

/* The node with the most replicas has so many. */
static bool even_replicas(struct world *world)
{
    built(world);
    ask_for_all(world);
    for (size_t i = 0; i < world->node_count; i++)
        if (world->nodes[i].count != 1)
            return false;
    return true;
}

static void replicas_move_to_nodes_that_hold_less(void **state)
{
    struct world *world = *state;
    uint32_t members;
    gyre_error err = {0};
    make_four_shards(world, 1);
    assert_int_equal(world->nodes[0].count, 2);
    MUST(drain(world, "n3", true, &members, &err));
    MUST(drain(world, "n4", true, &members, &err));
    world_await(world, NULL, even_replicas, "one replica a node");
}

#define EVEN_TEST(name) cmocka_unit_test_setup_teardown(name, world_make_even, world_free)
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_make_mortal, world_free)

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        TEST(every_member_is_made_and_told_the_same_configuration),
        TEST(a_silent_primary_is_followed_by_one_in_sync),
        TEST(a_member_on_a_dead_node_is_made_anew_on_another),
        TEST(a_replica_that_is_gone_is_never_made_anew_under_its_id),
        TEST(a_damaged_replica_is_dropped_and_another_begins),
        EVEN_TEST(a_primary_that_cannot_be_opened_hands_over_and_stays_a_member), /* patient */
        TEST(a_member_that_stays_closed_is_made_anew_elsewhere),
        TEST(another_in_sync_set_is_told_without_the_codebook),
        TEST(the_in_sync_set_is_what_the_primary_asked_for),
        TEST(a_draining_node_hands_its_members_over),
        TEST(other_wishes_are_followed_while_it_lives),
        TEST(a_replica_is_moved_by_hand),
        TEST(configurations_outlive_the_coordinator),
        TEST(without_a_member_in_sync_nobody_is_promoted),
        TEST(a_dead_node_is_replaced_by_another_and_forgotten),
        TEST(the_last_copies_are_not_given_up_with_a_dead_node),
        TEST(a_shard_without_members_in_sync_is_recovered_by_an_operators_word),
        EVEN_TEST(primaries_are_spread_again_after_a_failover),
        EVEN_TEST(replicas_move_to_nodes_that_hold_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
