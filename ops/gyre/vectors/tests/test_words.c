/* The real data of the project, read as an import and an evaluation read it. */
#include "ivecs.h"
#include "lines.h"
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ROWS = 40000, DIM = 100, QUERIES = 500, NEIGHBOURS = 100 };

static gyre_error err;

/* All rows of a file, malloc'ed, read in batches of an odd size. */
static float *read_all(const char *path, size_t rows_wanted)
{
    gy_vectors *vectors = NULL;
    if (gy_vectors_open(&vectors, path, &err) != GYRE_OK)
        fail_msg("%s", err.text);
    assert_int_equal(gy_vectors_count(vectors), rows_wanted);
    assert_int_equal(gy_vectors_dim(vectors), DIM);
    float *data = malloc(rows_wanted * DIM * sizeof *data);
    size_t done = 0, rows;
    do {
        assert_int_equal(gy_vectors_read(vectors, data + done * DIM, rows_wanted - done < 777 ? rows_wanted - done : 777, &rows, &err), GYRE_OK);
        done += rows;
    } while (rows > 0);
    assert_int_equal(done, rows_wanted);
    gy_vectors_close(vectors);
    return data;
}

static double squared_distance(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* The ground truth holds only if vectors, queries and truth are all read right. */
static void the_ground_truth_follows_from_the_vectors(void **state)
{
    (void)state;
    float *words = read_all(WORDS ".npy", ROWS), *queries = read_all(WORDS "-queries.npy", QUERIES);
    size_t rows, width;
    int32_t *truth;
    assert_int_equal(gy_ivecs_load(WORDS "-truth-l2.ivecs", &rows, &width, &truth, &err), GYRE_OK);
    assert_int_equal(rows, QUERIES);
    assert_int_equal(width, NEIGHBOURS);
    for (size_t q = 0; q < QUERIES; q += 50) {
        const float *query = queries + q * DIM;
        double last = squared_distance(query, words + (size_t)truth[q * width + width - 1] * DIM);
        size_t nearer = 0;
        for (size_t i = 0; i < ROWS; i++)
            nearer += squared_distance(query, words + i * DIM) <= last;
        assert_int_equal(nearer, NEIGHBOURS);
        for (size_t n = 1; n < width; n++)
            assert_true(squared_distance(query, words + (size_t)truth[q * width + n - 1] * DIM) <=
                        squared_distance(query, words + (size_t)truth[q * width + n] * DIM));
    }
    free(words);
    free(queries);
    free(truth);
}

static void a_resumed_import_sees_the_same_rows_and_payloads(void **state)
{
    (void)state;
    float *words = read_all(WORDS ".npy", ROWS), row[DIM];
    gy_vectors *vectors = NULL;
    gy_lines *lines = NULL;
    const char *line;
    char want[64];
    size_t rows, bytes;
    assert_int_equal(gy_vectors_open(&vectors, WORDS ".npy", &err), GYRE_OK);
    assert_int_equal(gy_lines_open(&lines, WORDS ".jsonl", GY_LINES_PAYLOAD_BYTES_MAX, &err), GYRE_OK);
    assert_int_equal(gy_lines_expect(lines, ROWS, &err), GYRE_OK);
    static const size_t starts[] = {0, 1, 12345, ROWS - 1};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        assert_int_equal(gy_vectors_seek(vectors, starts[i], &err), GYRE_OK);
        assert_int_equal(gy_vectors_read(vectors, row, 1, &rows, &err), GYRE_OK);
        assert_memory_equal(row, words + starts[i] * DIM, sizeof row);
        assert_int_equal(gy_lines_skip(lines, starts[i] - gy_lines_number(lines), &err), GYRE_OK);
        assert_int_equal(gy_lines_next(lines, &line, &bytes, &err), GYRE_OK);
        snprintf(want, sizeof want, "\"rank\": %zu}", starts[i] + 1);
        assert_non_null(strstr(line, want));
    }
    gy_vectors_close(vectors);
    gy_lines_close(lines);
    free(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ground_truth_follows_from_the_vectors),
        cmocka_unit_test(a_resumed_import_sees_the_same_rows_and_payloads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
