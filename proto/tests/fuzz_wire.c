/* Every message that comes from outside: the public requests, the nodes' messages, health and reflection, and payloads.
 * The first byte of the input picks the type, the rest are its bytes. What unpacks must pack again and come back the same. */
#include "gyre/point_id.h"
#include "gyre/wire.h"

#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "gyre/node/node.pb-c.h"
#include "gyre/v1/gyre.pb-c.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &gyre__v1__create_collection_request__descriptor,
    &gyre__v1__get_collection_request__descriptor,
    &gyre__v1__list_collections_request__descriptor,
    &gyre__v1__drop_collection_request__descriptor,
    &gyre__v1__train_collection_request__descriptor,
    &gyre__v1__upsert_request__descriptor,
    &gyre__v1__import_request__descriptor,
    &gyre__v1__get_request__descriptor,
    &gyre__v1__delete_request__descriptor,
    &gyre__v1__count_request__descriptor,
    &gyre__v1__search_request__descriptor,
    &gyre__v1__search_batch_request__descriptor,
    &gyre__v1__cluster_status_request__descriptor,
    &gyre__v1__search_batch_reply__descriptor,
    &gyre__v1__list_collections_reply__descriptor,
    &gyre__v1__cluster_status_reply__descriptor,
    &gyre__v1__get_reply__descriptor,
    &gyre__node__report__descriptor,
    &gyre__node__report_reply__descriptor,
    &gyre__node__ensure_replica__descriptor,
    &gyre__node__replica_status__descriptor,
    &gyre__node__drop_replica__descriptor,
    &gyre__node__sum_vectors__descriptor,
    &gyre__node__sum_vectors_reply__descriptor,
    &gyre__node__write__descriptor,
    &gyre__node__write_reply__descriptor,
    &gyre__node__read__descriptor,
    &gyre__node__read_reply__descriptor,
    &gyre__node__count__descriptor,
    &gyre__node__count_reply__descriptor,
    &gyre__node__scan__descriptor,
    &gyre__node__scan_reply__descriptor,
    &gyre__node__distances__descriptor,
    &gyre__node__distances_reply__descriptor,
    &grpc__health__v1__health_check_request__descriptor,
    &grpc__reflection__v1__server_reflection_request__descriptor,
};
enum { TYPES = sizeof types / sizeof *types, MEMORY_IS_PLENTY = 1 << 24 };

/* A message that was accepted must survive a second journey: others will read what we store and forward. */
static void check_round_trip(const ProtobufCMessageDescriptor *type, const ProtobufCMessage *message)
{
    gy_bytes first;
    gy_bytes second;
    ProtobufCMessage *back = NULL;
    if (gy_wire_pack(&first, message, MEMORY_IS_PLENTY, NULL) != GYRE_OK)
        return;
    if (gy_wire_unpack(&back, type, first.data, first.size, NULL) != GYRE_OK)
        abort();
    if (gy_wire_pack(&second, back, MEMORY_IS_PLENTY, NULL) != GYRE_OK)
        abort();
    if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
        abort();
    gy_wire_free(back);
    gy_bytes_free(&first);
    gy_bytes_free(&second);
}

static void check_texts(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    gyre_error err;
    gyre_point_id id;
    if (!text)
        return;
    GY_IGNORE(gy_payload_check(text, &err)); /* any verdict will do, but one must come */
    if (gyre_point_id_parse(&id, text, &err) == GYRE_OK) {
        char again[GYRE_UUID_TEXT_BYTES];
        gyre_point_id same;
        if (gyre_point_id_parse(&same, gyre_point_id_format(&id, again), &err) != GYRE_OK || gyre_point_id_compare(&id, &same) != 0)
            abort();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const ProtobufCMessageDescriptor *type = types[data[0] % TYPES];
    gyre_error err;
    ProtobufCMessage *message = NULL;
    if (gy_wire_unpack(&message, type, data + 1, size - 1, &err) == GYRE_OK)
        check_round_trip(type, message);
    gy_wire_free(message);
    check_texts(data + 1, size - 1);
    return 0;
}
