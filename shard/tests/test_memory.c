/* Memory: shard/README.md says what a replica takes, and people plan by it. Held to what the points count, and that to what the
 * kernel says of a process of its own that opens the replica. */
#include "points_fixture.h"

#include "index/state.h"

#include <malloc.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* Sanitizers' allocators take more memory than is asked for: under them the points' own count is all that is looked at. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { POINTS = 20000, OPENINGS_MAX = 0 };
#else
enum { POINTS = 200000, OPENINGS_MAX = 8 };
#endif

/* The formula of the README, per point, but for what a table of ids takes beyond its least. */
static size_t readme_code_bytes(uint32_t dim)
{
    size_t whole_bytes = (dim + 7) / 8;
    return 2 * ((whole_bytes + 1) / 2) + 14;
}

static const gyre_codec *codec_of(const char *name)
{
    gyre_error err;
    const gyre_codec *codec = NULL;
    assert_ok(gyre_codec_find(&codec, name, &err));
    return codec;
}

static size_t readme_plane_bytes(const char *codec, uint32_t dim)
{
    size_t code = gyre_codec_refine_code_bytes(codec_of(codec), dim);
    return code ? code + 10 : 0;
}

static void a_chunk_takes_what_the_readme_says(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 7, 8, 9, 24, 100, 101, 768, 1536, GYRE_DIM_MAX};
    static const char *const codecs[] = {"rabitq1", "rabitq4-fast", "rabitq8-fast", "signblock-p8b2"};
    assert_int_equal(readme_code_bytes(100), 28);
    assert_int_equal(readme_code_bytes(768), 110);
    for (size_t c = 0; c < sizeof codecs / sizeof *codecs; c++)
        for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
            struct gy_layout layout;
            gy_layout_init(&layout, codec_of(codecs[c]), dims[i]);
            for (size_t rows = GYRE_BLOCK_ROWS; rows <= GY_CHUNK_ROWS; rows += GYRE_BLOCK_ROWS) {
                size_t wanted = 64 + rows * (readme_code_bytes(dims[i]) + readme_plane_bytes(codecs[c], dims[i]) + 16);
                assert_int_equal(gy_chunk_bytes(&layout, rows), (wanted + 63) / 64 * 64);
            }
        }
}

/* Anonymous memory of this process, in bytes. */
static double anonymous_bytes(void)
{
    char line[256];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) && sscanf(line, "RssAnon: %lu kB", &kib) != 1)
        ;
    fclose(file);
    return (double)kib * 1024;
}

/* In a process of its own: says what opening the points of a replica took, and what they count. */
static int open_and_tell(const char *path, int fd)
{
    gyre_error err;
    gy_store_env *env = NULL;
    gy_store *store = NULL;
    gy_points *points = NULL;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* on machines that round every allocation up to 2 MiB it would be those that count */
    assert_ok(gy_store_env_new(&env, 8 << 20, &err));
    assert_ok(gy_store_open(&store, env, path, &err));
    malloc_trim(0);
    double told[2], before = anonymous_bytes();
    assert_ok(gy_points_open(&points, store, &err));
    while (!atomic_load(&points->is_warm))
        usleep(1000);
    malloc_trim(0); /* what reading the disk took and gave back */
    told[0] = anonymous_bytes() - before;
    told[1] = (double)gy_points_ram_bytes(points);
    bool written = write(fd, told, sizeof told) == sizeof told;
    gy_points_close(points);
    gy_store_close(store);
    gy_store_env_free(env);
    return !written;
}

static void resident(const char *path, double *grown, double *counted)
{
    int fds[2], status;
    double told[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", fds[1]);
        execl("/proc/self/exe", "test_memory", path, fd, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], told, sizeof told), sizeof told);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    *grown = told[0], *counted = told[1];
}

static void a_replica_takes_the_memory_the_readme_says(void **state)
{
    (void)state;
    enum { LISTS = POINTS / 700, ROUNDING = GYRE_BLOCK_ROWS / 2 };
    static const struct {
        const char *codec;
        uint32_t dim, points;
    } cases[] = {{"rabitq1", 100, POINTS}, {"rabitq4-fast", 40, POINTS}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct fixture f;
        uint64_t random = 8;
        uint32_t dim = cases[c].dim, points = cases[c].points;
        fixture_init_with(&f, cases[c].codec, fixture_partition(GYRE_L2, dim, 1, 0, LISTS));
        fixture_fill(&f, 0, points, 4000, &random);
        double row = (double)(readme_code_bytes(dim) + readme_plane_bytes(cases[c].codec, dim) + 16);
        double chunks = (double)points / GY_CHUNK_ROWS + LISTS / 2.0,
            rows = row * (points + (double)LISTS * ROUNDING) + 170 * chunks;
        double least = rows + points * 8 * 1.25, most = rows + points * 8 * 1.67, written = (double)gy_points_ram_bytes(f.points);
        fixture_close(&f);
        double grown = 0, counted = written;
        bool as_said = OPENINGS_MAX == 0;
        /* RocksDB compacts when it likes and allocates megabytes then: one opening without that is wanted. */
        for (int i = 0; i < OPENINGS_MAX && !as_said; i++) {
            resident(f.path, &grown, &counted);
            as_said = grown > 0.85 * counted && grown < 1.15 * counted + points * 5.0 /* filters and indexes */;
        }
        print_message("%s, dim %u: README %.1f to %.1f bytes a point, counted %.1f as written and %.1f opened, resident %.1f\n",
                      cases[c].codec, dim, least / points, most / points, written / points, counted / points, grown / points);
        assert_true(written > 0.97 * least && written < 1.03 * most);
        assert_true(counted > 0.97 * least && counted < 1.03 * most);
        assert_true(as_said);
        fixture_open(&f);
        fixture_fini(&f);
    }
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return open_and_tell(argv[1], atoi(argv[2]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chunk_takes_what_the_readme_says),
        cmocka_unit_test(a_replica_takes_the_memory_the_readme_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
