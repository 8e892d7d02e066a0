"""What a search or a write says while a part of the cluster is dead, frozen, full or a stranger."""

import os
import subprocess
import time
import urllib.error
import urllib.request

import grpc
import numpy
import pytest

from cluster import BIN, Cluster, ids, until

CODE = grpc.StatusCode
DIM = 16


def filled(client, name="c", points=2000):
    base = numpy.random.default_rng(1).normal(size=(points, DIM)).astype(numpy.float32)
    client.create(name, DIM, "L2", shards=6)
    client.upsert(name, [client.point(i, v) for i, v in enumerate(base)])
    return base


def test_a_dead_shard_makes_searches_fail_or_partial_never_silently_short(own_cluster):
    with own_cluster.client() as client:
        base = filled(client)
        client.call("Collections", "Train", name="c", wait=True, timeout=200)  # or it trains itself meanwhile, as it has grown
        whole = client.search("c", base[0], k=10, exact=True)
        own_cluster.shards[1].kill()
        with pytest.raises(grpc.RpcError) as failure:
            client.search("c", base[0], k=10)
        assert failure.value.code() == CODE.UNAVAILABLE
        assert "n1" in failure.value.details() and "shard" in failure.value.details()
        for options in [{}, {"exact": True}, {"approximate": True}]:
            began = time.monotonic()
            part = client.search("c", base[0], k=10, allow_partial=True, **options)
            assert time.monotonic() - began < 20  # of the 60 s it may take
            assert part.basis.shards_answered == 4 and part.basis.shards_total == 6 and len(part.hits) == 10
        with pytest.raises(grpc.RpcError) as failure:
            client.call("Points", "Count", collection="c")
        assert failure.value.code() == CODE.UNAVAILABLE
        assert client.call("Points", "Count", collection="c", allow_partial=True).shards_answered == 4
        with pytest.raises(grpc.RpcError) as failure:
            client.upsert("c", [client.point(i, base[i]) for i in range(100)], timeout=3)  # it is tried until then
        assert failure.value.code() == CODE.UNAVAILABLE and "again is safe" in failure.value.details()
        own_cluster.await_nodes(2)
        own_cluster.start_shard(1)
        own_cluster.await_nodes(3)
        until(lambda: answers(client, base[0]), "a search that needs every shard")
        assert client.search("c", base[0], k=10, exact=True) == whole


def answers(client, vector):
    try:
        return client.search("c", vector, k=10)
    except grpc.RpcError as error:
        if error.code() != CODE.UNAVAILABLE:
            raise
        return None


def errors_of_searches(cluster):
    """How many searches the coordinator itself has ended with an error."""
    with urllib.request.urlopen(f"http://{cluster.coordinator.ready['http']}/metrics", timeout=10) as page:
        name = 'gyre_coordinator_call_errors_total{method="/gyre.v1.Points/Search"} '
        return sum(int(line[len(name):]) for line in page.read().decode().splitlines() if line.startswith(name))


def in_time(attempt):
    """What attempt(seconds) returns. A machine that is held up for so long that none is left for the answer gets more."""
    for seconds in (2, 6, 18):
        try:
            return attempt(seconds)
        except (AssertionError, grpc.RpcError) as error:
            if seconds == 18 or (isinstance(error, grpc.RpcError) and error.code() != CODE.DEADLINE_EXCEEDED):
                raise


def given_up(cluster, client, vector, seconds):
    """A search that cannot be answered. The client's timer would say so even if the coordinator hung: it must end it, too."""
    failed = errors_of_searches(cluster)
    with pytest.raises(grpc.RpcError) as failure:
        client.search("c", vector, k=10, timeout=seconds)
    assert failure.value.code() in (CODE.DEADLINE_EXCEEDED, CODE.UNAVAILABLE)
    until(lambda: errors_of_searches(cluster) > failed, "the coordinator to give the search up", seconds)


def test_a_frozen_shard_costs_no_more_than_the_deadline(own_cluster):
    with own_cluster.client() as client:
        base = filled(client)
        own_cluster.shards[2].freeze()
        in_time(lambda seconds: given_up(own_cluster, client, base[0], seconds))
        part = in_time(lambda seconds: client.search("c", base[0], k=10, timeout=seconds, allow_partial=True))
        assert part.basis.shards_answered == 4 and len(part.hits) == 10
        own_cluster.shards[2].thaw()
        until(lambda: answers_in_time(client, base[0]), "a search after the thaw")


def answers_in_time(client, vector):
    try:
        return client.search("c", vector, k=10, timeout=2)
    except grpc.RpcError as error:
        if error.code() not in (CODE.UNAVAILABLE, CODE.DEADLINE_EXCEEDED):
            raise
        return None


def test_without_any_shard_nothing_can_be_created_and_the_sentence_says_what_to_do(tmp_path):
    with Cluster(tmp_path, shards=0) as cluster, cluster.client() as client:
        with pytest.raises(grpc.RpcError) as failure:
            client.create("c", 4)
        assert failure.value.code() == CODE.FAILED_PRECONDITION and "gyre-shard" in failure.value.details()
        assert not client.call("Collections", "List").collections


def test_a_full_disk_refuses_writes_and_answers_searches(own_cluster):
    with own_cluster.client() as client:
        base = filled(client)
        for i in range(3):
            own_cluster.shards[i].stop()
            own_cluster.start_shard(i, "--disk-free-min", str(1 << 50))
        own_cluster.await_nodes(3)
        until(lambda: answers(client, base[0]), "a search that needs every shard")
        with pytest.raises(grpc.RpcError) as failure:
            client.upsert("c", [client.point(1, base[1])])
        assert failure.value.code() == CODE.RESOURCE_EXHAUSTED and "disk" in failure.value.details()
        assert ids(client.search("c", base[3], k=1)) == [3]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of limited size needs root")
def test_memory_that_is_used_up_refuses_writes_and_says_what_to_do(own_cluster):
    def restart(*arguments):
        own_cluster.shards[0].stop()
        own_cluster.start_shard(0, *arguments)
        own_cluster.await_nodes(3)

    def fill(client, start):
        """Upserts until refused; the sentence."""
        while True:
            batch = [client.point(start + i, v) for i, v in enumerate(numpy.random.default_rng(start).normal(size=(1000, DIM)).tolist())]
            try:
                start += client.upsert("c", batch)
            except grpc.RpcError as error:
                assert error.code() == CODE.RESOURCE_EXHAUSTED, error
                return error.details()
            assert start < 500000

    with own_cluster.client() as client:
        base = filled(client)
        restart("--memory-budget", "1M")
        until(lambda: answers(client, base[0]), "the node to be back")
        details = fill(client, 2000)
        assert "n0" in details and "memory budget is 1.0 MiB" in details and "--memory-budget" in details, details
        assert ids(client.search("c", base[0], k=1)) == [0]
        assert client.call("Points", "Delete", collection="c", ids=[client.messages.PointId(num=1)]).deleted == 1
        restart("--memory-budget", "50%")
        until(lambda: answers(client, base[0]), "the node to be back")
        assert client.upsert("c", [client.point(1, base[1])]) == 1


def test_a_disk_that_really_fills_up_loses_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "none", str(small)], capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        directory = small / "cluster"
        directory.mkdir()
        with Cluster(directory, shards=0) as cluster, cluster.client() as client:
            cluster.shards = [None]
            cluster.start_shard(0, "--disk-free-min", "40M")
            cluster.await_nodes(1)
            client.create("c", 512, "L2", shards=1)
            vectors = numpy.random.default_rng(1).normal(size=(200, 512)).astype(numpy.float32)
            written = 0
            with pytest.raises(grpc.RpcError) as failure:
                while written < 100000:
                    client.upsert("c", [client.point(written + i, v) for i, v in enumerate(vectors)])
                    written += 200
            assert failure.value.code() == CODE.RESOURCE_EXHAUSTED and "disk" in failure.value.details()
            assert written > 0 and cluster.shards[0].process.poll() is None
            assert client.call("Points", "Count", collection="c").points == written
            cluster.shards[0].kill()
            # Opening needs room as well; once there is some, everything acknowledged is there and writing goes on.
            subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
            cluster.start_shard(0, "--disk-free-min", "40M")
            until(lambda: answers(client, vectors[0]), "a search after the restart")
            assert client.call("Points", "Count", collection="c").points == written
            assert client.upsert("c", [client.point(written, vectors[0])]) == 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_shard_with_another_cluster_key_is_kept_out_and_told_why(own_cluster, tmp_path):
    stranger_key = tmp_path / "stranger.key"
    stranger_key.write_text(os.urandom(32).hex() + "\n")
    stranger_key.chmod(0o600)
    log = tmp_path / "stranger.log"
    with open(log, "wb") as out:
        process = subprocess.Popen([BIN / "gyre-shard", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--cluster-key-file",
                                    str(stranger_key), "--data-dir", str(tmp_path / "stranger"), "--node", "stranger", "--coordinators",
                                    own_cluster.ports["bus"]], stderr=out, stdout=out)
    try:
        until(lambda: "cluster key" in log.read_text(errors="replace") or process.poll() is not None, "a word about the key")
        assert "cluster key" in log.read_text(errors="replace")
        with own_cluster.client() as client:
            assert "stranger" not in [n.name for n in client.call("Cluster", "Status").nodes]
    finally:
        process.terminate()
        process.wait(30)


def test_a_second_daemon_on_the_same_directory_is_refused(own_cluster):
    for program, directory in [("gyre-shard", "shard-0"), ("gyre-coordinator", "coordinator")]:
        arguments = ["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--cluster-key-file", str(own_cluster.key),
                     "--data-dir", str(own_cluster.directory / directory)]
        arguments += ["--coordinators", own_cluster.ports["bus"]] if program == "gyre-shard" else ["--bus-listen", "127.0.0.1:0"]
        ended = subprocess.run([BIN / program, *arguments], capture_output=True, timeout=60, text=True)
        assert ended.returncode == 1 and directory in ended.stderr


def test_everything_drains_on_sigterm(own_cluster):
    with own_cluster.client() as client:
        filled(client)
    assert set(own_cluster.stop().values()) == {0}


def test_the_operators_door_answers(own_cluster):
    with own_cluster.client() as client:
        base = filled(client)
        client.search("c", base[0])
    for daemon, metric in [(own_cluster.coordinator, "gyre_coordinator_call_seconds_bucket"), (own_cluster.shards[0], "gyre_shard_")]:
        address = daemon.ready["http"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
            text = page.read().decode()
            assert metric in text and "# TYPE" in text
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as page:
            assert page.status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{address}/../../etc/passwd", timeout=10)
