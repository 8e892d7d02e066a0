/* A shard's members split together: primary, follower and one of codes apply the same log, each makes the child on its own
 * disk, and all of them come to the same, whatever was queued behind the narrowing; and a primary's own writes as anybody might
 * send them. */
#include "replica_fixture.h"

#include "replica/check.h"
#include "store/split.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MEMBERS = 3, POINTS = 400, SHARD = 3, NEW_SHARD = 5 };
#define MID UINT64_C(0x8000000000000000)

static const struct gy_store_identity identity = {.collection_id = 7, .shard = SHARD, .collection = "words"};
static const uint8_t hash_key[GY_HASH_KEY_BYTES] = {3, 1, 4, 1, 5};

static bool is_upper(uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    return gy_point_hash(hash_key, &id) >= MID;
}

static uint64_t next_of(uint64_t from, bool upper)
{
    while (is_upper(from) != upper)
        from++;
    return from;
}

static uint64_t uppers(void)
{
    uint64_t count = 0;
    for (uint64_t number = 0; number < POINTS; number++)
        count += is_upper(number);
    return count;
}

/* ---- three members in one process ---- */

/* An append that is held back. */
struct held {
    struct held *next;
    uint32_t to;
    Gyre__Node__Append *message;
    gy_on_reply *on_reply;
    void *arg;
};

struct member {
    struct world *world;
    uint32_t id;
    char *path, *child_path;
    struct gy_replica_transport transport;
    gy_replica *replica;
    size_t children, changes; /* guarded by world->mu */
    bool dies;                /* once the child is made: as far as the disk can tell */
};

struct world {
    char *directory;
    gy_store_env *env;
    gyre_codebook *codebook;
    struct member members[MEMBERS];
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct gy_shard_config config; /* the catalog's; guarded by mu, as is the next */
    bool holding;
    struct held *held;
};

struct answering {
    gy_on_reply *on_reply;
    void *arg;
};

static void answer_append(void *arg, const struct gy_append_reply *answer)
{
    struct answering answering = *(struct answering *)arg;
    Gyre__Node__AppendReply reply = GYRE__NODE__APPEND_REPLY__INIT;
    gy_bytes body;
    free(arg);
    reply.result = answer->result, reply.epoch = answer->epoch, reply.synced = answer->synced;
    reply.last_epoch = answer->last_epoch, reply.last_seq = answer->last_seq, reply.committed = answer->committed;
    reply.sent_ns = answer->sent_ns;
    assert_int_equal(gy_wire_pack(&body, &reply.base, SIZE_MAX, NULL), GYRE_OK);
    answering.on_reply(answering.arg, GYRE_OK, NULL, body.data, body.size);
    gy_bytes_free(&body);
}

static void deliver(struct world *world, uint32_t to, Gyre__Node__Append *message, gy_on_reply *on_reply, void *arg)
{
    gyre_error err;
    struct answering *answering = malloc(sizeof *answering);
    *answering = (struct answering){on_reply, arg};
    gyre_status status = gy_replica_append(world->members[to - 1].replica, message, answer_append, answering, &err);
    if (status == GYRE_OK)
        return;
    free(answering);
    on_reply(arg, status, &err, NULL, 0);
}

static void call(void *self, const char *node, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                 gy_on_reply *on_reply, void *arg)
{
    struct world *world = ((struct member *)self)->world;
    gy_bytes body;
    Gyre__Node__Append *copy;
    (void)type, (void)deadline_ns;
    assert_int_equal(gy_wire_pack(&body, message, SIZE_MAX, NULL), GYRE_OK);
    assert_int_equal(gy_wire_unpack(&copy, &gyre__node__append__descriptor, body.data, body.size, NULL), GYRE_OK);
    gy_bytes_free(&body);
    uint32_t to = (uint32_t)(node[0] - 'a') + 1;
    pthread_mutex_lock(&world->mu);
    bool holding = world->holding;
    if (holding) {
        struct held *held = malloc(sizeof *held);
        *held = (struct held){world->held, to, copy, on_reply, arg};
        world->held = held;
        pthread_cond_broadcast(&world->changed);
    }
    pthread_mutex_unlock(&world->mu);
    if (!holding)
        deliver(world, to, copy, on_reply, arg);
}

/* A coordinator that agrees to everything. */
static void ask(void *self, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns, gy_on_reply *on_reply, void *arg)
{
    struct world *world = ((struct member *)self)->world;
    struct gy_config_message reply;
    gy_bytes body;
    (void)type, (void)deadline_ns, (void)message;
    pthread_mutex_lock(&world->mu);
    world->config.epoch++;
    gy_config_message_init(&reply, &world->config);
    assert_int_equal(gy_wire_pack(&body, &reply.base.base, SIZE_MAX, NULL), GYRE_OK);
    pthread_mutex_unlock(&world->mu);
    on_reply(arg, GYRE_OK, NULL, body.data, body.size);
    gy_bytes_free(&body);
}

static void no_restore(void *self, struct gy_replica *replica, const char *primary, void (*on_end)(void *arg, bool restored),
                       void *arg)
{
    (void)self, (void)replica, (void)primary;
    on_end(arg, false);
}

static gyre_status split(void *self, struct gy_replica *replica, const struct gy_replica_child *child, gyre_error *err)
{
    struct member *member = self;
    assert_int_equal(child->shard, NEW_SHARD);
    assert_true(child->range.first == MID && child->range.last == UINT64_MAX);
    gyre_status status = access(member->child_path, F_OK) == 0 ? GYRE_OK
                                                               : gy_replica_make_child(replica, member->child_path, child, err);
    pthread_mutex_lock(&member->world->mu);
    member->children++;
    pthread_cond_broadcast(&member->world->changed);
    pthread_mutex_unlock(&member->world->mu);
    return member->dies ? gyre_fail(err, GYRE_INTERNAL, "the child is made, the narrowing not applied") : status;
}

static void changed(void *self, struct gy_replica *replica)
{
    struct member *member = self;
    (void)replica;
    pthread_mutex_lock(&member->world->mu);
    member->changes++;
    pthread_cond_broadcast(&member->world->changed);
    pthread_mutex_unlock(&member->world->mu);
}

static struct gy_replica_limits limits_of(struct member *member)
{
    return (struct gy_replica_limits){
        .queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10, .transport = &member->transport};
}

static struct gy_shard_config all_members(void)
{
    struct gy_shard_config config = fixture_config(4);
    config.member_count = MEMBERS, config.next_member = MEMBERS + 1;
    config.range.last = UINT64_MAX;
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    config.members[1] = (struct gy_member){.id = 2, .kind = GY_MEMBER_FULL, .in_sync = true, .node = "b"};
    config.members[2] = (struct gy_member){.id = 3, .kind = GY_MEMBER_QUANTIZED, .node = "c"};
    return config;
}

/* Until the primary says so of itself. */
static void await_status(struct world *world, bool (*is_it)(const Gyre__Node__ReplicaStatus *status, uint64_t seq), uint64_t seq)
{
    Gyre__Node__ReplicaStatus status;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    do
        gy_replica_status(world->members[0].replica, &status, trouble, sizeof trouble);
    while (!is_it(&status, seq) && sched_yield() == 0);
}

/* One that has just opened first has a new epoch made. */
static bool serves(const Gyre__Node__ReplicaStatus *status, uint64_t seq)
{
    (void)seq;
    return status->epoch > 4;
}

static bool has_logged(const Gyre__Node__ReplicaStatus *status, uint64_t seq)
{
    return status->log_seq >= seq;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    gyre_error err = {0};
    world->directory = fixture_directory();
    world->codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    world->config = all_members();
    pthread_mutex_init(&world->mu, NULL);
    pthread_cond_init(&world->changed, NULL);
    assert_int_equal(gy_store_env_new(&world->env, 8 << 20, &err), GYRE_OK);
    for (uint32_t i = MEMBERS; i-- > 0;) { /* the primary last: it sends at once */
        struct member *member = &world->members[i];
        *member = (struct member){.world = world, .id = i + 1};
        member->transport = (struct gy_replica_transport){member, call, ask, no_restore, NULL, split, changed};
        if (asprintf(&member->path, "%s/%u", world->directory, i) < 0 ||
            asprintf(&member->child_path, "%s/%u.child", world->directory, i) < 0)
            return -1;
        struct gy_replica_limits limits = limits_of(member);
        if (gy_replica_create(&member->replica, world->env, member->path, &identity, member->id, &world->config, "rabitq1",
                              world->codebook, &limits, &err) != GYRE_OK)
            fail_msg("%s", err.text);
    }
    *state = world;
    await_status(world, serves, 0);
    return 0;
}

static void close_all(struct world *world)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (world->members[i].replica)
            gy_replica_end_writes(world->members[i].replica);
    for (size_t i = 0; i < MEMBERS; i++) {
        gy_replica_close(world->members[i].replica);
        world->members[i].replica = NULL;
    }
}

static int tear_down(void **state)
{
    struct world *world = *state;
    close_all(world);
    for (size_t i = 0; i < MEMBERS; i++) {
        free(world->members[i].path);
        free(world->members[i].child_path);
    }
    gy_store_env_free(world->env);
    gyre_codebook_free(world->codebook);
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->mu);
    fixture_directory_free(world->directory);
    free(world);
    return 0;
}

/* ---- steps ---- */

static gy_points *points_of(struct world *world, size_t i)
{
    return gy_replica_points(world->members[i].replica);
}

static void tell(struct world *world, struct gy_hash_range range, uint32_t split_into)
{
    gyre_error err;
    pthread_mutex_lock(&world->mu);
    world->config.epoch++;
    world->config.range = range;
    world->config.split.shard = split_into, world->config.split.first = split_into ? MID : 0;
    struct gy_shard_config config = world->config;
    pthread_mutex_unlock(&world->mu);
    for (size_t i = 0; i < MEMBERS; i++)
        if (gy_replica_set_config(world->members[i].replica, &config, &err) == GYRE_INVALID) /* aborted: it has a newer one */
            fail_msg("%s", err.text);
}

static void write_ok(struct world *world, Gyre__Node__Write *write)
{
    struct fixture_answer answer = fixture_submit(world->members[0].replica, write);
    if (answer.status != GYRE_OK)
        fail_msg("%s", answer.err.text);
}

/* Until every member says that what it owns has changed so often. */
static void await_changes(struct world *world, size_t count)
{
    pthread_mutex_lock(&world->mu);
    for (size_t i = 0; i < MEMBERS; i++)
        while (world->members[i].changes < count)
            pthread_cond_wait(&world->changed, &world->mu);
    pthread_mutex_unlock(&world->mu);
}

static void hold_appends(struct world *world)
{
    pthread_mutex_lock(&world->mu);
    world->holding = true;
    pthread_mutex_unlock(&world->mu);
}

/* Until the follower would be sent more than `seq`. */
static void await_held(struct world *world)
{
    pthread_mutex_lock(&world->mu);
    while (!world->held)
        pthread_cond_wait(&world->changed, &world->mu);
    pthread_mutex_unlock(&world->mu);
}

static void let_go(struct world *world)
{
    pthread_mutex_lock(&world->mu);
    world->holding = false;
    struct held *held = world->held;
    world->held = NULL;
    pthread_mutex_unlock(&world->mu);
    while (held) {
        struct held *next = held->next;
        deliver(world, held->to, held->message, held->on_reply, held->arg);
        free(held);
        held = next;
    }
}

/* ---- comparing ---- */

static void assert_alike(const struct gy_digest *a, const struct gy_digest *b, bool vectors)
{
    assert_memory_equal(&a->points, &b->points, sizeof a->points);
    assert_memory_equal(&a->codes, &b->codes, sizeof a->codes);
    if (vectors)
        assert_memory_equal(&a->vectors, &b->vectors, sizeof a->vectors);
}

static void assert_replicas_alike(struct world *world)
{
    struct gy_points_state first = gy_points_state(points_of(world, 0));
    for (size_t i = 1; i < MEMBERS; i++) {
        struct gy_points_state other = gy_points_state(points_of(world, i));
        assert_int_equal(other.applied_seq, first.applied_seq);
        assert_alike(&first.digest, &other.digest, i < 2);
        struct gy_ownership a = gy_points_ownership(points_of(world, 0)), b = gy_points_ownership(points_of(world, i));
        assert_memory_equal(&a, &b, sizeof a);
    }
}

static void assert_children_alike(struct world *world, uint64_t seq)
{
    struct gy_digest first = {0};
    for (size_t i = 0; i < MEMBERS; i++) {
        gy_store *store;
        gyre_error err;
        struct gy_digest digest;
        struct gy_range_record range;
        struct gy_shard_config config;
        uint64_t epoch, last;
        if (gy_store_open(&store, world->env, world->members[i].child_path, &err) != GYRE_OK)
            fail_msg("%s", err.text);
        assert_int_equal(gy_store_identity(store)->shard, NEW_SHARD);
        assert_int_equal(gy_store_member(store), i + 1);
        assert_int_equal(gy_store_quantized(store), i == 2);
        assert_int_equal(gy_store_applied_seq(store), seq);
        gy_store_log_last(store, &epoch, &last);
        assert_int_equal(last, seq);
        gy_store_range(store, &range);
        assert_true(range.owned.first == MID && range.owned.last == UINT64_MAX && range.content.first == MID);
        gy_store_config(store, &config);
        assert_true(config.range.first == MID && config.range.last == UINT64_MAX);
        assert_int_equal(config.split.shard, 0);
        gy_store_digest(store, &digest);
        if (i == 0)
            first = digest;
        assert_alike(&first, &digest, i < 2);
        gy_store_close(store);
    }
}

/* ---- tests ---- */

static gyre_status count_request(void *self, const struct gy_request *request, gyre_error *err)
{
    (void)request, (void)err;
    ++*(size_t *)self;
    return GYRE_OK;
}

static void every_member_makes_the_same_child_and_forgets_the_same(void **state)
{
    struct world *world = *state;
    write_ok(world, fixture_write(4, 0, POINTS, 0, FIXTURE_DIM));
    tell(world, (struct gy_hash_range){0, UINT64_MAX}, NEW_SHARD);
    await_changes(world, 1);
    assert_replicas_alike(world);
    assert_int_equal(gy_points_ownership(points_of(world, 1)).foreign, uppers());
    assert_children_alike(world, gy_points_applied_seq(points_of(world, 0)));
    write_ok(world, fixture_write(4, next_of(POINTS, false), 1, 0, FIXTURE_DIM));
    tell(world, (struct gy_hash_range){0, MID - 1}, 0);
    await_changes(world, 2);
    for (size_t i = 0; i < MEMBERS; i++) {
        struct gy_points_state state_of = gy_points_state(points_of(world, i));
        assert_int_equal(gy_points_ownership(points_of(world, i)).foreign, 0);
        assert_int_equal(state_of.points, POINTS - uppers() + 1);
        assert_int_equal(world->members[i].children, 1);
    }
    assert_replicas_alike(world);
}

static void what_waits_behind_the_narrowing_comes_to_nothing_if_it_is_of_the_other_half(void **state)
{
    struct world *world = *state;
    uint64_t up = next_of(0, true), low = next_of(0, false);
    write_ok(world, fixture_write(4, 0, POINTS, 0, FIXTURE_DIM));
    /* The follower is told nothing more, so what is logged from now on is not committed. */
    hold_appends(world);
    struct fixture_answer before = FIXTURE_ANSWER, refused = FIXTURE_ANSWER, mixed = FIXTURE_ANSWER, behind = FIXTURE_ANSWER;
    gy_replica *primary = world->members[0].replica;
    gy_replica_write(primary, fixture_write(4, up, 1, 1, FIXTURE_DIM), GY_NEVER, fixture_on_written, &before);
    await_held(world);
    tell(world, (struct gy_hash_range){0, UINT64_MAX}, NEW_SHARD);
    /* 2: before; 3: the narrowing, which the primary writes as soon as it has the configuration. */
    await_status(world, has_logged, 3);
    Gyre__Node__Write *asked = fixture_write(4, up, 1, 2, FIXTURE_DIM);
    asked->client = (ProtobufCBinaryData){GY_CLIENT_BYTES, calloc(1, GY_CLIENT_BYTES)}, asked->request = 1;
    gy_replica_write(primary, asked, GY_NEVER, fixture_on_written, &refused);
    Gyre__Node__Write *both = fixture_write(4, low, 2, 2, 0);
    gyre_point_id id = gyre_point_id_from_number(up);
    memcpy(both->operations[1]->id.data, id.bytes, GYRE_ID_BYTES);
    gy_replica_write(primary, both, GY_NEVER, fixture_on_written, &mixed);
    gy_replica_write(primary, fixture_write(4, low, 1, 3, FIXTURE_DIM), GY_NEVER, fixture_on_written, &behind);
    await_status(world, has_logged, 6);
    assert_int_equal(gy_points_applied_seq(points_of(world, 0)), 1);
    let_go(world);

    fixture_wait(&before), fixture_wait(&refused), fixture_wait(&mixed), fixture_wait(&behind);
    assert_int_equal(before.status, GYRE_OK);
    assert_int_equal(behind.status, GYRE_OK);
    for (struct fixture_answer *answer = &refused; answer; answer = answer == &refused ? &mixed : NULL) {
        assert_int_equal(answer->status, GYRE_ABORTED);
        assert_non_null(strstr(answer->err.text, "shard 3 of collection 7: a point is no longer of this shard: it was split"));
    }
    struct fixture_found found;
    assert_int_equal(fixture_look(primary, up, 3, &found), GYRE_OK);
    assert_int_equal(found.revision, 1);
    assert_int_equal(fixture_look(primary, low, 3, &found), GYRE_OK);
    assert_int_equal(found.revision, 3);
    await_changes(world, 1);
    assert_children_alike(world, 3);

    /* The one that was refused is not known: what it asks for is done where it may be. */
    close_all(world);
    gy_store *store;
    size_t count = 0;
    gyre_error err;
    assert_int_equal(gy_store_open(&store, world->env, world->members[0].path, &err), GYRE_OK);
    assert_int_equal(gy_store_requests(store, count_request, &count, &err), GYRE_OK);
    assert_int_equal(count, 0);
    gy_store_close(store);
}

/* ---- from a log ---- */

struct alone {
    char *directory, *path;
    gy_store_env *env;
    gy_store *store; /* until the replica is opened */
    struct member member;
    struct world world;
};

static void append_entry(gy_store *store, uint64_t seq, Gyre__Node__Write *write)
{
    gy_bytes body;
    gyre_error err;
    assert_int_equal(gy_wire_pack(&body, &write->base, 1 << 20, NULL), GYRE_OK);
    struct gy_log_entry entry = {.epoch = 4, .seq = seq, .body = body.data, .bytes = body.size};
    if (gy_store_log_append(store, &entry, 1, false, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gy_bytes_free(&body);
}

static void append_write(gy_store *store, uint64_t seq, Gyre__Node__Write *write)
{
    append_entry(store, seq, write);
    gy_wire_free(write);
}

static void append_narrow(gy_store *store, uint64_t seq, uint64_t first, uint64_t last, const uint8_t *key)
{
    Gyre__Node__Write write = GYRE__NODE__WRITE__INIT;
    Gyre__Node__Narrow narrow = GYRE__NODE__NARROW__INIT;
    narrow.hash_first = first, narrow.hash_last = last, narrow.shard = NEW_SHARD;
    narrow.hash_key = (ProtobufCBinaryData){GY_HASH_KEY_BYTES, (uint8_t *)(uintptr_t)key};
    write.narrow = &narrow;
    append_entry(store, seq, &write);
}

static int set_up_alone(void **state)
{
    struct alone *alone = calloc(1, sizeof *alone);
    gyre_error err = {0};
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    struct gy_shard_config config = fixture_config(4);
    config.range.last = UINT64_MAX, config.split.shard = NEW_SHARD, config.split.first = MID;
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    alone->directory = fixture_directory();
    pthread_mutex_init(&alone->world.mu, NULL);
    pthread_cond_init(&alone->world.changed, NULL);
    alone->world.config = config;
    alone->member = (struct member){.world = &alone->world, .id = 1};
    alone->member.transport = (struct gy_replica_transport){&alone->member, call, ask, no_restore, NULL, split, changed};
    if (asprintf(&alone->path, "%s/7-3", alone->directory) < 0 ||
        asprintf(&alone->member.child_path, "%s/child", alone->directory) < 0 ||
        gy_store_env_new(&alone->env, 8 << 20, &err) != GYRE_OK ||
        gy_store_create(&alone->store, alone->env, alone->path, &identity, 1, &config, "rabitq1", codebook, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gyre_codebook_free(codebook);
    *state = alone;
    return 0;
}

static int tear_down_alone(void **state)
{
    struct alone *alone = *state;
    gy_replica_close(alone->member.replica);
    gy_store_close(alone->store);
    gy_store_env_free(alone->env);
    pthread_cond_destroy(&alone->world.changed);
    pthread_mutex_destroy(&alone->world.mu);
    fixture_directory_free(alone->directory);
    free(alone->path);
    free(alone->member.child_path);
    free(alone);
    return 0;
}

static gyre_status open_alone(struct alone *alone, gyre_error *err)
{
    struct gy_replica_limits limits = limits_of(&alone->member);
    gy_store_close(GY_TAKE(alone->store));
    return gy_replica_open(&alone->member.replica, alone->env, alone->path, &limits, err);
}

static void a_replay_goes_through_a_narrowing_as_the_first_time(void **state)
{
    struct alone *alone = *state;
    gyre_error err;
    uint64_t up = next_of(0, true), low = next_of(0, false);
    append_write(alone->store, 1, fixture_write(4, 0, POINTS, 0, FIXTURE_DIM));
    append_narrow(alone->store, 2, 0, MID - 1, hash_key);
    append_write(alone->store, 3, fixture_write(4, up, 1, 1, FIXTURE_DIM));
    append_write(alone->store, 4, fixture_write(4, low, 1, 1, FIXTURE_DIM));
    append_narrow(alone->store, 5, 0, MID - 1, hash_key); /* once more: nothing happens */
    if (open_alone(alone, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    gy_replica *replica = alone->member.replica;
    struct fixture_found found;
    assert_int_equal(alone->member.children, 1);
    assert_int_equal(gy_points_applied_seq(gy_replica_points(replica)), 5);
    assert_int_equal(gy_points_count(gy_replica_points(replica)), POINTS - uppers());
    assert_int_equal(gy_points_ownership(gy_replica_points(replica)).foreign, uppers());
    assert_int_equal(fixture_look(replica, up, 3, &found), GYRE_OK);
    assert_int_equal(found.revision, 0);
    assert_int_equal(fixture_look(replica, low, 3, &found), GYRE_OK);
    assert_int_equal(found.revision, 1);
}

static void a_child_that_was_made_before_the_end_is_found_by_the_next_life(void **state)
{
    struct alone *alone = *state;
    gyre_error err;
    struct stat first, second;
    char current[256];
    append_write(alone->store, 1, fixture_write(4, 0, POINTS, 0, FIXTURE_DIM));
    append_narrow(alone->store, 2, 0, MID - 1, hash_key);
    alone->member.dies = true;
    assert_int_equal(open_alone(alone, &err), GYRE_INTERNAL);
    snprintf(current, sizeof current, "%s/CURRENT", alone->member.child_path);
    assert_int_equal(stat(current, &first), 0);
    alone->member.dies = false;
    if (open_alone(alone, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(stat(current, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    assert_int_equal(alone->member.children, 2);
    gy_points *points = gy_replica_points(alone->member.replica);
    assert_int_equal(gy_points_applied_seq(points), 2);
    assert_int_equal(gy_points_ownership(points).foreign, uppers());
}

static void a_narrowing_that_leaves_nothing_is_damage(void **state)
{
    struct alone *alone = *state;
    gyre_error err;
    append_narrow(alone->store, 1, 0, MID - 1, hash_key);
    append_narrow(alone->store, 2, MID, MID + 5, hash_key);
    assert_int_equal(open_alone(alone, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "log entry 2: narrow"));
}

/* ---- as anybody might send them ---- */

static void assert_bad(const Gyre__Node__Write *write, const char *words)
{
    const struct gy_write_rules rules = {.metric = GYRE_L2, .dim = FIXTURE_DIM};
    gyre_error err;
    assert_int_equal(gy_write_check(write, &rules, &err), GYRE_INVALID);
    if (!strstr(err.text, words))
        fail_msg("expected '%s'; got %s", words, err.text);
}

static void own_writes_are_checked(void **state)
{
    (void)state;
    const struct gy_write_rules quantized = {.metric = GYRE_L2, .dim = FIXTURE_DIM, .quantized = true, .codebook_version = 7};
    Gyre__Node__Narrow narrow = GYRE__NODE__NARROW__INIT;
    uint8_t key_bytes[GY_HASH_KEY_BYTES + 1] = {0};
    narrow.hash_last = MID - 1, narrow.hash_key = (ProtobufCBinaryData){GY_HASH_KEY_BYTES, key_bytes};
    Gyre__Node__Write *deletes = fixture_write(4, 0, 2, 0, 0), *upserts = fixture_write(4, 0, 2, 0, FIXTURE_DIM);
    Gyre__Node__Write *many = fixture_write(4, 0, GY_FORGET_OPERATIONS_MAX + 1, 0, 0);
    Gyre__Node__Write write = GYRE__NODE__WRITE__INIT;
    write.narrow = &narrow;
    assert_int_equal(gy_write_check(&write, &quantized, NULL), GYRE_OK);
    narrow.hash_key.len = GY_HASH_KEY_BYTES + 1;
    assert_bad(&write, "narrow: hash_key has 17 bytes; it has 16");
    narrow.hash_key.len = 0;
    assert_bad(&write, "narrow: hash_key has 0 bytes");
    narrow.hash_key.len = GY_HASH_KEY_BYTES;
    narrow.hash_first = MID;
    assert_bad(&write, "narrow: from 8000000000000000 to 7fffffffffffffff");
    narrow.hash_first = 0, narrow.hash_last = UINT64_MAX;
    assert_bad(&write, "narrow: from 0000000000000000 to ffffffffffffffff");
    narrow.hash_last = 0;
    assert_bad(&write, "narrow: from");
    narrow.hash_first = MID, narrow.hash_last = UINT64_MAX;
    assert_int_equal(gy_write_check(&write, &quantized, NULL), GYRE_OK);
    narrow.shard = 4;
    assert_bad(&write, "narrow: nothing is above ffffffffffffffff for shard 4");
    narrow.hash_first = 0, narrow.hash_last = MID - 1;
    write.operations = deletes->operations, write.n_operations = 2;
    assert_bad(&write, "narrow, and operations");
    write.n_operations = 0, write.forget = true;
    assert_bad(&write, "narrow, and forget");
    write.narrow = NULL;
    assert_int_equal(gy_write_check(&write, &quantized, NULL), GYRE_OK);
    write.n_operations = 2;
    assert_int_equal(gy_write_check(&write, &quantized, NULL), GYRE_OK);
    write.client = (ProtobufCBinaryData){16, key_bytes};
    assert_bad(&write, "client of 16 bytes; a primary's own write has none");
    write.client.len = 0;
    deletes->operations[1]->id.len = 15;
    assert_bad(&write, "operation 1: id of 15 bytes");
    deletes->operations[1]->id.len = GYRE_ID_BYTES;
    write.operations = upserts->operations;
    assert_bad(&write, "operation 0: an upsert; what is forgotten is deleted");
    write.operations = many->operations, write.n_operations = many->n_operations;
    assert_bad(&write, "forget of 1025 points; it has at most 1024");
    gy_wire_free(deletes), gy_wire_free(upserts), gy_wire_free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_member_makes_the_same_child_and_forgets_the_same, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_behind_the_narrowing_comes_to_nothing_if_it_is_of_the_other_half, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_replay_goes_through_a_narrowing_as_the_first_time, set_up_alone, tear_down_alone),
        cmocka_unit_test_setup_teardown(a_child_that_was_made_before_the_end_is_found_by_the_next_life, set_up_alone,
                                        tear_down_alone),
        cmocka_unit_test_setup_teardown(a_narrowing_that_leaves_nothing_is_damage, set_up_alone, tear_down_alone),
        cmocka_unit_test(own_writes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
