/* Clients are in an array, found by open addressing with linear probing, and in a list by their newest request: entries come in the
 * order of seqs, so whoever is noted moves to its end, and the first of it goes when there are too many. The requests of a client are
 * in the order of their seqs, too. */
#include "replica/window.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

enum { TABLE_PLACES = 2 * GY_WINDOW_CLIENTS, NOBODY = GY_WINDOW_CLIENTS };

struct known {
    uint64_t request, seq, deleted;
};

struct client {
    uint8_t name[GY_CLIENT_BYTES];
    uint16_t older, newer; /* clients; NOBODY: none */
    uint8_t count, room;
    struct known *known;   /* [room], count of them, oldest first */
};

struct gy_window {
    uint64_t key;
    uint64_t last_seq;
    struct client *clients; /* [room] */
    size_t count, room;
    uint16_t oldest, newest;
    uint16_t table[TABLE_PLACES]; /* client + 1; 0: empty */
};

gyre_status gy_window_new(gy_window **out, uint64_t key, gyre_error *err)
{
    gy_window *window = calloc(1, sizeof *window);
    if (!window)
        return gyre_fail(err, GYRE_NO_MEMORY, "window of requests");
    window->key = key;
    window->oldest = window->newest = NOBODY;
    *out = window;
    return GYRE_OK;
}

void gy_window_free(gy_window *window)
{
    if (!window)
        return;
    for (size_t c = 0; c < window->count; c++)
        free(window->clients[c].known);
    free(window->clients);
    free(window);
}

void gy_request_changes_fini(struct gy_request_changes *changes)
{
    free(changes->noted);
    free(changes->forgotten);
    *changes = (struct gy_request_changes){0};
}

/* ---- by name ---- */
static size_t place_of(const gy_window *window, const uint8_t *name)
{
    return XXH3_64bits_withSeed(name, GY_CLIENT_BYTES, window->key) % TABLE_PLACES;
}

/* Where the name is, or the empty place where it would be. */
static size_t find_place(const gy_window *window, const uint8_t *name)
{
    size_t place = place_of(window, name);
    while (window->table[place] && memcmp(window->clients[window->table[place] - 1].name, name, GY_CLIENT_BYTES) != 0)
        place = (place + 1) % TABLE_PLACES;
    return place;
}

/* Whoever was pushed beyond the emptied place moves back into it, so that no search ends too early. */
static void empty_place(gy_window *window, size_t hole)
{
    for (size_t place = (hole + 1) % TABLE_PLACES; window->table[place]; place = (place + 1) % TABLE_PLACES) {
        size_t home = place_of(window, window->clients[window->table[place] - 1].name);
        if ((place - home) % TABLE_PLACES >= (place - hole) % TABLE_PLACES) {
            window->table[hole] = window->table[place];
            hole = place;
        }
    }
    window->table[hole] = 0;
}

static struct client *find_client(const gy_window *window, const uint8_t *name)
{
    uint16_t found = window->table[find_place(window, name)];
    return found ? &window->clients[found - 1] : NULL;
}

static struct known *find_known(const struct client *client, uint64_t request)
{
    for (size_t i = client ? client->count : 0; i-- > 0;) /* sent again soon, if at all */
        if (client->known[i].request == request)
            return &client->known[i];
    return NULL;
}

bool gy_window_find(const gy_window *window, const uint8_t client[GY_CLIENT_BYTES], uint64_t request, uint64_t *seq,
                    uint64_t *deleted)
{
    const struct known *known = find_known(find_client(window, client), request);
    if (!known)
        return false;
    *seq = known->seq;
    *deleted = known->deleted;
    return true;
}

/* ---- by age ---- */
static void unlink_client(gy_window *window, uint16_t c)
{
    const struct client *client = &window->clients[c];
    if (client->older == NOBODY)
        window->oldest = client->newer;
    else
        window->clients[client->older].newer = client->newer;
    if (client->newer == NOBODY)
        window->newest = client->older;
    else
        window->clients[client->newer].older = client->older;
}

static void link_newest(gy_window *window, uint16_t c)
{
    window->clients[c].older = window->newest;
    window->clients[c].newer = NOBODY;
    if (window->newest == NOBODY)
        window->oldest = c;
    else
        window->clients[window->newest].newer = c;
    window->newest = c;
}

/* ---- changes ---- */
/* Room for one request more and for all that it may push out. */
static gyre_status reserve_changes(struct gy_request_changes *changes, gyre_error *err)
{
    if (changes->noted_count == changes->noted_room) {
        size_t room = changes->noted_room * 2 + 64;
        struct gy_request *noted = realloc(changes->noted, room * sizeof *noted);
        if (!noted)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu requests", room);
        changes->noted = noted;
        changes->noted_room = room;
    }
    if (changes->forgotten_count + GY_WINDOW_REQUESTS > changes->forgotten_room) {
        size_t room = changes->forgotten_room * 2 + GY_WINDOW_REQUESTS;
        uint64_t *forgotten = realloc(changes->forgotten, room * sizeof *forgotten);
        if (!forgotten)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu requests", room);
        changes->forgotten = forgotten;
        changes->forgotten_room = room;
    }
    return GYRE_OK;
}

static gyre_status reserve_known(struct client *client, gyre_error *err)
{
    if (client->count < client->room || client->room == GY_WINDOW_REQUESTS)
        return GYRE_OK;
    size_t room = client->room ? client->room * 4u : 4;
    struct known *known = realloc(client->known, room * sizeof *known);
    if (!known)
        return gyre_fail(err, GYRE_NO_MEMORY, "requests of a client");
    client->known = known;
    client->room = (uint8_t)room;
    return GYRE_OK;
}

static void forget(struct gy_request_changes *changes, const struct known *known)
{
    changes->forgotten[changes->forgotten_count++] = known->seq;
}

/* A place for one client more: a new one, or that of whoever was silent the longest. */
static gyre_status take_client(gy_window *window, uint16_t *out, struct gy_request_changes *changes, gyre_error *err)
{
    if (window->count == GY_WINDOW_CLIENTS) {
        struct client *gone = &window->clients[*out = window->oldest];
        for (size_t i = 0; i < gone->count; i++)
            forget(changes, &gone->known[i]);
        gone->count = 0;
        unlink_client(window, *out);
        empty_place(window, find_place(window, gone->name));
        return GYRE_OK;
    }
    if (window->count == window->room) {
        size_t room = window->room ? window->room * 4 : 16;
        struct client *clients = realloc(window->clients, room * sizeof *clients);
        if (!clients)
            return gyre_fail(err, GYRE_NO_MEMORY, "%zu clients", room);
        window->clients = clients;
        window->room = room;
    }
    struct client *client = &window->clients[window->count];
    *client = (struct client){0};
    GY_TRY(reserve_known(client, err));
    *out = (uint16_t)window->count++;
    return GYRE_OK;
}

/* ---- entering ---- */
static gyre_status enter(gy_window *window, const struct gy_request *request, struct gy_request_changes *changes, gyre_error *err)
{
    struct client *client = find_client(window, request->client);
    uint16_t c = NOBODY;
    if (client) {
        GY_TRY(reserve_known(client, err));
        unlink_client(window, c = (uint16_t)(client - window->clients));
    } else {
        GY_TRY(take_client(window, &c, changes, err));
        client = &window->clients[c];
        memcpy(client->name, request->client, GY_CLIENT_BYTES);
        window->table[find_place(window, client->name)] = (uint16_t)(c + 1);
    }
    link_newest(window, c);
    if (client->count == GY_WINDOW_REQUESTS) {
        forget(changes, &client->known[0]);
        memmove(client->known, client->known + 1, --client->count * sizeof *client->known);
    }
    client->known[client->count++] = (struct known){request->request, request->seq, request->deleted};
    window->last_seq = request->seq;
    return GYRE_OK;
}

gyre_status gy_window_note(gy_window *window, const uint8_t client[GY_CLIENT_BYTES], uint64_t request, uint64_t seq,
                           struct gy_request_changes *changes, gyre_error *err)
{
    struct gy_request noted = {.seq = seq, .request = request};
    memcpy(noted.client, client, GY_CLIENT_BYTES);
    assert(seq > window->last_seq && !find_known(find_client(window, client), request));
    GY_TRY(reserve_changes(changes, err));
    GY_TRY(enter(window, &noted, changes, err));
    changes->noted[changes->noted_count++] = noted;
    return GYRE_OK;
}

void gy_window_applied(gy_window *window, struct gy_request_changes *changes)
{
    for (size_t i = 0; i < changes->noted_count; i++) {
        const struct gy_request *noted = &changes->noted[i];
        struct known *known = find_known(find_client(window, noted->client), noted->request);
        if (known && known->seq == noted->seq) /* not pushed out meanwhile */
            known->deleted = noted->deleted;
    }
    changes->noted_count = changes->forgotten_count = 0;
}

/* ---- from disk ---- */
struct loading {
    gy_window *window;
    struct gy_request_changes changes; /* stay empty: nothing is pushed out of what was kept */
};

static gyre_status load(void *self, const struct gy_request *request, gyre_error *err)
{
    struct loading *loading = self;
    if (find_known(find_client(loading->window, request->client), request->request))
        return gyre_fail(err, GYRE_CORRUPT, "request %" PRIu64 " of a client is kept twice, the second time of seq %" PRIu64,
                         request->request, request->seq);
    GY_TRY(reserve_changes(&loading->changes, err));
    GY_TRY(enter(loading->window, request, &loading->changes, err));
    if (loading->changes.forgotten_count)
        return gyre_fail(err, GYRE_CORRUPT, "request of seq %" PRIu64 " is kept beside more than %d of %d clients each",
                         request->seq, GY_WINDOW_REQUESTS, GY_WINDOW_CLIENTS);
    return GYRE_OK;
}

gyre_status gy_window_load(gy_window *window, gy_store *store, gyre_error *err)
{
    struct loading loading = {.window = window};
    assert(window->count == 0);
    gyre_status status = gy_store_requests(store, load, &loading, err);
    gy_request_changes_fini(&loading.changes);
    return status == GYRE_OK ? status : gyre_wrap(err, status, "requests");
}
