#include "replica/job.h"

#include <stdlib.h>

gyre_status gy_job_new(struct gy_job **out, Gyre__Node__Write *write, size_t body_bytes_max, gyre_error *err)
{
    struct gy_job *job = calloc(1, sizeof *job);
    gyre_status status = job ? gy_wire_pack(&job->body, &write->base, body_bytes_max, err)
                             : gyre_fail(err, GYRE_NO_MEMORY, "no memory for a write");
    if (status != GYRE_OK) {
        free(job);
        gy_wire_free(write);
        return status;
    }
    job->write = write;
    *out = job;
    return GYRE_OK;
}

void gy_job_finish(struct gy_job *job, gyre_status status, const gyre_error *err, uint64_t seq)
{
    if (job->budget)
        gy_budget_release(job->budget, job->bytes_reserved);
    job->on_done(job->arg, status, err, seq, status == GYRE_OK ? job->deleted : 0);
    gy_wire_free(job->write);
    gy_bytes_free(&job->body);
    free(job);
}

void gy_job_queue_push(struct gy_job_queue *queue, struct gy_job *job)
{
    job->next = NULL;
    if (queue->last)
        queue->last->next = job;
    else
        queue->first = job;
    queue->last = job;
    queue->count++;
    queue->bytes += job->body.size;
}

struct gy_job *gy_job_queue_pop(struct gy_job_queue *queue)
{
    struct gy_job *job = queue->first;
    if (!job)
        return NULL;
    queue->first = job->next;
    if (!queue->first)
        queue->last = NULL;
    queue->count--;
    queue->bytes -= job->body.size;
    return job;
}
