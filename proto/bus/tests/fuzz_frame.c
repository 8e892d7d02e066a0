/* Whatever bytes come, the decoders read inside them and what they accept encodes to the same bytes. */
#include "session.h"

#include <sodium.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void hello(const struct gy_frame *frame, const uint8_t *data)
{
    struct gy_hello hello;
    if (gy_hello_decode(&hello, data, frame->bytes, NULL) != GYRE_OK)
        return;
    uint8_t again[GY_HELLO_BYTES_MAX];
    size_t bytes = gy_hello_encode(again, frame->version, (enum gy_frame_kind)frame->kind, &hello);
    must(bytes + GY_FRAME_MAC_BYTES == frame->bytes && memcmp(again, data, bytes) == 0);
    static const uint8_t CLUSTER_KEY[GY_SEAL_KEY_BYTES] = {42};
    static const struct gy_self SELF = {.version = GY_BUS_VERSION, .node = "n", .message_bytes_max = 1};
    struct gy_bus_keys keys;
    struct gy_session_keys session;
    gy_bus_keys_init(&keys, CLUSTER_KEY);
    uint8_t reply[GY_HELLO_BYTES_MAX];
    must(gy_handshake_answer(&keys, &SELF, data, frame->bytes, reply, &bytes, &session, &hello, NULL) == GYRE_UNAUTHENTICATED);
}

static void sealed(const struct gy_frame *frame, const uint8_t *data)
{
    uint8_t again[GY_FRAME_INNER_BYTES];
    const uint8_t *inner = data + GY_FRAME_SEALED_AT;
    struct gy_request_head request;
    struct gy_reply_head reply;
    bool confirms = frame->kind == GY_FRAME_CONFIRM; /* which has nothing inside */
    if (!confirms && gy_request_head_decode(&request, inner, NULL) == GYRE_OK) {
        gy_request_head_encode(again, &request);
        must(memcmp(again, inner, sizeof again) == 0);
    }
    if (!confirms && gy_reply_head_decode(&reply, inner, NULL) == GYRE_OK) {
        gy_reply_head_encode(again, &reply);
        must(memcmp(again, inner, sizeof again) == 0);
    }
    uint8_t *copy = malloc(frame->bytes), key[GY_SEAL_KEY_BYTES] = {7};
    if (!copy)
        return;
    memcpy(copy, data, frame->bytes);
    must(!gy_unseal(copy, frame->bytes, key));
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gy_frame frame;
    gyre_error err;
    if (sodium_init() < 0 || size < GY_FRAME_HEAD_BYTES || gy_frame_decode(&frame, data, GY_BUS_VERSION, 1 << 20, &err) != GYRE_OK)
        return 0;
    uint8_t again[GY_FRAME_HEAD_BYTES];
    gy_frame_encode(again, &frame);
    must(memcmp(again, data, sizeof again) == 0);
    if (size < frame.bytes) /* the connection waits for the rest */
        return 0;
    if (frame.kind == GY_FRAME_HELLO || frame.kind == GY_FRAME_HELLO_REPLY)
        hello(&frame, data);
    else if (frame.kind != GY_FRAME_REFUSAL)
        sealed(&frame, data);
    return 0;
}
