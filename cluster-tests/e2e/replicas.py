"""What tests of several copies share: how a collection's members stand, and writers and searchers that never pause."""

import json
import subprocess
import threading
import time

import grpc
import numpy

from cluster import BIN, ids, until

# What a call may say while nodes die, whose time runs out before somebody else could answer.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def passing(attempt):
    """What attempt() returns; None if it failed as it may while a node dies."""
    try:
        return attempt()
    except grpc.RpcError as error:
        if error.code() not in PASSING:
            raise
        return None


def run_gyre(cluster, *arguments):
    return subprocess.run([BIN / "gyre", *arguments, "--address", cluster.ports["grpc"]], capture_output=True, timeout=60,
                          text=True)


def gyre(cluster, *arguments):
    """Runs the command against the cluster; what it printed."""
    done = run_gyre(cluster, *arguments)
    assert done.returncode == 0, f"gyre {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def info(cluster, name):
    """A collection as `gyre collection info` shows it."""
    return json.loads(gyre(cluster, "collection", "info", name, "--json"))


def shards_of(client, name):
    return client.call("Collections", "Get", name=name).shards


def nodes_of(shard, **wanted):
    """The nodes of the members whose fields are as wanted."""
    return [m.node for m in shard.members if all(getattr(m, field) == value for field, value in wanted.items())]


def number_of(node):
    return int(node[1:])


def whole(client, name):
    """Whether every shard has the members that are wished, all there, in sync or caught up, and at the same seq: then the
    shards."""
    collection = client.call("Collections", "Get", name=name)
    for shard in collection.shards:
        full = [m for m in shard.members if not m.quantized]
        if shard.obstacle or len(full) != collection.spec.copies or len(shard.members) - len(full) != collection.spec.quantized:
            return None
        for m in shard.members:
            if not m.reachable or m.restoring or m.leaving or m.in_sync == m.quantized or m.applied_seq != shard.applied_seq:
                return None
        if not shard.reachable or shard.codebook_version != collection.codebook_version:
            return None
    return collection.shards


def await_whole(client, *names, seconds=60.0):
    """Waits for that; the shards of the first. Says how the collection stands if it never comes."""
    try:
        return [until(lambda: whole(client, name), f"every member of '{name}' there, in sync and at one seq", seconds)
                for name in names][0]
    except AssertionError as error:
        raise AssertionError(f"{error}\n{[client.call('Collections', 'Get', name=name) for name in names]}") from error


def await_whole_while_writing(client, name):
    """Waits until all members that are wished are there and have caught up; their seqs may differ, as writes come. The shards."""
    def there():
        collection = client.call("Collections", "Get", name=name)
        for shard in collection.shards:
            if len(nodes_of(shard, in_sync=True, reachable=True, leaving=False)) != collection.spec.copies:
                return None
            if len(nodes_of(shard, quantized=True, reachable=True, restoring=False, leaving=False)) != collection.spec.quantized:
                return None
            if len(shard.members) != collection.spec.copies + collection.spec.quantized:
                return None
        return collection.shards
    return until(there, f"every member of '{name}' in sync", 60)


def node_points(client):
    """How many points the replicas of each node have, as reported."""
    return {n.name: n.points for n in client.call("Cluster", "Status").nodes}


def payload_of(vector):
    return '{"first": "%s"}' % float(vector[0]).hex()


class Loop(threading.Thread):
    """Does step(client) without a pause until stopped; what went wrong is raised by stop()."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.stopping, self.trouble = cluster, threading.Event(), None

    def run(self):
        try:
            with self.cluster.client() as client:
                while not self.stopping.is_set():
                    self.step(client)
        except Exception as error:  # noqa: BLE001 - raised by stop, on the test's own thread
            self.trouble = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *failure):
        self.stopping.set()
        self.join(100)
        if self.trouble and not kind:
            raise self.trouble
        assert kind or not self.is_alive(), f"{type(self).__name__} hangs"


class Writer(Loop):
    """Upserts, overwrites and deletes points of its own. A batch that fails in passing is sent again until it is acknowledged, so
    that the state of every point is known once it has stopped: a vector, or None for a deleted one."""

    def __init__(self, cluster, collection, dim, number=0, of=1, batch=30, timeout=10):
        super().__init__(cluster)
        self.collection, self.dim, self.number, self.of, self.batch = collection, dim, number, of, batch
        self.timeout = timeout
        self.random = numpy.random.default_rng(number + 100)
        self.state = {}
        self.batches = self.failures = 0
        self.longest_s = 0.0  # that any one write took, with what it was sent again

    def step(self, client):
        fresh = self.batches * self.batch // 2
        numbers = sorted({self.number + self.of * (fresh + i) for i in range(self.batch // 2)}
                         | {self.number + self.of * int(i) for i in self.random.integers(0, fresh + 1, self.batch // 2)})
        vectors = self.random.normal(size=(len(numbers), self.dim)).astype(numpy.float32)
        points = [client.point(n, v, payload_of(v)) for n, v in zip(numbers, vectors)]
        self.repeat(lambda: client.upsert(self.collection, points, timeout=self.timeout))
        self.state.update(zip(numbers, vectors))
        if self.batches % 3 == 2:
            gone = [n for n in numbers if n % 7 == 0]
            self.repeat(lambda: client.call("Points", "Delete", collection=self.collection, timeout=self.timeout,
                                            ids=[client.messages.PointId(num=n) for n in gone]))
            self.state.update((n, None) for n in gone)
        self.batches += 1

    def repeat(self, attempt):
        began = time.monotonic()
        while passing(attempt) is None:
            self.failures += 1
            assert time.monotonic() < began + 60, f"writer {self.number}: a write fails for 60 s"
            self.stopping.wait(0.02)
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def await_batches(self, count, what):
        """Waits for so many acknowledged batches that begin from now on; how long that took."""
        began, wanted = time.monotonic(), self.batches + count + 1
        until(lambda: self.batches >= wanted or self.trouble, what)
        if self.trouble:
            raise self.trouble
        return time.monotonic() - began

    def living(self):
        return sum(v is not None for v in self.state.values())

    def verify(self, client):
        """Every acknowledged write is there, bit for bit, and every acknowledged delete holds."""
        assert not self.is_alive() and self.state
        numbers = sorted(self.state)
        for start in range(0, len(numbers), 1000):
            part = numbers[start:start + 1000]
            reply = client.get(self.collection, part)
            found = {p.id.num: p for p in reply.points}
            revived = [n for n in part if self.state[n] is None and n in found]
            assert not revived, f"deleted and there again: {revived[:5]}"
            lost = [n for n in part if self.state[n] is not None and n not in found]
            assert not lost, f"acknowledged and lost: {len(lost)}, first {lost[:5]}"
            for n, point in found.items():
                assert numpy.array(point.vector, numpy.float32).tobytes() == self.state[n].tobytes(), n
                assert point.payload == payload_of(self.state[n]), n


class Searcher(Loop):
    """Searches for points that nobody changes, by their own vectors; each must find itself, whichever replica answers. Failures
    are kept, not raised."""

    def __init__(self, cluster, collection, anchors):
        super().__init__(cluster)
        vectors, self.token = anchors
        self.collection, self.anchors = collection, sorted(vectors.items())
        self.answers, self.failures = 0, []

    def step(self, client):
        number, vector = self.anchors[(self.answers + len(self.failures)) % len(self.anchors)]
        try:
            request = client.search_request(self.collection, vector, k=3)
            request.token = self.token
            reply = client.call("Points", "Search", request, timeout=10)
        except grpc.RpcError as error:
            self.failures.append(f"{error.code().name}: {error.details()}")
            return
        assert ids(reply)[0] == number and reply.basis.shards_answered == reply.basis.shards_total, (number, reply)
        self.answers += 1


class Watcher(Loop):
    """Looks at a collection's configurations without a pause: a primary is always in sync, epochs never fall, and a member
    becomes primary only from the in-sync set of the epoch before."""

    def __init__(self, cluster, collection):
        super().__init__(cluster)
        self.collection, self.seen, self.epochs = collection, {}, 0

    def step(self, client):
        for shard in passing(lambda: shards_of(client, self.collection)) or []:
            primary, in_sync = [m.id for m in shard.members if m.primary], {m.id for m in shard.members if m.in_sync}
            assert len(primary) == 1 and primary[0] in in_sync, shard
            epoch, older_primary, older_in_sync = self.seen.get(shard.shard, (0, primary, in_sync))
            assert shard.epoch >= epoch, shard
            assert shard.epoch > epoch or primary == older_primary, shard
            if shard.epoch == epoch + 1:
                self.epochs += 1
                assert primary[0] in older_in_sync, (shard, older_in_sync)
            self.seen[shard.shard] = (shard.epoch, primary, in_sync)


def add_anchors(client, collection, dim, count=100, first=1 << 40):
    """Points that nobody changes afterwards: their vectors by id, and the token of that write."""
    vectors = dict(enumerate(numpy.random.default_rng(5).normal(size=(count, dim)).astype(numpy.float32), first))
    reply = client.call("Points", "Upsert", collection=collection, points=[client.point(n, v) for n, v in vectors.items()])
    return vectors, reply.token
