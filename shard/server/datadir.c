#include "server/datadir.h"

#include "gyre/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

gyre_status gy_datadir_lock(const char *path, int *lock_fd, gyre_error *err)
{
    gyre_status status = gy_dir_lock(path, lock_fd, err);
    return status == GYRE_OK ? GYRE_OK : gyre_wrap(err, status, "data-dir");
}

static gyre_status check_name(const char *name, gyre_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (!*name || strlen(name) >= GY_NODE_NAME_BYTES || name[strspn(name, allowed)] != '\0')
        return gyre_fail(err, GYRE_INVALID, "node name '%.80s'; it has 1 to %d letters, digits, '-', '_' or '.'", name,
                         GY_NODE_NAME_BYTES - 1);
    return GYRE_OK;
}

/* Reads the stored name; "" if there is none yet. */
static gyre_status read_name(const char *file, char name[GY_NODE_NAME_BYTES], gyre_error *err)
{
    char line[GY_NODE_NAME_BYTES + 1] = "";
    FILE *stream = fopen(file, "re");
    if (!stream && errno == ENOENT) {
        name[0] = '\0';
        return GYRE_OK;
    }
    if (!stream || !fgets(line, sizeof line, stream)) {
        if (stream)
            fclose(stream);
        return gyre_fail(err, GYRE_CORRUPT, "cannot read the node's name from %s", file);
    }
    fclose(stream);
    line[strcspn(line, "\n")] = '\0';
    gyre_status status = check_name(line, err);
    if (status != GYRE_OK)
        return gyre_wrap(err, GYRE_CORRUPT, "%s", file);
    memcpy(name, line, strlen(line) + 1); /* check_name bounded it */
    return GYRE_OK;
}

/* Written beside, synced, renamed: a crash leaves the whole name or none. */
static gyre_status write_name(const char *path, const char *file, const char *name, gyre_error *err)
{
    char *beside;
    if (asprintf(&beside, "%s.new", file) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a path");
    FILE *stream = fopen(beside, "we");
    bool written = stream && fprintf(stream, "%s\n", name) > 0 && fflush(stream) == 0 && fsync(fileno(stream)) == 0;
    if (stream)
        written = fclose(stream) == 0 && written;
    written = written && rename(beside, file) == 0;
    int directory = written ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    written = directory >= 0 && fsync(directory) == 0;
    if (directory >= 0)
        close(directory);
    free(beside);
    return written ? GYRE_OK : gyre_fail(err, GYRE_INTERNAL, "cannot write the node's name to %s: %s", file, strerror(errno));
}

static gyre_status settle_name(const char *path, const char *file, const char *asked, char name[GY_NODE_NAME_BYTES],
                               gyre_error *err)
{
    char stored[GY_NODE_NAME_BYTES], fresh[GY_NODE_NAME_BYTES];
    if (*asked)
        GY_TRY(check_name(asked, err));
    GY_TRY(read_name(file, stored, err));
    if (*stored && *asked && strcmp(stored, asked) != 0)
        return gyre_fail(err, GYRE_PRECONDITION, "data directory %s belongs to node %s; this process was started as %s", path,
                         stored, asked);
    if (*stored) {
        memcpy(name, stored, sizeof stored);
        return GYRE_OK;
    }
    if (*asked)
        snprintf(fresh, sizeof fresh, "%s", asked);
    else
        snprintf(fresh, sizeof fresh, "n-%08x", randombytes_random());
    GY_TRY(write_name(path, file, fresh, err));
    memcpy(name, fresh, sizeof fresh);
    return GYRE_OK;
}

gyre_status gy_datadir_name(const char *path, const char *asked, char name[GY_NODE_NAME_BYTES], gyre_error *err)
{
    char *file;
    if (asprintf(&file, "%s/node", path) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "no memory for a path");
    gyre_status status = settle_name(path, file, asked, name, err);
    free(file);
    return status;
}
