/* A disk that is nearly full takes no epoch. A disk whose sync fails: nothing is acknowledged any more, the process is asked to stop, reads go on, and the next opening
 * has everything that was acknowledged. This program's own fdatasync and statvfs stand in front of
 * libc's. */
#include "replica_fixture.h"

#include "gyre/lifecycle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include <cmocka.h>

static atomic_bool disk_fails, disk_full;

int fdatasync(int fd)
{
    if (atomic_load(&disk_fails)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* What of the file system is asked for is its free space; the rest stays 0. */
int statvfs(const char *path, struct statvfs *out)
{
    struct statfs info;
    if (statfs(path, &info) != 0)
        return -1;
    *out = (struct statvfs){.f_frsize = 1, .f_blocks = UINT64_MAX, .f_bavail = atomic_load(&disk_full) ? 63 << 20 : UINT64_MAX};
    return 0;
}

static gyre_status set_epoch(gy_replica *replica, uint64_t epoch, gyre_error *err)
{
    const struct gy_shard_config config = fixture_config(epoch);
    return gy_replica_set_config(replica, &config, err);
}

static void a_nearly_full_disk_takes_no_new_epoch(void **state)
{
    (void)state;
    static const struct gy_replica_limits limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10};
    static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};
    char *directory = fixture_directory(), *path;
    gy_store_env *env;
    gy_replica *replica;
    const struct gy_shard_config config = fixture_config(4);
    gyre_error err = {0};
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    assert_true(asprintf(&path, "%s/7-3", directory) > 0);
    assert_int_equal(gy_store_env_new(&env, 8 << 20, &err), GYRE_OK);
    assert_int_equal(gy_replica_create(&replica, env, path, &identity, 1, &config, "rabitq1", codebook, &limits, &err),
                     GYRE_OK);
    gyre_codebook_free(codebook);
    atomic_store(&disk_full, true);
    assert_int_equal(set_epoch(replica, 5, &err), GYRE_EXHAUSTED);
    assert_non_null(strstr(err.text, "has 63.0 MiB free; taking a new configuration needs 64.0 MiB"));
    assert_int_equal(set_epoch(replica, 4, &err), GYRE_OK); /* which writes nothing */
    assert_int_equal(set_epoch(replica, 3, &err), GYRE_ABORTED);
    atomic_store(&disk_full, false);
    assert_int_equal(set_epoch(replica, 5, &err), GYRE_OK);
    gy_replica_close(replica);
    gy_store_env_free(env);
    fixture_directory_free(directory);
    free(path);
}

static void a_failed_sync_is_the_end_of_acknowledgements(void **state)
{
    (void)state;
    static const struct gy_replica_limits limits = {.queue_bytes_max = 32 << 20, .disk_free_min = 1 << 20, .log_keep = 10};
    static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};
    enum { GOOD = 20, LATE = 5 };
    char *directory = fixture_directory(), *path;
    gy_store_env *env;
    gy_replica *replica;
    const struct gy_shard_config config = fixture_config(4);
    gyre_error err = {0};
    struct fixture_found found;
    gyre_codebook *codebook = fixture_codebook(GYRE_L2, FIXTURE_DIM, 1, NULL);
    assert_true(asprintf(&path, "%s/7-3", directory) > 0);
    assert_int_equal(gy_stop_init(&err), GYRE_OK);
    assert_int_equal(gy_store_env_new(&env, 8 << 20, &err), GYRE_OK);
    assert_int_equal(gy_replica_create(&replica, env, path, &identity, 1, &config, "rabitq1", codebook, &limits, &err),
                     GYRE_OK);
    gyre_codebook_free(codebook);
    for (uint64_t i = 0; i < GOOD; i++)
        assert_int_equal(fixture_submit(replica, fixture_write(4, i, 1, i, FIXTURE_DIM)).status, GYRE_OK);

    atomic_store(&disk_fails, true);
    struct fixture_answer first = fixture_submit(replica, fixture_write(4, 0, 1, 100, FIXTURE_DIM));
    assert_int_equal(first.status, GYRE_UNAVAILABLE);
    assert_non_null(strstr(first.err.text, "the replica stopped while it wrote (it may have happened)"));
    assert_int_equal(gy_stop_wait(), 0);
    assert_int_equal(gy_stop_exit_code(), 1);
    atomic_store(&disk_fails, false);
    for (uint64_t i = 0; i < LATE; i++) {
        struct fixture_answer late = fixture_submit(replica, fixture_write(4, i, 1, 101, FIXTURE_DIM));
        assert_int_equal(late.status, GYRE_UNAVAILABLE);
        assert_non_null(strstr(late.err.text, "stopped by an error of its disk"));
    }
    assert_int_equal(set_epoch(replica, 9, &err), GYRE_UNAVAILABLE);
    Gyre__Node__ReplicaStatus status;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    gy_replica_status(replica, &status, trouble, sizeof trouble);
    assert_true(strlen(trouble) > 0);
    assert_int_equal(fixture_look(replica, GOOD - 1, GOOD, &found), GYRE_OK);
    assert_true(found.found && found.revision == GOOD - 1);
    gy_replica_close(replica);

    if (gy_replica_open(&replica, env, path, &limits, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    for (uint64_t i = 0; i < GOOD; i++) {
        assert_int_equal(fixture_look(replica, i, 100, &found), GYRE_OK);
        assert_true(found.found);
        /* The first point's last write is the one whose fate was unknown. */
        assert_true(found.revision == (int64_t)i || (i == 0 && found.revision == 100));
    }
    assert_int_equal(fixture_submit(replica, fixture_write(4, 0, 1, 102, FIXTURE_DIM)).status, GYRE_OK);
    gy_replica_close(replica);
    gy_store_env_free(env);
    fixture_directory_free(directory);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_nearly_full_disk_takes_no_new_epoch), cmocka_unit_test(a_failed_sync_is_the_end_of_acknowledgements)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
