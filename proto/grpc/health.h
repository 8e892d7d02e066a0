/* health: grpc.health.v1 for a server: Check and Watch.
 *
 * Threads  gy_health_set_serving from any thread */
#ifndef GY_GRPC_HEALTH_H
#define GY_GRPC_HEALTH_H

#include "long_call.h"

enum { GY_HEALTH_METHODS = 2 };

struct gy_health {
    struct gy_long_calls watchers;
    bool serving;               /* guarded by watchers.mu */
    const char *const *services; /* lent; "" is always known */
    size_t service_count;
};

void gy_health_init(struct gy_health *health);
/* Before the first call. */
void gy_health_set_services(struct gy_health *health, const char *const *services, size_t service_count);
void gy_health_fini(struct gy_health *health);
void gy_health_methods(struct gy_health *health, struct gy_method methods[GY_HEALTH_METHODS]);
void gy_health_set_serving(struct gy_health *health, bool serving);

#endif
