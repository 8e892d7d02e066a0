/* cluster: the Cluster service: what an operator asks about the whole. */
#ifndef GY_API_CLUSTER_H
#define GY_API_CLUSTER_H

#include "api/forward.h"
#include "placement/placement.h"

typedef struct gy_cluster_service gy_cluster_service;

enum { GY_CLUSTER_METHODS = 6 };

GYRE_CHECKED gyre_status gy_cluster_service_new(gy_cluster_service **out, gy_placement *placement, gy_pool *pool,
                                                gy_metrics *metrics, gyre_error *err);
/* Writes its methods at out[0…GY_CLUSTER_METHODS-1]. */
void gy_cluster_service_methods(gy_cluster_service *service, struct gy_rpc_method *out);
/* The coordinator's own gRPC address, known once the server listens; until then answers leave it empty. */
void gy_cluster_service_set_address(gy_cluster_service *service, const char *address);
/* Its changes are made by whoever leads. Before the server is opened. */
GYRE_CHECKED gyre_status gy_cluster_service_share(gy_cluster_service *service, gy_forward *forward, gyre_error *err);
/* After the server is closed. */
void gy_cluster_service_free(gy_cluster_service *service);

/* The answer of Status, for the status page too. *out is the caller's (gy_wire_free). */
GYRE_CHECKED gyre_status gy_cluster_service_status(gy_cluster_service *service, Gyre__V1__ClusterStatusReply **out,
                                                   gyre_error *err);

#endif
