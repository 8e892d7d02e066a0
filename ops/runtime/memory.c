/* memory: what this process holds, and how much the machine or its control group lets it have. */
#include "gyre/lifecycle.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, LINE_BYTES = 4096 };

uint64_t gy_resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long total = 0, resident = 0;
    if (!file)
        return 0;
    int fields = fscanf(file, "%llu %llu", &total, &resident);
    fclose(file);
    return fields == 2 ? (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void lower(uint64_t *limit, uint64_t bytes)
{
    if (bytes && (!*limit || bytes < *limit))
        *limit = bytes;
}

/* "MemTotal:  8123456 kB" */
static uint64_t machine_bytes(const char *root)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    unsigned long long kilobytes = 0;
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "MemTotal: %llu kB", &kilobytes) != 1)
        ;
    fclose(file);
    return (uint64_t)kilobytes << 10;
}

/* The number in a group's file; 0: none ("max", or no such file). */
static uint64_t group_bytes(const char *root, const char *mount, const char *group, const char *name)
{
    char path[2 * PATH_BYTES];
    unsigned long long bytes = 0;
    snprintf(path, sizeof path, "%s%s%s/%s", root, mount, group, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &bytes) != 1)
        bytes = 0;
    fclose(file);
    return bytes;
}

/* A limit anywhere between the group and the root binds. In a container the names may be those of outside: then only the root is
 * there. */
static void lower_by_groups(uint64_t *limit, const char *root, const char *mount, char *group, const char *name)
{
    char *slash;
    do {
        lower(limit, group_bytes(root, mount, group, name));
        slash = strrchr(group, '/');
        if (slash)
            *slash = '\0';
    } while (slash);
}

uint64_t gy_memory_limit(const char *root)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    uint64_t limit = machine_bytes(root);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return limit;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (controllers[1] == '\0')
            lower_by_groups(&limit, root, "/sys/fs/cgroup", group, "memory.max");
        else if (strstr(controllers, "memory"))
            lower_by_groups(&limit, root, "/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
    }
    fclose(file);
    return limit;
}
