"""Several copies of every shard: nodes die and come back, and nothing acknowledged is lost."""

import contextlib
import os
import time

import grpc
import numpy

from cluster import until
from replicas import (Watcher, Writer, await_whole, await_whole_while_writing, gyre, info, node_points, nodes_of, number_of,
                      passing, shards_of)

DIM = 16
CODE = grpc.StatusCode
DETECTED_S = 15  # of a death, until writes go on: 3 s and a little on an idle machine


@contextlib.contextmanager
def writing(cluster, *names):
    """A writer on each collection while the block runs."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Writer(cluster, name, DIM, number=i, of=len(names))) for i, name in enumerate(names)]


def go_on(writers, what, batches=2):
    for writer in writers:
        writer.await_batches(batches, f"'{writer.collection}': {what}")


def test_the_primarys_node_dies_and_another_goes_on(own_cluster):
    with own_cluster.client() as client:
        client.create("two", DIM, "L2", shards=3, copies=2)
        client.create("three", DIM, "L2", shards=3, copies=3)
        with writing(own_cluster, "two", "three") as writers:
            go_on(writers, "writers to begin", 10)
            before = {name: shards_of(client, name) for name in ("two", "three")}
            victim = before["two"][0].primary
            assert all(victim in [s.primary for s in shards] for shards in before.values()), "every node has some primaries"
            began = time.monotonic()
            own_cluster.shards[number_of(victim)].kill()
            go_on(writers, "writes after the death")
            took = time.monotonic() - began
            print(f"kill -9 of a primary's node: writes go on after {took:.1f} s, {sum(w.failures for w in writers)} failed")
            assert took < DETECTED_S
            for name, shards in before.items():
                for old, new in zip(shards, shards_of(client, name)):
                    assert new.primary != victim and victim not in nodes_of(new, in_sync=True)
                    assert new.primary in nodes_of(old, in_sync=True), "none outside the in-sync set is ever promoted"
                    assert new.epoch > old.epoch if victim in nodes_of(old) else new.epoch >= old.epoch
            own_cluster.start_shard(number_of(victim))
            for name in before:
                until(lambda name=name: all(len(nodes_of(s, in_sync=True)) == len(s.members) for s in shards_of(client, name)),
                      f"'{name}' in sync again, while it is written to")
            go_on(writers, "writes with everybody back")
        await_whole(client, "two", "three")
        for writer in writers:
            writer.verify(client)
        living = [w.living() for w in writers]
        until(lambda: sum(node_points(client).values()) == 2 * living[0] + 3 * living[1], "every member to have every point")
        for name in before:
            for shard, told in zip(shards_of(client, name), info(own_cluster, name)["shards"]):
                assert [m["node"] for m in told["members"]] == [m.node for m in shard.members]


def test_a_followers_node_dies_and_writes_go_on_without_it(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=2)
        with writing(own_cluster, "c") as writers:
            go_on(writers, "writers to begin", 5)
            [before] = shards_of(client, "c")
            [victim] = nodes_of(before, primary=False)
            began = time.monotonic()
            own_cluster.shards[number_of(victim)].kill()
            go_on(writers, "writes without the follower")
            took = time.monotonic() - began
            print(f"kill -9 of a follower's node: writes go on after {took:.1f} s")
            assert took < DETECTED_S
            [alone] = shards_of(client, "c")
            assert alone.primary == before.primary and nodes_of(alone, in_sync=True) == [before.primary]
            own_cluster.start_shard(number_of(victim))
            until(lambda: len(nodes_of(shards_of(client, "c")[0], in_sync=True)) == 2, "the follower in sync again")
            go_on(writers, "writes with the follower back")
        [shard] = await_whole(client, "c")
        assert sorted(m.id for m in shard.members) == sorted(m.id for m in before.members), "it is the same member"
        # What the follower has is what was acknowledged: it answers alone.
        own_cluster.shards[number_of(shard.primary)].kill()
        writers[0].verify(client)
        assert shards_of(client, "c")[0].primary == victim


def test_all_members_die_at_once_and_everything_acknowledged_is_there(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=2, copies=3)
        with writing(own_cluster, "c") as writers:
            for _ in range(2):
                go_on(writers, "writes", 5)
                for daemon in own_cluster.shards:
                    daemon.process.kill()
                for i, daemon in enumerate(own_cluster.shards):
                    daemon.process.wait()
                    own_cluster.start_shard(i)
                go_on(writers, "writes after all were killed", 1)
        await_whole(client, "c")
        writers[0].verify(client)


def test_a_frozen_primary_is_replaced_and_follows_when_it_thaws(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=3)
        with Writer(own_cluster, "c", DIM, timeout=2) as writer, Watcher(own_cluster, "c"):
            writer.await_batches(5, "writers to begin")
            for _ in range(2):
                frozen = shards_of(client, "c")[0].primary
                own_cluster.shards[number_of(frozen)].freeze()
                writer.await_batches(2, "writes without the frozen primary")
                assert shards_of(client, "c")[0].primary != frozen
                own_cluster.shards[number_of(frozen)].thaw()
                await_whole_while_writing(client, "c")
                writer.await_batches(2, "writes after the thaw")
        await_whole(client, "c")
        writer.verify(client)


def test_the_coordinator_dies_too(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=2, copies=2)
        with writing(own_cluster, "c") as writers:
            go_on(writers, "writers to begin", 5)
            victim = shards_of(client, "c")[0].primary
            own_cluster.coordinator.kill()
            own_cluster.shards[number_of(victim)].kill()
            own_cluster.start_coordinator()
            go_on(writers, "writes after both died")
            own_cluster.start_shard(number_of(victim))
            go_on(writers, "writes with the node back")
        await_whole(client, "c")
        writers[0].verify(client)


def test_writes_are_refused_with_fewer_copies_than_min_copies(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=3, min_copies=2)
        vectors = numpy.random.default_rng(1).normal(size=(100, DIM)).astype(numpy.float32)
        points = [client.point(i, v) for i, v in enumerate(vectors)]
        assert client.upsert("c", points) == 100
        [shard] = shards_of(client, "c")
        followers = [number_of(n) for n in nodes_of(shard, primary=False)]
        for i in followers:
            own_cluster.shards[i].kill()

        def refusal():
            try:
                client.upsert("c", points[:10], timeout=3)
            except grpc.RpcError as error:
                assert error.code() in (CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED), error
                return error if "min_copies" in (error.details() or "") and "writes need 2" in error.details() else None
            return None
        assert until(refusal, "a refusal that names min_copies").code() == CODE.UNAVAILABLE
        # Reads and searches need one copy.
        assert client.search("c", vectors[3], k=1).hits[0].id.num == 3
        assert len(client.get("c", range(100)).points) == 100
        own_cluster.start_shard(followers[0])
        until(lambda: passing(lambda: client.upsert("c", points, timeout=10)), "writes with two copies in sync")
        own_cluster.shards[followers[0]].kill()
        until(refusal, "a refusal once more")
        # An operator who would rather have writes than two copies says so.
        assert "min_copies" in gyre(own_cluster, "collection", "update", "c", "--min-copies", "1", "--json")
        until(lambda: passing(lambda: client.upsert("c", points, timeout=10)), "writes with one copy")
        for i in followers:
            own_cluster.start_shard(i)
        await_whole(client, "c")
        assert len(client.get("c", range(100)).points) == 100


def test_a_write_that_is_sent_again_is_done_once_whoever_is_primary(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=2, copies=2)
        vectors = numpy.random.default_rng(1).normal(size=(3, 40, DIM)).astype(numpy.float32)
        who = os.urandom(16)

        def upsert(which, request):
            points = [client.point(i, v) for i, v in enumerate(vectors[which])]
            client.call("Points", "Upsert", client.messages.UpsertRequest(collection="c", points=points, client=who,
                                                                          request=request))

        def delete(numbers, request):
            ids = [client.messages.PointId(num=n) for n in numbers]
            return client.call("Points", "Delete", client.messages.DeleteRequest(collection="c", ids=ids, client=who,
                                                                                 request=request)).deleted

        def is_there(which, numbers):
            reply = client.get("c", range(40))
            assert [p.id.num for p in reply.points] == list(numbers)
            assert all(numpy.array(p.vector, numpy.float32).tobytes() == vectors[which][p.id.num].tobytes() for p in reply.points)

        upsert(0, 1)
        upsert(1, 2)
        upsert(0, 1)
        is_there(1, range(40))
        assert delete(range(10), 3) == 10
        assert delete(range(10), 3) == 10, "what it answered the first time"
        is_there(1, range(10, 40))
        for _ in range(2):  # what was done is known to whoever takes over, and after a restart
            victim = shards_of(client, "c")[0].primary
            own_cluster.shards[number_of(victim)].kill()
            upsert(0, 1)
            delete(range(10, 20), 3)  # with other ids: what it did is known by its number alone
            assert delete(range(10), 3) == 10
            is_there(1, range(10, 40))
            own_cluster.start_shard(number_of(victim))
            await_whole(client, "c")
        upsert(2, 4)
        is_there(2, range(40))
