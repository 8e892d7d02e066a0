/* dump FILE [ROW]: writes the rows of a vector file, from ROW on, as raw little-endian f32 to stdout; the sentence to stderr
 * and exit code 1 on failure. For tests that compare with another reader. */
#include "vectors.h"

#include <stdio.h>
#include <stdlib.h>

enum { BATCH_ROWS = 37 }; /* no divisor of a buffer: batches and buffers must not line up */

GY_AUTO_DEFINE(gy_vectors, gy_vectors_close)

static gyre_status dump(const char *path, uint64_t first, gyre_error *err)
{
    GY_AUTO(gy_vectors) *vectors = NULL;
    static float rows[BATCH_ROWS * GY_VECTORS_DIM_MAX];
    size_t count;
    GY_TRY(gy_vectors_open(&vectors, path, err));
    fprintf(stderr, "%llu %zu\n", (unsigned long long)gy_vectors_count(vectors), gy_vectors_dim(vectors));
    GY_TRY(gy_vectors_seek(vectors, first, err));
    do {
        GY_TRY(gy_vectors_read(vectors, rows, BATCH_ROWS, &count, err));
        fwrite(rows, gy_vectors_dim(vectors) * sizeof *rows, count, stdout);
    } while (count > 0);
    return GYRE_OK;
}

int main(int argc, char **argv)
{
    gyre_error err = {0};
    if (argc < 2)
        return 2;
    if (dump(argv[1], argc > 2 ? strtoull(argv[2], NULL, 10) : 0, &err) == GYRE_OK)
        return 0;
    fprintf(stderr, "%s: %s\n", gyre_status_name(err.status), err.text);
    return 1;
}
