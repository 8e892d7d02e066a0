/* log: one line an event, key=value, to stderr: `ts=2026-01-02T03:04:05.678Z level=warn event=node_down node=n2 since_ms=3000`.
 *
 * Daemons log once, where an error stops; libraries return. Values with spaces or quotes are quoted and escaped, so a hostile
 * string cannot forge a line. Threads: any. */
#ifndef GYRE_LOG_H
#define GYRE_LOG_H

#include "gyre/status.h"

#include <stdbool.h>

typedef enum gy_log_level { GY_LOG_DEBUG, GY_LOG_INFO, GY_LOG_WARN, GY_LOG_ERROR } gy_log_level;

/* Lines below this level are not written. The default is info. */
void gy_log_set_level(gy_log_level level);
/* "debug", "info", "warn", "error"; false if the name is none of them. */
bool gy_log_parse_level(const char *name, gy_log_level *out);

/* gy_log(GY_LOG_INFO, "node_up", "node=%s address=%s", name, address): format is a list of key=%… pairs separated by one space;
 * each %s value is quoted where needed. Only %s %d %u %ld %lu %lld %llu %zu %f %.Nf and PRI macros of those are allowed. */
void gy_log(gy_log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
