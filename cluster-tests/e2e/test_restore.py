"""Members that missed more than the log keeps, or lost their disk, or hold codes only: built anew from the primary while writes go
on, and never promoted before they have everything."""

import shutil

import numpy

from cluster import Cluster, until
from replicas import (PASSING, Searcher, Writer, add_anchors, await_whole, node_points, nodes_of, number_of, passing, shards_of)

DIM = 16


def replica_directory(cluster, node, collection_id, shard):
    return cluster.directory / f"shard-{number_of(node)}" / "replicas" / f"{collection_id}-{shard}"


def bytes_of(directory):
    """Of the files there; one that goes while it is looked at is not there."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def restored_line(cluster, node):
    """What the node's log says of restores."""
    text = cluster.shards[number_of(node)].log_path.read_text(errors="replace")
    return [line for line in text.splitlines() if "restore" in line]


def test_a_node_whose_disk_was_lost_is_filled_again_and_not_promoted_before(own_cluster):
    with own_cluster.client() as client:
        client.create("c", DIM, "L2", shards=3, copies=2)
        with Writer(own_cluster, "c", DIM) as writer:
            writer.await_batches(20, "writes")
            before = shards_of(client, "c")
            victim = before[0].primary
            own_cluster.shards[number_of(victim)].kill()
            shutil.rmtree(own_cluster.directory / f"shard-{number_of(victim)}")
            own_cluster.start_shard(number_of(victim))  # comes back at once, empty, under its name
            writer.await_batches(3, "writes while it is filled")
            after = await_whole_while_writing(client, "c")
        for old, new in zip(before, after):
            gone = {m.id for m in old.members if m.node == victim}
            assert not gone & {m.id for m in new.members}, "a member whose disk was lost is never the same again"
            assert old.primary != victim or new.primary != victim or new.epoch >= old.epoch + 3, "removed, added, in sync, handed over"
        await_whole(client, "c")
        writer.verify(client)
        # The new members have everything: the others may go.
        for i in range(3):
            if f"n{i}" != victim:
                own_cluster.shards[i].kill()
        own_cluster.await_nodes(1)
        for i in range(3):
            if f"n{i}" != victim:
                own_cluster.start_shard(i)
        await_whole(client, "c")
        writer.verify(client)


def await_whole_while_writing(client, name):
    """In sync again, each with its copies; their seqs differ while writes come."""
    def there():
        collection = client.call("Collections", "Get", name=name)
        return all(len(nodes_of(s, in_sync=True, reachable=True)) == collection.spec.copies == len(nodes_of(s, quantized=False))
                   for s in collection.shards) and collection.shards
    return until(there, f"every member of '{name}' in sync")
