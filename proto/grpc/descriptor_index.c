#include "descriptor_index.h"

#include <stdlib.h>

enum { NESTING_MAX = 16, SYMBOL_BYTES_MAX = 512 };

/* Field numbers of descriptor.proto. */
enum {
    SET_FILE = 1,
    FILE_NAME = 1, FILE_PACKAGE = 2, FILE_DEPENDENCY = 3, FILE_MESSAGE = 4, FILE_ENUM = 5, FILE_SERVICE = 6, FILE_EXTENSION = 7,
    MESSAGE_NESTED = 3, MESSAGE_ENUM = 4, MESSAGE_EXTENSION = 6,
    ENUM_VALUE = 2,
    SERVICE_METHOD = 2,
    NAME = 1, /* of a message, field, enum, enum value, service and method */
};

struct gy_descriptor_symbol {
    char *name;
    size_t file;
};

struct span {
    const uint8_t *at;
    size_t bytes;
};

/* ---- reading length-delimited fields ---- */

static bool read_varint(struct span *in, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && in->bytes; shift += 7) {
        uint8_t byte = *in->at++;
        in->bytes--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* Reads the next field. *value is its bytes if it is length-delimited, else empty. False if the bytes are damaged. */
static bool next_field(struct span *in, uint32_t *number, struct span *value)
{
    uint64_t key;
    uint64_t length;
    *value = (struct span){in->at, 0};
    if (!read_varint(in, &key) || key > UINT32_MAX)
        return false;
    *number = (uint32_t)key >> 3;
    switch (key & 7) {
    case 0:
        return read_varint(in, &length);
    case 1:
        length = 8;
        break;
    case 5:
        length = 4;
        break;
    case 2:
        if (!read_varint(in, &length))
            return false;
        break;
    default:
        return false;
    }
    if (length > in->bytes)
        return false;
    if ((key & 7) == 2)
        *value = (struct span){in->at, (size_t)length};
    in->at += length;
    in->bytes -= (size_t)length;
    return true;
}

/* The first field of that number, empty if there is none. */
static struct span find_field(struct span in, uint32_t wanted)
{
    uint32_t number;
    struct span value;
    while (in.bytes && next_field(&in, &number, &value))
        if (number == wanted)
            return value;
    return (struct span){NULL, 0};
}

/* ---- building ---- */

static gyre_status add_symbol(struct gy_descriptor_index *index, const char *name, size_t file, gyre_error *err)
{
    if (index->symbol_count == index->symbol_room) {
        size_t room = index->symbol_room ? index->symbol_room * 2 : 64;
        struct gy_descriptor_symbol *symbols = realloc(index->symbols, room * sizeof *symbols);
        if (!symbols)
            return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu symbols", room);
        index->symbols = symbols;
        index->symbol_room = room;
    }
    char *copy = strdup(name);
    if (!copy)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for symbol %s", name);
    index->symbols[index->symbol_count++] = (struct gy_descriptor_symbol){copy, file};
    return GYRE_OK;
}

/* Appends ".name" to scope[0..scope_bytes) (no dot after an empty one); 0 if there is no name or it does not fit. */
static size_t extend(char scope[SYMBOL_BYTES_MAX], size_t scope_bytes, struct span name)
{
    size_t dot = scope_bytes > 0;
    if (name.bytes == 0 || scope_bytes + dot + name.bytes >= SYMBOL_BYTES_MAX)
        return 0;
    if (dot)
        scope[scope_bytes] = '.';
    memcpy(scope + scope_bytes + dot, name.at, name.bytes);
    scope[scope_bytes + dot + name.bytes] = '\0';
    return scope_bytes + dot + name.bytes;
}

/* What a kind of entry may contain, by field number; 0 ends. Entries of NULL have only a name. */
struct shape {
    struct {
        uint32_t field;
        const struct shape *inner;
        bool in_outer_scope; /* enum values are named beside their enum, as in C */
    } parts[5];
};
static const struct shape leaf_shape = {{{0, NULL, false}}};
static const struct shape enum_shape = {{{ENUM_VALUE, &leaf_shape, true}}};
static const struct shape service_shape = {{{SERVICE_METHOD, &leaf_shape, false}}};
static const struct shape message_shape = {
    {{MESSAGE_NESTED, &message_shape, false}, {MESSAGE_ENUM, &enum_shape, false}, {MESSAGE_EXTENSION, &leaf_shape, false}}};
static const struct shape file_shape = {{{FILE_MESSAGE, &message_shape, false},
                                         {FILE_ENUM, &enum_shape, false},
                                         {FILE_SERVICE, &service_shape, false},
                                         {FILE_EXTENSION, &leaf_shape, false}}};

/* Adds every named thing inside a file, to any depth up to NESTING_MAX, without recursion. */
static gyre_status add_symbols(struct gy_descriptor_index *index, size_t file, struct span bytes, gyre_error *err)
{
    struct {
        const struct shape *shape;
        struct span rest;
        size_t scope_bytes;       /* of its own full name */
        size_t outer_scope_bytes; /* of what it stands in */
    } stack[NESTING_MAX];
    char scope[SYMBOL_BYTES_MAX] = "";
    size_t package_bytes = extend(scope, 0, find_field(bytes, FILE_PACKAGE));
    size_t depth = 0;
    stack[0].shape = &file_shape;
    stack[0].rest = bytes;
    stack[0].scope_bytes = stack[0].outer_scope_bytes = package_bytes;
    for (;;) {
        while (stack[depth].rest.bytes == 0) {
            if (depth == 0)
                return GYRE_OK;
            depth--;
        }
        uint32_t number;
        struct span value;
        if (!next_field(&stack[depth].rest, &number, &value))
            return gyre_fail(err, GYRE_CORRUPT, "file descriptor %s is damaged", index->files[file].name);
        size_t part = 0;
        const struct shape *shape = stack[depth].shape;
        while (shape->parts[part].field && shape->parts[part].field != number)
            part++;
        if (!shape->parts[part].field)
            continue;
        if (depth + 1 == NESTING_MAX)
            return gyre_fail(err, GYRE_CORRUPT, "file descriptor %s is nested deeper than %d", index->files[file].name, NESTING_MAX);
        size_t outer = shape->parts[part].in_outer_scope ? stack[depth].outer_scope_bytes : stack[depth].scope_bytes;
        size_t scope_bytes = extend(scope, outer, find_field(value, NAME));
        if (!scope_bytes)
            return gyre_fail(err, GYRE_CORRUPT, "file descriptor %s: a name is missing or too long", index->files[file].name);
        GY_TRY(add_symbol(index, scope, file, err));
        depth++;
        stack[depth].shape = shape->parts[part].inner;
        stack[depth].rest = value;
        stack[depth].scope_bytes = scope_bytes;
        stack[depth].outer_scope_bytes = outer;
    }
}

static gyre_status add_file(struct gy_descriptor_index *index, struct span bytes, gyre_error *err)
{
    struct span name = find_field(bytes, FILE_NAME);
    char *copy = name.bytes ? strndup((const char *)name.at, name.bytes) : NULL;
    if (!copy)
        return gyre_fail(err, GYRE_CORRUPT, "a file descriptor has no name");
    struct gy_descriptor_file *files = realloc(index->files, (index->file_count + 1) * sizeof *files);
    if (!files) {
        free(copy);
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for %zu file descriptors", index->file_count + 1);
    }
    index->files = files;
    files[index->file_count] = (struct gy_descriptor_file){copy, bytes.at, bytes.bytes};
    return add_symbols(index, index->file_count++, bytes, err);
}

gyre_status gy_descriptor_index_open(struct gy_descriptor_index *out, const uint8_t *set, size_t bytes, gyre_error *err)
{
    *out = (struct gy_descriptor_index){0};
    struct span in = {set, bytes};
    while (in.bytes) {
        uint32_t number;
        struct span value;
        if (!next_field(&in, &number, &value))
            return gyre_fail(err, GYRE_CORRUPT, "file descriptor set of %zu bytes is damaged", bytes);
        if (number == SET_FILE)
            GY_TRY(add_file(out, value, err));
    }
    return GYRE_OK;
}

void gy_descriptor_index_close(struct gy_descriptor_index *index)
{
    for (size_t i = 0; i < index->file_count; i++)
        free(index->files[i].name);
    for (size_t i = 0; i < index->symbol_count; i++)
        free(index->symbols[i].name);
    free(index->files);
    free(index->symbols);
    *index = (struct gy_descriptor_index){0};
}

/* ---- looking up: a few hundred names, asked by people's tools, searched one by one ---- */

const struct gy_descriptor_file *gy_descriptor_file_by_name(const struct gy_descriptor_index *index, const char *name)
{
    for (size_t i = 0; i < index->file_count; i++)
        if (strcmp(index->files[i].name, name) == 0)
            return &index->files[i];
    return NULL;
}

const struct gy_descriptor_file *gy_descriptor_file_by_symbol(const struct gy_descriptor_index *index, const char *symbol)
{
    for (size_t i = 0; i < index->symbol_count; i++)
        if (strcmp(index->symbols[i].name, symbol) == 0)
            return &index->files[index->symbols[i].file];
    return NULL;
}

void gy_descriptor_closure(const struct gy_descriptor_index *index, const struct gy_descriptor_file *file, bool *wanted)
{
    memset(wanted, 0, index->file_count * sizeof *wanted);
    wanted[file - index->files] = true;
    /* Marks imports of marked files until a whole pass marks none. */
    for (bool grown = true; grown;) {
        grown = false;
        for (size_t i = 0; i < index->file_count; i++) {
            struct span in = {index->files[i].bytes, index->files[i].size};
            uint32_t number;
            struct span value;
            while (wanted[i] && in.bytes && next_field(&in, &number, &value)) {
                for (size_t j = 0; number == FILE_DEPENDENCY && j < index->file_count; j++) {
                    bool match = strlen(index->files[j].name) == value.bytes &&
                                 memcmp(index->files[j].name, value.at, value.bytes) == 0;
                    grown |= match && !wanted[j];
                    wanted[j] |= match;
                }
            }
        }
    }
}
