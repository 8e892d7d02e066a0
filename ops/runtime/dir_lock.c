/* dir_lock: one process at a time in a directory. The lock is flock's on the file DIR/lock: the kernel lets go of it when the process
 * ends, however it ends, so no lock is ever left behind; the file itself stays and means nothing. */
#include "gyre/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

gyre_status gy_dir_lock(const char *dir, int *out_fd, gyre_error *err)
{
    char *path;
    if (mkdir(dir, 0700) != 0 && errno != EEXIST)
        return gyre_fail(err, GYRE_PRECONDITION, "directory %s cannot be made: %s", dir, strerror(errno));
    if (asprintf(&path, "%s/lock", dir) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a path");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* a child would hold the lock as long as it lives */
    int error = errno;
    free(path);
    if (fd < 0)
        return gyre_fail(err, GYRE_PRECONDITION, "%s/lock cannot be opened: %s", dir, strerror(error));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        error = errno;
        close(fd);
        if (error == EWOULDBLOCK)
            return gyre_fail(err, GYRE_PRECONDITION, "directory %s is in use by another process (it holds %s/lock)", dir, dir);
        return gyre_fail(err, GYRE_PRECONDITION, "%s/lock cannot be locked: %s", dir, strerror(error));
    }
    *out_fd = fd;
    return GYRE_OK;
}
