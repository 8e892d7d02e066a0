#!/usr/bin/python3
"""What copies cost and give, on a cluster of this machine. Called by ops/bench/run replication; see README.md.

    replication.py [writes|quantized|failover|catchup|move|scaling]...

  writes     points a second and p99 of upserts at 1, 2 and 3 copies, beside synced appends of the same bytes to a file
  quantized  codes each node scans for a query, and queries a second, with 0 to 4 quantized copies beside the full one
  failover   how long writes and searches go without an answer when the primary's node is killed; until detection and promotion
  catchup    MB/s at which a member whose disk was wiped is rebuilt, beside cp and fsync of the same bytes
  move       p99 of searches and upserts while a member is moved, beside the same load before
  scaling    codes each node scans for a query, on 1 to 16 shard daemons that share 16 shards: counts, not time
"""
import argparse
import collections
import json
import signal
import sys
import time

import numpy

import ann_data
import replicated
from replicated import Load, Log, Replicated, searches, until, upserts

DATA = replicated.ROOT / "ops" / "data"
DIM = 100           # of what the parts make up themselves
MEMBERS = (1, 2, 3)     # copies
QUANTIZED = (0, 1, 2, 3, 4)
DAEMONS = (1, 2, 4, 8, 16)
BATCHES = (100, 1)
WRITTEN_POINTS = 15_000  # by writes, again and again: the corpus stays, and no training begins at 20,000

Set = collections.namedtuple("Set", "title metric base queries truth")


def chosen_set(options):
    if options.set == "small":
        return Set("words, 40,000 x 100, cosine", "cosine", DATA / "words.npy", DATA / "words-queries.npy",
                   DATA / "words-truth-cosine.ivecs")
    cache = replicated.harness.BUILD / "ann"
    cache.mkdir(parents=True, exist_ok=True)
    return ann_data.prepared(options.set, cache, replicated.harness.BUILD, False, options.metric, 0)


def vectors(count, seed=1):
    return numpy.random.default_rng(seed).standard_normal((count, DIM), dtype=numpy.float32)


def saved(cluster, rows):
    path = cluster.directory / "rows.npy"
    numpy.save(path, rows)
    return path


def spread(values):
    """A measured value of some rounds."""
    values = sorted(float(v) for v in values)
    return {"median": float(numpy.median(values)), "min": values[0], "max": values[-1], "n": len(values)}


def spread_p90(values):
    return {**spread(values), "p90": float(numpy.percentile(values, 90))}


def p99_ms(seconds):
    return float(numpy.percentile(seconds, 99)) * 1e3


def ratios(values, base):
    """Round by round."""
    return spread([v / b for v, b in zip(values, base)])


# ---- writes

def writes(options):
    """One cluster with a collection for each number of copies; their rounds take turns, so that all see the same machine."""
    measured = collections.defaultdict(lambda: collections.defaultdict(list))
    with Replicated(3) as cluster, cluster.client() as client:
        rows = vectors(WRITTEN_POINTS)
        requests = {}
        for copies in MEMBERS:
            name = f"copies-{copies}"
            client.create(name, DIM, "L2", shards=3, copies=copies)
            requests[copies] = {batch: upserts(client, name, rows, batch) for batch in BATCHES}
            for request in requests[copies][BATCHES[0]]:  # warm-up: everything is there once, what is measured overwrites it
                client.channel.unary_unary(client.method("Points", "Upsert")[0])(request, timeout=60)
            cluster.settle(name)
        for _ in range(options.rounds):
            for batch in BATCHES:
                took = replicated.synced_appends(cluster.directory, len(requests[1][batch][0]), options.seconds)
                file = measured[batch, 1, "synced append"]
                file["points/s"].append(batch / took.mean())
                file["p99 ms"].append(p99_ms(took))
                for clients in (1, options.clients):
                    for copies in MEMBERS:
                        with Load(cluster, "Upsert", requests[copies][batch], clients) as load:
                            load.await_success(0)
                            began = time.monotonic()
                            time.sleep(options.seconds)
                            ended = time.monotonic()
                        took = load.answered(began, ended)
                        of = measured[batch, clients, copies]
                        of["points/s"].append(batch * len(took) / (ended - began))
                        of["p99 ms"].append(p99_ms(took))
    table = []
    for (batch, clients, copies), values in measured.items():
        base, file = measured[batch, clients, 1], measured[batch, 1, "synced append"]
        of_one = copies in MEMBERS
        table.append({"batch": batch, "clients": clients, "copies": copies, "points/s": spread(values["points/s"]),
                      "of 1 copy": ratios(values["points/s"], base["points/s"]) if of_one else None,
                      "of append": ratios(values["points/s"], file["points/s"]) if of_one else None,
                      "p99 ms": spread(values["p99 ms"]),
                      "p99 of 1 copy": ratios(values["p99 ms"], base["p99 ms"]) if of_one else None})
    return f"3 shard daemons, 3 shards, {WRITTEN_POINTS:,} x {DIM}, l2; upserts of points that are there", table


# ---- searches

class Searched:
    """Collections of one set, one after the other, all asked to look into as many lists: a training of other shards finds other
    centroids, and would choose another number."""

    def __init__(self, options, loads):
        self.options, self.loads = options, loads  # (calls at once, queries a call)
        self.chosen, self.probed, self.base, self.table = chosen_set(options), 0, {}, []

    def add(self, row, nodes, **spec):
        measured = collections.defaultdict(list)
        with Replicated(nodes) as cluster:
            cluster.filled("bench", self.chosen.base, self.chosen.metric, **spec)
            for n in range(self.options.rounds + 1):  # the first is warm-up
                for load in self.loads:
                    told, codes = replicated.evaluated(cluster, "bench", self.chosen, *load, self.options.times, self.probed)
                    self.probed = self.probed or round(told["lists_probed_mean"])
                    if n:
                        measured[load].append((told, codes))
        for (calls, batch), rounds in measured.items():
            codes = numpy.array([codes for _, codes in rounds])
            base = self.base.setdefault((calls, batch), codes.max(1))
            self.table.append({**row, "calls": calls, "batch": batch, "codes a query, all nodes": spread(codes.sum(1)),
                               "busiest node": spread(codes.max(1)), "idlest": spread(codes.min(1)),
                               "busiest of first row": ratios(codes.max(1), base), "an even share": round(1 / codes.shape[1], 3),
                               "queries/s": spread([told["qps"] for told, _ in rounds]),
                               "recall@10": round(rounds[-1][0]["recall"], 3)})


def quantized(options):
    """As many daemons as members, so that each has one member of every shard. Two loads: single searches, which the coordinator
    gathers, so that few are under way at a time; and batches, of which several are."""
    of = Searched(options, [(options.clients, 1), (options.clients, 16)])
    for count in QUANTIZED:
        of.add({"quantized": count, "daemons": 1 + count}, 1 + count, shards=4, copies=1, quantized=count)
    return f"{of.chosen.title}; 4 shards, 1 full copy, a member of each on every daemon; {of.probed} lists probed", of.table


def scaling(options):
    of = Searched(options, [(options.clients, 1)])
    for daemons in DAEMONS:
        of.add({"daemons": daemons}, daemons, shards=DAEMONS[-1])
    return f"{of.chosen.title}; {DAEMONS[-1]} shards, 1 copy; {of.probed} lists probed; one machine's queries/s", of.table


# ---- failover

def one_kill(cluster, client, load_of, measured):
    """Kills the primary's node under one client that writes and one that searches, and starts it again."""
    killed = cluster.shard(client, "bench").primary
    log, wall = Log(cluster.coordinator), time.time() - time.monotonic()
    with load_of("Upsert") as writing, load_of("Search") as searching:
        for load in (writing, searching):
            load.await_success(0)
        calm = time.monotonic()
        time.sleep(1)
        kill = time.monotonic()
        cluster.shards[cluster.index(killed)].kill()
        down = log.await_event("node_down", lambda event: event["node"] == killed)["at"] - wall
        promoted = log.await_event("shard_configured", lambda event: event["primary"] != killed)["at"] - wall
        for load in (writing, searching):
            load.await_success(promoted)
        time.sleep(1)
        back = time.monotonic()
        cluster.start_shard(cluster.index(killed))
        until(lambda: cluster.whole(client, "bench"), f"{killed} in sync again")
        whole = time.monotonic()
    failed = sum(1 for load in (writing, searching) for call in load.calls(kill) if call[2])
    for what, load in (("writes", writing), ("searches", searching)):
        measured[f"{what}: longest gap in a calm second"].append(load.longest_gap(calm, kill))
        measured[f"{what}: unavailable after the kill"].append(load.longest_gap(kill, back))
        measured[f"{what}: longest gap while it comes back"].append(load.longest_gap(back, whole))
    measured["kill to detection"].append(down - kill)
    measured["detection to promotion"].append(promoted - down)
    measured["start to in sync again"].append(whole - back)
    return failed


def failover(options):
    """The node that comes back is a follower then, so the next kill takes another one."""
    measured, failed = collections.defaultdict(list), 0
    with Replicated(3) as cluster, cluster.client() as client:
        rows = vectors(2000)
        cluster.filled("bench", saved(cluster, rows), "l2", shards=1, copies=3)
        requests = {"Upsert": upserts(client, "bench", rows, 1), "Search": searches(client, "bench", rows)}
        for n in range(options.kills + 1):  # the first is warm-up
            counted = measured if n else collections.defaultdict(list)
            failures = one_kill(cluster, client, lambda method: Load(cluster, method, requests[method]), counted)
            failed += failures if n else 0
            print(f"failover: {n} of {options.kills} kills", file=sys.stderr, flush=True)
    table = [{"seconds": what, **{k: v for k, v in spread_p90(values).items() if k in ("min", "median", "p90", "max")}}
             for what, values in measured.items()]
    return (f"3 shard daemons, 1 shard, 3 copies, 2,000 x {DIM}; {options.kills} kills of the primary's node; "
            f"{failed} calls failed"), table


# ---- catchup

def rebuilt(cluster, client, node):
    """Wipes a node: bytes and seconds of the copy, seconds from the kill until its new member has everything."""
    i, old = cluster.index(node), {m.node: m.id for m in cluster.shard(client, "bench").members}
    log, began = Log(cluster.shards[i]), time.monotonic()
    cluster.wipe(i)
    until(lambda: {m.node: m.id for m in cluster.shard(client, "bench").members}.get(node, 0) > old[node] and
          cluster.whole(client, "bench"), f"{node} caught up")
    took = time.monotonic() - began
    try:
        restored = log.await_event("replica_restored", seconds=10)  # logged after the report that ended the wait, at times
    except AssertionError as error:
        raise SystemExit(f"catchup: {node} was not copied, but sent the log: more --points") from error
    if int(restored["took_ms"]) < 100:
        raise SystemExit(f"catchup: {restored['took_ms']} ms are too short for a rate: more --points")
    return int(restored["bytes"]), int(restored["took_ms"]) / 1e3, took


def catchup(options):
    table = []
    for kind, spec in (("full", {"copies": 2}), ("quantized", {"copies": 1, "quantized": 1})):
        rates, copies, whole, size = [], [], [], 0
        with Replicated(2) as cluster, cluster.client() as client:
            cluster.filled("bench", saved(cluster, vectors(options.points)), "l2", shards=1, **spec)
            for n in range(options.rounds + 1):  # the first is warm-up
                node = next(m.node for m in cluster.shard(client, "bench").members if not m.primary)
                size, seconds, all_seconds = rebuilt(cluster, client, node)
                copied = replicated.plain_copy(cluster.directory, size)
                if n:
                    rates.append(size / seconds / 1e6), copies.append(size / copied / 1e6), whole.append(all_seconds)
        table.append({"member": kind, "MB": round(size / 1e6, 1), "rebuilt MB/s": spread(rates),
                      "cp + fsync MB/s": spread(copies), "of the copy": ratios(rates, copies),
                      "kill to caught up s": spread(whole)})
    return f"{options.points:,} x {DIM}, 1 shard, 2 shard daemons; bytes are those of the rows sent", table


# ---- move

def one_move(cluster, client, load_of, who, seconds):
    """The same load before and during; calls as seconds, and how long the move took."""
    shard = cluster.shard(client, "bench")
    source = next(m.node for m in shard.members if m.primary == (who == "primary"))
    target = next(f"n{i}" for i in range(len(cluster.shards)) if f"n{i}" not in [m.node for m in shard.members])

    def moved():
        nodes = [m.node for m in cluster.shard(client, "bench").members]
        return source not in nodes and target in nodes and cluster.whole(client, "bench")

    with load_of("Upsert") as writing, load_of("Search") as searching:
        for load in (writing, searching):
            load.await_success(0)
        idle = time.monotonic()
        time.sleep(seconds)
        began = time.monotonic()
        client.call("Cluster", "Move", collection="bench", shard=0, **{"from": source, "to": target})
        until(moved, f"the member of {source} on {target}")
        ended = time.monotonic()
    calls = {what: (load.answered(idle, began), load.answered(began, ended))
             for what, load in (("upserts", writing), ("searches", searching))}
    return calls, ended - began


def move(options):
    table = []
    with Replicated(3) as cluster, cluster.client() as client:
        rows = vectors(options.points)
        cluster.filled("bench", saved(cluster, rows), "l2", shards=1, copies=2)
        requests = {"Upsert": upserts(client, "bench", rows[:2000], 1), "Search": searches(client, "bench", vectors(500, seed=2))}

        def load_of(method):
            return Load(cluster, method, requests[method])

        for who in ("follower", "primary"):
            took, rounds = collections.defaultdict(list), []
            for n in range(options.rounds + 1):  # the first is warm-up
                calls, seconds = one_move(cluster, client, load_of, who, 5 * options.seconds)
                if n:
                    rounds.append(seconds)
                    for what, pair in calls.items():
                        took[what].append(pair)
            for what, pairs in took.items():
                idle, busy = numpy.concatenate([i for i, _ in pairs]), numpy.concatenate([b for _, b in pairs])
                table.append({"moved": who, "seconds": spread(rounds), "calls": what,
                              "idle p99 ms": spread([p99_ms(i) for i, _ in pairs]),
                              "moving p99 ms": spread([p99_ms(b) for _, b in pairs]),
                              "ratio": spread([p99_ms(b) / p99_ms(i) for i, b in pairs]),
                              "of all rounds": round(p99_ms(busy) / p99_ms(idle), 2), "moving calls": len(busy),
                              "moving max ms": round(float(busy.max()) * 1e3, 1)})
    return f"{options.points:,} x {DIM}, 1 shard, 2 copies, 3 shard daemons; a client upserts single points, one searches", table


# ---- output

def number(value):
    if value is None:
        return "-"
    if isinstance(value, (str, int)):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def cell(value):
    if isinstance(value, dict):
        return f"{number(value['median'])} ({number(value['min'])} to {number(value['max'])})"
    return number(value)


def print_table(name, title, rows):
    print(f"{name}: {title}")
    lines = [list(rows[0])] + [[cell(row[column]) for column in rows[0]] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  " + "  ".join(text.rjust(width) for text, width in zip(line, widths)).rstrip())


PARTS = {"writes": writes, "quantized": quantized, "failover": failover, "catchup": catchup, "move": move, "scaling": scaling}


def main():
    parser = argparse.ArgumentParser(prog="ops/bench/run replication", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="after a warm-up; medians (and extremes) of them are printed")
    parser.add_argument("--seconds", type=float, default=2, help="of a measurement")
    parser.add_argument("--clients", type=int, default=8, help="calls at once, where more than one are made")
    parser.add_argument("--kills", type=int, default=50, help="of failover")
    parser.add_argument("--points", type=int, default=200_000,
                        help="of catchup and move: more than the log keeps, so that a member is copied")
    parser.add_argument("--set", default="small",
                        help="of quantized and scaling: small (ops/data), or a set of ops/bench/ann: words, clustered, FILE")
    parser.add_argument("--metric", choices=["l2", "cosine", "ip"], help="of a FILE")
    parser.add_argument("--times", type=int, default=5, help="how often a round of quantized and scaling asks the queries")
    parser.add_argument("--quick", action="store_true", help="to see that it works: 2 rounds of 0.5 s, 3 kills")
    parser.add_argument("--json", action="store_true", help="one object instead of tables")
    parser.add_argument("--machine", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        parser.set_defaults(rounds=2, seconds=0.5, kills=3, times=1)
        options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if min(options.rounds, options.kills, options.clients, options.times, options.points) < 1 or options.seconds <= 0:
        parser.error("every count and time is at least 1 or above 0")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending the daemons
    if not options.json:
        print(options.machine, flush=True)
    out = {**{name: getattr(options, name) for name in ("machine", "rounds", "seconds", "clients", "times")}, "parts": {}}
    for name in options.parts or PARTS:
        began = time.monotonic()
        title, rows = PARTS[name](options)
        took = time.monotonic() - began
        out["parts"][name] = {"title": title, "rows": rows, "took_seconds": took}
        if not options.json:
            print_table(name, title, rows)
            print(f"  took {took:.0f} s", flush=True)
    if options.json:
        print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
