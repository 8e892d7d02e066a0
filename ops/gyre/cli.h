/* cli: what every command of `gyre` shares: where the cluster is, how a call is made, how a command ends.
 *
 * Exit codes  0 done, 1 it failed (the reason is one line on stderr), 2 it was asked wrongly (nothing was sent)
 * Output      results on stdout, progress and reasons on stderr
 * Threads     struct cli is written while the arguments are read and only read afterwards */
#ifndef GY_CLI_H
#define GY_CLI_H

#include "gyre/point_id.h"
#include "gyre/rpc.h"
#include "gyre/v1/gyre.pb-c.h"

#include <pthread.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_MISUSED = 2 };

struct cli {
    const char *address;  /* --address, of several coordinators separated by commas; NULL: see cli_connect */
    const char *dir;      /* --dir: of the local cluster; NULL: $GYRE_DIR or ./gyre-local */
    double timeout_s;     /* --timeout, of one call; 0: the command's own default */
};

/* One command. argv[0…argc-1] are the words after its name. */
struct command {
    const char *name;    /* "collection create" */
    const char *summary; /* one line for `gyre --help` */
    int (*run)(struct cli *cli, int argc, char **argv);
};

int command_up(struct cli *cli, int argc, char **argv);
int command_down(struct cli *cli, int argc, char **argv);
int command_scrub(struct cli *cli, int argc, char **argv);
int command_fsck(struct cli *cli, int argc, char **argv);
int command_status(struct cli *cli, int argc, char **argv);
int command_collection_create(struct cli *cli, int argc, char **argv);
int command_collection_list(struct cli *cli, int argc, char **argv);
int command_collection_info(struct cli *cli, int argc, char **argv);
int command_collection_drop(struct cli *cli, int argc, char **argv);
int command_collection_update(struct cli *cli, int argc, char **argv);
int command_drain(struct cli *cli, int argc, char **argv);
int command_replace(struct cli *cli, int argc, char **argv);
int command_recover(struct cli *cli, int argc, char **argv);
int command_move(struct cli *cli, int argc, char **argv);
int command_split(struct cli *cli, int argc, char **argv);
int command_collection_train(struct cli *cli, int argc, char **argv);
int command_import(struct cli *cli, int argc, char **argv);
int command_backup(struct cli *cli, int argc, char **argv);
int command_backup_verify(struct cli *cli, int argc, char **argv);
int command_restore(struct cli *cli, int argc, char **argv);
int command_search(struct cli *cli, int argc, char **argv);
int command_get(struct cli *cli, int argc, char **argv);
int command_delete(struct cli *cli, int argc, char **argv);
int command_count(struct cli *cli, int argc, char **argv);
int command_codec_list(struct cli *cli, int argc, char **argv);
int command_codec_compare(struct cli *cli, int argc, char **argv);
int command_eval(struct cli *cli, int argc, char **argv);

/* Opens a client to, in this order: --address, the cluster in --dir, $GYRE_ADDRESS, the local cluster, CLI_ADDRESS_DEFAULT.
 * Of several addresses the first that can be reached is taken. *out is the caller's. One address is connected lazily: a wrong one
 * shows at the first call. */
#define CLI_ADDRESS_DEFAULT "127.0.0.1:7700"
GYRE_CHECKED gyre_status cli_connect(const struct cli *cli, gyre_client **out, gyre_error *err);

/* The directory of the local cluster. Static storage, or what the caller gave. */
const char *cli_dir(const struct cli *cli);

/* The absolute deadline of a call made now: --timeout, else fallback_s from now. */
int64_t cli_deadline_ns(const struct cli *cli, double fallback_s);

/* Prints `gyre COMMAND: sentence` on stderr and returns CLI_FAILED. */
int cli_fail(const char *command, const gyre_error *err);

/* The one call that many commands are: connects, calls, and says on stderr what went wrong. seconds: the deadline without --timeout.
 *   reply  T **, the caller's (gy_wire_free) when CLI_DONE is returned; untouched when CLI_FAILED is */
int cli_call(const struct cli *cli, const char *command, const char *path, const ProtobufCMessage *request,
             const ProtobufCMessageDescriptor *reply_type, void *reply, double seconds);

/* A condition whose timed waits end by gy_now_ns. */
void cli_cond_init(pthread_cond_t *cond);

/* malloc and realloc of count things of size bytes that end the program with a sentence and CLI_FAILED when memory is out:
 * nothing a command could do then is of use to whoever typed it. Never NULL; free with free. */
void *cli_alloc(size_t count, size_t size);
void *cli_resize(void *old, size_t count, size_t size);

#endif
