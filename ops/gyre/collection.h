/* collection: what several commands do with collections. Replies are freed by gy_wire_free. */
#ifndef GY_COLLECTION_H
#define GY_COLLECTION_H

#include "cli.h"

#include "progress.h"

#include <jansson.h>
#include <stdio.h>

GYRE_CHECKED gyre_status collection_get(const struct cli *cli, gyre_client *client, const char *name, Gyre__V1__Collection **out,
                                        gyre_error *err);
GYRE_CHECKED gyre_status collection_create(const struct cli *cli, gyre_client *client, const Gyre__V1__CollectionSpec *spec,
                                           Gyre__V1__Collection **out, gyre_error *err);

/* Shards that have points of their own: not one that a split is still making. */
uint32_t collection_shards(const Gyre__V1__Collection *collection);

/* All collections, for a command; returns as cli_call does. */
int collection_list(const struct cli *cli, const char *command, Gyre__V1__ListCollectionsReply **out);

/* One row a collection. */
void collections_print(Gyre__V1__Collection *const *collections, size_t count, FILE *out);
/* One collection on a page of its own: its row, its shards, what a recall costs; or as JSON. */
void collection_print(const Gyre__V1__Collection *collection, bool json, FILE *out);
json_t *collection_json(const Gyre__V1__Collection *collection);

/* How far a training is: its phase, then which shards are in its codebook. version_before: the newest codebook when it began.
 * Returns out. */
char *training_text(const Gyre__V1__Collection *now, uint32_t version_before, double seconds, char out[PROGRESS_TEXT_BYTES]);

/* Reads "l2", "ip" or "cosine" as a person gave it to --metric. */
GYRE_CHECKED gyre_status metric_read(const char *text, Gyre__V1__Metric *out, gyre_error *err);
/* Puts into out the codec a person named: "rabitq" with bits (0: the server's default), or a name that says its bits, bits 0.
 * GYRE_INVALID names the choices. out->codec points at name. */
GYRE_CHECKED gyre_status codec_read(const char *name, uint64_t bits, Gyre__V1__CollectionSpec *out, gyre_error *err);
const char *metric_text(Gyre__V1__Metric metric);

#endif
