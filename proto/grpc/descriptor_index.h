/* descriptor_index: a FileDescriptorSet, split into its files and looked up by file name or by symbol.
 *
 * Bytes    google/protobuf/descriptor.proto; only the few fields that carry names are read, by hand, because the descriptor
 *          messages themselves are recursive and protobuf-c unpacks by recursion
 * Threads  immutable once open */
#ifndef GY_GRPC_DESCRIPTOR_INDEX_H
#define GY_GRPC_DESCRIPTOR_INDEX_H

#include "gyre/base.h"

struct gy_descriptor_file {
    char *name;
    const uint8_t *bytes; /* the FileDescriptorProto, inside the set */
    size_t size;
};

struct gy_descriptor_index {
    struct gy_descriptor_file *files;
    size_t file_count;
    struct gy_descriptor_symbol *symbols; /* messages, nested ones, enums and their values, services, methods, extensions */
    size_t symbol_count;
    size_t symbol_room;
};

/* The set's bytes are lent until _close. GYRE_CORRUPT if they are no FileDescriptorSet. out is to be closed on failure too. */
GYRE_CHECKED gyre_status gy_descriptor_index_open(struct gy_descriptor_index *out, const uint8_t *set, size_t bytes,
                                                  gyre_error *err);
void gy_descriptor_index_close(struct gy_descriptor_index *index);

/* NULL if there is none. */
const struct gy_descriptor_file *gy_descriptor_file_by_name(const struct gy_descriptor_index *index, const char *name);
const struct gy_descriptor_file *gy_descriptor_file_by_symbol(const struct gy_descriptor_index *index, const char *symbol);
/* Marks in wanted[file_count] the file and all it imports, directly or not. */
void gy_descriptor_closure(const struct gy_descriptor_index *index, const struct gy_descriptor_file *file, bool *wanted);

#endif
