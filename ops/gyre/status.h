/* status: what `up` and `status` ask the coordinator. */
#ifndef GY_STATUS_COMMAND_H
#define GY_STATUS_COMMAND_H

#include "cli.h"

#include <stdio.h>

/* *out is freed by gy_wire_free. */
GYRE_CHECKED gyre_status cluster_status(gyre_client *client, int64_t deadline_ns, Gyre__V1__ClusterStatusReply **out, gyre_error *err);
/* The coordinator's line and one row a node. */
void cluster_print(const Gyre__V1__ClusterStatusReply *reply, FILE *out);

#endif
