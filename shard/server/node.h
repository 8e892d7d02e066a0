/* node: the replicas this process holds, found by (collection, shard), and their directories.
 *
 * DIR/replicas/<collection id>-<shard>/ is one replica. Whoever works with one holds it; a drop waits until nobody does.
 * With .waiting behind its name it is one that a split made of another here: it is reported, and held by nobody before
 * gy_node_ensure took it over.
 * A replica that cannot be opened is kept with its trouble, so that the others serve and a person reads why this one does not.
 * Threads  any; one mutex, held for look-ups only, never during I/O */
#ifndef GY_SERVER_NODE_H
#define GY_SERVER_NODE_H

#include "replica/replica.h"
#include "server/links.h"

typedef struct gy_node gy_node;
typedef struct gy_hosted gy_hosted; /* one replica's place in the node */

struct gy_node_options {
    const char *data_dir;
    const char *name;                 /* of the node, for sentences */
    uint64_t cache_bytes;             /* of the block cache that all replicas share */
    uint64_t memory_budget;           /* bytes that the codes of all replicas together may take */
    struct gy_replica_limits limits;  /* of each replica; budget and transport are filled in */
};

/* Opens every replica found under data_dir, several at a time. A replica that cannot be opened (damaged, disk full) is no
 * failure of the node: it is in trouble until gy_node_ensure opens it or gy_node_drop deletes it. */
GYRE_CHECKED gyre_status gy_node_open(gy_node **out, const struct gy_node_options *options, gyre_error *err);
/* Closes every replica: writes that were accepted are finished. Nobody may hold one. NULL is fine. */
void gy_node_close(gy_node *node);
const char *gy_node_name(const gy_node *node);
const char *gy_node_data_dir(const gy_node *node);
gy_budget *gy_node_budget(gy_node *node);
/* Its connections; to be started when there is a bus. */
gy_links *gy_node_links(gy_node *node);
/* Writes end, those accepted are finished; replicas that are being built are given up; the connections end. Reads and scans go on.
 * Before the bus closes, which waits for answers. */
void gy_node_end_writes(gy_node *node);

/* Holds a replica until released. GYRE_NOT_FOUND if it is not here (or being dropped), GYRE_UNAVAILABLE if it cannot serve. */
GYRE_CHECKED gyre_status gy_node_hold(gy_node *node, uint64_t collection_id, uint32_t shard, gy_hosted **out, gyre_error *err);
void gy_node_release(gy_node *node, gy_hosted *hosted);
gy_replica *gy_hosted_replica(const gy_hosted *hosted);
const char *gy_hosted_path(const gy_hosted *hosted);

/* What a read of a held replica came to. GYRE_CORRUPT: the replica is fenced: nobody gets hold of it any more, its place says so
 * (lost), and once everybody let go it is closed; its data stays. Then, and only then, another status and sentence come back:
 * GYRE_UNAVAILABLE, so that whoever asked turns to another member. */
GYRE_CHECKED gyre_status gy_node_judge(gy_node *node, gy_hosted *hosted, gyre_status status, gyre_error *err);
/* Called on a thread of the node before it waits for everybody to let go of a fenced replica: to let go of what is held for
 * longer than a request. NULL: nobody. Returns once the older one is not running any more. */
typedef void gy_on_fenced(void *self, uint64_t collection_id, uint32_t shard);
void gy_node_set_on_fenced(gy_node *node, gy_on_fenced *on_fenced, void *self);
/* Replicas fenced since the start. */
uint64_t gy_node_fenced_count(gy_node *node);

/* What a replica is to be. */
struct gy_node_wish {
    const struct gy_store_identity *identity;
    uint32_t member;               /* of config */
    struct gy_shard_config config;
    bool create;                   /* it may be made, empty: a new collection, or a member that is not in sync */
    const char *codec;
    const gyre_codebook *codebook; /* NULL: it is taken to be in this version or a newer one */
    uint32_t codebook_version;
};

/* Makes a replica exist (created, taken over if it waits, or opened anew if it was in trouble) and brings it to a
 * configuration and codebook; holds it.
 * Of an earlier member, or damaged, it is deleted and made anew if create says that it may be.
 * GYRE_PRECONDITION if the codebook is needed and was not brought; it has the configuration then, if it is here.
 * GYRE_NOT_FOUND if it is not here and may not be made, GYRE_ABORTED for an older epoch, GYRE_INVALID for another codec than it
 * was made with, GYRE_EXHAUSTED when the disk is too full for a new one, GYRE_DEADLINE. */
GYRE_CHECKED gyre_status gy_node_ensure(gy_node *node, const struct gy_node_wish *wish, int64_t deadline_ns, gy_hosted **out,
                                        gyre_error *err);
/* Closes a replica and deletes it, once nobody holds it: if it is that member (0: whichever it is). One that is not here is
 * fine. */
GYRE_CHECKED gyre_status gy_node_drop(gy_node *node, uint64_t collection_id, uint32_t shard, uint32_t member, gyre_error *err);

/* ---- a replica that is built anew (restore.h) ---- the caller holds it */

/* Whether the replica is not being dropped. */
bool gy_node_keeps(gy_node *node, gy_hosted *hosted);
/* Begins what is to take its place: gy_import_open. */
GYRE_CHECKED gyre_status gy_node_import(gy_node *node, gy_hosted *hosted, const struct gy_shard_config *config, uint64_t epoch,
                                        uint64_t seq, gy_import **out, gyre_error *err);
/* Waits until nobody else holds the replica, closes and deletes it, finishes the import in its place and opens it. The hold stays,
 * also if that fails: the place is then in trouble. */
GYRE_CHECKED gyre_status gy_node_replace(gy_node *node, gy_hosted *hosted, gy_import *import, gyre_error *err);

/* The state of every replica, also those in trouble, by (collection, shard). Free with gy_node_statuses_free. */
struct gy_node_status {
    Gyre__Node__ReplicaStatus message; /* its trouble points into text */
    uint64_t ram_bytes;
    char text[GYRE_ERROR_TEXT_BYTES];
};
GYRE_CHECKED gyre_status gy_node_statuses(gy_node *node, struct gy_node_status **out, size_t *count, gyre_error *err);
void gy_node_statuses_free(struct gy_node_status *statuses);

/* Waits until a replica came, went, took a configuration or owns less since *seen (then updated: true), or until until_ns
 * (false). */
bool gy_node_wait_change(gy_node *node, uint64_t *seen, int64_t until_ns);
/* Ends such waits. */
void gy_node_touch(gy_node *node);

#endif
