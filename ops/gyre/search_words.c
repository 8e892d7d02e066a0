/* search_words: see search_words.h. */
#include "search_words.h"

#include <stdlib.h>

gyre_status search_words_options(const struct search_words *words, Gyre__V1__SearchOptions *out, gyre_error *err)
{
    if (words->exact && words->approximate)
        return gyre_fail(err, GYRE_INVALID, "--exact and --approximate exclude each other");
    if (words->exact && (words->nprobe || words->recall))
        return gyre_fail(err, GYRE_INVALID, "--exact looks into every list; it and %s exclude each other",
                         words->nprobe ? "--nprobe" : "--recall");
    if (words->nprobe && words->recall)
        return gyre_fail(err, GYRE_INVALID, "--nprobe and --recall exclude each other: the one says what the other asks for");
    gyre__v1__search_options__init(out);
    out->k = (uint32_t)words->k;
    out->exact = words->exact;
    out->approximate = words->approximate;
    out->allow_partial = words->partial;
    out->allow_approximate = words->from_codes;
    out->confidence = words->confidence;
    out->nprobe = (uint32_t)words->nprobe;
    return GYRE_OK;
}

gyre_status search_words_recalls(const struct search_words *words, size_t max, double *out, size_t *count, gyre_error *err)
{
    *count = 1;
    out[0] = 0;
    if (!words->recall)
        return GYRE_OK;
    size_t read = 0;
    for (const char *at = words->recall;; at++) {
        char *end;
        double recall = strtod(at, &end);
        /* strtod also takes spaces, signs, hexadecimal and "nan" */
        bool plain = end != at && strspn(at, "0123456789.") >= (size_t)(end - at);
        if (!plain || recall < 0.5 || recall > 1 || (*end && *end != ',') || read == max)
            return gyre_fail(err, GYRE_INVALID, "--recall '%.64s': %s from 0.5 to 1 is needed", words->recall,
                             max == 1 ? "a number" : "a number, or some with commas between them,");
        out[read++] = recall;
        at = end;
        if (!*end)
            break;
    }
    *count = read;
    return GYRE_OK;
}
