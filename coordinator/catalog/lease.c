#include "catalog/catalog.h"

gyre_status gy_lease_check(const char *name, const char *owner, int64_t ttl_ns, gyre_error *err)
{
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > GY_LEASE_NAME_BYTES_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != bytes)
        return gyre_fail(err, GYRE_INVALID, "lease '%.80s'; its name is 1 to %d bytes of a-z 0-9 _ -", name,
                         GY_LEASE_NAME_BYTES_MAX);
    bytes = strlen(owner);
    if (bytes == 0 || bytes > GY_LEASE_OWNER_BYTES_MAX)
        return gyre_fail(err, GYRE_INVALID, "lease '%s': its owner's name is %zu bytes; it must be 1 to %d", name, bytes,
                         GY_LEASE_OWNER_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++)
        if (owner[i] < ' ' || owner[i] > '~')
            return gyre_fail(err, GYRE_INVALID,
                             "lease '%s': its owner's name has byte 0x%02x at position %zu; it may hold printable ASCII",
                             name, (unsigned char)owner[i], i);
    if (ttl_ns < GY_LEASE_TTL_NS_MIN)
        return gyre_fail(err, GYRE_INVALID, "lease '%s' for %lld ms; it must be %lld at least", name,
                         (long long)(ttl_ns / GY_MILLISECOND_NS), (long long)(GY_LEASE_TTL_NS_MIN / GY_MILLISECOND_NS));
    return GYRE_OK;
}
