/* A replica that proved damaged stays so: the next read of the same block may come from a cache, and the next start finds nothing
 * wrong as long as nobody reads it. */
#include "store/rocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MARK "DAMAGED"

static FILE *mark_open(const char *path, const char *mode)
{
    char *name;
    if (asprintf(&name, "%s/" MARK, path) < 0)
        return NULL;
    FILE *file = fopen(name, mode);
    free(name);
    return file;
}

gyre_status gy_store_mark_damaged(const char *path, const char *why, gyre_error *err)
{
    FILE *file = mark_open(path, "we");
    bool written = file && fprintf(file, "%s\n", why) > 0 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (file)
        written = fclose(file) == 0 && written;
    int directory = written ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    written = directory >= 0 && fsync(directory) == 0;
    if (directory >= 0)
        close(directory);
    return written ? GYRE_OK : gyre_fail(err, GYRE_INTERNAL, "%s/" MARK " cannot be written: %s", path, strerror(errno));
}

void gy_store_damage(const char *path, char *text, size_t bytes)
{
    FILE *file = mark_open(path, "re");
    *text = 0;
    if (!file)
        return;
    if (!fgets(text, (int)bytes, file) || *text == '\n') /* made, and a crash before it was filled */
        snprintf(text, bytes, "it does not say how");
    text[strcspn(text, "\n")] = 0;
    fclose(file);
}
