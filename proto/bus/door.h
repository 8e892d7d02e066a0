/* door: where connections come from: listening and dialling, over nng's stream interface. */
#ifndef GYRE_BUS_DOOR_H
#define GYRE_BUS_DOOR_H

#include "gyre/base.h"

struct nng_stream;

typedef struct gy_listener gy_listener;
/* on_stream runs on an nng thread for each connection and owns the stream. GYRE_INVALID if address is not host:port,
 * GYRE_UNAVAILABLE if it is taken. */
GYRE_CHECKED gyre_status gy_listener_open(gy_listener **out, const char *address,
                                          void (*on_stream)(void *owner, struct nng_stream *stream), void *owner,
                                          gyre_error *err);
const char *gy_listener_address(const gy_listener *listener); /* with the port the system chose */
void gy_listener_close(gy_listener *listener); /* waits for on_stream; NULL is fine. Not on an nng thread. */

typedef struct gy_dialer gy_dialer;
/* on_dialled runs on an nng thread once per gy_dialer_dial, with NULL if there is no connection. */
GYRE_CHECKED gyre_status gy_dialer_new(gy_dialer **out, const char *address,
                                       void (*on_dialled)(void *owner, struct nng_stream *stream), void *owner,
                                       gyre_error *err);
void gy_dialer_dial(gy_dialer *dialer, int32_t wait_ms); /* one at a time */
void gy_dialer_close(gy_dialer *dialer); /* the dial under way, and any after, ends with NULL */
void gy_dialer_free(gy_dialer *dialer);  /* waits for on_dialled; NULL is fine. Not on an nng thread. */

#endif
