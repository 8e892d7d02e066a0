/* ENSURE_REPLICA: makes a replica exist and brings it to a configuration. Sending it again changes nothing. */
#include "server/incoming.h"

#include <stdio.h>

enum { CODEC_NAME_BYTES_MAX = 64 };

/* An empty name is what a coordinator sends that knows of one codec only. */
static gyre_status find_codec(const gyre_codec **out, const char *name, gyre_error *err)
{
    size_t bytes = strlen(name);
    if (bytes > CODEC_NAME_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "codec name of %zu bytes; it has at most %d", bytes, CODEC_NAME_BYTES_MAX);
    gyre_status status = gyre_codec_find(out, *name ? name : "rabitq1", err);
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "codec");
    if (!gyre_codec_has_signs(*out))
        return gyre_fail(err, GYRE_INVALID,
                         "codec '%s' has no plane of signs to scan; shards keep rabitq, signblock and signtrellis codes", name);
    return GYRE_OK;
}

static gyre_status ensure(gy_node *node, const Gyre__Node__EnsureReplica *request, int64_t deadline_ns, gy_hosted **out,
                          gyre_error *err)
{
    struct gy_store_identity identity = {.collection_id = request->collection_id, .shard = request->shard};
    struct gy_node_wish wish = {.identity = &identity, .member = request->member, .create = request->create};
    if (!request->config)
        return gyre_fail(err, GYRE_INVALID, "config is missing");
    GY_TRY(gy_shard_config_read(&wish.config, request->config, err));
    if (!gy_config_member(&wish.config, request->member))
        return gyre_fail(err, GYRE_INVALID, "member %u is not in config", request->member);
    if (!*request->collection || strlen(request->collection) >= sizeof identity.collection)
        return gyre_fail(err, GYRE_INVALID, "collection name of %zu bytes; it has 1 to %zu", strlen(request->collection),
                         sizeof identity.collection - 1);
    snprintf(identity.collection, sizeof identity.collection, "%s", request->collection);
    const gyre_codec *codec;
    GY_TRY(find_codec(&codec, request->codec, err));
    gyre_codebook *decoded = NULL;
    gyre_status status = GYRE_OK;
    if (request->codebook.len)
        status = gyre_codebook_decode(&decoded, request->codebook.data, request->codebook.len, err);
    else if (!request->codebook_version)
        status = gyre_fail(err, GYRE_INVALID, "neither its bytes nor its version are there");
    if (status != GYRE_OK)
        return gyre_wrap(err, status, "codebook");
    GY_AUTO(gyre_codebook) *codebook = decoded;
    wish.codec = codec->name;
    wish.codebook = codebook, wish.codebook_version = request->codebook_version;
    return gy_node_ensure(node, &wish, deadline_ns, out, err);
}

void gy_serve_ensure(gy_incoming *call, void *message)
{
    gyre_error err;
    gy_node *node = call->server->node;
    gy_hosted *hosted;
    gyre_status status = ensure(node, message, call->deadline_ns, &hosted, &err);
    gy_wire_free(message);
    if (status != GYRE_OK) {
        gy_incoming_fail(call, status, &err);
        return;
    }
    Gyre__Node__ReplicaStatus reply;
    char trouble[GYRE_ERROR_TEXT_BYTES];
    gy_replica_status(gy_hosted_replica(hosted), &reply, trouble, sizeof trouble);
    gy_node_release(node, hosted);
    gy_incoming_reply(call, &reply.base);
}
