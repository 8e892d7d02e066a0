/* The FileDescriptorSet that reflection serves: whoever opens a server may hand any bytes. */
#include "../grpc/descriptor_index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { FILES_MAX = 4096 };
    struct gy_descriptor_index index;
    gyre_error err;
    if (gy_descriptor_index_open(&index, data, size, &err) == GYRE_OK && index.file_count > 0 && index.file_count <= FILES_MAX) {
        bool wanted[FILES_MAX];
        gy_descriptor_closure(&index, &index.files[index.file_count - 1], wanted);
        (void)gy_descriptor_file_by_symbol(&index, "gyre.v1.Points.Search");
        (void)gy_descriptor_file_by_name(&index, "gyre/v1/gyre.proto");
    }
    gy_descriptor_index_close(&index);
    return 0;
}
