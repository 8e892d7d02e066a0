#include "api/collections.h"

#include "api/read_shard.h"

#include <stdlib.h>

struct gy_collections_service {
    gy_placement *placement;
    struct gy_unary methods[GY_COLLECTIONS_METHODS];
};

gyre_status gy_collection_spec_read(const Gyre__V1__CollectionSpec *sent, struct gy_collection_spec *out, gyre_error *err)
{
    if (!sent)
        return gyre_fail(err, GYRE_INVALID, "spec is missing");
    GY_TRY(gy_collection_name_check(sent->name, err));
    if (sent->metric == GYRE__V1__METRIC__METRIC_UNSPECIFIED)
        return gyre_fail(err, GYRE_INVALID, "metric is missing; it must be l2 (1), ip (2) or cosine (3)");
    if (strlen(sent->codec) > GY_CODEC_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "codec of %zu bytes; a name has at most %d", strlen(sent->codec),
                         GY_CODEC_NAME_BYTES_MAX);
    struct gy_collection_spec spec = {
        .dim = sent->dim,
        .metric = (gyre_metric)sent->metric,
        .shards = sent->shards ? sent->shards : GY_SHARDS_DEFAULT,
        .copies = sent->copies ? sent->copies : 1,
        .quantized = sent->quantized,
        .min_copies = sent->min_copies,
        .allow_approximate = sent->allow_approximate,
    };
    memcpy(spec.name, sent->name, strlen(sent->name) + 1);
    const char *codec = sent->codec[0] ? sent->codec : "rabitq";
    memcpy(spec.codec, codec, strlen(codec) + 1);
    const gyre_codec *found;
    GY_TRY(gy_collection_codec(spec.codec, sent->bits, &found, err));
    spec.bits = found->bits;
    GY_TRY(gy_collection_spec_check(&spec, err));
    *out = spec;
    return GYRE_OK;
}

/* Packs a reply and frees it. */
static gyre_status pack(gy_bytes *reply, ProtobufCMessage *message, gyre_error *err)
{
    gyre_status status = gy_wire_pack(reply, message, GY_RPC_MESSAGE_BYTES_MAX, err);
    gy_wire_free(message);
    return status;
}

static gyre_status create(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    gy_collections_service *service = self;
    const Gyre__V1__CreateCollectionRequest *asked = request;
    struct gy_collection_spec spec;
    Gyre__V1__Collection *made;
    GY_TRY(gy_collection_spec_read(asked->spec, &spec, err));
    GY_TRY(gy_placement_create(service->placement, &spec, caller->deadline_ns, &made, err));
    return pack(reply, &made->base, err);
}

static gyre_status get(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)call;
    gy_collections_service *service = self;
    const Gyre__V1__GetCollectionRequest *asked = request;
    Gyre__V1__Collection *found;
    GY_TRY(gy_placement_get(service->placement, asked->name, &found, err));
    return pack(reply, &found->base, err);
}

static gyre_status list(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)call, (void)request;
    gy_collections_service *service = self;
    Gyre__V1__ListCollectionsReply *found;
    GY_TRY(gy_placement_list(service->placement, &found, err));
    return pack(reply, &found->base, err);
}

static gyre_status drop(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    gy_collections_service *service = self;
    const Gyre__V1__DropCollectionRequest *asked = request;
    GY_TRY(gy_placement_drop(service->placement, asked->name, caller->deadline_ns, err));
    Gyre__V1__DropCollectionReply dropped = GYRE__V1__DROP_COLLECTION_REPLY__INIT;
    return gy_wire_pack(reply, &dropped.base, GY_RPC_MESSAGE_BYTES_MAX, err);
}

static gyre_status train(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    gy_collections_service *service = self;
    const Gyre__V1__TrainCollectionRequest *asked = request;
    struct gy_train_options options = {
        .lists = asked->lists,
        .wait = asked->wait,
        .deadline_ns = caller->deadline_ns,
        .cancelled = caller->cancelled,
        .cancelled_arg = caller->arg,
    };
    Gyre__V1__Collection *trained;
    GY_TRY(gy_placement_train(service->placement, asked->name, &options, &trained, err));
    return pack(reply, &trained->base, err);
}

static gyre_status update(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    (void)caller;
    gy_collections_service *service = self;
    const Gyre__V1__UpdateCollectionRequest *asked = request;
    bool allow_approximate = asked->allow_approximate && asked->allow_approximate->value;
    struct gy_placement_wishes wishes = {
        .copies = asked->copies ? &asked->copies->value : NULL,
        .quantized = asked->quantized ? &asked->quantized->value : NULL,
        .min_copies = asked->min_copies ? &asked->min_copies->value : NULL,
        .allow_approximate = asked->allow_approximate ? &allow_approximate : NULL,
    };
    Gyre__V1__Collection *updated;
    GY_TRY(gy_placement_update(service->placement, asked->name, &wishes, &updated, err));
    return pack(reply, &updated->base, err);
}

static gyre_status scrub(void *self, const struct gy_caller *caller, void *request, gy_bytes *reply, gyre_error *err)
{
    gy_collections_service *service = self;
    const Gyre__V1__ScrubCollectionRequest *asked = request;
    struct gy_scrub_wish wish = {
        .collection = asked->name,
        .shard = asked->shard ? &asked->shard->value : NULL,
        .deadline_ns = caller->deadline_ns,
        .cancelled = caller->cancelled,
        .cancelled_arg = caller->arg,
    };
    Gyre__V1__ScrubCollectionReply *scrubbed;
    GY_TRY(gy_placement_scrub(service->placement, &wish, &scrubbed, err));
    return pack(reply, &scrubbed->base, err);
}

static gyre_status read_shard(void *self, gy_rpc_call *call, void *request, gy_bytes *reply, gyre_error *err)
{
    gy_collections_service *service = self;
    gy_read_shard read = {gy_placement_routing(service->placement), gy_placement_cluster_id(service->placement)};
    return gy_read_shard_run(&read, request, gy_rpc_deadline_ns(call), reply, err);
}

static const struct gy_unary methods[GY_COLLECTIONS_METHODS] = {
    {.path = "/gyre.v1.Collections/Create", .request_type = &gyre__v1__create_collection_request__descriptor, .change = create},
    {.path = "/gyre.v1.Collections/Get", .request_type = &gyre__v1__get_collection_request__descriptor, .handle = get},
    {.path = "/gyre.v1.Collections/List", .request_type = &gyre__v1__list_collections_request__descriptor, .handle = list},
    {.path = "/gyre.v1.Collections/Drop", .request_type = &gyre__v1__drop_collection_request__descriptor, .change = drop},
    {.path = "/gyre.v1.Collections/Train", .request_type = &gyre__v1__train_collection_request__descriptor, .change = train},
    {.path = "/gyre.v1.Collections/Update", .request_type = &gyre__v1__update_collection_request__descriptor, .change = update},
    {.path = "/gyre.v1.Collections/Scrub", .request_type = &gyre__v1__scrub_collection_request__descriptor, .change = scrub},
    {.path = "/gyre.v1.Collections/ReadShard", .request_type = &gyre__v1__read_shard_request__descriptor, .handle = read_shard},
};

gyre_status gy_collections_service_new(gy_collections_service **out, gy_placement *placement, gy_pool *pool, gy_metrics *metrics,
                                       gyre_error *err)
{
    gy_collections_service *service = calloc(1, sizeof *service);
    if (!service)
        return gyre_fail(err, GYRE_NO_MEMORY, "Collections service");
    service->placement = placement;
    memcpy(service->methods, methods, sizeof methods);
    gy_unary_init(service->methods, GY_COLLECTIONS_METHODS, service, pool, metrics);
    *out = service;
    return GYRE_OK;
}

void gy_collections_service_methods(gy_collections_service *service, struct gy_rpc_method *out)
{
    gy_unary_methods(service->methods, GY_COLLECTIONS_METHODS, out);
}

gyre_status gy_collections_service_share(gy_collections_service *service, gy_forward *forward, gyre_error *err)
{
    return gy_forward_share(forward, service->methods, GY_COLLECTIONS_METHODS, err);
}

void gy_collections_service_free(gy_collections_service *service) { free(service); }
