/* The rules of the replica's core one by one: a primary alone, a primary with followers, a follower. */
#include "replica_core_fixture.h"

static gy_replica_core core;
static struct gy_replica_actions actions;
static int64_t now_ns;

static void step(struct gy_replica_event event)
{
    const char *why;
    event.now_ns = now_ns;
    gy_replica_step(&core, &event, &actions);
    if (!gy_replica_core_check(&core, &why))
        fail_msg("after event %d: %s", (int)event.kind, why);
    for (size_t i = 0; i + 1 < actions.count; i++)
        assert_true(actions.items[i].kind < GY_DO_APPEND);
}

static void pass_ms(int64_t ms)
{
    for (; ms > 0; ms -= 50) {
        now_ns += (ms < 50 ? ms : 50) * GY_MILLISECOND_NS;
        step((struct gy_replica_event){.kind = GY_ON_TICK});
        assert_true(gy_replica_core_due_ns(&core) > now_ns);
    }
}

/* log: the epochs of entries 1 …, a digit each; the first `trimmed` are not there any more. */
static void open_as(uint32_t self, struct gy_shard_config config, const char *log, uint64_t trimmed, uint64_t applied)
{
    struct gy_epoch_start starts[GY_EPOCH_STARTS_MAX] = {{trimmed ? (uint64_t)(log[trimmed - 1] - '0') : 0, trimmed}};
    size_t count = 1, last = strlen(log);
    for (uint64_t seq = trimmed + 1; seq <= last; seq++)
        if ((uint64_t)(log[seq - 1] - '0') != starts[count - 1].epoch)
            starts[count++] = (struct gy_epoch_start){(uint64_t)(log[seq - 1] - '0'), seq};
    now_ns = 10000 * GY_MILLISECOND_NS;
    gy_replica_core_init(&core, 1000);
    step((struct gy_replica_event){.kind = GY_ON_OPENED, .self = self, .config = &config, .starts = starts,
                                   .start_count = last ? count : 0, .seq = last, .applied_seq = applied});
}

static void open_alone(const char *log, uint64_t applied)
{
    open_as(1, config_of(5, 1, 1, 1, "s"), log, 0, applied);
}

static void submit(uint64_t token, size_t bytes, uint64_t epoch)
{
    step((struct gy_replica_event){.kind = GY_ON_WRITE, .token = token, .bytes = bytes, .epoch = epoch});
}

static void happened(gy_replica_event_kind kind, uint64_t seq)
{
    step((struct gy_replica_event){.kind = kind, .seq = seq});
}

static void take_config(struct gy_shard_config config)
{
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .config = &config});
    assert_int_equal(actions.items[actions.count - 1].kind, GY_DO_STORE_CONFIG);
    happened(GY_ON_CONFIG_STORED, 0);
}

/* One write, logged and synced. */
static void log_one(uint64_t token)
{
    submit(token, 1, core.config.epoch);
    happened(GY_ON_GATHERED, 0);
    happened(GY_ON_SYNCED, core.last);
}

static const struct gy_replica_action *find(gy_replica_action_kind kind)
{
    for (size_t i = 0; i < actions.count; i++)
        if (actions.items[i].kind == kind)
            return &actions.items[i];
    return NULL;
}

static const struct gy_replica_action *the(gy_replica_action_kind kind)
{
    const struct gy_replica_action *action = find(kind);
    assert_non_null(action);
    return action;
}

static void assert_reply(size_t i, uint64_t token, gy_reply_why why, uint64_t seq)
{
    assert_true(i < actions.count);
    assert_int_equal(actions.items[i].kind, GY_DO_REPLY);
    assert_int_equal(actions.items[i].token, token);
    assert_int_equal(actions.items[i].why, why);
    assert_int_equal(actions.items[i].seq, seq);
}

/* ---- what members answer, and what a primary sends ---- */

static struct gy_core_peer *peer(uint32_t member)
{
    for (size_t i = 0; i < core.peer_count; i++)
        if (core.peers[i].id == member)
            return &core.peers[i];
    fail();
    return NULL;
}

static void answered(uint32_t member, struct gy_append_reply reply)
{
    reply.sent_ns = peer(member)->sent_ns;
    reply.epoch = reply.epoch ? reply.epoch : core.config.epoch;
    step((struct gy_replica_event){.kind = GY_ON_APPEND_REPLY, .member = member, .reply = &reply});
}

static void has(uint32_t member, uint64_t synced)
{
    answered(member, (struct gy_append_reply){.result = GY_APPEND_OK, .synced = synced});
}

static uint64_t primary_last = UINT64_MAX; /* end of the log of who appends */

static void append(uint64_t epoch, uint64_t prev_epoch, uint64_t prev_seq, const char *log, uint64_t committed, bool restore)
{
    uint64_t epochs[16];
    for (size_t i = 0; log[i]; i++)
        epochs[i] = (uint64_t)(log[i] - '0');
    struct gy_append sent = {.epoch = epoch, .from = 1, .prev_epoch = prev_epoch, .prev_seq = prev_seq, .committed = committed,
                             .last = primary_last, .restore = restore, .count = strlen(log), .epochs = epochs};
    step((struct gy_replica_event){.kind = GY_ON_APPEND, .token = 77, .append = &sent});
}

static void assert_answer(gy_append_result result, uint64_t seq)
{
    const struct gy_append_reply *reply = &the(GY_DO_ANSWER)->reply;
    assert_int_equal(reply->result, result);
    if (result == GY_APPEND_OK)
        assert_int_equal(reply->synced, seq);
    else if (result == GY_APPEND_MISMATCH)
        assert_int_equal(reply->last_seq, seq);
}

static void assert_log(const char *log)
{
    assert_int_equal(core.last, strlen(log));
    for (uint64_t seq = 1; seq <= core.last; seq++)
        assert_int_equal(gy_replica_core_epoch_at(&core, seq), log[seq - 1] - '0');
}

/* A primary that has served in epoch 2: members as said, log of n entries that all in sync have. */
static void reign(const char *members, uint32_t min_copies, const char *log, uint64_t applied)
{
    open_as(1, config_of(1, 1, 1, min_copies, members), log, 0, applied);
    take_config(config_of(2, 1, 1, min_copies, members));
    for (uint32_t id = 2; id <= strlen(members); id++)
        if (members[id - 1] == 's')
            has(id, core.last);
    while (core.applying)
        happened(GY_ON_APPLIED, core.committed);
}

/* ---- a primary alone ---- */

static void a_group_is_answered_after_it_is_synced_and_applied(void **state)
{
    (void)state;
    open_alone("1111111", 7);
    assert_int_equal(actions.count, 0);
    submit(11, 10, 5), submit(12, 10, 5);
    assert_int_equal(actions.count, 0);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(actions.count, 1);
    const struct gy_replica_action *group = the(GY_DO_APPEND);
    assert_true(group->seq == 8 && group->count == 2 && group->epoch == 5);
    assert_int_equal(gy_replica_core_token(&core, 8), 11);
    assert_int_equal(gy_replica_core_token(&core, 9), 12);
    submit(13, 10, 5);
    assert_int_equal(gy_replica_core_waiting(&core), 1);
    happened(GY_ON_SYNCED, 9);
    assert_int_equal(actions.count, 1);
    assert_true(the(GY_DO_APPLY)->seq == 8 && the(GY_DO_APPLY)->upto == 9);
    happened(GY_ON_APPLIED, 9);
    assert_int_equal(actions.count, 2);
    assert_reply(0, 11, GY_REPLY_DONE, 8);
    assert_reply(1, 12, GY_REPLY_DONE, 9);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(the(GY_DO_APPEND)->seq, 10);
    assert_int_equal(gy_replica_core_lease_ns(&core), GY_NEVER);
    assert_int_equal(gy_replica_core_due_ns(&core), GY_NEVER);
}

static void a_synced_tail_is_applied_before_the_first_write(void **state)
{
    (void)state;
    open_alone("111122222", 5);
    assert_true(the(GY_DO_APPLY)->seq == 6 && the(GY_DO_APPLY)->upto == 9);
    assert_int_equal(gy_replica_core_lease_ns(&core), INT64_MIN);
    happened(GY_ON_APPLIED, 7);
    assert_int_equal(the(GY_DO_APPLY)->seq, 8);
    happened(GY_ON_APPLIED, 9);
    assert_int_equal(actions.count, 0);
}

static void a_group_is_bounded_in_bytes_but_takes_one_large_write(void **state)
{
    (void)state;
    open_alone("", 0);
    submit(1, 5000, 5), submit(2, 600, 5), submit(3, 400, 5), submit(4, 1, 5);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(the(GY_DO_APPEND)->count, 1);
    happened(GY_ON_SYNCED, 1);
    happened(GY_ON_APPLIED, 1);
    happened(GY_ON_GATHERED, 0);
    assert_int_equal(the(GY_DO_APPEND)->count, 2);
}

static void writes_are_taken_from_senders_that_know_this_reign(void **state)
{
    (void)state;
    open_as(1, config_of(5, 1, 4, 1, "s"), "", 0, 0);
    submit(1, 1, 3);
    assert_reply(0, 1, GY_REPLY_EPOCH, 0);
    submit(2, 1, 6);
    assert_reply(0, 2, GY_REPLY_EPOCH, 0);
    submit(3, 1, 4);
    assert_int_equal(actions.count, 0);
    take_config(config_of(6, 2, 6, 1, "ss"));
    assert_reply(0, 3, GY_REPLY_EPOCH, 0);
    submit(4, 1, 6);
    assert_reply(0, 4, GY_REPLY_EPOCH, 0);
}

static void a_newer_configuration_is_stored_before_it_is_answered(void **state)
{
    (void)state;
    open_alone("", 0);
    struct gy_shard_config older = config_of(4, 1, 1, 1, "s"), newer = config_of(6, 1, 1, 1, "s");
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .token = 9, .config = &older});
    assert_reply(0, 9, GY_REPLY_EPOCH, 0);
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .token = 10, .config = &newer});
    assert_int_equal(actions.count, 1);
    assert_int_equal(the(GY_DO_STORE_CONFIG)->kind, GY_DO_STORE_CONFIG);
    assert_int_equal(gy_replica_core_next_config(&core)->epoch, 6);
    happened(GY_ON_CONFIG_STORED, 0);
    assert_reply(0, 10, GY_REPLY_DONE, 0);
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .token = 11, .config = &newer});
    assert_reply(0, 11, GY_REPLY_DONE, 0);
}

static void after_a_failed_append_nothing_is_acknowledged(void **state)
{
    (void)state;
    open_alone("", 0);
    submit(1, 1, 5);
    happened(GY_ON_GATHERED, 0);
    submit(2, 1, 5);
    happened(GY_ON_IO_FAILED, 0);
    assert_int_equal(actions.count, 3);
    assert_reply(0, 2, GY_REPLY_NOT_SERVING, 0);
    assert_reply(1, 1, GY_REPLY_UNKNOWN, 0);
    assert_int_equal(actions.items[2].kind, GY_DO_STOP);
    submit(3, 1, 5);
    assert_reply(0, 3, GY_REPLY_NOT_SERVING, 0);
    append(5, 0, 0, "", 0, false);
    assert_answer(GY_APPEND_BUSY, 0);
    happened(GY_ON_CLOSE, 0);
    assert_int_equal(the(GY_DO_FINISH)->kind, GY_DO_FINISH);
}

static void a_low_disk_refuses_writes_until_it_recovers(void **state)
{
    (void)state;
    open_alone("", 0);
    submit(1, 1, 5);
    happened(GY_ON_DISK_LOW, 0);
    assert_reply(0, 1, GY_REPLY_DISK, 0);
    submit(2, 1, 5);
    assert_reply(0, 2, GY_REPLY_DISK, 0);
    happened(GY_ON_DISK_OK, 0);
    submit(3, 1, 5);
    assert_int_equal(actions.count, 0);
}

static void closing_answers_what_was_accepted(void **state)
{
    (void)state;
    open_alone("", 0);
    submit(1, 1, 5);
    happened(GY_ON_CLOSE, 0);
    assert_int_equal(actions.count, 0);
    submit(2, 1, 5);
    assert_reply(0, 2, GY_REPLY_NOT_SERVING, 0);
    happened(GY_ON_GATHERED, 0);
    happened(GY_ON_SYNCED, 1);
    happened(GY_ON_APPLIED, 1);
    assert_reply(0, 1, GY_REPLY_DONE, 1);
    assert_int_equal(actions.items[1].kind, GY_DO_FINISH);
}

static void a_second_close_gives_up_waiting_for_members_once_the_disk_is_still(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    log_one(1);
    submit(2, 1, 2);
    happened(GY_ON_GATHERED, 0);
    happened(GY_ON_CLOSE, 0);
    happened(GY_ON_CLOSE, 0);
    assert_null(find(GY_DO_FINISH));
    happened(GY_ON_SYNCED, 2);
    assert_reply(0, 1, GY_REPLY_UNKNOWN, 0);
    assert_reply(1, 2, GY_REPLY_UNKNOWN, 0);
    assert_int_equal(actions.items[2].kind, GY_DO_FINISH);
}

static void more_writes_than_the_core_holds_are_refused(void **state)
{
    (void)state;
    open_alone("", 0);
    for (uint64_t i = 0; i < GY_CORE_WRITES_MAX; i++) {
        submit(i, 1, 5);
        assert_int_equal(actions.count, 0);
    }
    submit(5000, 1, 5);
    assert_reply(0, 5000, GY_REPLY_FULL, 0);
    happened(GY_ON_IO_FAILED, 0);
    assert_int_equal(actions.count, GY_CORE_WRITES_MAX + 1);
}

/* ---- a primary with followers ---- */

static void a_write_is_committed_when_all_in_sync_have_it(void **state)
{
    (void)state;
    reign("ssfqs", 2, "1", 1);
    log_one(1);
    assert_null(find(GY_DO_APPLY));
    has(2, 2);
    assert_null(find(GY_DO_APPLY));
    has(5, 2);
    assert_int_equal(the(GY_DO_APPLY)->upto, 2);
    happened(GY_ON_APPLIED, 2);
    assert_reply(0, 1, GY_REPLY_DONE, 2);
    log_one(2);
    has(4, 3); /* counts for nothing */
    assert_int_equal(core.committed, 2);
}

static void what_is_sent_comes_before_the_disk(void **state)
{
    (void)state;
    reign("ss", 1, "1", 1);
    submit(1, 1, 2);
    now_ns += GY_PING_NS;
    happened(GY_ON_GATHERED, 0); /* step() looks at the order */
    assert_int_equal(the(GY_DO_SEND)->append.prev_seq, 1);
    assert_int_equal(the(GY_DO_SEND)->upto, 1); /* nothing that is not synced */
    assert_int_equal(actions.items[actions.count - 1].kind, GY_DO_APPEND);
    has(2, 1);
    happened(GY_ON_SYNCED, 2);
    assert_int_equal(the(GY_DO_SEND)->upto, 2);
    assert_null(find(GY_DO_APPLY));
}

static void too_few_copies_refuse_writes_and_leave_logged_ones_open(void **state)
{
    (void)state;
    reign("ss", 2, "", 0);
    log_one(1);
    submit(2, 1, 2);
    take_config(config_of(3, 1, 1, 2, "sf"));
    assert_reply(0, 2, GY_REPLY_FEW, 0);
    assert_int_equal(the(GY_DO_APPLY)->upto, 1);
    happened(GY_ON_APPLIED, 1);
    assert_reply(0, 1, GY_REPLY_UNKNOWN, 1);
    submit(3, 1, 3);
    assert_reply(0, 3, GY_REPLY_FEW, 0);
}

static void a_primary_deposed_refuses_what_waits_and_leaves_open_what_is_logged(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    log_one(1);
    submit(2, 1, 2);
    take_config(config_of(3, 2, 3, 1, "ss"));
    assert_reply(0, 2, GY_REPLY_EPOCH, 0);
    assert_reply(1, 1, GY_REPLY_UNKNOWN, 0);
    assert_int_equal(gy_replica_core_due_ns(&core), GY_NEVER);
    assert_int_equal(gy_replica_core_lease_ns(&core), INT64_MIN);
}

static void a_silent_member_is_asked_out_and_needed_until_the_new_epoch(void **state)
{
    (void)state;
    reign("sss", 1, "", 0);
    log_one(1);
    for (int i = 0; i < 19; i++) {
        pass_ms(100);
        has(3, 1);
    }
    assert_false(core.asking);
    pass_ms(100);
    assert_true(the(GY_DO_ASK)->epoch == 2 && the(GY_DO_ASK)->in_sync.count == 2 && the(GY_DO_ASK)->in_sync.ids[1] == 3);
    has(3, 1);
    assert_int_equal(core.committed, 0);
    happened(GY_ON_ASK_FAILED, 0);
    pass_ms(100);
    assert_false(core.ask_under_way && core.committed);
    take_config(config_of(3, 1, 1, 1, "sfs"));
    assert_int_equal(core.committed, 1);
}

static void waiting_for_a_silent_member_is_no_standstill(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    log_one(1);
    for (int i = 0; i < 20 && !core.asking; i++) { /* nothing happens but the ticks that are wanted */
        now_ns = gy_replica_core_due_ns(&core);
        happened(GY_ON_TICK, 0);
    }
    assert_true(core.asking && now_ns < 13000 * GY_MILLISECOND_NS);
}

static void ticks_are_wanted_when_there_is_something_to_do(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    struct gy_shard_config next = config_of(3, 1, 1, 1, "ss");
    pass_ms(1900);
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .config = &next});
    pass_ms(1000); /* lagging, while nothing can be asked: pass_ms looks at the next tick */
    happened(GY_ON_CONFIG_STORED, 0);
    now_ns += GY_MILLISECOND_NS;
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .config = &next});
    pass_ms(20);
    pass_ms(100);
    assert_true(core.asking);
}

static void one_that_missed_another_reign_takes_over_anew(void **state)
{
    (void)state;
    reign("ss", 1, "1", 1);
    log_one(1);
    has(2, 2);
    happened(GY_ON_APPLIED, 2);
    log_one(2);
    take_config(config_of(4, 1, 4, 1, "ss"));
    assert_reply(0, 2, GY_REPLY_UNKNOWN, 0);
    assert_int_equal(core.takeover, 3);
    assert_int_equal(peer(2)->matched, 0);
}

static void a_standstill_of_the_primary_is_not_held_against_members(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    now_ns += 10 * GY_LAG_NS;
    happened(GY_ON_TICK, 0);
    assert_null(find(GY_DO_ASK));
    pass_ms(2500);
    assert_true(core.asking);
}

static void one_that_joins_is_needed_from_asking_on_until_a_new_epoch(void **state)
{
    (void)state;
    reign("sf", 1, "11", 2);
    has(2, 1);
    assert_null(find(GY_DO_ASK));
    has(2, 2);
    pass_ms(100);
    assert_true(the(GY_DO_ASK)->in_sync.count == 2 && the(GY_DO_ASK)->in_sync.ids[1] == 2);
    log_one(1);
    assert_int_equal(core.committed, 2);
    for (int i = 0; i < 30; i++) { /* silent: soon asked for no more, yet it may have been taken */
        happened(GY_ON_ASK_FAILED, 0);
        pass_ms(100);
    }
    assert_int_equal(core.committed, 2);
    struct gy_shard_config same = config_of(2, 1, 1, 1, "sf");
    step((struct gy_replica_event){.kind = GY_ON_CONFIG, .config = &same});
    assert_int_equal(core.committed, 2);
    take_config(config_of(3, 1, 1, 1, "sf"));
    assert_int_equal(core.committed, 3);
}

static void one_that_joins_must_have_what_the_primary_took_over(void **state)
{
    (void)state;
    open_as(1, config_of(2, 2, 1, 1, "ssf"), "1111", 0, 1); /* 2 may have acknowledged all four */
    take_config(config_of(3, 1, 3, 1, "sff"));
    core.gate_ns = INT64_MAX; /* not committed yet */
    has(3, 3);
    assert_null(find(GY_DO_ASK));
    has(3, 4);
    pass_ms(100);
    assert_int_equal(the(GY_DO_ASK)->in_sync.ids[1], 3);
}

static void one_joins_under_load_and_leaving_ones_do_not(void **state)
{
    (void)state;
    reign("sfx", 1, "", 0);
    has(2, 0), has(3, 0);
    take_config(config_of(3, 1, 1, 1, "sfx")); /* whoever asked first, this is the epoch now */
    for (int i = 0; i < 20 && !core.ask_under_way; i++) {
        now_ns += 20 * GY_MILLISECOND_NS;
        uint64_t sent = core.synced;
        while (core.applying)
            happened(GY_ON_APPLIED, core.committed);
        log_one((uint64_t)i);
        if (peer(2)->under_way)
            has(2, sent);
        has(3, core.synced);
    }
    assert_true(core.ask_under_way && core.asked_count == 1 && core.asked[0] == 2);
    assert_true(peer(2)->matched >= core.committed);
}

static void a_primary_that_restarts_asks_for_a_new_epoch_first(void **state)
{
    (void)state;
    open_as(1, config_of(1, 1, 1, 1, "sf"), "11", 0, 1);
    assert_true(the(GY_DO_ASK)->epoch == 1 && the(GY_DO_ASK)->in_sync.count == 1);
    submit(1, 1, 1);
    assert_reply(0, 1, GY_REPLY_EPOCH, 0);
    pass_ms(1500);
    assert_int_equal(core.committed, 1);
    assert_int_equal(gy_replica_core_lease_ns(&core), INT64_MIN);
    take_config(config_of(2, 1, 1, 1, "ss")); /* the process before had asked it in */
    assert_int_equal(core.committed, 1);
    assert_null(find(GY_DO_ASK));
    has(2, 2);
    assert_int_equal(core.committed, 2);
}

static void reads_are_leased_from_what_all_needed_answered(void **state)
{
    (void)state;
    reign("ssf", 1, "1", 0);
    assert_int_equal(gy_replica_core_lease_ns(&core), now_ns + GY_LEASE_NS);
    int64_t heard_ns = now_ns;
    pass_ms(400);
    assert_int_equal(gy_replica_core_lease_ns(&core), heard_ns + GY_LEASE_NS);
    has(2, 1); /* what was under way since then; only now the next is sent */
    has(2, 1);
    assert_true(peer(2)->acked_ns == now_ns);
    assert_int_equal(gy_replica_core_lease_ns(&core), peer(2)->acked_ns + GY_LEASE_NS);
    has(3, 1); /* asked in */
    pass_ms(400);
    has(2, 1);
    assert_int_equal(gy_replica_core_lease_ns(&core), peer(3)->acked_ns + GY_LEASE_NS);
    for (uint32_t id = 2; id <= 3; id++) {
        struct gy_append_reply later = {.result = GY_APPEND_OK, .epoch = 2, .synced = 1, .sent_ns = now_ns + GY_LAG_NS};
        step((struct gy_replica_event){.kind = GY_ON_APPEND_REPLY, .member = id, .reply = &later});
    }
    assert_true(gy_replica_core_lease_ns(&core) <= now_ns + GY_LEASE_NS);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_OLD_EPOCH, .epoch = 3});
    assert_int_equal(gy_replica_core_lease_ns(&core), INT64_MIN);
}

static void answers_to_an_earlier_reign_do_not_count(void **state)
{
    (void)state;
    open_as(1, config_of(4, 2, 4, 1, "ss"), "112", 0, 3);
    take_config(config_of(5, 1, 5, 1, "ss"));
    pass_ms(1100);
    log_one(1);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_OK, .epoch = 4, .synced = 4});
    assert_int_equal(peer(2)->matched, 0);
    has(2, 5); /* more than there is */
    assert_int_equal(peer(2)->matched, 0);
    has(2, 4);
    assert_int_equal(core.committed, 4);
}

static void a_newer_epoch_in_an_answer_is_asked_for(void **state)
{
    (void)state;
    reign("ss", 1, "", 0);
    log_one(1);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_OLD_EPOCH, .epoch = 3});
    pass_ms(100);
    assert_true(core.ask_under_way);
    submit(2, 1, 2);
    assert_reply(0, 2, GY_REPLY_EPOCH, 0);
    has(2, 1);
    assert_int_equal(core.committed, 0);
}

static void a_mismatch_leads_down_the_epochs(void **state)
{
    (void)state;
    reign("sf", 1, "1113335", 7);
    assert_true(peer(2)->sent_last == 7 && !peer(2)->known);
    /* Its log is 11122224: what it has not above (5, 7), then not above (3, 6). */
    answered(2, (struct gy_append_reply){.result = GY_APPEND_MISMATCH, .last_epoch = 4, .last_seq = 7});
    assert_true(the(GY_DO_SEND)->append.prev_seq == 6 && the(GY_DO_SEND)->append.prev_epoch == 3 && the(GY_DO_SEND)->upto == 6);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_MISMATCH, .last_epoch = 2, .last_seq = 6});
    assert_true(the(GY_DO_SEND)->append.prev_seq == 3 && the(GY_DO_SEND)->append.prev_epoch == 1);
    has(2, 3);
    assert_true(the(GY_DO_SEND)->append.prev_seq == 3 && the(GY_DO_SEND)->upto == 7);
}

static void what_is_trimmed_is_restored_and_nothing_else(void **state)
{
    (void)state;
    reign("sf", 1, "", 0);
    log_one(1);
    happened(GY_ON_APPLIED, 1);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_MISMATCH});
    assert_true(!the(GY_DO_SEND)->append.restore && the(GY_DO_SEND)->append.prev_seq == 0 && the(GY_DO_SEND)->upto == 1);
    reign("sf", 1, "1112222", 7);
    happened(GY_ON_TRIMMED, 5);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_MISMATCH, .last_epoch = 1, .last_seq = 3, .committed = 2});
    assert_true(the(GY_DO_SEND)->append.restore && the(GY_DO_SEND)->upto == 5);
    assert_true(the(GY_DO_SEND)->append.prev_seq == 5 && the(GY_DO_SEND)->append.prev_epoch == 2);
    has(2, 5);
    assert_true(!the(GY_DO_SEND)->append.restore && the(GY_DO_SEND)->append.prev_seq == 5 && the(GY_DO_SEND)->upto == 7);
}

static void codes_follow_what_is_committed(void **state)
{
    (void)state;
    reign("ssq", 1, "1", 1);
    has(3, 1);
    log_one(1);
    for (size_t i = 0; i < actions.count; i++)
        assert_false(actions.items[i].kind == GY_DO_SEND && actions.items[i].member == 3 && actions.items[i].upto > 1);
    if (peer(3)->under_way)
        has(3, 1);
    has(2, 2);
    assert_int_equal(core.committed, 2);
    assert_int_equal(core.asked_count, 0);
    assert_int_equal(actions.items[actions.count - 2].member, 3);
    assert_int_equal(actions.items[actions.count - 2].upto, 2);
}

/* ---- a follower: member 2 of primary 1 ---- */

static void open_follower(const char *members, const char *log, uint64_t trimmed, uint64_t applied)
{
    open_as(2, config_of(4, 1, 4, 1, members), log, trimmed, applied);
}

static void a_primary_that_lost_what_it_had_made_is_told_so_and_goes(void **state)
{
    (void)state;
    open_follower("ss", "144", 0, 2); /* the primary's since epoch 4 */
    primary_last = 2;
    append(4, 4, 2, "", 2, false);
    assert_answer(GY_APPEND_AHEAD, 0);
    assert_int_equal(the(GY_DO_ANSWER)->reply.last_epoch, 4);
    assert_int_equal(the(GY_DO_ANSWER)->reply.last_seq, 3);
    open_follower("ss", "113", 0, 2); /* an earlier primary's tail */
    append(4, 1, 2, "", 2, false);
    assert_answer(GY_APPEND_OK, 2);
    primary_last = UINT64_MAX;

    reign("ss", 1, "11", 2);
    answered(2, (struct gy_append_reply){.result = GY_APPEND_AHEAD, .epoch = 2, .last_epoch = 1, .last_seq = 2});
    assert_int_equal(core.state, GY_REPLICA_SERVING); /* an answer to an old append */
    answered(2, (struct gy_append_reply){.result = GY_APPEND_AHEAD, .epoch = 2, .last_epoch = 1, .last_seq = 3});
    assert_int_equal(core.state, GY_REPLICA_FAILED);
    assert_non_null(the(GY_DO_FENCE));
}

static void entries_that_are_alike_are_skipped_and_others_cut(void **state)
{
    (void)state;
    open_follower("ss", "11122", 0, 2);
    append(4, 1, 3, "22", 4, false);
    assert_answer(GY_APPEND_OK, 5);
    assert_int_equal(the(GY_DO_APPLY)->upto, 4);
    happened(GY_ON_APPLIED, 4);
    append(4, 1, 3, "244", 9, false);
    assert_true(the(GY_DO_APPEND_TAKEN)->cut && the(GY_DO_APPEND_TAKEN)->seq == 5 && the(GY_DO_APPEND_TAKEN)->count == 2);
    assert_null(find(GY_DO_ANSWER));
    happened(GY_ON_SYNCED, 6);
    assert_answer(GY_APPEND_OK, 6);
    assert_log("111244");
    assert_int_equal(core.committed, 6);
    happened(GY_ON_APPLIED, 6);
    append(4, 1, 1, "11", 2, false); /* an old one */
    assert_answer(GY_APPEND_OK, 3);
    assert_log("111244");
    append(4, 4, 6, "4", 6, false);
    assert_false(the(GY_DO_APPEND_TAKEN)->cut);
}

static void a_mismatch_names_the_last_entry_not_above(void **state)
{
    (void)state;
    open_follower("ss", "11122223", 0, 1);
    append(4, 4, 9, "4", 9, false);
    assert_answer(GY_APPEND_MISMATCH, 8);
    append(4, 2, 8, "4", 9, false);
    assert_answer(GY_APPEND_MISMATCH, 7);
    append(4, 1, 5, "4", 9, false);
    assert_answer(GY_APPEND_MISMATCH, 3);
    assert_int_equal(the(GY_DO_ANSWER)->reply.last_epoch, 1);
    assert_int_equal(the(GY_DO_ANSWER)->reply.committed, 1);
}

static void another_epoch_is_told_and_nothing_taken(void **state)
{
    (void)state;
    open_follower("ss", "1", 0, 1);
    append(5, 1, 1, "5", 1, false);
    assert_answer(GY_APPEND_NEW_EPOCH, 0);
    append(3, 1, 1, "3", 1, false);
    assert_answer(GY_APPEND_OLD_EPOCH, 0);
    assert_int_equal(the(GY_DO_ANSWER)->reply.epoch, 4);
    assert_log("1");
    open_as(2, config_of(4, 2, 4, 1, "ss"), "1", 0, 1);
    append(4, 1, 1, "4", 1, false);
    assert_answer(GY_APPEND_OLD_EPOCH, 0);
}

static void a_low_disk_takes_pings_but_no_entries(void **state)
{
    (void)state;
    open_follower("ss", "1", 0, 1);
    happened(GY_ON_DISK_LOW, 0);
    append(4, 1, 1, "4", 1, false);
    assert_answer(GY_APPEND_BUSY, 0);
    append(4, 1, 1, "", 1, false);
    assert_answer(GY_APPEND_OK, 1);
}

static void only_what_lacks_the_last_trimmed_entry_is_restored(void **state)
{
    (void)state;
    open_follower("sf", "11122", 0, 1);
    append(4, 2, 5, "", 5, true); /* long on its way: it has that by now */
    assert_answer(GY_APPEND_OK, 5);
    assert_null(find(GY_DO_RESTORE));
    happened(GY_ON_APPLIED, 5);
    append(4, 2, 6, "", 6, true);
    assert_non_null(find(GY_DO_RESTORE));
    assert_answer(GY_APPEND_BUSY, 0);
    append(4, 2, 5, "4", 6, false);
    assert_answer(GY_APPEND_BUSY, 0);
    happened(GY_ON_RESTORE_FAILED, 0);
    append(4, 2, 5, "", 5, false);
    assert_answer(GY_APPEND_OK, 5);
    open_follower("ss", "11122", 0, 1);
    append(4, 2, 6, "", 6, true); /* in sync: first asked out */
    assert_null(find(GY_DO_RESTORE));
    assert_answer(GY_APPEND_BUSY, 0);
}

static void who_answered_commits_nothing_for_the_promise(void **state)
{
    (void)state;
    open_follower("ss", "11", 0, 1);
    pass_ms(5000);
    append(4, 1, 2, "", 1, false);
    pass_ms(600);
    take_config(config_of(5, 2, 5, 1, "fs"));
    assert_int_equal(core.committed, 1);
    assert_int_equal(gy_replica_core_due_ns(&core) <= core.gate_ns, true);
    pass_ms(350);
    assert_int_equal(core.committed, 1);
    pass_ms(50);
    assert_int_equal(core.committed, 2);
    open_follower("ss", "11", 0, 1); /* knows no promises of the process before */
    take_config(config_of(5, 2, 5, 1, "fs"));
    pass_ms(950);
    assert_int_equal(core.committed, 1);
}

static void more_epochs_than_are_kept_forget_the_oldest(void **state)
{
    (void)state;
    open_as(1, config_of(1, 1, 1, 1, "s"), "", 0, 0);
    for (uint64_t epoch = 1; epoch <= 2 * GY_EPOCH_STARTS_MAX; epoch++) {
        if (epoch > 1)
            take_config(config_of(epoch, 1, 1, 1, "s"));
        log_one(epoch);
        happened(GY_ON_APPLIED, epoch);
    }
    assert_int_equal(core.start_count, GY_EPOCH_STARTS_MAX);
    assert_int_equal(gy_replica_core_epoch_at(&core, GY_EPOCH_STARTS_MAX), 0);
    assert_int_equal(gy_replica_core_epoch_at(&core, GY_EPOCH_STARTS_MAX + 1), GY_EPOCH_STARTS_MAX + 1);
    happened(GY_ON_TRIMMED, 2 * GY_EPOCH_STARTS_MAX - 1);
    assert_int_equal(core.start_count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_is_answered_after_it_is_synced_and_applied),
        cmocka_unit_test(a_synced_tail_is_applied_before_the_first_write),
        cmocka_unit_test(a_group_is_bounded_in_bytes_but_takes_one_large_write),
        cmocka_unit_test(writes_are_taken_from_senders_that_know_this_reign),
        cmocka_unit_test(a_newer_configuration_is_stored_before_it_is_answered),
        cmocka_unit_test(after_a_failed_append_nothing_is_acknowledged),
        cmocka_unit_test(a_low_disk_refuses_writes_until_it_recovers),
        cmocka_unit_test(closing_answers_what_was_accepted),
        cmocka_unit_test(a_second_close_gives_up_waiting_for_members_once_the_disk_is_still),
        cmocka_unit_test(more_writes_than_the_core_holds_are_refused),
        cmocka_unit_test(a_write_is_committed_when_all_in_sync_have_it),
        cmocka_unit_test(what_is_sent_comes_before_the_disk),
        cmocka_unit_test(too_few_copies_refuse_writes_and_leave_logged_ones_open),
        cmocka_unit_test(a_primary_deposed_refuses_what_waits_and_leaves_open_what_is_logged),
        cmocka_unit_test(a_silent_member_is_asked_out_and_needed_until_the_new_epoch),
        cmocka_unit_test(waiting_for_a_silent_member_is_no_standstill),
        cmocka_unit_test(ticks_are_wanted_when_there_is_something_to_do),
        cmocka_unit_test(one_that_missed_another_reign_takes_over_anew),
        cmocka_unit_test(a_standstill_of_the_primary_is_not_held_against_members),
        cmocka_unit_test(one_that_joins_is_needed_from_asking_on_until_a_new_epoch),
        cmocka_unit_test(one_that_joins_must_have_what_the_primary_took_over),
        cmocka_unit_test(one_joins_under_load_and_leaving_ones_do_not),
        cmocka_unit_test(a_primary_that_restarts_asks_for_a_new_epoch_first),
        cmocka_unit_test(reads_are_leased_from_what_all_needed_answered),
        cmocka_unit_test(answers_to_an_earlier_reign_do_not_count),
        cmocka_unit_test(a_primary_that_lost_what_it_had_made_is_told_so_and_goes),
        cmocka_unit_test(a_newer_epoch_in_an_answer_is_asked_for),
        cmocka_unit_test(a_mismatch_leads_down_the_epochs),
        cmocka_unit_test(what_is_trimmed_is_restored_and_nothing_else),
        cmocka_unit_test(codes_follow_what_is_committed),
        cmocka_unit_test(entries_that_are_alike_are_skipped_and_others_cut),
        cmocka_unit_test(a_mismatch_names_the_last_entry_not_above),
        cmocka_unit_test(another_epoch_is_told_and_nothing_taken),
        cmocka_unit_test(a_low_disk_takes_pings_but_no_entries),
        cmocka_unit_test(only_what_lacks_the_last_trimmed_entry_is_restored),
        cmocka_unit_test(who_answered_commits_nothing_for_the_promise),
        cmocka_unit_test(more_epochs_than_are_kept_forget_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
