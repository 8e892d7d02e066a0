"""The vectors that ops/bench/ann measures on, cached under BUILD/ann: base, held-out queries and their exact neighbours.

Every set is a directory with base.fbin, queries.fbin (u32 count, u32 dim, f32 rows; unit vectors under cosine, so that every engine gets
the same bits), truth.ivecs (rows of base, nearest first) and set.json, written last: a set without it was interrupted and is made anew.
Nothing holds a whole set in memory: rows are written and compared in runs."""
import json
import os
import pathlib
import shutil
import sys

import numpy

QUERIES = 1000
DEPTH = 100     # neighbours in truth.ivecs
DOUBTFUL = 200  # candidates by float32 that are compared again in float64
RUN_ROWS = 20000


class Set:
    """A set that is ready."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        about = json.loads((self.directory / "set.json").read_text())
        self.title, self.metric, self.count, self.dim, self.query_count = (about[f] for f in ("title", "metric", "count", "dim", "queries"))
        self.base, self.queries, self.truth = (self.directory / f for f in ("base.fbin", "queries.fbin", "truth.ivecs"))


def read_fbin(path):
    """An .fbin file as an array that is mapped, not read."""
    count, dim = numpy.fromfile(path, numpy.uint32, 2)
    return numpy.memmap(path, numpy.float32, "r", 8, (int(count), int(dim)))


def read_rows(path):
    """Rows of .npy or .fvecs, mapped where the format allows it."""
    path = str(path)
    if path.endswith(".npy"):
        return numpy.load(path, mmap_mode="r")
    if path.endswith(".fbin"):
        return read_fbin(path)
    if path.endswith(".fvecs"):
        raw = numpy.memmap(path, numpy.float32, "r")
        width = int(raw[:1].view(numpy.int32)[0]) + 1
        if width < 2 or raw.size % width:
            raise SystemExit(f"ann: {path}: its size does not agree with its first row's dimension")
        return raw.reshape(-1, width)[:, 1:]
    raise SystemExit(f"ann: {path}: not .npy, .fvecs or .fbin")


def normalised(rows, metric):
    rows = numpy.array(rows, numpy.float32)
    if not numpy.isfinite(rows).all():
        raise SystemExit("ann: the vectors hold NaN or infinities")
    if metric == "cosine":
        norms = numpy.linalg.norm(rows.astype(numpy.float64), axis=1, keepdims=True)
        if not norms.all():
            raise SystemExit("ann: a vector of all zeros has no cosine")
        rows = (rows / norms).astype(numpy.float32)
    return rows


def write_fbin(path, count, dim, runs):
    with open(path, "wb") as file:
        numpy.array([count, dim], numpy.uint32).tofile(file)
        for run in runs:
            run.tofile(file)


def exact(base, queries, metric):
    """Rows of the DEPTH nearest of base, ties to the lower row: float32 finds DOUBTFUL, float64 decides among them."""
    found = numpy.zeros((len(queries), 0), numpy.int64)
    values = numpy.zeros((len(queries), 0), numpy.float32)
    for start in range(0, len(base), RUN_ROWS):
        rows = numpy.asarray(base[start:start + RUN_ROWS])
        products = queries @ rows.T
        distances = (rows * rows).sum(1) - 2 * products if metric == "l2" else -products
        values = numpy.concatenate([values, distances], 1)
        found = numpy.concatenate([found, numpy.broadcast_to(numpy.arange(start, start + len(rows)), distances.shape)], 1)
        if values.shape[1] > DOUBTFUL:
            best = numpy.argpartition(values, DOUBTFUL - 1, 1)[:, :DOUBTFUL]
            values, found = numpy.take_along_axis(values, best, 1), numpy.take_along_axis(found, best, 1)
    truth = numpy.empty((len(queries), DEPTH), numpy.int32)
    for i, query in enumerate(queries.astype(numpy.float64)):
        rows = base[numpy.sort(found[i])].astype(numpy.float64)
        distances = ((rows - query) ** 2).sum(1) if metric == "l2" else -(rows @ query)
        truth[i] = numpy.sort(found[i])[numpy.argsort(distances, kind="stable")[:DEPTH]]
    return truth


def make(directory, title, metric, count, dim, base_runs, queries):
    """Writes a set; base_runs yields its rows in order."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    print(f"ann: {title}: writing {count:,} x {dim} and finding the exact neighbours of {len(queries)} queries", file=sys.stderr, flush=True)
    queries = normalised(queries, metric)
    write_fbin(directory / "base.fbin", count, dim, (normalised(run, metric) for run in base_runs))
    write_fbin(directory / "queries.fbin", len(queries), dim, [queries])
    truth = exact(read_fbin(directory / "base.fbin"), queries, metric)
    numpy.concatenate([numpy.full((len(truth), 1), DEPTH, numpy.int32), truth], 1).tofile(directory / "truth.ivecs")
    about = {"title": title, "metric": metric, "count": count, "dim": dim, "queries": len(queries)}
    (directory / "set.json").write_text(json.dumps(about))
    return Set(directory)


def runs_of(rows):
    return (rows[i:i + RUN_ROWS] for i in range(0, len(rows), RUN_ROWS))


def words(cache, build, quick):
    """The full word set (cluster.py fetches it), cosine; the queries are words drawn from it and left out of the base."""
    from cluster import full_words
    path, kind = full_words(build)
    rows = numpy.load(path, mmap_mode="r")
    count = min(len(rows), 100_000 + QUERIES) if quick else len(rows)
    directory = cache / f"{kind}-{count}"
    if (directory / "set.json").exists():
        return Set(directory)
    order = numpy.random.default_rng(4).permutation(count)
    base = rows[numpy.sort(order[QUERIES:])]
    return make(directory, f"{kind}, {len(base):,} x {rows.shape[1]}, cosine", "cosine", len(base), rows.shape[1], runs_of(base),
                rows[numpy.sort(order[:QUERIES])])


def clustered(cache, quick, count, dim=768, clusters=1000):
    """Gaussian clusters in a space whose spectrum falls as a power law, as embeddings do, turned at random; l2. The queries are drawn
    with them."""
    count = count or (100_000 if quick else 1_000_000)
    directory = cache / f"clustered-{count}"
    if (directory / "set.json").exists():
        return Set(directory)
    draw = numpy.random.default_rng(1)
    spectrum = (1 + numpy.arange(dim, dtype=numpy.float32)) ** -0.5
    centres = draw.standard_normal((clusters, dim), dtype=numpy.float32) * spectrum
    turn = numpy.linalg.qr(draw.standard_normal((dim, dim), dtype=numpy.float32))[0]

    def run(seed, n):
        own = numpy.random.default_rng([1, seed])
        rows = own.standard_normal((n, dim), dtype=numpy.float32) * (0.7 * spectrum)
        return (rows + centres[own.integers(0, clusters, n)]) @ turn

    runs = (run(1 + i, min(RUN_ROWS, count - i)) for i in range(0, count, RUN_ROWS))
    return make(directory, f"clustered, {count:,} x {dim}, l2", "l2", count, dim, runs, run(0, QUERIES))


def of_file(cache, path, metric, limit):
    """A file's rows; the last are the queries."""
    rows = read_rows(path)
    if rows.ndim != 2 or len(rows) < DOUBTFUL + 2:
        raise SystemExit(f"ann: {path}: needs two dimensions and more than {DOUBTFUL} rows")
    queries = min(QUERIES, len(rows) // 10)
    count = min(len(rows) - queries, limit or len(rows))
    about = os.stat(path)
    directory = cache / f"{pathlib.Path(path).stem}-{metric}-{count}-{about.st_size:x}-{about.st_mtime_ns:x}"
    if (directory / "set.json").exists():
        return Set(directory)
    return make(directory, f"{pathlib.Path(path).name}, {count:,} x {rows.shape[1]}, {metric}", metric, count, rows.shape[1],
                runs_of(rows[:count]), rows[len(rows) - queries:])


def prepared(name, cache, build, quick, metric, limit):
    """The set of a name or of a file."""
    if name == "words":
        return words(cache, build, quick)
    if name == "clustered":
        return clustered(cache, quick, limit)
    if not pathlib.Path(name).is_file():
        raise SystemExit(f"ann: there is no set or file {name}")
    return of_file(cache, name, metric or "l2", limit or (100_000 if quick else 0))
