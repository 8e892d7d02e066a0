/* gauges: what /metrics shows of the node's state, asked for when the text is made. */
#ifndef GY_SERVER_GAUGES_H
#define GY_SERVER_GAUGES_H

#include "server/node.h"

#include "gyre/metrics.h"

/* node must outlive the HTTP door that shows metrics. */
void gy_gauges_new(gy_metrics *metrics, gy_node *node);

#endif
