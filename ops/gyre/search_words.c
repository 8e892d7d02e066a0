/* search_words: see search_words.h. */
#include "search_words.h"

gyre_status search_words_options(const struct search_words *words, Gyre__V1__SearchOptions *out, gyre_error *err)
{
    if (words->exact && words->approximate)
        return gyre_fail(err, GYRE_INVALID, "--exact and --approximate exclude each other");
    gyre__v1__search_options__init(out);
    out->k = (uint32_t)words->k;
    out->exact = words->exact;
    out->approximate = words->approximate;
    out->allow_partial = words->partial;
    out->confidence = words->confidence;
    return GYRE_OK;
}
