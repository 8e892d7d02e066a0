#include "api/search_options.h"

#include "gyre/kmeans.h"

#define CONFIDENCE_MIN 0.9
#define CONFIDENCE_MAX 0.9999999
#define RECALL_TARGET_MIN 0.5

/* How many lists to look into: by number, by recall, or all. */
static gyre_status probing_check(const Gyre__V1__SearchOptions *sent, gyre_error *err)
{
    if (sent->nprobe > GYRE_LISTS_MAX)
        return gyre_fail(err, GYRE_INVALID,
                         "options.nprobe is %u; it must be 1 to %d, or 0 for as many as options.recall_target takes",
                         sent->nprobe, GYRE_LISTS_MAX);
    if (sent->recall_target != 0 && !(sent->recall_target >= RECALL_TARGET_MIN && sent->recall_target <= 1))
        return gyre_fail(err, GYRE_INVALID, "options.recall_target is %g; it must be %g to 1, or 0 for %g", sent->recall_target,
                         RECALL_TARGET_MIN, GY_RECALL_TARGET_DEFAULT);
    if (sent->nprobe && sent->recall_target != 0)
        return gyre_fail(err, GYRE_INVALID,
                         "options.nprobe and options.recall_target exclude each other: one says how many lists, the other "
                         "lets them be chosen");
    if (sent->exact && (sent->nprobe || sent->recall_target != 0))
        return gyre_fail(err, GYRE_INVALID, "options.exact looks into every list; leave options.%s out",
                         sent->nprobe ? "nprobe" : "recall_target");
    return GYRE_OK;
}

gyre_status gy_search_options_read(const Gyre__V1__SearchOptions *sent, struct gy_search_options *out, gyre_error *err)
{
    if (!sent)
        return gyre_fail(err, GYRE_INVALID, "options is missing; options.k says how many hits are wanted");
    if (sent->k == 0 || sent->k > GY_SEARCH_K_MAX)
        return gyre_fail(err, GYRE_INVALID, "options.k is %u; it must be 1 to %d", sent->k, GY_SEARCH_K_MAX);
    if (sent->exact && sent->approximate)
        return gyre_fail(err, GYRE_INVALID, "options.exact and options.approximate exclude each other");
    if (sent->confidence != 0 && !(sent->confidence >= CONFIDENCE_MIN && sent->confidence <= CONFIDENCE_MAX))
        return gyre_fail(err, GYRE_INVALID, "options.confidence is %g; it must be %g to %.7f, or 0 for %g", sent->confidence,
                         CONFIDENCE_MIN, CONFIDENCE_MAX, GY_CONFIDENCE_DEFAULT);
    GY_TRY(probing_check(sent, err));
    *out = (struct gy_search_options){
        .k = sent->k,
        .nprobe = sent->nprobe,
        .recall_target = sent->recall_target != 0 ? sent->recall_target : GY_RECALL_TARGET_DEFAULT,
        .exact = sent->exact,
        .approximate = sent->approximate,
        .allow_partial = sent->allow_partial,
        .allow_approximate = sent->allow_approximate,
        .confidence = sent->confidence != 0 ? sent->confidence : GY_CONFIDENCE_DEFAULT,
    };
    return GYRE_OK;
}
