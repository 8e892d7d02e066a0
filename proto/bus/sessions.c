#define HASH_NONFATAL_OOM 1 /* uthash would exit otherwise */
#define uthash_nonfatal_oom(element) ((void)(element))
#include "sessions.h"

#include "gyre/clock.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <uthash.h>

struct entry {
    uint64_t id;
    struct gy_session session;
    int64_t used_ns;
    struct gy_replay_window window;
    UT_hash_handle hh;
};

struct gy_sessions {
    pthread_mutex_t mu;
    struct entry *proven;   /* guarded by mu; iterates least recently used first */
    struct entry *unproven; /* guarded by mu; oldest first */
};

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

gyre_status gy_sessions_new(gy_sessions **out, gyre_error *err)
{
    gy_sessions *sessions = calloc(1, sizeof *sessions);
    if (!sessions)
        return gyre_fail(err, GYRE_NO_MEMORY, "session table");
    pthread_mutex_init(&sessions->mu, NULL);
    *out = sessions;
    return GYRE_OK;
}

static void entry_drop(struct entry **table, struct entry *entry)
{
    HASH_DEL(*table, entry);
    sodium_memzero(entry, sizeof *entry);
    free(entry);
}

void gy_sessions_free(gy_sessions *sessions)
{
    if (!sessions)
        return;
    while (sessions->proven)
        entry_drop(&sessions->proven, sessions->proven);
    while (sessions->unproven)
        entry_drop(&sessions->unproven, sessions->unproven);
    pthread_mutex_destroy(&sessions->mu);
    free(sessions);
}

/* Finds an entry and says in which table; drops it if it has been idle too long. */
static struct entry *entry_find(gy_sessions *sessions, uint64_t id, int64_t now_ns, struct entry ***table)
{
    struct entry *entry;
    *table = &sessions->proven;
    HASH_FIND(hh, sessions->proven, &id, sizeof id, entry);
    if (!entry) {
        *table = &sessions->unproven;
        HASH_FIND(hh, sessions->unproven, &id, sizeof id, entry);
    }
    if (entry && now_ns - entry->used_ns > GY_SESSION_IDLE_S * GY_SECOND_NS) {
        entry_drop(*table, entry);
        return NULL;
    }
    return entry;
}

/* Puts an entry last. False if there is no memory for the table. */
static bool entry_append(struct entry **table, struct entry *entry, size_t count_max)
{
    if (HASH_COUNT(*table) >= count_max)
        entry_drop(table, *table); /* the head is the one used longest ago */
    HASH_ADD(hh, *table, id, sizeof entry->id, entry);
    return entry->hh.tbl != NULL;
}

gyre_status gy_sessions_add(gy_sessions *sessions, uint64_t id, const struct gy_session *session, int64_t now_ns,
                            gyre_error *err)
{
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return gyre_fail(err, GYRE_NO_MEMORY, "session");
    entry->id = id;
    entry->session = *session;
    entry->used_ns = now_ns;
    pthread_mutex_lock(&sessions->mu);
    struct entry **table;
    bool added = !entry_find(sessions, id, now_ns, &table) &&
                 entry_append(&sessions->unproven, entry, GY_SESSIONS_UNPROVEN_MAX);
    pthread_mutex_unlock(&sessions->mu);
    if (added)
        return GYRE_OK;
    sodium_memzero(entry, sizeof *entry);
    free(entry);
    return gyre_fail(err, GYRE_NO_MEMORY, "session table");
}

bool gy_sessions_find(gy_sessions *sessions, uint64_t id, int64_t now_ns, struct gy_session *out)
{
    pthread_mutex_lock(&sessions->mu);
    struct entry **table, *entry = entry_find(sessions, id, now_ns, &table);
    if (entry)
        *out = entry->session;
    pthread_mutex_unlock(&sessions->mu);
    return entry != NULL;
}

bool gy_sessions_accept(gy_sessions *sessions, uint64_t id, uint64_t counter, int64_t now_ns)
{
    pthread_mutex_lock(&sessions->mu);
    struct entry **table, *entry = entry_find(sessions, id, now_ns, &table);
    bool fresh = entry && gy_replay_accept(&entry->window, counter);
    if (fresh)
        entry->used_ns = now_ns;
    if (fresh && (table != &sessions->proven || entry->hh.next)) { /* else it is last already */
        HASH_DEL(*table, entry);
        if (!entry_append(&sessions->proven, entry, GY_SESSIONS_MAX)) { /* no memory: the caller says hello again */
            sodium_memzero(entry, sizeof *entry);
            free(entry);
            fresh = false;
        }
    }
    pthread_mutex_unlock(&sessions->mu);
    return fresh;
}
