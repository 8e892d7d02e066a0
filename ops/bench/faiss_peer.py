#!/usr/bin/python3
"""Our codecs beside Debian's Faiss at equal bytes: recall and codes a second, one thread, the same vectors in the same run.

    ops/bench/faiss_peer.py BUILD [base.fvecs|.npy queries.fvecs|.npy l2|cosine]

Without files: the word vectors of ops/data (cosine) and clustered synthetic vectors, 200,000 x 768 (l2). Ours are measured by
`gyre codec compare`; Faiss by IndexPQFastScan (4-bit product quantisation, blocks of 32, as our scan) with as many sub-quantisers as fit
the bytes of our row. Faiss learns its books from the vectors; ours know nothing of them but their mean. Needs python3-faiss."""
import json
import subprocess
import sys
import tempfile
import time

import faiss
import numpy

CODECS = ["rabitq1", "blockquant-p4b1", "additive-p8b1", "signblock-p8b2", "rabitq4"]
DEPTHS = [10, 20, 50, 100, 200]
QUERIES = 100
SECONDS = 1.0


def clustered(count, dim, seed):
    """Gaussian clusters in a space whose spectrum falls as a power law, as embeddings do."""
    draw = numpy.random.default_rng(seed)
    spectrum = (1 + numpy.arange(dim, dtype=numpy.float32)) ** -0.5
    centres = draw.standard_normal((256, dim), dtype=numpy.float32) * spectrum
    vectors = draw.standard_normal((count + QUERIES, dim), dtype=numpy.float32) * spectrum
    vectors = (0.7 * vectors + centres[draw.integers(0, 256, count + QUERIES)]) @ random_rotation(draw, dim)
    return vectors[:count], vectors[count:]


def random_rotation(draw, dim):
    return numpy.linalg.qr(draw.standard_normal((dim, dim), dtype=numpy.float32))[0]


def load(path):
    if path.endswith(".npy"):
        return numpy.load(path).astype(numpy.float32)
    raw = numpy.fromfile(path, dtype=numpy.int32)
    return raw.reshape(-1, raw[0] + 1)[:, 1:].copy().view(numpy.float32)


def ours(build, base, queries, metric, place):
    numpy.save(f"{place}/base.npy", base)
    numpy.save(f"{place}/queries.npy", queries)
    told = subprocess.run([f"{build}/bin/gyre", "codec", "compare", "--vectors", f"{place}/base.npy", "--queries", f"{place}/queries.npy",
                           "--metric", metric, "--limit", str(len(base)), "--codecs", ",".join(CODECS), "--json", "--quiet"],
                          check=True, capture_output=True, text=True)
    for result in json.loads(told.stdout)["codecs"]:
        recalls = [result["recall_codes_alone"], *(result["recall_reranked"][str(depth)] for depth in DEPTHS[1:])]
        yield f"gyre {result['codec']}", result["bytes"], 0, result["encode_per_second"], result["codes_per_second"], recalls


def rate(search, codes):
    """Codes a second of a search that is repeated until it took long enough to be measured."""
    rounds, start = 0, time.monotonic()
    while time.monotonic() - start < SECONDS:
        search()
        rounds += 1
    return codes * rounds / (time.monotonic() - start)


def theirs(name, index, base, queries, truth, row_bytes):
    start = time.monotonic()
    index.train(base[:50000])
    trained = time.monotonic() - start
    start = time.monotonic()
    index.add(base)
    encoded = len(base) / (time.monotonic() - start)
    found = index.search(queries, DEPTHS[-1])[1]
    recalls = [numpy.mean([len(set(f[:depth]) & set(t)) / 10 for f, t in zip(found, truth)]) for depth in DEPTHS]
    one = rate(lambda: index.search(queries[:1], 100), len(base))
    many = rate(lambda: index.search(queries, 100), len(base) * len(queries))
    return (name, row_bytes, trained, encoded, one, recalls), many


def compare(build, title, base, queries, metric):
    faiss.omp_set_num_threads(1)
    dim = base.shape[1]
    if metric == "cosine":
        base, queries = base / numpy.linalg.norm(base, axis=1, keepdims=True), queries / numpy.linalg.norm(queries, axis=1, keepdims=True)
    kind = faiss.METRIC_L2 if metric == "l2" else faiss.METRIC_INNER_PRODUCT
    exact = faiss.IndexFlat(dim, kind)
    exact.add(base)
    truth = exact.search(queries, 10)[1]
    print(f"\n{title}: {len(base):,} x {dim}, {metric}, {len(queries)} queries, one thread")
    print(f"{'':28} {'bytes':>6} {'train s':>8} {'encode/s':>10} {'M codes/s':>10}  recall@10 of the best 10, 20, 50, 100, 200")

    def show(name, row_bytes, trained, encoded, codes, recalls):
        print(f"{name:28} {row_bytes:6d} {trained:8.1f} {encoded:10,.0f} {codes / 1e6:10.1f}  {'  '.join(f'{r:.3f}' for r in recalls)}", flush=True)

    start = time.monotonic()
    exact.search(queries, 10)
    flat = len(base) * len(queries) / (time.monotonic() - start)
    show("Faiss Flat (all queries)", 4 * dim, 0, 0, flat, [1.0] * len(DEPTHS))
    with tempfile.TemporaryDirectory() as place:
        results = list(ours(build, base, queries, metric, place))
    for result in results:
        show(*result)
    for row_bytes in sorted({result[1] for result in results}):
        parts = max((m for m in range(1, 2 * row_bytes + 1) if dim % m == 0), default=1)
        result, many = theirs(f"Faiss PQ{parts}x4fs", faiss.IndexPQFastScan(dim, parts, 4, kind), base, queries, truth, parts // 2)
        show(*result)
        print(f"{'  all queries in one call':28} {'':6} {'':8} {'':10} {many / 1e6:10.1f}")


def main():
    build = sys.argv[1]
    print(f"Faiss {faiss.__version__}, compiled for {faiss.get_compile_options().strip()}")
    if len(sys.argv) > 2:
        base, queries, metric = sys.argv[2:]
        compare(build, base, load(base), load(queries)[:QUERIES], metric)
        return
    compare(build, "words", load("ops/data/words.npy"), load("ops/data/words-queries.npy")[:QUERIES], "cosine")
    compare(build, "clustered", *clustered(200000, 768, 1), "l2")


if __name__ == "__main__":
    main()
