"""Linearizability of one point: is there an order of its operations, each between its call and its return, in which every get
returns what was last written and every delete says truly whether there was something?

Source  Wing & Gong, "Testing and Verifying Concurrent Objects", 1993; Lowe, "Testing for Linearizability", 2017: just-in-time
        linearization, with the configurations already seen kept (memoised). A configuration is what the point holds now, and
        which of the operations under way have taken effect already. One is forced to take effect when it returns, not before.

Unknown writes never return. Two things keep them from multiplying the configurations:
  - unknown deletes are alike, and so are unknown upserts whose value no get returned (only a delete may tell that something was
    there): of each of the two sorts the one called first is taken;
  - of two configurations with the same state, the one in which fewer unknown writes were used up can do all the other can:
    only it is kept.
"""

import dataclasses

ABSENT = None
SOMETHING = "a value that no get returned"


class Limit(Exception):
    """Too many configurations: the history of this point cannot be decided here."""


def _take_effect(operation, state):
    """(possible, new state) of the operation on the state."""
    if operation.op == "upsert":
        return True, operation.value
    if operation.op == "delete":
        told = operation.result if operation.status == "ok" else None
        return told is None or told == (state is not ABSENT), ABSENT
    return operation.result == state, state


def _undominated(configurations, unknown):
    """Without those that another one with fewer unknown writes used up can replace."""
    by_rest = {}
    for state, used in configurations:
        by_rest.setdefault((state, used - unknown), []).append(used & unknown)
    kept = set()
    for (state, rest), used_sets in by_rest.items():
        used_sets.sort(key=len)
        minimal = []
        for used in used_sets:
            if not any(smaller <= used for smaller in minimal):
                minimal.append(used)
        kept.update((state, rest | used) for used in minimal)
    return kept


def _settled(state, used, open_now, operations):
    """The configuration with everything done that costs nothing: what can never change the state (a get of what is there, a
    delete that was told there was nothing) can only gain by taking effect at once."""
    idle = {c for c in open_now - used
            if (operations[c].op == "get" or operations[c].result is False) and _take_effect(operations[c], state)[0]}
    return state, used | idle


def _choices(waiting, sorts):
    """Of the operations that may take effect next, one of each sort that is alike."""
    alike = {}
    for candidate in sorted(waiting, reverse=True):
        alike[sorts.get(candidate, candidate)] = candidate
    return alike.values()


def _force(configurations, number, open_now, operations, sorts, limit):
    """Every configuration in which operation `number` has taken effect, others that are under way perhaps before it."""
    start = {_settled(state, used, open_now, operations) for state, used in configurations}
    done, seen, work = set(), set(start), list(start)
    while work:
        state, used = work.pop()
        if number in used:
            done.add((state, used - {number}))
            continue
        for candidate in _choices(open_now - used, sorts):
            possible, after = _take_effect(operations[candidate], state)
            if not possible or (after == state and candidate in sorts):
                continue
            following = _settled(after, used | {candidate}, open_now, operations)
            if following not in seen:
                seen.add(following)
                work.append(following)
                if len(seen) > limit:
                    raise Limit(f"more than {limit} configurations")
    return done


def check_point(operations, limit=200000):
    """None if the operations of one point (any order) are linearizable, else (operation, states): the first that no order
    explains, and what the point may have held before it. Raises Limit."""
    seen_values = {o.result for o in operations if o.op == "get" and o.status == "ok"}
    kept = [o for o in sorted(operations, key=lambda o: o.call) if o.status == "ok" or (o.status == "unknown" and o.op != "get")]
    sorts = {i: "delete" if o.op == "delete" else SOMETHING for i, o in enumerate(kept)
             if o.status == "unknown" and (o.op == "delete" or o.value not in seen_values)}
    kept = [dataclasses.replace(o, value=SOMETHING) if sorts.get(i) == SOMETHING else o for i, o in enumerate(kept)]
    # At one instant calls come before returns: operations that touch may have been in either order.
    events = sorted([(o.call, 0, i) for i, o in enumerate(kept)]
                    + [(o.ret, 1, i) for i, o in enumerate(kept) if o.status == "ok"])
    unknown = frozenset(i for i, o in enumerate(kept) if o.status == "unknown")
    configurations, open_now = {(ABSENT, frozenset())}, set()
    for _, returns, number in events:
        if not returns:
            open_now.add(number)
            continue
        after = _force(configurations, number, open_now, kept, sorts, limit)
        if not after:
            return kept[number], {state for state, _ in configurations}
        open_now.discard(number)
        configurations = _undominated(after, unknown)
    return None
