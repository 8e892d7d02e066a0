#include "api/cluster.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct gy_cluster_service {
    gy_placement *placement;
    pthread_mutex_t mu;
    char address[256]; /* guarded by mu */
    struct gy_unary methods[GY_CLUSTER_METHODS];
};

gyre_status gy_cluster_service_status(gy_cluster_service *service, Gyre__V1__ClusterStatusReply **out, gyre_error *err)
{
    Gyre__V1__ClusterStatusReply *found;
    GY_TRY(gy_placement_status(service->placement, &found, err));
    pthread_mutex_lock(&service->mu);
    found->coordinator = strdup(service->address);
    pthread_mutex_unlock(&service->mu);
    if (!found->coordinator) {
        gy_wire_free(found);
        return gyre_fail(err, GYRE_NO_MEMORY, "cluster status");
    }
    *out = found;
    return GYRE_OK;
}

static gyre_status status(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)call, (void)request;
    Gyre__V1__ClusterStatusReply *found;
    GY_TRY(gy_cluster_service_status(self, &found, err));
    gyre_status packed = gy_wire_pack(reply, &found->base, GY_RPC_MESSAGE_BYTES_MAX, err);
    gy_wire_free(found);
    return packed;
}

static gyre_status drain(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    const gy_cluster_service *service = self;
    const Gyre__V1__DrainRequest *asked = request;
    Gyre__V1__DrainReply done = GYRE__V1__DRAIN_REPLY__INIT;
    struct gy_placement_drain wanted = {asked->node, asked->heir, asked->undo, asked->for_good};
    GY_TRY(gy_placement_drain(service->placement, &wanted, &done.members, err));
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status move(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    const gy_cluster_service *service = self;
    const Gyre__V1__MoveRequest *asked = request;
    Gyre__V1__MoveReply begun = GYRE__V1__MOVE_REPLY__INIT;
    struct gy_placement_move wanted = {asked->collection, asked->from, asked->to, asked->shard};
    GY_TRY(gy_placement_move(service->placement, &wanted, &begun.epoch, err));
    return gy_wire_pack(reply, &begun.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status split(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    const gy_cluster_service *service = self;
    const Gyre__V1__SplitRequest *asked = request;
    Gyre__V1__SplitReply begun = GYRE__V1__SPLIT_REPLY__INIT;
    GY_TRY(gy_placement_split(service->placement, asked->collection, asked->shard, &begun.epoch, &begun.new_shard, err));
    return gy_wire_pack(reply, &begun.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status remove_node(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    const gy_cluster_service *service = self;
    const Gyre__V1__RemoveNodeRequest *asked = request;
    Gyre__V1__RemoveNodeReply done = GYRE__V1__REMOVE_NODE_REPLY__INIT;
    GY_TRY(gy_placement_remove_node(service->placement, asked->node, err));
    return gy_wire_pack(reply, &done.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status recover(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    const gy_cluster_service *service = self;
    const Gyre__V1__RecoverRequest *asked = request;
    struct gy_placement_recovery wanted = {asked->collection, asked->shard, asked->member, asked->accept_data_loss};
    struct gy_placement_recovered done;
    GY_TRY(gy_placement_recover(service->placement, &wanted, &done, err));
    Gyre__V1__RecoverReply sent = GYRE__V1__RECOVER_REPLY__INIT;
    sent.epoch = done.epoch, sent.member = done.member, sent.node = done.node, sent.log_seq = done.log_seq;
    return gy_wire_pack(reply, &sent.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static const struct gy_unary methods[GY_CLUSTER_METHODS] = {
    {.path = "/gyre.v1.Cluster/Status", .request_type = &gyre__v1__cluster_status_request__descriptor, .handle = status},
    {.path = "/gyre.v1.Cluster/Drain", .request_type = &gyre__v1__drain_request__descriptor, .change = drain},
    {.path = "/gyre.v1.Cluster/Move", .request_type = &gyre__v1__move_request__descriptor, .change = move},
    {.path = "/gyre.v1.Cluster/Split", .request_type = &gyre__v1__split_request__descriptor, .change = split},
    {.path = "/gyre.v1.Cluster/RemoveNode", .request_type = &gyre__v1__remove_node_request__descriptor, .change = remove_node},
    {.path = "/gyre.v1.Cluster/Recover", .request_type = &gyre__v1__recover_request__descriptor, .change = recover},
};

gyre_status gy_cluster_service_new(gy_cluster_service **out, gy_placement *placement, gy_pool *pool, gy_metrics *metrics,
                                   gyre_error *err)
{
    gy_cluster_service *service = calloc(1, sizeof *service);
    if (!service)
        return gyre_fail(err, GYRE_NO_MEMORY, "Cluster service");
    service->placement = placement;
    pthread_mutex_init(&service->mu, NULL);
    memcpy(service->methods, methods, sizeof methods);
    gy_unary_init(service->methods, GY_CLUSTER_METHODS, service, pool, metrics);
    *out = service;
    return GYRE_OK;
}

void gy_cluster_service_methods(gy_cluster_service *service, struct gy_rpc_method *out)
{
    gy_unary_methods(service->methods, GY_CLUSTER_METHODS, out);
}

void gy_cluster_service_set_address(gy_cluster_service *service, const char *address)
{
    pthread_mutex_lock(&service->mu);
    snprintf(service->address, sizeof service->address, "%s", address);
    pthread_mutex_unlock(&service->mu);
}

gyre_status gy_cluster_service_share(gy_cluster_service *service, gy_forward *forward, gyre_error *err)
{
    return gy_forward_share(forward, service->methods, GY_CLUSTER_METHODS, err);
}

void gy_cluster_service_free(gy_cluster_service *service)
{
    if (!service)
        return;
    pthread_mutex_destroy(&service->mu);
    free(service);
}
