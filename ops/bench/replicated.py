"""A cluster of several copies, seen and broken from outside, and clients that call it without a pause: for replication.py.

The daemons and the client are those of cluster-tests/e2e/cluster.py, which finds the build by GYRE_BUILD."""
import datetime
import importlib.util
import itertools
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request

import grpc
import numpy

import ann_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
WAIT_SECONDS = 300  # for a state that must come; a part that does not reach it ends with what it waited for


def _harness():
    """cluster-tests/e2e/cluster.py, which has the name of a file here."""
    spec = importlib.util.spec_from_file_location("gyre_e2e", ROOT / "cluster-tests" / "e2e" / "cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


harness = _harness()


def until(condition, what, seconds=WAIT_SECONDS):
    return harness.until(condition, what, seconds)


class Replicated(harness.Cluster):
    """So many shard daemons n0, n1 … in a directory of their own under the build, which goes with them."""

    def __init__(self, nodes):
        room = pathlib.Path(tempfile.mkdtemp(prefix="gyre-bench-", dir=harness.BUILD))
        try:
            super().__init__(room, shards=nodes)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *failure):
        # Nothing here is kept, and a daemon that drains would be waited for.
        for daemon in self.daemons():
            if daemon.process.poll() is None:
                daemon.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def gyre(self, *arguments):
        ended = subprocess.run([harness.BIN / "gyre", *map(str, arguments), "--address", self.ports["grpc"]], capture_output=True,
                               text=True)
        if ended.returncode:
            raise SystemExit(f"gyre {' '.join(map(str, arguments))}\n{ended.stdout}{ended.stderr}")
        return ended.stdout

    def filled(self, name, rows, metric, **spec):
        """A collection of the file's rows, trained, all of its members caught up."""
        with self.client() as client:
            client.create(name, ann_data.read_rows(rows).shape[1], metric.upper(), **spec)
        self.gyre("import", name, rows, "--quiet")
        self.settle(name)

    def settle(self, name):
        self.gyre("collection", "train", name, "--wait")
        with self.client() as client:
            until(lambda: self.whole(client, name), f"all members of {name} caught up")

    def shard(self, client, name, shard=0):
        return client.call("Collections", "Get", name=name).shards[shard]

    def whole(self, client, name):
        """Whether every member that is wished is there and has all that was acknowledged, and nobody else is."""
        collection = client.call("Collections", "Get", name=name)
        return all(len(s.members) == collection.spec.copies + collection.spec.quantized and
                   all(m.reachable and not m.leaving and not m.restoring and
                       (m.applied_seq >= s.applied_seq if m.quantized else m.in_sync) for m in s.members)
                   for s in collection.shards)

    def index(self, node):
        return int(node[1:])

    def wipe(self, i):
        """Kills a daemon, deletes what it had, and starts it empty."""
        self.shards[i].kill()
        shutil.rmtree(self.directory / f"shard-{i}")
        self.start_shard(i)

    def counters(self, name):
        """A counter of every shard daemon, in their order."""
        values = []
        for daemon in self.shards:
            with urllib.request.urlopen(f"http://{daemon.ready['http']}/metrics", timeout=60) as page:
                lines = page.read().decode().splitlines()
            values.append(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))
        return numpy.array(values)


class Log:
    """What a daemon logs from now on."""

    def __init__(self, daemon):
        self.path = daemon.log_path
        self.start = self.path.stat().st_size

    def events(self, name):
        """Its lines of this event as dicts; `at` is the time as seconds of time.time()."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            lines = file.read().decode(errors="replace").split("\n")[:-1]  # the last may be half written
        found = []
        for line in lines:
            if f" event={name} " not in line:
                continue
            pairs = dict(part.split("=", 1) for part in shlex.split(line) if "=" in part)
            stamp = datetime.datetime.strptime(pairs["ts"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
            found.append({**pairs, "at": stamp.timestamp()})
        return found

    def await_event(self, name, matches=lambda event: True, seconds=WAIT_SECONDS):
        return until(lambda: next(filter(matches, self.events(name)), None), f"{self.path.name}: {name}", seconds)


class Load:
    """Clients that call a method without a pause, each the requests (bytes) of its own share in turn. Calls are (began,
    ended, failure) in seconds of time.monotonic(); failure is None or a status code's name."""

    def __init__(self, cluster, method, requests, clients=1):
        with cluster.client() as client:
            self.path = client.method("Points", method)[0]
        self.cluster, self.ended, self.failure = cluster, threading.Event(), ""
        self.lists = [[] for _ in range(clients)]
        self.threads = [threading.Thread(target=self._run, args=(requests[i::clients], self.lists[i])) for i in range(clients)]

    def _run(self, requests, calls):
        with self.cluster.client() as client:
            invoke = client.channel.unary_unary(self.path)  # bytes in, bytes out: the client is to cost little
            for request in itertools.cycle(requests):
                if self.ended.is_set():
                    return
                began, failure = time.monotonic(), None
                try:
                    invoke(request, timeout=60)
                except grpc.RpcError as error:
                    failure = error.code().name
                    self.failure = f"{failure}: {error.details()}"
                calls.append((began, time.monotonic(), failure))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *failure):
        self.ended.set()
        for thread in self.threads:
            thread.join()

    def calls(self, since=0.0, until_=float("inf")):
        """Those that ended in this time, by their ends."""
        return sorted((call for calls in self.lists for call in list(calls) if since <= call[1] <= until_),
                      key=lambda call: call[1])

    def answered(self, since, until_):
        """Seconds that each call took; a benchmark whose calls fail measures nothing."""
        if self.failure:
            raise SystemExit(f"{self.path} failed: {self.failure}")
        return numpy.array([ended - began for began, ended, _ in self.calls(since, until_)])

    def await_success(self, since):
        """Waits for an answer to a call that began after this moment."""
        until(lambda: any(began > since and not failure for began, _, failure in self.calls(since)), f"{self.path} answered")

    def longest_gap(self, since, until_):
        """The longest time without an answer that is not a failure, among the gaps that end in this time."""
        ends = [ended for _, ended, failure in self.calls(0, until_) if not failure]
        return max((b - a for a, b in zip(ends, ends[1:]) if b >= since), default=until_ - since)


def upserts(client, name, vectors, batch):
    """Requests, as bytes, that write each row under its number."""
    points = [client.point(n, row) for n, row in enumerate(vectors.astype(numpy.float32).tolist())]
    return [client.messages.UpsertRequest(collection=name, points=points[first:first + batch]).SerializeToString()
            for first in range(0, len(points), batch)]


def searches(client, name, queries, k=10):
    return [client.search_request(name, query, k=k).SerializeToString() for query in queries.astype(numpy.float32).tolist()]


def synced_appends(directory, size, seconds):
    """Seconds that each append of so many bytes took until it was on the disk of this directory, one after the other."""
    data, took = os.urandom(size), []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        end = time.monotonic() + seconds
        while not took or time.monotonic() < end:
            began = time.monotonic()
            file.write(data)
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    return numpy.array(took)


def plain_copy(directory, size):
    """Seconds that cp and fsync of a file of so many bytes take."""
    source, target = pathlib.Path(directory) / "copy-source", pathlib.Path(directory) / "copy-target"
    block = os.urandom(1 << 20)
    try:
        with open(source, "wb") as file:
            for start in range(0, size, len(block)):
                file.write(block[:min(len(block), size - start)])
            os.fsync(file.fileno())
        began = time.monotonic()
        subprocess.run(["cp", "--reflink=never", "--sparse=never", source, target], check=True)
        with open(target, "rb") as file:
            os.fsync(file.fileno())
        return time.monotonic() - began
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def evaluated(cluster, name, chosen, calls, batch, times, probed):
    """What `gyre eval` says of all queries, asked so many times over the `probed` most promising lists (0: as many as its default
    recall needs), and the codes that each node scanned for a query."""
    before = cluster.counters("gyre_shard_codes_scanned_total")
    lists = ["--nprobe", probed] if probed else []
    told = json.loads(cluster.gyre("eval", name, "--queries", chosen.queries, "--truth", chosen.truth, "-k", 10, *lists,
                                   "--concurrency", calls, "--batch", batch, "--rounds", times, "--json", "--quiet"))
    return told, (cluster.counters("gyre_shard_codes_scanned_total") - before) / told["queries"]
