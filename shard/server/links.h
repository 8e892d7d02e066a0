/* links: this node's connections to the other nodes, by name, and to the coordinators: what replicas speak through.
 *
 * Where a node is reached is what the coordinator last said (ReportReply); a node that moved gets a new connection.
 * Threads  any */
#ifndef GY_SERVER_LINKS_H
#define GY_SERVER_LINKS_H

#include "replica/transport.h"

typedef struct gy_links gy_links;

/* Nobody is reached before _start: replicas open before the bus does. */
GYRE_CHECKED gyre_status gy_links_new(gy_links **out, gyre_error *err);
/* coordinators: addresses, separated by commas. */
GYRE_CHECKED gyre_status gy_links_start(gy_links *links, gy_bus *bus, const char *coordinators, gyre_error *err);
/* Ends every connection: what is under way fails, as does what comes later. Before gy_bus_close. */
void gy_links_stop(gy_links *links);
void gy_links_free(gy_links *links); /* NULL is fine */

/* Where a node is reached from now on. Waits for callbacks of the connection it replaces: never on a bus thread. */
void gy_links_know(gy_links *links, const char *node, const char *address);

/* The slots of gy_replica_transport; self is the gy_links. */
void gy_links_call(void *self, const char *node, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns,
                   gy_on_reply *on_reply, void *arg);
/* The same, waiting for the answer: *reply is a message of reply_type (gy_wire_free). Never on a bus thread. */
GYRE_CHECKED gyre_status gy_links_call_wait(gy_links *links, const char *node, uint16_t type, const ProtobufCMessage *message,
                                            const ProtobufCMessageDescriptor *reply_type, void *reply /* T ** */,
                                            int64_t deadline_ns, gyre_error *err);
/* Asks the coordinator that answered last; one that did not answer is asked again only after the others. */
void gy_links_ask(void *self, uint16_t type, const ProtobufCMessage *message, int64_t deadline_ns, gy_on_reply *on_reply,
                  void *arg);
/* That one, in the order of _start, is to be asked next: it says that it leads. */
void gy_links_prefer(gy_links *links, size_t coordinator);

#endif
