/* Whatever lies on disk under `config`: the decoder reads nothing beyond it, and what it accepts passes gy_config_check and encodes to
 * the same bytes again, or, of an older format, to bytes that are read the same. The checksum is mended first, or nothing would
 * come past it; the first byte says whether. */
#include "store/rocks.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gy_shard_config config;
    gyre_error err;
    if (size == 0)
        return 0;
    bool mend = data[0] & 1;
    size_t bytes = size - 1;
    uint8_t *record = malloc(bytes ? bytes : 1);
    assert(record);
    memcpy(record, data + 1, bytes);
    if (mend && bytes >= 8)
        gy_store_u64(record + bytes - 8, XXH3_64bits(record, bytes - 8));
    if (gy_config_decode(&config, record, bytes, &err) == GYRE_OK) {
        uint8_t again[GY_CONFIG_BYTES_MAX];
        gyre_status status = gy_config_check(&config, &err);
        assert(status == GYRE_OK);
        size_t encoded = gy_config_encode(&config, again);
        if (gy_load_u32(record) == gy_load_u32(again)) {
            assert(encoded == bytes && memcmp(again, record, bytes) == 0);
        } else {
            struct gy_shard_config same;
            status = gy_config_decode(&same, again, encoded, &err);
            assert(status == GYRE_OK && same.epoch == config.epoch && same.member_count == config.member_count);
        }
    }
    free(record);
    return 0;
}
