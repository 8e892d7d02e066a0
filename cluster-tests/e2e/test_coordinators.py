"""Several coordinators on one etcd: every one serves, one leads; killed, frozen or cut off, no search and no write is lost."""

import contextlib
import os
import threading
import time

import grpc
import numpy
import pytest
from cluster import Client, Daemon, brute_force, ids, until
from etcd import Etcd, free_port

pytestmark = pytest.mark.skipif(not Etcd.here(), reason="no etcd here (Debian: etcd-server)")

DIM, POINTS, COORDINATORS, SHARDS = 16, 600, 3, 3
TTL_SECONDS = 15
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)


def vectors(seed=3, count=POINTS):
    return numpy.random.default_rng(seed).standard_normal((count, DIM)).astype(numpy.float32)


class Coordinated:
    """Coordinators that share a prefix of etcd, and shard daemons that report to all of them."""

    def __init__(self, directory, etcd, coordinators=COORDINATORS, shards=SHARDS):
        self.directory, self.etcd = directory, etcd
        self.key = directory / "cluster.key"
        self.key.write_text(os.urandom(32).hex() + "\n")
        self.key.chmod(0o600)
        self.grpc = [f"127.0.0.1:{free_port()}" for _ in range(coordinators)]
        self.bus = [f"127.0.0.1:{free_port()}" for _ in range(coordinators)]
        self.coordinators, self.shards = [None] * coordinators, [None] * shards
        for i in range(coordinators):
            self.start_coordinator(i)
        for i in range(shards):
            self.start_shard(i)
        self.clients = [Client(address) for address in self.grpc]
        for client in self.clients:
            until(lambda client=client: self.nodes_up(client) == shards, "every coordinator sees every node")

    def start_coordinator(self, i):
        self.coordinators[i] = Daemon("gyre-coordinator", [
            "--listen", self.grpc[i], "--bus-listen", self.bus[i], "--http-listen", "127.0.0.1:0",
            "--cluster-key-file", str(self.key), "--data-dir", str(self.directory / f"coordinator-{i}"),
            "--catalog", "etcd", "--etcd-endpoints", self.etcd.endpoints], self.directory, f"coordinator-{i}")

    def start_shard(self, i):
        self.shards[i] = Daemon("gyre-shard", [
            "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--cluster-key-file", str(self.key),
            "--data-dir", str(self.directory / f"shard-{i}"), "--node", f"n{i}", "--coordinators", ",".join(self.bus)],
            self.directory, f"shard-{i}")

    def nodes_up(self, client):
        up = client.messages.NodeState.Value("NODE_STATE_UP")
        return sum(node.state == up for node in client.call("Cluster", "Status", timeout=5).nodes)

    def leader(self, asked=None):
        """Index of the coordinator that says of itself that it leads, as the one that is asked sees it; None if there is none."""
        for i, client in enumerate(self.clients):
            if (asked is not None and i != asked) or self.coordinators[i].process.poll() is not None:
                continue
            with contextlib.suppress(grpc.RpcError):
                for found in client.call("Cluster", "Status", timeout=2).coordinators:
                    if found.leads:
                        return self.grpc.index(found.address)
                return None
        return None

    def await_leader(self, but=None, asked=None):
        def other():
            found = self.leader(asked)
            return None if found is None or found == but else (found,)
        return until(other, "a coordinator leads", 60)[0]

    def daemons(self):
        return [daemon for daemon in [*self.shards, *self.coordinators] if daemon]

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for client in self.clients:
            client.__exit__()
        for daemon in self.daemons():
            if daemon.process.poll() is None:
                daemon.thaw()
                daemon.kill()


class Traffic:
    """Searches and writes through one coordinator in the background. No search may fail; a write may be refused only while
    `tolerant`, as when the primary itself was killed; what was acknowledged is kept."""

    def __init__(self, client, base, first_id):
        self.client, self.base, self.first_id = client, base, first_id
        self.failures, self.written, self.searches = [], [], 0
        self.tolerant = threading.Event()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        number = self.first_id
        while not self.stopping.is_set():
            number += 1
            vector = self.base[number % len(self.base)]
            tolerant = self.tolerant.is_set()
            try:
                assert len(ids(self.client.search("words", vector, k=3, timeout=10))) == 3
                self.searches += 1
            except grpc.RpcError as error:
                if not (tolerant or self.tolerant.is_set()) or error.code() not in PASSING:
                    self.failures.append(("search", time.monotonic(), error.code(), error.details()))
            try:
                self.client.upsert("words", [self.client.point(number, vector)], timeout=10)
                self.written.append(number)
            except grpc.RpcError as error:
                if not (tolerant or self.tolerant.is_set()):
                    self.failures.append(("write", time.monotonic(), error.code(), error.details()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *failure):
        self.stopping.set()
        self.thread.join()
        if not failure[0]:
            assert not self.failures, self.failures[:5]


def check_written(client, traffics):
    for traffic in traffics:
        assert traffic.searches > 0 and traffic.written
        for at in range(0, len(traffic.written), 500):
            part = traffic.written[at:at + 500]
            until(lambda part=part: len(client.get("words", part).points) == len(part), "every acknowledged write is found", 20)


@pytest.fixture()
def shared(tmp_path):
    with Etcd(tmp_path) as etcd, Coordinated(tmp_path, etcd) as cluster:
        yield cluster


def passing(action):
    """Whether it was done; what says that another try may do is no failure."""
    try:
        action()
        return True
    except grpc.RpcError as error:
        if error.code() not in PASSING:
            raise
        return False


def make_words(client, base):
    client.create("words", DIM, "L2", shards=3, copies=2)
    points = [client.point(i + 1, base[i]) for i in range(len(base))]
    until(lambda: passing(lambda: client.upsert("words", points)), "every primary takes writes")


def primary_of(client, shard=0):
    return client.call("Collections", "Get", name="words").shards[shard].primary


def test_every_coordinator_serves_and_the_next_leads(shared):
    base = vectors()
    leader = shared.await_leader()
    followers = [i for i in range(COORDINATORS) if i != leader]
    one, other = (shared.clients[i] for i in followers)
    # What is changed at a follower is made by the leader, and known there when it is answered.
    make_words(one, base)
    wanted, _ = brute_force("L2", base, base[11], 10)
    for client in shared.clients:
        until(lambda client=client: len(client.call("Collections", "List").collections) == 1, "every coordinator follows")
        # A coordinator reads its own writes at once; of another's, a copy may not have heard yet.
        until(lambda client=client: ids(client.search("words", base[11], k=10, confidence=0.9999)) == [i + 1 for i in wanted],
              "every coordinator finds what one has written")
        assert sorted(c.address for c in client.call("Cluster", "Status").coordinators) == sorted(shared.grpc)
    other.call("Collections", "Train", name="words", timeout=60)
    assert one.call("Collections", "Get", name="words").codebook_version >= 1
    with pytest.raises(grpc.RpcError) as refused:
        one.create("words", DIM, "L2")
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS

    with Traffic(one, base, 100000) as first, Traffic(other, base, 200000) as second:
        # The leader is killed: another leads soon, and nobody who asks the others notices.
        killed_at = time.monotonic()
        shared.coordinators[leader].kill()
        next_leader = shared.await_leader(but=leader)
        assert time.monotonic() - killed_at < TTL_SECONDS + 15
        # A primary's node is killed right after: the new leader has another take over.
        node = primary_of(one)
        first.tolerant.set(), second.tolerant.set()
        shared.shards[int(node[1:])].kill()
        for client in (one, other):
            until(lambda client=client: all(s.primary != node for s in client.call("Collections", "Get", name="words").shards),
                  "other primaries", 60)
        for client in (one, other):
            until(lambda client=client: passing(lambda: client.upsert("words", [client.point(i + 1, base[i]) for i in range(50)])),
                  "writes go on")
        first.tolerant.clear(), second.tolerant.clear()
        assert next_leader in followers
        # etcd loses its leader.
        shared.etcd.kill(0)
        count = len(first.written)
        until(lambda: len(first.written) > count + 20, "writes while etcd elects")
        until(lambda: shared.leader() is not None, "a leader still", 60)
    shared.start_coordinator(leader)
    back = shared.clients[leader]
    until(lambda: len(back.call("Collections", "List").collections) == 1, "the one that came back follows")
    for client in (one, other):
        check_written(client, [first, second])
    one.create("more", DIM, "L2", shards=2, copies=2)
    assert {c.spec.name for c in one.call("Collections", "List").collections} == {"words", "more"}


def test_a_frozen_leader_that_wakes_changes_nothing(shared):
    base = vectors()
    leader = shared.await_leader()
    follower = (leader + 1) % COORDINATORS
    one = shared.clients[follower]
    make_words(one, base)
    with Traffic(one, base, 100000) as traffic:
        shared.coordinators[leader].freeze()
        next_leader = shared.await_leader(but=leader, asked=follower)
        one.call("Collections", "Update", name="words", min_copies={"value": 2})
        before = one.call("Collections", "Get", name="words")
        log_before = shared.coordinators[leader].log_path.stat().st_size
        shared.coordinators[leader].thaw()
        # The one that wakes follows: it forwards what it is asked for, and has changed nothing itself.
        woken = shared.clients[leader]
        until(lambda: shared.leader(asked=leader) == next_leader, "the woken one knows who leads", 30)
        woken.create("more", DIM, "L2", shards=1)
        log = shared.coordinators[leader].log_path.read_bytes()[log_before:].decode()
        assert "event=not_leading" in log
        assert "event=shard_configured" not in log and "event=collection_created" not in log
        after = one.call("Collections", "Get", name="words")
        assert all(a.epoch >= b.epoch for a, b in zip(after.shards, before.shards))
    check_written(one, [traffic])
    # A leader that is told to stop lets go at once.
    stopped_at = time.monotonic()
    assert shared.coordinators[next_leader].stop() == 0
    shared.await_leader(but=next_leader)
    assert time.monotonic() - stopped_at < TTL_SECONDS
