/* capture: what a piece of code writes to a standard descriptor, as text. */
#ifndef GY_TEST_CAPTURE_H
#define GY_TEST_CAPTURE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct capture {
    int fd, saved;
    FILE *file;
    char text[65536];
};

static inline void capture_start(struct capture *capture, int fd)
{
    fflush(NULL);
    capture->fd = fd;
    capture->saved = dup(fd);
    capture->file = tmpfile();
    if (capture->saved < 0 || !capture->file || dup2(fileno(capture->file), fd) < 0)
        abort();
}

/* Restores the descriptor; the text is then in capture->text. */
static inline const char *capture_end(struct capture *capture)
{
    fflush(NULL);
    dup2(capture->saved, capture->fd);
    close(capture->saved);
    rewind(capture->file);
    capture->text[fread(capture->text, 1, sizeof capture->text - 1, capture->file)] = 0;
    fclose(capture->file);
    return capture->text;
}

#endif
