/* A line has no struct of its own: its first item carries what is the line's, and hands it on when it leaves. So nothing is ever
 * allocated, and pushing cannot fail for want of memory. */
#include "server/turns.h"

#include <assert.h>

void gy_turns_init(struct gy_turns *turns, size_t places)
{
    *turns = (struct gy_turns){.places = places};
}

static struct gy_turn *line_of(const struct gy_turns *turns, uint64_t key)
{
    struct gy_turn *line = turns->current;
    if (line)
        do {
            if (line->key == key)
                return line;
        } while ((line = line->line_next) != turns->current);
    return NULL;
}

static struct gy_turn *longest_line(const struct gy_turns *turns)
{
    struct gy_turn *longest = turns->current;
    for (struct gy_turn *line = longest->line_next; line != turns->current; line = line->line_next)
        if (line->count > longest->count)
            longest = line;
    return longest;
}

/* ---- lines in the rotation ---- */

static void move_on(struct gy_turns *turns)
{
    turns->current = turns->current->line_next;
    turns->paid = false;
}

/* A new line's turn comes after all others'. */
static void add_line(struct gy_turns *turns, struct gy_turn *line)
{
    if (!turns->current) {
        turns->current = line->line_prev = line->line_next = line;
        turns->paid = false;
        return;
    }
    line->line_next = turns->current;
    line->line_prev = turns->current->line_prev;
    line->line_prev->line_next = line;
    line->line_next->line_prev = line;
}

static void remove_line(struct gy_turns *turns, struct gy_turn *line)
{
    if (turns->current == line)
        move_on(turns);
    if (turns->current == line) { /* it was the only one */
        turns->current = NULL;
        return;
    }
    line->line_prev->line_next = line->line_next;
    line->line_next->line_prev = line->line_prev;
}

/* Makes the second of a line its first. */
static void hand_on(struct gy_turns *turns, struct gy_turn *first)
{
    struct gy_turn *second = first->next;
    second->last = first->last;
    second->earned = first->earned;
    second->count = first->count;
    bool alone = first->line_next == first;
    second->line_prev = alone ? second : first->line_prev;
    second->line_next = alone ? second : first->line_next;
    second->line_prev->line_next = second;
    second->line_next->line_prev = second;
    if (turns->current == first)
        turns->current = second;
}

/* Takes an item out of the line that begins with line; returns the line's first then, NULL if it is empty. */
static struct gy_turn *take(struct gy_turns *turns, struct gy_turn *line, struct gy_turn *item)
{
    turns->count--;
    line->count--;
    if (line->count == 0) {
        remove_line(turns, line);
        return NULL;
    }
    if (item == line) {
        hand_on(turns, line);
        line = item->next;
    } else {
        item->prev->next = item->next;
    }
    if (item->next)
        item->next->prev = item->prev;
    else
        line->last = item->prev;
    item->prev = item->next = NULL;
    return line;
}

/* ---- coming and going ---- */

struct gy_turn *gy_turns_push(struct gy_turns *turns, struct gy_turn *item)
{
    assert(item->cost >= 1 && item->cost <= GY_TURN_COST_MAX && turns->places > 0);
    struct gy_turn *line = line_of(turns, item->key), *victim = NULL;
    if (turns->count == turns->places) {
        struct gy_turn *longest = longest_line(turns);
        if (longest->count <= (line ? line->count : 0) + 1)
            return item;
        victim = longest->last;
        take(turns, longest, victim);
    }
    item->prev = item->next = NULL;
    if (line) {
        item->prev = line->last;
        line->last->next = item;
    } else {
        line = item;
        line->count = 0;
        line->earned = 0;
        add_line(turns, line);
    }
    line->last = item;
    line->count++;
    turns->count++;
    return victim;
}

struct gy_turn *gy_turns_pop(struct gy_turns *turns)
{
    while (turns->current) {
        struct gy_turn *line = turns->current;
        if (!turns->paid) {
            line->earned += GY_TURN_EARNS;
            turns->paid = true;
        }
        if (line->cost <= line->earned) {
            line->earned -= line->cost;
            take(turns, line, line);
            return line;
        }
        move_on(turns);
    }
    return NULL;
}

size_t gy_turns_gather(struct gy_turns *turns, uint64_t key, bool (*fits)(void *self, const struct gy_turn *item), void *self,
                       struct gy_turn **out, size_t room, size_t look_max)
{
    struct gy_turn *line = line_of(turns, key);
    size_t count = 0;
    for (struct gy_turn *item = line, *next; item && count < room && look_max > 0; item = next, look_max--) {
        next = item->next;
        if (!fits(self, item))
            continue;
        line->earned -= item->cost;
        line = take(turns, line, item);
        out[count++] = item;
    }
    return count;
}

/* ---- the whole of it ---- */

static bool line_sound(const struct gy_turn *line, const char **why)
{
    size_t count = 0;
    const struct gy_turn *last = NULL;
    for (const struct gy_turn *item = line; item; last = item, item = item->next, count++) {
        if (item->key != line->key)
            return *why = "an item is in another key's line", false;
        if (item->prev != last)
            return *why = "an item does not know who is before it", false;
    }
    if (line->count != count || line->last != last)
        return *why = "a line's count or last item is wrong", false;
    return true;
}

bool gy_turns_check(const struct gy_turns *turns, const char **why)
{
    size_t count = 0;
    const struct gy_turn *line = turns->current;
    if (line)
        do {
            if (line->line_next->line_prev != line)
                return *why = "the rotation is broken", false;
            if (line_of(turns, line->key) != line)
                return *why = "a key has two lines", false;
            if (!line_sound(line, why))
                return false;
            count += line->count;
        } while ((line = line->line_next) != turns->current);
    if (count != turns->count || count > turns->places)
        return *why = "the count of all items is wrong", false;
    return true;
}
