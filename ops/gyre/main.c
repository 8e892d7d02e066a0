/* gyre: one command for everything a person does with a cluster. This file finds the command; each has its own. */
#include "args.h"

#include "gyre/lifecycle.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const struct command commands[] = {
    {"up", "start a cluster on this machine, or what of it is not running", command_up},
    {"down", "stop the cluster on this machine; its data stays", command_down},
    {"status", "show nodes and collections", command_status},
    {"collection create", "make a collection", command_collection_create},
    {"collection list", "list the collections", command_collection_list},
    {"collection info", "show one collection: its shards, what a recall costs", command_collection_info},
    {"collection update", "change how many copies a collection has", command_collection_update},
    {"collection drop", "delete a collection and its points", command_collection_drop},
    {"collection train", "partition a collection into lists and re-encode it, now", command_collection_train},
    {"drain", "move every replica of a node to others", command_drain},
    {"replace", "move every replica of a node to another one", command_replace},
    {"recover", "go on with a shard whose copies in sync are gone, losing writes", command_recover},
    {"move", "move a replica of a shard to another node", command_move},
    {"split", "halve a shard: its upper half becomes a new one", command_split},
    {"scrub", "check what the replicas of a collection have on disk", command_scrub},
    {"fsck", "check what a shard daemon that does not run keeps", command_fsck},
    {"import", "add the vectors of a file", command_import},
    {"backup verify", "read a backup and check all of it", command_backup_verify},
    {"backup", "copy a collection, or what changed in it, into a directory", command_backup},
    {"restore", "make a collection from a backup", command_restore},
    {"search", "find the nearest points", command_search},
    {"get", "show points by id", command_get},
    {"delete", "delete points by id", command_delete},
    {"count", "count the points of a collection", command_count},
    {"codec list", "show the codecs and their bytes a vector", command_codec_list},
    {"codec compare", "measure every codec on your vectors and recommend one", command_codec_compare},
    {"eval", "measure recall and speed with a file of queries", command_eval},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_help(void)
{
    printf("gyre: a sharded vector store, from the command line\n\nUsage: gyre COMMAND [operands] [options]\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-18s  %s\n", commands[i].name, commands[i].summary);
    printf("\n`gyre COMMAND --help` shows a command's options and examples.\n"
           "\nExamples:\n"
           "  gyre up --nodes 3\n"
           "  gyre import words words.npy --payload words.jsonl --create --metric cosine\n"
           "  gyre search words --like-id 42 -k 10\n"
           "  gyre down\n");
}

/* The command whose name argv begins with, and how many words its name has. */
static const struct command *find(int argc, char **argv, int *words)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *name = commands[i].name;
        const char *space = strchr(name, ' ');
        size_t first_bytes = space ? (size_t)(space - name) : strlen(name);
        if (strlen(argv[0]) != first_bytes || memcmp(argv[0], name, first_bytes) != 0)
            continue;
        if (!space) {
            *words = 1;
            return &commands[i];
        }
        if (argc > 1 && strcmp(argv[1], space + 1) == 0) {
            *words = 2;
            return &commands[i];
        }
    }
    return NULL;
}

/* Whether word begins the name of some command; with list, prints those on out. */
static bool is_group(const char *word, FILE *list)
{
    bool found = false;
    size_t bytes = strlen(word);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strncmp(commands[i].name, word, bytes) == 0 && commands[i].name[bytes] == ' ') {
            found = true;
            if (list)
                fprintf(list, "  gyre %-18s  %s\n", commands[i].name, commands[i].summary);
        }
    return found;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    gyre_error err;
    signal(SIGPIPE, SIG_IGN); /* a closed connection or pipe is an error to report, not a death */
    setenv("GRPC_VERBOSITY", "NONE", 0); /* what its lines would say is in the error we print; whoever sets it sees them */
    int taken = args_read_common(&cli, argc - 1, argv + 1, &err);
    if (taken < 0) {
        fprintf(stderr, "gyre: %s\nSee: gyre --help\n", err.text);
        return CLI_MISUSED;
    }
    argc -= 1 + taken;
    argv += 1 + taken;
    if (argc == 0) {
        fprintf(stderr, "gyre: a command is needed\nSee: gyre --help\n");
        return CLI_MISUSED;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 || strcmp(argv[0], "help") == 0) {
        print_help();
        return CLI_DONE;
    }
    if (strcmp(argv[0], "--version") == 0) {
        printf("gyre %s\n", gy_version());
        return CLI_DONE;
    }
    int words;
    const struct command *command = find(argc, argv, &words);
    if (command) {
        int code = command->run(&cli, argc - words, argv + words);
        if (fflush(stdout) != 0 || ferror(stdout)) {
            fprintf(stderr, "gyre %s: the output could not be written\n", command->name);
            return code == CLI_DONE ? CLI_FAILED : code;
        }
        return code;
    }
    if (is_group(argv[0], NULL)) {
        bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        FILE *out = help ? stdout : stderr;
        if (!help && argc > 1)
            fprintf(out, "gyre %s: there is no '%s'; there are:\n", argv[0], argv[1]);
        is_group(argv[0], out);
        return help ? CLI_DONE : CLI_MISUSED;
    }
    fprintf(stderr, "gyre: there is no command '%s'\nSee: gyre --help\n", argv[0]);
    return CLI_MISUSED;
}
