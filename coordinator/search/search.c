/* How a search travels: rotate once, choose lists → gy_scatter (codes of these lists) → gy_rerank (exact distances, first of the
 * best estimates of all shards, then of whoever can still win) → again with more candidates from a shard whose cut-off could hide
 * a winner → answer. A shard that is the only one does all of it by itself. */
#include "search/search.h"

#include "search/probes.h"
#include "search/rerank.h"

#include "gyre/bound.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* First helping of candidates a shard sends for a query, 24 bytes each: enough for most queries to be certified by one scan. A
 * contest closer than that asks again for KEEP_GROWTH times as many, up to KEEP_MAX a shard and CANDIDATES_MAX in all (what a
 * shard accepts). */
enum { KEEP_FIRST = 384, KEEP_GROWTH = 8, KEEP_MAX = 65536, CANDIDATES_MAX = 4194304 };

/* What keep may be at most when so many queries ask so many shards, which may all be on one node. */
static uint32_t keep_max(size_t queries, uint32_t shards)
{
    size_t room = CANDIDATES_MAX / (queries * shards);
    return room < KEEP_MAX ? (uint32_t)room : KEEP_MAX;
}

static uint32_t first_keep(const struct gy_search_options *options, size_t queries, uint32_t shards)
{
    uint32_t keep = options->exact ? options->k
                    : options->approximate
                        ? 4 * options->k + KEEP_FIRST /* by lower bound, while the answer goes by estimate: leave room */
                        : KEEP_FIRST + 8 * ((options->k + shards - 1) / shards);
    uint32_t most = keep_max(queries, shards);
    return keep < most ? keep : most;
}

/* Marks the shards that could still hide a winner of some query, and lists those queries. */
static size_t find_undecided(const struct gy_contest *contest, bool *wanted, size_t *picked)
{
    size_t count = 0;
    memset(wanted, 0, contest->route->shard_count);
    for (size_t q = 0; q < contest->n; q++) {
        bool undecided = false;
        for (uint32_t s = 0; s < contest->route->shard_count; s++)
            if (!contest->lost[s] && gy_merge_needs(&contest->merges[q], s))
                wanted[s] = undecided = true;
        if (undecided)
            picked[count++] = q;
    }
    return count;
}

/* Whether the one shard there is decides by itself: nothing has to be merged, so its candidates need not travel. */
static bool decides_alone(const struct gy_contest *contest)
{
    return contest->route->shard_count == 1 && !contest->options->exact && !contest->options->approximate;
}

static gyre_status contest_run(struct gy_contest *contest, bool *wanted, size_t *picked, gyre_error *err)
{
    const struct gy_search_options *options = contest->options;
    uint32_t shards = contest->route->shard_count;
    for (uint32_t s = 0; s < shards; s++)
        wanted[s] = true;
    for (size_t q = 0; q < contest->n; q++)
        picked[q] = q;
    struct gy_pass pass = {.wanted = wanted, .picked = picked, .picked_count = contest->n, .alone = decides_alone(contest)};
    pass.keep = pass.alone ? options->k : first_keep(options, contest->n, shards);
    pass.share = pass.alone ? 0 : gy_merge_share(options->k, shards);
    GY_TRY(gy_scatter(contest, &pass, err));
    if (pass.alone && contest->from_codes[0]) {
        pass.alone = false;
        pass.keep = first_keep(options, contest->n, shards);
        GY_TRY(gy_scatter(contest, &pass, err));
    }
    if (options->exact || options->approximate || pass.alone)
        return GYRE_OK;
    pass.bounded = true;
    pass.share = 0;
    for (;;) {
        GY_TRY(gy_rerank(contest, err));
        pass.picked_count = find_undecided(contest, wanted, picked);
        uint32_t most = pass.picked_count ? keep_max(pass.picked_count, shards) : 0;
        if (pass.keep >= most)
            return GYRE_OK;
        pass.keep = pass.keep > most / KEEP_GROWTH ? most : pass.keep * KEEP_GROWTH;
        GY_TRY(gy_scatter(contest, &pass, err));
    }
}

static gyre_status contest_answer(struct gy_contest *contest, struct gy_search_answer *answers, gyre_error *err)
{
    const struct gy_search_options *options = contest->options;
    uint32_t lost = 0, from_codes = 0;
    for (uint32_t s = 0; s < contest->route->shard_count; s++)
        lost += contest->lost[s], from_codes += contest->from_codes[s] && !contest->lost[s];
    if (lost == contest->route->shard_count)
        return gyre_fail(err, GYRE_UNAVAILABLE, "none of the %u shards of '%s' answered", lost, contest->route->collection);
    for (size_t q = 0; q < contest->n; q++) {
        gy_merge *merge = &contest->merges[q];
        struct gy_search_basis *basis = &contest->basis[q];
        GY_TRY(gy_merge_hits(merge, options->approximate, &answers[q].hits, &answers[q].count, err));
        for (size_t i = 0; i < answers[q].count; i++)
            answers[q].hits[i].seq = contest->seqs[answers[q].hits[i].shard];
        bool hidden = false;
        for (uint32_t s = 0; s < contest->route->shard_count; s++)
            hidden |= !contest->lost[s] && gy_merge_needs(merge, s);
        basis->shards_total = contest->route->shard_count;
        basis->shards_answered = contest->route->shard_count - lost;
        basis->approximate_shards = from_codes;
        basis->exact_distances = !options->approximate && !from_codes;
        basis->certified = !from_codes && (options->exact || decides_alone(contest) || (!options->approximate && !hidden));
        basis->recall_expected = gy_probes_recall(contest->route, basis->lists_probed);
        basis->confidence = options->exact ? 1 : options->confidence;
        basis->candidates = merge->read_count + merge->open_count;
        answers[q].basis = *basis;
    }
    return GYRE_OK;
}

gyre_status gy_search_run(const gy_route *route, const float *queries, size_t n, const struct gy_search_options *options,
                          struct gy_search_answer *answers, gyre_error *err)
{
    assert(n > 0 && options->k > 0 && options->k <= GY_SEARCH_K_MAX + 1);
    memset(answers, 0, n * sizeof *answers);
    if ((uint64_t)n * options->k * route->shard_count > CANDIDATES_MAX)
        return gyre_fail(err, GYRE_INVALID, "k is %u%s for %zu queries over %u shards; their product may be %d",
                         options->k - options->spare, options->spare ? " and the point itself" : "", n, route->shard_count,
                         CANDIDATES_MAX);
    struct gy_contest contest = {.route = route, .options = options, .queries = queries, .n = n};
    gyre_status status = GYRE_OK;
    uint32_t *probes = NULL;
    float *rotated = options->exact ? NULL : malloc(n * route->dim * sizeof *rotated);
    bool *wanted = calloc(route->shard_count, sizeof *wanted);
    size_t *picked = calloc(n, sizeof *picked);
    contest.lost = calloc(route->shard_count, sizeof *contest.lost);
    contest.from_codes = calloc(route->shard_count, sizeof *contest.from_codes);
    contest.seqs = calloc(route->shard_count, sizeof *contest.seqs);
    contest.members = calloc(route->shard_count, sizeof *contest.members);
    contest.merges = calloc(n, sizeof *contest.merges);
    contest.basis = calloc(n, sizeof *contest.basis);
    if ((!rotated && !options->exact) || !wanted || !picked || !contest.lost || !contest.from_codes || !contest.seqs ||
        !contest.members || !contest.merges || !contest.basis)
        status = gyre_fail(err, GYRE_NO_MEMORY, "no memory for a search of %zu queries", n);
    if (status == GYRE_OK && options->min_seqs)
        memcpy(contest.seqs, options->min_seqs, route->shard_count * sizeof *contest.seqs);
    for (size_t q = 0; status == GYRE_OK && q < n; q++) {
        if (rotated)
            gyre_rotation_apply(gyre_codebook_rotation(route->codebook), queries + q * route->dim, rotated + q * route->dim);
        contest.basis[q].lists_probed = contest.basis[q].lists_total = gyre_codebook_lists(route->codebook);
        status = gy_merge_init(&contest.merges[q], options->k, route->shard_count, err);
    }
    contest.probe_count = gy_probes_count(route, options);
    if (status == GYRE_OK)
        status = gy_probes_choose(route, queries, rotated, n, contest.probe_count, &probes, err);
    if (status == GYRE_OK) {
        contest.rotated = rotated, contest.probes = probes;
        contest.epsilon = gyre_bound_epsilon(options->confidence, route->dim);
        status = contest_run(&contest, wanted, picked, err);
    }
    if (status == GYRE_OK)
        status = contest_answer(&contest, answers, err);
    for (size_t q = 0; contest.merges && q < n; q++)
        gy_merge_fini(&contest.merges[q]);
    free(rotated), free(probes), free(wanted), free(picked), free(contest.lost), free(contest.from_codes), free(contest.seqs),
        free(contest.members), free(contest.merges), free(contest.basis);
    return status;
}

void gy_search_answers_free(struct gy_search_answer *answers, size_t n)
{
    for (size_t q = 0; q < n; q++) {
        free(answers[q].hits);
        answers[q] = (struct gy_search_answer){0};
    }
}
