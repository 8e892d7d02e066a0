/* metrics: a list of series that only grows, newest first. The lock guards the list's head; a series never moves and its next
 * never changes once it is in, so the text is made from a snapshot of the head without holding the lock while a gauge's
 * reader runs.
 *
 * The text groups the series of one name under one HELP and TYPE, as the format demands, sorted by name.
 * Format   Prometheus text exposition 0.0.4 */
#include "gyre/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_CHARS_MAX = 128, LABELS_CHARS_MAX = 1024, BUCKETS = 19, SERIES_MAX = 10000 };

/* Upper edges in nanoseconds: 1-2-5 from 10 us to 10 s. */
static const int64_t bucket_ns[BUCKETS] = {
    10000,     20000,     50000,     100000,    200000,     500000,     1000000,    2000000,    5000000,     10000000,
    20000000,  50000000,  100000000, 200000000, 500000000,  1000000000, 2000000000, 5000000000, 10000000000,
};

enum kind { COUNTER, GAUGE, HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

struct gy_metric {
    struct gy_metric *next; /* made before this one; fixed */
    enum kind kind;
    size_t order;           /* the how-manieth of the registry */
    char *name, *labels, *help;
    double (*read)(void *self);
    void *self;
    atomic_uint_fast64_t number;                /* of a counter; the bits of a gauge's double; a histogram's sum in ns */
    atomic_uint_fast64_t buckets[BUCKETS + 1];  /* not cumulated; the last is above every edge */
};

struct gy_metrics {
    pthread_mutex_t mu;
    gy_metric *newest;      /* guarded by mu, as all below */
    size_t count, hidden;
    char first_hidden[64];
    gy_metric spare[3];     /* by kind; what callers get whose metric cannot be shown */
};

gyre_status gy_metrics_new(gy_metrics **out, gyre_error *err)
{
    gy_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return gyre_fail(err, GYRE_NO_MEMORY, "metrics registry");
    pthread_mutex_init(&metrics->mu, NULL);
    for (size_t i = 0; i < 3; i++)
        metrics->spare[i].kind = (enum kind)i;
    *out = metrics;
    return GYRE_OK;
}

static void metric_free(gy_metric *metric)
{
    if (!metric)
        return;
    free(metric->name);
    free(metric->labels);
    free(metric->help);
    free(metric);
}

void gy_metrics_free(gy_metrics *metrics)
{
    if (!metrics)
        return;
    for (gy_metric *next, *m = metrics->newest; m; m = next) {
        next = m->next;
        metric_free(m);
    }
    pthread_mutex_destroy(&metrics->mu);
    free(metrics);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Length of the identifier at text; 0 if there is none. */
static size_t identifier_chars(const char *text, bool colon)
{
    size_t chars = 0;
    while (is_letter(text[chars]) || (colon && text[chars] == ':') || (chars > 0 && text[chars] >= '0' && text[chars] <= '9'))
        chars++;
    return chars;
}

static bool is_name(const char *name)
{
    size_t chars = identifier_chars(name, true);
    return chars > 0 && chars <= NAME_CHARS_MAX && name[chars] == 0;
}

/* Goes past a quoted value that starts behind its opening quote, to behind its closing one; NULL if it is none. The escapes
 * are \\ \" and \n; a line end or the end of the text inside is no value. */
static const char *skip_quoted(const char *at)
{
    while (*at != '"') {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at == '\\' && (at[1] == 0 || !strchr("\\\"n", *++at)))
            return NULL;
        at++;
    }
    return at + 1;
}

/* name="value",name="value" */
static bool are_labels(const char *labels)
{
    if (strlen(labels) > LABELS_CHARS_MAX)
        return false;
    const char *at = labels;
    while (*at) {
        size_t chars = identifier_chars(at, false);
        if (chars == 0 || at[chars] != '=' || at[chars + 1] != '"')
            return false;
        at = skip_quoted(at + chars + 2);
        if (!at || (*at == ',' && at[1] == 0) || (*at && *at != ','))
            return false;
        at += *at == ',';
    }
    return true;
}

/* Puts metric into the list unless it contradicts what is there. Takes the metric on success. */
static bool publish(gy_metrics *metrics, gy_metric *metric)
{
    bool fits = metrics->count < SERIES_MAX;
    for (gy_metric *m = metrics->newest; m && fits; m = m->next) {
        if (strcmp(m->name, metric->name) == 0)
            fits = m->kind == metric->kind && strcmp(m->labels, metric->labels) != 0;
    }
    if (!fits)
        return false;
    metric->next = metrics->newest;
    metric->order = metrics->count++;
    metrics->newest = metric;
    return true;
}

static gy_metric *make(gy_metrics *metrics, enum kind kind, const char *name, const char *labels, const char *help,
                       double (*read)(void *self), void *self)
{
    gy_metric *metric = is_name(name) && (!labels || are_labels(labels)) ? calloc(1, sizeof *metric) : NULL;
    bool whole = false;
    if (metric) {
        metric->kind = kind;
        metric->read = read;
        metric->self = self;
        metric->name = strdup(name);
        metric->labels = strdup(labels ? labels : "");
        metric->help = strdup(help ? help : "");
        whole = metric->name && metric->labels && metric->help;
    }
    pthread_mutex_lock(&metrics->mu);
    bool shown = whole && publish(metrics, metric);
    if (!shown && metrics->hidden++ == 0)
        snprintf(metrics->first_hidden, sizeof metrics->first_hidden, "%s", name);
    pthread_mutex_unlock(&metrics->mu);
    if (shown)
        return metric;
    metric_free(metric);
    return &metrics->spare[kind];
}

gy_metric *gy_counter_new(gy_metrics *metrics, const char *name, const char *labels, const char *help)
{
    return make(metrics, COUNTER, name, labels, help, NULL, NULL);
}

gy_metric *gy_gauge_new(gy_metrics *metrics, const char *name, const char *labels, const char *help)
{
    return make(metrics, GAUGE, name, labels, help, NULL, NULL);
}

gy_metric *gy_gauge_of(gy_metrics *metrics, const char *name, const char *labels, const char *help, double (*read)(void *self), void *self)
{
    return make(metrics, GAUGE, name, labels, help, read, self);
}

gy_metric *gy_histogram_new(gy_metrics *metrics, const char *name, const char *labels, const char *help)
{
    return make(metrics, HISTOGRAM, name, labels, help, NULL, NULL);
}

void gy_counter_add(gy_metric *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->number, n, memory_order_relaxed);
}

void gy_gauge_set(gy_metric *gauge, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    atomic_store_explicit(&gauge->number, bits, memory_order_relaxed);
}

void gy_histogram_observe_ns(gy_metric *histogram, int64_t ns)
{
    if (ns < 0)
        ns = 0; /* a clock that was set back */
    size_t bucket = 0;
    while (bucket < BUCKETS && ns > bucket_ns[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->number, (uint64_t)ns, memory_order_relaxed);
}

/* The shortest decimal that reads back as the same double. */
static void print_double(FILE *out, double value)
{
    char text[40];
    if (isnan(value) || isinf(value)) {
        fputs(isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf", out);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, out);
}

/* "name{labels,extra} ", with braces only where there is something between them. */
static void print_series(FILE *out, const gy_metric *metric, const char *suffix, const char *extra)
{
    bool both = *metric->labels && *extra;
    if (*metric->labels || *extra)
        fprintf(out, "%s%s{%s%s%s} ", metric->name, suffix, metric->labels, both ? "," : "", extra);
    else
        fprintf(out, "%s%s ", metric->name, suffix);
}

static void print_histogram(FILE *out, gy_metric *metric)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= BUCKETS; i++) {
        char edge[40] = "le=\"+Inf\"";
        count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        if (i < BUCKETS)
            snprintf(edge, sizeof edge, "le=\"%g\"", (double)bucket_ns[i] / 1e9);
        print_series(out, metric, "_bucket", edge);
        fprintf(out, "%llu\n", (unsigned long long)count);
    }
    print_series(out, metric, "_sum", "");
    print_double(out, (double)atomic_load_explicit(&metric->number, memory_order_relaxed) / 1e9);
    fputc('\n', out);
    print_series(out, metric, "_count", "");
    fprintf(out, "%llu\n", (unsigned long long)count); /* of the same reading as the buckets, so that they agree */
}

static void print_metric(FILE *out, gy_metric *metric)
{
    if (metric->kind == HISTOGRAM) {
        print_histogram(out, metric);
        return;
    }
    uint64_t number = atomic_load_explicit(&metric->number, memory_order_relaxed);
    print_series(out, metric, "", "");
    if (metric->kind == COUNTER) {
        fprintf(out, "%llu\n", (unsigned long long)number);
        return;
    }
    double value;
    memcpy(&value, &number, sizeof value);
    print_double(out, metric->read ? metric->read(metric->self) : value);
    fputc('\n', out);
}

static void print_family_head(FILE *out, const gy_metric *metric)
{
    fprintf(out, "# HELP %s ", metric->name);
    for (const char *c = metric->help; *c; c++) {
        if (*c == '\\' || *c == '\n')
            fputs(*c == '\n' ? "\\n" : "\\\\", out);
        else
            fputc(*c, out);
    }
    fprintf(out, "\n# TYPE %s %s\n", metric->name, kind_names[metric->kind]);
}

static int by_name_then_age(const void *left, const void *right)
{
    const gy_metric *a = *(gy_metric *const *)left, *b = *(gy_metric *const *)right;
    int names = strcmp(a->name, b->name);
    return names ? names : (a->order > b->order) - (a->order < b->order);
}

char *gy_metrics_text(gy_metrics *metrics)
{
    pthread_mutex_lock(&metrics->mu);
    gy_metric *newest = metrics->newest;
    size_t count = metrics->count, hidden = metrics->hidden;
    char first_hidden[sizeof metrics->first_hidden];
    memcpy(first_hidden, metrics->first_hidden, sizeof first_hidden);
    pthread_mutex_unlock(&metrics->mu);

    gy_metric **sorted = calloc(count ? count : 1, sizeof(gy_metric *));
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = sorted ? open_memstream(&text, &bytes) : NULL;
    if (!out) {
        free(sorted);
        return NULL;
    }
    for (size_t i = 0; i < count; i++, newest = newest->next)
        sorted[i] = newest;
    qsort(sorted, count, sizeof(gy_metric *), by_name_then_age);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(sorted[i - 1]->name, sorted[i]->name) != 0)
            print_family_head(out, sorted[i]);
        print_metric(out, sorted[i]);
    }
    if (hidden) {
        for (char *c = first_hidden; *c; c++)
            *c = *c < 0x21 || *c > 0x7e ? '?' : *c; /* the name may be what was bad */
        fprintf(out, "# metrics not shown (bad or repeated name, or no memory): %zu, first: %s\n", hidden, first_hidden);
    }
    free(sorted);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
