/* reflection: grpc.reflection.v1 and v1alpha for a server: its services and their schemas, for tools that have none. */
#ifndef GY_GRPC_REFLECTION_H
#define GY_GRPC_REFLECTION_H

#include "descriptor_index.h"
#include "long_call.h"

enum { GY_REFLECTION_METHODS = 2 };

struct gy_reflection {
    struct gy_long_calls calls;
    struct gy_descriptor_index index;
    const char *const *services; /* lent */
    size_t service_count;
};

void gy_reflection_init(struct gy_reflection *reflection);
/* Before the first call. descriptors: a FileDescriptorSet, lent. GYRE_CORRUPT if it is none. */
GYRE_CHECKED gyre_status gy_reflection_load(struct gy_reflection *reflection, const char *const *services, size_t service_count,
                                            const uint8_t *descriptors, size_t bytes, gyre_error *err);
void gy_reflection_fini(struct gy_reflection *reflection);
void gy_reflection_methods(struct gy_reflection *reflection, struct gy_method methods[GY_REFLECTION_METHODS]);

#endif
