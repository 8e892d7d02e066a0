#include "api/points_service.h"

#include "routing/session.h"

#include <sodium.h>
#include <stdlib.h>

static const struct gy_unary unary_methods[GY_POINTS_UNARY] = {
    {.path = "/gyre.v1.Points/Upsert", .request_type = &gyre__v1__upsert_request__descriptor, .handle = gy_points_upsert},
    {.path = "/gyre.v1.Points/Delete", .request_type = &gyre__v1__delete_request__descriptor, .handle = gy_points_delete},
    {.path = "/gyre.v1.Points/Get", .request_type = &gyre__v1__get_request__descriptor, .handle = gy_points_get},
    {.path = "/gyre.v1.Points/Count", .request_type = &gyre__v1__count_request__descriptor, .handle = gy_points_count},
    {.path = "/gyre.v1.Points/Search", .request_type = &gyre__v1__search_request__descriptor, .start = gy_points_search},
    {.path = "/gyre.v1.Points/SearchBatch",
     .request_type = &gyre__v1__search_batch_request__descriptor,
     .handle = gy_points_search_batch},
};

gyre_status gy_points_service_new(gy_points_service **out, gy_routing *routing, gy_pool *reads, gy_pool *writes,
                                  gy_metrics *metrics, gyre_error *err)
{
    gy_points_service *service = calloc(1, sizeof *service);
    if (!service)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the Points service");
    gyre_status status = gy_search_gather_new(&service->gather, 0, 0, err);
    if (status != GYRE_OK) {
        free(service);
        return status;
    }
    randombytes_buf(service->client, sizeof service->client);
    gy_routing_show(routing, metrics);
    service->routing = routing, service->reads = reads, service->writes = writes;
    memcpy(service->unary, unary_methods, sizeof unary_methods);
    gy_unary_init(service->unary, GY_POINTS_UNARY_WRITES, service, writes, metrics);
    gy_unary_init(service->unary + GY_POINTS_UNARY_WRITES, GY_POINTS_UNARY - GY_POINTS_UNARY_WRITES, service, reads, metrics);
    service->points_written =
        gy_counter_new(metrics, "gyre_coordinator_points_written_total", NULL, "Points upserted and acknowledged.");
    service->points_deleted =
        gy_counter_new(metrics, "gyre_coordinator_points_deleted_total", NULL, "Points deleted and acknowledged.");
    service->queries =
        gy_counter_new(metrics, "gyre_coordinator_queries_total", NULL, "Queries answered, each of a batch counted.");
    service->codes_scanned =
        gy_counter_new(metrics, "gyre_coordinator_codes_scanned_total", NULL, "Codes that shards scanned for queries.");
    service->vectors_read =
        gy_counter_new(metrics, "gyre_coordinator_vectors_read_total", NULL, "Full vectors that shards read to re-rank.");
    *out = service;
    return GYRE_OK;
}

bool gy_points_cancelled(void *arg) { return gy_rpc_cancelled(arg); }

struct gy_renewal gy_points_renewal(struct gy_points_service *service, gy_rpc_call *call, int64_t deadline_ns)
{
    return (struct gy_renewal){service->routing, deadline_ns, gy_points_cancelled, call};
}

gyre_status gy_token_write(const gy_route *route, const uint64_t *seqs, ProtobufCBinaryData *token, gyre_error *err)
{
    size_t bytes = gy_session_bytes(seqs, route->shard_count);
    uint8_t *data = malloc(bytes);
    if (!data)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a token of %zu bytes", bytes);
    gy_session_write(route->collection_id, seqs, route->shard_count, data);
    *token = (ProtobufCBinaryData){bytes, data};
    return GYRE_OK;
}

void gy_points_service_methods(gy_points_service *service, struct gy_rpc_method *out)
{
    gy_unary_methods(service->unary, GY_POINTS_UNARY, out);
    out[GY_POINTS_UNARY] = (struct gy_rpc_method){.path = "/gyre.v1.Points/Import", .streams = true,
        .on_message = gy_points_import_on_message, .on_gone = gy_points_import_on_gone, .self = service};
}

void gy_points_service_free(gy_points_service *service)
{
    if (service)
        gy_search_gather_free(service->gather);
    free(service);
}
