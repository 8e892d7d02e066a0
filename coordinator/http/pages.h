/* pages: what the coordinator shows over HTTP beside /metrics and /healthz: "/status" (JSON) and "/" (a page that draws it). */
#ifndef GY_COORDINATOR_PAGES_H
#define GY_COORDINATOR_PAGES_H

#include "api/cluster.h"
#include "gyre/http.h"

struct gy_pages {
    gy_cluster_service *cluster;
    gy_placement *placement;
};

enum { GY_PAGES = 2 };

/* Writes the pages at out[0…GY_PAGES-1]; self must outlive the HTTP server. */
void gy_pages_init(struct gy_pages *self, struct gy_http_page *out);

/* {"cluster": {…, "nodes": […]}, "collections": [{…, "shards": […]}]}, field names as in gyre.proto. malloc'ed; NULL without
 * memory. */
char *gy_status_json(const Gyre__V1__ClusterStatusReply *cluster, const Gyre__V1__ListCollectionsReply *collections);

#endif
