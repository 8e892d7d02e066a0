"""gyre backup and gyre restore: of a collection that is written to, in generations, into other shapes, and of what was spoilt."""

import contextlib
import json
import pathlib
import struct
import subprocess
import threading

import grpc
import numpy

from cluster import BIN, Cluster, until

DIM = 16
RNG = numpy.random.default_rng(7)


def gyre(cluster, *words, code=0):
    """Runs the command; what it printed on stdout, and on stderr."""
    done = subprocess.run([BIN / "gyre", *map(str, words), *(["--address", cluster.ports["grpc"]] if cluster else [])],
                          capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == code, f"gyre {words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def backup(cluster, name, directory, *words):
    return json.loads(gyre(cluster, "backup", name, directory, "--json", "-q", *words)[0])


def restore(cluster, directory, *words):
    return json.loads(gyre(cluster, "restore", directory, "--json", "-q", *words)[0])


def manifest(directory):
    return json.loads((pathlib.Path(directory) / "manifest.json").read_text())


def read_piece(path):
    """A second reading of backup/README.md: (points [(id, version, vector, payload)], gone ids)."""
    data = path.read_bytes()
    magic, form, dim, points, gone, payload_bytes, _, _ = struct.unpack_from("<8sIIIIQQQ", data)
    assert (magic, form) == (b"GYREPIEC", 1)
    at, entries = 48, []
    for _ in range(points):
        entries.append(struct.unpack_from("<16sQIQQ", data, at))
        at += 44
    gone_ids = [int.from_bytes(data[at + 16 * i:at + 16 * i + 16], "big") for i in range(gone)]
    at += 16 * gone
    vectors = numpy.frombuffer(data, "<f4", points * dim, at).reshape(points, dim)
    at += vectors.nbytes
    assert at + payload_bytes == len(data)
    found = []
    for (key, version, length, _, _), vector in zip(entries, vectors):
        found.append((int.from_bytes(key, "big"), version, vector, data[at:at + length].decode()))
        at += length
    return found, gone_ids


def shard_points(directory, generation, shard):
    pieces = sorted((pathlib.Path(directory) / f"g{generation:06}").glob(f"s{shard:05}-*.piece"))
    return [p for piece in pieces for p in read_piece(piece)[0]]


def contents(client, name, numbers):
    """What a collection has of these ids: number -> (vector's bytes, payload)."""
    found = {}
    for start in range(0, len(numbers), 2000):
        for point in client.get(name, numbers[start:start + 2000]).points:
            found[point.id.num] = (numpy.array(point.vector, numpy.float32).tobytes(), point.payload)
    return found


def answers(client, name, queries):
    return [[(h.id.num, h.distance) for h in client.search(name, q, k=20, exact=True).hits] for q in queries]


def vectors(count):
    return RNG.normal(size=(count, DIM)).astype(numpy.float32)


class Writer(threading.Thread):
    """The only writer: after each batch it reads which version each of its points got."""

    def __init__(self, cluster, name):
        super().__init__()
        self.cluster, self.name_of, self.history = cluster, name, {}
        self.stopping, self.batches, self.trouble = threading.Event(), 0, None

    def run(self):
        try:
            with self.cluster.client() as client:
                while not self.stopping.is_set():
                    numbers = sorted({int(n) for n in RNG.integers(0, 3000, 60)})
                    points = [client.point(n, v, '{"batch": %d}' % self.batches) for n, v in zip(numbers, vectors(len(numbers)))]
                    client.upsert(self.name_of, points)
                    for point in client.get(self.name_of, numbers, without_vector=True).points:
                        self.history.setdefault(point.id.num, []).append((point.version, point.payload))
                    self.batches += 1
        except Exception as error:  # noqa: BLE001 - reported by the test, which joins it
            self.trouble = error


def test_every_point_is_as_it_was_at_its_shards_seq(cluster, client, tmp_path):
    client.create("busy", DIM, "L2", shards=5)
    writer = Writer(cluster, "busy")
    writer.start()
    try:
        for generation in range(1, 5):
            wanted = writer.batches + 15
            until(lambda: writer.batches >= wanted or writer.trouble, "writes to go on")
            assert backup(cluster, "busy", tmp_path / "b")["generation"] == generation
    finally:
        writer.stopping.set()
        writer.join(60)
    assert writer.trouble is None
    backup(cluster, "busy", tmp_path / "last")
    shard_of = {p[0]: s for s in range(5) for p in shard_points(tmp_path / "last", 1, s)}
    assert sorted(shard_of) == sorted(writer.history)
    states = [dict() for _ in range(5)]
    for made in manifest(tmp_path / "b")["generations"]:
        for shard in made["shards"]:
            state, seq, before = states[shard["shard"]], shard["seq"], len(states[shard["shard"]])
            state.update({number: (version, payload) for number, version, _, payload in
                          shard_points(tmp_path / "b", made["generation"], shard["shard"])})
            held = {n: max((v, p) for v, p in writes if v <= seq) for n, writes in writer.history.items()
                    if shard_of[n] == shard["shard"] and writes[0][0] <= seq}
            assert state == held, (made["generation"], shard["shard"])
            assert shard["full"] == (made["generation"] == 1) and len(held) == shard["count"] >= before
    gyre(None, "backup", "verify", tmp_path / "b")


def test_generations_restore_to_what_was_live(cluster, client, tmp_path):
    numbers = list(range(5000))
    client.create("kept", DIM, "L2", shards=3)
    client.upsert("kept", [client.point(n, v, '{"n": %d}' % n if n % 3 else "") for n, v in zip(numbers, vectors(5000))])
    queries, lived = vectors(5), []

    def remember():
        lived.append((contents(client, "kept", numbers + [9000, 9001]), answers(client, "kept", queries)))

    remember()
    first = backup(cluster, "kept", tmp_path)
    assert (first["incremental"], first["points_written"], first["count"]) == (False, 5000, 5000)
    client.upsert("kept", [client.point(n, v, '{"again": true}') for n, v in zip(range(100, 200), vectors(100))])
    client.upsert("kept", [client.point(9000, vectors(1)[0])])
    client.call("Points", "Delete", collection="kept", ids=[client.messages.PointId(num=n) for n in range(150, 300)])
    remember()
    second = backup(cluster, "kept", tmp_path)
    assert (second["incremental"], second["points_written"], second["gone"], second["count"]) == (True, 51, 150, 4851)
    client.upsert("kept", [client.point(n, v, '{"back": 1}') for n, v in zip(range(150, 160), vectors(10))])  # some come back
    client.call("Points", "Delete", collection="kept", ids=[client.messages.PointId(num=9000)])
    remember()
    third = backup(cluster, "kept", tmp_path)
    assert (third["points_written"], third["gone"], third["shards_full"]) == (10, 1, 0)
    assert json.loads(gyre(None, "backup", "verify", tmp_path, "--json", "-q")[0])["whole"]

    for generation, shards in [(1, 7), (2, 1), (3, 3)]:
        name = f"kept{generation}"
        done = restore(cluster, tmp_path, "--as", name, "--generation", generation, "--shards", shards)
        points, found = lived[generation - 1]
        assert done["complete"] and done["points"] == len(points)
        assert contents(client, name, numbers + [9000, 9001]) == points
        assert answers(client, name, queries) == found
        assert client.call("Collections", "Get", name=name).spec.shards == shards
    assert "already" in gyre(cluster, "restore", tmp_path, code=1)[1]
    again = restore(cluster, tmp_path, "--as", "kept3", "--into-existing", "--start", 4000)  # as if it had stopped there
    assert again["complete"] and again["points"] == len(lived[2][0]) - 4000
    assert restore(cluster, tmp_path, "--as", "kept2", "--into-existing")["complete"]  # over an earlier one
    assert contents(client, "kept2", numbers + [9000, 9001]) == {**lived[1][0], **lived[2][0]}

    (tmp_path / "fresh").mkdir()
    with Cluster(tmp_path / "fresh", shards=1) as fresh, fresh.client() as other:
        assert restore(fresh, tmp_path)["complete"]
        assert contents(other, "kept", numbers + [9000, 9001]) == lived[2][0]
        assert answers(other, "kept", queries) == lived[2][1]
        # Another cluster's collection of the same name does not go on with this backup's history.
        again = backup(fresh, "kept", tmp_path)
        assert not again["incremental"] and "another cluster" in again["reason"]
        gyre(None, "backup", "verify", tmp_path)


def test_a_collection_made_anew_is_backed_up_in_full(cluster, client, tmp_path):
    for generation in (1, 2):
        client.create("anew", DIM, "COSINE", shards=2)
        client.upsert("anew", [client.point(n, v) for n, v in enumerate(vectors(300))])
        done = backup(cluster, "anew", tmp_path)
        assert (done["generation"], done["shards_full"], done["points_written"]) == (generation, 2, 300)
        client.call("Collections", "Drop", name="anew")
    assert "made anew" in done["reason"]
    client.create("other", DIM, "COSINE", shards=2)
    assert "'anew'" in gyre(cluster, "backup", "other", tmp_path, code=1)[1]
    assert restore(cluster, tmp_path)["complete"]


@contextlib.contextmanager
def spoilt(path, change):
    data = path.read_bytes()
    path.write_bytes(change(bytearray(data)))
    yield
    path.write_bytes(data)


def flipped(at):
    def change(data):
        data[at] ^= 1
        return data
    return change


def test_spoilt_files_are_refused_by_name(cluster, client, tmp_path):
    client.create("spoilt", DIM, "IP", shards=2)
    client.upsert("spoilt", [client.point(n, v) for n, v in enumerate(vectors(2000))])
    backup(cluster, "spoilt", tmp_path)
    piece = tmp_path / "g000001" / "s00001-000000.piece"
    for change in [flipped(100), flipped(-1), flipped(17), lambda data: data[:-1], lambda data: data + b"x", lambda data: b""]:
        with spoilt(piece, change):
            for words in [("backup", "verify", tmp_path), ("restore", tmp_path, "--as", "never", "-q")]:
                assert piece.name in gyre(cluster if words[0] == "restore" else None, *words, code=1)[1]
            client.call("Collections", "Drop", name="never")
    whole = tmp_path / "manifest.json"
    seq = whole.read_bytes().index(b'"seq": ') + 7
    for change in [flipped(seq), lambda data: data[:len(data) // 2], lambda data: b"[]"]:
        with spoilt(whole, change):
            assert "manifest.json" in gyre(None, "backup", "verify", tmp_path, code=1)[1]
            assert "manifest.json" in gyre(cluster, "restore", tmp_path, "--as", "never", code=1)[1]
            assert "manifest.json" in gyre(cluster, "backup", "spoilt", tmp_path, code=1)[1]
    piece.unlink()
    assert "not there" in gyre(None, "backup", "verify", tmp_path, code=1)[1]
    # An earlier generation that is damaged is not followed: the shard is taken in full.
    client.upsert("spoilt", [client.point(0, vectors(1)[0])])
    again = backup(cluster, "spoilt", tmp_path)
    assert again["shards_full"] == 1 and piece.name in again["full_again"][0]["reason"]
    assert restore(cluster, tmp_path, "--as", "mended")["points"] == 2000


def test_an_interrupted_backup_is_none_and_goes_on(own_cluster, tmp_path):
    directory = tmp_path / "b"
    with own_cluster.client() as client:
        client.create("cut", DIM, "L2", shards=6)
        client.upsert("cut", [client.point(n, v) for n, v in enumerate(vectors(6000))])
        own_cluster.shards[1].freeze()
        command = subprocess.Popen([BIN / "gyre", "backup", "cut", directory, "-q", "--address", own_cluster.ports["grpc"]])
        try:
            until(lambda: len(list(directory.glob("g000001/s*.json"))) >= 2, "some shards to be backed up")
        finally:
            command.kill()
            command.wait()
            own_cluster.shards[1].thaw()
        assert "manifest.json" in gyre(None, "backup", "verify", directory, code=1)[1]
        own_cluster.await_nodes(3)
        done = backup(own_cluster, "cut", directory)
        assert done["shards_resumed"] >= 2 and done["count"] == 6000
        assert not list(directory.glob("g000001/*.json"))
        assert restore(own_cluster, directory, "--as", "whole")["points"] == 6000


def test_another_member_is_read_when_the_primary_is_out_of_reach(own_cluster, tmp_path):
    with own_cluster.client() as client:
        client.create("copied", DIM, "L2", shards=2, copies=2)
        points = [client.point(n, v) for n, v in enumerate(vectors(1000))]

        def written():
            try:
                return client.upsert("copied", points)
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE), error
                return None

        def applied_everywhere():
            shards = client.call("Collections", "Get", name="copied").shards
            return all(len(s.members) == 2 and len({m.applied_seq for m in s.members} | {s.applied_seq}) == 1 and s.applied_seq
                       for s in shards) and shards
        until(written, "a primary that takes writes")
        primary = until(applied_everywhere, "both members to have applied all")[0].primary
        own_cluster.shards[int(primary[1:])].kill()
        assert backup(own_cluster, "copied", tmp_path / "b")["count"] == 1000
        gyre(None, "backup", "verify", tmp_path / "b")
