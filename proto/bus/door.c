#include "door.h"

#include <arpa/inet.h>
#include <nng/nng.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { URL_BYTES = 300, ACCEPT_PAUSE_MS = 100 };

static gyre_status fail(gyre_error *err, int rv, const char *address)
{
    gyre_status status = GYRE_UNAVAILABLE;
    if (rv == NNG_ENOMEM)
        status = GYRE_NO_MEMORY;
    else if (rv == NNG_EADDRINVAL || rv == NNG_EINVAL)
        status = GYRE_INVALID;
    return gyre_fail(err, status, "%s: %s", address, nng_strerror(rv));
}

static gyre_status url_of(char url[URL_BYTES], const char *address, gyre_error *err)
{
    if (!address || strlen(address) > 255)
        return gyre_fail(err, GYRE_INVALID, "address is %s; it is host:port in at most 255 bytes",
                         address ? "too long" : "missing");
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        strlen(colon + 1) > 5 || strtol(colon + 1, NULL, 10) > 65535 || strpbrk(address, "/?#@ \t\r\n"))
        return gyre_fail(err, GYRE_INVALID, "address '%s' is not host:port with a port up to 65535", address);
    snprintf(url, URL_BYTES, "tcp://%s", address);
    return GYRE_OK;
}

struct gy_listener {
    nng_stream_listener *listener;
    nng_aio *accept;
    nng_aio *pause; /* never used for anything but sleeping: an aio that slept once reports later timeouts as success */
    atomic_bool closing;
    char address[URL_BYTES];
    void (*on_stream)(void *owner, struct nng_stream *stream);
    void *owner;
};

static void on_accepted(void *arg)
{
    gy_listener *listener = arg;
    int rv = nng_aio_result(listener->accept);
    nng_stream *stream = rv == 0 ? nng_aio_get_output(listener->accept, 0) : NULL;
    if (atomic_load(&listener->closing)) {
        if (stream)
            nng_stream_free(stream);
        return;
    }
    if (stream)
        listener->on_stream(listener->owner, stream);
    if (rv == 0)
        nng_stream_listener_accept(listener->listener, listener->accept);
    else /* out of descriptors, most likely: nng would fail again at once, for as long as it lasts */
        nng_sleep_aio(ACCEPT_PAUSE_MS, listener->pause);
}

static void on_pause_over(void *arg)
{
    gy_listener *listener = arg;
    if (!atomic_load(&listener->closing))
        nng_stream_listener_accept(listener->listener, listener->accept);
}

static int read_address(gy_listener *listener)
{
    nng_sockaddr at;
    int rv = nng_stream_listener_get_addr(listener->listener, NNG_OPT_LOCADDR, &at);
    if (rv != 0)
        return rv;
    char host[INET6_ADDRSTRLEN];
    if (at.s_family == NNG_AF_INET) {
        inet_ntop(AF_INET, &at.s_in.sa_addr, host, sizeof host);
        snprintf(listener->address, sizeof listener->address, "%s:%u", host, ntohs(at.s_in.sa_port));
    } else if (at.s_family == NNG_AF_INET6) {
        inet_ntop(AF_INET6, at.s_in6.sa_addr, host, sizeof host);
        snprintf(listener->address, sizeof listener->address, "[%s]:%u", host, ntohs(at.s_in6.sa_port));
    } else {
        return NNG_EADDRINVAL;
    }
    return 0;
}

gyre_status gy_listener_open(gy_listener **out, const char *address, void (*on_stream)(void *owner, struct nng_stream *stream),
                             void *owner, gyre_error *err)
{
    char url[URL_BYTES];
    GY_TRY(url_of(url, address, err));
    gy_listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return gyre_fail(err, GYRE_NO_MEMORY, "listener");
    listener->on_stream = on_stream;
    listener->owner = owner;
    int rv = nng_stream_listener_alloc(&listener->listener, url);
    if (rv == 0)
        rv = nng_stream_listener_set_bool(listener->listener, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0) /* nng's streams set it to 0: a frame behind another would wait 40 ms for an acknowledgement */
        rv = nng_stream_listener_set_bool(listener->listener, NNG_OPT_TCP_NODELAY, true);
    if (rv == 0)
        rv = nng_aio_alloc(&listener->accept, on_accepted, listener);
    if (rv == 0)
        rv = nng_aio_alloc(&listener->pause, on_pause_over, listener);
    if (rv == 0)
        rv = nng_stream_listener_listen(listener->listener);
    if (rv == 0)
        rv = read_address(listener);
    if (rv != 0) {
        gy_listener_close(listener);
        return gyre_wrap(err, fail(err, rv, address), "cannot listen");
    }
    nng_stream_listener_accept(listener->listener, listener->accept);
    *out = listener;
    return GYRE_OK;
}

const char *gy_listener_address(const gy_listener *listener)
{
    return listener->address;
}

void gy_listener_close(gy_listener *listener)
{
    if (!listener)
        return;
    atomic_store(&listener->closing, true);
    nng_aio_stop(listener->pause);
    nng_aio_stop(listener->accept);
    nng_aio_free(listener->pause);
    nng_aio_free(listener->accept);
    if (listener->listener) {
        nng_stream_listener_close(listener->listener);
        nng_stream_listener_free(listener->listener);
    }
    free(listener);
}

struct gy_dialer {
    nng_stream_dialer *dialer;
    nng_aio *aio;
    void (*on_dialled)(void *owner, struct nng_stream *stream);
    void *owner;
};

static void on_dial_over(void *arg)
{
    gy_dialer *dialer = arg;
    bool connected = nng_aio_result(dialer->aio) == 0;
    dialer->on_dialled(dialer->owner, connected ? nng_aio_get_output(dialer->aio, 0) : NULL);
}

gyre_status gy_dialer_new(gy_dialer **out, const char *address, void (*on_dialled)(void *owner, struct nng_stream *stream),
                          void *owner, gyre_error *err)
{
    char url[URL_BYTES];
    GY_TRY(url_of(url, address, err));
    gy_dialer *dialer = calloc(1, sizeof *dialer);
    if (!dialer)
        return gyre_fail(err, GYRE_NO_MEMORY, "dialer");
    dialer->on_dialled = on_dialled;
    dialer->owner = owner;
    int rv = nng_stream_dialer_alloc(&dialer->dialer, url);
    if (rv == 0)
        rv = nng_stream_dialer_set_bool(dialer->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    if (rv == 0)
        rv = nng_stream_dialer_set_bool(dialer->dialer, NNG_OPT_TCP_NODELAY, true);
    if (rv == 0)
        rv = nng_aio_alloc(&dialer->aio, on_dial_over, dialer);
    if (rv != 0) {
        gy_dialer_free(dialer);
        return gyre_wrap(err, fail(err, rv, address), "cannot dial");
    }
    *out = dialer;
    return GYRE_OK;
}

void gy_dialer_dial(gy_dialer *dialer, int32_t wait_ms)
{
    nng_aio_set_timeout(dialer->aio, wait_ms);
    nng_stream_dialer_dial(dialer->dialer, dialer->aio);
}

void gy_dialer_close(gy_dialer *dialer)
{
    nng_stream_dialer_close(dialer->dialer);
}

void gy_dialer_free(gy_dialer *dialer)
{
    if (!dialer)
        return;
    nng_aio_free(dialer->aio);
    if (dialer->dialer)
        nng_stream_dialer_free(dialer->dialer);
    free(dialer);
}
