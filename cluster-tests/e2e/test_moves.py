"""Replicas move while a collection is written to and searched: no acknowledged write is lost, no search fails; and whichever
member answers, the answer is the same."""

import contextlib

import numpy
import pytest

from cluster import Cluster, DATA, until
from replicas import (Searcher, Watcher, Writer, add_anchors, await_whole, await_whole_while_writing, gyre, node_points, nodes_of,
                      number_of, shards_of)

DIM = 24


@pytest.fixture()
def four(tmp_path):
    """A cluster of four nodes, so that there is somewhere to go."""
    with Cluster(tmp_path, shards=4) as running:
        yield running


@contextlib.contextmanager
def in_use(cluster, client, **spec):
    """A collection that is written to, searched and watched while the block runs; afterwards all is accounted for."""
    client.create("c", DIM, "L2", **spec)
    anchors = add_anchors(client, "c", DIM)
    writer, searcher, watcher = Writer(cluster, "c", DIM), Searcher(cluster, "c", anchors), Watcher(cluster, "c")
    with writer, searcher, watcher:
        writer.await_batches(10, "writes to begin")
        yield writer
        writer.await_batches(3, "writes to go on")
        answers = searcher.answers
        until(lambda: searcher.answers > answers + 3 or searcher.trouble, "searches to go on")
    print(f"{searcher.answers} searches, {len(searcher.failures)} failed;",
          f"{writer.batches} batches, {writer.failures} sent again, the longest write {writer.longest_s:.2f} s;",
          f"{watcher.epochs} epochs")
    assert not searcher.failures, "\n".join([f"{len(searcher.failures)} searches failed:", *searcher.failures[:5]])
    members = len(await_whole(client, "c")[0].members)
    writer.verify(client)
    points = writer.living() + len(anchors[0])
    until(lambda: sum(node_points(client).values()) == members * points, "every member has every point")


def test_a_node_is_drained(four):
    with four.client() as client:
        with in_use(four, client, shards=3, copies=2, quantized=1):
            drained = shards_of(client, "c")[0].primary
            assert "draining" in gyre(four, "drain", drained)

            def empty():
                shards = shards_of(client, "c")
                return not any(m.node == drained for s in shards for m in s.members) and shards
            until(empty, "the node to be empty")
            await_whole_while_writing(client, "c")
            until(lambda: node_points(client)[drained] == 0, "the node to have dropped its replicas")
            four.shards[number_of(drained)].stop()  # as an operator does next
        four.start_shard(number_of(drained))
        assert "no longer draining" in gyre(four, "drain", drained, "--undo")


def node_names(client):
    return {node.name for node in client.call("Cluster", "Status").nodes}


def test_a_node_is_replaced_and_one_that_drained_is_removed(four):
    with four.client() as client:
        with in_use(four, client, shards=3, copies=2):
            shards = await_whole_while_writing(client, "c")
            old = shards[0].primary
            new = next(f"n{i}" for i in range(4) if f"n{i}" not in {m.node for m in shards[0].members})
            done = gyre(four, "replace", old, "--with", new, "--remove")
            assert f"to {new}" in done and "removed" in done
            assert old not in node_names(client)
            shards = await_whole_while_writing(client, "c")
            assert not any(m.node == old for s in shards for m in s.members)
            assert any(m.node == new for m in shards[0].members)
            four.shards[number_of(old)].stop()
            four.start_shard(number_of(old))  # as a new node, which may have replicas again
            until(lambda: old in node_names(client), "the node to join anew")
            assert "removed" in gyre(four, "drain", new, "--remove")
            assert new not in node_names(client)


def test_members_are_moved(four):
    with four.client() as client:
        with in_use(four, client, shards=1, copies=2, quantized=1):
            for wanted in [{"primary": True}, {"primary": False, "quantized": False}, {"quantized": True}]:
                [shard] = await_whole_while_writing(client, "c")
                [source] = nodes_of(shard, **wanted)
                [target] = {f"n{i}" for i in range(4)} - {m.node for m in shard.members}
                assert "moving" in gyre(four, "move", "c", "--shard", "0", "--from", source, "--to", target)
                until(lambda: not nodes_of(shards_of(client, "c")[0], node=source), f"the member of {source} to leave")
                [moved] = await_whole_while_writing(client, "c")
                assert nodes_of(moved, node=target, quantized=wanted.get("quantized", False)) == [target]


def test_copies_come_and_go(four):
    with four.client() as client:
        with in_use(four, client, shards=2, copies=1):
            for copies, quantized in [(3, 0), (2, 2), (1, 1), (2, 0)]:
                gyre(four, "collection", "update", "c", "--copies", str(copies), "--quantized", str(quantized))
                await_whole_while_writing(client, "c")


def hits_of(client, queries):
    """The bytes of every answer's hits, in every mode."""
    answers = []
    for query in queries:
        for options in [{}, {"exact": True}, {"approximate": True}, {"nprobe": 3}, {"nprobe": 3, "approximate": True},
                        {"recall_target": 0.9}, {"k": 100}, {"with_vector": True, "with_payload": True}]:
            reply = client.search("words", query, **{"k": 10, **options})
            assert reply.basis.shards_answered == reply.basis.shards_total
            answers.append((options, [hit.SerializeToString(deterministic=True) for hit in reply.hits]))
    return answers


def test_no_answer_changes_because_a_node_died(own_cluster):
    base = numpy.load(DATA / "words.npy")[:9000].astype(numpy.float32)
    queries = numpy.load(DATA / "words-queries.npy")[:12].astype(numpy.float32)
    with own_cluster.client() as client:
        client.create("words", 100, shards=3, copies=2, quantized=1)
        for start in range(0, len(base), 1500):
            client.upsert("words", [client.point(n, base[n], '{"row": %d}' % n) for n in range(start, start + 1500)])
        client.call("Collections", "Train", name="words", lists=32, wait=True, timeout=200)
        client.call("Points", "Delete", collection="words", ids=[client.messages.PointId(num=n) for n in range(0, 9000, 11)])
        client.upsert("words", [client.point(n, base[n + 1], '{"row": "new"}') for n in range(0, 9000, 33)])
        await_whole(client, "words")
        first = hits_of(client, queries)
        assert all(hits_of(client, queries) == first for _ in range(3)), "whoever is chosen to answer"
        for node in ["n0", "n1", "n2"]:
            own_cluster.shards[number_of(node)].kill()
            for moment in ["when nobody has noticed", "when another has taken over"]:
                for then, now in zip(first, hits_of(client, queries)):
                    assert now == then, f"another answer without {node}, {moment}: {then[0]}"
                own_cluster.await_nodes(2)
                until(lambda node=node: all(s.primary != node for s in shards_of(client, "words")), "others to take over")
            if node == "n1":  # what it missed of a training and of writes in the new codebook, it catches up with
                client.call("Collections", "Train", name="words", lists=16, wait=True, timeout=200)
                client.upsert("words", [client.point(n, base[n + 2]) for n in range(0, 3000, 7)])
            own_cluster.start_shard(number_of(node))
            await_whole(client, "words")
            if node == "n1":
                changed = hits_of(client, queries)
                assert changed != first
                first = changed
            assert all(hits_of(client, queries) == first for _ in range(2))
