/* Replays a fuzz corpus without libFuzzer, then mutates every file in seeded ways, so that any compiler and any CI run
 * exercises the decoders: LLVMFuzzerTestOneInput gets each file, each of its prefixes at 64 places, and 256 byte flips. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 1 << 20, PREFIXES = 64, FLIPS = 256 };

/* Hands the target an exact-size heap copy, so that a sanitizer sees a read one byte past the end. */
static void feed(const uint8_t *data, size_t bytes)
{
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        abort();
    memcpy(copy, data, bytes);
    LLVMFuzzerTestOneInput(copy, bytes);
    free(copy);
}

static uint64_t next_random(uint64_t *state) /* splitmix64, public domain constants */
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void replay(uint8_t *data, size_t bytes)
{
    feed(data, bytes);
    for (size_t i = 0; i < PREFIXES && bytes; i++)
        feed(data, bytes * i / PREFIXES);
    uint64_t random = 1;
    for (size_t i = 0; i < FLIPS && bytes; i++) {
        uint64_t r = next_random(&random);
        size_t at = (size_t)(r >> 16) % bytes;
        uint8_t old = data[at];
        data[at] = (uint8_t)(i % 4 == 0 ? 0xff : i % 4 == 1 ? 0 : old ^ (1u << (r & 7)));
        feed(data, bytes);
        data[at] = old;
    }
}

int main(int argc, char **argv)
{
    size_t files = 0;
    for (int a = 1; a < argc; a++) {
        DIR *dir = opendir(argv[a]);
        if (!dir) {
            fprintf(stderr, "corpus %s cannot be opened\n", argv[a]);
            return 1;
        }
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            char path[4096];
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[a], entry->d_name);
            FILE *file = fopen(path, "rb");
            uint8_t *data = malloc(FILE_BYTES_MAX);
            if (!file || !data) {
                fprintf(stderr, "corpus file %s cannot be read\n", path);
                return 1;
            }
            replay(data, fread(data, 1, FILE_BYTES_MAX, file));
            fclose(file);
            free(data);
            files++;
        }
        closedir(dir);
    }
    printf("%zu corpus files replayed\n", files);
    return files ? 0 : 1; /* an empty corpus tests nothing */
}
