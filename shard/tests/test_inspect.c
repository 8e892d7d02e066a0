/* Each kind of damage, in each family, of a replica that nobody has open: an inspection finds it and names it, and finds nothing in
 * one that is whole. */
#include "replica_fixture.h"

#include "replica/inspect.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { POINTS = 600, BATCH = 50, EPOCH = 4 };

struct made {
    char *directory, *path;
    gy_store_env *env;
};

static const struct gy_replica_limits limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 100};
static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};

static void must(gyre_status status, const gyre_error *err)
{
    if (status != GYRE_OK)
        fail_msg("%s: %s", gyre_status_name(status), err->text);
}

static void name_client(Gyre__Node__Write *write, uint64_t request)
{
    write->client = (ProtobufCBinaryData){GY_CLIENT_BYTES, calloc(1, GY_CLIENT_BYTES)};
    write->client.data[0] = 9;
    write->request = request;
}

static int set_up(void **state)
{
    struct made *made = calloc(1, sizeof *made);
    gy_replica *replica;
    gyre_error err;
    made->directory = fixture_directory();
    assert_true(asprintf(&made->path, "%s/7-3", made->directory) > 0);
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    const struct gy_shard_config config = fixture_config(EPOCH);
    must(gy_store_env_new(&made->env, 8 << 20, &err), &err);
    must(gy_replica_create(&replica, made->env, made->path, &identity, 1, &config, "rabitq1", codebook, &limits, &err), &err);
    gyre_codebook_free(codebook);
    for (uint64_t i = 0; i < POINTS; i += BATCH) {
        Gyre__Node__Write *write = fixture_write(EPOCH, i, BATCH, i, FIXTURE_DIM);
        name_client(write, i + 1);
        assert_int_equal(fixture_submit(replica, write).status, GYRE_OK);
    }
    assert_int_equal(fixture_submit(replica, fixture_write(EPOCH, 7, 5, 0, 0)).status, GYRE_OK);
    gy_replica_close(replica);
    *state = made;
    return 0;
}

static int tear_down(void **state)
{
    struct made *made = *state;
    gy_store_env_free(made->env);
    fixture_directory_free(made->directory);
    free(made->path);
    free(made);
    return 0;
}

/* ---- looking ---- */

struct said {
    char text[16 * GYRE_ERROR_TEXT_BYTES];
    size_t findings;
};

static void on_damage(void *self, const char *family, const char *what)
{
    struct said *said = self;
    size_t used = strlen(said->text);
    snprintf(said->text + used, sizeof said->text - used, "%s: %s\n", family, what);
    said->findings++;
}

static struct gy_inspection look(struct made *made, struct said *said)
{
    gyre_error err;
    struct gy_inspected of;
    *said = (struct said){0};
    struct gy_inspection inspection = {.on_damage = on_damage, .self = said};
    must(gy_replica_inspect(made->path, &inspection, &of, &err), &err);
    assert_int_equal(inspection.damaged, said->findings);
    return inspection;
}

static void assert_found(struct made *made, const char *family, const char *words)
{
    struct said said;
    char begin[64];
    look(made, &said);
    snprintf(begin, sizeof begin, "%s: ", family);
    const char *at = said.text;
    for (; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        char line[GYRE_ERROR_TEXT_BYTES + 64];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        if (strncmp(line, begin, strlen(begin)) == 0 && strstr(line, words))
            return;
    }
    fail_msg("no finding in '%s' with '%s'; these are:\n%s", family, words, said.text);
}

/* ---- damaging ---- */

static gy_store *open_store(struct made *made)
{
    gy_store *store;
    gyre_error err;
    must(gy_store_open(&store, made->env, made->path, &err), &err);
    return store;
}

/* Puts a value under a key as a program with a fault would: RocksDB's checksums are right. value NULL: deletes. */
static void put(struct made *made, enum gy_family family, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
    gyre_error err;
    gy_store *store = open_store(made);
    gy_batch *batch = gy_batch_new();
    if (value)
        gy_batch_put(batch, store, family, (struct gy_slice){key, key_bytes}, (struct gy_slice){value, bytes});
    else
        gy_batch_delete(batch, store, family, (struct gy_slice){key, key_bytes});
    must(gy_store_commit(store, batch, &err), &err);
    must(gy_store_flush(store, &err), &err);
    gy_batch_free(batch);
    gy_store_close(store);
}

static void put_be64(uint8_t key[8], uint64_t seq)
{
    gy_store_u64_be(key, seq);
}

static void code_key(uint8_t key[9], uint8_t kind, uint32_t number)
{
    const uint8_t bytes[9] = {0, 0, 0, 1, kind, (uint8_t)(number >> 24), (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                              (uint8_t)number};
    memcpy(key, bytes, sizeof bytes);
}

/* ---- tests ---- */

static void nothing_is_found_in_a_whole_replica(void **state)
{
    struct said said;
    struct gy_inspection found = look(*state, &said);
    if (found.damaged)
        fail_msg("%s", said.text);
    assert_int_equal(found.points, POINTS - 5);
    assert_int_equal(found.vectors, POINTS - 5);
    assert_int_equal(found.log_entries, POINTS / BATCH + 1);
    assert_int_equal(found.requests, POINTS / BATCH);
    assert_true(found.chunks >= 2 && found.bytes > POINTS * FIXTURE_DIM * sizeof(float));
    assert_string_equal(found.first, "");
}

static void points_that_are_gone_or_changed_are_found(void **state)
{
    gyre_point_id id = gyre_point_id_from_number(100);
    uint8_t late[8], other[9] = {0};
    put(*state, GY_FAMILY_POINTS, &id, sizeof id, other, 9);
    assert_found(*state, "points", "their digest is not the stored one");
    gy_store_u64(late, 1000000);
    put(*state, GY_FAMILY_POINTS, &id, sizeof id, late, 8);
    assert_found(*state, "points", "point 100: its version is 1000000; 13 is applied");
    put(*state, GY_FAMILY_POINTS, &id, sizeof id, late, 3);
    assert_found(*state, "points", "point 100: point of 3 bytes");
    put(*state, GY_FAMILY_POINTS, &id, sizeof id, NULL, 0);
    assert_found(*state, "points", "594 of 595 are there");
    put(*state, GY_FAMILY_POINTS, "short", 5, late, 8);
    assert_found(*state, "points", "5 bytes");
}

static void vectors_that_are_gone_or_changed_are_found(void **state)
{
    gyre_point_id id = gyre_point_id_from_number(100);
    float vector[FIXTURE_DIM] = {1};
    put(*state, GY_FAMILY_VECTORS, &id, sizeof id, vector, sizeof vector);
    assert_found(*state, "vectors", "595 of 595 are there, and their digest is not the stored one");
    vector[3] = 1.0f / 0.0f;
    put(*state, GY_FAMILY_VECTORS, &id, sizeof id, vector, sizeof vector);
    assert_found(*state, "vectors", "point 100");
    put(*state, GY_FAMILY_VECTORS, &id, sizeof id, vector, 7);
    assert_found(*state, "vectors", "point 100: vector of 7 bytes");
    put(*state, GY_FAMILY_VECTORS, &id, sizeof id, NULL, 0);
    assert_found(*state, "vectors", "594 of 595 are there");
}

static void codes_that_are_gone_or_changed_are_found(void **state)
{
    uint8_t key[9], cleared[8], list[4] = {0};
    gy_store_u64(cleared, 13);
    code_key(key, 2, 3);
    put(*state, GY_FAMILY_CODES, key, sizeof key, cleared, 8);
    assert_found(*state, "codes", "594 of 595 are there");
    put(*state, GY_FAMILY_CODES, key, sizeof key, cleared, 5);
    assert_found(*state, "codes", "slot 3: row of 5 bytes");
    gy_store_u64(cleared, 99);
    put(*state, GY_FAMILY_CODES, key, sizeof key, cleared, 8);
    assert_found(*state, "codes", "slot 3: its seq is 99; 13 is applied");
    code_key(key, 1, 0);
    put(*state, GY_FAMILY_CODES, key, sizeof key, cleared, 8);
    assert_found(*state, "codes", "chunk 0: packed chunk of 8 bytes");
    code_key(key, 3, 1);
    put(*state, GY_FAMILY_CODES, key, sizeof key, list, 3);
    assert_found(*state, "codes", "chunk 1: list of 3 bytes");
    put(*state, GY_FAMILY_CODES, key, sizeof key, NULL, 0);
    assert_found(*state, "codes", "chunk 1: its list is missing");
    code_key(key, 3, 77);
    put(*state, GY_FAMILY_CODES, key, sizeof key, list, 4);
    assert_found(*state, "codes", "chunk 77 has a list and no rows");
    code_key(key, 1, UINT32_MAX);
    put(*state, GY_FAMILY_CODES, key, sizeof key, list, 4);
    assert_found(*state, "codes", "there is no such number");
}

static void log_entries_that_are_gone_or_changed_are_found(void **state)
{
    uint8_t key[8], body[16] = {0};
    put_be64(key, 5);
    gy_store_u64(body, EPOCH);
    memset(body + 8, 0xff, 8);
    put(*state, GY_FAMILY_LOG, key, sizeof key, body, sizeof body);
    assert_found(*state, "log", "entry 5");
    put(*state, GY_FAMILY_LOG, key, sizeof key, body, 8); /* a write of nothing */
    assert_found(*state, "log", "entry 5: write of 0 operations");
    gy_store_u64(body, EPOCH + 1);
    put(*state, GY_FAMILY_LOG, key, sizeof key, body, 8);
    assert_found(*state, "log", "entry 5: its epoch is 5; the entry before has 4, the configuration 4");
    put(*state, GY_FAMILY_LOG, key, sizeof key, NULL, 0);
    assert_found(*state, "log", "log has no entry 5; the next is 6");
    put_be64(key, 8);
    put(*state, GY_FAMILY_LOG, key, sizeof key, body, 2);
    assert_found(*state, "log", "log has no entry 5");
}

static void requests_that_cannot_be_are_found(void **state)
{
    uint8_t key[8], request[32] = {0};
    put_be64(key, 99);
    put(*state, GY_FAMILY_REQUESTS, key, sizeof key, request, sizeof request);
    assert_found(*state, "requests", "request of seq 99; the points hold seq 13");
    put(*state, GY_FAMILY_REQUESTS, key, sizeof key, request, 31);
    assert_found(*state, "requests", "request of 31 bytes");
}

static void meta_records_that_are_gone_or_changed_are_found(void **state)
{
    uint8_t bytes[64] = {0};
    put(*state, GY_FAMILY_META, "log_base", 8, bytes, 15);
    assert_found(*state, "", "meta record 'log_base' has 15 bytes");
}

static void a_configuration_under_a_wrong_checksum_is_found(void **state)
{
    uint8_t bytes[64] = {1};
    put(*state, GY_FAMILY_META, "config", 6, bytes, sizeof bytes);
    assert_found(*state, "", "meta record 'config': configuration has a wrong checksum");
}

static void another_digest_is_found(void **state)
{
    uint8_t bytes[64] = {0};
    gy_store_u64(bytes, 13), gy_store_u64(bytes + 8, POINTS - 5);
    put(*state, GY_FAMILY_META, "applied", 7, bytes, sizeof bytes);
    for (size_t i = 0; i < 3; i++)
        assert_found(*state, (const char *const[]){"points", "vectors", "codes"}[i], "their digest is not the stored one");
}

/* The largest file whose name ends so. */
static char *largest(const struct made *made, const char *suffix)
{
    char *best = NULL;
    off_t best_bytes = -1;
    DIR *directory = opendir(made->path);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char *path;
        struct stat found;
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, suffix) != 0 || asprintf(&path, "%s/%s", made->path, entry->d_name) < 0)
            continue;
        if (stat(path, &found) == 0 && found.st_size > best_bytes) {
            free(best);
            best = path, best_bytes = found.st_size;
        } else {
            free(path);
        }
    }
    closedir(directory);
    assert_non_null(best);
    return best;
}

static void flip(const char *path)
{
    FILE *file = fopen(path, "r+");
    struct stat found;
    assert_int_equal(stat(path, &found), 0);
    assert_int_equal(fseek(file, found.st_size / 2, SEEK_SET), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 0x40, file);
    assert_int_equal(fclose(file), 0);
}

static void a_flipped_byte_is_found_and_its_file_named(void **state)
{
    char *path = largest(*state, ".sst");
    struct said said;
    flip(path);
    look(*state, &said);
    assert_non_null(strstr(said.text, "block checksum mismatch"));
    assert_non_null(strstr(said.text, strrchr(path, '/')));
    free(path);
}

static void a_file_that_is_gone_is_found_and_named(void **state)
{
    char *path = largest(*state, ".sst");
    struct said said;
    assert_int_equal(unlink(path), 0);
    look(*state, &said);
    path[strlen(path) - strlen("sst")] = 0; /* RocksDB's sentence may name it by its older suffix */
    if (!strstr(said.text, strrchr(path, '/') + 1))
        fail_msg("%s is not in: %s", path, said.text);
    free(path);
}

static void a_replica_in_use_is_left_alone(void **state)
{
    struct made *made = *state;
    gyre_error err = {0};
    assert_int_equal(gy_store_check_unused(made->path, &err), GYRE_OK);
    /* A lock of this very process does not show: another one must hold it. */
    int ready[2], go[2];
    assert_true(pipe(ready) == 0 && pipe(go) == 0);
    pid_t child = fork();
    if (child == 0) {
        char *name, byte = 0;
        if (asprintf(&name, "%s/LOCK", made->path) < 0)
            _exit(1);
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(name, O_RDWR);
        _exit(fd < 0 || fcntl(fd, F_SETLK, &lock) != 0 || write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) < 0);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(gy_store_check_unused(made->path, &err), GYRE_PRECONDITION);
    assert_non_null(strstr(err.text, "in use by process"));
    assert_int_equal(write(go[1], &byte, 1), 1);
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    for (int i = 0; i < 2; i++)
        close(ready[i]), close(go[i]);
}

static void one_that_was_found_damaged_is_not_opened_again(void **state)
{
    struct made *made = *state;
    gyre_error err = {0};
    gy_store *store;
    char text[GYRE_ERROR_TEXT_BYTES];
    gy_store_damage(made->path, text, sizeof text);
    assert_string_equal(text, "");
    must(gy_store_mark_damaged(made->path, "block 7 is not what it was", &err), &err);
    gy_store_damage(made->path, text, sizeof text);
    assert_string_equal(text, "block 7 is not what it was");
    assert_int_equal(gy_store_open(&store, made->env, made->path, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "found damaged before: block 7 is not what it was"));
    struct said said;
    look(made, &said); /* what there is to see, is seen */
    assert_int_equal(said.findings, 0);
}

static gyre_status no_further(void *self, uint64_t bytes, gyre_error *err)
{
    *(uint64_t *)self += bytes;
    return gyre_fail(err, GYRE_CANCELLED, "no further");
}

static void a_pace_that_refuses_ends_it(void **state)
{
    struct made *made = *state;
    uint64_t bytes = 0;
    gyre_error err = {0};
    struct gy_inspected of;
    struct gy_inspection inspection = {.pace = no_further, .self = &bytes, .unpaced = 1 << 20};
    assert_int_equal(gy_replica_inspect(made->path, &inspection, &of, &err), GYRE_CANCELLED);
    assert_true(bytes > 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_found_in_a_whole_replica, set_up, tear_down),
        cmocka_unit_test_setup_teardown(points_that_are_gone_or_changed_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_that_are_gone_or_changed_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(codes_that_are_gone_or_changed_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(log_entries_that_are_gone_or_changed_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_that_cannot_be_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(meta_records_that_are_gone_or_changed_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_configuration_under_a_wrong_checksum_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_digest_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_byte_is_found_and_its_file_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_gone_is_found_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_replica_in_use_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_was_found_damaged_is_not_opened_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pace_that_refuses_ends_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
