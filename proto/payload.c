/* Payloads travel and rest as the text the client sent; here it is only checked, once, at the border. Depth is counted
 * before any parser sees the text: a JSON parser recurses. */
#include "gyre/wire.h"

#include <jansson.h>

/* Finds the first place nested deeper than the limit; brackets inside strings do not count. Says nothing about whether they
 * match: the parser does. */
static gyre_status check_depth(const char *text, size_t bytes, gyre_error *err)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++; /* whatever it escapes, it is not the closing quote */
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > GY_PAYLOAD_DEPTH_MAX)
                return gyre_fail(err, GYRE_INVALID, "payload is nested deeper than %d at byte %zu", GY_PAYLOAD_DEPTH_MAX, i);
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return GYRE_OK;
}

gyre_status gy_payload_check(const char *text, gyre_error *err)
{
    size_t bytes = strnlen(text, GY_PAYLOAD_BYTES_MAX + 1);
    if (bytes == 0)
        return GYRE_OK;
    if (bytes > GY_PAYLOAD_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "payload is longer than %d bytes", GY_PAYLOAD_BYTES_MAX);
    GY_TRY(check_depth(text, bytes, err));
    json_error_t at;
    /* Integers as reals: the text is kept as it is, so one beyond 64 bits is no reason to refuse it. */
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &at);
    if (!json)
        return gyre_fail(err, GYRE_INVALID, "payload is no JSON object: %s at byte %d", at.text, at.position);
    bool object = json_is_object(json);
    json_decref(json);
    if (!object)
        return gyre_fail(err, GYRE_INVALID, "payload is a JSON array; an object is expected");
    return GYRE_OK;
}
