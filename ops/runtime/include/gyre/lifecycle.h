/* lifecycle: what a daemon does at start and stop: signals, readiness, resource facts.
 *
 * gy_stop_init blocks SIGTERM and SIGINT in every thread made later and ignores SIGPIPE; gy_stop_wait returns when one of
 * them arrives or gy_stop_request was called. A second signal while draining ends the process at once with exit code 1. */
#ifndef GYRE_LIFECYCLE_H
#define GYRE_LIFECYCLE_H

#include "gyre/base.h"

GYRE_CHECKED gyre_status gy_stop_init(gyre_error *err);
/* Waits; returns the signal's number, or 0 for gy_stop_request. */
int gy_stop_wait(void);
/* Asks the process to stop, from any thread: for fail-stop errors. reason is logged. exit_code is what main should return
 * (gy_stop_exit_code). */
void gy_stop_request(const char *reason, int exit_code);
int gy_stop_exit_code(void);

/* Tells whoever started the daemon that it serves: writes line and a newline to fd and closes it; fd < 0: nothing. The line is
 * one JSON object with the addresses. */
void gy_ready_tell(int fd, const char *line);

/* Reads a 32-byte key file: 64 hex digits. GYRE_DENIED if others may read it, GYRE_INVALID if it is no key. */
GYRE_CHECKED gyre_status gy_key_file_read(const char *path, uint8_t key[32], gyre_error *err);
/* Writes a new random key, mode 0600, failing with GYRE_EXISTS if the file is there. */
GYRE_CHECKED gyre_status gy_key_file_create(const char *path, gyre_error *err);

/* Makes dir (0700, not its parents) if it is not there and holds it against other processes until *out_fd is closed or the
 * process ends. GYRE_PRECONDITION if another process holds it, or if it cannot be made or written; the sentence names dir. */
GYRE_CHECKED gyre_status gy_dir_lock(const char *dir, int *out_fd, gyre_error *err);

/* Lets threads that people wait for go before the calling one where processors are short: raises its niceness by steps, 0 to 19. A step
 * is a factor of 1.25 in the share it gets then; where processors are idle it changes nothing. */
void gy_thread_stand_back(int steps);
/* Of writes behind searches: a quarter of a processor that both want, all of it otherwise. Of what nobody waits for: a tenth. */
enum { GY_WRITES_STAND_BACK = 5, GY_BACKGROUND_STANDS_BACK = 10 };

uint64_t gy_resident_bytes(void);                     /* of this process; 0 if unknown */
/* Bytes of memory this process may have: the machine's, or less if its control group (version 1 or 2) or one around that says so;
 * 0 if unknown. root: where /proc and /sys are, "" but for tests. */
uint64_t gy_memory_limit(const char *root);
/* Free bytes for this user on the file system of path, and its size. */
GYRE_CHECKED gyre_status gy_disk_free(const char *path, uint64_t *free_bytes, uint64_t *total_bytes, gyre_error *err);

/* GYRE_VERSION, from CMake. */
const char *gy_version(void);

#endif
