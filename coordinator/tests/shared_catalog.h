/* shared_catalog: one catalog as several coordinators in this process see it: each has its own view, all have one store. A lease is
 * lost when a test says so, and its holder is told of it or not; what is fenced by it is refused from then on. */
#ifndef GY_TEST_SHARED_CATALOG_H
#define GY_TEST_SHARED_CATALOG_H

#include "catalog/catalog.h"

#include <pthread.h>

enum { SHARED_LEASES_MAX = 16 };

struct shared_store {
    gy_catalog *catalog; /* embedded, taken */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    uint64_t version;    /* guarded by mu, as all below: grows with every change of a key or a lease */
    bool away;           /* nobody answers */
    struct shared_lease {
        char name[GY_LEASE_NAME_BYTES_MAX + 1], owner[GY_LEASE_OWNER_BYTES_MAX + 1];
        bool lost, known_lost; /* it is free for others; its holder knows */
    } *leases[SHARED_LEASES_MAX];
};

void shared_store_init(struct shared_store *store, gy_catalog *catalog);
void shared_store_fini(struct shared_store *store); /* every view is closed */
/* A view of it, for one coordinator. */
gy_catalog *shared_view_new(struct shared_store *store);
/* The lease of that name is free from now on, as after the death or the silence of its holder. */
void shared_lose(struct shared_store *store, const char *name, bool holder_knows);
/* Whether the store answers. */
void shared_reach(struct shared_store *store, bool reached);

#endif
