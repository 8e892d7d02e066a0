#include "routing/publish.h"

#include <stdlib.h>

struct gy_link {
    gy_peer *peer;
    atomic_size_t holders;
    struct gy_load load;
};

gyre_status gy_link_new(gy_link **out, gy_bus *bus, const char *address, gyre_error *err)
{
    gy_link *link = calloc(1, sizeof *link);
    if (!link)
        return gyre_fail(err, GYRE_NO_MEMORY, "connection to %s", address);
    gyre_status status = gy_peer_new(&link->peer, bus, address, NULL, NULL, err);
    if (status != GYRE_OK) {
        free(link);
        return status;
    }
    atomic_init(&link->holders, 1);
    *out = link;
    return GYRE_OK;
}

gy_link *gy_link_hold(gy_link *link)
{
    if (link)
        atomic_fetch_add_explicit(&link->holders, 1, memory_order_relaxed);
    return link;
}

void gy_link_release(gy_link *link)
{
    if (!link || atomic_fetch_sub_explicit(&link->holders, 1, memory_order_acq_rel) != 1)
        return;
    gy_peer_free(link->peer);
    free(link);
}

gy_peer *gy_link_peer(gy_link *link) { return link->peer; }
struct gy_load *gy_link_load(gy_link *link) { return &link->load; }
