/* etcd_client: calls to the members of etcd, one channel each: a call is tried at one member after the other until one answers.
 *
 * One channel over all members would stick to a frozen one until keepalive notices, seconds later. So an attempt has one second
 * (more once every member has been asked in vain), and whichever member did not answer is left by everybody.
 * Threads  any */
#ifndef GY_CATALOG_ETCD_CLIENT_H
#define GY_CATALOG_ETCD_CLIENT_H

#include "catalog/catalog.h"
#include "gyre/rpc.h"

#include "etcd/etcd.pb-c.h"

enum { GY_ETCD_MEMBERS_MAX = 9 };

typedef struct gy_etcd gy_etcd;

struct gy_etcd_method {
    const char *path;
    const ProtobufCMessageDescriptor *reply;
};
extern const struct gy_etcd_method gy_etcd_range, gy_etcd_put, gy_etcd_txn, gy_etcd_compact, gy_etcd_lease_grant,
    gy_etcd_lease_revoke, gy_etcd_lease_keep_alive, gy_etcd_status;

/* Connects to nobody yet. GYRE_INVALID, GYRE_PRECONDITION: an option or a file is wrong. */
GYRE_CHECKED gyre_status gy_etcd_open(gy_etcd **out, const struct gy_etcd_options *options, gyre_error *err);
/* Every call, now and later, gives up after the attempt it is at. */
void gy_etcd_stop(gy_etcd *etcd);
void gy_etcd_close(gy_etcd *etcd); /* NULL is fine */
GY_AUTO_DEFINE(gy_etcd, gy_etcd_close)

/* When an operation that begins now gives up. */
int64_t gy_etcd_patience(const gy_etcd *etcd);

/* Calls until a member answers. *sent (may be NULL) becomes true if a member may have carried the call out though it failed: only
 * what may be done twice may be called without looking at it. GYRE_UNAVAILABLE: nobody answered by then; else its own
 * refusal. */
GYRE_CHECKED gyre_status gy_etcd_call(gy_etcd *etcd, const struct gy_etcd_method *method, const ProtobufCMessage *request,
                                      void *reply /* T ** */, int64_t deadline_ns, bool *sent, gyre_error *err);

/* The member that calls go to now, for a stream; gy_etcd_leave it when it does not answer. */
gyre_client *gy_etcd_member(gy_etcd *etcd, size_t *index);
void gy_etcd_leave(gy_etcd *etcd, size_t index);

#endif
