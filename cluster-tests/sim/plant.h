/* plant: protocol bugs put in on purpose. Every one is a lie of the world around the cores: it tells them of events that did not
 * happen, does not do what they asked, or takes something out of their memory; their code stays as it is. A simulator that does
 * not find them finds nothing. */
#ifndef GY_SIM_PLANT_H
#define GY_SIM_PLANT_H

typedef enum gy_sim_plant {
    GY_PLANT_NONE,
    GY_PLANT_ACK_BEFORE_SYNC,    /* an append is reported synced while it is still on its way to the disk */
    GY_PLANT_PROMOTE_ANY,        /* the coordinator promotes any live member */
    GY_PLANT_NO_EPOCH_CHECK,     /* followers take appends of deposed primaries */
    GY_PLANT_APPLY_EARLY,        /* followers take every entry as committed */
    GY_PLANT_FORGET_TOMBSTONES,  /* a restore copies what is there, not what was deleted */
    GY_PLANT_NO_UNION,           /* a primary forgets whom it asked to join */
    GY_PLANT_NO_PROMISE,         /* a new primary commits at once */
    GY_PLANT_NO_LEASE,           /* a primary serves reads without a lease */
    GY_PLANT_NO_WINDOW,          /* a request that comes again is applied again */
    GY_PLANT_TRIM_UNFLUSHED,     /* the log is trimmed before the applied state is on disk */
    GY_PLANT_CONFIG_UNSYNCED,    /* a configuration is reported stored and is not */
    GY_PLANT_NO_CUT,  /* a follower appends behind what it should have cut */
    GY_PLANT_SAME_MEMBER,        /* a lost replica is made anew, empty, as the same member */
    GY_PLANT_CHILD_LATE,         /* a member narrows itself, then makes its part of the child */
    GY_PLANT_OWNED_AT_SUBMIT,    /* whether a key is owned is asked before a write is logged, and not when it is applied */
    GY_PLANT_CHILD_UNMADE,       /* a child is configured with members that have not made it */
    GY_PLANT_NO_CHILD_WINDOW,    /* a child knows nothing of its parent's requests */
    GY_PLANT_PARENT_READS,       /* a primary that is about to be narrowed still answers for all */
    GY_PLANTS,
} gy_sim_plant;

static const struct {
    const char *name;
} gy_sim_plants[GY_PLANTS] = {
    [GY_PLANT_NONE] = {"none"},
    [GY_PLANT_ACK_BEFORE_SYNC] = {"ack-before-sync"},
    [GY_PLANT_PROMOTE_ANY] = {"promote-any"},
    [GY_PLANT_NO_EPOCH_CHECK] = {"no-epoch-check"},
    [GY_PLANT_APPLY_EARLY] = {"apply-early"},
    [GY_PLANT_FORGET_TOMBSTONES] = {"forget-tombstones"},
    [GY_PLANT_NO_UNION] = {"no-union"},
    [GY_PLANT_NO_PROMISE] = {"no-promise"},
    [GY_PLANT_NO_LEASE] = {"no-lease"},
    [GY_PLANT_NO_WINDOW] = {"no-window"},
    [GY_PLANT_TRIM_UNFLUSHED] = {"trim-unflushed"},
    [GY_PLANT_CONFIG_UNSYNCED] = {"config-unsynced"},
    [GY_PLANT_NO_CUT] = {"no-cut"},
    [GY_PLANT_SAME_MEMBER] = {"same-member"},
    [GY_PLANT_CHILD_LATE] = {"child-late"},
    [GY_PLANT_OWNED_AT_SUBMIT] = {"owned-at-submit"},
    [GY_PLANT_CHILD_UNMADE] = {"child-unmade"},
    [GY_PLANT_NO_CHILD_WINDOW] = {"no-child-window"},
    [GY_PLANT_PARENT_READS] = {"parent-reads"},
};

#endif
