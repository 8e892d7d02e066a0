/* rich_status: a status as gRPC's clients read it: grpc-message, and a google.rpc.Status as grpc-status-details-bin. */
#ifndef GY_GRPC_RICH_STATUS_H
#define GY_GRPC_RICH_STATUS_H

#include "gyre/status.h"

#include <grpc/grpc.h>

#define GY_STATUS_DETAILS_KEY "grpc-status-details-bin"

/* Writes the sentence of a failed call: err's text, or the status's name if there is none; what is not UTF-8 (a sentence may
 * be cut inside a character) becomes '?'. */
void gy_rich_status_text(char text[GYRE_ERROR_TEXT_BYTES], gyre_status status, const gyre_error *err);
/* The packed google.rpc.Status; unref it. */
grpc_slice gy_rich_status_pack(gyre_status status, const char *text);

#endif
