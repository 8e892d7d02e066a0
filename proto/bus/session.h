/* session: how two nodes of one cluster come to share keys for a connection, and what they do with them.
 *
 * Each hello carries an ephemeral X25519 key and ends with a BLAKE2b MAC keyed from the cluster key over everything both
 * sides have said so far, names, limits and protocol version included. The session keys are hashed from the cluster key,
 * the X25519 secrets and the transcript: who lacks the cluster key can neither join nor listen, and a cluster key that
 * leaks later opens no session recorded before.
 * A hello alone proves little, since it can be recorded and said again: a caller is believed when it has confirmed, which
 * takes the session's keys.
 * A frame is sealed in place with XChaCha20-Poly1305 (IETF): the head is the additional data, the counter is the nonce, one
 * key per direction. A reply is sealed with its request's counter, which binds it to that request; the replay window lets a
 * counter through once, so no nonce is used twice. Counter 0 is the confirmation's.
 * Threads  no shared state; call from anywhere */
#ifndef GYRE_BUS_SESSION_H
#define GYRE_BUS_SESSION_H

#include "frame.h"

enum { GY_SEAL_KEY_BYTES = 32 };

/* What is derived once from the cluster key; one key per purpose. Wipe with gy_bus_keys_wipe. */
struct gy_bus_keys {
    uint8_t cluster[GY_SEAL_KEY_BYTES];
    uint8_t hello[GY_SEAL_KEY_BYTES];
};
void gy_bus_keys_init(struct gy_bus_keys *keys, const uint8_t cluster_key[GY_SEAL_KEY_BYTES]);
void gy_bus_keys_wipe(struct gy_bus_keys *keys);

struct gy_session_keys {
    uint8_t request[GY_SEAL_KEY_BYTES];
    uint8_t reply[GY_SEAL_KEY_BYTES];
};

/* Seals bytes [GY_FRAME_SEALED_AT, bytes) of a frame whose head is written, and writes the tag; in place. */
void gy_seal(uint8_t *frame, size_t bytes, const uint8_t key[GY_SEAL_KEY_BYTES]);
/* Opens what gy_seal sealed, in place; false if a bit of head, tag or ciphertext differs (the sealed part is then lost). */
GYRE_CHECKED bool gy_unseal(uint8_t *frame, size_t bytes, const uint8_t key[GY_SEAL_KEY_BYTES]);

/* Who says hello: the bus's protocol version, name and limit. */
struct gy_self {
    uint16_t version;
    const char *node;
    uint64_t message_bytes_max;
};

/* The caller's side between hello and reply. Wiped by gy_handshake_finish or gy_handshake_wipe. */
struct gy_handshake {
    uint8_t secret_key[GY_HELLO_KEY_BYTES];
    uint8_t public_key[GY_HELLO_KEY_BYTES];
    uint8_t hello[GY_HELLO_BYTES_MAX];
    size_t hello_bytes; /* send this many of hello */
};
void gy_handshake_begin(struct gy_handshake *handshake, const struct gy_bus_keys *keys, const struct gy_self *self);
/* Takes the answer (a frame of kind hello reply). GYRE_CORRUPT if it is no hello, GYRE_UNAUTHENTICATED if it was not made
 * with our cluster key for this very hello. */
GYRE_CHECKED gyre_status gy_handshake_finish(struct gy_handshake *handshake, const struct gy_bus_keys *keys,
                                             const uint8_t *reply, size_t reply_bytes, struct gy_session_keys *out,
                                             struct gy_hello *theirs, gyre_error *err);
void gy_handshake_wipe(struct gy_handshake *handshake);

/* Writes what the caller sends first in a session. It opens with gy_unseal and the request key. */
void gy_confirm(uint8_t out[GY_CONFIRM_BYTES], uint16_t version, const struct gy_session_keys *keys);

/* The answering side, in one step: checks a hello, writes the reply and gives the session's keys.
 * Errors as gy_handshake_finish. */
GYRE_CHECKED gyre_status gy_handshake_answer(const struct gy_bus_keys *keys, const struct gy_self *self, const uint8_t *hello,
                                             size_t hello_bytes, uint8_t reply[GY_HELLO_BYTES_MAX], size_t *reply_bytes,
                                             struct gy_session_keys *out, struct gy_hello *theirs, gyre_error *err);

/* Which counters have been let through: the highest, and a bit for each of the GY_REPLAY_COUNTERS up to it. Pure.
 * Frames of one connection come in order, but their senders take counters under a lock and seal without it: a frame is
 * overtaken by all that leave while its sender is sealing or not running. So it is time that bounds overtaking, not the number
 * of calls under way, and the width is chosen for it: at the 100,000 calls a second that sealing allows, two thirds of a
 * second. A sender kept from running for longer costs its peer the connection, no more: its calls fail as if it were cut. */
enum { GY_REPLAY_COUNTERS = 65536 };
struct gy_replay_window {
    uint64_t top;
    uint64_t bits[GY_REPLAY_COUNTERS / 64];
};
/* True once per counter; false for 0, for one seen before and for one too old to tell. */
GYRE_CHECKED bool gy_replay_accept(struct gy_replay_window *window, uint64_t counter);

#endif
