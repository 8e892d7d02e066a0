#include "catalog/etcd_txn.h"

#include <assert.h>
#include <stdlib.h>

gyre_status gy_txn_new(gy_txn **out, gyre_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? GYRE_OK : gyre_fail(err, GYRE_NO_MEMORY, "transaction");
}

void gy_txn_free(gy_txn *txn) { free(txn); }

static Etcdserverpb__Compare *expect(gy_txn *txn, const struct gy_etcd_name *key)
{
    assert(txn->compare_count < GY_TXN_COMPARES_MAX);
    struct gy_txn_compare *added = &txn->compares[txn->compare_count];
    etcdserverpb__compare__init(&added->compare);
    added->key = *key;
    added->compare.key = gy_etcd_data(&added->key);
    txn->compare_list[txn->compare_count++] = &added->compare;
    return &added->compare;
}

void gy_txn_expect_changed(gy_txn *txn, const struct gy_etcd_name *key, int64_t revision)
{
    Etcdserverpb__Compare *compare = expect(txn, key);
    compare->target = ETCDSERVERPB__COMPARE__TARGET__MOD;
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    compare->mod_revision = revision;
}

static void expect_created(gy_txn *txn, const struct gy_etcd_name *key, Etcdserverpb__Compare__Result result, int64_t revision)
{
    Etcdserverpb__Compare *compare = expect(txn, key);
    compare->result = result;
    compare->target = ETCDSERVERPB__COMPARE__TARGET__CREATE;
    compare->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    compare->create_revision = revision;
}

void gy_txn_expect_created(gy_txn *txn, const struct gy_etcd_name *key, int64_t revision)
{
    expect_created(txn, key, ETCDSERVERPB__COMPARE__RESULT__EQUAL, revision);
}

void gy_txn_expect_there(gy_txn *txn, const struct gy_etcd_name *key)
{
    expect_created(txn, key, ETCDSERVERPB__COMPARE__RESULT__GREATER, 0);
}

static struct gy_txn_op *add(struct gy_txn_branch *branch, const struct gy_etcd_name *key)
{
    assert(branch->count < GY_TXN_OPS_MAX);
    struct gy_txn_op *added = &branch->ops[branch->count];
    etcdserverpb__request_op__init(&added->op);
    added->key = *key;
    branch->list[branch->count++] = &added->op;
    return added;
}

void gy_txn_put(struct gy_txn_branch *branch, const struct gy_etcd_name *key, const void *value, size_t bytes, int64_t lease)
{
    struct gy_txn_op *op = add(branch, key);
    etcdserverpb__put_request__init(&op->request.put);
    op->request.put.key = gy_etcd_data(&op->key);
    op->request.put.value = (ProtobufCBinaryData){bytes, (uint8_t *)(uintptr_t)value};
    op->request.put.lease = lease;
    op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op->op.request_put = &op->request.put;
}

static struct gy_txn_op *add_delete(struct gy_txn_branch *branch, const struct gy_etcd_name *key)
{
    struct gy_txn_op *op = add(branch, key);
    etcdserverpb__delete_range_request__init(&op->request.remove);
    op->request.remove.key = gy_etcd_data(&op->key);
    op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op->op.request_delete_range = &op->request.remove;
    return op;
}

void gy_txn_delete(struct gy_txn_branch *branch, const struct gy_etcd_name *key) { add_delete(branch, key); }

void gy_txn_delete_below(struct gy_txn_branch *branch, const struct gy_etcd_name *prefix)
{
    struct gy_txn_op *op = add_delete(branch, prefix);
    op->end = gy_etcd_name_end(prefix);
    op->request.remove.range_end = gy_etcd_data(&op->end);
}

void gy_txn_range(struct gy_txn_branch *branch, const struct gy_etcd_name *key, bool without_value)
{
    struct gy_txn_op *op = add(branch, key);
    etcdserverpb__range_request__init(&op->request.range);
    op->request.range.key = gy_etcd_data(&op->key);
    op->request.range.keys_only = without_value;
    op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op->op.request_range = &op->request.range;
}

/* etcd's answer fits the question: as many responses, each of its operation's kind, one key at most where one was asked for. */
static bool fits(const gy_txn *txn, const Etcdserverpb__TxnResponse *reply)
{
    const struct gy_txn_branch *branch = reply->succeeded ? &txn->success : &txn->failure;
    if (!reply->header || reply->header->revision <= 0 || reply->n_responses != branch->count)
        return false;
    for (size_t i = 0; i < branch->count; i++) {
        const Etcdserverpb__ResponseOp *got = reply->responses[i];
        bool range = branch->list[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        if ((int)got->response_case != (int)branch->list[i]->request_case || (range && got->response_range->n_kvs > 1))
            return false;
    }
    return true;
}

gyre_status gy_txn_run(gy_txn *txn, gy_etcd *etcd, Etcdserverpb__TxnResponse **reply, int64_t deadline_ns, bool *sent,
                       gyre_error *err)
{
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    request.n_compare = txn->compare_count;
    request.compare = txn->compare_list;
    request.n_success = txn->success.count;
    request.success = txn->success.list;
    request.n_failure = txn->failure.count;
    request.failure = txn->failure.list;
    Etcdserverpb__TxnResponse *got;
    GY_TRY(gy_etcd_call(etcd, &gy_etcd_txn, &request.base, &got, deadline_ns, sent, err));
    if (fits(txn, got)) {
        *reply = got;
        return GYRE_OK;
    }
    gy_wire_free(got);
    if (sent)
        *sent = true;
    return gyre_fail(err, GYRE_CORRUPT, "etcd answered a transaction with something else");
}

const Etcdserverpb__KeyValue *gy_txn_found(const Etcdserverpb__TxnResponse *reply, size_t index)
{
    const Etcdserverpb__RangeResponse *range = reply->responses[index]->response_range;
    return range->n_kvs ? range->kvs[0] : NULL;
}
