/* job: one write on its way: what came in, the bytes that are logged, whom to tell.
 * Threads  whoever holds it; the submitter hands it to the replica's thread */
#ifndef GY_REPLICA_JOB_H
#define GY_REPLICA_JOB_H

#include "replica/replica.h"

#include "gyre/wire.h"

struct gy_job {
    struct gy_job *next;
    Gyre__Node__Write *write; /* owned */
    gy_bytes body;            /* the log entry: write, packed */
    int64_t deadline_ns;
    uint64_t deleted;
    bool foreign;             /* it had no effect: a point of it was another shard's when it was applied */
    gy_budget *budget;        /* NULL, or where bytes_reserved are set aside until it is finished */
    uint64_t bytes_reserved;
    gy_on_written *on_done;
    void *arg;
};

/* Takes write, also when it fails. */
GYRE_CHECKED gyre_status gy_job_new(struct gy_job **out, Gyre__Node__Write *write, size_t body_bytes_max, gyre_error *err);
/* Tells and frees. err is looked at when status is not GYRE_OK. */
void gy_job_finish(struct gy_job *job, gyre_status status, const gyre_error *err, uint64_t seq);

/* First in, first out; not locked. */
struct gy_job_queue {
    struct gy_job *first, *last;
    size_t count, bytes;
};
void gy_job_queue_push(struct gy_job_queue *queue, struct gy_job *job);
struct gy_job *gy_job_queue_pop(struct gy_job_queue *queue);

#endif
