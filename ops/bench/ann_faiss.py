#!/usr/bin/python3
"""Faiss on one set of ops/bench/ann, a JSON line a measured point.

    ann_faiss.py SET_DIRECTORY flat|ivf|hnsw --threads N --seconds S [--lists N] [--quick]

One index in memory at a time; built on all cores; asked with one query a call on one thread (CPU time), and with all queries in one call
on all cores (wall time), which is how Faiss uses them best. Any interpreter whose Faiss is 1.7 or newer serves."""
import argparse
import json
import math
import os
import pathlib
import time

import faiss
import numpy

from ann_data import Set, read_fbin

ADD_ROWS = 50000
M_HNSW, EF_CONSTRUCTION = 16, 200
TRAIN_PER_LIST = 128     # as many vectors a list as our own training looks at, ann_engine.c
ITERATIONS = 10
SINGLES_MIN = 20         # queries one after another that a rate rests on at least
RECALLS_MIN = 200        # queries that a recall rests on at least


class Asker:
    """Measures one index that is built."""

    def __init__(self, chosen, threads, seconds, name, facts):
        self.queries = numpy.array(read_fbin(chosen.queries))
        self.truth = numpy.fromfile(chosen.truth, numpy.int32).reshape(len(self.queries), -1)[:, 1:]
        self.threads, self.seconds, self.name, self.facts = threads, seconds, name, facts

    def point(self, index, k, knobs, reads=None):
        """Prints one point of the curve and returns its recall. reads: full vectors a query, if it is not counted by Faiss."""
        d, i = numpy.empty((1, k), numpy.float32), numpy.empty((1, k), numpy.int64)
        rows = [faiss.swig_ptr(row) for row in self.queries]
        ask = getattr(index, "search_c", None)
        dp, ip = faiss.swig_ptr(d), faiss.swig_ptr(i)
        faiss.omp_set_num_threads(1)
        done, began, wall = 0, time.thread_time(), time.monotonic()
        while done < SINGLES_MIN or time.monotonic() - wall < self.seconds:
            ask(1, rows[done % len(rows)], k, dp, ip)
            done += 1
        spent = (time.thread_time() - began) / done
        faiss.omp_set_num_threads(self.threads)
        some = self.queries[:max(RECALLS_MIN, int(4 * self.seconds / spent))]
        faiss.cvar.hnsw_stats.reset()
        done, wall = 0, time.monotonic()
        while not done or time.monotonic() - wall < self.seconds:
            found = index.search(some, k)[1]
            done += len(some)
        both = done / (time.monotonic() - wall)
        if reads is None:
            counted = faiss.cvar.hnsw_stats  # 1.7 counts in n3, later ones in ndis
            reads = (counted.ndis or getattr(counted, "n3", 0)) / done
        recall = float(numpy.mean([len(numpy.intersect1d(f, t[:k])) / k for f, t in zip(found, self.truth)]))
        print(json.dumps({"engine": self.name, "k": k, "knobs": knobs, "recall": recall, "qps": 1 / spent, "qps_all": both, "reads": reads,
                          **self.facts}), flush=True)
        return recall


def climb(values, measure):
    """Goes up a knob until more of it brings nothing."""
    last = -1
    for value in values:
        recall = measure(value)
        if recall > 0.9995 or (recall > 0.5 and recall < last + 0.0003):
            break
        last = recall


def steps(low, high):
    """Powers of the root of 2 between, rounded, each once."""
    return sorted({min(high, round(low * 2 ** (i / 2))) for i in range(0, 2 * math.ceil(math.log2(max(high / low, 1))) + 1)})


def filled(index, base):
    began = time.monotonic()
    for start in range(0, len(base), ADD_ROWS):
        index.add(numpy.ascontiguousarray(base[start:start + ADD_ROWS]))
    return time.monotonic() - began


def flat(chosen, base, kind, options):
    index = faiss.IndexFlat(chosen.dim, kind)
    facts = {"train_s": 0, "build_s": filled(index, base), "bytes": 4 * chosen.dim, "bytes_full": 4 * chosen.dim}
    asker = Asker(chosen, options.threads, options.seconds, "Faiss Flat", facts)
    for k in (10, 100):
        asker.point(index, k, {}, reads=len(base))


def parts_of(dim):
    """Sub-quantisers of two coordinates, or the nearest number below that divides the dimension."""
    return next(m for m in range(max(dim // 2, 1), 0, -1) if dim % m == 0)


def ivf(chosen, base, kind, options):
    lists = min(options.lists or round(2 * math.sqrt(len(base))), len(base) // 40)
    parts = parts_of(chosen.dim)
    step = max(len(base) // (TRAIN_PER_LIST * lists), 1)
    sample = numpy.ascontiguousarray(base[::step])
    for by_residual in (True,) if options.quick else (False, True):
        coarse = faiss.IndexFlat(chosen.dim, kind)
        index = faiss.IndexIVFPQFastScan(coarse, chosen.dim, lists, parts, 4, kind)
        index.by_residual, index.cp.max_points_per_centroid, index.cp.niter = by_residual, TRAIN_PER_LIST, ITERATIONS
        began = time.monotonic()
        index.train(sample)
        trained = time.monotonic() - began
        built = filled(index, base)
        per_row = parts // 2 + parts % 2 + 8 + 4 * lists * chosen.dim / len(base)  # codes, ids, centroids
        refine = faiss.IndexRefineFlat(index, faiss.swig_ptr(base))
        facts = {"train_s": trained, "build_s": built, "bytes": per_row, "bytes_full": per_row + 4 * chosen.dim}
        asker = Asker(chosen, options.threads, options.seconds, "Faiss IVFPQFastScan+refine", facts)
        for k, factors in ((10, (4, 16, 64) if options.quick else (2, 4, 8, 16, 32, 64)), (100, (2, 8) if options.quick else (1, 2, 4, 8, 16))):
            for factor in factors:
                def measure(nprobe):
                    index.nprobe, refine.k_factor = nprobe, factor
                    return asker.point(refine, k, {"lists": lists, "residual": by_residual, "nprobe": nprobe, "k_factor": factor}, k * factor)
                climb(steps(max(lists // 256, 1), lists)[::2 if options.quick else 1], measure)


def hnsw(chosen, base, kind, options):
    index = faiss.IndexHNSWFlat(chosen.dim, M_HNSW, kind)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    # An index that was built before is read: it takes many minutes, and how many is kept beside it.
    kept = pathlib.Path(chosen.directory) / f"faiss-hnsw-{faiss.__version__}-{M_HNSW}-{EF_CONSTRUCTION}.index"
    note = kept.with_suffix(".json")
    if note.exists():
        index, built = faiss.read_index(str(kept)), json.loads(note.read_text())["build_s"]
    else:
        built = filled(index, base)
        faiss.write_index(index, str(kept))
        note.write_text(json.dumps({"build_s": built}))
    whole = kept.stat().st_size / len(base)
    facts = {"train_s": 0, "build_s": built, "bytes": whole - 4 * chosen.dim, "bytes_full": whole}
    asker = Asker(chosen, options.threads, options.seconds, "Faiss HNSWFlat", facts)
    for k in (10, 100):
        def measure(ef):
            index.hnsw.efSearch = ef
            return asker.point(index, k, {"ef": ef})
        climb(steps(k, 4096)[::2 if options.quick else 1], measure)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("what", choices=["flat", "ivf", "hnsw"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--lists", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    chosen = Set(options.directory)
    faiss.omp_set_num_threads(options.threads)
    compiled = faiss.get_compile_options().strip()
    generic = "" if "AVX" in compiled else ": a generic build, which emulates the vector instructions of FastScan; one for this CPU is faster (--faiss-python)"
    print(json.dumps({"note": f"Faiss {faiss.__version__}, compiled for {compiled}{generic}"}), flush=True)
    kind = faiss.METRIC_L2 if chosen.metric == "l2" else faiss.METRIC_INNER_PRODUCT
    {"flat": flat, "ivf": ivf, "hnsw": hnsw}[options.what](chosen, read_fbin(chosen.base), kind, options)


main()
