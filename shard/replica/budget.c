#include "replica/budget.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

enum {
    CHUNK_GROWTH = 2,     /* a chunk that has room for one more may have been made twice as large for it */
    ENTRY_BYTES = 16,     /* of a new point in the table of ids, which is never less than 3/5 full */
    TABLE_STEP_BYTES = 4, /* a point: by so much a full table may grow at once, whoever's write it is */
    REENCODING = 2,       /* codes in the old and the new codebook */
};

struct gy_budget {
    uint64_t bytes_max; /* constant */
    pthread_mutex_t mu;
    /* Guarded by mu. */
    struct gy_budget_member *members;
    uint64_t reserved;
    uint64_t sum;       /* of the members when last asked */
    bool stale;         /* something was written since */
};

gyre_status gy_budget_new(gy_budget **out, uint64_t bytes_max, gyre_error *err)
{
    gy_budget *budget = calloc(1, sizeof *budget);
    if (!budget)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a budget");
    budget->bytes_max = bytes_max;
    pthread_mutex_init(&budget->mu, NULL);
    *out = budget;
    return GYRE_OK;
}

void gy_budget_free(gy_budget *budget)
{
    if (!budget)
        return;
    assert(!budget->members && !budget->reserved);
    pthread_mutex_destroy(&budget->mu);
    free(budget);
}

void gy_budget_join(gy_budget *budget, struct gy_budget_member *member)
{
    pthread_mutex_lock(&budget->mu);
    DL_APPEND(budget->members, member);
    budget->stale = true;
    pthread_mutex_unlock(&budget->mu);
}

void gy_budget_leave(gy_budget *budget, struct gy_budget_member *member)
{
    pthread_mutex_lock(&budget->mu);
    DL_DELETE(budget->members, member);
    budget->stale = true;
    pthread_mutex_unlock(&budget->mu);
}

/* ---- the sum; with mu held ---- */

static uint64_t bytes_of(struct gy_budget_member *member)
{
    uint64_t bytes = gy_points_ram_bytes(member->points) + TABLE_STEP_BYTES * gy_points_count(member->points);
    if (member->bytes_expected) {
        char trouble[GYRE_ERROR_TEXT_BYTES];
        gy_points_trouble(member->points, trouble, sizeof trouble);
        if (*trouble || gy_points_codebook_version(member->points) >= member->version_asked)
            member->bytes_expected = 0;
    }
    return bytes > member->bytes_expected ? bytes : member->bytes_expected;
}

static void ask_members(gy_budget *budget)
{
    struct gy_budget_member *member;
    budget->sum = 0;
    DL_FOREACH(budget->members, member)
    {
        budget->sum += bytes_of(member);
    }
    budget->stale = false;
}

static bool fits(const gy_budget *budget, uint64_t bytes)
{
    uint64_t used = budget->sum + budget->reserved;
    return used <= budget->bytes_max && bytes <= budget->bytes_max - used;
}

/* Asks the members only if something was written since, or if the answer would be no: they may have become smaller. */
static bool has_room(gy_budget *budget, uint64_t bytes)
{
    if (!budget->stale && fits(budget, bytes))
        return true;
    ask_members(budget);
    return fits(budget, bytes);
}

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static gyre_status refuse(const gy_budget *budget, uint64_t bytes, const char *what, gyre_error *err)
{
    return gyre_fail(
        err, GYRE_EXHAUSTED,
        "this node's memory budget is %.1f MiB (--memory-budget): codes take %.1f MiB, writes on their way %.1f MiB, and %s "
        "%.3f MiB more; delete points or raise the budget",
        mebibytes(budget->bytes_max), mebibytes(budget->sum), mebibytes(budget->reserved), what, mebibytes(bytes));
}

/* ---- setting aside ---- */

gyre_status gy_budget_reserve(gy_budget *budget, uint64_t bytes, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&budget->mu);
    if (has_room(budget, bytes))
        budget->reserved += bytes;
    else
        status = refuse(budget, bytes, "this write needs up to", err);
    pthread_mutex_unlock(&budget->mu);
    return status;
}

void gy_budget_release(gy_budget *budget, uint64_t bytes)
{
    pthread_mutex_lock(&budget->mu);
    assert(budget->reserved >= bytes);
    budget->reserved -= bytes;
    budget->stale = true;
    pthread_mutex_unlock(&budget->mu);
}

gyre_status gy_budget_expect_reencoding(gy_budget *budget, struct gy_budget_member *member, uint32_t version, gyre_error *err)
{
    gyre_status status = GYRE_OK;
    pthread_mutex_lock(&budget->mu);
    ask_members(budget);
    bool expected = member->bytes_expected && member->version_asked >= version;
    if (!expected && gy_points_codebook_version(member->points) < version) {
        uint64_t bytes = gy_points_ram_bytes(member->points);
        if (fits(budget, bytes)) {
            member->version_asked = version;
            member->bytes_expected = REENCODING * bytes;
            budget->stale = true;
        } else {
            char what[80];
            snprintf(what, sizeof what, "codes in codebook %u beside those in use need", version);
            status = refuse(budget, bytes, what, err);
        }
    }
    pthread_mutex_unlock(&budget->mu);
    return status;
}

/* ---- looking ---- */

uint64_t gy_budget_used(gy_budget *budget)
{
    pthread_mutex_lock(&budget->mu);
    ask_members(budget);
    uint64_t used = budget->sum + budget->reserved;
    pthread_mutex_unlock(&budget->mu);
    return used;
}

uint64_t gy_budget_max(const gy_budget *budget)
{
    return budget->bytes_max;
}

uint64_t gy_budget_point_bytes(const gyre_codec *codec, uint32_t dim)
{
    return CHUNK_GROWTH * (gyre_codec_list_row_bytes(codec, dim) + GYRE_ID_BYTES) + ENTRY_BYTES;
}
