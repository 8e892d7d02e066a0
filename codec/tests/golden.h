/* golden: what golden files are made of: lines "name hex", inputs that are the same everywhere, and the comparison of what is
 * written now with what always was. */
#ifndef GYRE_CODEC_TESTS_GOLDEN_H
#define GYRE_CODEC_TESTS_GOLDEN_H

#include "support.h"

#ifndef VECTORS_DIR
#error "VECTORS_DIR is where the golden files are"
#endif

enum { TEXT_BYTES = 1 << 17 };

struct text {
    char *at;
    size_t used;
};

static UNUSED void put(struct text *text, const char *name, const uint8_t *bytes, size_t count)
{
    text->used += (size_t)snprintf(text->at + text->used, TEXT_BYTES - text->used, "%s ", name);
    for (size_t i = 0; i < count; i++)
        text->used += (size_t)snprintf(text->at + text->used, TEXT_BYTES - text->used, "%02x", bytes[i]);
    text->used += (size_t)snprintf(text->at + text->used, TEXT_BYTES - text->used, "\n");
    assert_true(text->used < TEXT_BYTES - 1);
}

static UNUSED void put_u32(struct text *text, const char *name, uint32_t value)
{
    uint8_t bytes[4];
    gy_store_u32(bytes, value);
    put(text, name, bytes, sizeof bytes);
}

static UNUSED void put_floats(struct text *text, const char *name, const float *values, size_t count)
{
    uint8_t bytes[4 * 1024];
    for (size_t i = 0; i < count; i++)
        gy_store_f32(bytes + 4 * i, values[i]);
    put(text, name, bytes, 4 * count);
}

/* Inputs without any library function: multiples of 1/1024 from the generator, the same everywhere. */
static UNUSED void golden_floats(float *out, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = ((float)(random_u64() % 4096) - 2048.0f) / 1024.0f;
}

/* Fails unless the file holds the text; true otherwise. */
static UNUSED bool golden_compare(const char *path, const struct text *now)
{
    char *then = must_alloc(TEXT_BYTES);
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("no %s; when the codec is final, this program writes it: --write DIRECTORY", path);
    size_t bytes = fread(then, 1, TEXT_BYTES, file);
    fclose(file);
    for (size_t i = 0, line = 1; i < now->used && i < bytes; line += now->at[i++] == '\n')
        if (then[i] != now->at[i])
            fail_msg("%s differs in line %zu", path, line);
    assert_int_equal(bytes, now->used);
    free(then);
    return true;
}

/* Writes a file that is missing, never over one that is there; false if it cannot. */
static UNUSED bool golden_create(const char *path, const struct text *now)
{
    FILE *file = fopen(path, "wx");
    if (!file)
        return true;
    bool written = fwrite(now->at, 1, now->used, file) == now->used;
    written = fclose(file) == 0 && written;
    printf("%s %s\n", written ? "wrote" : "cannot write", path);
    return written;
}

#endif
