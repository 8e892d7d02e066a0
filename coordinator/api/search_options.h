/* search_options: what a client asks of a search, checked field by field. Pure. */
#ifndef GY_API_SEARCH_OPTIONS_H
#define GY_API_SEARCH_OPTIONS_H

#include "search/search.h"

#include "gyre/v1/gyre.pb-c.h"

/* Fills all but deadline and cancellation, defaults in. GYRE_INVALID names the field and what it may be; NULL, which is what a
 * request without options has, too. */
GYRE_CHECKED gyre_status gy_search_options_read(const Gyre__V1__SearchOptions *sent, struct gy_search_options *out,
                                                gyre_error *err);

#endif
