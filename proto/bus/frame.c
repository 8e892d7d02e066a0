#include "frame.h"

/* "GYRB" on the wire. */
#define MAGIC UINT32_C(0x42525947)

void gy_frame_encode(uint8_t out[GY_FRAME_HEAD_BYTES], const struct gy_frame *frame)
{
    gy_store_u32(out, MAGIC);
    gy_store_u16(out + 4, frame->version);
    out[6] = frame->kind;
    out[7] = frame->refusal;
    gy_store_u32(out + 8, frame->bytes);
    gy_store_u32(out + 12, 0);
    gy_store_u64(out + 16, frame->counter);
}

static bool size_fits(const struct gy_frame *frame, size_t bytes_max)
{
    switch (frame->kind) {
    case GY_FRAME_HELLO:
    case GY_FRAME_HELLO_REPLY:
        return frame->bytes >= GY_HELLO_NAME_AT + 1 + 1 + GY_FRAME_MAC_BYTES && frame->bytes <= GY_HELLO_BYTES_MAX;
    case GY_FRAME_REQUEST:
    case GY_FRAME_REPLY:
        return frame->bytes >= GY_FRAME_BODY_AT && frame->bytes <= bytes_max;
    case GY_FRAME_CONFIRM:
        return frame->bytes == GY_CONFIRM_BYTES;
    default:
        return frame->bytes == GY_FRAME_HEAD_BYTES;
    }
}

gyre_status gy_frame_decode(struct gy_frame *out, const uint8_t *data, uint16_t version, size_t bytes_max, gyre_error *err)
{
    if (gy_load_u32(data) != MAGIC)
        return gyre_fail(err, GYRE_CORRUPT, "no frame of the bus: starts with 0x%08x", gy_load_u32(data));
    struct gy_frame frame = {.version = gy_load_u16(data + 4), .kind = data[6], .refusal = data[7],
                             .bytes = gy_load_u32(data + 8), .counter = gy_load_u64(data + 16)};
    if (frame.version != version) {
        out->version = frame.version;
        return gyre_fail(err, GYRE_PRECONDITION, "frame of bus protocol version %u; this node speaks version %u",
                         frame.version, version);
    }
    if (frame.kind < GY_FRAME_HELLO || frame.kind > GY_FRAME_CONFIRM)
        return gyre_fail(err, GYRE_CORRUPT, "frame of kind %u; the kinds are %d to %d", frame.kind, GY_FRAME_HELLO,
                         GY_FRAME_CONFIRM);
    bool refuses = frame.refusal != GY_REFUSED_NOTHING, counted = frame.counter != 0;
    if (frame.refusal > GY_REFUSED_FRAME || refuses != (frame.kind == GY_FRAME_REFUSAL))
        return gyre_fail(err, GYRE_CORRUPT, "frame of kind %u with refusal %u", frame.kind, frame.refusal);
    if (gy_load_u32(data + 12) != 0 || counted != (frame.kind == GY_FRAME_REQUEST || frame.kind == GY_FRAME_REPLY))
        return gyre_fail(err, GYRE_CORRUPT, "frame of kind %u with counter %llu and reserved bytes 0x%08x", frame.kind,
                         (unsigned long long)frame.counter, gy_load_u32(data + 12));
    if (!size_fits(&frame, bytes_max))
        return gyre_fail(err, GYRE_CORRUPT, "frame of kind %u says it has %u bytes; the limit is %zu", frame.kind, frame.bytes,
                         bytes_max);
    *out = frame;
    return GYRE_OK;
}

gyre_status gy_node_name_check(const char *name, size_t bytes, gyre_error *err)
{
    if (bytes == 0 || bytes > GY_NODE_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "node name of %zu bytes; it has 1 to %d", bytes, GY_NODE_NAME_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++)
        if ((uint8_t)name[i] < 0x20 || name[i] == 0x7f) /* names end up in logs */
            return gyre_fail(err, GYRE_INVALID, "node name has a control character at byte %zu", i);
    return GYRE_OK;
}

size_t gy_hello_encode(uint8_t out[GY_HELLO_BYTES_MAX], uint16_t version, enum gy_frame_kind kind, const struct gy_hello *hello)
{
    size_t name_bytes = strlen(hello->node), bytes = GY_HELLO_NAME_AT + 1 + name_bytes;
    struct gy_frame frame = {.version = version, .kind = (uint8_t)kind, .bytes = (uint32_t)(bytes + GY_FRAME_MAC_BYTES)};
    gy_frame_encode(out, &frame);
    uint8_t *p = out + GY_FRAME_HEAD_BYTES;
    memcpy(p, hello->public_key, GY_HELLO_KEY_BYTES);
    p += GY_HELLO_KEY_BYTES;
    memcpy(p, hello->random, GY_HELLO_RANDOM_BYTES);
    p += GY_HELLO_RANDOM_BYTES;
    gy_store_u64(p, (uint64_t)hello->clock_ns);
    gy_store_u64(p + 8, hello->message_bytes_max);
    out[GY_HELLO_NAME_AT] = (uint8_t)name_bytes;
    memcpy(out + GY_HELLO_NAME_AT + 1, hello->node, name_bytes);
    return bytes;
}

gyre_status gy_hello_decode(struct gy_hello *out, const uint8_t *data, size_t bytes, gyre_error *err)
{
    if (bytes < GY_HELLO_NAME_AT + 1 + GY_FRAME_MAC_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "hello ends after %zu bytes", bytes);
    size_t name_bytes = data[GY_HELLO_NAME_AT];
    if (bytes != GY_HELLO_NAME_AT + 1 + name_bytes + GY_FRAME_MAC_BYTES)
        return gyre_fail(err, GYRE_CORRUPT, "hello of %zu bytes with a name of %zu", bytes, name_bytes);
    const char *name = (const char *)data + GY_HELLO_NAME_AT + 1;
    if (gy_node_name_check(name, name_bytes, err) != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "hello");
    struct gy_hello hello = {.node = ""};
    const uint8_t *p = data + GY_FRAME_HEAD_BYTES;
    memcpy(hello.public_key, p, GY_HELLO_KEY_BYTES);
    p += GY_HELLO_KEY_BYTES;
    memcpy(hello.random, p, GY_HELLO_RANDOM_BYTES);
    p += GY_HELLO_RANDOM_BYTES;
    hello.clock_ns = (int64_t)gy_load_u64(p);
    hello.message_bytes_max = gy_load_u64(p + 8);
    memcpy(hello.node, name, name_bytes);
    *out = hello;
    return GYRE_OK;
}

/* Both inner heads: id u64, time i64, small u16, six reserved bytes that are zero. */
static void inner_encode(uint8_t out[GY_FRAME_INNER_BYTES], uint64_t id, int64_t time_ns, uint16_t small)
{
    gy_store_u64(out, id);
    gy_store_u64(out + 8, (uint64_t)time_ns);
    gy_store_u16(out + 16, small);
    memset(out + 18, 0, 6);
}

static gyre_status inner_check(const uint8_t *data, gyre_error *err)
{
    for (int i = 18; i < GY_FRAME_INNER_BYTES; i++)
        if (data[i] != 0)
            return gyre_fail(err, GYRE_CORRUPT, "reserved byte %d of the inner head is 0x%02x", i, data[i]);
    return GYRE_OK;
}

void gy_request_head_encode(uint8_t out[GY_FRAME_INNER_BYTES], const struct gy_request_head *head)
{
    inner_encode(out, head->request_id, head->deadline_ns, head->type);
}

void gy_reply_head_encode(uint8_t out[GY_FRAME_INNER_BYTES], const struct gy_reply_head *head)
{
    inner_encode(out, head->request_id, head->clock_ns, head->status);
}

gyre_status gy_request_head_decode(struct gy_request_head *out, const uint8_t *data, gyre_error *err)
{
    GY_TRY(inner_check(data, err));
    *out = (struct gy_request_head){.request_id = gy_load_u64(data), .deadline_ns = (int64_t)gy_load_u64(data + 8),
                                    .type = gy_load_u16(data + 16)};
    return GYRE_OK;
}

gyre_status gy_reply_head_decode(struct gy_reply_head *out, const uint8_t *data, gyre_error *err)
{
    GY_TRY(inner_check(data, err));
    *out = (struct gy_reply_head){.request_id = gy_load_u64(data), .clock_ns = (int64_t)gy_load_u64(data + 8),
                                  .status = gy_load_u16(data + 16)};
    return GYRE_OK;
}
