/* A replica's directory appears and disappears whole: it is made and unmade under a hidden name, a rename is the moment. */
#include "store/rocks.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OPEN_DIRECTORIES_MAX = 16 };

/* Where the last part of path begins; trailing slashes are the caller's mistake. */
static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

gyre_status gy_directory_hidden(char **out, const char *path, const char *suffix, gyre_error *err)
{
    const char *name = name_of(path);
    if (!*name)
        return gyre_fail(err, GYRE_INVALID, "replica path '%s' names no directory", path);
    if (asprintf(out, "%.*s.%s.%s", (int)(name - path), path, name, suffix) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", path);
    return GYRE_OK;
}

bool gy_directory_exists(const char *path)
{
    struct stat found;
    return lstat(path, &found) == 0;
}

gyre_status gy_directory_sync_parent(const char *path, gyre_error *err)
{
    const char *name = name_of(path);
    char *parent = name == path ? strdup(".") : strndup(path, (size_t)(name - path));
    if (!parent)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    free(parent);
    return failed ? gyre_fail(err, GYRE_INTERNAL, "directory of %s cannot be synced: %s", path, strerror(failed)) : GYRE_OK;
}

static int remove_one(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found, (void)kind, (void)walk;
    return remove(path);
}

gyre_status gy_directory_remove(const char *path, gyre_error *err)
{
    if (!gy_directory_exists(path))
        return GYRE_OK;
    if (nftw(path, remove_one, OPEN_DIRECTORIES_MAX, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        return gyre_fail(err, GYRE_INTERNAL, "%s cannot be deleted: %s", path, strerror(errno));
    return GYRE_OK;
}

gyre_status gy_store_destroy(const char *path, gyre_error *err)
{
    char *dropping;
    GY_TRY(gy_directory_hidden(&dropping, path, "dropping", err));
    gyre_status status = gy_directory_remove(dropping, err); /* of a crash in here */
    if (status == GYRE_OK && rename(path, dropping) != 0)
        status = errno == ENOENT ? gyre_fail(err, GYRE_NOT_FOUND, "no replica at %s", path)
                                 : gyre_fail(err, GYRE_INTERNAL, "%s cannot be renamed: %s", path, strerror(errno));
    if (status == GYRE_OK)
        status = gy_directory_sync_parent(path, err);
    if (status == GYRE_OK)
        status = gy_directory_remove(dropping, err);
    free(dropping);
    return status;
}
