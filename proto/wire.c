/* Two passes over what came in. The first walks the raw bytes along the schema and checks what protobuf-c does not: strings
 * (protobuf-c stops at an embedded NUL and takes any bytes for UTF-8) and nesting. Then protobuf-c unpacks with an allocator
 * that stops at a budget. The first pass accepts some bytes that the second refuses (wrong wire type of a known field), never
 * the other way that matters: whatever protobuf-c reads as a string, the first pass has read as the same string. */
#include "gyre/wire.h"

#include "utf8.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    DEPTH_MAX = 8, /* the schemas nest four deep */
    TAG_BYTES_MAX = 5,
    LENGTH_BYTES_MAX = 5,
    VARINT_BYTES_MAX = 10,
    /* Memory a message may take: BASE + PER_BYTE × its bytes. protobuf-c takes most for tiny sub-messages: an id of 4 bytes
     * becomes about 130 bytes (struct, pointer, the parser's note of the field). A long request of honest ids stays below 24
     * bytes per byte, one of empty messages goes to 70; BASE lets those through too while there are not many. */
    MEMORY_BASE = 8 << 20,
    MEMORY_PER_BYTE = 24,
    ALLOCATION_OVERHEAD = 16, /* of malloc, per block */
};

/* Wire types (protobuf encoding, "Message structure"). */
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

void gy_bytes_free(gy_bytes *bytes)
{
    free(bytes->data);
    *bytes = (gy_bytes){NULL, 0};
}

gyre_status gy_wire_pack(gy_bytes *out, const ProtobufCMessage *message, size_t bytes_max, gyre_error *err)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > bytes_max)
        return gyre_fail(err, GYRE_EXHAUSTED, "%s of %zu bytes; the limit is %zu", message->descriptor->name, size, bytes_max);
    uint8_t *data = malloc(size ? size : 1);
    if (!data)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a %s of %zu bytes", message->descriptor->name, size);
    protobuf_c_message_pack(message, data);
    *out = (gy_bytes){data, size};
    return GYRE_OK;
}

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

/* Reads a varint of at most bytes_max bytes. */
static bool read_varint(struct cursor *in, size_t bytes_max, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes_max && in->at < in->end; i++) {
        uint8_t byte = *in->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool skip_bytes(struct cursor *in, size_t bytes)
{
    if ((size_t)(in->end - in->at) < bytes)
        return false;
    in->at += bytes;
    return true;
}

static gyre_status check_string(const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field, const uint8_t *text,
                                size_t bytes, gyre_error *err)
{
    size_t valid = gy_utf8_prefix(text, bytes);
    if (valid == bytes)
        return GYRE_OK;
    return gyre_fail(err, GYRE_INVALID, "%s.%s: %s at byte %zu", type->name, field->name,
                     text[valid] ? "not UTF-8" : "a NUL character", valid);
}

/* Walks the message's fields; sub-messages are entered with a stack of our own, so that depth is a number and not a risk. */
static gyre_status check_fields(const ProtobufCMessageDescriptor *root, const uint8_t *data, size_t bytes, gyre_error *err)
{
    struct {
        const ProtobufCMessageDescriptor *type;
        const uint8_t *end;
    } stack[DEPTH_MAX] = {{root, data + bytes}};
    size_t depth = 0;
    struct cursor in = {data, data + bytes};
    for (;;) {
        while (in.at == stack[depth].end) {
            if (depth == 0)
                return GYRE_OK;
            depth--;
        }
        in.end = stack[depth].end;
        const ProtobufCMessageDescriptor *type = stack[depth].type;
        size_t position = (size_t)(in.at - data);
        uint64_t key;
        uint64_t value;
        bool sound = read_varint(&in, TAG_BYTES_MAX, &key) && key <= UINT32_MAX && key >> 3 != 0; /* no field is number 0 */
        const ProtobufCFieldDescriptor *field =
            sound ? protobuf_c_message_descriptor_get_field(type, (unsigned)(key >> 3)) : NULL;
        switch (sound ? (int)(key & 7) : -1) {
        case WIRE_VARINT:
            sound = read_varint(&in, VARINT_BYTES_MAX, &value);
            break;
        case WIRE_FIXED64:
            sound = skip_bytes(&in, 8);
            break;
        case WIRE_FIXED32:
            sound = skip_bytes(&in, 4);
            break;
        case WIRE_BYTES:
            sound = read_varint(&in, LENGTH_BYTES_MAX, &value) && value <= (uint64_t)(in.end - in.at);
            if (!sound)
                break;
            if (field && field->type == PROTOBUF_C_TYPE_STRING)
                GY_TRY(check_string(type, field, in.at, (size_t)value, err));
            if (field && field->type == PROTOBUF_C_TYPE_MESSAGE) {
                if (depth + 1 == DEPTH_MAX)
                    return gyre_fail(err, GYRE_INVALID, "%s: messages nested deeper than %d", root->name, DEPTH_MAX);
                depth++;
                stack[depth].type = field->descriptor;
                stack[depth].end = in.at + value;
            } else {
                in.at += value;
            }
            break;
        default: /* groups, and numbers that mean nothing */
            sound = false;
        }
        if (!sound)
            return gyre_fail(err, GYRE_INVALID, "%zu bytes are no %s: damaged in %s, at byte %zu", bytes, root->name, type->name,
                             position);
    }
}

struct budget {
    size_t left;
    bool spent;
};

static void *budget_alloc(void *self, size_t bytes)
{
    struct budget *budget = self;
    if (bytes > budget->left || budget->left - bytes < ALLOCATION_OVERHEAD) {
        budget->spent = true;
        return NULL;
    }
    budget->left -= bytes + ALLOCATION_OVERHEAD; /* never given back: what is freed on the way is small */
    return malloc(bytes);
}

static void budget_free(void *self, void *block)
{
    (void)self;
    free(block);
}

gyre_status gy_wire_unpack(void *out, const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t bytes, gyre_error *err)
{
    static const uint8_t nothing[1];
    if (!data)
        data = nothing; /* an empty message may come as NULL */
    if (bytes > (SIZE_MAX - MEMORY_BASE) / MEMORY_PER_BYTE)
        return gyre_fail(err, GYRE_INVALID, "%s of %zu bytes", type->name, bytes);
    GY_TRY(check_fields(type, data, bytes, err));
    struct budget budget = {.left = (size_t)MEMORY_BASE + MEMORY_PER_BYTE * bytes};
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &budget};
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, bytes, data);
    if (!message && budget.spent)
        return gyre_fail(err, GYRE_EXHAUSTED, "%s of %zu bytes asks for more than %zu bytes of memory", type->name, bytes,
                         (size_t)MEMORY_BASE + MEMORY_PER_BYTE * bytes);
    if (!message)
        return gyre_fail(err, GYRE_INVALID, "%zu bytes are no %s", bytes, type->name);
    memcpy(out, &message, sizeof message);
    return GYRE_OK;
}

void gy_wire_free(void *message)
{
    if (message) /* the allocator's blocks are malloc's, which is what protobuf-c frees by default */
        protobuf_c_message_free_unpacked(message, NULL);
}
