/* A shard is split on a node: it narrows itself, what it splits off waits, is taken over and serves, and what is foreign goes;
 * at each step, also over a restart, who is asked for what answers for it, and nothing else. */
#include "server_fixture.h"

#include "store/split.h"

enum { POINTS = 3000, NEW_SHARD = 2 };
#define MID UINT64_C(0x8000000000000000)

static const uint8_t hash_key[GY_HASH_KEY_BYTES] = {9, 8, 7};

static uint64_t hash_of(uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    return gy_point_hash(hash_key, &id);
}

static bool is_upper(uint64_t number)
{
    return hash_of(number) >= MID;
}

/* The first number from `from` on whose hash is in the upper half, or in the lower. */
static uint64_t next_of(uint64_t from, bool upper)
{
    while (is_upper(from) != upper)
        from++;
    return from;
}

static uint64_t count_of(uint64_t first, uint64_t end, bool upper)
{
    uint64_t count = 0;
    for (uint64_t number = first; number < end; number++)
        count += is_upper(number) == upper;
    return count;
}

/* ---- configurations ---- */

static struct gy_shard_config config_of(uint64_t epoch, struct gy_hash_range range, uint32_t split_into)
{
    struct gy_shard_config config = fixture_config(epoch);
    config.range = range;
    memcpy(config.hash_key, hash_key, sizeof hash_key);
    config.split.shard = split_into, config.split.first = split_into ? MID : 0;
    return config;
}

static const struct gy_hash_range whole = {0, UINT64_MAX}, lower = {0, MID - 1}, upper = {MID, UINT64_MAX};

static gyre_status tell(struct world *world, uint32_t shard, uint32_t member, const struct gy_shard_config *config, bool create)
{
    Gyre__Node__EnsureReplica request = GYRE__NODE__ENSURE_REPLICA__INIT;
    uint8_t bytes[8192];
    struct gy_config_message message;
    fixture_tell(&request, &message, config);
    request.collection_id = COLLECTION, request.collection = (char *)(uintptr_t)"words";
    request.shard = shard, request.member = member, request.create = create;
    request.codebook_version = gyre_codebook_version(world->codebook);
    request.codebook = (ProtobufCBinaryData){gyre_codebook_encoded_bytes(world->codebook), bytes};
    gyre_codebook_encode(world->codebook, bytes);
    Gyre__Node__ReplicaStatus *reply;
    gyre_status status =
        ask(world, GYRE__NODE__MESSAGE_TYPE__ENSURE_REPLICA, &request.base, &gyre__node__replica_status__descriptor, &reply);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    return status;
}

static void tell_ok(struct world *world, uint32_t shard, struct gy_shard_config config, bool create)
{
    assert_ok(tell(world, shard, 1, &config, create));
}

/* ---- what is reported ---- */

static bool status_of(struct world *world, uint32_t shard, Gyre__Node__ReplicaStatus *out)
{
    struct gy_node_status *statuses;
    size_t count;
    bool found = false;
    gyre__node__replica_status__init(out);
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    for (size_t i = 0; i < count; i++)
        if (statuses[i].message.shard == shard) {
            found = true;
            *out = statuses[i].message;
            out->trouble = NULL;
        }
    gy_node_statuses_free(statuses);
    return found;
}

/* Waits for events of the node, not for time: a change of what is owned is one. */
static Gyre__Node__ReplicaStatus await(struct world *world, uint32_t shard, bool (*is_it)(const Gyre__Node__ReplicaStatus *))
{
    Gyre__Node__ReplicaStatus status;
    uint64_t seen = 0;
    while (!status_of(world, shard, &status) || !is_it(&status))
        gy_node_wait_change(world->node, &seen, GY_NEVER);
    return status;
}

static bool waits(const Gyre__Node__ReplicaStatus *status)
{
    return status->waiting;
}

static bool has_nothing_foreign(const Gyre__Node__ReplicaStatus *status)
{
    return status->foreign == 0;
}

static bool is_narrow(const Gyre__Node__ReplicaStatus *status)
{
    return status->hash_first != 0 || status->hash_last == MID - 1;
}

/* ---- what is asked ---- */

static gyre_status count_points(struct world *world, uint32_t shard, const struct gy_hash_range *range, uint64_t *count)
{
    Gyre__Node__Count request = GYRE__NODE__COUNT__INIT;
    uint64_t first = range ? range->first : 0, last = range ? range->last : 0;
    Gyre__Node__CountReply *reply;
    request.collection_id = COLLECTION;
    request.shards = &shard, request.n_shards = 1;
    request.hash_firsts = &first, request.hash_lasts = &last, request.n_hash_firsts = request.n_hash_lasts = range ? 1 : 0;
    gyre_status status = ask(world, GYRE__NODE__MESSAGE_TYPE__COUNT, &request.base, &gyre__node__count_reply__descriptor, &reply);
    if (status != GYRE_OK)
        return status;
    *count = reply->points[0];
    gy_wire_free(reply);
    return GYRE_OK;
}

static void assert_count(struct world *world, uint32_t shard, const struct gy_hash_range *range, uint64_t expected)
{
    uint64_t count;
    assert_ok(count_points(world, shard, range, &count));
    assert_int_equal(count, expected);
}

/* Whether a copy of the shard's points says that its sums are not of them alone. */
static bool copy_is_beyond(struct world *world, uint32_t shard, struct gy_hash_range range)
{
    Gyre__Node__Snapshot request = GYRE__NODE__SNAPSHOT__INIT;
    Gyre__Node__SnapshotReply *reply, *ended;
    request.collection_id = COLLECTION, request.shard = shard, request.points = true;
    request.hash_first = range.first, request.hash_last = range.last;
    const ProtobufCMessageDescriptor *type = &gyre__node__snapshot_reply__descriptor;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT, &request.base, type, &reply));
    request.id = reply->id, request.end = true;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT, &request.base, type, &ended));
    bool beyond = reply->beyond;
    gy_wire_free(reply), gy_wire_free(ended);
    return beyond;
}

static gyre_status read_one(struct world *world, uint32_t shard, uint64_t number, bool linearizable, bool *found,
                            uint64_t *version)
{
    Gyre__Node__Read request = GYRE__NODE__READ__INIT;
    Gyre__Node__ReadReply *reply;
    gyre_point_id id = gyre_point_id_from_number(number);
    request.collection_id = COLLECTION, request.shard = shard;
    request.ids = (ProtobufCBinaryData){GYRE_ID_BYTES, id.bytes};
    request.linearizable = linearizable;
    gyre_status status = ask(world, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &gyre__node__read_reply__descriptor, &reply);
    if (status != GYRE_OK)
        return status;
    *found = reply->points[0]->found;
    if (version)
        *version = reply->points[0]->version;
    gy_wire_free(reply);
    return GYRE_OK;
}

static void assert_read(struct world *world, uint32_t shard, uint64_t number, bool linearizable)
{
    bool found = false;
    assert_ok(read_one(world, shard, number, linearizable, &found, NULL));
    assert_true(found);
}

/* The one task's status. */
static gyre_status measure(struct world *world, uint32_t shard, uint64_t number)
{
    Gyre__Node__Distances request = GYRE__NODE__DISTANCES__INIT;
    Gyre__Node__DistanceTask task = GYRE__NODE__DISTANCE_TASK__INIT, *tasks = &task;
    Gyre__Node__DistancesReply *reply;
    float query[DIM];
    gyre_point_id id = gyre_point_id_from_number(number);
    fixture_vector(query, DIM, number, 0);
    request.collection_id = COLLECTION;
    request.queries = (ProtobufCBinaryData){sizeof query, (uint8_t *)query};
    task.shard = shard, task.ids = (ProtobufCBinaryData){GYRE_ID_BYTES, id.bytes};
    request.tasks = &tasks, request.n_tasks = 1;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, &gyre__node__distances_reply__descriptor, &reply));
    gyre_status status = (gyre_status)reply->results[0]->status;
    snprintf(last_error.text, sizeof last_error.text, "%s", reply->results[0]->error);
    gy_wire_free(reply);
    return status;
}

/* Scans for a point's own vector: whether the nearest is that point; the shard's status. */
static gyre_status scan_for(struct world *world, uint32_t shard, uint64_t number, const struct gy_hash_range *range,
                            bool *nearest)
{
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    gyre_point_id id = gyre_point_id_from_number(number);
    uint64_t first = range ? range->first : 0, last = range ? range->last : 0;
    make_scan_from(&scan, world->codebook, number, 1, 1);
    scan.shards[0] = shard;
    scan.message.alone = true, scan.message.seed = 0;
    scan.message.hash_firsts = &first, scan.message.hash_lasts = &last;
    scan.message.n_hash_firsts = scan.message.n_hash_lasts = range ? 1 : 0;
    assert_ok(run_scan(world, &scan, &reply));
    const Gyre__Node__ShardCandidates *result = reply->shards[0];
    gyre_status status = (gyre_status)result->status;
    if (status == GYRE_OK)
        *nearest = result->queries[0]->ids.len >= GYRE_ID_BYTES &&
                   memcmp(result->queries[0]->ids.data, id.bytes, GYRE_ID_BYTES) == 0;
    else
        snprintf(last_error.text, sizeof last_error.text, "%s", result->error);
    gy_wire_free(reply);
    return status;
}

static void assert_scan(struct world *world, uint32_t shard, uint64_t number, const struct gy_hash_range *range, bool expected)
{
    bool nearest;
    assert_ok(scan_for(world, shard, number, range, &nearest));
    assert_int_equal(nearest, expected);
}

/* A write that can be recognised. */
static gyre_status write_as(struct world *world, uint32_t shard, uint64_t request_number, uint64_t number, uint64_t revision)
{
    Gyre__Node__Write *request = fixture_write(4, number, 1, revision, DIM);
    Gyre__Node__WriteReply *reply;
    request->shard = shard, request->request = request_number;
    request->client = (ProtobufCBinaryData){16, malloc(16)};
    memset(request->client.data, 0x5a, 16);
    gyre_status status = ask(world, GYRE__NODE__MESSAGE_TYPE__WRITE, &request->base, &gyre__node__write_reply__descriptor,
                             &reply);
    gy_wire_free(request);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    return status;
}

/* ---- steps ---- */

static void make_shard(struct world *world)
{
    tell_ok(world, 0, config_of(4, whole, 0), true);
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
}

static Gyre__Node__ReplicaStatus begin_split(struct world *world)
{
    make_shard(world);
    tell_ok(world, 0, config_of(5, whole, NEW_SHARD), false);
    await(world, 0, is_narrow);
    return await(world, NEW_SHARD, waits);
}

static void restart(struct world *world)
{
    stop(world);
    start(world);
}

static bool is_in_directory(struct world *world, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/replicas/%s", world->directory, name);
    return access(path, F_OK) == 0;
}

static void drop(struct world *world, uint32_t shard, uint32_t member)
{
    Gyre__Node__DropReplica request = GYRE__NODE__DROP_REPLICA__INIT;
    Gyre__Node__Empty *reply;
    request.collection_id = COLLECTION, request.shard = shard, request.member = member;
    assert_ok(ask(world, GYRE__NODE__MESSAGE_TYPE__DROP_REPLICA, &request.base, &gyre__node__empty__descriptor, &reply));
    gy_wire_free(reply);
}

/* ---- tests ---- */

static void between_narrowing_and_switch_the_old_view_is_answered_and_the_upper_half_is_not_written(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child = begin_split(world), parent;
    assert_int_equal(child.member, 1);
    assert_int_equal(child.epoch, 0);
    assert_int_equal(child.applied_seq, 2); /* points, narrowing */
    assert_int_equal(child.log_seq, 2);
    assert_true(child.hash_first == MID && child.hash_last == UINT64_MAX);
    assert_true(status_of(world, 0, &parent));
    assert_true(parent.hash_first == 0 && parent.hash_last == MID - 1);
    assert_int_equal(parent.foreign, count_of(0, POINTS, true));
    uint64_t up = next_of(0, true), low = next_of(0, false);

    assert_refused(GYRE_ABORTED, write_points(world, 0, up, 1, 1, DIM), "no longer of this shard: it was split");
    assert_ok(write_points(world, 0, low, 1, 0, DIM));
    assert_refused(GYRE_NOT_FOUND, write_points(world, NEW_SHARD, up, 1, 1, DIM), "has no replica");

    assert_read(world, 0, low, true);
    assert_read(world, 0, up, false);
    bool found;
    assert_refused(GYRE_ABORTED, read_one(world, 0, up, true, &found, NULL), "it was split");
    assert_ok(measure(world, 0, up));
    assert_count(world, 0, NULL, count_of(0, POINTS, false));
    assert_count(world, 0, &whole, POINTS);
    assert_count(world, 0, &upper, count_of(0, POINTS, true));
    assert_scan(world, 0, up, &whole, true);
    assert_scan(world, 0, up, NULL, false);
    assert_scan(world, 0, low, NULL, true);
}

static void both_halves_serve_once_they_are_told_and_forget_what_is_not_theirs(void **state)
{
    struct world *world = *state;
    uint64_t up = next_of(0, true), low = next_of(0, false), uppers = count_of(0, POINTS, true);
    begin_split(world);
    tell_ok(world, NEW_SHARD, config_of(5, upper, 0), false);
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_true(is_in_directory(world, "7-2"));
    assert_true(copy_is_beyond(world, 0, lower));
    await(world, NEW_SHARD, has_nothing_foreign);
    assert_false(copy_is_beyond(world, NEW_SHARD, upper));
    assert_count(world, NEW_SHARD, NULL, uppers);
    assert_ok(write_points(world, NEW_SHARD, up, 1, 1, DIM));
    assert_refused(GYRE_ABORTED, write_points(world, NEW_SHARD, low, 1, 1, DIM), "it was split");
    assert_count(world, 0, &whole, POINTS); /* nothing is forgotten while the split is under way */

    tell_ok(world, 0, config_of(6, lower, 0), false);
    await(world, 0, has_nothing_foreign);
    assert_false(copy_is_beyond(world, 0, lower));
    for (int round = 0; round < 2; round++) {
        bool found;
        uint64_t count;
        Gyre__Node__ReplicaStatus status;
        assert_true(status_of(world, 0, &status));
        assert_int_equal(status.foreign, 0);
        assert_int_equal(status.points, POINTS - uppers);
        assert_true(status_of(world, NEW_SHARD, &status));
        assert_int_equal(status.foreign, 0);
        assert_int_equal(status.points, uppers);
        assert_count(world, 0, NULL, POINTS - uppers);
        assert_count(world, NEW_SHARD, NULL, uppers);
        assert_refused(GYRE_ABORTED, count_points(world, 0, &whole, &count), "it was split");
        assert_refused(GYRE_ABORTED, read_one(world, 0, up, false, &found, NULL), "it was split");
        assert_refused(GYRE_ABORTED, measure(world, 0, up), "it was split");
        assert_refused(GYRE_ABORTED, scan_for(world, 0, up, &whole, &found), "it was split");
        assert_refused(GYRE_ABORTED, read_one(world, NEW_SHARD, low, false, &found, NULL), "it was split");
        assert_scan(world, NEW_SHARD, next_of(up + 1, true), &upper, true);
        assert_scan(world, 0, low, &lower, true);
        restart(world);
    }
}

static void an_empty_shard_is_no_longer_asked_for_what_it_gave_away(void **state)
{
    struct world *world = *state;
    uint64_t count;
    tell_ok(world, 0, config_of(4, whole, 0), true);
    tell_ok(world, 0, config_of(5, whole, NEW_SHARD), false);
    await(world, NEW_SHARD, waits);
    assert_count(world, 0, &whole, 0);
    tell_ok(world, NEW_SHARD, config_of(5, upper, 0), false);
    tell_ok(world, 0, config_of(6, lower, 0), false);
    assert_ok(write_points(world, 0, next_of(0, false), 1, 0, DIM)); /* behind the forgetting in the log */
    assert_refused(GYRE_ABORTED, count_points(world, 0, &whole, &count), "it was split");
}

static void a_request_from_before_is_recognised_on_both_halves(void **state)
{
    struct world *world = *state;
    uint64_t up = next_of(10000, true), low = next_of(10000, false), version;
    bool found;
    make_shard(world);
    assert_ok(write_as(world, 0, 1, up, 0));  /* seq 2 */
    assert_ok(write_as(world, 0, 2, low, 0)); /* 3 */
    tell_ok(world, 0, config_of(5, whole, NEW_SHARD), false);
    await(world, NEW_SHARD, waits); /* 4 */
    /* It had no effect, so it is a new one wherever it is sent next. */
    assert_refused(GYRE_ABORTED, write_as(world, 0, 3, up, 1), "it was split");
    tell_ok(world, NEW_SHARD, config_of(5, upper, 0), false);
    assert_ok(write_as(world, NEW_SHARD, 1, up, 5));
    assert_ok(read_one(world, NEW_SHARD, up, true, &found, &version));
    assert_int_equal(version, 2);
    assert_ok(write_as(world, NEW_SHARD, 3, up, 1));
    assert_ok(read_one(world, NEW_SHARD, up, true, &found, &version));
    assert_true(version > 4);
    assert_ok(write_as(world, 0, 2, low, 5));
    assert_ok(read_one(world, 0, low, true, &found, &version));
    assert_int_equal(version, 3);
}

/* Too few are in sync to log the narrowing, so nothing is narrowed yet. */
static void from_the_intent_on_the_newest_is_told_only_of_what_is_kept(void **state)
{
    struct world *world = *state;
    uint64_t up = next_of(0, true), low = next_of(0, false);
    make_shard(world);
    assert_read(world, 0, up, true);
    struct gy_shard_config config = config_of(5, whole, NEW_SHARD);
    config.min_copies = 2;
    tell_ok(world, 0, config, false);
    bool found;
    assert_refused(GYRE_ABORTED, read_one(world, 0, up, true, &found, NULL), "it was split");
    assert_read(world, 0, up, false);
    assert_read(world, 0, low, true);
}

static void what_waits_waits_on_over_restarts_and_serves_none(void **state)
{
    struct world *world = *state;
    begin_split(world);
    for (int round = 0; round < 2; round++) {
        Gyre__Node__ReplicaStatus child;
        restart(world);
        assert_true(status_of(world, NEW_SHARD, &child));
        assert_true(child.waiting && !child.restoring && !child.lost);
        assert_int_equal(child.member, 1);
        assert_int_equal(child.applied_seq, 2);
        assert_true(child.hash_first == MID && child.hash_last == UINT64_MAX);
        assert_count(world, 0, NULL, count_of(0, POINTS, false));
        bool found;
        assert_refused(GYRE_NOT_FOUND, read_one(world, NEW_SHARD, 0, false, &found, NULL), "has no replica");
    }
    struct gy_shard_config older = config_of(4, upper, 0);
    assert_refused(GYRE_ABORTED, tell(world, NEW_SHARD, 1, &older, false), "epoch 4");
    assert_true(is_in_directory(world, "7-2.waiting"));
    tell_ok(world, NEW_SHARD, config_of(7, upper, 0), false);
    assert_count(world, NEW_SHARD, NULL, count_of(0, POINTS, true));
    restart(world);
    assert_count(world, NEW_SHARD, NULL, count_of(0, POINTS, true));
}

static void what_waits_is_dropped_as_a_replica_is(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child;
    begin_split(world);
    drop(world, NEW_SHARD, 2); /* another member */
    assert_true(is_in_directory(world, "7-2.waiting"));
    drop(world, NEW_SHARD, 1);
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_false(status_of(world, NEW_SHARD, &child));
    restart(world);
    assert_false(status_of(world, NEW_SHARD, &child));
    assert_count(world, 0, &whole, POINTS);
}

static void what_waits_is_of_no_use_to_another_member(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child;
    begin_split(world);
    struct gy_shard_config config = config_of(9, upper, 0);
    config.primary = 2, config.next_member = 3, config.members[0].id = 2;
    assert_refused(GYRE_NOT_FOUND, tell(world, NEW_SHARD, 2, &config, false), "has no replica");
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_ok(tell(world, NEW_SHARD, 2, &config, true));
    assert_true(status_of(world, NEW_SHARD, &child));
    assert_int_equal(child.member, 2);
    assert_count(world, NEW_SHARD, NULL, 0);
}

static void a_replica_that_is_there_is_not_made_again(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child;
    tell_ok(world, NEW_SHARD, config_of(3, upper, 0), true);
    make_shard(world);
    tell_ok(world, 0, config_of(5, whole, NEW_SHARD), false);
    await(world, 0, is_narrow);
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_true(status_of(world, NEW_SHARD, &child));
    assert_false(child.waiting);
    assert_count(world, NEW_SHARD, NULL, 0);
}

static void beside_a_replica_one_that_waits_is_removed_at_start(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child;
    char from[256], to[256];
    begin_split(world);
    stop(world);
    snprintf(from, sizeof from, "%s/replicas/7-2.waiting", world->directory);
    snprintf(to, sizeof to, "%s/aside", world->directory);
    assert_int_equal(rename(from, to), 0);
    start(world);
    tell_ok(world, NEW_SHARD, config_of(5, upper, 0), true);
    stop(world);
    assert_int_equal(rename(to, from), 0);
    start(world);
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_true(status_of(world, NEW_SHARD, &child));
    assert_false(child.waiting);
}

static void one_that_waits_and_is_damaged_is_lost_and_made_anew_where_that_may_be(void **state)
{
    struct world *world = *state;
    Gyre__Node__ReplicaStatus child;
    char path[256];
    begin_split(world);
    stop(world);
    snprintf(path, sizeof path, "%s/replicas/7-2.waiting/CURRENT", world->directory);
    assert_int_equal(truncate(path, 0), 0);
    start(world);
    assert_true(status_of(world, NEW_SHARD, &child));
    assert_true(child.lost && !child.waiting);
    struct gy_shard_config config = config_of(5, upper, 0);
    assert_int_equal(tell(world, NEW_SHARD, 1, &config, false), GYRE_CORRUPT);
    assert_ok(tell(world, NEW_SHARD, 1, &config, true));
    assert_false(is_in_directory(world, "7-2.waiting"));
    assert_count(world, NEW_SHARD, NULL, 0);
}

static void a_replica_from_before_ranges_takes_the_one_it_is_told(void **state)
{
    struct world *world = *state;
    struct gy_shard_config before = fixture_config(4);
    tell_ok(world, 0, before, true);
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
    assert_count(world, 0, NULL, POINTS);
    tell_ok(world, 0, config_of(5, upper, 0), false);
    await(world, 0, is_narrow);
    await(world, 0, has_nothing_foreign);
    assert_count(world, 0, NULL, count_of(0, POINTS, true));
    assert_false(is_in_directory(world, "7-2.waiting"));
}

static void a_primarys_own_writes_are_not_taken_from_others_and_ranges_are_checked(void **state)
{
    struct world *world = *state;
    make_shard(world);
    Gyre__Node__WriteReply *reply;
    Gyre__Node__Narrow narrow = GYRE__NODE__NARROW__INIT;
    Gyre__Node__Write request = GYRE__NODE__WRITE__INIT;
    uint8_t key_bytes[GY_HASH_KEY_BYTES] = {0};
    narrow.hash_last = MID - 1, narrow.hash_key = (ProtobufCBinaryData){sizeof key_bytes, key_bytes};
    request.collection_id = COLLECTION, request.epoch = 4, request.narrow = &narrow;
    assert_refused(GYRE_INVALID,
                   ask(world, GYRE__NODE__MESSAGE_TYPE__WRITE, &request.base, &gyre__node__write_reply__descriptor, &reply),
                   "narrow: only a primary writes that");
    request.narrow = NULL, request.forget = true;
    assert_refused(GYRE_INVALID,
                   ask(world, GYRE__NODE__MESSAGE_TYPE__WRITE, &request.base, &gyre__node__write_reply__descriptor, &reply),
                   "forget: only a primary writes that");
    assert_count(world, 0, NULL, POINTS);

    uint64_t two[2] = {0, 0}, count;
    struct scan scan;
    Gyre__Node__ScanReply *scanned;
    make_scan(&scan, world->codebook, 1, 1);
    scan.message.hash_firsts = two, scan.message.n_hash_firsts = 2, scan.message.hash_lasts = two, scan.message.n_hash_lasts = 2;
    assert_refused(GYRE_INVALID, run_scan(world, &scan, &scanned), "2 hash_firsts, 2 hash_lasts; there must be one for each");
    scan.message.n_hash_firsts = 0, scan.message.n_hash_lasts = 1;
    assert_refused(GYRE_INVALID, run_scan(world, &scan, &scanned), "0 hash_firsts, 1 hash_lasts");
    const struct gy_hash_range turned = {MID, 5};
    assert_refused(GYRE_INVALID, count_points(world, 0, &turned, &count), "shards[0]: hash_first is 8000000000000000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(between_narrowing_and_switch_the_old_view_is_answered_and_the_upper_half_is_not_written,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(both_halves_serve_once_they_are_told_and_forget_what_is_not_theirs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_shard_is_no_longer_asked_for_what_it_gave_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_from_before_is_recognised_on_both_halves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(from_the_intent_on_the_newest_is_told_only_of_what_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_waits_on_over_restarts_and_serves_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_dropped_as_a_replica_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_is_of_no_use_to_another_member, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_that_is_there_is_not_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(beside_a_replica_one_that_waits_is_removed_at_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_waits_and_is_damaged_is_lost_and_made_anew_where_that_may_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_from_before_ranges_takes_the_one_it_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_primarys_own_writes_are_not_taken_from_others_and_ranges_are_checked, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
