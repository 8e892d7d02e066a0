/* launch: starts and stops the daemons of a local cluster.
 *
 * A daemon is fork+exec'ed in a process group of its own, in the caller's session, with stdin closed and its log appended to DIR/logs/NAME.log. It says that it serves by
 * one JSON line on a pipe (--ready-fd); when the pipe ends before, it has failed and its last words are in its log.
 * Threads  one; start before anything in the process opens a gRPC client (a fork does not take its threads along). */
#ifndef GY_LAUNCH_H
#define GY_LAUNCH_H

#include "local.h"

/* Starts the daemons that need it (each not NULL, not running) and waits until all serve. Fills pid, process and addresses, and
 * writes the state file as soon as a pid is known. On failure err names the daemon; the end of its log is printed on stderr; what
 * else was started goes on running: it is up to the caller to stop it. */
GYRE_CHECKED gyre_status launch_daemons(local_cluster *cluster, struct local_daemon *const *daemons, size_t count, int64_t deadline_ns,
                                        gyre_error *err);

/* Sends SIGTERM to each running daemon and waits for their end, up to deadline_ns; with force, SIGKILL then. *left: how many still
 * run, each named on stderr. A pid that now belongs to another process is left alone. */
GYRE_CHECKED gyre_status stop_daemons(struct local_daemon *const *daemons, size_t count, int64_t deadline_ns, bool force, size_t *left,
                                      gyre_error *err);

#endif
