/* Rows of a copy, as a primary that lies could send them: an import takes them or says what is wrong, and what it finishes can be
 * opened as a store. The first byte says how many of the three right meta rows come first (3: all, as nearly every input should);
 * then rows: family u8, key bytes u8, value bytes u16 little-endian, key, value. */
#include "config_fixture.h"
#include "store/copy.h"
#include "store/rocks.h"

#include <assert.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { DIM = 4, SEQ = 3, ROWS_MAX = 64, HEAD_BYTES = 4, META_ROWS = 3, APPLIED_BYTES = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found, (void)kind, (void)walk;
    return remove(path);
}

/* One row that is right, in the order of keys. */
static gyre_status meta_row(gy_import *import, size_t i, uint8_t points, gyre_error *err)
{
    uint8_t applied[APPLIED_BYTES] = {SEQ, [8] = points}, bytes[1024], seed[GYRE_SEED_BYTES] = {7};
    struct gy_row row = {.family = GY_FAMILY_META};
    gyre_codebook *codebook = NULL;
    gyre_status made = gyre_codebook_new(&codebook, GYRE_L2, DIM, 1, seed, NULL, err);
    assert(made == GYRE_OK && gyre_codebook_encoded_bytes(codebook) <= sizeof bytes);
    gyre_codebook_encode(codebook, bytes);
    if (i == 0)
        row.key = "applied", row.value = applied, row.value_bytes = sizeof applied;
    else if (i == 1)
        row.key = "codebook", row.value = bytes, row.value_bytes = gyre_codebook_encoded_bytes(codebook);
    else
        row.key = "codec", row.value = "rabitq1", row.value_bytes = strlen("rabitq1");
    row.key_bytes = strlen(row.key);
    gyre_status status = gy_import_row(import, &row, err);
    gyre_codebook_free(codebook);
    return status;
}

static gyre_status take(gy_import *import, const uint8_t *data, size_t size, gyre_error *err)
{
    for (size_t i = 0; i < data[0] % (META_ROWS + 1); i++)
        GY_TRY(meta_row(import, i, data[0] >> 4, err));
    const uint8_t *at = data + 1, *end = data + size;
    for (size_t i = 0; i < ROWS_MAX && end - at >= HEAD_BYTES; i++) {
        size_t key_bytes = at[1], value_bytes = at[2] | (size_t)at[3] << 8;
        if ((size_t)(end - at) < HEAD_BYTES + key_bytes + value_bytes)
            break;
        /* In blocks of their own, so that reading beyond shows. */
        uint8_t *key = malloc(key_bytes ? key_bytes : 1), *value = malloc(value_bytes ? value_bytes : 1);
        assert(key && value);
        memcpy(key, at + HEAD_BYTES, key_bytes);
        memcpy(value, at + HEAD_BYTES + key_bytes, value_bytes);
        gyre_status status = gy_import_row(import, &(struct gy_row){at[0], key, key_bytes, value, value_bytes}, err);
        free(key);
        free(value);
        GY_TRY(status);
        at += HEAD_BYTES + key_bytes + value_bytes;
    }
    return GYRE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct gy_store_identity identity = {.collection_id = 7, .shard = 3, .collection = "words"};
    static gy_store_env *env;
    char directory[64] = "/tmp/gyre-fuzz-XXXXXX", path[96];
    const struct gy_shard_config config = fixture_config(4);
    gyre_error err;
    gy_import *import;
    if (size == 0)
        return 0;
    gyre_status status = env ? GYRE_OK : gy_store_env_new(&env, 1 << 20, &err);
    assert(status == GYRE_OK && mkdtemp(directory));
    snprintf(path, sizeof path, "%s/7-3", directory);
    status = gy_import_open(&import, env, path, &identity, 1, &config, 4, SEQ, &err);
    assert(status == GYRE_OK);
    if (take(import, data, size, &err) == GYRE_OK) {
        gy_store *store;
        if (gy_import_finish(import, &store, &err) == GYRE_OK) {
            assert(gy_store_applied_seq(store) == SEQ);
            gy_store_close(store);
        }
    }
    gy_import_free(import);
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
