"""The same query on the same data gives the byte-identical answer: on every run, after restarts, whatever the instruction set."""

import numpy
import pytest

from cluster import Cluster, DATA, until

import grpc


def answers(client, queries):
    whole = []
    for i, query in enumerate(queries):
        for options in [{}, {"approximate": True}, {"exact": True} if i < 10 else {"k": 100}]:
            request = client.search_request("words", query, **{"k": 10, "with_payload": True, **options})
            whole.append(client.call_raw("Points", "Search", request))
    return whole


def reachable(client):
    try:
        return client.call("Points", "Count", collection="words").points
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNAVAILABLE:
            raise
        return None


def restart(cluster, env):
    for i, daemon in enumerate(cluster.shards):
        daemon.stop()
        cluster.start_shard(i, env=env)
    cluster.coordinator.stop()
    cluster.env = env
    cluster.start_coordinator()
    cluster.await_nodes(3)


def test_answers_are_byte_identical_over_runs_and_instruction_sets(tmp_path):
    base = numpy.load(DATA / "words.npy")[:12000].astype(numpy.float32)
    queries = numpy.load(DATA / "words-queries.npy")[:40].astype(numpy.float32)
    with Cluster(tmp_path) as cluster, cluster.client() as client:
        client.create("words", 100)
        for start in range(0, len(base), 2000):
            client.upsert("words", [client.point(start + i, v, '{"row": %d}' % (start + i)) for i, v in enumerate(base[start:start + 2000])])
        client.call("Collections", "Train", name="words", wait=True, timeout=200)
        first = answers(client, queries)
        assert answers(client, queries) == first
        simd = {n.simd for n in client.call("Cluster", "Status").nodes}
        restart(cluster, {})
        until(lambda: reachable(client) == len(base), "every point to be back")
        assert answers(client, queries) == first
        restart(cluster, {"GYRE_SIMD": "ref"})
        until(lambda: reachable(client) == len(base), "every point to be back")
        assert {n.simd for n in client.call("Cluster", "Status").nodes} == {"ref"}
        assert answers(client, queries) == first
        if simd == {"ref"}:
            pytest.skip("this machine has only the reference kernels: runs were compared, instruction sets were not")
