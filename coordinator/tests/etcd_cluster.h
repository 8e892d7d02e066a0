/* etcd_cluster: members of etcd that a test starts on loopback, in a directory of its own; each can be killed, frozen and started
 * again. They die with the test. */
#ifndef GY_TESTS_ETCD_CLUSTER_H
#define GY_TESTS_ETCD_CLUSTER_H

#include "gyre/rpc.h"

#include <sys/types.h>

enum { ETCD_MEMBERS_MAX = 3, ETCD_TEXT_BYTES = 512 };

struct etcd_member {
    pid_t pid; /* 0: not running */
    int ready; /* where it will say that it serves; -1: it has */
    uint16_t client_port, peer_port;
};

struct etcd_cluster {
    char dir[64];
    size_t count;
    bool tls; /* with the certificates of etcd_cluster_certificates */
    struct etcd_member member[ETCD_MEMBERS_MAX];
    char endpoints[ETCD_TEXT_BYTES];
};

/* Starts it and waits until every member knows a leader; fails the test if it does not come up. */
void etcd_cluster_start(struct etcd_cluster *cluster, size_t count, bool tls);
void etcd_cluster_stop(struct etcd_cluster *cluster); /* removes the directory too */

void etcd_member_start(struct etcd_cluster *cluster, size_t member);
void etcd_member_kill(struct etcd_cluster *cluster, size_t member); /* kill -9 */
void etcd_member_signal(struct etcd_cluster *cluster, size_t member, int number);
/* Waits until the running members agree on a leader; which it is. */
size_t etcd_cluster_leader(struct etcd_cluster *cluster);
/* "127.0.0.1:port" */
const char *etcd_member_address(const struct etcd_cluster *cluster, size_t member, char room[32]);
/* Path of a file in its directory. */
const char *etcd_cluster_path(const struct etcd_cluster *cluster, const char *name, char room[ETCD_TEXT_BYTES]);

#endif
