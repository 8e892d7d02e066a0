"""An acknowledged upsert survives kill -9 of any daemon, at any moment."""

import os
import random
import threading

import grpc
import numpy

from cluster import until

DIM = 24
KILLS = int(os.environ.get("GYRE_KILLS", "12"))
WRITERS = 3
BATCH = 50


class Writer(threading.Thread):
    """Writes batches of its own ids for ever, overwriting some, and remembers what was acknowledged. Writer 0 imports: a stream
    of several messages, of which nothing counts before the whole is acknowledged. The others upsert."""

    def __init__(self, cluster, number):
        super().__init__()
        self.cluster, self.number, self.random = cluster, number, numpy.random.default_rng(number)
        self.acknowledged, self.in_doubt = {}, {}
        self.stopping = threading.Event()
        self.trouble = None
        self.batches = 0

    def run(self):
        try:
            with self.cluster.client() as client:
                while not self.stopping.is_set():
                    self.write(client)
        except Exception as error:  # noqa: BLE001 - reported by the test, which joins every writer
            self.trouble = error

    def write(self, client):
        fresh = self.batches * BATCH // 2
        numbers = sorted({self.number + WRITERS * (fresh + i) for i in range(BATCH // 2)}
                         | {self.number + WRITERS * int(self.random.integers(0, fresh + 1)) for _ in range(BATCH // 2)})
        vectors = self.random.normal(size=(len(numbers), DIM)).astype(numpy.float32)
        self.batches += 1
        self.in_doubt = dict(zip(numbers, vectors))
        # Until it is acknowledged a batch may or may not be there; it is sent again until it is.
        while not self.stopping.is_set():
            try:
                points = [client.point(n, v, payload_of(v)) for n, v in zip(numbers, vectors)]
                if self.number == 0:
                    parts = [points[i::4] for i in range(4)]
                    client.import_points(iter([client.messages.ImportRequest(collection="kept", points=p) for p in parts]), timeout=5)
                else:
                    client.upsert("kept", points, timeout=5)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED,
                                        grpc.StatusCode.ABORTED):
                    raise
                continue
            self.acknowledged.update(self.in_doubt)
            self.in_doubt = {}
            return


def payload_of(vector):
    return '{"first": "%s"}' % float(vector[0]).hex()


def read_all(client, numbers):
    found = {}
    for start in range(0, len(numbers), 1000):
        for point in client.get("kept", numbers[start:start + 1000], timeout=30).points:
            found[point.id.num] = numpy.array(point.vector, numpy.float32)
            assert point.payload == payload_of(found[point.id.num]), point.id.num
    return found


def test_nothing_acknowledged_is_lost_by_kill_9(own_cluster):
    dice = random.Random(4)
    with own_cluster.client() as client:
        client.create("kept", DIM, "L2", shards=6)
    writers = [Writer(own_cluster, n) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(KILLS):
            progress = sum(w.batches for w in writers)
            wanted = progress + dice.randint(3, 12)
            until(lambda: sum(w.batches for w in writers) >= wanted or any(w.trouble for w in writers), "writers to go on", 200)
            victim = dice.randrange(4)
            if victim == 3:
                own_cluster.coordinator.kill()
                own_cluster.start_coordinator()
            else:
                own_cluster.shards[victim].kill()
                own_cluster.start_shard(victim)
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(60)
    assert [w.trouble for w in writers] == [None] * WRITERS
    # Last of all, everything at once: what is read back comes from disk.
    for daemon in own_cluster.daemons():
        daemon.kill()
    own_cluster.start_coordinator()
    for i in range(3):
        own_cluster.start_shard(i)
    own_cluster.await_nodes(3)
    acknowledged, in_doubt = {}, {}
    for writer in writers:
        acknowledged.update(writer.acknowledged)
        in_doubt.update(writer.in_doubt)
    assert len(acknowledged) > KILLS * BATCH
    with own_cluster.client() as client:
        until(lambda: reachable(client), "every shard to answer")
        found = read_all(client, sorted(acknowledged))
        lost = [n for n, v in acknowledged.items()
                if n not in found or not (numpy.array_equal(found[n], v) or (n in in_doubt and numpy.array_equal(found[n], in_doubt[n])))]
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged points lost or changed, first {lost[:5]}"
        count = client.call("Points", "Count", collection="kept").points
        assert len(acknowledged) <= count <= len(set(acknowledged) | set(in_doubt))
        # Codes and vectors agree again: each point finds itself.
        for number in random.Random(1).sample(sorted(acknowledged), 50):
            hit = client.search("kept", found[number], k=1).hits[0]
            assert hit.distance == 0
        print(f"{KILLS} kills, {len(acknowledged)} acknowledged points, all there")


def reachable(client):
    try:
        return client.call("Points", "Count", collection="kept")
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return None


def test_deleted_points_stay_deleted(own_cluster):
    base = numpy.random.default_rng(1).normal(size=(3000, DIM)).astype(numpy.float32)
    with own_cluster.client() as client:
        client.create("kept", DIM, "L2")
        client.upsert("kept", [client.point(i, v) for i, v in enumerate(base)])
        gone = list(range(0, 3000, 3))
        assert client.call("Points", "Delete", collection="kept", ids=[client.messages.PointId(num=n) for n in gone]).deleted == 1000
        for i in range(3):
            own_cluster.shards[i].kill()
            own_cluster.start_shard(i)
        own_cluster.await_nodes(3)
        until(lambda: reachable(client), "every shard to answer")
        assert client.call("Points", "Count", collection="kept").points == 2000
        for options in [{}, {"exact": True}]:
            assert all(h.id.num % 3 for q in base[:10] for h in client.search("kept", q, k=100, **options).hits)
