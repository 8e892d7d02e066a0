/* http: a thin layer over nng's HTTP server; the only file here that knows nng.
 *
 * Port 0: nng's server binds it as it is and nng_http_server_get_addr tells the port afterwards. The catch: nng keeps one
 * server per host and port *as written*, so two doors on port 0 of one process would silently be one. A process-wide count
 * of open port-0 doors refuses the second.
 *
 * The caller's objects outlive the answers: gy_http_close shuts a gate that every handler passes, and waits for those inside.
 * The gate itself is freed by its last holder, for nng lets go of handlers in its own time.
 *
 * nng has no idle time-out, so a silent client holds a connection for as long as it likes: listen on loopback or an
 * operators' network. Request bodies are refused. Error pages are short text. */
#include "gyre/http.h"

#include "gyre/log.h"

#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/supplemental/http/http.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { ADDRESS_BYTES = 128, HOST_CHARS_MAX = 80 };

/* Held by the door and by each handler. */
struct gate {
    pthread_mutex_t mu;
    pthread_cond_t left;
    size_t inside;          /* handlers at work; guarded by mu, as closed and holders */
    size_t holders;
    bool closed;
    struct gy_http *http;   /* valid while inside or not closed */
};

/* What answers one path. */
struct route {
    struct gate *gate;
    const struct gy_http_page *page; /* NULL: serve is one of the two below */
    void (*answer)(struct gy_http *http, const struct gy_http_page *page, nng_http_res *res);
};

struct gy_http {
    struct gy_http_options options;
    struct gy_http_page *pages;
    struct gate *gate;
    nng_url *url;
    nng_http_server *server;
    bool on_any_port, started;
    char address[ADDRESS_BYTES];
};

static atomic_bool any_port_taken; /* see the top */

static gyre_status from_nng(gyre_error *err, int error, const char *listen, const char *doing)
{
    gyre_status status = error == NNG_ENOMEM       ? GYRE_NO_MEMORY
                         : error == NNG_EADDRINUSE ? GYRE_UNAVAILABLE
                         : error == NNG_EADDRINVAL ? GYRE_INVALID
                         : error == NNG_EPERM      ? GYRE_DENIED
                                                   : GYRE_UNAVAILABLE;
    return gyre_fail(err, status, "http door on %s: %s: %s", listen, doing, nng_strerror(error));
}

/* ---- answering ---- */

/* Fills res with a copy of text; a failure leaves an empty 500, which is all that can be said without memory. */
static void fill(nng_http_res *res, uint16_t code, const char *content_type, const char *text)
{
    if (nng_http_res_set_status(res, code) != 0 || nng_http_res_set_header(res, "Content-Type", content_type) != 0 ||
        nng_http_res_set_header(res, "Cache-Control", "no-store") != 0 || nng_http_res_copy_data(res, text, strlen(text)) != 0)
        GY_IGNORE((gyre_status)nng_http_res_set_status(res, NNG_HTTP_STATUS_INTERNAL_SERVER_ERROR));
}

static void answer_text(nng_http_res *res, const char *content_type, char *text)
{
    if (text)
        fill(res, NNG_HTTP_STATUS_OK, content_type, text);
    else
        fill(res, NNG_HTTP_STATUS_INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "the page could not be made\n");
    free(text);
}

static void answer_metrics(struct gy_http *http, const struct gy_http_page *page, nng_http_res *res)
{
    (void)page;
    answer_text(res, "text/plain; version=0.0.4; charset=utf-8", gy_metrics_text(http->options.metrics));
}

static void answer_health(struct gy_http *http, const struct gy_http_page *page, nng_http_res *res)
{
    (void)page;
    const char *trouble = http->options.trouble ? http->options.trouble(http->options.self) : NULL;
    char text[512];
    bool healthy = !trouble || !*trouble;
    snprintf(text, sizeof text, "%s\n", healthy ? "ok" : trouble);
    fill(res, healthy ? NNG_HTTP_STATUS_OK : NNG_HTTP_STATUS_SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text);
}

static void answer_page(struct gy_http *http, const struct gy_http_page *page, nng_http_res *res)
{
    (void)http;
    answer_text(res, page->content_type, page->text(page->self));
}

static bool gate_enter(struct gate *gate)
{
    pthread_mutex_lock(&gate->mu);
    bool open = !gate->closed;
    if (open)
        gate->inside++;
    pthread_mutex_unlock(&gate->mu);
    return open;
}

static void gate_leave(struct gate *gate)
{
    pthread_mutex_lock(&gate->mu);
    if (--gate->inside == 0)
        pthread_cond_broadcast(&gate->left);
    pthread_mutex_unlock(&gate->mu);
}

static void gate_release(struct gate *gate)
{
    pthread_mutex_lock(&gate->mu);
    bool last = --gate->holders == 0;
    pthread_mutex_unlock(&gate->mu);
    if (!last)
        return;
    pthread_cond_destroy(&gate->left);
    pthread_mutex_destroy(&gate->mu);
    free(gate);
}

/* Runs on nng's threads. Inputs of the aio: request, handler, connection; output: the response, then nng's. */
static void handle(nng_aio *aio)
{
    nng_http_req *request = nng_aio_get_input(aio, 0);
    struct route *route = nng_http_handler_get_data(nng_aio_get_input(aio, 1));
    nng_http_res *res = NULL;
    int error = nng_http_res_alloc(&res);
    if (error) {
        nng_aio_finish(aio, error);
        return;
    }
    const char *method = nng_http_req_get_method(request);
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        fill(res, NNG_HTTP_STATUS_METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "only GET is served here\n");
        /* A body may follow that nobody will read: the connection cannot go on. */
        if (nng_http_res_set_header(res, "Allow", "GET, HEAD") != 0 || nng_http_res_set_header(res, "Connection", "close") != 0)
            gy_log(GY_LOG_DEBUG, "http_header_dropped", "status=%d", 405);
    } else if (gate_enter(route->gate)) {
        route->answer(route->gate->http, route->page, res);
        gate_leave(route->gate);
    } else {
        fill(res, NNG_HTTP_STATUS_SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", "stopping\n");
    }
    nng_aio_set_output(aio, 0, res);
    nng_aio_finish(aio, 0);
}

static void route_free(void *self)
{
    struct route *route = self;
    gate_release(route->gate);
    free(route);
}

/* ---- opening ---- */

/* "host:port" or "[v6]:port" to nng's URL; the port must be a number. */
static gyre_status make_url(const char *listen, char *out, size_t bytes, bool *on_any_port, gyre_error *err)
{
    const char *colon = strrchr(listen, ':');
    char *end = NULL;
    unsigned long port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 65536;
    if (!colon || colon == listen || !end || *end || port > 65535)
        return gyre_fail(err, GYRE_INVALID, "http door: '%.80s' is no HOST:PORT with a port of 0 to 65535", listen);
    size_t host_chars = (size_t)(colon - listen);
    bool bracketed = host_chars > 2 && listen[0] == '[' && listen[host_chars - 1] == ']';
    if (host_chars > HOST_CHARS_MAX || strcspn(listen, "/?#@ \t\r\n%") < strlen(listen) || (!bracketed && memchr(listen, ':', host_chars)))
        return gyre_fail(err, GYRE_INVALID, "http door: the host of '%.80s' is neither a name, an IPv4 address nor an IPv6 address in []", listen);
    snprintf(out, bytes, "http://%s", listen);
    *on_any_port = port == 0;
    return GYRE_OK;
}

static gyre_status add_route(gy_http *http, const char *path, const struct gy_http_page *page,
                             void (*answer)(gy_http *, const struct gy_http_page *, nng_http_res *), gyre_error *err)
{
    struct route *route = calloc(1, sizeof *route);
    if (!route)
        return gyre_fail(err, GYRE_NO_MEMORY, "http path %s", path);
    nng_http_handler *handler = NULL;
    int error = nng_http_handler_alloc(&handler, path, handle);
    if (error) {
        free(route);
        return from_nng(err, error, http->options.listen, path);
    }
    *route = (struct route){.gate = http->gate, .page = page, .answer = answer};
    pthread_mutex_lock(&http->gate->mu);
    http->gate->holders++;
    pthread_mutex_unlock(&http->gate->mu);
    error = nng_http_handler_set_data(handler, route, route_free);
    if (error) {
        route_free(route);
        nng_http_handler_free(handler);
        return from_nng(err, error, http->options.listen, path);
    }
    /* Every method comes to handle, which refuses with a sentence; bodies are left unread. */
    error = nng_http_handler_set_method(handler, NULL);
    if (!error)
        error = nng_http_handler_collect_body(handler, false, 0);
    if (!error)
        error = nng_http_server_add_handler(http->server, handler);
    if (error) {
        nng_http_handler_free(handler); /* frees the route */
        return from_nng(err, error, http->options.listen, path);
    }
    return GYRE_OK;
}

/* Where the server listens, with the port the system chose. */
static gyre_status find_address(gy_http *http, gyre_error *err)
{
    nng_sockaddr bound;
    int error = nng_http_server_get_addr(http->server, &bound);
    if (error)
        return from_nng(err, error, http->options.listen, "asking for the port");
    char host[INET6_ADDRSTRLEN];
    if (bound.s_family == NNG_AF_INET && inet_ntop(AF_INET, &bound.s_in.sa_addr, host, sizeof host))
        snprintf(http->address, sizeof http->address, "%s:%u", host, ntohs(bound.s_in.sa_port));
    else if (bound.s_family == NNG_AF_INET6 && inet_ntop(AF_INET6, bound.s_in6.sa_addr, host, sizeof host))
        snprintf(http->address, sizeof http->address, "[%s]:%u", host, ntohs(bound.s_in6.sa_port));
    else
        return gyre_fail(err, GYRE_INTERNAL, "http door on %s: bound to an address of family %d", http->options.listen, (int)bound.s_family);
    return GYRE_OK;
}

GY_AUTO_DEFINE(gy_http, gy_http_close)

static gyre_status make_gate(gy_http *http, gyre_error *err)
{
    struct gate *gate = calloc(1, sizeof *gate);
    if (!gate)
        return gyre_fail(err, GYRE_NO_MEMORY, "http door");
    pthread_mutex_init(&gate->mu, NULL);
    pthread_cond_init(&gate->left, NULL);
    gate->holders = 1;
    gate->http = http;
    http->gate = gate;
    return GYRE_OK;
}

static gyre_status copy_options(gy_http *http, const struct gy_http_options *options, gyre_error *err)
{
    http->options = *options;
    http->options.listen = strdup(options->listen);
    http->pages = calloc(options->page_count ? options->page_count : 1, sizeof *http->pages);
    if (!http->options.listen || !http->pages)
        return gyre_fail(err, GYRE_NO_MEMORY, "http door");
    if (options->page_count)
        memcpy(http->pages, options->pages, options->page_count * sizeof *http->pages);
    http->options.pages = http->pages;
    return GYRE_OK;
}

gyre_status gy_http_open(gy_http **out, const struct gy_http_options *options, gyre_error *err)
{
    char url[ADDRESS_BYTES];
    bool on_any_port = false;
    GY_TRY(make_url(options->listen, url, sizeof url, &on_any_port, err));
    GY_AUTO(gy_http) *http = calloc(1, sizeof *http);
    if (!http)
        return gyre_fail(err, GYRE_NO_MEMORY, "http door");
    GY_TRY(copy_options(http, options, err));
    GY_TRY(make_gate(http, err));
    if (on_any_port && atomic_exchange(&any_port_taken, true))
        return gyre_fail(err, GYRE_UNIMPLEMENTED, "http door on %s: this process has one on port 0 already; name a port", options->listen);
    http->on_any_port = on_any_port;
    int error = nng_url_parse(&http->url, url);
    if (!error)
        error = nng_http_server_hold(&http->server, http->url);
    if (error)
        return from_nng(err, error, options->listen, "making the server");
    GY_TRY(add_route(http, "/metrics", NULL, answer_metrics, err));
    GY_TRY(add_route(http, "/healthz", NULL, answer_health, err));
    for (size_t i = 0; i < options->page_count; i++)
        GY_TRY(add_route(http, http->pages[i].path, &http->pages[i], answer_page, err));
    error = nng_http_server_start(http->server);
    if (error)
        return from_nng(err, error, options->listen, "listening");
    http->started = true;
    GY_TRY(find_address(http, err));
    *out = GY_TAKE(http);
    return GYRE_OK;
}

const char *gy_http_address(const gy_http *http)
{
    return http->address;
}

void gy_http_close(gy_http *http)
{
    if (!http)
        return;
    if (http->gate) {
        pthread_mutex_lock(&http->gate->mu);
        http->gate->closed = true;
        while (http->gate->inside > 0)
            pthread_cond_wait(&http->gate->left, &http->gate->mu);
        pthread_mutex_unlock(&http->gate->mu);
    }
    if (http->started)
        nng_http_server_stop(http->server);
    if (http->server)
        nng_http_server_release(http->server);
    if (http->url)
        nng_url_free(http->url);
    if (http->on_any_port)
        atomic_store(&any_port_taken, false);
    if (http->gate)
        gate_release(http->gate);
    free((char *)http->options.listen);
    free(http->pages);
    free(http);
}
