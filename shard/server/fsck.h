/* fsck: `gyre-shard --fsck DIR [--json]`: inspects the replicas of a node that does not run, and says each damage.
 *
 * DIR is a node's data directory or one replica's. Nothing is written but the lock that keeps a daemon from starting meanwhile.
 * Exit codes  0 whole, 1 something is damaged, 2 it could not be checked (the reason is one line on stderr) */
#ifndef GY_SERVER_FSCK_H
#define GY_SERVER_FSCK_H

/* The words behind --fsck. Results go to stdout. */
int gy_fsck_main(int argc, char **argv);

#endif
