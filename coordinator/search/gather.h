/* gather: single searches that come together become one contest, so that under load they share messages to nodes, and there the
 * passes over lists.
 *
 * When few contests run, a search begins at once: nothing is gained by waiting. When as many run as there are pairs of CPUs, a
 * search waits for one of them to end, GY_GATHER_NS_MAX at most, and those that come meanwhile and ask in the same way (view, k,
 * recall, confidence …) join it. Each gets the answer it would have got alone.
 * Threads  any; a contest runs on the thread of the first that came, the others have none. One mutex, never held while a contest
 *          runs */
#ifndef GY_GATHER_H
#define GY_GATHER_H

#include "search/search.h"

enum { GY_GATHER_QUERIES_MAX = 32 };
#define GY_GATHER_NS_MAX (20 * GY_MILLISECOND_NS)

typedef struct gy_search_gather gy_search_gather;

/* running_max: contests of one kind that run before others are gathered; 0: half the number of CPUs. window_ns: how long a
 * search waits for company then; 0: GY_GATHER_NS_MAX. */
GYRE_CHECKED gyre_status gy_search_gather_new(gy_search_gather **out, uint32_t running_max, int64_t window_ns, gyre_error *err);
/* Nobody may be inside. NULL is fine. */
void gy_search_gather_free(gy_search_gather *gather);

/* Searches that wait for company now. */
size_t gy_search_gather_forming(gy_search_gather *gather);

/* The end of a search: what answer has is the callee's. The next of the group is told when it returns. */
typedef void gy_search_done(void *arg, gyre_status status, const gyre_error *err, struct gy_search_answer *answer);

/* As gy_search_run with one query, whose end is told to done exactly once: in this call, after which it returns, or later on the
 * thread of the search that this one joined. route and what cancelled looks at must live until then, query and options until this
 * returns. A search that joined another may end later than its deadline, by the other's at most, and is not cancelled alone.
 * Searches that compare every vector, may leave shards out or belong to a session run by themselves. */
void gy_search_gathered(gy_search_gather *gather, const gy_route *route, const float *query, const struct gy_search_options *options,
                        gy_search_done *done, void *arg);

#endif
