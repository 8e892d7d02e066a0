#include "vectors_internal.h"

#include "file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>

static gyre_error err;

static gyre_status open_bytes(gy_vectors **out, const char *name, const void *data, size_t bytes)
{
    memset(&err, 0, sizeof err);
    gyre_status status = gy_vectors_open(out, file_write(name, data, bytes), &err);
    file_remove();
    return status;
}

/* data of bytes under this name must be refused with this status and a sentence that holds part. */
static void expect_refusal(const char *name, const void *data, size_t bytes, gyre_status want, const char *part)
{
    gy_vectors *vectors = NULL;
    gyre_status got = open_bytes(&vectors, name, data, bytes);
    if (got != want || !strstr(err.text, part))
        fail_msg("%s: expected %s '%s', got %s '%s'", name, gyre_status_name(want), part, gyre_status_name(got), err.text);
    assert_null(vectors);
    assert_non_null(strstr(err.text, name)); /* the sentence names the file */
}

static const uint8_t two_fvecs[] = {2, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 2, 0, 0, 0, 0, 0, 0x40, 0xc0, 0, 0, 0, 0x80};
static const uint8_t two_fbin[] = {2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0xc0, 0, 0, 0, 0x80};

static void rows_come_in_any_batches_and_from_any_row(void **state)
{
    (void)state;
    static const float want[] = {1, 2, -3, -0.0f};
    static const struct {
        const char *name;
        const void *data;
        size_t bytes;
    } files[] = {{"a.fvecs", two_fvecs, sizeof two_fvecs}, {"a.FBIN", two_fbin, sizeof two_fbin}};
    for (size_t i = 0; i < 2; i++) {
        gy_vectors *vectors = NULL;
        float out[8];
        size_t rows = 99;
        assert_int_equal(open_bytes(&vectors, files[i].name, files[i].data, files[i].bytes), GYRE_OK);
        assert_int_equal(gy_vectors_dim(vectors), 2);
        assert_int_equal(gy_vectors_count(vectors), 2);
        assert_int_equal(gy_vectors_read(vectors, out, 4, &rows, &err), GYRE_OK);
        assert_int_equal(rows, 2);
        assert_memory_equal(out, want, sizeof want);
        assert_int_equal(gy_vectors_read(vectors, out, 4, &rows, &err), GYRE_OK);
        assert_int_equal(rows, 0);
        assert_int_equal(gy_vectors_seek(vectors, 1, &err), GYRE_OK);
        assert_int_equal(gy_vectors_read(vectors, out, 1, &rows, &err), GYRE_OK);
        assert_int_equal(rows, 1);
        assert_memory_equal(out, want + 2, 2 * sizeof *want);
        assert_int_equal(gy_vectors_seek(vectors, 2, &err), GYRE_OK);
        assert_int_equal(gy_vectors_seek(vectors, 3, &err), GYRE_OUT_OF_RANGE);
        assert_int_equal(gy_vectors_seek(vectors, UINT64_MAX, &err), GYRE_OUT_OF_RANGE);
        gy_vectors_close(vectors);
    }
    gy_vectors_close(NULL);
}

static void bytes_become_floats(void **state)
{
    (void)state;
    static const uint8_t bvecs[] = {3, 0, 0, 0, 0, 1, 255}, u8bin[] = {1, 0, 0, 0, 3, 0, 0, 0, 0, 1, 255};
    static const float want[] = {0, 1, 255};
    for (int i = 0; i < 2; i++) {
        gy_vectors *vectors = NULL;
        float out[3];
        size_t rows;
        assert_int_equal(i ? open_bytes(&vectors, "a.u8bin", u8bin, sizeof u8bin) : open_bytes(&vectors, "a.bvecs", bvecs, sizeof bvecs), GYRE_OK);
        assert_int_equal(gy_vectors_read(vectors, out, 1, &rows, &err), GYRE_OK);
        assert_memory_equal(out, want, sizeof want);
        gy_vectors_close(vectors);
    }
}

static void a_file_one_byte_short_or_long_is_refused(void **state)
{
    (void)state;
    uint8_t longer[sizeof two_fbin + 1] = {0};
    memcpy(longer, two_fbin, sizeof two_fbin);
    expect_refusal("a.fbin", two_fbin, sizeof two_fbin - 1, GYRE_CORRUPT, "truncated: the header promises 2 rows of 8 bytes, the file holds 1");
    expect_refusal("a.fbin", longer, sizeof longer, GYRE_CORRUPT, "1 bytes follow the 2 rows");
    memcpy(longer, two_fvecs, sizeof two_fvecs);
    expect_refusal("a.fvecs", two_fvecs, sizeof two_fvecs - 1, GYRE_CORRUPT, "truncated: rows of dim 2 have 12 bytes, the last of 2 has 11");
    expect_refusal("a.fvecs", longer, sizeof longer, GYRE_CORRUPT, "the last of 3 has 1");
    for (size_t bytes = 0; bytes < 8; bytes++)
        expect_refusal("a.fbin", two_fbin, bytes, GYRE_CORRUPT, "truncated");
}

static void a_lying_header_is_refused_before_anything_is_allocated_for_it(void **state)
{
    (void)state;
    static const uint8_t huge_count[] = {0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0}, huge_dim[] = {1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t no_dim[] = {1, 0, 0, 0, 0, 0, 0, 0}, negative[] = {0xff, 0xff, 0xff, 0xff}, wide[] = {0x01, 0x10, 0, 0};
    expect_refusal("a.fbin", huge_count, 8, GYRE_CORRUPT, "promises 4294967295 rows of 4 bytes, the file holds 0");
    expect_refusal("a.fbin", huge_dim, 8, GYRE_INVALID, "dim 4294967295 is outside 1 to 4096");
    expect_refusal("a.u8bin", no_dim, 8, GYRE_INVALID, "dim 0 is outside 1 to 4096");
    expect_refusal("a.fvecs", negative, 4, GYRE_INVALID, "dim -1 is outside");
    expect_refusal("a.bvecs", wide, 4, GYRE_INVALID, "dim 4097 is outside");
    expect_refusal("a.fvecs", "", 0, GYRE_INVALID, "an empty file");
}

static void a_row_of_another_dim_is_named(void **state)
{
    (void)state;
    uint8_t data[sizeof two_fvecs];
    gy_vectors *vectors = NULL;
    float out[4];
    size_t rows;
    memcpy(data, two_fvecs, sizeof data);
    data[12] = 3;
    assert_int_equal(open_bytes(&vectors, "a.fvecs", data, sizeof data), GYRE_OK);
    assert_int_equal(gy_vectors_read(vectors, out, 2, &rows, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "row 1 says dim 3, row 0 said 2"));
    gy_vectors_close(vectors);
}

static void a_file_that_shrinks_while_it_is_read_is_an_error(void **state)
{
    (void)state;
    enum { COUNT = 20000 }; /* more than stdio reads ahead */
    static uint8_t data[8 + 8 * COUNT];
    static float out[2 * COUNT];
    gy_vectors *vectors = NULL;
    size_t rows;
    gy_store_u32(data, COUNT);
    gy_store_u32(data + 4, 2);
    assert_int_equal(gy_vectors_open(&vectors, file_write("a.fbin", data, sizeof data), &err), GYRE_OK);
    assert_int_equal(truncate(file_path, sizeof data / 2), 0);
    assert_int_equal(gy_vectors_read(vectors, out, COUNT, &rows, &err), GYRE_CORRUPT);
    assert_non_null(strstr(err.text, "truncated"));
    gy_vectors_close(vectors);
    file_remove();
}

/* An npy file of version 1 with this dict and data. */
static size_t make_npy(uint8_t *out, const char *dict, const void *data, size_t data_bytes)
{
    size_t chars = strlen(dict);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    gy_store_u16(out + 8, (uint16_t)chars);
    memcpy(out + 10, dict, chars);
    if (data_bytes)
        memcpy(out + 10 + chars, data, data_bytes);
    return 10 + chars + data_bytes;
}

static void npy_headers_are_read_as_python_would_write_them(void **state)
{
    (void)state;
    static const char *const good[] = {
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }          \n",
        "{\"shape\":(1,2),\"descr\":\"<f4\",\"fortran_order\":False}",
        "  {'shape': (1, 2,), 'fortran_order': True, 'descr': '<f4'}", /* one row: both orders are the same */
    };
    static const float data[] = {1.5f, -2};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint8_t file[300];
        gy_vectors *vectors = NULL;
        float out[2];
        size_t rows;
        size_t bytes = make_npy(file, good[i], data, sizeof data);
        if (open_bytes(&vectors, "a.npy", file, bytes) != GYRE_OK)
            fail_msg("%s: %s", good[i], err.text);
        assert_int_equal(gy_vectors_read(vectors, out, 1, &rows, &err), GYRE_OK);
        assert_memory_equal(out, data, sizeof data);
        gy_vectors_close(vectors);
    }
}

static void npy_headers_that_are_not_a_plain_array_are_refused_by_what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *dict;
        gyre_status status;
        const char *part;
    } bad[] = {
        {"", GYRE_CORRUPT, "'{' is expected"},
        {"{", GYRE_CORRUPT, "a quoted key"},
        {"{'descr': '<f4'", GYRE_CORRUPT, "',' or '}' is expected"},
        {"{'descr': '<f4', 'fortran_order': False}", GYRE_CORRUPT, "'shape' is missing"},
        {"{'descr': '<f4', 'descr': '<f4'}", GYRE_CORRUPT, "key 'descr' is there twice"},
        {"{'order': 'C'}", GYRE_CORRUPT, "key 'order' is none of"},
        {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1, 2)}", GYRE_CORRUPT, "neither True nor False"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}", GYRE_CORRUPT, "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 2)}", GYRE_CORRUPT, "shape is no tuple"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 4096)}", GYRE_CORRUPT, "promises 18446744073709551615 rows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 18446744073709551615)}", GYRE_INVALID, "is outside 1 to 4096"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 0)}", GYRE_INVALID, "dim 0"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': ()}", GYRE_INVALID, "0 axes"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)} or True", GYRE_CORRUPT, "after its '}'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", GYRE_CORRUPT, "promises 2 rows of 8 bytes, the file holds 1"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", GYRE_OK, ""},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2)}", GYRE_INVALID, "fortran_order is True"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1, 2)}", GYRE_INVALID, "big-endian"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1, 2)}", GYRE_INVALID, "no plain number type"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1, 2)}", GYRE_INVALID, "'|O' is not supported"},
    };
    static const uint8_t data[8];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t file[300];
        size_t bytes = make_npy(file, bad[i].dict, data, sizeof data);
        if (bad[i].status != GYRE_OK) {
            expect_refusal("a.npy", file, bytes, bad[i].status, bad[i].part);
            continue;
        }
        gy_vectors *vectors = NULL;
        assert_int_equal(open_bytes(&vectors, "a.npy", file, bytes), GYRE_OK);
        gy_vectors_close(vectors);
    }
}

static void npy_preambles_are_checked(void **state)
{
    (void)state;
    expect_refusal("a.npy", "PK\3\4aaaaaaaaa", 13, GYRE_CORRUPT, "not an npy file");
    expect_refusal("a.npy", "\x93NUMPY\4\0\0\0\0\0", 12, GYRE_INVALID, "npy version 4.0");
    expect_refusal("a.npy", "\x93NUMPY\1\1\0\0", 10, GYRE_INVALID, "npy version 1.1");
    expect_refusal("a.npy", "\x93NUMPY\2\0\xff\xff\xff\xff", 12, GYRE_INVALID, "65536 is the limit");
    expect_refusal("a.npy", "\x93NUMPY\1\0\x20\0{", 11, GYRE_CORRUPT, "the npy header ends at byte 42, the file at 11");
    expect_refusal("a.npy", "\x93NUM", 4, GYRE_CORRUPT, "truncated");
}

static void only_known_endings_and_regular_files_are_opened(void **state)
{
    (void)state;
    gy_vectors *vectors = NULL;
    char path[160];
    expect_refusal("a.txt", "x", 1, GYRE_INVALID, "must end in .npy");
    expect_refusal("npy", "x", 1, GYRE_INVALID, "must end in .npy");
    assert_int_equal(gy_vectors_open(&vectors, "/nonexistent/a.npy", &err), GYRE_NOT_FOUND);
    snprintf(path, sizeof path, "%s/folder.npy", file_folder);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(gy_vectors_open(&vectors, path, &err), GYRE_INVALID);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    assert_int_equal(gy_vectors_open(&vectors, path, &err), GYRE_INVALID);
    assert_non_null(strstr(err.text, "not a regular file"));
    unlink(path);
    assert_null(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_in_any_batches_and_from_any_row),
        cmocka_unit_test(bytes_become_floats),
        cmocka_unit_test(a_file_one_byte_short_or_long_is_refused),
        cmocka_unit_test(a_lying_header_is_refused_before_anything_is_allocated_for_it),
        cmocka_unit_test(a_row_of_another_dim_is_named),
        cmocka_unit_test(a_file_that_shrinks_while_it_is_read_is_an_error),
        cmocka_unit_test(npy_headers_are_read_as_python_would_write_them),
        cmocka_unit_test(npy_headers_that_are_not_a_plain_array_are_refused_by_what_is_wrong),
        cmocka_unit_test(npy_preambles_are_checked),
        cmocka_unit_test(only_known_endings_and_regular_files_are_opened),
    };
    return cmocka_run_group_tests(tests, file_setup, file_teardown);
}
