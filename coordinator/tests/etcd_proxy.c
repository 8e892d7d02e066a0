#include "etcd_proxy.h"

#include "gyre/clock.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { LINKS_MAX = 32, CHUNK_BYTES = 64 << 10, HELD_BYTES_MAX = 1 << 20 };
static const int64_t hold_ns = 500 * GY_MILLISECOND_NS;

struct link {
    int client, server; /* -1: closed */
    enum etcd_proxy_mode mode;
    int64_t tampered_ns;
    uint8_t *held;
    size_t held_bytes;
    bool released;
};

struct etcd_proxy {
    int listener, wake[2];
    struct sockaddr_in target;
    char address[32];
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t changed;
    enum etcd_proxy_mode armed;   /* guarded by mu, as all below */
    bool stopping, release, heal;
    uint64_t answers_after_release;
    struct link links[LINKS_MAX]; /* the thread's */
    size_t link_count;            /* the thread's */
};

static void link_close(struct link *link)
{
    if (link->client >= 0) {
        close(link->client);
        close(link->server);
    }
    free(link->held);
    *link = (struct link){.client = -1, .server = -1};
}

static void send_all(int fd, const uint8_t *data, size_t bytes)
{
    while (bytes) {
        ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the other side left; reading tells */
        data += sent, bytes -= (size_t)sent;
    }
}

static void accept_one(etcd_proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC), server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t at = 0;
    while (at < proxy->link_count && proxy->links[at].client >= 0)
        at++;
    if (at == LINKS_MAX || connect(server, (struct sockaddr *)&proxy->target, sizeof proxy->target) != 0) {
        close(client);
        close(server);
        return;
    }
    proxy->links[at] = (struct link){.client = client, .server = server};
    if (at == proxy->link_count)
        proxy->link_count++;
}

static void from_client(etcd_proxy *proxy, struct link *link)
{
    static uint8_t chunk[CHUNK_BYTES];
    ssize_t bytes = recv(link->client, chunk, sizeof chunk, 0);
    if (bytes <= 0) {
        if (link->mode != ETCD_PROXY_HOLD || !link->held_bytes)
            link_close(link);
        else
            shutdown(link->client, SHUT_RD); /* what is held may still be released */
        return;
    }
    pthread_mutex_lock(&proxy->mu);
    if (proxy->armed && memmem(chunk, (size_t)bytes, "/w/", 3)) {
        link->mode = proxy->armed;
        link->tampered_ns = gy_now_ns();
        proxy->armed = ETCD_PROXY_PASS;
    }
    pthread_mutex_unlock(&proxy->mu);
    if (link->mode != ETCD_PROXY_HOLD) {
        send_all(link->server, chunk, (size_t)bytes);
        return;
    }
    if (!link->held)
        link->held = malloc(HELD_BYTES_MAX);
    if (gy_now_ns() - link->tampered_ns < hold_ns && link->held_bytes + (size_t)bytes <= HELD_BYTES_MAX) {
        memcpy(link->held + link->held_bytes, chunk, (size_t)bytes);
        link->held_bytes += (size_t)bytes;
    }
}

static void from_server(etcd_proxy *proxy, struct link *link)
{
    static uint8_t chunk[CHUNK_BYTES];
    ssize_t bytes = recv(link->server, chunk, sizeof chunk, 0);
    if (bytes <= 0) {
        link_close(link);
    } else if (link->mode == ETCD_PROXY_PASS) {
        send_all(link->client, chunk, (size_t)bytes);
    } else if (link->released) {
        pthread_mutex_lock(&proxy->mu);
        proxy->answers_after_release++;
        pthread_cond_broadcast(&proxy->changed);
        pthread_mutex_unlock(&proxy->mu);
    }
}

static void obey(etcd_proxy *proxy)
{
    uint8_t nudge[16];
    pthread_mutex_lock(&proxy->mu);
    if (read(proxy->wake[0], nudge, sizeof nudge) < 0)
        proxy->stopping = true;
    for (size_t i = 0; i < proxy->link_count; i++) {
        struct link *link = &proxy->links[i];
        if (proxy->release && link->held_bytes) {
            link->released = true;
            send_all(link->server, link->held, link->held_bytes);
            link->held_bytes = 0;
        }
        if (proxy->heal && link->mode != ETCD_PROXY_PASS)
            link_close(link);
    }
    proxy->release = proxy->heal = false;
    pthread_cond_broadcast(&proxy->changed);
    pthread_mutex_unlock(&proxy->mu);
}

static void *run(void *arg)
{
    etcd_proxy *proxy = arg;
    for (;;) {
        struct pollfd polled[2 + 2 * LINKS_MAX] = {{proxy->wake[0], POLLIN, 0}, {proxy->listener, POLLIN, 0}};
        size_t links = proxy->link_count;
        for (size_t i = 0; i < links; i++) {
            bool closed = proxy->links[i].client < 0;
            polled[2 + 2 * i] = (struct pollfd){closed ? -1 : proxy->links[i].client, POLLIN, 0};
            polled[3 + 2 * i] = (struct pollfd){closed ? -1 : proxy->links[i].server, POLLIN, 0};
        }
        poll(polled, 2 + 2 * links, -1);
        for (size_t i = 0; i < links; i++) {
            if (polled[2 + 2 * i].revents)
                from_client(proxy, &proxy->links[i]);
            if (polled[3 + 2 * i].revents && proxy->links[i].client >= 0)
                from_server(proxy, &proxy->links[i]);
        }
        if (polled[1].revents)
            accept_one(proxy);
        if (polled[0].revents) {
            obey(proxy);
            pthread_mutex_lock(&proxy->mu);
            bool stopping = proxy->stopping;
            pthread_mutex_unlock(&proxy->mu);
            if (stopping)
                return NULL;
        }
    }
}

etcd_proxy *etcd_proxy_start(const char *target)
{
    etcd_proxy *proxy = calloc(1, sizeof *proxy);
    assert_non_null(proxy);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof own;
    proxy->target = own;
    proxy->target.sin_port = htons((uint16_t)atoi(strchr(target, ':') + 1));
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(proxy->listener, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(listen(proxy->listener, 16), 0);
    assert_int_equal(getsockname(proxy->listener, (struct sockaddr *)&own, &bytes), 0);
    snprintf(proxy->address, sizeof proxy->address, "127.0.0.1:%u", ntohs(own.sin_port));
    assert_int_equal(pipe(proxy->wake), 0);
    pthread_mutex_init(&proxy->mu, NULL);
    pthread_cond_init(&proxy->changed, NULL);
    assert_int_equal(pthread_create(&proxy->thread, NULL, run, proxy), 0);
    return proxy;
}

static void nudge(etcd_proxy *proxy) { assert_int_equal(write(proxy->wake[1], "", 1), 1); }

void etcd_proxy_stop(etcd_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mu);
    proxy->stopping = true;
    pthread_mutex_unlock(&proxy->mu);
    nudge(proxy);
    pthread_join(proxy->thread, NULL);
    for (size_t i = 0; i < proxy->link_count; i++)
        link_close(&proxy->links[i]);
    close(proxy->listener);
    close(proxy->wake[0]);
    close(proxy->wake[1]);
    free(proxy);
}

const char *etcd_proxy_address(const etcd_proxy *proxy) { return proxy->address; }

void etcd_proxy_arm(etcd_proxy *proxy, enum etcd_proxy_mode mode)
{
    pthread_mutex_lock(&proxy->mu);
    proxy->armed = mode;
    pthread_mutex_unlock(&proxy->mu);
}

void etcd_proxy_release(etcd_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mu);
    proxy->release = true;
    nudge(proxy);
    while (proxy->answers_after_release == 0)
        pthread_cond_wait(&proxy->changed, &proxy->mu);
    pthread_mutex_unlock(&proxy->mu);
}

void etcd_proxy_heal(etcd_proxy *proxy)
{
    pthread_mutex_lock(&proxy->mu);
    proxy->heal = true;
    nudge(proxy);
    while (proxy->heal)
        pthread_cond_wait(&proxy->changed, &proxy->mu);
    pthread_mutex_unlock(&proxy->mu);
}
