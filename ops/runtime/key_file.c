/* key_file: the cluster's key on disk: 64 hex digits and a newline, readable by its owner only.
 *
 * A new key is written to a file beside it, synced, and given its name by link(2), which fails if the name is taken: nobody
 * ever reads half a key, and two who create at once end up with one. */
#include "gyre/lifecycle.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_BYTES = 32, HEX_CHARS = 2 * KEY_BYTES, FILE_BYTES_MAX = 256 };

/* Reads a whole small file; -1 with errno on failure. */
static ssize_t read_small(int fd, char *out, size_t bytes_max)
{
    size_t bytes = 0;
    while (bytes < bytes_max) {
        ssize_t got = read(fd, out + bytes, bytes_max - bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        bytes += (size_t)got;
    }
    return (ssize_t)bytes;
}

/* The owner of the file and its mode decide whether its content may be believed. */
static gyre_status check_file(int fd, const char *path, gyre_error *err)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "key file %s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return gyre_fail(err, GYRE_INVALID, "key file %s: not a regular file", path);
    if (info.st_mode & (S_IRWXG | S_IRWXO))
        return gyre_fail(err, GYRE_DENIED, "key file %s: mode %04o lets others at it; run: chmod 600 %s", path,
                         (unsigned)(info.st_mode & 07777), path);
    if (info.st_uid != geteuid() && info.st_uid != 0)
        return gyre_fail(err, GYRE_DENIED, "key file %s: owned by user %u, not by user %u who runs this", path,
                         (unsigned)info.st_uid, (unsigned)geteuid());
    return GYRE_OK;
}

/* Decodes 64 hex digits with blanks around them. */
static bool parse_key(const char *text, size_t bytes, uint8_t key[KEY_BYTES])
{
    while (bytes > 0 && strchr(" \t\r\n", text[bytes - 1]) && text[bytes - 1])
        bytes--;
    while (bytes > 0 && strchr(" \t\r\n", *text) && *text)
        text++, bytes--;
    size_t decoded = 0;
    uint8_t bin[KEY_BYTES];
    bool good = bytes == HEX_CHARS && sodium_hex2bin(bin, sizeof bin, text, bytes, NULL, &decoded, NULL) == 0 && decoded == KEY_BYTES;
    if (good)
        memcpy(key, bin, KEY_BYTES);
    sodium_memzero(bin, sizeof bin);
    return good;
}

gyre_status gy_key_file_read(const char *path, uint8_t key[32], gyre_error *err)
{
    /* O_NONBLOCK: a pipe in the key's place must not hang the start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        gyre_status status = errno == ENOENT ? GYRE_NOT_FOUND : errno == EACCES ? GYRE_DENIED : GYRE_UNAVAILABLE;
        return gyre_fail(err, status, "key file %s: %s", path, strerror(errno));
    }
    gyre_status status = check_file(fd, path, err);
    if (status == GYRE_OK) {
        char text[FILE_BYTES_MAX];
        ssize_t bytes = read_small(fd, text, sizeof text);
        if (bytes < 0)
            status = gyre_fail(err, GYRE_UNAVAILABLE, "key file %s: %s", path, strerror(errno));
        else if (!parse_key(text, (size_t)bytes, key))
            status = gyre_fail(err, GYRE_INVALID, "key file %s: not a key; %d hex digits are expected", path, HEX_CHARS);
        sodium_memzero(text, sizeof text);
    }
    close(fd);
    return status;
}

/* Writes and syncs a new key to fd; false with errno on failure. */
static bool write_key(int fd)
{
    uint8_t key[KEY_BYTES];
    char text[HEX_CHARS + 2];
    randombytes_buf(key, sizeof key);
    sodium_bin2hex(text, HEX_CHARS + 1, key, sizeof key);
    text[HEX_CHARS] = '\n';
    ssize_t written;
    do
        written = write(fd, text, HEX_CHARS + 1);
    while (written < 0 && errno == EINTR);
    sodium_memzero(key, sizeof key);
    sodium_memzero(text, sizeof text);
    if (written >= 0 && written < HEX_CHARS + 1)
        errno = ENOSPC;
    return written == HEX_CHARS + 1 && fsync(fd) == 0;
}

/* The name itself must survive a power cut too. */
static bool sync_directory_of(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t bytes = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    memcpy(directory, slash ? path : ".", bytes);
    directory[bytes] = 0;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool synced = fsync(fd) == 0;
    int error = errno;
    close(fd);
    errno = error;
    return synced;
}

gyre_status gy_key_file_create(const char *path, gyre_error *err)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= (int)sizeof beside)
        return gyre_fail(err, GYRE_INVALID, "key file: the path is longer than %zu bytes", sizeof beside - sizeof ".XXXXXX");
    if (sodium_init() < 0)
        return gyre_fail(err, GYRE_INTERNAL, "key file %s: no source of random bytes", path);
    int fd = mkostemp(beside, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return gyre_fail(err, GYRE_UNAVAILABLE, "key file %s: %s", path, strerror(errno));
    bool done = write_key(fd) && link(beside, path) == 0 && sync_directory_of(path);
    int error = errno;
    close(fd);
    unlink(beside);
    if (!done)
        return gyre_fail(err, error == EEXIST ? GYRE_EXISTS : GYRE_UNAVAILABLE, "key file %s: %s", path, strerror(error));
    return GYRE_OK;
}
