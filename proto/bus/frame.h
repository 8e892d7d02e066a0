/* frame: the bytes of one bus message, written and read. Pure: no keys, no clock, no I/O, no memory; believes nothing.
 *
 * Every message starts with the same 24 bytes, whose first 12 never change between protocol versions, so that two versions
 * can at least tell each other apart. README.md draws the layouts.
 * Threads  no state; call from anywhere */
#ifndef GYRE_BUS_FRAME_H
#define GYRE_BUS_FRAME_H

#include "gyre/base.h"

enum {
    GY_BUS_VERSION = 1,
    GY_FRAME_HEAD_BYTES = 24, /* magic u32, version u16, kind u8, refusal u8, bytes u32, zero u32, counter u64 */
    GY_FRAME_TAG_BYTES = 16,  /* Poly1305, between head and ciphertext so that the body is never moved */
    GY_FRAME_INNER_BYTES = 24,
    GY_FRAME_SEALED_AT = GY_FRAME_HEAD_BYTES + GY_FRAME_TAG_BYTES,
    GY_FRAME_BODY_AT = GY_FRAME_SEALED_AT + GY_FRAME_INNER_BYTES,
    GY_CONFIRM_BYTES = GY_FRAME_SEALED_AT, /* head and tag: nothing is sealed, the tag is all it says */
    GY_FRAME_MAC_BYTES = 32, /* keyed BLAKE2b */
    GY_NODE_NAME_BYTES_MAX = 64,
    GY_HELLO_KEY_BYTES = 32,
    GY_HELLO_RANDOM_BYTES = 16,
    GY_HELLO_NAME_AT = GY_FRAME_HEAD_BYTES + GY_HELLO_KEY_BYTES + GY_HELLO_RANDOM_BYTES + 8 + 8,
    GY_HELLO_BYTES_MAX = GY_HELLO_NAME_AT + 1 + GY_NODE_NAME_BYTES_MAX + GY_FRAME_MAC_BYTES,
};

enum gy_frame_kind {
    GY_FRAME_HELLO = 1,
    GY_FRAME_HELLO_REPLY = 2,
    GY_FRAME_REQUEST = 3,
    GY_FRAME_REPLY = 4,
    GY_FRAME_REFUSAL = 5, /* of a hello; a wrong frame after that just ends the connection */
    GY_FRAME_CONFIRM = 6, /* the caller's, before its first request: it has the session's keys, so its hello is no recording */
};

enum gy_refusal {
    GY_REFUSED_NOTHING = 0, /* in every frame that is no refusal */
    GY_REFUSED_KEY = 1,     /* the hello was made with another cluster key */
    GY_REFUSED_VERSION = 2, /* another protocol version; the refusal's own version is the one spoken here */
    GY_REFUSED_FRAME = 3,   /* no hello */
};

struct gy_frame {
    uint16_t version;
    uint8_t kind;     /* enum gy_frame_kind */
    uint8_t refusal;  /* enum gy_refusal */
    uint32_t bytes;   /* of the whole frame, this head included */
    uint64_t counter; /* of a request, counted by its sender from 1; a reply has its request's; else 0 */
};

void gy_frame_encode(uint8_t out[GY_FRAME_HEAD_BYTES], const struct gy_frame *frame);

/* Reads a head (GY_FRAME_HEAD_BYTES at data) and checks that the frame's length fits its kind and is at most bytes_max, so
 * that the rest can be waited for. GYRE_CORRUPT with the reason, or GYRE_PRECONDITION if the sender speaks another version:
 * then, as an exception, out->version is set. */
GYRE_CHECKED gyre_status gy_frame_decode(struct gy_frame *out, const uint8_t *data, uint16_t version, size_t bytes_max,
                                         gyre_error *err);

/* What a node says of itself. Both directions use the same layout. */
struct gy_hello {
    uint8_t public_key[GY_HELLO_KEY_BYTES];
    uint8_t random[GY_HELLO_RANDOM_BYTES];
    int64_t clock_ns;           /* the sender's monotonic clock */
    uint64_t message_bytes_max; /* what it accepts */
    char node[GY_NODE_NAME_BYTES_MAX + 1];
};

/* Writes head and hello without the MAC that ends it (the head counts it already); returns the bytes written. */
size_t gy_hello_encode(uint8_t out[GY_HELLO_BYTES_MAX], uint16_t version, enum gy_frame_kind kind, const struct gy_hello *hello);
/* Reads a whole hello (data after gy_frame_decode). GYRE_CORRUPT names the field. The MAC is the last GY_FRAME_MAC_BYTES. */
GYRE_CHECKED gyre_status gy_hello_decode(struct gy_hello *out, const uint8_t *data, size_t bytes, gyre_error *err);

/* GYRE_INVALID unless name is 1 to GY_NODE_NAME_BYTES_MAX bytes without control characters. */
GYRE_CHECKED gyre_status gy_node_name_check(const char *name, size_t bytes, gyre_error *err);

/* The sealed part starts with one of these, then the body. */
struct gy_request_head {
    uint64_t request_id;
    int64_t deadline_ns; /* the receiver's monotonic clock; GY_NEVER is none */
    uint16_t type;
};
struct gy_reply_head {
    uint64_t request_id;
    int64_t clock_ns;    /* the answering node's monotonic clock when it answered */
    uint16_t status;     /* gyre_status; the body is the reply if GYRE_OK, else the sentence */
};
void gy_request_head_encode(uint8_t out[GY_FRAME_INNER_BYTES], const struct gy_request_head *head);
void gy_reply_head_encode(uint8_t out[GY_FRAME_INNER_BYTES], const struct gy_reply_head *head);
/* data holds GY_FRAME_INNER_BYTES. GYRE_CORRUPT if a reserved byte is set. */
GYRE_CHECKED gyre_status gy_request_head_decode(struct gy_request_head *out, const uint8_t *data, gyre_error *err);
GYRE_CHECKED gyre_status gy_reply_head_decode(struct gy_reply_head *out, const uint8_t *data, gyre_error *err);

#endif
