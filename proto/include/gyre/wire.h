/* wire: bytes from outside become messages here, and believe nothing on the way.
 *
 * protobuf-c allocates what a message asks for; gy_wire_unpack bounds that by a multiple of the bytes received, so a small
 * hostile message cannot ask for much memory. It also refuses strings that are not UTF-8 or hold NUL bytes, which
 * protobuf-c accepts and other languages refuse to read back. */
#ifndef GYRE_WIRE_H
#define GYRE_WIRE_H

#include "gyre/base.h"

#include <protobuf-c/protobuf-c.h>

/* Bytes that travel: owned by whoever holds the struct; free with gy_bytes_free. */
typedef struct gy_bytes {
    uint8_t *data;
    size_t size;
} gy_bytes;
void gy_bytes_free(gy_bytes *bytes); /* leaves {NULL, 0} */

/* Packs a message into out (malloc). GYRE_NO_MEMORY, or GYRE_EXHAUSTED above bytes_max ("reply of N bytes; the limit is M"). */
GYRE_CHECKED gyre_status gy_wire_pack(gy_bytes *out, const ProtobufCMessage *message, size_t bytes_max, gyre_error *err);

/* Unpacks; on success *out is freed by gy_wire_free. GYRE_INVALID if it is no message of that type. */
GYRE_CHECKED gyre_status gy_wire_unpack(void *out /* T **out */, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                                        size_t bytes, gyre_error *err);
void gy_wire_free(void *message); /* NULL is fine */

/* Checks that text is a JSON object (or empty), at most GY_PAYLOAD_BYTES_MAX long and GY_PAYLOAD_DEPTH_MAX deep, without
 * recursion. GYRE_INVALID names the limit or the position. */
enum { GY_PAYLOAD_BYTES_MAX = 1 << 20, GY_PAYLOAD_DEPTH_MAX = 32 };
GYRE_CHECKED gyre_status gy_payload_check(const char *text, gyre_error *err);

#endif
