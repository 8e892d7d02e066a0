/* metrics: counters, gauges and histograms in Prometheus' text format. Names carry their unit: gyre_shard_scan_seconds.
 *
 * Metrics are made once at start and live until gy_metrics_free; updating one is an atomic add, from any thread. */
#ifndef GYRE_METRICS_H
#define GYRE_METRICS_H

#include "gyre/base.h"

typedef struct gy_metrics gy_metrics;   /* the registry of a process */
typedef struct gy_metric gy_metric;

GYRE_CHECKED gyre_status gy_metrics_new(gy_metrics **out, gyre_error *err);
void gy_metrics_free(gy_metrics *metrics);

/* labels: `shard="3",kind="full"` or NULL; the same name may be made again with other labels. Never fail a caller: on
 * memory trouble or a bad name they return a metric that counts but is not shown, and gy_metrics_text says so. */
gy_metric *gy_counter_new(gy_metrics *metrics, const char *name, const char *labels, const char *help);
gy_metric *gy_gauge_new(gy_metrics *metrics, const char *name, const char *labels, const char *help);
/* A gauge whose value is asked for when the text is made. */
gy_metric *gy_gauge_of(gy_metrics *metrics, const char *name, const char *labels, const char *help, double (*read)(void *self), void *self);
/* Seconds, in 1-2-5 buckets from 10 us to 10 s. */
gy_metric *gy_histogram_new(gy_metrics *metrics, const char *name, const char *labels, const char *help);

void gy_counter_add(gy_metric *counter, uint64_t n);
void gy_gauge_set(gy_metric *gauge, double value);
void gy_histogram_observe_ns(gy_metric *histogram, int64_t ns);

/* The exposition text, malloc'ed and terminated; NULL without memory. */
char *gy_metrics_text(gy_metrics *metrics);

#endif
