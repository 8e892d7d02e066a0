#include "reflection.h"

#include "grpc/reflection/v1/reflection.pb-c.h"

#include <stdlib.h>

typedef Grpc__Reflection__V1__ServerReflectionRequest request_t;
typedef Grpc__Reflection__V1__ServerReflectionResponse reply_t;

enum { REPLY_BYTES_MAX = 4 << 20 };

/* Everything a reply may point to, so that one place frees it. */
struct answer {
    reply_t reply;
    Grpc__Reflection__V1__FileDescriptorResponse files;
    Grpc__Reflection__V1__ExtensionNumberResponse extensions;
    Grpc__Reflection__V1__ListServiceResponse list;
    Grpc__Reflection__V1__ErrorResponse error;
    Grpc__Reflection__V1__ServiceResponse *services;
    gyre_error text;
};

static void answer_error(struct answer *answer, gyre_status status)
{
    answer->error = (Grpc__Reflection__V1__ErrorResponse)GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
    answer->error.error_code = (int32_t)status;
    answer->error.error_message = answer->text.text;
    answer->reply.message_response_case = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    answer->reply.error_response = &answer->error;
}

static gyre_status answer_file(struct answer *answer, const struct gy_reflection *reflection, const struct gy_descriptor_file *file,
                               const char *asked)
{
    if (!file)
        return gyre_fail(&answer->text, GYRE_NOT_FOUND, "no schema of '%s'", asked);
    const struct gy_descriptor_index *index = &reflection->index;
    answer->files = (Grpc__Reflection__V1__FileDescriptorResponse)GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    bool *wanted = malloc(index->file_count * sizeof *wanted);
    ProtobufCBinaryData *files = malloc(index->file_count * sizeof *files);
    answer->files.file_descriptor_proto = files;
    if (!wanted || !files) {
        free(wanted);
        return gyre_fail(&answer->text, GYRE_NO_MEMORY, "no memory for %zu file descriptors", index->file_count);
    }
    gy_descriptor_closure(index, file, wanted);
    /* The file asked for comes first, what it imports after. */
    size_t count = 0;
    files[count++] = (ProtobufCBinaryData){file->size, (uint8_t *)(uintptr_t)file->bytes}; /* packed from, never written */
    for (size_t i = 0; i < index->file_count; i++)
        if (wanted[i] && &index->files[i] != file)
            files[count++] = (ProtobufCBinaryData){index->files[i].size, (uint8_t *)(uintptr_t)index->files[i].bytes};
    free(wanted);
    answer->files.n_file_descriptor_proto = count;
    answer->reply.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    answer->reply.file_descriptor_response = &answer->files;
    return GYRE_OK;
}

static gyre_status answer_extension_numbers(struct answer *answer, const struct gy_reflection *reflection, char *type)
{
    if (!gy_descriptor_file_by_symbol(&reflection->index, type))
        return gyre_fail(&answer->text, GYRE_NOT_FOUND, "no type '%s'", type);
    /* proto3 messages have no extensions. */
    answer->extensions = (Grpc__Reflection__V1__ExtensionNumberResponse)GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;
    answer->extensions.base_type_name = type;
    answer->reply.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE;
    answer->reply.all_extension_numbers_response = &answer->extensions;
    return GYRE_OK;
}

static gyre_status answer_services(struct answer *answer, const struct gy_reflection *reflection)
{
    size_t count = reflection->service_count;
    answer->services = calloc(count, sizeof *answer->services);
    answer->list = (Grpc__Reflection__V1__ListServiceResponse)GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    answer->list.service = calloc(count, sizeof *answer->list.service);
    if (!answer->services || !answer->list.service)
        return gyre_fail(&answer->text, GYRE_NO_MEMORY, "no memory for %zu services", count);
    for (size_t i = 0; i < count; i++) {
        grpc__reflection__v1__service_response__init(&answer->services[i]);
        answer->services[i].name = (char *)(uintptr_t)reflection->services[i]; /* packed from, never written */
        answer->list.service[i] = &answer->services[i];
    }
    answer->list.n_service = count;
    answer->reply.message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    answer->reply.list_services_response = &answer->list;
    return GYRE_OK;
}

static gyre_status answer_request(struct answer *answer, const struct gy_reflection *reflection, const request_t *request)
{
    const struct gy_descriptor_index *index = &reflection->index;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        return answer_file(answer, reflection, gy_descriptor_file_by_name(index, request->file_by_filename),
                           request->file_by_filename);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        return answer_file(answer, reflection, gy_descriptor_file_by_symbol(index, request->file_containing_symbol),
                           request->file_containing_symbol);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
        return gyre_fail(&answer->text, GYRE_NOT_FOUND, "no extension %d of '%s'",
                         (int)request->file_containing_extension->extension_number,
                         request->file_containing_extension->containing_type);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
        return answer_extension_numbers(answer, reflection, request->all_extension_numbers_of_type);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        return answer_services(answer, reflection);
    default:
        return gyre_fail(&answer->text, GYRE_INVALID, "reflection request asks for nothing: message_request is not set");
    }
}

static gyre_status build_reply(gy_bytes *out, const struct gy_reflection *reflection, request_t *request, gyre_error *err)
{
    struct answer answer = {0};
    answer.reply = (reply_t)GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    answer.reply.valid_host = request->host;
    answer.reply.original_request = request;
    gyre_status status = answer_request(&answer, reflection, request);
    if (status != GYRE_OK)
        answer_error(&answer, status);
    status = gy_wire_pack(out, &answer.reply.base, REPLY_BYTES_MAX, err);
    free(answer.files.file_descriptor_proto);
    free(answer.list.service);
    free(answer.services);
    return status;
}

/* The stream goes request, reply, request, reply; it ends with the client, the server, or an unreadable request. */
static void on_message(void *self, gy_rpc_call *call, const uint8_t *bytes, size_t size)
{
    struct gy_reflection *reflection = self;
    struct gy_long_calls *calls = &reflection->calls;
    gyre_error err;
    gy_bytes reply = {NULL, 0};
    request_t *request = NULL;
    gyre_status status = GYRE_OK;
    if (bytes)
        status = gy_wire_unpack(&request, &grpc__reflection__v1__server_reflection_request__descriptor, bytes, size, &err);
    if (request)
        status = build_reply(&reply, reflection, request, &err);
    pthread_mutex_lock(&calls->mu);
    if (!call->long_call.listed)
        gy_long_calls_add(calls, call);
    if (gy_long_call_settle(calls, call)) {
        if (reply.data)
            gy_long_call_write(call, reply.data, reply.size);
        else
            gy_long_call_finish(calls, call, status, &err);
    }
    pthread_mutex_unlock(&calls->mu);
    gy_bytes_free(&reply);
    gy_wire_free(request);
}

static void on_written(void *self, gy_rpc_call *call)
{
    struct gy_reflection *reflection = self;
    pthread_mutex_lock(&reflection->calls.mu);
    call->long_call.writing = false;
    if (gy_long_call_settle(&reflection->calls, call))
        gy_rpc_next(call);
    pthread_mutex_unlock(&reflection->calls.mu);
}

static void on_gone(void *self, gy_rpc_call *call)
{
    struct gy_reflection *reflection = self;
    gyre_error err;
    gyre_fail(&err, GYRE_CANCELLED, "the client left");
    pthread_mutex_lock(&reflection->calls.mu);
    gy_long_call_finish(&reflection->calls, call, GYRE_CANCELLED, &err);
    pthread_mutex_unlock(&reflection->calls.mu);
}

void gy_reflection_init(struct gy_reflection *reflection)
{
    *reflection = (struct gy_reflection){.service_count = 0};
    gy_long_calls_init(&reflection->calls);
}

gyre_status gy_reflection_load(struct gy_reflection *reflection, const char *const *services, size_t service_count,
                               const uint8_t *descriptors, size_t bytes, gyre_error *err)
{
    reflection->services = services;
    reflection->service_count = service_count;
    return gy_descriptor_index_open(&reflection->index, descriptors, bytes, err);
}

void gy_reflection_fini(struct gy_reflection *reflection)
{
    gy_descriptor_index_close(&reflection->index);
    gy_long_calls_fini(&reflection->calls);
}

void gy_reflection_methods(struct gy_reflection *reflection, struct gy_method methods[GY_REFLECTION_METHODS])
{
    static const char *const paths[GY_REFLECTION_METHODS] = {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                                             "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
    for (size_t i = 0; i < GY_REFLECTION_METHODS; i++)
        methods[i] = (struct gy_method){.path = paths[i],
                                        .kind = GY_CALL_BIDI,
                                        .on_message = on_message,
                                        .on_gone = on_gone,
                                        .on_written = on_written,
                                        .self = reflection};
}
