/* file: test files of given bytes in a folder that goes away with the test. */
#ifndef GY_TEST_FILE_H
#define GY_TEST_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char file_folder[] = "/tmp/gyre_test_vectors_XXXXXX";
static char file_path[128];

static inline int file_setup(void **state)
{
    (void)state;
    return mkdtemp(file_folder) ? 0 : -1;
}

static inline int file_teardown(void **state)
{
    (void)state;
    return rmdir(file_folder);
}

/* Writes a file; its path stays valid until the next one. */
static inline const char *file_write(const char *name, const void *data, size_t bytes)
{
    snprintf(file_path, sizeof file_path, "%s/%s", file_folder, name);
    FILE *file = fopen(file_path, "wb");
    if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        abort();
    return file_path;
}

static inline void file_remove(void)
{
    unlink(file_path);
}

#endif
