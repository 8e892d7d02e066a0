#include "catalog/etcd_client.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PEM_BYTES_MAX = 1 << 20,
    ADDRESS_BYTES_MAX = 255,
    ATTEMPT_DOUBLINGS_MAX = 2, /* 1 s, 2 s, then 4 s: a slow disk's part of a megabyte must get through some time */
};
/* Patience: a member of etcd 3.4 that asked for a read in the moment of an election may answer no other one for its own 7 s. */
static const int64_t attempt_ns = GY_SECOND_NS, patience_ns_default = 15 * GY_SECOND_NS,
                     pause_ns = 50 * GY_MILLISECOND_NS; /* when all were asked in vain */

struct gy_etcd {
    gyre_client *members[GY_ETCD_MEMBERS_MAX];
    size_t member_count;
    atomic_size_t current; /* the member that is asked first */
    int64_t patience_ns;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool stopping; /* guarded by mu */
};

#define METHOD(service, name, reply) {"/etcdserverpb." service "/" name, &etcdserverpb__##reply##__descriptor}
const struct gy_etcd_method gy_etcd_range = METHOD("KV", "Range", range_response);
const struct gy_etcd_method gy_etcd_put = METHOD("KV", "Put", put_response);
const struct gy_etcd_method gy_etcd_txn = METHOD("KV", "Txn", txn_response);
const struct gy_etcd_method gy_etcd_compact = METHOD("KV", "Compact", compaction_response);
const struct gy_etcd_method gy_etcd_lease_grant = METHOD("Lease", "LeaseGrant", lease_grant_response);
const struct gy_etcd_method gy_etcd_lease_revoke = METHOD("Lease", "LeaseRevoke", lease_revoke_response);
/* A stream by its schema; a stream of one request and one reply is what an ordinary call looks like on the wire. */
const struct gy_etcd_method gy_etcd_lease_keep_alive = METHOD("Lease", "LeaseKeepAlive", lease_keep_alive_response);
const struct gy_etcd_method gy_etcd_status = METHOD("Maintenance", "Status", status_response);

/* ---- opening ---- */

static bool given(const char *option) { return option && option[0]; }

/* A whole text file; *out NULL if no path is given. */
static gyre_status read_pem(char **out, const char *option, const char *path, gyre_error *err)
{
    if (!given(path))
        return GYRE_OK;
    FILE *file = fopen(path, "re");
    if (!file)
        return gyre_fail(err, GYRE_PRECONDITION, "%s %s: %s", option, path, strerror(errno));
    char *text = malloc(PEM_BYTES_MAX + 1);
    size_t bytes = text ? fread(text, 1, PEM_BYTES_MAX + 1, file) : 0;
    gyre_status status = GYRE_OK;
    if (!text)
        status = gyre_fail(err, GYRE_NO_MEMORY, "%s %s", option, path);
    else if (ferror(file))
        status = gyre_fail(err, GYRE_PRECONDITION, "%s %s: %s", option, path, strerror(errno));
    else if (bytes > PEM_BYTES_MAX || bytes == 0 || memchr(text, 0, bytes))
        status = gyre_fail(err, GYRE_INVALID, "%s %s is no PEM text of 1 to %d bytes", option, path, PEM_BYTES_MAX);
    else
        text[bytes] = 0;
    fclose(file);
    if (status == GYRE_OK)
        *out = text;
    else
        free(text);
    return status;
}

static gyre_status open_members(gy_etcd *etcd, const char *endpoints, const struct gyre_client_tls *tls, gyre_error *err)
{
    for (const char *at = endpoints; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t bytes = strcspn(at, ",");
        char address[ADDRESS_BYTES_MAX + 1];
        if (bytes == 0 || bytes > ADDRESS_BYTES_MAX)
            return gyre_fail(err, GYRE_INVALID,
                             "etcd-endpoints has an entry of %zu bytes; it is host:port,host:port,… of 1 to %d each",
                             bytes, ADDRESS_BYTES_MAX);
        if (etcd->member_count == GY_ETCD_MEMBERS_MAX)
            return gyre_fail(err, GYRE_INVALID, "etcd-endpoints has more than %d entries", GY_ETCD_MEMBERS_MAX);
        memcpy(address, at, bytes);
        address[bytes] = 0;
        gyre_status status = gyre_client_open_tls(&etcd->members[etcd->member_count], address, tls, err);
        if (status != GYRE_OK)
            return gyre_wrap(err, status, "etcd-endpoints");
        etcd->member_count++;
    }
    return GYRE_OK;
}

static gyre_status open_all(gy_etcd *etcd, const struct gy_etcd_options *options, gyre_error *err)
{
    char *ca = NULL, *cert = NULL, *key = NULL;
    gyre_status status = GYRE_OK;
    if (!given(options->endpoints))
        status = gyre_fail(err, GYRE_INVALID, "etcd-endpoints is empty; it is host:port,host:port,…");
    else if (given(options->cert_file) != given(options->key_file) || (given(options->cert_file) && !given(options->ca_file)))
        status = gyre_fail(err, GYRE_INVALID, "etcd-cert and etcd-key are given together, and with etcd-ca");
    if (status == GYRE_OK)
        status = read_pem(&ca, "etcd-ca", options->ca_file, err);
    if (status == GYRE_OK)
        status = read_pem(&cert, "etcd-cert", options->cert_file, err);
    if (status == GYRE_OK)
        status = read_pem(&key, "etcd-key", options->key_file, err);
    if (status == GYRE_OK)
        status = open_members(etcd, options->endpoints, ca ? &(struct gyre_client_tls){ca, cert, key} : NULL, err);
    if (key)
        sodium_memzero(key, strlen(key));
    free(ca);
    free(cert);
    free(key);
    return status;
}

gyre_status gy_etcd_open(gy_etcd **out, const struct gy_etcd_options *options, gyre_error *err)
{
    GY_AUTO(gy_etcd) *etcd = calloc(1, sizeof *etcd);
    if (!etcd)
        return gyre_fail(err, GYRE_NO_MEMORY, "etcd");
    pthread_mutex_init(&etcd->mu, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&etcd->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    etcd->patience_ns = options->patience_ns ? options->patience_ns : patience_ns_default;
    GY_TRY(open_all(etcd, options, err));
    *out = GY_TAKE(etcd);
    return GYRE_OK;
}

void gy_etcd_stop(gy_etcd *etcd)
{
    pthread_mutex_lock(&etcd->mu);
    etcd->stopping = true;
    pthread_cond_broadcast(&etcd->changed);
    pthread_mutex_unlock(&etcd->mu);
}

void gy_etcd_close(gy_etcd *etcd)
{
    if (!etcd)
        return;
    for (size_t i = 0; i < etcd->member_count; i++)
        gyre_client_close(etcd->members[i]);
    pthread_cond_destroy(&etcd->changed);
    pthread_mutex_destroy(&etcd->mu);
    free(etcd);
}

/* ---- calls ---- */

int64_t gy_etcd_patience(const gy_etcd *etcd) { return gy_now_ns() + etcd->patience_ns; }

gyre_client *gy_etcd_member(gy_etcd *etcd, size_t *index)
{
    *index = atomic_load(&etcd->current);
    return etcd->members[*index];
}

void gy_etcd_leave(gy_etcd *etcd, size_t index)
{
    /* fails if somebody else left it before */
    atomic_compare_exchange_strong(&etcd->current, &index, (index + 1) % etcd->member_count);
}

/* Whether a failure is that of one member or one moment, so that another may answer. */
static bool passing(gyre_status status)
{
    return status == GYRE_UNAVAILABLE || status == GYRE_DEADLINE || status == GYRE_CANCELLED || status == GYRE_UNKNOWN ||
           status == GYRE_INTERNAL || status == GYRE_ABORTED;
}

/* Waits until then; false if it is to stop. */
static bool pause_until(gy_etcd *etcd, int64_t until_ns)
{
    struct timespec until = {until_ns / GY_SECOND_NS, until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&etcd->mu);
    while (!etcd->stopping && gy_now_ns() < until_ns)
        pthread_cond_timedwait(&etcd->changed, &etcd->mu, &until);
    bool go_on = !etcd->stopping;
    pthread_mutex_unlock(&etcd->mu);
    return go_on;
}

static gyre_status attempt(gy_etcd *etcd, size_t member, const struct gy_etcd_method *method, const ProtobufCMessage *request,
                           void *reply, int64_t deadline_ns, bool *sent, gyre_error *err)
{
    gyre_client *client = etcd->members[member];
    if (!gyre_client_await_ready(client, deadline_ns))
        return gyre_fail(err, GYRE_UNAVAILABLE, "member %zu of etcd-endpoints cannot be reached", member + 1);
    gyre_status status = gyre_client_call(client, method->path, request, method->reply, reply, deadline_ns, err);
    if (status != GYRE_OK && sent)
        *sent = true;
    return status;
}

gyre_status gy_etcd_call(gy_etcd *etcd, const struct gy_etcd_method *method, const ProtobufCMessage *request, void *reply,
                         int64_t deadline_ns, bool *sent, gyre_error *err)
{
    int64_t begun_ns = gy_now_ns();
    gyre_error why = {0};
    gyre_fail(&why, GYRE_UNAVAILABLE, "none was asked");
    for (size_t tries = 0; pause_until(etcd, 0) && gy_now_ns() < deadline_ns; tries++) {
        size_t member = atomic_load(&etcd->current), round = tries / etcd->member_count;
        int64_t end_ns = gy_now_ns() + (attempt_ns << (round < ATTEMPT_DOUBLINGS_MAX ? round : ATTEMPT_DOUBLINGS_MAX));
        gyre_status status = attempt(etcd, member, method, request, reply, end_ns < deadline_ns ? end_ns : deadline_ns, sent,
                                     &why);
        if (status == GYRE_OK)
            return GYRE_OK;
        if (!passing(status)) {
            gyre_fail(err, status, "%s", why.text);
            return gyre_wrap(err, status, "etcd");
        }
        gy_etcd_leave(etcd, member);
        int64_t next_ns = gy_now_ns() + pause_ns;
        if ((tries + 1) % etcd->member_count == 0 && !pause_until(etcd, next_ns < deadline_ns ? next_ns : deadline_ns))
            break;
    }
    return gyre_fail(err, GYRE_UNAVAILABLE, "no member of etcd answered within %lld ms; the last: %s",
                     (long long)((gy_now_ns() - begun_ns) / GY_MILLISECOND_NS), why.text);
}
