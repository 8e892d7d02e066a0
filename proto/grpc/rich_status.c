#include "rich_status.h"

#include "../utf8.h"

#include <grpc/slice.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* google.rpc.Status: int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3 (none here). */
enum { KEY_CODE = 1 << 3 | 0, KEY_MESSAGE = 2 << 3 | 2, PACKED_BYTES_MAX = 1 + 1 + 1 + 2 + GYRE_ERROR_TEXT_BYTES };
_Static_assert(GYRE_ERROR_TEXT_BYTES <= 1 << 14, "the length of a sentence is written as at most two bytes");

void gy_rich_status_text(char text[GYRE_ERROR_TEXT_BYTES], gyre_status status, const gyre_error *err)
{
    const char *source = err && err->text[0] ? err->text : gyre_status_name(status);
    snprintf(text, GYRE_ERROR_TEXT_BYTES, "%s", source);
    size_t bytes = strlen(text);
    for (size_t at = 0; (at += gy_utf8_prefix((const uint8_t *)text + at, bytes - at)) < bytes;)
        text[at++] = '?';
}

grpc_slice gy_rich_status_pack(gyre_status status, const char *text)
{
    char packed[PACKED_BYTES_MAX];
    size_t bytes = 0;
    size_t text_bytes = strnlen(text, GYRE_ERROR_TEXT_BYTES - 1);
    packed[bytes++] = KEY_CODE;
    packed[bytes++] = (char)status; /* 0 to 16: one varint byte */
    packed[bytes++] = KEY_MESSAGE;
    if (text_bytes < 0x80) {
        packed[bytes++] = (char)text_bytes;
    } else {
        packed[bytes++] = (char)((text_bytes & 0x7f) | 0x80);
        packed[bytes++] = (char)(text_bytes >> 7);
    }
    memcpy(packed + bytes, text, text_bytes);
    return grpc_slice_from_copied_buffer(packed, bytes + text_bytes);
}
