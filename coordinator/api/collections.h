/* collections: the Collections service: create, get, list, drop, train, update, read a shard. */
#ifndef GY_API_COLLECTIONS_H
#define GY_API_COLLECTIONS_H

#include "api/unary.h"
#include "placement/placement.h"

typedef struct gy_collections_service gy_collections_service;

enum { GY_COLLECTIONS_METHODS = 8 };

GYRE_CHECKED gyre_status gy_collections_service_new(gy_collections_service **out, gy_placement *placement, gy_pool *pool,
                                                    gy_metrics *metrics, gyre_error *err);
/* Writes its methods at out[0…GY_COLLECTIONS_METHODS-1]. */
void gy_collections_service_methods(gy_collections_service *service, struct gy_rpc_method *out);
/* After the server is closed. */
void gy_collections_service_free(gy_collections_service *service);

/* A spec as a client sent it, with defaults filled in and every field checked. */
GYRE_CHECKED gyre_status gy_collection_spec_read(const Gyre__V1__CollectionSpec *sent, struct gy_collection_spec *out,
                                                 gyre_error *err);

#endif
