#!/usr/bin/python3
"""The scan engine behind gRPC: what a cluster on this machine adds to the work of the engine in one process. Called by ops/bench/run; see
README.md.

    cluster_ann.py BUILD [words|clustered|FILE] [--nodes 4] [--codec NAME] [--quick]

  speed   queries a second of many clients at once against 4 shards, beside those of gyre_bench_ann on all cores at the same recall and
          as many lists
  reads   full vectors read a query at asked recalls, from 1, 4 and 16 shards
  import  p99 of a client when nothing else goes on, and while the whole set is imported again at full speed
"""
import argparse
import json
import os
import pathlib
import subprocess
import threading

import ann
import ann_data
import ann_report
from cluster import Local, trained

RECALLS = (0.90, 0.95, 0.99)
SHARDS = (1, 4, 16)


def evaluated(local, chosen, recalls, clients, rounds=1, batch=1):
    """What `gyre eval` says, an object a recall."""
    told = local.gyre("eval", "bench", "--queries", chosen.queries, "--truth", chosen.truth, "-k", 10, "--recall",
                      ",".join(str(r) for r in recalls), "--concurrency", clients, "--batch", batch, "--rounds", rounds, "--json", "--quiet")
    return [json.loads(told)] if len(recalls) == 1 else [json.loads(line) for line in told.splitlines()]


def filled(options, chosen, shards):
    """A cluster that holds the set in so many shards, trained."""
    local = Local(options.build, nodes=min(options.nodes, shards))
    try:
        local.gyre("collection", "create", "bench", "--dim", chosen.dim, "--metric", chosen.metric, "--codec", options.codec, "--shards", shards)
        local.gyre("import", "bench", chosen.base, "--quiet")
        trained(local, "bench")
    except BaseException:
        local.remove()
        raise
    return local


def in_process(options, chosen, lists):
    """Points of gyre_bench_ann with as many lists as the cluster's training chose."""
    given = argparse.Namespace(build=pathlib.Path(options.build).resolve(), cache=options.cache, codecs=options.codec, lists=lists,
                               threads=os.cpu_count(), seconds=0.3, quick=True, scan_bits=4)
    return [line for line in ann.gyre(chosen, given) if line.get("k") == 10]


def speed(options, chosen, local):
    lists = json.loads(local.gyre("collection", "info", "bench", "--json"))["lists"]
    points = in_process(options, chosen, lists)
    print(f"speed: 4 shards on {options.nodes} daemons, {lists} lists; in process: all cores, as many lists")
    for clients, batch in ((options.clients, 1), (4 * options.clients, 1), (os.cpu_count() * 2, 64)):
        print(f" {clients} calls at once, {batch} quer{'y' if batch == 1 else 'ies'} a call")
        for told in evaluated(local, chosen, RECALLS, clients, options.rounds, batch):
            inside = ann_report.at(points, told["recall"], "qps_all")
            share = f"{inside['qps']:,.0f} in process: {told['qps'] / inside['qps']:.2f} of it" if inside else "not reached in process"
            print(f"  asked {told['recall_target']:.2f}: recall@10 {told['recall']:.4f}, {told['qps']:,.0f} queries a second, p50 {told['p50_ms']:.2f} ms, "
                  f"p99 {told['p99_ms']:.2f} ms, {told['reranked_mean']:.1f} full vectors read; {share}", flush=True)


def reads(told_of):
    print("reads: full vectors a query, by shards")
    for i, recall in enumerate(RECALLS):
        base = told_of[SHARDS[0]][i]["reranked_mean"]
        print(f"  asked {recall:.2f}: " + "; ".join(f"{shards} shards {told[i]['reranked_mean']:.1f} ({told[i]['reranked_mean'] / max(base, 1e-9) - 1:+.0%}) "
                                                    f"at recall {told[i]['recall']:.4f}" for shards, told in told_of.items()), flush=True)


def importing(options, chosen, local):
    """The same points are written again, so the truth stays what it is."""
    idle = evaluated(local, chosen, [0.95], 1, options.rounds)[0]
    ended, rates = threading.Event(), []

    def again():
        while not ended.is_set():
            told = json.loads(local.gyre("import", "bench", chosen.base, "--quiet", "--json"))
            rates.append(told.get("points_per_second", 0))

    writer = threading.Thread(target=again)
    writer.start()
    try:
        busy = evaluated(local, chosen, [0.95], 1, options.rounds)[0]
    finally:
        ended.set()
        writer.join()
    print(f"import: p99 of one client {idle['p99_ms']:.2f} ms idle, {busy['p99_ms']:.2f} ms while importing "
          f"({', '.join(f'{r:,.0f}' for r in rates)} points a second): x {busy['p99_ms'] / idle['p99_ms']:.2f}; recall@10 {idle['recall']:.4f} and "
          f"{busy['recall']:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("set", nargs="?", default="words")
    parser.add_argument("--metric", choices=["l2", "cosine", "ip"])
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--codec", default="rabitq4-fast")
    parser.add_argument("--clients", type=int, default=8 * os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="how often the queries are asked")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.cache = pathlib.Path(options.build).resolve() / "ann"
    options.cache.mkdir(parents=True, exist_ok=True)
    chosen = ann_data.prepared(options.set, options.cache, options.build, options.quick, options.metric, 0)
    commit = subprocess.run(["git", "-C", ann.HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{chosen.title}, {options.codec}, {os.cpu_count()} cores, commit {commit or 'unknown'}", flush=True)
    told_of = {}
    for shards in SHARDS:
        local = filled(options, chosen, shards)
        try:
            told_of[shards] = evaluated(local, chosen, RECALLS, 1)
            if shards == 4:
                speed(options, chosen, local)
                importing(options, chosen, local)
        finally:
            local.remove()
    reads(told_of)


if __name__ == "__main__":
    main()
