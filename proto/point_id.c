#include "gyre/point_id.h"

#include <inttypes.h>
#include <stdio.h>

enum { UUID_CHARACTERS = 36, UUID_VERSION_BYTE = 6, UUID_VERSION_MAX = 8 };

/* The text form's groups, in bytes: 8-4-4-4-12 hexadecimal digits. */
static const uint8_t group_bytes[] = {4, 2, 2, 2, 6};

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

gyre_point_id gyre_point_id_from_number(uint64_t number)
{
    gyre_point_id id = {{0}};
    gy_store_u64_be(id.bytes + 8, number);
    return id;
}

gyre_status gyre_point_id_from_uuid(gyre_point_id *out, const char *text, gyre_error *err)
{
    gyre_point_id id;
    size_t length = strnlen(text, UUID_CHARACTERS + 1);
    if (length != UUID_CHARACTERS)
        return gyre_fail(err, GYRE_INVALID, "point id '%.40s' is no UUID: its text form has %d characters", text, UUID_CHARACTERS);
    uint8_t *byte = id.bytes;
    const char *at = text;
    for (size_t group = 0; group < sizeof group_bytes; group++) {
        if (group && *at++ != '-')
            return gyre_fail(err, GYRE_INVALID, "point id '%s' is no UUID: no '-' at character %td", text, at - text - 1);
        for (size_t i = 0; i < group_bytes[group]; i++, at += 2) {
            int high = hex_digit(at[0]);
            int low = hex_digit(at[1]);
            if (high < 0 || low < 0)
                return gyre_fail(err, GYRE_INVALID, "point id '%s' is no UUID: no hexadecimal digit at character %td", text,
                                 at - text + (high >= 0));
            *byte++ = (uint8_t)(high << 4 | low);
        }
    }
    /* A UUID whose first half is zero has version 0, so this refuses what would be read as a number. */
    int version = id.bytes[UUID_VERSION_BYTE] >> 4;
    if (version < 1 || version > UUID_VERSION_MAX)
        return gyre_fail(err, GYRE_INVALID, "point id '%s' is a UUID of version %d; versions 1 to %d are accepted", text, version,
                         UUID_VERSION_MAX);
    *out = id;
    return GYRE_OK;
}

gyre_status gyre_point_id_parse(gyre_point_id *out, const char *text, gyre_error *err)
{
    if (!*text)
        return gyre_fail(err, GYRE_INVALID, "point id is empty");
    uint64_t number = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9')
            return gyre_point_id_from_uuid(out, text, err);
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) /* 36 digits cannot be a UUID either: it has hyphens */
            return gyre_fail(err, GYRE_INVALID, "point id '%.40s' is larger than %" PRIu64, text, UINT64_MAX);
        number = number * 10 + digit;
    }
    *out = gyre_point_id_from_number(number);
    return GYRE_OK;
}

gyre_status gyre_point_id_check(const uint8_t bytes[GYRE_ID_BYTES], gyre_error *err)
{
    int version = bytes[UUID_VERSION_BYTE] >> 4;
    if (gy_load_u64_be(bytes) == 0 || (version >= 1 && version <= UUID_VERSION_MAX))
        return GYRE_OK;
    return gyre_fail(err, GYRE_INVALID, "point id is neither a number nor a UUID of version 1 to %d (version %d)", UUID_VERSION_MAX,
                     version);
}

bool gyre_point_id_is_number(const gyre_point_id *id)
{
    return gy_load_u64_be(id->bytes) == 0;
}

uint64_t gyre_point_id_number(const gyre_point_id *id)
{
    return gy_load_u64_be(id->bytes + 8);
}

char *gyre_point_id_format(const gyre_point_id *id, char out[GYRE_UUID_TEXT_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    if (gyre_point_id_is_number(id)) {
        snprintf(out, GYRE_UUID_TEXT_BYTES, "%" PRIu64, gyre_point_id_number(id));
        return out;
    }
    char *at = out;
    const uint8_t *byte = id->bytes;
    for (size_t group = 0; group < sizeof group_bytes; group++) {
        if (group)
            *at++ = '-';
        for (size_t i = 0; i < group_bytes[group]; i++, byte++) {
            *at++ = digits[*byte >> 4];
            *at++ = digits[*byte & 15];
        }
    }
    *at = '\0';
    return out;
}
