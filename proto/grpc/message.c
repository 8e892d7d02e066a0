#include "message.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    INFLATE_START_BYTES = 16 << 10,
    /* zlib's own: 15 window bits, and 32 to tell gzip from zlib (which gRPC calls "deflate") by the header. */
    INFLATE_WINDOW = 15 + 32,
};

static gyre_status join(struct gy_message *out, const grpc_slice_buffer *slices, gyre_error *err)
{
    if (slices->count == 0) {
        static const uint8_t nothing[1];
        out->data = nothing;
        return GYRE_OK;
    }
    if (slices->count == 1) {
        out->data = GRPC_SLICE_START_PTR(slices->slices[0]);
        out->size = GRPC_SLICE_LENGTH(slices->slices[0]);
        return GYRE_OK;
    }
    uint8_t *at = malloc(slices->length ? slices->length : 1);
    if (!at)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a message of %zu bytes", slices->length);
    out->owned = (gy_bytes){at, slices->length};
    for (size_t i = 0; i < slices->count; i++) {
        memcpy(at, GRPC_SLICE_START_PTR(slices->slices[i]), GRPC_SLICE_LENGTH(slices->slices[i]));
        at += GRPC_SLICE_LENGTH(slices->slices[i]);
    }
    out->data = out->owned.data;
    out->size = out->owned.size;
    return GYRE_OK;
}

/* Doubles the room for output, up to one byte above the limit: that byte tells "exactly the limit" from "more". */
static gyre_status grow(gy_bytes *room, size_t bytes_max, gyre_error *err)
{
    if (room->size > bytes_max)
        return gyre_fail(err, GYRE_EXHAUSTED, "message inflates beyond the limit of %zu bytes", bytes_max);
    size_t size = room->size ? room->size * 2 : INFLATE_START_BYTES;
    if (size > bytes_max)
        size = bytes_max + 1;
    uint8_t *data = realloc(room->data, size);
    if (!data)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for an inflated message of %zu bytes", size);
    *room = (gy_bytes){data, size};
    return GYRE_OK;
}

/* Inflates all slices into room; *size is what came out. */
static gyre_status inflate_slices(z_stream *z, const grpc_slice_buffer *slices, gy_bytes *room, size_t *size, size_t bytes_max,
                                  gyre_error *err)
{
    int result = Z_OK;
    for (size_t i = 0; i < slices->count && result == Z_OK; i++) {
        z->next_in = (Bytef *)(uintptr_t)GRPC_SLICE_START_PTR(slices->slices[i]); /* zlib reads it only, whatever its type says */
        z->avail_in = (uInt)GRPC_SLICE_LENGTH(slices->slices[i]);
        do {
            if (*size == room->size)
                GY_TRY(grow(room, bytes_max, err));
            size_t free_bytes = room->size - *size;
            z->next_out = room->data + *size;
            z->avail_out = free_bytes > UINT_MAX ? UINT_MAX : (uInt)free_bytes;
            uInt offered = z->avail_out;
            result = inflate(z, Z_NO_FLUSH);
            *size += offered - z->avail_out;
        } while (result == Z_OK && (z->avail_in > 0 || z->avail_out == 0));
        if (result == Z_BUF_ERROR && z->avail_in == 0)
            result = Z_OK; /* this slice is used up */
    }
    if (result != Z_STREAM_END)
        return gyre_fail(err, GYRE_INVALID, "compressed message is damaged: %s", z->msg ? z->msg : "it ends early");
    if (*size > bytes_max)
        return gyre_fail(err, GYRE_EXHAUSTED, "message inflates beyond the limit of %zu bytes", bytes_max);
    return GYRE_OK;
}

gyre_status gy_message_read(struct gy_message *out, grpc_byte_buffer *buffer, size_t bytes_max, gyre_error *err)
{
    *out = (struct gy_message){0};
    const grpc_slice_buffer *slices = &buffer->data.raw.slice_buffer;
    if (buffer->data.raw.compression == GRPC_COMPRESS_NONE)
        return join(out, slices, err);
    out->compressed = true;
    z_stream z = {0};
    if (inflateInit2(&z, INFLATE_WINDOW) != Z_OK)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory to inflate a message");
    gyre_status status = inflate_slices(&z, slices, &out->owned, &out->size, bytes_max, err);
    inflateEnd(&z);
    if (status != GYRE_OK) {
        gy_message_free(out);
        return status;
    }
    out->data = out->owned.data;
    return GYRE_OK;
}

void gy_message_free(struct gy_message *message)
{
    gy_bytes_free(&message->owned);
    message->data = NULL;
    message->size = 0;
}

static grpc_byte_buffer *wrap(grpc_slice slice)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice); /* the buffer holds it */
    return buffer;
}

grpc_byte_buffer *gy_message_buffer(const uint8_t *data, size_t size)
{
    return wrap(size ? grpc_slice_from_copied_buffer((const char *)data, size) : grpc_empty_slice());
}

grpc_byte_buffer *gy_message_pack(const ProtobufCMessage *message, size_t bytes_max, gyre_error *err)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    if (size > bytes_max) {
        gyre_fail(err, GYRE_EXHAUSTED, "%s of %zu bytes; the limit is %zu", message->descriptor->name, size, bytes_max);
        return NULL;
    }
    grpc_slice slice = grpc_slice_malloc(size);
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return wrap(slice);
}
