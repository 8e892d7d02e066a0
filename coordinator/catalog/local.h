/* local: waiting and leases of a catalog that has one process: changes are those that this process commits, and a lease once
 * taken stays held, for nobody else can take it.
 * Threads  any */
#ifndef GY_CATALOG_LOCAL_H
#define GY_CATALOG_LOCAL_H

#include "catalog/catalog.h"

#include <pthread.h>

struct gy_local {
    pthread_mutex_t mu; /* a leaf: nothing is locked under it */
    pthread_cond_t changed;
    uint64_t revision;           /* guarded by mu, as all below */
    bool interrupted;
    struct gy_catalog_lease *leases;
};

void gy_local_init(struct gy_local *local);
void gy_local_fini(struct gy_local *local);
void gy_local_reach(struct gy_local *local, uint64_t revision);
gyre_status gy_local_wait(struct gy_local *local, uint64_t after, int64_t deadline_ns, uint64_t *revision, gyre_error *err);
void gy_local_interrupt(struct gy_local *local);
gyre_status gy_local_lease_acquire(struct gy_local *local, const char *name, const char *owner, int64_t ttl_ns,
                                   gy_catalog_lease **out, gyre_error *err);
bool gy_local_lease_held(const gy_catalog_lease *lease);
void gy_local_lease_release(gy_catalog_lease *lease);
gyre_status gy_local_lease_holder(struct gy_local *local, const char *name, char owner[static GY_LEASE_OWNER_BYTES_MAX + 1],
                                  gyre_error *err);
gyre_status gy_local_leases(struct gy_local *local, struct gy_catalog_list *out, gyre_error *err);

#endif
