/* migrate: a coordinator's embedded catalog into etcd, once, while no coordinator runs.
 *
 * Order, and what a crash between two steps leaves: (1) an empty prefix gets a mark with the cluster's id: no coordinator opens
 * it; (2) every key is copied; (3) every key is read back and compared; (4) the embedded catalog is marked as moved: no
 * coordinator opens it any more; (5) the prefix's mark goes. Until (4) the embedded catalog serves as before; after any crash the
 * same command goes on where it was, also when the embedded catalog was changed between. */
#ifndef GY_CATALOG_MIGRATE_H
#define GY_CATALOG_MIGRATE_H

#include "catalog/catalog.h"

struct gy_migrated {
    size_t keys;
    uint64_t bytes; /* of their values */
};
/* path: of the embedded catalog, locked by the caller. GYRE_PRECONDITION: nothing is there, it has moved already, or something
 * else is below the prefix. */
GYRE_CHECKED gyre_status gy_catalog_migrate(const char *path, const struct gy_etcd_options *options, struct gy_migrated *migrated,
                                            gyre_error *err);

#endif
