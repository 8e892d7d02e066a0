#include "server/fsck.h"

#include "server/datadir.h"

#include "replica/inspect.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WHOLE = 0, DAMAGED = 1, NOT_CHECKED = 2 };

struct fsck {
    bool json;
    const char *path;  /* of the replica under inspection */
    size_t replicas, damaged;
    uint64_t findings; /* of this replica, printed so far */
};

/* ---- output ---- */

/* As a JSON string; bytes that are no text become '?'. */
static void put_string(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            printf("\\%c", byte);
        else
            putchar(byte < 0x20 || byte >= 0x7f ? '?' : byte);
    }
    putchar('"');
}

static void on_damage(void *self, const char *family, const char *what)
{
    struct fsck *fsck = self;
    if (fsck->json) {
        printf(fsck->findings ? ",{\"family\":" : "{\"family\":");
        put_string(family);
        printf(",\"what\":");
        put_string(what);
        putchar('}');
    } else {
        if (fsck->findings == 0)
            printf("%s: DAMAGED\n", fsck->path);
        printf("  %s%s%s\n", family, *family ? ": " : "", what);
    }
    fsck->findings++;
}

static void print_json(const struct gy_inspection *found, const struct gy_inspected *of, const char *before)
{
    printf("],\"damaged\":%" PRIu64 ",\"opened\":%s", found->damaged, of->opened ? "true" : "false");
    if (of->opened) {
        printf(",\"collection\":");
        put_string(of->identity.collection);
        printf(",\"collection_id\":%" PRIu64 ",\"shard\":%u,\"member\":%u,\"quantized\":%s,\"epoch\":%" PRIu64
               ",\"applied_seq\":%" PRIu64 ",\"log_seq\":%" PRIu64,
               of->identity.collection_id, of->identity.shard, of->member, of->quantized ? "true" : "false", of->epoch,
               of->applied_seq, of->log_seq);
    }
    printf(",\"points\":%" PRIu64 ",\"vectors\":%" PRIu64 ",\"chunks\":%" PRIu64 ",\"log_entries\":%" PRIu64
           ",\"requests\":%" PRIu64 ",\"bytes\":%" PRIu64,
           found->points, found->vectors, found->chunks, found->log_entries, found->requests, found->bytes);
    if (*before) {
        printf(",\"found_before\":");
        put_string(before);
    }
    putchar('}');
}

static void print_text(const char *path, const struct gy_inspection *found, const struct gy_inspected *of, const char *before)
{
    if (!found->damaged)
        printf("%s: whole\n", path);
    if (of->opened)
        printf("  collection %s, shard %u, member %u%s, seq %" PRIu64 ": %" PRIu64 " points, %" PRIu64 " vectors, %" PRIu64
               " chunks of codes, %" PRIu64 " log entries, %" PRIu64 " requests; %" PRIu64 " bytes read\n",
               of->identity.collection, of->identity.shard, of->member, of->quantized ? " (quantized)" : "", of->applied_seq,
               found->points, found->vectors, found->chunks, found->log_entries, found->requests, found->bytes);
    if (*before)
        printf("  it does not serve, because it was found damaged before (file DAMAGED): %s\n", before);
}

/* ---- one replica ---- */

static gyre_status inspect(struct fsck *fsck, const char *path, gyre_error *err)
{
    struct gy_inspection inspection = {.on_damage = on_damage, .self = fsck};
    struct gy_inspected of;
    char before[GYRE_ERROR_TEXT_BYTES];
    GY_TRY(gy_store_check_unused(path, err));
    gy_store_damage(path, before, sizeof before);
    fsck->path = path;
    fsck->findings = 0;
    if (fsck->json) {
        printf(fsck->replicas ? ",{\"path\":" : "{\"path\":");
        put_string(path);
        printf(",\"findings\":[");
    }
    gyre_status status = gy_replica_inspect(path, &inspection, &of, err);
    if (fsck->json)
        print_json(&inspection, &of, before);
    else if (status == GYRE_OK)
        print_text(path, &inspection, &of, before);
    fsck->replicas++;
    fsck->damaged += inspection.damaged > 0;
    return status == GYRE_OK ? status : gyre_wrap(err, status, "%s", path);
}

/* ---- a directory ---- */

static bool is_there(const char *directory, const char *name)
{
    char *path;
    struct stat found;
    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return false;
    bool there = stat(path, &found) == 0;
    free(path);
    return there;
}

static int shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static gyre_status inspect_all(struct fsck *fsck, const char *directory, gyre_error *err)
{
    char *replicas;
    struct dirent **entries;
    if (asprintf(&replicas, "%s/replicas", directory) < 0)
        return gyre_fail(err, GYRE_NO_MEMORY, "path of %s", directory);
    int count = scandir(replicas, &entries, shown, alphasort);
    gyre_status status = count >= 0 ? GYRE_OK : gyre_fail(err, GYRE_INTERNAL, "%s: %s", replicas, strerror(errno));
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        if (status == GYRE_OK && asprintf(&path, "%s/%s", replicas, entries[i]->d_name) < 0)
            status = gyre_fail(err, GYRE_NO_MEMORY, "path in %s", replicas);
        if (status == GYRE_OK)
            status = inspect(fsck, path, err);
        free(path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    free(replicas);
    return status;
}

static gyre_status check(struct fsck *fsck, const char *directory, gyre_error *err)
{
    int lock_fd;
    if (is_there(directory, "IDENTITY") || is_there(directory, "CURRENT"))
        return inspect(fsck, directory, err);
    if (!is_there(directory, "replicas"))
        return gyre_fail(err, GYRE_NOT_FOUND, "%s is neither a node's data directory nor a replica's", directory);
    GY_TRY(gy_datadir_lock(directory, &lock_fd, err));
    gyre_status status = inspect_all(fsck, directory, err);
    close(lock_fd);
    return status;
}

int gy_fsck_main(int argc, char **argv)
{
    struct fsck fsck = {0};
    const char *directory = NULL;
    gyre_error err;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            fsck.json = true;
        } else if (!directory && argv[i][0] != '-') {
            directory = argv[i];
        } else {
            fprintf(stderr, "gyre-shard: usage: gyre-shard --fsck DIR [--json]; '%s' is not understood\n", argv[i]);
            return NOT_CHECKED;
        }
    }
    if (!directory) {
        fprintf(stderr, "gyre-shard: --fsck needs a directory: a node's data directory, or one replica's\n");
        return NOT_CHECKED;
    }
    if (fsck.json)
        printf("{\"replicas\":[");
    gyre_status status = check(&fsck, directory, &err);
    if (fsck.json)
        printf("],\"damaged\":%zu}\n", fsck.damaged);
    else
        printf("%zu replica%s checked, %zu damaged\n", fsck.replicas, fsck.replicas == 1 ? "" : "s", fsck.damaged);
    fflush(stdout);
    if (status != GYRE_OK) {
        fprintf(stderr, "gyre-shard: %s\n", err.text);
        return NOT_CHECKED;
    }
    return fsck.damaged ? DAMAGED : WHOLE;
}
