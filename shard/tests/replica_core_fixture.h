/* What the tests of the replica's core share. Include once. */
#ifndef GY_REPLICA_CORE_FIXTURE_H
#define GY_REPLICA_CORE_FIXTURE_H

#include "replica/core.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* members: of ids 1 …, a letter each: s in sync, l in sync and leaving, f full, x full and leaving, q quantized. */
static struct gy_shard_config config_of(uint64_t epoch, uint32_t primary, uint64_t primary_since, uint32_t min_copies,
                                        const char *members)
{
    struct gy_shard_config config = {.epoch = epoch, .primary = primary, .primary_since = primary_since,
                                     .min_copies = min_copies, .member_count = (uint32_t)strlen(members)};
    config.next_member = config.member_count + 1;
    for (uint32_t i = 0; i < config.member_count; i++) {
        config.members[i] = (struct gy_member){.id = i + 1,
                                               .kind = members[i] == 'q' ? GY_MEMBER_QUANTIZED : GY_MEMBER_FULL,
                                               .in_sync = members[i] == 's' || members[i] == 'l',
                                               .leaving = members[i] == 'l' || members[i] == 'x'};
        snprintf(config.members[i].node, sizeof config.members[i].node, "n%u", i + 1);
    }
    gyre_error err = {0};
    assert_int_equal(gy_config_check(&config, &err), GYRE_OK);
    return config;
}

#endif
