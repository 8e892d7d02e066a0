/* The requests family: be64 seq → client, request u64, deleted u64. An entry is one write of one client, so its seq is key enough, and
 * the order of keys is the order in which they were applied. */
#include "store/rocks.h"

#include <inttypes.h>

enum { KEY_BYTES = 8 };

void gy_batch_put_requests(gy_batch *batch, gy_store *store, const struct gy_request_changes *changes)
{
    uint8_t key[KEY_BYTES], value[GY_REQUEST_BYTES];
    for (size_t i = 0; i < changes->noted_count; i++) {
        const struct gy_request *request = &changes->noted[i];
        gy_store_u64_be(key, request->seq);
        memcpy(value, request->client, GY_CLIENT_BYTES);
        gy_store_u64(value + GY_CLIENT_BYTES, request->request);
        gy_store_u64(value + GY_CLIENT_BYTES + 8, request->deleted);
        gy_batch_put(batch, store, GY_FAMILY_REQUESTS, (struct gy_slice){key, sizeof key}, (struct gy_slice){value, sizeof value});
    }
    for (size_t i = 0; i < changes->forgotten_count; i++) {
        gy_store_u64_be(key, changes->forgotten[i]);
        gy_batch_delete(batch, store, GY_FAMILY_REQUESTS, (struct gy_slice){key, sizeof key});
    }
}

struct visiting {
    gy_store *store;
    uint64_t applied_seq;
    gy_on_request *visit;
    void *self;
};

static gyre_status take(void *self, struct gy_slice key, struct gy_slice value, gyre_error *err)
{
    struct visiting *visiting = self;
    if (key.bytes != KEY_BYTES || value.bytes != GY_REQUEST_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "request of %zu bytes under a key of %zu; it has %d and %d", value.bytes, key.bytes,
                         GY_REQUEST_BYTES, KEY_BYTES);
    const uint8_t *bytes = value.data;
    struct gy_request request = {
        .seq = gy_load_u64_be(key.data),
        .request = gy_load_u64(bytes + GY_CLIENT_BYTES),
        .deleted = gy_load_u64(bytes + GY_CLIENT_BYTES + 8),
    };
    memcpy(request.client, bytes, GY_CLIENT_BYTES);
    if (request.seq == 0 || request.seq > visiting->applied_seq)
        return gyre_fail(err, GYRE_CORRUPT, "request of seq %" PRIu64 "; the points hold seq %" PRIu64, request.seq,
                         visiting->applied_seq);
    return visiting->visit(visiting->self, &request, err);
}

gyre_status gy_store_requests(gy_store *store, gy_on_request *visit, void *self, gyre_error *err)
{
    struct visiting visiting = {store, gy_store_applied_seq(store), visit, self};
    return gy_store_walk(store, GY_FAMILY_REQUESTS, (struct gy_slice){0}, (struct gy_slice){0}, take, &visiting, err);
}
