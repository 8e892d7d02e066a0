"""Damaged data is found, fenced and made anew from another copy, while writes and searches go on."""

import json
import subprocess
import threading

import grpc
import numpy
import pytest

from cluster import BIN, Cluster, until

DIM = 32
POINTS = 3000
NEAR = numpy.random.default_rng(3).normal(size=(POINTS, DIM)).astype(numpy.float32)


class Writer(threading.Thread):
    """Upserts points far from all others, so that no answer of the searches below changes; remembers what was acknowledged."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.acknowledged, self.trouble = cluster, 0, None
        self.stopping = threading.Event()

    def run(self):
        with self.cluster.client() as client:
            while not self.stopping.wait(0.02):
                number = POINTS + self.acknowledged
                try:
                    client.upsert("kept", [client.point(number, [1000.0 + number] * DIM)], timeout=5)
                    self.acknowledged += 1
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.DEADLINE_EXCEEDED):
                        self.trouble = error
                        return


@pytest.fixture()
def kept(tmp_path):
    with Cluster(tmp_path) as cluster, cluster.client() as client:
        client.create("kept", DIM, "L2", shards=2, copies=2)
        until(lambda: whole(client), "both copies of each shard in sync")
        until(lambda: fill(client), "the points to be written")
        until(lambda: whole(client) and trained(client), "both copies of each shard in sync, and the first training's codes")
        writer = Writer(cluster)
        writer.start()
        try:
            yield cluster, client
        finally:
            writer.stopping.set()
            writer.join(30)
        assert writer.trouble is None
        numbers = range(POINTS, POINTS + writer.acknowledged)
        assert writer.acknowledged > 0
        assert not until(lambda: answer(client, numbers), "reads").missing


def fill(client):
    try:
        return client.upsert("kept", [client.point(i, v, '{"n": %d}' % i) for i, v in enumerate(NEAR)])
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)
        return None


def answer(client, numbers):
    try:
        return client.get("kept", numbers)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return None


def shards_of(client):
    return client.call("Collections", "Get", name="kept").shards


def whole(client):
    """Every shard has two copies that are in sync and serve."""
    return all(len(s.members) == 2 and all(m.in_sync and m.reachable and not m.restoring for m in s.members)
               for s in shards_of(client))


def trained(client):
    """The codes that answers rest on are those of the training that runs by itself at a thousand points."""
    collection = client.call("Collections", "Get", name="kept")
    return collection.codebook_version > 1 and all(s.codebook_version == collection.codebook_version for s in collection.shards)


def answers(client):
    replies = until(lambda: search(client), "searches")
    return [hit.SerializeToString(deterministic=True) for reply in replies for hit in reply.hits]


def search(client):
    try:
        return [client.search("kept", v, k=10, exact=exact, with_payload=True) for v in NEAR[:20] for exact in (False, True)]
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return None


def gyre(cluster, *words):
    done = subprocess.run([BIN / "gyre", "--address", cluster.ports["grpc"], *words], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def directory(cluster, client, shard, index):
    """Of one member's replica, and the number of its node."""
    member = shards_of(client)[shard].members[index]
    number = int(member.node[1:])
    collection = client.call("Collections", "Get", name="kept").id
    return cluster.directory / f"shard-{number}" / "replicas" / f"{collection}-{shard}", number, member


def flip(path):
    """Changes one byte in the middle."""
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0x40]))


def largest(replica, suffix):
    return max(replica.glob(f"*{suffix}"), key=lambda f: f.stat().st_size)


def index_of(client, shard, primary):
    return next(i for i, m in enumerate(shards_of(client)[shard].members) if m.primary == primary)


def await_rebuilt(client, shard, member):
    """The damaged member is gone, and another one is in its place."""
    until(lambda: whole(client) and member.id not in [m.id for m in shards_of(client)[shard].members], "a new member in sync", 40)


@pytest.mark.parametrize("primary", [False, True])
def test_a_flipped_byte_under_a_serving_replica_is_found_by_a_scrub(kept, primary):
    cluster, client = kept
    before = answers(client)
    code, out, err = gyre(cluster, "scrub", "kept", "--json")
    assert code == 0, out + err
    members = json.loads(out)["members"]
    assert len(members) == 4 and {m["verdict"] for m in members} == {"whole"}
    assert sum(m["points"] for m in members) >= 2 * POINTS and all(m["bytes"] > 0 for m in members)
    replica, number, member = directory(cluster, client, 1, index_of(client, 1, primary))
    flip(largest(replica, ".sst"))
    code, out, err = gyre(cluster, "scrub", "kept", "--shard", "1")
    assert code == 1 and out.count("DAMAGED") == 1 and f"n{number} " in out and "1 of 2 replicas damaged" in err, out + err
    assert "block checksum mismatch" in out
    await_rebuilt(client, 1, member)
    assert "event=replica_fenced" in cluster.shards[number].log_path.read_text()
    assert answers(client) == before
    assert gyre(cluster, "scrub", "kept")[0] == 0
    assert cluster.shards[number].process.poll() is None


def fsck(cluster, number, *words):
    return gyre(cluster, "fsck", str(cluster.directory / f"shard-{number}"), *words)


def test_a_flipped_byte_of_a_stopped_node_is_named_by_fsck_and_mended_when_it_is_back(kept):
    cluster, client = kept
    before = answers(client)
    replica, number, member = directory(cluster, client, 0, index_of(client, 0, False))
    code, out, err = fsck(cluster, number)
    assert code == 2 and "in use" in out + err, out + err
    cluster.shards[number].stop()
    code, out, err = fsck(cluster, number)
    assert code == 0 and " damaged" in out and "whole" in out, out + err
    file = largest(replica, ".sst")
    flip(file)
    code, out, err = fsck(cluster, number, "--json")
    assert code == 1, out + err
    found = json.loads(out)
    assert found["damaged"] == 1
    assert any(file.name in f["what"] for r in found["replicas"] for f in r["findings"]), out
    cluster.start_shard(number)
    cluster.await_nodes(3)

    def scrubbed():  # by us, or by whoever read it first
        gyre(cluster, "scrub", "kept", "--shard", "0")
        return member.id not in [m.id for m in shards_of(client)[0].members]
    until(scrubbed, "the damaged member to go", 40)
    await_rebuilt(client, 0, member)
    assert answers(client) == before


def test_a_flipped_byte_of_the_log_is_found_at_the_start(kept):
    cluster, client = kept
    before = answers(client)
    replica, number, member = directory(cluster, client, 0, index_of(client, 0, False))
    cluster.shards[number].kill()
    flip(largest(replica, ".log"))
    code, out, err = fsck(cluster, number)
    assert code == 1 and "checksum mismatch" in out, out + err
    cluster.start_shard(number)
    await_rebuilt(client, 0, member)
    assert "event=replica_not_opened" in cluster.shards[number].log_path.read_text()
    assert answers(client) == before
