/* A replica's files as they are at one moment, for whoever reads them beside the process that goes on writing: RocksDB's files are
 * written once, so links to them are a copy. */
#include "store/rocks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

gyre_status gy_store_link(gy_store *store, const char *path, gyre_error *err)
{
    char *complaint = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(store->db, &complaint);
    if (checkpoint) {
        rocksdb_checkpoint_create(checkpoint, path, 0, &complaint);
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    return gy_rocks_check(&complaint, err, "links to the files of now");
}

gyre_status gy_store_still(gy_store *store, char **path, gyre_error *err)
{
    char *hidden;
    GY_TRY(gy_directory_hidden(&hidden, store->path, "checking", err));
    gyre_status status = gy_directory_remove(hidden, err); /* of a crash in here */
    if (status == GYRE_OK)
        status = gy_store_link(store, hidden, err);
    if (status != GYRE_OK) {
        gy_store_still_remove(hidden);
        return status;
    }
    *path = hidden;
    return GYRE_OK;
}

void gy_store_still_remove(char *path)
{
    if (path)
        GY_IGNORE(gy_directory_remove(path, NULL)); /* hidden: the next one, or the next start, tries again */
    free(path);
}

/* RocksDB holds a lock of the whole file while it has a replica open. */
gyre_status gy_store_check_unused(const char *path, gyre_error *err)
{
    char *name;
    if (asprintf(&name, "%s/LOCK", path) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", path);
    int fd = open(name, O_RDWR | O_CLOEXEC);
    free(name);
    if (fd < 0)
        return errno == ENOENT ? GYRE_OK : gyre_fail(err, GYRE_DENIED, "%s/LOCK: %s", path, strerror(errno));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int failed = fcntl(fd, F_GETLK, &lock) != 0 ? errno : 0;
    close(fd);
    if (failed)
        return gyre_fail(err, GYRE_INTERNAL, "%s/LOCK: %s", path, strerror(failed));
    return lock.l_type == F_UNLCK ? GYRE_OK
                                  : gyre_fail(err, GYRE_PRECONDITION, "%s is in use by process %d; stop it first", path,
                                              (int)lock.l_pid);
}

uint64_t gy_store_disk_bytes(const char *path)
{
    uint64_t bytes = 0;
    DIR *directory = opendir(path);
    struct dirent *entry;
    struct stat found;
    while (directory && (entry = readdir(directory)))
        if (fstatat(dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(found.st_mode))
            bytes += (uint64_t)found.st_size;
    if (directory)
        closedir(directory);
    return bytes;
}

void gy_store_log_base(const gy_store *store, uint64_t *epoch, uint64_t *seq)
{
    pthread_mutex_t *mu = (pthread_mutex_t *)(uintptr_t)&store->mu;
    pthread_mutex_lock(mu);
    *epoch = store->log_base_epoch, *seq = store->log_base;
    pthread_mutex_unlock(mu);
}

/* ---- when ---- */

static char *checked_name(const char *path, const char *name)
{
    char *joined;
    return asprintf(&joined, "%s/%s", path, name) < 0 ? NULL : joined;
}

void gy_store_note_checked(const char *path)
{
    char *name = checked_name(path, "CHECKED");
    int fd = name ? open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) {
        futimens(fd, NULL); /* when that is lost it is checked again, sooner */
        close(fd);
    }
    free(name);
}

int64_t gy_store_checked_at(const char *path)
{
    const char *const names[] = {"CHECKED", "IDENTITY"}; /* the second is as old as the replica */
    int64_t seconds = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && !seconds; i++) {
        struct stat found;
        char *name = checked_name(path, names[i]);
        if (name && stat(name, &found) == 0)
            seconds = found.st_mtim.tv_sec;
        free(name);
    }
    return seconds;
}
