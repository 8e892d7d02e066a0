"""A real cluster of real daemons on loopback, and a client that was generated from nothing of ours but the .proto.

Every daemon tells by its ready line that it serves, is stopped by process id, and lives in a directory the test made.
"""

import json
import os
import pathlib
import select
import signal
import subprocess
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BUILD = pathlib.Path(os.environ.get("GYRE_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))
BIN = BUILD / "bin"
DATA = pathlib.Path(__file__).resolve().parents[2] / "ops" / "data"
READY_SECONDS = 60  # sanitizer builds on a busy machine start slowly


def until(condition, what, seconds=100.0):
    """Waits until condition() is true and returns its value; a condition that never holds fails the test by name."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Daemon:
    """One process of ours: its ready line, its log, its end."""

    def __init__(self, program, arguments, directory, name, env=None):
        self.name = name
        self.log_path = pathlib.Path(directory) / f"{name}.log"
        reader, writer = os.pipe()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [BIN / program, *arguments, "--ready-fd", str(writer)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[writer],
                env={**os.environ, **(env or {})})
        os.close(writer)
        self.ready = self._await_ready(reader)

    def _await_ready(self, reader):
        line = b""
        end = time.monotonic() + READY_SECONDS
        try:
            while not line.endswith(b"\n"):
                if not select.select([reader], [], [], max(0, end - time.monotonic()))[0]:
                    raise AssertionError(f"{self.name} not ready within {READY_SECONDS} s\n{self.log_tail()}")
                part = os.read(reader, 4096)
                if not part:
                    self.process.wait(READY_SECONDS)
                    raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.log_tail()}")
                line += part
        except AssertionError:
            self.kill()
            raise
        finally:
            os.close(reader)
        return json.loads(line)

    def log_tail(self, lines=20):
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self, seconds=60):
        """SIGTERM; the exit code must say that it drained."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(seconds)
        return self.process.returncode


class Cluster:
    """One coordinator and some shard daemons under a directory; each can be stopped, killed and started again."""

    def __init__(self, directory, shards=3, env=None, coordinator=()):
        self.coordinator_arguments = list(coordinator)
        self.directory = pathlib.Path(directory)
        self.env = env or {}
        self.key = self.directory / "cluster.key"
        self.key.write_text(os.urandom(32).hex() + "\n")
        self.key.chmod(0o600)
        self.ports = {}
        self.coordinator = None
        self.shards = [None] * shards
        self.start_coordinator()
        for i in range(shards):
            self.start_shard(i)
        self.await_nodes(shards)

    def start_coordinator(self, *arguments):
        listen = self.ports.get("grpc", "127.0.0.1:0")
        bus = self.ports.get("bus", "127.0.0.1:0")
        self.coordinator = Daemon("gyre-coordinator", [
            "--listen", listen, "--bus-listen", bus, "--http-listen", "127.0.0.1:0", "--cluster-key-file", str(self.key),
            "--data-dir", str(self.directory / "coordinator"), *self.coordinator_arguments, *arguments],
            self.directory, "coordinator", self.env)
        # A coordinator that comes back must be found where it was.
        self.ports = {"grpc": self.coordinator.ready["grpc"], "bus": self.coordinator.ready["bus"]}

    def start_shard(self, i, *arguments, env=None):
        self.shards[i] = Daemon("gyre-shard", [
            "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--cluster-key-file", str(self.key),
            "--data-dir", str(self.directory / f"shard-{i}"), "--node", f"n{i}", "--coordinators", self.ports["bus"],
            *arguments], self.directory, f"shard-{i}", {**self.env, **(env or {})})

    def client(self):
        return Client(self.ports["grpc"])

    def await_nodes(self, count):
        """Waits until the coordinator sees exactly so many nodes up."""
        with self.client() as client:
            up = client.messages.NodeState.Value("NODE_STATE_UP")

            def all_up():
                try:
                    return sum(n.state == up for n in client.call("Cluster", "Status").nodes) == count
                except grpc.RpcError as error:
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        raise
                    return False
            until(all_up, f"{count} nodes up")

    def daemons(self):
        return [d for d in [*self.shards, self.coordinator] if d]

    def stop(self):
        """Stops everything; returns the exit codes by name."""
        for daemon in self.daemons():
            if daemon.process.poll() is None:
                daemon.thaw()
        codes = {d.name: d.stop() for d in self.daemons()}
        return codes

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        try:
            self.stop()
        finally:
            for daemon in self.daemons():
                if daemon.process.poll() is None:
                    daemon.kill()


class Messages:
    """The message classes of gyre.v1, made from the descriptor set: no generated code, as any language could."""

    def __init__(self, path):
        files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(path).read_bytes())
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def __getattr__(self, name):
        if name == "NodeState" or name == "Metric":
            from google.protobuf.internal import enum_type_wrapper
            return enum_type_wrapper.EnumTypeWrapper(self.pool.FindEnumTypeByName(f"gyre.v1.{name}"))
        return self.of(f"gyre.v1.{name}")

    def of(self, full_name):
        return self.factory.GetPrototype(self.pool.FindMessageTypeByName(full_name))

    def service(self, full_name):
        return self.pool.FindServiceByName(full_name)


MESSAGES = Messages(BUILD / "proto" / "generated" / "gyre.v1.binpb")


class Client:
    """python3-grpcio against the public schema."""

    messages = MESSAGES

    def __init__(self, address, options=()):
        defaults = {"grpc.max_receive_message_length": 64 << 20, "grpc.max_reconnect_backoff_ms": 200,
                    "grpc.initial_reconnect_backoff_ms": 50}
        self.channel = grpc.insecure_channel(address, options=list({**defaults, **dict(options)}.items()))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.channel.close()

    def method(self, service, name):
        full = service if "." in service else f"gyre.v1.{service}"
        descriptor = self.messages.service(full).methods_by_name[name]
        request = self.messages.factory.GetPrototype(descriptor.input_type)
        reply = self.messages.factory.GetPrototype(descriptor.output_type)
        return f"/{full}/{name}", request, reply

    def call(self, service, method, /, request=None, timeout=60, **fields):
        path, request_type, reply_type = self.method(service, method)
        invoke = self.channel.unary_unary(path, request_serializer=request_type.SerializeToString,
                                          response_deserializer=reply_type.FromString)
        return invoke(request if request is not None else request_type(**fields), timeout=timeout)

    def call_raw(self, service, name, request, timeout=60):
        """The reply's bytes as they came."""
        path, request_type, _ = self.method(service, name)
        return self.channel.unary_unary(path, request_serializer=request_type.SerializeToString)(request, timeout=timeout)

    def import_points(self, requests, timeout=120):
        path, request_type, reply_type = self.method("Points", "Import")
        return self.channel.stream_unary(path, request_serializer=request_type.SerializeToString,
                                         response_deserializer=reply_type.FromString)(requests, timeout=timeout)

    # ---- shorthands ----

    def create(self, name, dim, metric="COSINE", shards=4, **spec):
        return self.call("Collections", "Create", spec=self.messages.CollectionSpec(
            name=name, dim=dim, metric=self.messages.Metric.Value(f"METRIC_{metric}"), shards=shards, **spec))

    def point(self, number, vector, payload=""):
        return self.messages.Point(id=self.messages.PointId(num=number), vector=vector, payload=payload)

    def upsert(self, name, points, timeout=60):
        return self.call("Points", "Upsert", collection=name, points=points, timeout=timeout).upserted

    def get(self, name, numbers, **fields):
        return self.call("Points", "Get", collection=name, ids=[self.messages.PointId(num=n) for n in numbers], **fields)

    def search_request(self, name, vector=None, like=None, k=10, **options):
        query = self.messages.SearchQuery(vector=[] if vector is None else vector,
                                          like_id=None if like is None else self.messages.PointId(num=like))
        return self.messages.SearchRequest(collection=name, query=query, options=self.messages.SearchOptions(k=k, **options))

    def search(self, name, vector=None, like=None, k=10, timeout=60, **options):
        return self.call("Points", "Search", self.search_request(name, vector, like, k, **options), timeout=timeout)

    def search_batch(self, name, vectors, k=10, timeout=120, **options):
        return self.call("Points", "SearchBatch", timeout=timeout, collection=name,
                         queries=[self.messages.SearchQuery(vector=v) for v in vectors],
                         options=self.messages.SearchOptions(k=k, **options)).replies


def ids(reply):
    return [hit.id.num for hit in reply.hits]


def brute_force(metric, base, query, k):
    """Ids and distances of the k nearest, in double precision, ties to the lower id."""
    import numpy
    base, query = base.astype(numpy.float64), query.astype(numpy.float64)
    if metric == "L2":
        distance = ((base - query) ** 2).sum(axis=1)
    elif metric == "IP":
        distance = -base @ query
    else:
        distance = 1 - base @ query / (numpy.linalg.norm(base, axis=1) * numpy.linalg.norm(query))
    order = numpy.lexsort((numpy.arange(len(base)), distance))[:k]
    return order.tolist(), distance[order]
