#include "gyre/status.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

gyre_status gyre_fail(gyre_error *err, gyre_status status, const char *format, ...)
{
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(err->text, sizeof err->text, format, arguments);
        va_end(arguments);
        err->status = status;
    }
    return status;
}

gyre_status gyre_wrap(gyre_error *err, gyre_status status, const char *format, ...)
{
    if (!err)
        return status;
    assert(err->status != GYRE_OK);
    char context[GYRE_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);

    /* The context comes first: when both do not fit, what is cut off is the end of the older sentence. */
    char joined[2 * GYRE_ERROR_TEXT_BYTES + 2];
    snprintf(joined, sizeof joined, "%s: %s", context, err->text);
    size_t kept = strnlen(joined, sizeof err->text - 1);
    memcpy(err->text, joined, kept);
    err->text[kept] = '\0';
    err->status = status;
    return status;
}

const char *gyre_status_name(gyre_status status)
{
    switch (status) {
    case GYRE_OK: return "OK";
    case GYRE_CANCELLED: return "CANCELLED";
    case GYRE_UNKNOWN: return "UNKNOWN";
    case GYRE_INVALID: return "INVALID_ARGUMENT";
    case GYRE_DEADLINE: return "DEADLINE_EXCEEDED";
    case GYRE_NOT_FOUND: return "NOT_FOUND";
    case GYRE_EXISTS: return "ALREADY_EXISTS";
    case GYRE_DENIED: return "PERMISSION_DENIED";
    case GYRE_EXHAUSTED: return "RESOURCE_EXHAUSTED";
    case GYRE_PRECONDITION: return "FAILED_PRECONDITION";
    case GYRE_ABORTED: return "ABORTED";
    case GYRE_OUT_OF_RANGE: return "OUT_OF_RANGE";
    case GYRE_UNIMPLEMENTED: return "UNIMPLEMENTED";
    case GYRE_INTERNAL: return "INTERNAL";
    case GYRE_UNAVAILABLE: return "UNAVAILABLE";
    case GYRE_CORRUPT: return "DATA_LOSS";
    case GYRE_UNAUTHENTICATED: return "UNAUTHENTICATED";
    }
    return "UNKNOWN";
}
