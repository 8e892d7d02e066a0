/* Shared by the tests of split replicas: halves of the hashes, and replicas that forget all that is foreign. */
#ifndef GY_SPLIT_FIXTURE_H
#define GY_SPLIT_FIXTURE_H

#include "points_fixture.h"
#include "store/split.h"

#define HALF (UINT64_C(1) << 63)
static const struct gy_hash_range whole = {0, UINT64_MAX}, lower = {0, HALF - 1}, upper = {HALF, UINT64_MAX};
static const uint8_t hash_key[GY_HASH_KEY_BYTES] = {3, 1, 4, 1, 5, 9, 2, 6};

static inline bool is_in(struct gy_hash_range range, uint64_t number)
{
    gyre_point_id id = gyre_point_id_from_number(number);
    return gy_range_has(range, gy_point_hash(hash_key, &id));
}

static inline size_t count_of(struct gy_hash_range range, uint64_t numbers)
{
    size_t count = 0;
    for (uint64_t n = 0; n < numbers; n++)
        count += is_in(range, n);
    return count;
}

/* An entry of the log that is applied otherwise than by fixture_apply. */
static inline uint64_t split_entry(struct fixture *f)
{
    gyre_error err;
    struct gy_log_entry entry = {1, ++f->seq, NULL, 0};
    assert_ok(gy_store_log_append(f->store, &entry, 1, false, &err));
    return f->seq;
}

static inline void split_narrow(struct fixture *f, struct gy_hash_range range)
{
    gyre_error err;
    assert_ok(gy_points_narrow(f->points, range, hash_key, split_entry(f), &err));
}

/* Forgets at most so many foreign points; how many it were. */
static inline size_t split_forget(struct fixture *f, size_t most)
{
    gyre_error err;
    size_t count;
    gyre_point_id *ids = malloc((most + 1) * sizeof *ids);
    assert_ok(gy_points_foreign(f->points, ids, most, &count, &err));
    assert_ok(gy_points_forget(f->points, ids, count, split_entry(f), &err));
    free(ids);
    return count;
}

/* Makes a child, as of the entry behind what is applied, and opens it. */
static inline void split_child(struct fixture *f, const char *name, uint32_t shard, const struct gy_shard_config *config,
                               struct gy_hash_range range, struct fixture *child)
{
    gyre_error err;
    struct gy_store_identity identity = fixture_identity;
    identity.shard = shard;
    *child = (struct fixture){.directory = f->directory, .env = f->env};
    snprintf(child->path, sizeof child->path, "%s/%s", f->directory, name);
    assert_ok(gy_store_split(f->store, child->path, &identity, config, range, hash_key, 1, f->seq + 1, &err));
    fixture_open(child);
    assert_int_equal(child->seq, f->seq + 1);
}

#endif
