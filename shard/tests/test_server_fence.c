/* A replica whose data proves damaged is fenced, whoever finds it: it answers nothing from then on, also after a restart, the node
 * and its other replicas go on, and a new member may take its place. */
#include "server_fixture.h"

#include "server/scrub.h"

#include "gyre/lifecycle.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>

enum { POINTS = 400 };

/* ---- damage ---- */

/* Whether a file is of the family of vectors: its properties name the family. */
static bool has_vectors(const char *path)
{
    static char bytes[1 << 20];
    FILE *file = fopen(path, "r");
    size_t read = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (file)
        fclose(file);
    return memmem(bytes, read, "vectors", strlen("vectors")) != NULL;
}

/* One byte in the middle of the largest file of vectors. */
static void flip_largest(const char *directory)
{
    char best[512] = "";
    off_t best_bytes = -1;
    DIR *listing = opendir(directory);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        char path[512];
        struct stat found;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (strstr(entry->d_name, ".sst") && stat(path, &found) == 0 && found.st_size > best_bytes && has_vectors(path)) {
            memcpy(best, path, sizeof best);
            best_bytes = found.st_size;
        }
    }
    closedir(listing);
    FILE *file = fopen(best, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, best_bytes / 2, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 0x40, file);
    assert_int_equal(fclose(file), 0);
}

/* Two replicas, with points; then a byte of the first one's vectors is another, which nobody has read since. */
static void damage_shard_0(struct world *world)
{
    char path[256];
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
    assert_ok(write_points(world, 1, 0, POINTS, 0, DIM));
    stop(world);
    snprintf(path, sizeof path, "%s/replicas/7-0", world->directory);
    flip_largest(path);
    start(world);
    world->found_only = true;
}

/* ---- what is asked ---- */

static gyre_point_id *all_ids(void)
{
    gyre_point_id *ids = calloc(POINTS, sizeof *ids);
    for (uint64_t i = 0; i < POINTS; i++)
        ids[i] = gyre_point_id_from_number(i);
    return ids;
}

static gyre_status read_all(struct world *world, uint32_t shard)
{
    Gyre__Node__Read request = GYRE__NODE__READ__INIT;
    Gyre__Node__ReadReply *reply;
    gyre_point_id *ids = all_ids();
    request.collection_id = COLLECTION, request.shard = shard, request.with_vector = true;
    request.ids = (ProtobufCBinaryData){POINTS * sizeof *ids, (uint8_t *)ids};
    gyre_status status = ask(world, GYRE__NODE__MESSAGE_TYPE__READ, &request.base, &gyre__node__read_reply__descriptor, &reply);
    free(ids);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    return status;
}

static gyre_status measure_all(struct world *world, uint32_t shard)
{
    Gyre__Node__Distances request = GYRE__NODE__DISTANCES__INIT;
    Gyre__Node__DistanceTask task = GYRE__NODE__DISTANCE_TASK__INIT, *tasks[] = {&task};
    Gyre__Node__DistancesReply *reply;
    float query[DIM] = {1};
    gyre_point_id *ids = all_ids();
    task.shard = shard;
    task.ids = (ProtobufCBinaryData){POINTS * sizeof *ids, (uint8_t *)ids};
    request.collection_id = COLLECTION;
    request.queries = (ProtobufCBinaryData){sizeof query, (uint8_t *)query};
    request.n_tasks = 1, request.tasks = tasks;
    gyre_status status =
        ask(world, GYRE__NODE__MESSAGE_TYPE__DISTANCES, &request.base, &gyre__node__distances_reply__descriptor, &reply);
    free(ids);
    assert_ok(status);
    status = (gyre_status)reply->results[0]->status;
    if (status != GYRE_OK)
        GY_IGNORE(gyre_fail(&last_error, status, "%s", reply->results[0]->error)); /* for assert_refused */
    gy_wire_free(reply);
    return status;
}

static gyre_status scan_all(struct world *world, uint32_t shard)
{
    struct scan scan;
    Gyre__Node__ScanReply *reply;
    make_scan(&scan, world->codebook, 1, 1);
    scan.shards[0] = shard;
    scan.message.exact = true;
    scan.message.rotated = (ProtobufCBinaryData){0};
    assert_ok(run_scan(world, &scan, &reply));
    gyre_status status = (gyre_status)reply->shards[0]->status;
    if (status != GYRE_OK)
        GY_IGNORE(gyre_fail(&last_error, status, "%s", reply->shards[0]->error)); /* for assert_refused */
    gy_wire_free(reply);
    return status;
}

/* Every point again: applying it takes away what was there. */
static gyre_status write_all(struct world *world, uint32_t shard)
{
    return write_points(world, shard, 0, POINTS, 1, DIM);
}

static gyre_status sum_all(struct world *world, uint32_t shard)
{
    Gyre__Node__SumVectors request = GYRE__NODE__SUM_VECTORS__INIT;
    Gyre__Node__SumVectorsReply *reply;
    request.collection_id = COLLECTION, request.shard = shard;
    gyre_status status =
        ask(world, GYRE__NODE__MESSAGE_TYPE__SUM_VECTORS, &request.base, &gyre__node__sum_vectors_reply__descriptor, &reply);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    return status;
}

/* ---- what is expected ---- */

static bool is_lost(struct world *world, char *text, size_t bytes)
{
    struct gy_node_status *statuses;
    size_t count;
    assert_int_equal(gy_node_statuses(world->node, &statuses, &count, NULL), GYRE_OK);
    assert_int_equal(count, 2);
    bool lost = statuses[0].message.lost;
    assert_false(statuses[1].message.lost);
    snprintf(text, bytes, "%s", statuses[0].message.trouble);
    gy_node_statuses_free(statuses);
    return lost;
}

static void assert_fenced(struct world *world)
{
    char text[GYRE_ERROR_TEXT_BYTES];
    assert_true(is_lost(world, text, sizeof text));
    assert_true(strlen(text) > 0);
    assert_refused(GYRE_UNAVAILABLE, read_all(world, 0), "is damaged");
    assert_refused(GYRE_UNAVAILABLE, write_all(world, 0), "is damaged");
    assert_refused(GYRE_UNAVAILABLE, scan_all(world, 0), "is damaged");
    assert_int_not_equal(ensure(world, 0, 4, world->codebook, NULL), GYRE_OK); /* as the coordinator tells it now and then */
    assert_true(is_lost(world, text, sizeof text));
    assert_ok(read_all(world, 1));
    assert_ok(write_all(world, 1));
    assert_int_equal(gy_stop_exit_code(), 0); /* nobody asked the process to stop */
}

typedef gyre_status finder(struct world *world, uint32_t shard);

static void found_by(void **state, finder *find)
{
    struct world *world = *state;
    char text[GYRE_ERROR_TEXT_BYTES];
    damage_shard_0(world);
    assert_refused(GYRE_UNAVAILABLE, find(world, 0), ""); /* a write: it may have happened; all others: it is damaged */
    assert_fenced(world);
    stop(world);
    start(world);
    assert_true(is_lost(world, text, sizeof text));
    assert_non_null(strstr(text, "found damaged before"));
    assert_fenced(world);
    world->found_only = false;
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_false(is_lost(world, text, sizeof text));
    assert_ok(write_all(world, 0));
    assert_ok(read_all(world, 0));
}

static void a_read_fences(void **state) { found_by(state, read_all); }
static void distances_fence(void **state) { found_by(state, measure_all); }
static void a_scan_fences(void **state) { found_by(state, scan_all); }
static void an_apply_fences(void **state) { found_by(state, write_all); }
static void a_sum_fences(void **state) { found_by(state, sum_all); }

static void what_runs_in_the_background_fences(void **state)
{
    struct world *world = *state;
    char text[GYRE_ERROR_TEXT_BYTES];
    damage_shard_0(world);
    while (!is_lost(world, text, sizeof text)) /* the mirror is being warmed */
        sched_yield();
    assert_fenced(world);
}

static void a_held_state_is_let_go_of(void **state)
{
    struct world *world = *state;
    Gyre__Node__Snapshot request = GYRE__NODE__SNAPSHOT__INIT;
    Gyre__Node__SnapshotReply *reply;
    damage_shard_0(world);
    request.collection_id = COLLECTION, request.shard = 0;
    request.without_vectors = true;
    gyre_status status =
        ask(world, GYRE__NODE__MESSAGE_TYPE__SNAPSHOT, &request.base, &gyre__node__snapshot_reply__descriptor, &reply);
    if (status == GYRE_OK)
        gy_wire_free(reply);
    assert_refused(GYRE_UNAVAILABLE, read_all(world, 0), "damaged");
    assert_fenced(world); /* whose ensure waits until the replica is closed */
}

/* ---- scrubs ---- */

static void a_scrub_says_whole_or_fences(void **state)
{
    struct world *world = *state;
    gy_scrubs *scrubs;
    gyre_error err;
    struct gy_scrub_result result;
    char path[256];
    struct gy_scrub_options options = {.node = world->node, .metrics = world->metrics};
    assert_ok(ensure(world, 0, 4, world->codebook, NULL));
    assert_ok(ensure(world, 1, 4, world->codebook, NULL));
    assert_ok(write_points(world, 0, 0, POINTS, 0, DIM));
    assert_ok(write_points(world, 1, 0, POINTS, 0, DIM));
    assert_int_equal(gy_scrubs_new(&scrubs, &options, &err), GYRE_OK);
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 0, 0, GY_NEVER, &result, &err), GYRE_OK);
    assert_int_equal(result.damaged, 0);
    assert_string_equal(result.first, "");
    assert_int_equal(result.points, POINTS);
    assert_true(result.bytes > POINTS * DIM * sizeof(float));
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 0, 2, GY_NEVER, &result, &err), GYRE_NOT_FOUND);
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 5, 0, GY_NEVER, &result, &err), GYRE_NOT_FOUND);
    snprintf(path, sizeof path, "%s/replicas/.7-0.checking", world->directory);
    assert_int_equal(access(path, F_OK), -1);
    snprintf(path, sizeof path, "%s/replicas/7-0", world->directory);
    assert_true(gy_store_checked_at(path) > 0);
    flip_largest(path);
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 0, 0, GY_NEVER, &result, &err), GYRE_OK);
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 1, 0, GY_NEVER, &(struct gy_scrub_result){0}, &err), GYRE_OK);
    assert_true(result.damaged > 0);
    assert_non_null(strstr(result.first, "block checksum mismatch"));
    world->found_only = true;
    assert_fenced(world);
    gy_scrubs_stop(scrubs);
    assert_int_equal(gy_scrubs_run(scrubs, COLLECTION, 1, 0, GY_NEVER, &result, &err), GYRE_CANCELLED);
    gy_scrubs_free(scrubs);
}

static void scrubs_run_by_the_clock(void **state)
{
    struct world *world = *state;
    gy_scrubs *scrubs;
    gyre_error err;
    char path[256], text[GYRE_ERROR_TEXT_BYTES];
    struct gy_scrub_options options = {.node = world->node, .metrics = world->metrics, .interval_ns = GY_SECOND_NS};
    damage_shard_0(world);
    options.node = world->node, options.metrics = world->metrics;
    assert_int_equal(gy_scrubs_new(&scrubs, &options, &err), GYRE_OK);
    snprintf(path, sizeof path, "%s/replicas/7-1/CHECKED", world->directory);
    while (access(path, F_OK) != 0 || !is_lost(world, text, sizeof text))
        sched_yield();
    gy_scrubs_free(scrubs);
    assert_fenced(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_read_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(distances_fence, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_apply_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_sum_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_runs_in_the_background_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_held_state_is_let_go_of, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scrub_says_whole_or_fences, set_up, tear_down),
        cmocka_unit_test_setup_teardown(scrubs_run_by_the_clock, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
