/* etcd_proxy: a wire between a client and a member of etcd that a test can tamper with, from the moment on a commit's transaction
 * goes over it (it is known by its witness, "/w/"). */
#ifndef GY_TESTS_ETCD_PROXY_H
#define GY_TESTS_ETCD_PROXY_H

#include <stdint.h>

typedef struct etcd_proxy etcd_proxy;

enum etcd_proxy_mode {
    ETCD_PROXY_PASS,
    ETCD_PROXY_MUTE, /* the transaction arrives, and no answer to anything on that connection comes back */
    ETCD_PROXY_HOLD, /* the transaction and what follows within half a second is kept; all later is lost, answers too */
};

etcd_proxy *etcd_proxy_start(const char *target /* 127.0.0.1:port */);
void etcd_proxy_stop(etcd_proxy *proxy);
const char *etcd_proxy_address(const etcd_proxy *proxy);
void etcd_proxy_arm(etcd_proxy *proxy, enum etcd_proxy_mode mode);
/* What was held arrives now, though its sender has long given up; waits until etcd answered something. */
void etcd_proxy_release(etcd_proxy *proxy);
/* Cuts the connections that were tampered with; new ones pass. */
void etcd_proxy_heal(etcd_proxy *proxy);

#endif
