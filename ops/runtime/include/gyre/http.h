/* http: the operator's door of a daemon: GET /metrics, GET /healthz (200 "ok" or 503 with the reason) and JSON pages.
 * nng's HTTP server; handlers run on nng's threads and must not block. Threads: any. */
#ifndef GYRE_HTTP_H
#define GYRE_HTTP_H

#include "gyre/metrics.h"

typedef struct gy_http gy_http;

struct gy_http_page {
    const char *path;                    /* "/status" */
    const char *content_type;
    char *(*text)(void *self);           /* malloc'ed; NULL answers 500 */
    void *self;
};

struct gy_http_options {
    const char *listen;                  /* "127.0.0.1:7702", port 0 for any */
    gy_metrics *metrics;
    /* NULL or "" when healthy, else the reason; static or long-lived text. */
    const char *(*trouble)(void *self);
    void *self;
    const struct gy_http_page *pages;
    size_t page_count;
};

GYRE_CHECKED gyre_status gy_http_open(gy_http **out, const struct gy_http_options *options, gyre_error *err);
const char *gy_http_address(const gy_http *http);
void gy_http_close(gy_http *http);

#endif
