/* collection: what several commands do with collections. Replies are freed by gy_wire_free. */
#ifndef GY_COLLECTION_H
#define GY_COLLECTION_H

#include "cli.h"

#include <jansson.h>
#include <stdio.h>

GYRE_CHECKED gyre_status collection_get(const struct cli *cli, gyre_client *client, const char *name, Gyre__V1__Collection **out,
                                        gyre_error *err);
GYRE_CHECKED gyre_status collection_create(const struct cli *cli, gyre_client *client, const Gyre__V1__CollectionSpec *spec,
                                           Gyre__V1__Collection **out, gyre_error *err);

/* All collections, for a command; returns as cli_call does. */
int collection_list(const struct cli *cli, const char *command, Gyre__V1__ListCollectionsReply **out);

/* One row a collection. */
void collections_print(Gyre__V1__Collection *const *collections, size_t count, FILE *out);
json_t *collection_json(const Gyre__V1__Collection *collection);

/* Reads "l2", "ip" or "cosine" as a person gave it to --metric. */
GYRE_CHECKED gyre_status metric_read(const char *text, Gyre__V1__Metric *out, gyre_error *err);
const char *metric_text(Gyre__V1__Metric metric);

#endif
