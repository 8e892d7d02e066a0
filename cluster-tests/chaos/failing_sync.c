/* failing_sync: a library to preload, with which a disk's syncs fail while a file is there.
 *
 * GYRE_SYNC_FAILS_WHILE names the file. While it is there, fsync and fdatasync of regular files fail with EIO, as a disk does that
 * lost what it was given; everything else works, so what was written may or may not be read again. Sync of a directory fails as well.
 * msync and O_SYNC are left alone: RocksDB's log uses neither. */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int fsync(int fd);
int fdatasync(int fd);

static bool fails(int fd)
{
    struct stat what;
    const char *while_there = getenv("GYRE_SYNC_FAILS_WHILE");
    return while_there && access(while_there, F_OK) == 0 && fstat(fd, &what) == 0 && (S_ISREG(what.st_mode) || S_ISDIR(what.st_mode));
}

static int sync_or_fail(const char *name, int fd)
{
    int saved = errno;
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    errno = saved;
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd)
{
    return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_or_fail("fdatasync", fd);
}
