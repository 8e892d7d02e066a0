/* verify: `gyre backup verify`: reads a backup as a restore would, without a cluster. */
#include "backup/chain.h"

#include "args.h"
#include "output.h"
#include "progress.h"

#include <inttypes.h>

static const char command[] = "backup verify";

struct verifying {
    const char *dir;
    const backup_manifest *manifest;
    struct progress progress;
    uint64_t points, files, bytes, problems;
};

static gyre_status walk(struct verifying *verifying, size_t generation, uint32_t shard, bool index_only, gyre_error *err)
{
    GY_AUTO(backup_chain) *chain = NULL;
    struct record record;
    bool more = true;
    chain_open(&chain, verifying->dir, verifying->manifest, generation, shard, index_only);
    while (more) {
        GY_TRY(chain_next(chain, &record, &more, err));
        verifying->points += more && !index_only;
        progress_show(&verifying->progress, verifying->points);
    }
    return GYRE_OK;
}

/* Every state is put together; every file is read whole once: with the last state that it is a part of. */
static void verify_shard(struct verifying *verifying, size_t generation, uint32_t shard)
{
    const backup_manifest *manifest = verifying->manifest;
    const struct backup_shard *state = &manifest->generations[generation].shards[shard];
    bool followed = generation + 1 < manifest->count && shard < manifest->generations[generation + 1].shard_count &&
                    !manifest->generations[generation + 1].shards[shard].full;
    gyre_error err;
    verifying->files += state->file_count;
    for (size_t i = 0; i < state->file_count; i++)
        verifying->bytes += state->files[i].bytes;
    gyre_status status = walk(verifying, generation, shard, followed, &err);
    if (status == GYRE_OK)
        return;
    verifying->problems++;
    gyre_wrap(&err, status, "generation %u, shard %u", manifest->generations[generation].number, shard);
    GY_IGNORE(cli_fail(command, &err) == CLI_FAILED ? GYRE_OK : GYRE_INTERNAL); /* said on stderr; the others are looked at too */
}

int command_backup_verify(struct cli *cli, int argc, char **argv)
{
    bool quiet = false, json = false;
    const struct arg args[] = {
        {"quiet", 'q', ARG_SWITCH, &quiet, 0, 0, NULL, "no progress"},
        {"json", 0, ARG_SWITCH, &json, 0, 0, NULL, "print the figures as JSON"},
    };
    const struct usage usage = {
        command, "DIR", 1, 1,
        "Reads every file of a backup and checks it, and that the generations make what the shards had. Needs no cluster.",
        "  gyre backup verify /backups/words\n"
        "  gyre backup verify /backups/words --json\n"};
    int stop = args_read(&usage, args, sizeof args / sizeof *args, cli, &argc, argv);
    if (stop != ARGS_READ)
        return stop;
    gyre_error err;
    GY_AUTO(backup_manifest) *manifest = NULL;
    if (strlen(argv[0]) > MANIFEST_PATH_BYTES / 2)
        return args_misused(&usage, "DIR of %zu bytes; the limit is %d", strlen(argv[0]), MANIFEST_PATH_BYTES / 2);
    if (manifest_read(&manifest, argv[0], &err) != GYRE_OK)
        return cli_fail(command, &err);
    struct verifying verifying = {.dir = argv[0], .manifest = manifest};
    const struct backup_generation *newest = &manifest->generations[manifest->count - 1];
    progress_init(&verifying.progress, stderr, quiet, "read", "points", 0);
    for (size_t g = 0; g < manifest->count; g++)
        for (uint32_t s = 0; s < manifest->generations[g].shard_count; s++)
            verify_shard(&verifying, g, s);
    progress_end(&verifying.progress);
    char a[NUMBER_TEXT_BYTES], b[NUMBER_TEXT_BYTES], c[NUMBER_TEXT_BYTES];
    if (json)
        json_write(json_pack("{ss sI sI sI sI sI sb}", "collection", manifest->collection, "generations",
                             (json_int_t)manifest->count, "count", (json_int_t)generation_count(newest), "files",
                             (json_int_t)verifying.files, "bytes", (json_int_t)verifying.bytes, "problems",
                             (json_int_t)verifying.problems, "whole", verifying.problems == 0),
                   stdout);
    else
        printf("%s: %zu generations of %s, the newest of %s with %s points; %s files, %s: %s\n", argv[0], manifest->count,
               manifest->collection, newest->time, number_text(generation_count(newest), a), number_text(verifying.files, b),
               bytes_text(verifying.bytes, c), verifying.problems ? "damaged" : "whole");
    return verifying.problems ? CLI_FAILED : CLI_DONE;
}
