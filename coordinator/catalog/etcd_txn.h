/* etcd_txn: a transaction of etcd being put together, with room for its keys, and its answer checked before it is read. */
#ifndef GY_CATALOG_ETCD_TXN_H
#define GY_CATALOG_ETCD_TXN_H

#include "catalog/etcd.h"

enum {
    /* Of a commit: a witness, a fence, and of every change its key and the blob it brings. */
    GY_TXN_COMPARES_MAX = 2 + 2 * GY_CATALOG_CHANGES_MAX,
    /* A witness, and of every change its key, its blob, and the older blob with its parts: 65 of the 128 that etcd allows. */
    GY_TXN_OPS_MAX = 1 + 4 * GY_CATALOG_CHANGES_MAX,
};

struct gy_txn_op {
    Etcdserverpb__RequestOp op;
    union {
        Etcdserverpb__RangeRequest range;
        Etcdserverpb__PutRequest put;
        Etcdserverpb__DeleteRangeRequest remove;
    } request;
    struct gy_etcd_name key, end;
};
struct gy_txn_branch {
    struct gy_txn_op ops[GY_TXN_OPS_MAX];
    Etcdserverpb__RequestOp *list[GY_TXN_OPS_MAX];
    size_t count;
};
struct gy_txn_compare {
    Etcdserverpb__Compare compare;
    struct gy_etcd_name key;
};

typedef struct gy_txn {
    struct gy_txn_compare compares[GY_TXN_COMPARES_MAX];
    Etcdserverpb__Compare *compare_list[GY_TXN_COMPARES_MAX];
    size_t compare_count;
    struct gy_txn_branch success, failure;
} gy_txn;

GYRE_CHECKED gyre_status gy_txn_new(gy_txn **out, gyre_error *err);
void gy_txn_free(gy_txn *txn);
GY_AUTO_DEFINE(gy_txn, gy_txn_free)

/* All must be true for `success` to be done, else `failure` is. Revision 0: it is not there. */
void gy_txn_expect_changed(gy_txn *txn, const struct gy_etcd_name *key, int64_t revision);
void gy_txn_expect_created(gy_txn *txn, const struct gy_etcd_name *key, int64_t revision);
void gy_txn_expect_there(gy_txn *txn, const struct gy_etcd_name *key);
/* The value is borrowed until the transaction has run. lease 0: none. */
void gy_txn_put(struct gy_txn_branch *branch, const struct gy_etcd_name *key, const void *value, size_t bytes, int64_t lease);
void gy_txn_delete(struct gy_txn_branch *branch, const struct gy_etcd_name *key);
void gy_txn_delete_below(struct gy_txn_branch *branch, const struct gy_etcd_name *prefix);
void gy_txn_range(struct gy_txn_branch *branch, const struct gy_etcd_name *key, bool without_value);

/* Runs it; the answer (etcdserverpb's TxnResponse, gy_wire_free) has one response of the right kind for each operation. */
GYRE_CHECKED gyre_status gy_txn_run(gy_txn *txn, gy_etcd *etcd, Etcdserverpb__TxnResponse **reply, int64_t deadline_ns,
                                    bool *sent, gyre_error *err);
/* What the index-th operation, a range, found; NULL: no such key. */
const Etcdserverpb__KeyValue *gy_txn_found(const Etcdserverpb__TxnResponse *reply, size_t index);

#endif
