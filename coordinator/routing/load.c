#include "routing/load.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- a node ---- */

void gy_load_begin(struct gy_load *load, int64_t now_ns)
{
    if (atomic_fetch_add(&load->under_way, 1) == 0)
        atomic_store(&load->silent_ns, now_ns);
}

void gy_load_end(struct gy_load *load, gy_read_kind kind, int64_t took_ns, bool answered, int64_t now_ns)
{
    enum { WEIGHT = 8 };
    atomic_fetch_sub(&load->under_way, 1);
    if (!answered)
        return;
    /* Two answers at once may lose one of them from the average: it is no worse for that. */
    int64_t average_ns = atomic_load(&load->average_ns[kind]);
    atomic_store(&load->average_ns[kind], average_ns ? average_ns + (took_ns - average_ns) / WEIGHT : took_ns);
    atomic_store(&load->heard_ns, now_ns);
    atomic_store(&load->silent_ns, now_ns);
}

int64_t gy_load_expected_ns(const struct gy_load *load, gy_read_kind kind, int64_t now_ns)
{
    enum { HALVES_MAX = 30 };
    int64_t average_ns = atomic_load(&load->average_ns[kind]);
    int64_t halves = (now_ns - atomic_load(&load->heard_ns)) / GY_LOAD_HALF_NS;
    average_ns >>= halves < 0 ? 0 : halves > HALVES_MAX ? HALVES_MAX : halves;
    int under_way = atomic_load(&load->under_way);
    int64_t silence_ns = under_way > 0 ? now_ns - atomic_load(&load->silent_ns) : 0;
    int64_t expected_ns = average_ns * (under_way + 1);
    return silence_ns > expected_ns ? silence_ns : expected_ns;
}

/* ---- a replica, and a shard ---- */

static void raise(atomic_uint_least64_t *number, uint64_t to)
{
    uint64_t was = atomic_load(number);
    while (was < to && !atomic_compare_exchange_weak(number, &was, to))
        ;
}

void gy_seen_seq(struct gy_member_seen *seen, uint64_t applied_seq) { raise(&seen->applied_seq, applied_seq); }

void gy_seen_said(struct gy_member_seen *seen, uint64_t applied_seq) { atomic_store(&seen->applied_seq, applied_seq); }

void gy_shard_seen_seq(struct gy_shard_seen *seen, uint64_t applied_seq, int64_t now_ns)
{
    int64_t span_ns = atomic_load(&seen->span_ns);
    if (now_ns - span_ns >= GY_SEEN_SPAN_NS && atomic_compare_exchange_strong(&seen->span_ns, &span_ns, now_ns)) {
        raise(&seen->older, atomic_load(&seen->before));
        raise(&seen->before, atomic_load(&seen->newest));
    }
    raise(&seen->newest, applied_seq);
    if (atomic_load(&seen->older) == 0)
        raise(&seen->older, applied_seq);
}

void gy_shard_seen_primary(struct gy_shard_seen *seen, uint64_t applied_seq, int64_t now_ns)
{
    int64_t low_ns = atomic_load(&seen->low_ns);
    if (applied_seq >= atomic_load(&seen->older)) {
        atomic_store(&seen->low_ns, 0);
    } else if (low_ns == 0) {
        atomic_store(&seen->low_ns, now_ns);
    } else if (now_ns - low_ns > GY_SEEN_LOST_NS) {
        atomic_store(&seen->older, applied_seq);
        atomic_store(&seen->before, applied_seq);
        atomic_store(&seen->newest, applied_seq);
        atomic_store(&seen->low_ns, 0);
    }
}

void gy_shard_seen_copy(struct gy_shard_seen *to, const struct gy_shard_seen *from)
{
    atomic_store(&to->newest, atomic_load(&from->newest));
    atomic_store(&to->before, atomic_load(&from->before));
    atomic_store(&to->older, atomic_load(&from->older));
    atomic_store(&to->span_ns, atomic_load(&from->span_ns));
    atomic_store(&to->low_ns, atomic_load(&from->low_ns));
}

uint64_t gy_shard_seen_floor(const struct gy_shard_seen *seen) { return atomic_load(&seen->older); }

/* ---- how long requests take ---- */

enum {
    SIZES = 8,       /* classes of work, each four times the one before */
    SAMPLES = 128,   /* of a class, the newest */
    SAMPLES_MIN = 20, /* below, a 95th percentile means nothing */
    SORT_EVERY = 16,
    PERCENT = 95,
    CREDIT_HEDGE = 100,                /* what a second request costs; each request earns GY_HEDGE_PERCENT */
    CREDIT_MAX = 10 * CREDIT_HEDGE,
};

struct gy_pace {
    pthread_mutex_t mu;
    /* guarded by mu: */
    struct samples {
        int64_t took_ns[SAMPLES];
        uint64_t count;
        int64_t slow_ns; /* 0: too few */
    } samples[GY_READ_KINDS][SIZES];
    uint32_t credit;
    /* not: */
    atomic_uint_least64_t turn;
    gy_metric *hedges, *won, *replaced; /* NULL: not shown */
};

gyre_status gy_pace_new(gy_pace **out, gyre_error *err)
{
    gy_pace *pace = calloc(1, sizeof *pace);
    if (!pace)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for the pace of requests");
    pthread_mutex_init(&pace->mu, NULL);
    *out = pace;
    return GYRE_OK;
}

void gy_pace_free(gy_pace *pace)
{
    if (!pace)
        return;
    pthread_mutex_destroy(&pace->mu);
    free(pace);
}

void gy_pace_show(gy_pace *pace, gy_metrics *metrics)
{
    pace->hedges = gy_counter_new(metrics, "gyre_coordinator_read_hedges_total", NULL,
                                  "Requests to nodes that were slow and were asked of another replica as well.");
    pace->won = gy_counter_new(metrics, "gyre_coordinator_read_hedges_won_total", NULL,
                               "Requests to nodes where the replica that was asked later answered first.");
    pace->replaced = gy_counter_new(metrics, "gyre_coordinator_read_replacements_total", NULL,
                                    "Requests to nodes that failed and were asked of another replica.");
}

static struct samples *samples_of(gy_pace *pace, gy_read_kind kind, uint64_t work)
{
    size_t size = 0;
    for (; work > 1 && size + 1 < SIZES; work >>= 2)
        size++;
    return &pace->samples[kind][size];
}

static int time_order(const void *left, const void *right)
{
    const int64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static int64_t slow_of(const struct samples *samples)
{
    int64_t sorted[SAMPLES];
    size_t n = samples->count < SAMPLES ? (size_t)samples->count : SAMPLES;
    for (size_t i = 0; i < n; i++)
        sorted[i] = samples->took_ns[i];
    qsort(sorted, n, sizeof *sorted, time_order);
    return sorted[n * PERCENT / 100];
}

void gy_pace_took(gy_pace *pace, gy_read_kind kind, uint64_t work, int64_t took_ns)
{
    pthread_mutex_lock(&pace->mu);
    struct samples *samples = samples_of(pace, kind, work);
    samples->took_ns[samples->count++ % SAMPLES] = took_ns;
    if (samples->count >= SAMPLES_MIN && (samples->count % SORT_EVERY == 0 || !samples->slow_ns))
        samples->slow_ns = slow_of(samples);
    pthread_mutex_unlock(&pace->mu);
}

struct gy_patience gy_pace_patience(gy_pace *pace, gy_read_kind kind, uint64_t work)
{
    pthread_mutex_lock(&pace->mu);
    int64_t slow_ns = samples_of(pace, kind, work)->slow_ns;
    pthread_mutex_unlock(&pace->mu);
    struct gy_patience patience = {GY_SILENCE_NS, GY_SILENCE_NS};
    if (slow_ns == 0)
        return patience;
    patience.hedge_ns = slow_ns < GY_HEDGE_MIN_NS ? GY_HEDGE_MIN_NS : slow_ns;
    if (slow_ns > GY_SILENCE_NS / GY_SILENCE_TIMES)
        patience.silence_ns = slow_ns * GY_SILENCE_TIMES;
    return patience;
}

void gy_pace_asked(gy_pace *pace)
{
    pthread_mutex_lock(&pace->mu);
    if (pace->credit < CREDIT_MAX)
        pace->credit += GY_HEDGE_PERCENT;
    pthread_mutex_unlock(&pace->mu);
}

static void count(gy_metric *metric)
{
    if (metric)
        gy_counter_add(metric, 1);
}

bool gy_pace_take_hedge(gy_pace *pace)
{
    pthread_mutex_lock(&pace->mu);
    bool may = pace->credit >= CREDIT_HEDGE;
    if (may)
        pace->credit -= CREDIT_HEDGE;
    pthread_mutex_unlock(&pace->mu);
    return may;
}

void gy_pace_hedged(gy_pace *pace) { count(pace->hedges); }
void gy_pace_won(gy_pace *pace) { count(pace->won); }
void gy_pace_replaced(gy_pace *pace) { count(pace->replaced); }
uint64_t gy_pace_turn(gy_pace *pace) { return atomic_fetch_add(&pace->turn, 1); }
