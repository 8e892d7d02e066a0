#!/usr/bin/python3
"""The scan engine beside the libraries a user would pick instead: recall against queries a second, bytes, build time, full vectors read,
on the same vectors in the same run.

    ops/bench/ann                              the word set and a million clustered vectors of 768; hours, most of them peers' builds
    ops/bench/ann words --quick                a small set and few settings: minutes
    ops/bench/ann sift_base.fvecs --metric l2  a file of one's own (.npy .fvecs .fbin): its last 1,000 rows are the queries
    ops/bench/ann clustered --only gyre,hnswlib

Engines: gyre (a replica in this process, no RPC), faiss-flat, faiss-ivf, faiss-hnsw (python3-faiss), hnswlib (libhnswlib-dev and a C++
compiler). What is not installed is left out and said so. Sets, truth and the peers' graphs are cached under BUILD/ann; delete it to have
them made anew. Writes OUT/ann-SET.txt, .json and .svg. Nothing here is a pass/fail test."""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import ann_data
import ann_report

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ("gyre", "faiss-flat", "faiss-ivf", "faiss-hnsw", "hnswlib")
CODECS = "rabitq1,rabitq4-fast,signblock-p8b2"


class Missing(Exception):
    """An engine that cannot be measured here, and why."""


def arguments():
    parser = argparse.ArgumentParser(prog="ops/bench/ann", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=["words", "clustered"], metavar="words|clustered|FILE")
    parser.add_argument("--quick", action="store_true", help="100,000 rows, few settings, no faiss-hnsw unless it is named by --only")
    parser.add_argument("--only", help=f"engines, of {','.join(ENGINES)}")
    parser.add_argument("--skip", default="", help="engines to leave out")
    parser.add_argument("--codecs", default=CODECS, help=f"of gyre; default {CODECS}")
    parser.add_argument("--scan-bits", type=int, default=4, choices=[4, 6, 8], help="of the query in gyre's scan; default 4")
    parser.add_argument("--lists", type=int, default=0, help="of gyre and faiss-ivf; default twice the root of the rows")
    parser.add_argument("--rows", type=int, default=0, help="rows of the clustered set or of a file")
    parser.add_argument("--metric", choices=["l2", "cosine", "ip"], help="of a file; default l2")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="what counts as all cores")
    parser.add_argument("--seconds", type=float, default=0, help="that a setting is measured for; default 1, with --quick 0.1")
    parser.add_argument("--build", default="build", help="a release build")
    parser.add_argument("--faiss-python", default="/usr/bin/python3", help="an interpreter that has the Faiss to compare with")
    parser.add_argument("--out", help="default BUILD/ann/results")
    given = parser.parse_args()
    skipped = set(given.skip.split(",")) - {""} | ({"faiss-hnsw"} if given.quick and not given.only else set())
    named = given.only.split(",") if given.only else ENGINES
    for name in [*named, *skipped]:
        if name not in ENGINES:
            parser.error(f"there is no engine {name}; there are {', '.join(ENGINES)}")
    given.engines = [name for name in named if name not in skipped]
    given.seconds = given.seconds or (0.1 if given.quick else 1.0)
    given.build = pathlib.Path(given.build).resolve()
    given.cache = given.build / "ann"
    given.out = pathlib.Path(given.out) if given.out else given.cache / "results"
    return given


def machine():
    """What figures depend on, in a line, and a warning where the machine has other work."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown processor")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip() or "unknown"
    lines = [f"{' '.join(model.split())}, {os.cpu_count()} cores; commit {commit}; {time.strftime('%Y-%m-%d')}"]
    load = os.getloadavg()[0]
    if load > 0.5:
        lines.append(f"the machine was busy with other work at the start (load {load:.1f}): figures of all cores are too low")
    return lines


def gyre(chosen, given):
    program = given.build / "bin" / "gyre_bench_ann"
    if not program.exists():
        raise Missing(f"no {program}: build first: cmake --preset release && cmake --build --preset release")
    with tempfile.TemporaryDirectory(prefix="store-", dir=given.cache) as place:
        lists = ["--lists", given.lists] if given.lists else []
        yield from lines_of([program, chosen.directory, chosen.metric, "--codecs", given.codecs, "--threads", given.threads, "--seconds",
                             given.seconds, "--place", place, "--scan-bits", given.scan_bits, *lists, *(["--quick"] if given.quick else [])])


def faiss(what):
    def measure(chosen, given):
        if subprocess.run([given.faiss_python, "-c", "import faiss, numpy"], capture_output=True).returncode:
            raise Missing(f"{given.faiss_python} has no Faiss (Debian: python3-faiss)")
        lists = ["--lists", given.lists] if given.lists else []
        yield from lines_of([given.faiss_python, HERE / "ann_faiss.py", chosen.directory, what, "--threads", given.threads, "--seconds",
                             given.seconds, *lists, *(["--quick"] if given.quick else [])])
    return measure


def hnswlib(chosen, given):
    source, program = HERE / "ann_hnswlib.cpp", given.cache / "ann_hnswlib"
    compiler = shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise Missing("no C++ compiler")
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        made = subprocess.run([compiler, "-std=c++17", "-O3", "-march=native", "-o", program, source, "-lpthread"], capture_output=True, text=True)
        if made.returncode:
            raise Missing("ann_hnswlib.cpp does not compile (Debian: libhnswlib-dev)")
    yield {"note": "hnswlib: compiled here with -O3 -march=native"}
    yield from lines_of([program, chosen.directory, chosen.metric, given.threads, given.seconds, int(given.quick)])


def lines_of(command):
    """What a program prints, a JSON object a line, as it comes."""
    with subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            yield json.loads(line)
    if running.returncode:
        raise Missing(f"{pathlib.Path(str(command[0])).name} failed with {running.returncode}")


def measure(chosen, given):
    """Every engine on a set, one after the other; writes the results after each, so that a run that is stopped leaves what it had."""
    how = {"gyre": gyre, "faiss-flat": faiss("flat"), "faiss-ivf": faiss("ivf"), "faiss-hnsw": faiss("hnsw"), "hnswlib": hnswlib}
    notes, facts, points = machine(), [], []
    for name in given.engines:
        began = time.monotonic()
        try:
            for line in how[name](chosen, given):
                if "note" in line and line["note"] not in notes:
                    notes.append(line["note"])
                elif "fact" in line:
                    facts.append(line["fact"])
                elif "engine" in line:
                    points.append(line)
                    print(f"\rann: {line['engine']} recall@{line['k']} {line['recall']:.4f}, {line['qps']:,.0f} a second   ", end="",
                          file=sys.stderr, flush=True)
        except Missing as why:
            notes.append(f"{name} was not measured: {why}")
        print(f"\rann: {chosen.title}: {name} took {time.monotonic() - began:.0f} s{'':40}", file=sys.stderr, flush=True)
        write(chosen, given, notes, facts, points)
    return given.out


def write(chosen, given, notes, facts, points):
    given.out.mkdir(parents=True, exist_ok=True)
    stem = given.out / ("ann-" + re.sub(r"[^\w.-]+", "-", chosen.directory.name))
    whole = (chosen.title, notes, facts, points, given.threads)
    stem.with_name(stem.name + ".txt").write_text(ann_report.table(*whole))
    stem.with_name(stem.name + ".json").write_text(ann_report.as_json(*whole))
    if points:
        stem.with_name(stem.name + ".svg").write_text(ann_report.picture(chosen.title, points))


def main():
    given = arguments()
    given.cache.mkdir(parents=True, exist_ok=True)
    for name in given.sets:
        chosen = ann_data.prepared(name, given.cache, given.build, given.quick, given.metric, given.rows)
        measure(chosen, given)
        stem = "ann-" + re.sub(r"[^\w.-]+", "-", chosen.directory.name)
        print((given.out / f"{stem}.txt").read_text())
        print(f"also {given.out / stem}.json and .svg\n")


if __name__ == "__main__":
    main()
