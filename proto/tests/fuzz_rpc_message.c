/* Received gRPC messages: compressed ones, cut into slices anywhere, must inflate within the limit or be refused. First byte:
 * 0 none, 1 compressed; second: bytes per slice. */
#include "../grpc/message.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <stdlib.h>

enum { SLICES_MAX = 64, INFLATED_BYTES_MAX = 100000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    bool compressed = data[0] & 1;
    size_t step = data[1] ? data[1] : 1;
    grpc_slice slices[SLICES_MAX];
    size_t count = 0;
    for (size_t at = 2; at < size; at += step, count++) {
        if (count + 1 == SLICES_MAX || step > size - at)
            step = size - at;
        slices[count] = grpc_slice_from_copied_buffer((const char *)data + at, step);
    }
    grpc_byte_buffer *buffer = compressed ? grpc_raw_compressed_byte_buffer_create(slices, count, GRPC_COMPRESS_GZIP)
                                          : grpc_raw_byte_buffer_create(slices, count);
    struct gy_message message;
    gyre_error err;
    gyre_status status = gy_message_read(&message, buffer, INFLATED_BYTES_MAX, &err);
    if (status == GYRE_OK && compressed && message.size > INFLATED_BYTES_MAX)
        abort();
    if (!compressed && (status != GYRE_OK || message.size != size - 2 || memcmp(message.data, data + 2, size - 2) != 0))
        abort();
    static volatile uint8_t sink; /* every byte is read, so that a sanitizer sees it */
    for (size_t i = 0; i < message.size; i++)
        sink = message.data[i];
    (void)sink;
    gy_message_free(&message);
    grpc_byte_buffer_destroy(buffer);
    for (size_t i = 0; i < count; i++)
        grpc_slice_unref(slices[i]);
    return 0;
}
