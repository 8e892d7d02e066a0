/* gyre_sim: runs clusters that exist only in here, one seed after the other, until an invariant does not hold. */
#include "world.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAST_LINES = 60 };

struct options {
    uint64_t from, to;    /* seeds */
    double minutes;       /* > 0: from `from` on, so long */
    gy_sim_plant plant;
    bool trace;
};

struct sum {
    uint64_t seeds, steps;
    struct gy_sim_counts counts;
    double simulated_s, cpu_s;
};

static double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void print_last_lines(char *text, size_t bytes)
{
    size_t from = bytes;
    for (int lines = 0; from > 0 && lines <= LAST_LINES; from--)
        lines += text[from - 1] == '\n';
    fwrite(text + from, 1, bytes - from, stdout);
}

/* The same run again, for its last events. */
static void tell(struct gy_sim *sim, uint64_t seed, gy_sim_plant plant)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *trace = open_memstream(&text, &bytes);
    if (trace) {
        gy_sim_run_seed(sim, seed, plant, trace);
        fclose(trace);
        print_last_lines(text, bytes);
        free(text);
    }
    printf("FAILED seed %" PRIu64 " at %.6f s: %s: %s\nreplay: gyre_sim --seed %" PRIu64 "%s%s --trace\n", seed,
           (double)sim->now_ns / 1e9, sim->invariant, sim->story, seed, plant ? " --plant " : "",
           plant ? gy_sim_plants[plant].name : "");
}

static bool run_one(struct gy_sim *sim, const struct options *options, uint64_t seed, struct sum *sum)
{
    bool held = gy_sim_run_seed(sim, seed, options->plant, options->trace ? stdout : NULL);
    sum->seeds++;
    sum->steps += sim->steps;
    uint64_t *to = (uint64_t *)&sum->counts;
    const uint64_t *from = (const uint64_t *)&sim->counts;
    for (size_t i = 0; i < sizeof sim->counts / sizeof *from; i++)
        to[i] += from[i];
    sum->simulated_s += (double)sim->now_ns / 1e9;
    gy_sim_fini(sim);
    return held;
}

static void print_sum(const struct sum *sum)
{
    printf("%" PRIu64 " seeds, %.0f simulated minutes in %.1f s of CPU: %.0f a CPU-minute; %" PRIu64 " steps of cores\n",
           sum->seeds, sum->simulated_s / 60, sum->cpu_s, sum->cpu_s > 0 ? sum->simulated_s / sum->cpu_s : 0, sum->steps);
    const struct gy_sim_counts *counts = &sum->counts;
    printf("%" PRIu64 " crashes, %" PRIu64 " cuts, %" PRIu64 " damaged replicas; %" PRIu64 " configurations, %" PRIu64
           " promotions, %" PRIu64 " restores, %" PRIu64 " tails cut; %" PRIu64 " writes (%" PRIu64 " unknown), %" PRIu64
           " gets; %" PRIu64 " shards lost every copy; %" PRIu64 " splits begun, %" PRIu64 " switched, %" PRIu64
           " children made, %" PRIu64 " writes too late for their shard\n",
           counts->crashes, counts->cuts, counts->damages, counts->configurations, counts->promotions, counts->restores,
           counts->tails_cut, counts->writes, counts->unknown, counts->gets, counts->dead_shards, counts->splits,
           counts->switches, counts->children, counts->aborted);
}

static int run_all(struct gy_sim *sim, const struct options *options)
{
    struct sum sum = {0};
    double began_s = cpu_seconds();
    int result = 0;
    for (uint64_t seed = options->from; options->minutes > 0 || seed <= options->to; seed++) {
        if (options->minutes > 0 && cpu_seconds() - began_s > options->minutes * 60)
            break;
        if (run_one(sim, options, seed, &sum))
            continue;
        if (options->plant) {
            printf("found %s in seed %" PRIu64 ", the %" PRIu64 ". tried, at %.3f s: %s: %s\n",
                   gy_sim_plants[options->plant].name, seed, sum.seeds, (double)sim->now_ns / 1e9, sim->invariant, sim->story);
            return 0;
        }
        if (!options->trace)
            tell(sim, seed, options->plant), gy_sim_fini(sim);
        result = 1;
        break;
    }
    sum.cpu_s = cpu_seconds() - began_s;
    print_sum(&sum);
    if (options->plant && result == 0) {
        printf("%s was not found\n", gy_sim_plants[options->plant].name);
        return 1;
    }
    return result;
}

/* The seeds that a table names, as "seed N". */
static int run_found(struct gy_sim *sim, const char *path)
{
    char line[1024];
    struct options options = {0};
    struct sum sum = {0};
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "%s cannot be read\n", path);
        return 2;
    }
    while (fgets(line, sizeof line, file))
        for (const char *at = line; (at = strstr(at, "seed ")); at++) {
            uint64_t seed = strtoull(at + 5, NULL, 10);
            if (seed && !run_one(sim, &options, seed, &sum)) {
                tell(sim, seed, GY_PLANT_NONE);
                gy_sim_fini(sim);
                fclose(file);
                return 1;
            }
        }
    fclose(file);
    print_sum(&sum);
    return 0;
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: gyre_sim --seed N | --seeds A..B | --minutes M | --found TABLE [--plant NAME] [--trace]\nplants:");
    for (int i = 1; i < GY_PLANTS; i++)
        fprintf(stderr, " %s", gy_sim_plants[i].name);
    fputc('\n', stderr);
    exit(2);
}

static gy_sim_plant plant_named(const char *name)
{
    for (int i = 1; i < GY_PLANTS; i++)
        if (strcmp(gy_sim_plants[i].name, name) == 0)
            return (gy_sim_plant)i;
    usage();
}

static uint64_t number(const char *text, const char *end)
{
    char *stop;
    uint64_t value = strtoull(text, &stop, 0);
    if (stop == text || (end ? strncmp(stop, end, strlen(end)) != 0 : *stop != '\0'))
        usage();
    return value;
}

int main(int argc, char **argv)
{
    struct options options = {.from = 1};
    static struct gy_sim sim;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0) {
            options.trace = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            options.from = options.to = number(value, NULL);
        } else if (strcmp(argv[i], "--seeds") == 0 && strstr(value, "..")) {
            options.from = number(value, "..");
            options.to = number(strstr(value, "..") + 2, NULL);
        } else if (strcmp(argv[i], "--minutes") == 0) {
            options.minutes = strtod(value, NULL);
            options.from = (uint64_t)time(NULL) << 20;
        } else if (strcmp(argv[i], "--found") == 0) {
            return run_found(&sim, value);
        } else if (strcmp(argv[i], "--plant") == 0) {
            options.plant = plant_named(value);
        } else {
            usage();
        }
        i++;
    }
    if (options.to == 0 && options.minutes <= 0)
        usage();
    return run_all(&sim, &options);
}
