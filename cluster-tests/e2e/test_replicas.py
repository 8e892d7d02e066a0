"""Searches, reads and writes of shards with several copies, while nodes die and freeze. No call is ever repeated by the client."""

import threading
import time
import urllib.request

import grpc
import numpy
import pytest

from cluster import ids, until
from replicas import await_whole, gyre, nodes_of, number_of, shards_of

CODE = grpc.StatusCode
DIM = 16
NO_RETRIES = [("grpc.enable_retries", 0)]


def in_sync(client, name, copies):
    collection = client.call("Collections", "Get", name=name)
    return all(sum(m.in_sync and m.reachable for m in shard.members) == copies for shard in collection.shards)


def filled(client, name="c", points=3000, copies=2, shards=6, **spec):
    base = numpy.random.default_rng(1).normal(size=(points, DIM)).astype(numpy.float32)
    client.create(name, DIM, "L2", shards=shards, copies=copies, **spec)
    until(lambda: in_sync(client, name, copies), "all copies in sync")
    reply = client.call("Points", "Upsert", collection=name,
                        points=[client.point(i, v, f'{{"n":{i}}}') for i, v in enumerate(base)])
    return base, reply.token


def hits_bytes(reply):
    return [hit.SerializeToString(deterministic=True) for hit in reply.hits]


class Searching:
    """Some clients that search without a pause and compare every answer with the first."""

    def __init__(self, cluster, base, expected, threads=4, **options):
        self.stopped, self.failures, self.count, self.slowest = threading.Event(), [], 0, 0.0
        self.threads = [threading.Thread(target=self.run, args=(cluster, base, expected, options)) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, cluster, base, expected, options):
        from cluster import Client
        with Client(cluster.ports["grpc"], NO_RETRIES) as client:
            while not self.stopped.is_set():
                for query, hits in enumerate(expected):
                    began = time.monotonic()
                    try:
                        reply = client.search("c", base[query], k=10, timeout=20, **options)
                        if hits_bytes(reply) != hits:
                            self.failures.append(f"query {query}: other hits: {ids(reply)} {reply.basis}")
                    except grpc.RpcError as error:
                        self.failures.append(f"query {query}: {error.code()} {error.details()}")
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.count += 1

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def expected_hits(client, base, queries=20, **options):
    return [hits_bytes(client.search("c", base[q], k=10, **options)) for q in range(queries)]


def metric(cluster, name):
    text = urllib.request.urlopen(f"http://{cluster.coordinator.ready['http']}/metrics", timeout=20).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_no_search_fails_while_a_node_is_lost(own_cluster, fault):
    with own_cluster.client() as client:
        base, token = filled(client, copies=3)
        request = client.search_request("c", base[0], k=1)
        request.token = token
        client.call("Points", "Search", request)
        client.call("Collections", "Train", name="c", wait=True, timeout=200)  # or it trains itself meanwhile, as it has grown
        options = {"with_payload": True, "with_vector": True}
        searching = Searching(own_cluster, base, expected_hits(client, base, **options), **options)
        until(lambda: searching.count > 100, "searches run")
        getattr(own_cluster.shards[1], fault)()
        lost = searching.count
        own_cluster.await_nodes(2)
        until(lambda: searching.count > lost + 200, "searches run on")
        if fault == "kill":
            own_cluster.start_shard(1)
        else:
            own_cluster.shards[1].thaw()
        own_cluster.await_nodes(3)
        back = searching.count
        until(lambda: searching.count > back + 200, "searches run on")
        searching.stop()
        assert not searching.failures, searching.failures[:3]
        assert searching.slowest < 10
        assert metric(own_cluster, "gyre_coordinator_read_replacements_total") + \
            metric(own_cluster, "gyre_coordinator_read_hedges_total") > 0


def test_a_token_shows_a_session_its_own_writes(cluster, client):
    base, _ = filled(client, "t", points=200, copies=3)
    token = b""
    for i in range(150):
        number = 10000 + i
        reply = client.call("Points", "Upsert", collection="t", points=[client.point(number, base[0] + 100 + i)], token=token)
        token = reply.token
        request = client.search_request("t", base[0] + 100 + i, k=1)
        request.token = token
        assert ids(client.call("Points", "Search", request)) == [number]
        assert client.call("Points", "Count", collection="t", token=token).points == 201 + i
        assert client.get("t", [number], stale=True, token=token).points[0].id.num == number
        assert client.get("t", [number]).points[0].id.num == number  # linearizable
    for bad, words in [(b"\x02", "version 2"), (token[:-1], "bytes"), (token[:1] + b"\xff" * 8, "of collection")]:
        request.token = bad
        with pytest.raises(grpc.RpcError) as failure:
            client.call("Points", "Search", request)
        assert failure.value.code() == CODE.INVALID_ARGUMENT and "token" in failure.value.details()
        assert words in failure.value.details()


def test_a_write_and_a_get_outlive_their_primary(own_cluster):
    with own_cluster.client() as client:
        base, _ = filled(client, copies=3)
        own_cluster.shards[2].kill()
        began = time.monotonic()
        client.upsert("c", [client.point(i, base[i] + 1) for i in range(300)], timeout=60)
        found = client.get("c", range(300), timeout=60)
        assert time.monotonic() - began < 40
        assert len(found.points) == 300
        for point in found.points:
            assert numpy.allclose(point.vector, base[point.id.num] + 1)


def test_codes_answer_without_a_full_copy_only_if_the_request_or_the_collection_lets_them(own_cluster):
    with own_cluster.client() as client:
        base, _ = filled(client, points=500, copies=1, shards=1, quantized=1)
        shard = await_whole(client, "c")[0]
        until(lambda: all(m.applied_seq for m in shards_of(client, "c")[0].members), "every member to say that it has something")
        own_cluster.shards[number_of(nodes_of(shard, primary=True)[0])].kill()

        def refused(**options):
            with pytest.raises(grpc.RpcError) as failure:
                client.search("c", base[3], **options)
            assert failure.value.code() == CODE.UNAVAILABLE

        def from_codes(**options):
            reply = client.search("c", base[3], **options)
            assert 3 in ids(reply) and len(reply.hits) == 10
            assert reply.basis.approximate_shards == 1 and not reply.basis.exact_distances and not reply.basis.certified

        until(lambda: not client.call("Collections", "Get", name="c").shards[0].reachable, "the primary called away")
        refused()
        from_codes(allow_approximate=True)
        assert "allow_approximate" in gyre(own_cluster, "collection", "update", "c", "--allow-approximate", "yes", "--json")
        from_codes()
        refused(exact=True)
        gyre(own_cluster, "collection", "update", "c", "--allow-approximate", "no")
        refused()
