/* turns: whose work is next. Items wait in one line a key (a collection), and the lines are served in rotation, so that a flood
 * of one key makes no other wait long, and none is refused because of it.
 *
 * Deficit round robin: when its turn comes a line earns GY_TURN_EARNS and spends what its items cost, until it cannot pay for its
 * next one; what is left over counts at its next turn, a line that ran empty begins anew. When all places are taken, the last
 * item of the longest line goes: the newcomer itself, unless another line is longer than its own by two or more.
 * Looking for a line costs its way round the rotation: there are as many lines as collections that have something to wait for.
 * Source   Shreedhar & Varghese, "Efficient Fair Queuing Using Deficit Round Robin", SIGCOMM 1995; dropping from the longest
 *          line: McKenney, "Stochastic Fairness Queuing", INFOCOM 1990
 * Threads  none: pure; whoever owns it locks it */
#ifndef GY_SERVER_TURNS_H
#define GY_SERVER_TURNS_H

#include "gyre/base.h"

enum { GY_TURN_EARNS = 8, GY_TURN_COST_MAX = 64 };

/* What waits: part of a larger struct, owned by whoever pushes it until it comes back by _push, _pop or _gather. */
struct gy_turn {
    uint64_t key;
    uint32_t cost; /* 1…GY_TURN_COST_MAX */
    /* Of turns.c alone. */
    struct gy_turn *prev, *next; /* in its line */
    /* Of the first of a line, for all of it. */
    struct gy_turn *last, *line_prev, *line_next;
    int64_t earned;
    size_t count;
};

struct gy_turns {
    size_t places, count;
    struct gy_turn *current; /* the first of the line whose turn it is; NULL: nothing waits */
    bool paid;               /* it has earned this turn's share */
};

void gy_turns_init(struct gy_turns *turns, size_t places);
/* Takes item; returns the item that must go for it (perhaps item itself), NULL if there was a place. */
struct gy_turn *gy_turns_push(struct gy_turns *turns, struct gy_turn *item);
/* The item whose turn it is; NULL: nothing waits. */
struct gy_turn *gy_turns_pop(struct gy_turns *turns);
/* Takes items of a key's line that fit, oldest first, at most room of them, looking at the oldest look_max: they go along with
 * one that was popped, and their line pays for them. Returns how many. */
size_t gy_turns_gather(struct gy_turns *turns, uint64_t key, bool (*fits)(void *self, const struct gy_turn *item), void *self,
                       struct gy_turn **out, size_t room, size_t look_max);
/* Whether the rings and counts are sound; *why (static) says what is not. */
bool gy_turns_check(const struct gy_turns *turns, const char **why);

#endif
