"""A cluster whose coordinator keeps its catalog in etcd, and one that moves thither."""

import subprocess

import grpc
import numpy
import pytest
from cluster import BIN, Cluster, brute_force, ids, until
from etcd import Etcd

pytestmark = pytest.mark.skipif(not Etcd.here(), reason="no etcd here (Debian: etcd-server)")

DIM, POINTS = 32, 3000


def vectors():
    return numpy.random.default_rng(7).standard_normal((POINTS, DIM)).astype(numpy.float32)


def fill(client, name, base):
    client.create(name, DIM, "L2", shards=4)
    request = client.messages.ImportRequest
    step = 500
    client.import_points(iter([request(collection=name, points=[client.point(i + 1, base[i]) for i in range(at, at + step)])
                               for at in range(0, len(base), step)]))


def check(client, name, base):
    """Every point is there, and exact search finds what is nearest."""
    assert client.get(name, [1, POINTS]).points[0].id.num == 1
    wanted, _ = brute_force("L2", base, base[11], 10)
    assert ids(client.search(name, base[11], k=10, confidence=0.9999)) == [i + 1 for i in wanted]


def etcd_arguments(etcd, prefix="/gyre/"):
    return ["--catalog", "etcd", "--etcd-endpoints", etcd.endpoints, "--etcd-prefix", prefix]


def migrate(cluster, etcd, prefix="/gyre/"):
    return subprocess.run([BIN / "gyre-coordinator", "--data-dir", cluster.directory / "coordinator",
                           "--cluster-key-file", cluster.key, "--etcd-endpoints", etcd.endpoints,
                           "--etcd-prefix", prefix, "--migrate-to-etcd"],
                          capture_output=True, text=True, timeout=120)


def restart(cluster, *arguments):
    cluster.start_coordinator(*arguments)
    cluster.await_nodes(len(cluster.shards))


def test_a_cluster_on_etcd_creates_imports_searches_and_restarts(tmp_path):
    base = vectors()
    with Etcd(tmp_path) as etcd, Cluster(tmp_path, shards=2, coordinator=etcd_arguments(etcd)) as cluster:
        with cluster.client() as client:
            assert client.call("Cluster", "Status").catalog == "etcd"
            fill(client, "words", base)
            check(client, "words", base)
        cluster.coordinator.kill()
        restart(cluster)
        with cluster.client() as client:
            check(client, "words", base)
            etcd.kill(0)  # the first that is asked
            client.create("more", DIM, "L2", shards=2)
            client.call("Collections", "Drop", name="words")
            # Without a majority nothing can be changed, and that is said; what was searched is searched on.
            client.upsert("more", [client.point(1, base[0])])
            etcd.kill(1)
            with pytest.raises(grpc.RpcError) as refused:
                client.call("Collections", "Drop", name="more", timeout=20)
            assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            assert ids(client.search("more", base[0], k=1)) == [1]
            etcd.start(0)
            etcd.start(1)
            until(etcd.healthy, "etcd has a leader again")
            client.create("most", DIM, "L2", shards=2)
            names = sorted(c.spec.name for c in client.call("Collections", "List").collections)
            assert "most" in names and "words" not in names
        assert set(cluster.stop().values()) == {0}
        restart_names(cluster, names)


def restart_names(cluster, names):
    for i in range(len(cluster.shards)):
        cluster.start_shard(i)
    restart(cluster)
    with cluster.client() as client:
        now = sorted(c.spec.name for c in client.call("Collections", "List").collections)
        assert set(now) <= set(names) and "most" in now  # a drop that began is finished


def test_an_embedded_catalog_moves_to_etcd(tmp_path):
    base = vectors()
    with Etcd(tmp_path) as etcd, Cluster(tmp_path, shards=2) as cluster:
        with cluster.client() as client:
            fill(client, "words", base)
            client.call("Collections", "Train", name="words", timeout=100)
            before = client.call("Collections", "Get", name="words")
        running = migrate(cluster, etcd)
        assert running.returncode == 1 and "in use by another process" in running.stderr
        assert cluster.coordinator.stop() == 0
        with pytest.raises(AssertionError, match="ended with 1"):  # an empty catalog in place of the cluster's own
            cluster.start_coordinator(*etcd_arguments(etcd))
        assert "not migrated" in cluster_log(cluster)
        moved = migrate(cluster, etcd)
        assert moved.returncode == 0, moved.stderr
        assert "read back and equal" in moved.stdout
        again = migrate(cluster, etcd)
        assert again.returncode == 1 and "has moved to etcd" in again.stderr
        elsewhere = migrate(cluster, etcd, "/other/")
        assert elsewhere.returncode == 1 and "has moved to etcd" in elsewhere.stderr
        with pytest.raises(AssertionError, match="ended with 1"):
            cluster.start_coordinator()
        assert "has moved to etcd" in cluster_log(cluster)
        cluster.coordinator_arguments = etcd_arguments(etcd)
        restart(cluster)
        with cluster.client() as client:
            after = client.call("Collections", "Get", name="words")
            assert after.spec == before.spec
            check(client, "words", base)


def cluster_log(cluster):
    return (cluster.directory / "coordinator.log").read_text()
