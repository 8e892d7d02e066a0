#!/usr/bin/env python3
"""Holds a history to what the cluster promises: ./checker.py history.jsonl

Rules, each on its own, so that a failure has the name of what was broken:
  linearizable   gets, upserts and deletes of each point have an order that explains them (linear.py)
  lost           what was acknowledged and not overwritten since is there
  revived        what was deleted and not written since is not there
  search         every hit of an exact search held, at some moment of the search, a value at that distance (and the value that was
                 read with it, perhaps later), and no point is left out that was nearer than the last hit all the time
  errors         a call fails only while, or soon after, a fault was there that allows this status
  unavailable    nothing of a kind (write, get, search) succeeds for longer than allowed only while, or soon after, a fault was
                 there

lost and revived follow from linearizable, too; they are found here in another way (by intervals alone), so that each checks
the other.
"""

import argparse
import bisect
import collections
import itertools
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from history import FOREVER, load  # noqa: E402
from linear import Limit, check_point  # noqa: E402
from vectors import Distances  # noqa: E402

SECOND = 1e9


class Finding(collections.namedtuple("Finding", "rule text")):
    def __str__(self):
        return f"[{self.rule}] {self.text}"


class Point:
    """What one point may have held when: its writes, those that are over before a moment, those that must be behind it then."""

    def __init__(self, operations):
        self.operations = operations
        self.writes = [o for o in operations if o.op in ("upsert", "delete") and o.status != "failed"]
        self.unknown = [w for w in self.writes if w.status == "unknown"]
        self.known = [w for w in self.writes if w.status == "ok"]
        self.calls = [w.call for w in self.known]
        self.latest_return = list(itertools.accumulate((w.ret for w in self.known), max))  # of this and all called before it
        # (return, latest call of an acknowledged write that returned by then): what returned before that call is overwritten.
        self.returns, self.overwritten = [], []
        latest = -FOREVER
        for write in sorted(self.known, key=lambda w: w.ret):
            latest = max(latest, write.call)
            self.returns.append(write.ret)
            self.overwritten.append(latest)

    def possible(self, begin, end):
        """Writes (None: that there has never been one) whose effect the point may have shown at some moment of [begin, end]."""
        over = bisect.bisect_left(self.returns, begin)
        horizon = self.overwritten[over - 1] if over else -FOREVER
        found = [w for w in self.unknown if w.call <= end]
        at = bisect.bisect_right(self.calls, end) - 1
        while at >= 0 and self.latest_return[at] >= horizon:
            if self.known[at].ret >= horizon:
                found.append(self.known[at])
            at -= 1
        return ([None] if horizon == -FOREVER else []) + found


def value_of(write):
    return write.value if write is not None and write.op == "upsert" else None


def points_of(operations):
    by_key = collections.defaultdict(list)
    for operation in operations:
        if operation.op != "search":
            by_key[operation.key].append(operation)
    return {key: Point(of_key) for key, of_key in by_key.items()}


def check_linearizable(points):
    for key, point in points.items():
        try:
            failure = check_point(point.operations)
        except Limit as error:
            yield Finding("linearizable", f"point {key}: undecided: {error}")
            continue
        if failure:
            operation, states = failure
            nearby = [o.told_as() for o in point.operations if o.call <= operation.ret and o.ret >= operation.call - SECOND]
            yield Finding("linearizable", f"point {key}: {operation.told_as()}, but it held one of {sorted(map(str, states))}; "
                          "around it:\n    " + "\n    ".join(nearby[-20:]))


def check_lost_and_revived(points):
    for key, point in points.items():
        for get in (o for o in point.operations if o.op == "get" and o.status == "ok"):
            possible = point.possible(get.call, get.ret)
            if get.result in {value_of(w) for w in possible}:
                continue
            newest = max(possible, key=lambda w: (w.status == "ok", w.call) if w else (False, -FOREVER))
            rule = "revived" if all(value_of(w) is None for w in possible) else "lost"
            what = newest.told_as() if newest else "that it was never written"
            yield Finding(rule, f"point {key}: {get.told_as()}; the newest that it must or may show is {what}")


class Crowd:
    """What all points may hold at a moment that only moves forward: the vectors of each, in one matrix, so that a search is held
    against thousands of points at once. A point with more than WIDTH possible values is kept apart."""

    WIDTH = 4

    def __init__(self, points, distances):
        self.points, self.distances = points, distances
        self.keys = numpy.array(sorted(points), numpy.int64)
        self.row = {key: row for row, key in enumerate(self.keys.tolist())}
        self.values = numpy.zeros((len(self.keys), self.WIDTH), numpy.int64)
        self.alive = numpy.zeros(len(self.keys), bool)
        self.wide = {}
        # Between these moments nothing changes in what a point may hold.
        events = sorted((time, key) for key, point in points.items() for w in point.writes for time in (w.call, w.ret)
                        if time < FOREVER)
        self.times, self.moved, self.at = [time for time, _ in events], [key for _, key in events], 0

    def forward(self, begin):
        """To the moment before `begin`."""
        until = bisect.bisect_left(self.times, begin, self.at)
        for key in set(self.moved[self.at:until]):
            values, row = [value_of(w) for w in self.points[key].possible(begin, begin)], self.row[key]
            self.wide.pop(key, None)
            self.alive[row] = None not in values and len(values) <= self.WIDTH
            if self.alive[row]:
                self.values[row] = (values * self.WIDTH)[:self.WIDTH]
            elif None not in values:
                self.wide[key] = values
        self.at = until

    def nearer_than(self, last, begin, end, query):
        """[(key, possible values, distance of the farthest)] of the points that were there all of [begin, end] and nearer than
        last, a (distance, key)."""
        self.forward(begin)
        moving = set(self.moved[self.at:bisect.bisect_right(self.times, end, self.at)])
        rows = numpy.flatnonzero(self.alive)
        farthest = self.distances(self.values[rows].ravel(), query).reshape(len(rows), self.WIDTH).max(axis=1)
        for at in numpy.flatnonzero(farthest <= last[0]).tolist():
            key = int(self.keys[rows[at]])
            if key not in moving and (farthest[at], key) < last:
                yield key, sorted(set(self.values[rows[at]].tolist())), float(farthest[at])
        for key in moving.union(self.wide):
            values = [value_of(w) for w in self.points[key].possible(begin, end)]
            if None not in values and (far := float(self.distances(values, query).max()), key) < last:
                yield key, values, far


class Searches:
    """Exact searches, in the order of their calls, against brute force over what each point may have held."""

    def __init__(self, points, distances, stale_ns=0):
        self.points, self.distances, self.stale_ns = points, distances, stale_ns
        self.crowd = Crowd(points, distances)

    def check(self, search):
        begin, end = search.call - self.stale_ns, search.ret
        keys = {hit[0] for hit in search.hits}
        if len(keys) != len(search.hits):
            yield Finding("search", f"{search.told_as()}: a point twice: {search.hits}")
        order = [(hit[1], hit[0]) for hit in search.hits]
        if order != sorted(order):
            yield Finding("search", f"{search.told_as()}: hits are not by (distance, id): {search.hits}")
        if len(keys) > search.k:
            yield Finding("search", f"{search.told_as()}: {len(keys)} hits, {search.k} were asked for")
        held = {key: {value_of(w) for w in self.points[key].possible(begin, end)} if key in self.points else set()
                for key in keys}
        flat = [value for values in held.values() for value in values if value is not None]
        measured_at = dict(zip(flat, self.distances(flat, search.query).tolist())) if flat else {}
        for key, distance, *read in search.hits:
            measured = {value: measured_at[value] for value in held[key] if value is not None}
            if distance not in measured.values():
                yield Finding("search", f"{search.told_as()}: point {key} at {distance}; "
                              f"what it may have held, and where that is: {measured}")
            if read and read[0] not in held[key]:
                yield Finding("search", f"{search.told_as()}: point {key} with value {read[0]}; it may have held "
                              f"{sorted(map(str, held[key]))}")
        last = max(order) if len(keys) >= search.k else (FOREVER, FOREVER)
        for key, values, far in self.crowd.nearer_than(last, begin, end, search.query):
            if key not in keys:
                yield Finding("search", f"{search.told_as()}: point {key} is left out; "
                              f"it held one of {values} all the time, at {far} or nearer, and the last of {len(keys)} hits is "
                              f"{last}")


def check_errors(operations, faults, grace_ns):
    for operation in operations:
        if operation.status == "ok":
            continue
        near = [f for f in faults if f.call <= operation.told and operation.call <= f.ret + grace_ns]
        if operation.code not in {code for fault in near for code in fault.allows}:
            there = ", ".join(f"{f.name} of {f.on}" for f in near) or "no fault"
            yield Finding("errors", f"{operation.told_as()}: {operation.code} ({operation.text}) with {there}")


KINDS = {"upsert": "write", "delete": "write", "get": "get", "search": "search"}


def windows_without_success(operations, at_least_ns):
    """[(kind, begin, end)]: the times in which calls of a kind were made and none succeeded, longest first."""
    found = []
    for kind in sorted(set(KINDS.values())):
        of_kind = [o for o in operations if KINDS[o.op] == kind]
        if not of_kind:
            continue
        last = min(o.call for o in of_kind)
        for told in sorted([o.told for o in of_kind if o.status == "ok"]) + [max(o.told for o in of_kind)]:
            if told - last >= at_least_ns and any(last <= o.call and o.told <= told and o.status != "ok" for o in of_kind):
                found.append((kind, last, told))
            last = told
    return sorted(found, key=lambda window: window[1] - window[2])


def recoveries(operations, faults):
    """[(fault, ns)], slowest first: how long it took until of each kind something succeeded that was called after the heal."""
    by_kind = {}
    for kind in sorted({KINDS[o.op] for o in operations}):
        of_kind = [o for o in operations if o.status == "ok" and KINDS[o.op] == kind]
        # What was told first of this and all that were called later.
        firsts = list(itertools.accumulate((o.told for o in reversed(of_kind)), min))[::-1]
        by_kind[kind] = ([o.call for o in of_kind], firsts)
    found = []
    for fault in faults:
        after = [(firsts, bisect.bisect_left(calls, fault.ret)) for calls, firsts in by_kind.values()]
        if after and all(at < len(firsts) for firsts, at in after):
            found.append((fault, max(firsts[at] for firsts, at in after) - fault.ret))
    return sorted(found, key=lambda item: -item[1])


def faults_at(faults, begin, end):
    return [f for f in faults if f.call <= end and begin <= f.ret]


def check_unavailable(operations, faults, grace_ns, allowed_ns):
    for kind, begin, end in windows_without_success(operations, allowed_ns):
        # What of the window no fault covers, in one piece.
        covered, longest = begin, 0.0
        for fault in faults_at(faults, begin - grace_ns, end):
            longest = max(longest, min(fault.call, end) - covered)
            covered = max(covered, fault.ret + grace_ns)
        longest = max(longest, end - covered)
        if longest > allowed_ns:
            yield Finding("unavailable", f"no {kind} succeeded for {(end - begin) / SECOND:.1f} s from {begin / SECOND:.3f}, "
                          f"{longest / SECOND:.1f} s of it without a fault")


def check(operations, faults, grace_s=20.0, allowed_s=5.0, stale_s=0.0):
    """Every finding, by rule."""
    points = points_of(operations)
    distances = Distances(1 + max((o.value for o in operations if o.value is not None), default=0))
    findings = list(check_linearizable(points)) + list(check_lost_and_revived(points))
    searches = Searches(points, distances, stale_s * SECOND)
    for operation in operations:
        if operation.op == "search" and operation.status == "ok":
            findings += searches.check(operation)
    findings += check_errors(operations, faults, grace_s * SECOND)
    findings += check_unavailable(operations, faults, grace_s * SECOND, allowed_s * SECOND)
    return findings


def summary(operations, faults):
    """Lines that say what was asked, how it went, and when nothing of a kind succeeded."""
    counts = collections.Counter((o.op, o.status) for o in operations)
    for op in ("upsert", "delete", "get", "search"):
        yield f"{op}: " + ", ".join(f"{counts[op, s]} {s}" for s in ("ok", "unknown", "failed"))
    codes = collections.Counter(o.code for o in operations if o.status != "ok")
    yield "errors: " + (", ".join(f"{count} {code}" for code, count in codes.most_common()) or "none")
    for kind, begin, end in windows_without_success(operations, SECOND)[:10]:
        there = ", ".join(f"{f.name} of {f.on}" for f in faults_at(faults, begin, end)) or "no fault"
        yield f"no {kind} succeeded for {(end - begin) / SECOND:.1f} s from {begin / SECOND:.1f} s: {there}"
    for fault, took in recoveries(operations, faults)[:3]:
        yield f"{took / SECOND:.1f} s until all succeeded again after {fault.name} of {fault.on} at {fault.call / SECOND:.1f} s"


def report(findings, each=6):
    """Lines: how many of each rule, and the first of each; what was lost before what failed."""
    by_rule = collections.defaultdict(list)
    for finding in findings:
        by_rule[finding.rule].append(finding)
    for rule in ("lost", "revived", "linearizable", "search", "errors", "unavailable"):
        if rule in by_rule:
            yield f"{len(by_rule[rule])} of rule '{rule}':"
            yield from map(str, by_rule[rule][:each])


def main():
    parser = argparse.ArgumentParser(description="Holds a history to what the cluster promises.")
    parser.add_argument("history")
    parser.add_argument("--grace", type=float, default=20.0, help="seconds after a fault in which calls may still fail")
    parser.add_argument("--allowed", type=float, default=5.0, help="seconds without success that need no fault")
    parser.add_argument("--stale", type=float, default=0.0, help="seconds that a search may be behind")
    options = parser.parse_args()
    operations, faults = load(options.history)
    print(*summary(operations, faults), sep="\n")
    findings = check(operations, faults, options.grace, options.allowed, options.stale)
    print(*report(findings), sep="\n")
    print(f"{len(operations)} operations, {len(faults)} faults: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
