/* message: gRPC's byte buffers to bytes and back; compressed ones are inflated here, within a limit.
 *
 * gRPC core would inflate by itself, but checks its message limit before and not after: 64 MB of gzip could become 64 GB. */
#ifndef GY_GRPC_MESSAGE_H
#define GY_GRPC_MESSAGE_H

#include "gyre/wire.h"

#include <grpc/grpc.h>

/* Bytes of a received message: inside the buffer when it lies there in one piece, else in `owned`. */
struct gy_message {
    const uint8_t *data;
    size_t size;
    bool compressed; /* as it was sent */
    gy_bytes owned;
};

/* Reads buffer, which must outlive out. GYRE_EXHAUSTED if it inflates beyond bytes_max, GYRE_INVALID if its compression is
 * damaged. out is valid (and empty) on failure too; gy_message_free it. */
GYRE_CHECKED gyre_status gy_message_read(struct gy_message *out, grpc_byte_buffer *buffer, size_t bytes_max, gyre_error *err);
void gy_message_free(struct gy_message *message);

/* A buffer with a copy of the bytes; grpc_byte_buffer_destroy it. */
grpc_byte_buffer *gy_message_buffer(const uint8_t *data, size_t size);
/* A buffer with the packed message; NULL if it is larger than bytes_max. */
grpc_byte_buffer *gy_message_pack(const ProtobufCMessage *message, size_t bytes_max, gyre_error *err);

#endif
