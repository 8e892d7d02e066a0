"""Members that missed more than the log keeps, that lost their disk, or that hold codes only: built anew from the primary while
writes go on, and never in sync before they have everything."""

import contextlib
import os
import shutil

import numpy

from cluster import Cluster, ids, until
from replicas import (Searcher, Watcher, Writer, add_anchors, await_whole, await_whole_while_writing, gyre, node_points, nodes_of,
                      number_of, passing, run_gyre, shards_of)

DIM = 16
TRIMMED_BYTES = 64 << 20  # of log between two trims (shard/replica)


def bytes_below(directory):
    """On disk; a file that goes while it is looked at is not there."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(parent, name)).st_blocks * 512
    return total


def bytes_of_replica(cluster, collection, node, shard):
    return bytes_below(cluster.directory / f"shard-{number_of(node)}" / "replicas" / f"{collection.id}-{shard.shard}")


def half_made(cluster, node):
    """Bytes of what is not a replica yet."""
    return sum(bytes_below(path) for path in (cluster.directory / f"shard-{number_of(node)}" / "replicas").glob(".*"))


def restored(cluster, node):
    """How many replicas of the node were built anew."""
    return cluster.shards[number_of(node)].log_path.read_text(errors="replace").count("event=replica_restored")


def kill(cluster, nodes):
    for node in nodes:
        cluster.shards[number_of(node)].kill()


def start(cluster, nodes):
    for node in nodes:
        cluster.start_shard(number_of(node))


def test_a_node_whose_disk_was_lost_is_filled_anew_and_not_promoted_before(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=3, copies=2)
        with Writer(own_cluster, "c", DIM) as writer, Watcher(own_cluster, "c"):
            writer.await_batches(20, "writes")
            before = shards_of(client, "c")
            victim = before[0].primary
            kill(own_cluster, [victim])
            shutil.rmtree(own_cluster.directory / f"shard-{number_of(victim)}")
            start(own_cluster, [victim])  # at once, under its name: nobody may have noticed that it was away
            writer.await_batches(3, "writes after the loss")
            after = await_whole_while_writing(client, "c")
        for old, new in zip(before, after):
            lost = {m.id for m in old.members if m.node == victim}
            assert not lost & {m.id for m in new.members}, "what lost its disk is never the same member again"
            heirs = [old.primary] if old.primary != victim else nodes_of(old, in_sync=True, primary=False)
            assert new.primary in heirs
        await_whole(client, "c")
        writer.verify(client)
        # The new members have everything: the others are not needed.
        others = [f"n{i}" for i in range(3) if f"n{i}" != victim]
        for other in others:
            kill(own_cluster, [other])
            writer.verify(client)
            start(own_cluster, [other])
            await_whole(client, "c")


def test_a_member_that_missed_more_than_the_log_keeps_is_restored_while_writes_go_on(tmp_path):
    with Cluster(tmp_path, shards=0) as cluster, cluster.client() as client:
        cluster.shards = [None, None]
        for i in range(2):
            cluster.start_shard(i, "--log-keep", "4")
        cluster.await_nodes(2)
        client.create("c", DIM, "L2", shards=1, copies=2)
        vectors = numpy.random.default_rng(3).normal(size=(100, DIM)).astype(numpy.float32)
        heavy = '{"text": "%s"}' % ("x" * (TRIMMED_BYTES // 1024))
        with Writer(cluster, "c", DIM, number=1, of=2) as writer:
            writer.await_batches(3, "writes")
            [shard] = shards_of(client, "c")
            [follower] = nodes_of(shard, primary=False)
            [lagging] = [m.id for m in shard.members if not m.primary]
            kill(cluster, [follower])
            # Trimmed for the first time at 64 MiB of log, and to the last entries once what came before is not kept for others.
            for part in range(12):
                client.upsert("c", [client.point(2 * (100 * part + i), v, heavy) for i, v in enumerate(vectors)])
            # Whatever a restore leaves half done, at either end, it is begun again.
            cluster.start_shard(number_of(follower), "--log-keep", "4")
            for victim in [follower, shard.primary]:
                until(lambda: half_made(cluster, follower) > TRIMMED_BYTES // 16, "a part of the restore")
                kill(cluster, [victim])
                assert restored(cluster, follower) == 0
                cluster.start_shard(number_of(victim), "--log-keep", "4")
            until(lambda: restored(cluster, follower) == 1, "the member to be restored")
            writer.await_batches(2, "writes after the restore")
            [after] = await_whole_while_writing(client, "c")
        assert lagging in [m.id for m in after.members], "it is the same member: its disk was not lost"
        await_whole(client, "c")
        kill(cluster, [after.primary])
        writer.verify(client)
        for part in range(12):
            reply = client.get("c", [2 * (100 * part + i) for i in range(100)])
            assert [numpy.array(p.vector, numpy.float32).tobytes() for p in reply.points] == [v.tobytes() for v in vectors]
            assert {p.payload for p in reply.points} == {heavy}


def test_a_member_that_missed_writes_is_not_promoted_though_it_is_the_only_one_left(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=2)
        with Writer(own_cluster, "c", DIM) as writer:
            writer.await_batches(5, "writes")
            [shard] = shards_of(client, "c")
            [follower] = nodes_of(shard, primary=False)
            kill(own_cluster, [follower])
            writer.await_batches(5, "writes that the follower misses")
        kill(own_cluster, [shard.primary])
        start(own_cluster, [follower])

        def stuck():
            [now] = shards_of(client, "c")
            assert now.primary == shard.primary
            return "no other member in sync" in now.obstacle and nodes_of(now, node=follower, reachable=True)
        until(stuck, "a word about what is missing")
        assert passing(lambda: client.get("c", [0], timeout=3)) is None, "rather no answer than an old one"
        assert shards_of(client, "c")[0].primary == shard.primary
        start(own_cluster, [shard.primary])
        await_whole(client, "c")
        writer.verify(client)


def test_a_shard_goes_on_with_less_only_by_an_operators_word(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=2)
        client.upsert("c", [client.point(i, numpy.full(DIM, i)) for i in range(50)])
        [shard] = await_whole(client, "c")
        [follower] = nodes_of(shard, primary=False)
        kill(own_cluster, [follower])
        client.upsert("c", [client.point(i, numpy.full(DIM, -i)) for i in range(40, 60)])  # which only the primary has
        kill(own_cluster, [shard.primary])
        start(own_cluster, [follower])
        recover = ["recover", "c", "--shard", "0"]
        until(lambda: "accept-data-loss" in run_gyre(own_cluster, *recover).stderr, "a word about what would be lost")
        assert shards_of(client, "c")[0].primary == shard.primary
        assert f"on {follower}" in gyre(own_cluster, *recover, "--accept-data-loss")
        found = until(lambda: passing(lambda: client.get("c", range(60), timeout=5)), "the shard to go on").points
        assert {p.id.num: p.vector[0] for p in found} == {i: float(i) for i in range(50)}
        start(own_cluster, [shard.primary])  # what it had is not mixed in again
        [now] = await_whole(client, "c")
        assert now.unclean_epoch > 0 and now.primary == follower
        client.upsert("c", [client.point(99, numpy.full(DIM, 99))])
        assert {p.id.num for p in client.get("c", range(100)).points} == {*range(50), 99}


def test_quantized_members_hold_no_vectors_and_follow_everything(own_cluster):
    dim, count = 256, 6000
    base = numpy.random.default_rng(2).normal(size=(count, dim)).astype(numpy.float32)
    with own_cluster.client() as client:
        client.create("c", dim, "L2", shards=1, copies=1, quantized=2)
        for begin in range(0, count, 500):
            client.upsert("c", [client.point(begin + i, v) for i, v in enumerate(base[begin:begin + 500])])
        gone = range(0, count, 3)
        assert client.call("Points", "Delete", collection="c", ids=[client.messages.PointId(num=n) for n in gone]).deleted == 2000

        def all_follow(points):
            await_whole(client, "c")
            until(lambda: set(node_points(client).values()) == {points}, f"{points} points on every node")
        all_follow(count - 2000)
        version = client.call("Collections", "Get", name="c").codebook_version
        trained = client.call("Collections", "Train", name="c", lists=16, wait=True, timeout=200)
        assert trained.codebook_version > version and trained.lists == 16
        all_follow(count - 2000)
        # Members in the new codebook take writes made in it.
        client.upsert("c", [client.point(n, base[n]) for n in range(0, 300, 3)])
        all_follow(count - 1900)
        [shard] = shards_of(client, "c")
        [full], quantized = nodes_of(shard, quantized=False), nodes_of(shard, quantized=True)
        # What was flushed is counted: stopped nodes have flushed all.
        for i in range(3):
            assert own_cluster.shards[i].stop() == 0
        sizes = {node: bytes_of_replica(own_cluster, trained, node, shard) for node in [full, *quantized]}
        print("bytes on disk of a full and of two quantized members:", *sizes.values())
        assert sizes[full] > 4 * dim * count // 2  # else this shows nothing
        assert all(sizes[node] * 4 < sizes[full] for node in quantized), sizes
        start(own_cluster, ["n0", "n1", "n2"])
        all_follow(count - 1900)
        kill(own_cluster, quantized)
        client.upsert("c", [client.point(n, base[n]) for n in range(300, 600, 3)])  # nobody waits for them
        start(own_cluster, quantized)
        all_follow(count - 1800)
        assert [m.node for m in shards_of(client, "c")[0].members if m.primary] == [full], "a quantized member is never promoted"
        found = client.search("c", base[3], k=1)
        assert ids(found) == [3] and found.hits[0].distance == 0


def test_a_quantized_member_that_comes_later_or_lost_its_disk_is_filled_from_the_primary(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=1, copies=1)
        anchors = add_anchors(client, "c", DIM)
        with Writer(own_cluster, "c", DIM) as writer, Searcher(own_cluster, "c", anchors) as searcher:
            writer.await_batches(10, "writes")
            client.call("Collections", "Update", name="c", quantized=client.messages.Number(value=1))
            [shard] = await_whole_while_writing(client, "c")
            [victim] = nodes_of(shard, quantized=True)
            kill(own_cluster, [victim])
            shutil.rmtree(own_cluster.directory / f"shard-{number_of(victim)}")
            start(own_cluster, [victim])
            until(lambda: {m.id for m in shards_of(client, "c")[0].members} != {m.id for m in shard.members}, "a new member")
            await_whole_while_writing(client, "c")
            writer.await_batches(3, "writes")
        assert searcher.answers and not searcher.failures, searcher.failures[:3]
        await_whole(client, "c")
        writer.verify(client)
        points = writer.living() + len(anchors[0])
        until(lambda: sum(node_points(client).values()) == 2 * points, "every point once more, as codes")
