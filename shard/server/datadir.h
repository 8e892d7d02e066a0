/* datadir: the directory that is one node: locked against a second process, and it knows whose it is.
 *   DIR/lock      held (flock) while the process runs
 *   DIR/node      the node's name, one line; written once
 *   DIR/replicas  node.h */
#ifndef GY_SERVER_DATADIR_H
#define GY_SERVER_DATADIR_H

#include "gyre/base.h"

enum { GY_NODE_NAME_BYTES = 65 };

/* Creates the directory if it is not there and locks it until the process ends or *lock_fd is closed. GYRE_PRECONDITION if
 * another process has it. */
GYRE_CHECKED gyre_status gy_datadir_lock(const char *path, int *lock_fd, gyre_error *err);
/* The node's name: the one stored; else asked (stored now); else, asked being "", a new random one (stored). GYRE_PRECONDITION
 * if the stored one is another than asked: this is another node's disk. GYRE_INVALID for a name that is not 1 to 64 of
 * letters, digits, '-', '_', '.'. */
GYRE_CHECKED gyre_status gy_datadir_name(const char *path, const char *asked, char name[GY_NODE_NAME_BYTES], gyre_error *err);

#endif
