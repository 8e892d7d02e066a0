/* failing_sync: a library to preload, with which a disk's syncs fail while a file is there.
 *
 * GYRE_SYNC_FAILS_WHILE names the file. While it is there, fsync and fdatasync fail with EIO, and of a regular file that was
 * synced before what came since is lost, as after a disk's error the kernel drops pages that it could not write. All else works:
 * what was written can be read until then. msync and O_SYNC are left alone: RocksDB's log uses neither.
 *
 * Threads: any; the table of sizes is under its lock. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILES = 4096 }; /* a file more than fits loses nothing: the fault is milder then */

struct synced {
    dev_t device;
    ino_t inode; /* 0: free */
    off_t bytes;
};

int fsync(int fd);
int fdatasync(int fd);

static struct synced table[FILES];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

/* The file's place, or a free one; NULL when the table is full. */
static struct synced *find(const struct stat *file)
{
    for (size_t i = 0; i < FILES; i++) {
        struct synced *place = &table[((size_t)file->st_ino + i) % FILES];
        if (place->inode == 0 || (place->inode == file->st_ino && place->device == file->st_dev))
            return place;
    }
    return NULL;
}

static void remember(const struct stat *file)
{
    pthread_mutex_lock(&mu);
    struct synced *place = find(file);
    if (place)
        *place = (struct synced){file->st_dev, file->st_ino, file->st_size};
    pthread_mutex_unlock(&mu);
}

static void lose(int fd, const struct stat *file)
{
    pthread_mutex_lock(&mu);
    struct synced *place = find(file);
    off_t kept = place && place->inode ? place->bytes : file->st_size;
    pthread_mutex_unlock(&mu);
    if (kept < file->st_size && ftruncate(fd, kept) != 0)
        abort(); /* a fault that does not do what it says */
}

static int sync_or_fail(const char *name, int fd)
{
    int (*real)(int);
    *(void **)&real = dlsym(RTLD_NEXT, name);
    const char *while_there = getenv("GYRE_SYNC_FAILS_WHILE");
    struct stat file; /* as it is before the sync: what others append meanwhile may or may not be part of it */
    bool regular = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    if (while_there && access(while_there, F_OK) == 0) {
        if (regular)
            lose(fd, &file);
        errno = EIO;
        return -1;
    }
    int failed = real(fd);
    if (!failed && regular)
        remember(&file);
    return failed;
}

int fsync(int fd)
{
    return sync_or_fail("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_or_fail("fdatasync", fd);
}
