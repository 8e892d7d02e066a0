#include "session.h"

#include "gyre/clock.h"

#include <sodium.h>

_Static_assert(GY_SEAL_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key");
_Static_assert(GY_FRAME_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag");
_Static_assert(GY_HELLO_KEY_BYTES == crypto_kx_PUBLICKEYBYTES && GY_HELLO_KEY_BYTES == crypto_kx_SECRETKEYBYTES, "kx");
_Static_assert(GY_SEAL_KEY_BYTES == crypto_generichash_KEYBYTES && GY_FRAME_MAC_BYTES == crypto_generichash_BYTES, "hash");

static void derive(uint8_t out[GY_SEAL_KEY_BYTES], const uint8_t *cluster_key, const char *purpose)
{
    crypto_generichash(out, GY_SEAL_KEY_BYTES, (const uint8_t *)purpose, strlen(purpose), cluster_key, GY_SEAL_KEY_BYTES);
}

void gy_bus_keys_init(struct gy_bus_keys *keys, const uint8_t cluster_key[GY_SEAL_KEY_BYTES])
{
    derive(keys->cluster, cluster_key, "gyre bus session");
    derive(keys->hello, cluster_key, "gyre bus hello");
}

void gy_bus_keys_wipe(struct gy_bus_keys *keys)
{
    sodium_memzero(keys, sizeof *keys);
}

/* 24 bytes of nonce from the head's counter; unique per key because counters are. */
static void nonce_of(uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES], const uint8_t *frame)
{
    memset(nonce, 0, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    memcpy(nonce, frame + 16, 8);
}

void gy_seal(uint8_t *frame, size_t bytes, const uint8_t key[GY_SEAL_KEY_BYTES])
{
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    nonce_of(nonce, frame);
    uint8_t *plain = frame + GY_FRAME_SEALED_AT;
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(plain, frame + GY_FRAME_HEAD_BYTES, NULL, plain,
                                                        bytes - GY_FRAME_SEALED_AT, frame, GY_FRAME_HEAD_BYTES, NULL, nonce,
                                                        key);
}

bool gy_unseal(uint8_t *frame, size_t bytes, const uint8_t key[GY_SEAL_KEY_BYTES])
{
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    nonce_of(nonce, frame);
    uint8_t *sealed = frame + GY_FRAME_SEALED_AT;
    return crypto_aead_xchacha20poly1305_ietf_decrypt_detached(sealed, NULL, sealed, bytes - GY_FRAME_SEALED_AT,
                                                               frame + GY_FRAME_HEAD_BYTES, frame, GY_FRAME_HEAD_BYTES,
                                                               nonce, key) == 0;
}

/* MAC of one side's hello; seen is the other side's whole hello, empty for the first. */
static void hello_mac(uint8_t mac[GY_FRAME_MAC_BYTES], const struct gy_bus_keys *keys, const uint8_t *seen,
                      size_t seen_bytes, const uint8_t *hello, size_t bytes)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, keys->hello, GY_SEAL_KEY_BYTES, GY_FRAME_MAC_BYTES);
    crypto_generichash_update(&state, seen, seen_bytes);
    crypto_generichash_update(&state, hello, bytes);
    crypto_generichash_final(&state, mac, GY_FRAME_MAC_BYTES);
    sodium_memzero(&state, sizeof state);
}

static bool hello_mac_fits(const struct gy_bus_keys *keys, const uint8_t *seen, size_t seen_bytes, const uint8_t *hello,
                           size_t bytes)
{
    uint8_t mac[GY_FRAME_MAC_BYTES];
    size_t signed_bytes = bytes - GY_FRAME_MAC_BYTES;
    hello_mac(mac, keys, seen, seen_bytes, hello, signed_bytes);
    return sodium_memcmp(mac, hello + signed_bytes, sizeof mac) == 0;
}

/* One key: H(cluster key; purpose, X25519 secret, both hellos). */
static void session_key(uint8_t out[GY_SEAL_KEY_BYTES], const struct gy_bus_keys *keys, const char *purpose,
                        const uint8_t shared[crypto_kx_SESSIONKEYBYTES], const uint8_t *hello, size_t hello_bytes,
                        const uint8_t *reply, size_t reply_bytes)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, keys->cluster, GY_SEAL_KEY_BYTES, GY_SEAL_KEY_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)purpose, strlen(purpose));
    crypto_generichash_update(&state, shared, crypto_kx_SESSIONKEYBYTES);
    crypto_generichash_update(&state, hello, hello_bytes);
    crypto_generichash_update(&state, reply, reply_bytes);
    crypto_generichash_final(&state, out, GY_SEAL_KEY_BYTES);
    sodium_memzero(&state, sizeof state);
}

static struct gy_hello hello_of(const struct gy_self *self)
{
    struct gy_hello hello = {.clock_ns = gy_now_ns(), .message_bytes_max = self->message_bytes_max, .node = ""};
    size_t name_bytes = strnlen(self->node, GY_NODE_NAME_BYTES_MAX);
    memcpy(hello.node, self->node, name_bytes);
    randombytes_buf(hello.random, sizeof hello.random);
    return hello;
}

void gy_handshake_wipe(struct gy_handshake *handshake)
{
    sodium_memzero(handshake, sizeof *handshake);
}

void gy_handshake_begin(struct gy_handshake *handshake, const struct gy_bus_keys *keys, const struct gy_self *self)
{
    struct gy_hello hello = hello_of(self);
    crypto_kx_keypair(handshake->public_key, handshake->secret_key);
    memcpy(hello.public_key, handshake->public_key, sizeof hello.public_key);
    size_t bytes = gy_hello_encode(handshake->hello, self->version, GY_FRAME_HELLO, &hello);
    hello_mac(handshake->hello + bytes, keys, NULL, 0, handshake->hello, bytes);
    handshake->hello_bytes = bytes + GY_FRAME_MAC_BYTES;
}

gyre_status gy_handshake_finish(struct gy_handshake *handshake, const struct gy_bus_keys *keys, const uint8_t *reply,
                                size_t reply_bytes, struct gy_session_keys *out, struct gy_hello *theirs, gyre_error *err)
{
    struct gy_hello hello;
    gyre_status status = gy_hello_decode(&hello, reply, reply_bytes, err);
    uint8_t rx[crypto_kx_SESSIONKEYBYTES], tx[crypto_kx_SESSIONKEYBYTES];
    if (status == GYRE_OK &&
        (!hello_mac_fits(keys, handshake->hello, handshake->hello_bytes, reply, reply_bytes) ||
         crypto_kx_client_session_keys(rx, tx, handshake->public_key, handshake->secret_key, hello.public_key) != 0))
        status = gyre_fail(err, GYRE_UNAUTHENTICATED, "hello made with another cluster key");
    if (status == GYRE_OK) {
        session_key(out->request, keys, "request", tx, handshake->hello, handshake->hello_bytes, reply, reply_bytes);
        session_key(out->reply, keys, "reply", rx, handshake->hello, handshake->hello_bytes, reply, reply_bytes);
        *theirs = hello;
    }
    sodium_memzero(rx, sizeof rx), sodium_memzero(tx, sizeof tx);
    gy_handshake_wipe(handshake);
    return status;
}

void gy_confirm(uint8_t out[GY_CONFIRM_BYTES], uint16_t version, const struct gy_session_keys *keys)
{
    struct gy_frame frame = {.version = version, .kind = GY_FRAME_CONFIRM, .bytes = GY_CONFIRM_BYTES};
    gy_frame_encode(out, &frame);
    gy_seal(out, GY_CONFIRM_BYTES, keys->request);
}

gyre_status gy_handshake_answer(const struct gy_bus_keys *keys, const struct gy_self *self, const uint8_t *hello,
                                size_t hello_bytes, uint8_t reply[GY_HELLO_BYTES_MAX], size_t *reply_bytes,
                                struct gy_session_keys *out, struct gy_hello *theirs, gyre_error *err)
{
    struct gy_hello caller;
    GY_TRY(gy_hello_decode(&caller, hello, hello_bytes, err));
    if (!hello_mac_fits(keys, NULL, 0, hello, hello_bytes)) /* before any curve arithmetic for strangers */
        return gyre_fail(err, GYRE_UNAUTHENTICATED, "hello made with another cluster key");
    struct gy_hello own = hello_of(self);
    uint8_t secret_key[crypto_kx_SECRETKEYBYTES], rx[crypto_kx_SESSIONKEYBYTES], tx[crypto_kx_SESSIONKEYBYTES];
    crypto_kx_keypair(own.public_key, secret_key);
    int weak = crypto_kx_server_session_keys(rx, tx, own.public_key, secret_key, caller.public_key);
    sodium_memzero(secret_key, sizeof secret_key);
    if (weak != 0)
        return gyre_fail(err, GYRE_UNAUTHENTICATED, "hello with a weak public key");
    size_t bytes = gy_hello_encode(reply, self->version, GY_FRAME_HELLO_REPLY, &own);
    hello_mac(reply + bytes, keys, hello, hello_bytes, reply, bytes);
    *reply_bytes = bytes + GY_FRAME_MAC_BYTES;
    session_key(out->request, keys, "request", rx, hello, hello_bytes, reply, *reply_bytes);
    session_key(out->reply, keys, "reply", tx, hello, hello_bytes, reply, *reply_bytes);
    sodium_memzero(rx, sizeof rx), sodium_memzero(tx, sizeof tx);
    *theirs = caller;
    return GYRE_OK;
}

bool gy_replay_accept(struct gy_replay_window *window, uint64_t counter)
{
    if (counter == 0)
        return false;
    if (counter > window->top) {
        if (counter - window->top >= GY_REPLAY_COUNTERS)
            memset(window->bits, 0, sizeof window->bits);
        else
            for (uint64_t c = window->top + 1; c <= counter; c++)
                window->bits[c / 64 % (GY_REPLAY_COUNTERS / 64)] &= ~(UINT64_C(1) << c % 64);
        window->top = counter;
    } else if (window->top - counter >= GY_REPLAY_COUNTERS) {
        return false;
    }
    uint64_t *word = &window->bits[counter / 64 % (GY_REPLAY_COUNTERS / 64)];
    uint64_t bit = UINT64_C(1) << counter % 64;
    bool fresh = !(*word & bit);
    *word |= bit;
    return fresh;
}
