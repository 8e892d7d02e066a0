/* take: see take.h.
 *
 * A shard is read by ReadShard, whose points and known ids come in the order of ids. Where it follows the generation before, the
 * ids of that one are walked beside them, from the indexes of its pieces: what is neither sent nor known is gone. Its sums are
 * then those of what is known, by the old index, and of what came: if they are not the shard's own, or an id is known that the
 * backup does not have, the shard's history is not the one that was backed up (a shard whose log was cut by an operator's
 * command, a damaged backup), and the shard is taken in full. The same comparison of a full one finds what a disk or a wire
 * changed on the way.
 *
 * A shard that was split since sends fewer points: those that moved away are gone here, and in full there. While it still holds them
 * its own checksums count them, too: then it is taken in full, and the sums of what came stand for its own. A shard that is split
 * while the backup is taken may leave hashes out that nobody was asked for: when the ranges of what was taken are no partition,
 * the collection is looked at again, and what is missing or of another range is taken.
 *
 * A shard that fails in the middle is begun again: the state it was read from is gone with the member that held it. A note
 * beside its pieces says that a shard is done, so that a backup that is interrupted goes on with the others. */
#include "backup/take.h"

#include "backup/chain.h"
#include "collection.h"
#include "progress.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CALL_SECONDS = 30, ATTEMPTS_MAX = 8, ROUNDS_MAX = 8, BACKOFF_FIRST_MS = 200, BACKOFF_MAX_MS = 5000 };

struct taking {
    const struct take *take;
    struct take_result *result;
    pthread_mutex_t mu; /* guards the rest and the result */
    pthread_cond_t changed;
    uint32_t next_shard;
    bool *wanted;       /* [made->shard_count] which are to be taken in this round */
    uint64_t points;    /* looked at */
    size_t working;
    bool stop;
};

static atomic_int interrupted;

static void on_signal(int number)
{
    atomic_store(&interrupted, number);
}

/* One attempt at one shard. */
struct reading {
    struct taking *taking;
    uint32_t number;
    bool follow;
    struct backup_shard *made;
    piece_builder *builder;
    size_t file_room;
    backup_chain *old;      /* NULL: full */
    struct record old_head;
    bool old_more;
    gyre_point_id last;     /* that came; valid if any */
    bool any;
    uint64_t live;
    bool beyond;            /* the state's count and sums are not of what comes alone */
    struct sums sums;
    uint64_t counted;       /* in taking->points */
    char broken[GYRE_ERROR_TEXT_BYTES]; /* why it cannot follow; empty: it can */
};

static const struct backup_shard *base_of(const struct reading *reading)
{
    const backup_manifest *manifest = reading->taking->take->manifest;
    return &manifest->generations[manifest->count - 1].shards[reading->number];
}

/* The history is another: not a failure of the backup, but of following. */
static gyre_status broken(struct reading *reading, const char *why, gyre_error *err)
{
    snprintf(reading->broken, sizeof reading->broken, "%s", why);
    return gyre_fail(err, GYRE_ABORTED, "%s", reading->broken); /* why may be what err says */
}

static gyre_status flush(struct reading *reading, gyre_error *err)
{
    struct backup_shard *made = reading->made;
    const struct take *take = reading->taking->take;
    if (!piece_points(reading->builder) && !piece_gone(reading->builder))
        return GYRE_OK;
    if (made->file_count == reading->file_room) {
        reading->file_room = reading->file_room ? reading->file_room * 2 : 16;
        made->files = cli_resize(made->files, reading->file_room, sizeof *made->files);
    }
    struct backup_file file = {.points = piece_points(reading->builder), .gone = piece_gone(reading->builder)};
    size_t bytes;
    uint8_t *data = piece_seal(reading->builder, &bytes, file.hash);
    file.bytes = bytes;
    char path[MANIFEST_PATH_BYTES];
    piece_path(path, take->dir, take->made->number, reading->number, made->file_count);
    gyre_status status = file_write(path, data, bytes, err);
    free(data);
    GY_TRY(status);
    made->files[made->file_count++] = file;
    made->points += file.points, made->gone += file.gone;
    pthread_mutex_lock(&reading->taking->mu);
    reading->taking->result->bytes += bytes;
    pthread_mutex_unlock(&reading->taking->mu);
    return GYRE_OK;
}

static gyre_status put(struct reading *reading, const struct record *record, gyre_error *err)
{
    piece_add(reading->builder, record);
    return piece_full(reading->builder) ? flush(reading, err) : GYRE_OK;
}

static gyre_status step_old(struct reading *reading, gyre_error *err)
{
    gyre_status status = chain_next(reading->old, &reading->old_head, &reading->old_more, err);
    return status == GYRE_OK ? status : broken(reading, err ? err->text : "the earlier backup cannot be read", err);
}

/* What the earlier backup has before id (NULL: all that is left) is gone; *had: it has id too, as old_head. */
static gyre_status pass_old(struct reading *reading, const gyre_point_id *id, bool *had, gyre_error *err)
{
    *had = false;
    while (reading->old && reading->old_more) {
        int order = id ? gyre_point_id_compare(&reading->old_head.id, id) : -1;
        *had = order == 0;
        if (order >= 0)
            break;
        struct record gone = {.id = reading->old_head.id, .gone = true};
        GY_TRY(put(reading, &gone, err));
        GY_TRY(step_old(reading, err));
    }
    return GYRE_OK;
}

static gyre_status check_order(struct reading *reading, const gyre_point_id *id, gyre_error *err)
{
    if (reading->any && gyre_point_id_compare(&reading->last, id) >= 0)
        return gyre_fail(err, GYRE_CORRUPT, "ids do not ascend");
    reading->last = *id;
    reading->any = true;
    reading->live++;
    return GYRE_OK;
}

static gyre_status take_known(struct reading *reading, const gyre_point_id *id, gyre_error *err)
{
    bool had;
    GY_TRY(check_order(reading, id, err));
    GY_TRY(pass_old(reading, id, &had, err));
    if (!had)
        return broken(reading, "it has a point of before the last backup that the backup does not have", err);
    sums_add(&reading->sums, reading->old_head.sums);
    return step_old(reading, err);
}

static gyre_status take_point(struct reading *reading, const gyre_point_id *id, const Gyre__V1__Point *point, gyre_error *err)
{
    bool had;
    size_t dim = reading->taking->take->made->dim;
    GY_TRY(check_order(reading, id, err));
    if (point->n_vector != dim)
        return gyre_fail(err, GYRE_CORRUPT, "a vector of %zu floats; dim is %zu", point->n_vector, dim);
    GY_TRY(gy_payload_check(point->payload, err));
    GY_TRY(pass_old(reading, id, &had, err));
    if (had)
        GY_TRY(step_old(reading, err));
    struct record record = {.id = *id, .version = point->version, .payload = point->payload,
                            .payload_bytes = strlen(point->payload), .vector = (const uint8_t *)point->vector};
    record.sums = sums_of(id, record.version, record.payload, record.payload_bytes, point->vector, dim);
    sums_add(&reading->sums, record.sums);
    return put(reading, &record, err);
}

static gyre_status id_of(const Gyre__V1__Point *point, gyre_point_id *out, gyre_error *err)
{
    if (point->id && point->id->id_case == GYRE__V1__POINT_ID__ID_UUID)
        return gyre_point_id_from_uuid(out, point->id->uuid, err);
    if (!point->id || point->id->id_case != GYRE__V1__POINT_ID__ID_NUM)
        return gyre_fail(err, GYRE_CORRUPT, "a point without an id");
    *out = gyre_point_id_from_number(point->id->num);
    return GYRE_OK;
}

/* Points and known ids of a reply, in one order. */
static gyre_status take_reply(struct reading *reading, const Gyre__V1__ReadShardReply *reply, gyre_error *err)
{
    size_t known_count = reply->known.len / GYRE_ID_BYTES, k = 0, p = 0;
    if (reply->known.len % GYRE_ID_BYTES || (known_count && !reading->old))
        return gyre_fail(err, GYRE_CORRUPT, "%zu bytes of known ids", reply->known.len);
    while (k < known_count || p < reply->n_points) {
        gyre_point_id id, known;
        if (p < reply->n_points)
            GY_TRY(id_of(reply->points[p], &id, err));
        if (k < known_count)
            memcpy(known.bytes, reply->known.data + k * GYRE_ID_BYTES, GYRE_ID_BYTES);
        if (p == reply->n_points || (k < known_count && gyre_point_id_compare(&known, &id) < 0)) {
            GY_TRY(take_known(reading, &known, err));
            k++;
        } else {
            GY_TRY(take_point(reading, &id, reply->points[p], err));
            p++;
        }
    }
    struct taking *taking = reading->taking;
    pthread_mutex_lock(&taking->mu);
    taking->points += reply->n_points + known_count;
    bool stop = taking->stop;
    pthread_mutex_unlock(&taking->mu);
    reading->counted += reply->n_points + known_count;
    return stop ? gyre_fail(err, GYRE_CANCELLED, "the backup stops") : GYRE_OK;
}

/* The first reply says of which state all are. */
static gyre_status take_state(struct reading *reading, const Gyre__V1__ReadShardReply *reply, bool first, gyre_error *err)
{
    const struct backup_generation *made = reading->taking->take->made;
    struct backup_shard *shard = reading->made;
    struct sums sums = {reply->point_sum, reply->vector_sum};
    if (strcmp(reply->cluster, made->cluster) != 0 || reply->collection_id != made->collection_id || reply->dim != made->dim)
        return gyre_fail(err, GYRE_PRECONDITION, "the collection was made anew while it was backed up");
    if (!first && (reply->seq != shard->seq || reply->count != shard->count || !sums_equal(sums, shard->sums) ||
                   reply->hash_first != shard->hash_first || reply->hash_last != shard->hash_last))
        return gyre_fail(err, GYRE_CORRUPT, "replies of two states");
    if (reading->follow && reply->beyond)
        return broken(reading, "it still holds points that a split gave to another shard: its checksums are of these, too", err);
    reading->beyond = reply->beyond;
    if (reading->follow && reply->seq < base_of(reading)->seq)
        return broken(reading, "its log ends before the last backup's", err);
    *shard = (struct backup_shard){
        .full = !reading->follow, .seq = reply->seq, .epoch = reply->epoch, .count = reply->count, .sums = sums,
        .codebook_version = reply->codebook_version, .points = shard->points, .gone = shard->gone, .files = shard->files,
        .file_count = shard->file_count, .hash_first = reply->hash_first, .hash_last = reply->hash_last};
    return GYRE_OK;
}

static gyre_status finish(struct reading *reading, gyre_error *err)
{
    bool had;
    GY_TRY(pass_old(reading, NULL, &had, err));
    GY_TRY(flush(reading, err));
    if (reading->beyond)
        reading->made->count = reading->live, reading->made->sums = reading->sums;
    if (reading->live == reading->made->count && sums_equal(reading->sums, reading->made->sums))
        return GYRE_OK;
    if (reading->follow)
        return broken(reading, "what it has and the last backup had do not go together", err);
    return gyre_fail(err, GYRE_CORRUPT,
                     "%" PRIu64 " points came, and their checksums are not those of the %" PRIu64 " that the shard says it has",
                     reading->live, reading->made->count);
}

static gyre_status call(const struct reading *reading, const ProtobufCBinaryData *token, bool end,
                        Gyre__V1__ReadShardReply **reply, gyre_error *err)
{
    const struct take *take = reading->taking->take;
    Gyre__V1__ReadShardRequest request = GYRE__V1__READ_SHARD_REQUEST__INIT;
    request.collection = (char *)take->collection;
    request.shard = reading->number;
    request.since = reading->follow ? base_of(reading)->seq : 0;
    request.token = *token;
    request.end = end;
    return gyre_client_call(take->client, "/gyre.v1.Collections/ReadShard", &request.base,
                            &gyre__v1__read_shard_reply__descriptor, reply, cli_deadline_ns(take->cli, CALL_SECONDS), err);
}

static gyre_status read_all(struct reading *reading, gyre_error *err)
{
    Gyre__V1__ReadShardReply *last = NULL;
    gyre_status status = GYRE_OK;
    for (bool done = false; status == GYRE_OK && !done;) {
        Gyre__V1__ReadShardReply *reply = NULL;
        ProtobufCBinaryData token = last ? last->token : (ProtobufCBinaryData){0};
        status = call(reading, &token, false, &reply, err);
        if (status != GYRE_OK)
            break;
        status = take_state(reading, reply, !last, err);
        if (status == GYRE_OK)
            status = take_reply(reading, reply, err);
        if (status == GYRE_OK && !reply->done && !reply->token.len)
            status = gyre_fail(err, GYRE_CORRUPT, "a reply that is not the last, without a token");
        done = reply->done;
        gy_wire_free(last);
        last = reply;
    }
    Gyre__V1__ReadShardReply *ended = NULL;
    if (status != GYRE_OK && last && last->token.len && call(reading, &last->token, true, &ended, NULL) == GYRE_OK)
        gy_wire_free(ended); /* the node need not hold it any longer */
    gy_wire_free(last);
    return status == GYRE_OK ? finish(reading, err) : status;
}

/* Pieces of an attempt that came to nothing. */
static void remove_pieces(const struct take *take, uint32_t shard)
{
    char path[MANIFEST_PATH_BYTES];
    size_t i = 0;
    do
        piece_path(path, take->dir, take->made->number, shard, i++);
    while (unlink(path) == 0);
}

static gyre_status attempt(struct taking *taking, uint32_t shard, bool follow, char why[GYRE_ERROR_TEXT_BYTES], gyre_error *err)
{
    const struct take *take = taking->take;
    struct backup_shard made = {0};
    struct reading reading = {.taking = taking, .number = shard, .follow = follow, .made = &made};
    gyre_status status = GYRE_OK;
    remove_pieces(take, shard);
    reading.builder = piece_builder_new(take->made->dim);
    if (follow) {
        chain_open(&reading.old, take->dir, take->manifest, take->manifest->count - 1, shard, true);
        status = step_old(&reading, err);
    }
    if (status == GYRE_OK)
        status = read_all(&reading, err);
    chain_close(reading.old);
    piece_builder_free(reading.builder);
    if (status == GYRE_OK)
        take->made->shards[shard] = made;
    else
        backup_shard_fini(&made);
    pthread_mutex_lock(&taking->mu);
    if (status != GYRE_OK)
        taking->points -= reading.counted;
    pthread_mutex_unlock(&taking->mu);
    snprintf(why, GYRE_ERROR_TEXT_BYTES, "%s", reading.broken);
    return status;
}

static bool may_pass(gyre_status status)
{
    return status == GYRE_UNAVAILABLE || status == GYRE_ABORTED || status == GYRE_DEADLINE || status == GYRE_EXHAUSTED;
}

/* Waits before the next attempt, or until the backup stops. */
static bool pause_before(struct taking *taking, unsigned attempt_number)
{
    int64_t wait_ms = (int64_t)BACKOFF_FIRST_MS << attempt_number;
    int64_t until_ns = gy_now_ns() + (wait_ms < BACKOFF_MAX_MS ? wait_ms : BACKOFF_MAX_MS) * GY_MILLISECOND_NS;
    struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
    pthread_mutex_lock(&taking->mu);
    taking->result->retries++;
    while (!taking->stop && gy_now_ns() < until_ns)
        pthread_cond_timedwait(&taking->changed, &taking->mu, &until);
    bool go_on = !taking->stop;
    pthread_mutex_unlock(&taking->mu);
    return go_on;
}

/* Whose note it is: nothing but this generation of this collection, following the same one. */
static void note_key(const struct take *take, char out[MANIFEST_PATH_BYTES])
{
    snprintf(out, MANIFEST_PATH_BYTES, "%s/%016" PRIx64 "/%u/%u", take->made->cluster, take->made->collection_id,
             take->made->number, take->follow);
}

static bool done_before(struct taking *taking, uint32_t shard, const char *key)
{
    const struct take *take = taking->take;
    struct backup_shard noted;
    if (shard_note_read(&noted, shard, key, take->dir, take->made->number, NULL) != GYRE_OK)
        return false;
    take->made->shards[shard] = noted;
    pthread_mutex_lock(&taking->mu);
    taking->result->resumed++;
    taking->points += noted.count;
    pthread_mutex_unlock(&taking->mu);
    return true;
}

static gyre_status take_shard(struct taking *taking, uint32_t shard, gyre_error *err)
{
    const struct take *take = taking->take;
    char key[MANIFEST_PATH_BYTES], why[GYRE_ERROR_TEXT_BYTES];
    bool follow = take->follow;
    note_key(take, key);
    if (done_before(taking, shard, key))
        return GYRE_OK;
    const struct backup_generation *base = follow ? &take->manifest->generations[take->manifest->count - 1] : NULL;
    if (base && shard >= base->shard_count) {
        follow = false;
        snprintf(taking->result->reasons[shard], GYRE_ERROR_TEXT_BYTES, "a split has made it since the last backup");
    } else if (base && base->shards[shard].chain >= MANIFEST_CHAIN_MAX) {
        follow = false;
        snprintf(taking->result->reasons[shard], GYRE_ERROR_TEXT_BYTES, "%d generations follow each other; that is the limit",
                 MANIFEST_CHAIN_MAX);
    }
    for (unsigned number = 0;; number++) {
        gyre_status status = attempt(taking, shard, follow, why, err);
        if (status == GYRE_OK)
            return shard_note_write(&take->made->shards[shard], shard, key, take->dir, take->made->number, err);
        if (why[0]) {
            follow = false;
            memcpy(taking->result->reasons[shard], why, sizeof why);
            continue;
        }
        if (!may_pass(status))
            return gyre_wrap(err, status, "shard %u", shard);
        if (number + 1 >= ATTEMPTS_MAX || !pause_before(taking, number))
            return gyre_wrap(err, status, "shard %u: after %u attempts", shard, number + 1);
    }
}

static void *work(void *arg)
{
    struct taking *taking = arg;
    gyre_error err = {0};
    gyre_status status = GYRE_OK;
    for (;;) {
        pthread_mutex_lock(&taking->mu);
        while (taking->next_shard < taking->take->made->shard_count && !taking->wanted[taking->next_shard])
            taking->next_shard++;
        bool more = !taking->stop && taking->next_shard < taking->take->made->shard_count;
        uint32_t shard = taking->next_shard;
        taking->next_shard += more;
        pthread_mutex_unlock(&taking->mu);
        if (!more || (status = take_shard(taking, shard, &err)) != GYRE_OK)
            break;
    }
    pthread_mutex_lock(&taking->mu);
    if (status != GYRE_OK && status != GYRE_CANCELLED && taking->result->failure.status == GYRE_OK)
        taking->result->failure = err;
    taking->stop |= status != GYRE_OK;
    taking->working--;
    pthread_cond_broadcast(&taking->changed);
    pthread_mutex_unlock(&taking->mu);
    return NULL;
}

static void watch(struct taking *taking, struct progress *progress)
{
    pthread_mutex_lock(&taking->mu);
    while (taking->working) {
        int64_t until_ns = gy_now_ns() + 100 * GY_MILLISECOND_NS; /* also how soon an interrupt is seen */
        struct timespec until = {.tv_sec = until_ns / GY_SECOND_NS, .tv_nsec = until_ns % GY_SECOND_NS};
        pthread_cond_timedwait(&taking->changed, &taking->mu, &until);
        if (atomic_load(&interrupted) && !taking->stop) {
            taking->stop = true;
            pthread_cond_broadcast(&taking->changed);
        }
        uint64_t points = taking->points;
        pthread_mutex_unlock(&taking->mu);
        progress_show(progress, points);
        pthread_mutex_lock(&taking->mu);
    }
    pthread_mutex_unlock(&taking->mu);
}

/* One thread a shard, `parallel` of them at a time, until all that are wanted are taken or something fails. */
static void take_wanted(struct taking *taking, struct progress *progress)
{
    const struct take *take = taking->take;
    pthread_t *threads = cli_alloc(take->parallel, sizeof *threads);
    size_t started = 0;
    taking->next_shard = 0;
    for (; started < take->parallel; started++) {
        pthread_mutex_lock(&taking->mu);
        taking->working++;
        pthread_mutex_unlock(&taking->mu);
        if (pthread_create(&threads[started], NULL, work, taking) != 0) {
            pthread_mutex_lock(&taking->mu);
            taking->working--;
            pthread_mutex_unlock(&taking->mu);
            break;
        }
    }
    if (!started)
        GY_IGNORE(gyre_fail(&taking->result->failure, GYRE_EXHAUSTED, "no thread could be started")); /* the sentence is wanted */
    watch(taking, progress);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* Room for so many shards; all of them are wanted. */
static void make_room(struct taking *taking, uint32_t shards)
{
    struct backup_generation *made = taking->take->made;
    struct take_result *result = taking->result;
    uint32_t before = made->shard_count;
    if (shards > before) {
        made->shards = cli_resize(made->shards, shards, sizeof *made->shards);
        memset(made->shards + before, 0, (shards - before) * sizeof *made->shards);
        result->reasons = cli_resize(result->reasons, shards, sizeof *result->reasons);
        memset(result->reasons + before, 0, (shards - before) * sizeof *result->reasons);
        made->shard_count = shards;
    }
    free(taking->wanted);
    taking->wanted = cli_alloc(made->shard_count, sizeof *taking->wanted);
    for (uint32_t s = 0; s < made->shard_count; s++)
        taking->wanted[s] = true;
}

static bool has_range(const struct backup_shard *shard, const Gyre__V1__ShardInfo *info)
{
    uint64_t first, last;
    return sscanf(info->hash_first, "%16" SCNx64, &first) == 1 && sscanf(info->hash_last, "%16" SCNx64, &last) == 1 &&
           shard->hash_first == first && shard->hash_last == last;
}

/* Looks at the collection again: wanted is what there was not when it was taken, or is of another range by now. */
static gyre_status look_again(struct taking *taking, gyre_error *err)
{
    const struct take *take = taking->take;
    Gyre__V1__Collection *now = NULL;
    GY_TRY(collection_get(take->cli, take->client, take->collection, &now, err));
    uint32_t before = take->made->shard_count, shards = collection_shards(now);
    gyre_status status = GYRE_OK;
    if (now->id != take->made->collection_id)
        status = gyre_fail(err, GYRE_PRECONDITION, "the collection was made anew while it was backed up");
    else if (shards > now->n_shards || shards < before)
        status = gyre_fail(err, GYRE_CORRUPT, "the coordinator describes %zu of %u shards; there were %u", now->n_shards, shards,
                           before);
    if (status == GYRE_OK)
        make_room(taking, shards);
    for (uint32_t s = 0; status == GYRE_OK && s < before; s++) {
        struct backup_shard *taken = &take->made->shards[s];
        taking->wanted[s] = !has_range(taken, now->shards[s]);
        if (!taking->wanted[s])
            continue;
        taking->points -= taken->count;
        taking->result->reasons[s][0] = '\0';
        backup_shard_fini(taken);
        shard_note_remove(take->dir, take->made->number, s);
    }
    gy_wire_free(now);
    return status;
}

static void take_rounds(struct taking *taking, struct progress *progress)
{
    struct take_result *result = taking->result;
    make_room(taking, taking->take->made->shard_count);
    for (unsigned round = 0;; round++) {
        gyre_error err = {0};
        gyre_status status = GYRE_OK;
        take_wanted(taking, progress);
        if (taking->stop || result->failure.status != GYRE_OK || generation_is_whole(taking->take->made))
            return;
        if (round == ROUNDS_MAX)
            status = gyre_fail(&err, GYRE_ABORTED, "shards were split while they were backed up, again and again");
        else if (pause_before(taking, round))
            status = look_again(taking, &err);
        if (status != GYRE_OK) {
            result->failure = err;
            return;
        }
    }
}

void take_run(const struct take *take, struct take_result *result)
{
    *result = (struct take_result){.reasons = cli_alloc(take->made->shard_count, sizeof *result->reasons)};
    char path[MANIFEST_PATH_BYTES];
    generation_path(path, take->dir, take->made->number);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        GY_IGNORE(gyre_fail(&result->failure, GYRE_PRECONDITION, "%s: %s", path,
                            strerror(errno))); /* the sentence is what is wanted */
        return;
    }
    struct taking taking = {.take = take, .result = result};
    struct progress progress;
    progress_init(&progress, stderr, take->quiet, "backed up", "points", take->points_expected);
    cli_cond_init(&taking.changed);
    pthread_mutex_init(&taking.mu, NULL);
    struct sigaction on_stop = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}; /* the second signal ends us at once */
    sigaction(SIGINT, &on_stop, NULL);
    sigaction(SIGTERM, &on_stop, NULL);
    take_rounds(&taking, &progress);
    progress_end(&progress);
    result->seconds = (double)(gy_now_ns() - progress.started_ns) / (double)GY_SECOND_NS;
    result->signal = atomic_load(&interrupted);
    free(taking.wanted);
    pthread_mutex_destroy(&taking.mu);
    pthread_cond_destroy(&taking.changed);
}

void take_forget_notes(const struct take *take)
{
    for (uint32_t s = 0; s < take->made->shard_count; s++)
        shard_note_remove(take->dir, take->made->number, s);
}
