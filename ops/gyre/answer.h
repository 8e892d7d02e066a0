/* answer: what `search` shows of a reply. */
#ifndef GY_ANSWER_H
#define GY_ANSWER_H

#include "cli.h"

#include <jansson.h>
#include <stdio.h>

/* A hit a row, and the line of what the answer rests on. */
void answer_print(const Gyre__V1__SearchReply *reply, bool payloads, FILE *out);
/* {"hits": […], "basis": {…}} */
json_t *answer_json(const Gyre__V1__SearchReply *reply);

/* "4 of 4 shards, 40,000 codes scanned, …" in one line; returns out. */
enum { BASIS_TEXT_BYTES = 448 };
char *basis_text(const Gyre__V1__SearchBasis *basis, char out[BASIS_TEXT_BYTES]);

#endif
