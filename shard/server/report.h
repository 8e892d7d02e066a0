/* report: the node's heartbeat: tells every coordinator what is here, regularly and at once when something changed.
 * Threads  one of its own */
#ifndef GY_SERVER_REPORT_H
#define GY_SERVER_REPORT_H

#include "server/node.h"

#include "gyre/bus.h"

typedef struct gy_report gy_report;

struct gy_report_options {
    gy_node *node;             /* borrowed */
    gy_bus *bus;               /* borrowed */
    const char *coordinators;  /* addresses, separated by commas; "" for none */
    const char *address;       /* where others reach this node's bus */
    const char *http_address;
    const char *zone;          /* what fails together with this node; "": nothing else. gy_report_zone_check */
};

/* Whether it may be a zone: at most 63 letters, digits, '.', '_', '-'. GYRE_INVALID says what is wrong. */
GYRE_CHECKED gyre_status gy_report_zone_check(const char *zone, gyre_error *err);
/* Starts reporting. GYRE_INVALID for a bad list of addresses. */
GYRE_CHECKED gyre_status gy_report_start(gy_report **out, const struct gy_report_options *options, gyre_error *err);
/* Stops and frees; before the bus is closed. NULL is fine. */
void gy_report_stop(gy_report *report);
/* Coordinators that answered the last report. */
size_t gy_report_heard_count(gy_report *report);

#endif
