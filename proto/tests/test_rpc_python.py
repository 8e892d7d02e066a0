"""A client that nobody here wrote (python3-grpcio) against rpc_test_server: health, reflection, gzip, deadlines, rich errors.

Usage: test_rpc_python.py RPC_TEST_SERVER
Messages are built from what reflection answers, so a schema that reflection serves wrongly fails everything.
Reflection itself is bootstrapped from a hand-written schema of its public field numbers.
"""
import gzip
import socket
import subprocess
import sys
import threading
import time
import traceback

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TIMEOUT = 60  # seconds; nothing here waits them out


def message_class(pool, name):
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName(name))


def reflection_classes():
    """Request and response of grpc.reflection, by the public field numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="bootstrap.proto", package="bootstrap", syntax="proto3")
    field_type = descriptor_pb2.FieldDescriptorProto

    def message(name, *fields):
        entry = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            field = entry.field.add(name=field_name, number=number)
            field.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = field_type.TYPE_MESSAGE, ".bootstrap." + kind
            else:
                field.type = kind

    text, blob, number = field_type.TYPE_STRING, field_type.TYPE_BYTES, field_type.TYPE_INT32
    message("Extension", ("containing_type", 1, text, False), ("extension_number", 2, number, False))
    message("Request", ("host", 1, text, False), ("file_by_filename", 3, text, False),
            ("file_containing_symbol", 4, text, False), ("file_containing_extension", 5, "Extension", False),
            ("all_extension_numbers_of_type", 6, text, False), ("list_services", 7, text, False))
    message("Files", ("file_descriptor_proto", 1, blob, True))
    message("Numbers", ("base_type_name", 1, text, False), ("extension_number", 2, number, True))
    message("Service", ("name", 1, text, False))
    message("Services", ("service", 1, "Service", True))
    message("Error", ("error_code", 1, number, False), ("error_message", 2, text, False))
    message("Response", ("valid_host", 1, text, False), ("original_request", 2, "Request", False),
            ("file_descriptor_response", 4, "Files", False), ("all_extension_numbers_response", 5, "Numbers", False),
            ("list_services_response", 6, "Services", False), ("error_response", 7, "Error", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_class(pool, "bootstrap.Request"), message_class(pool, "bootstrap.Response")


ReflectionRequest, ReflectionResponse = reflection_classes()


class Server:
    """rpc_test_server as a child process."""

    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the server did not start"

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(TIMEOUT) == 0


class Client:
    def __init__(self, address, **kwargs):
        self.channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)], **kwargs)
        self.pool = None

    def reflect(self, version, *requests):
        """The responses to requests (keyword dictionaries), over one stream."""
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ReflectionRequest.SerializeToString, response_deserializer=ReflectionResponse.FromString)
        return list(call(iter([ReflectionRequest(**r) for r in requests]), timeout=TIMEOUT))

    def message(self, name, **fields):
        if self.pool is None:
            self.pool = descriptor_pool.DescriptorPool()
            for file in ("gyre/v1/gyre.proto", "grpc/health/v1/health.proto"):
                [answer] = self.reflect("v1alpha", {"file_by_filename": file})
                for blob in answer.file_descriptor_response.file_descriptor_proto:
                    self.pool.AddSerializedFile(blob)
        return message_class(self.pool, name)(**fields)

    def method(self, kind, path, reply, **kwargs):
        reply_class = type(self.message(reply))
        return getattr(self.channel, kind)(path, request_serializer=lambda m: m.SerializeToString(),
                                           response_deserializer=reply_class.FromString, **kwargs)

    def upsert(self, collection, points=1, **kwargs):
        request = self.message("gyre.v1.UpsertRequest", collection=collection)
        for _ in range(points):
            request.points.add().vector.extend([0.0] * 40)
        kwargs.setdefault("timeout", TIMEOUT)
        return self.method("unary_unary", "/gyre.v1.Points/Upsert", "gyre.v1.UpsertReply")(request, **kwargs)

    def get(self, ids, **kwargs):
        request = self.message("gyre.v1.GetRequest", ids=[self.message("gyre.v1.PointId", num=i) for i in range(ids)])
        return self.method("unary_unary", "/gyre.v1.Points/Get", "gyre.v1.GetReply")(request, timeout=TIMEOUT, **kwargs)


class CountingProxy:
    """One TCP connection to the server, forwarded; counts what the server sends."""

    def __init__(self, address):
        self.received = 0
        self.door = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.door.getsockname()[1]
        threading.Thread(target=self._run, args=(address,), daemon=True).start()

    def _run(self, address):
        near, _ = self.door.accept()
        host, port = address.rsplit(":", 1)
        far = socket.create_connection((host, int(port)))
        threading.Thread(target=self._forward, args=(near, far, False), daemon=True).start()
        self._forward(far, near, True)

    def _forward(self, source, target, counted):
        try:
            while data := source.recv(65536):
                self.received += len(data) * counted
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has left


def call_by_hand(address, path, *messages):
    """What the server sends in answer to a gzip call with these (compressed flag, bytes), over bare HTTP/2: no gRPC client
    would send them. gRPC core writes status and sentence as they are, so they can be found in the bytes."""

    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    def field(name, value):  # literal, never indexed
        return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value

    headers = (field(b":method", b"POST") + field(b":scheme", b"http") + field(b":path", path.encode()) +
               field(b":authority", b"test") + field(b"te", b"trailers") + field(b"content-type", b"application/grpc") +
               field(b"grpc-encoding", b"gzip"))
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, headers))
        for compressed, message in messages:
            connection.sendall(frame(0, 0, 1, bytes([compressed]) + len(message).to_bytes(4, "big") + message))
        answer = b""
        stream = connection.makefile("rb")
        while head := stream.read(9):
            payload = stream.read(int.from_bytes(head[:3], "big"))
            answer += payload
            if head[3] == 1 and head[4] & 1:  # trailers
                return answer
    raise AssertionError(f"hung up after {answer}")


def failure(call, *args, **kwargs):
    """The RpcError of a call that must fail."""
    try:
        call(*args, **kwargs)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def test_reflection_lists_every_service_in_both_versions(server, client):
    for version in ("v1", "v1alpha"):
        [answer] = client.reflect(version, {"list_services": "*"})
        names = {service.name for service in answer.list_services_response.service}
        assert names == {"gyre.v1.Points", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                         "grpc.reflection.v1alpha.ServerReflection"}, names
        assert answer.original_request.list_services == "*"


def test_reflection_finds_files_by_name_and_by_symbol(server, client):
    questions = {
        "gyre.v1.Points": "gyre/v1/gyre.proto",
        "gyre.v1.Points.Search": "gyre/v1/gyre.proto",
        "gyre.v1.PointId": "gyre/v1/gyre.proto",
        "gyre.v1.Metric": "gyre/v1/gyre.proto",
        "gyre.v1.METRIC_COSINE": "gyre/v1/gyre.proto",
        "grpc.health.v1.HealthCheckResponse.ServingStatus": "grpc/health/v1/health.proto",
        "grpc.reflection.v1.ServerReflection": "grpc/reflection/v1/reflection.proto",
        "grpc.reflection.v1alpha.ServerReflectionRequest": "grpc/reflection/v1alpha/reflection.proto",
    }
    answers = client.reflect("v1", *({"file_containing_symbol": symbol} for symbol in questions))
    for answer, (symbol, name) in zip(answers, questions.items()):
        [blob] = answer.file_descriptor_response.file_descriptor_proto
        assert descriptor_pb2.FileDescriptorProto.FromString(blob).name == name, symbol
    assert len(answers) == len(questions)


def test_reflection_says_what_it_does_not_have(server, client):
    answers = client.reflect(
        "v1", {"file_containing_symbol": "gyre.v1.Poems"}, {"file_by_filename": "poems.proto"},
        {"file_containing_extension": {"containing_type": "gyre.v1.Point", "extension_number": 7}},
        {"all_extension_numbers_of_type": "gyre.v1.Point"}, {"all_extension_numbers_of_type": "gyre.v1.Poem"}, {"host": "h"})
    assert [a.error_response.error_code for a in answers] == [5, 5, 5, 0, 5, 3], answers
    assert "gyre.v1.Poems" in answers[0].error_response.error_message
    assert answers[3].all_extension_numbers_response.base_type_name == "gyre.v1.Point"
    assert answers[5].valid_host == "h"


def test_health_is_checked_and_watched(server, client):
    check = client.method("unary_unary", "/grpc.health.v1.Health/Check", "grpc.health.v1.HealthCheckResponse")
    watch = client.method("unary_stream", "/grpc.health.v1.Health/Watch", "grpc.health.v1.HealthCheckResponse")

    def request(name):
        return client.message("grpc.health.v1.HealthCheckRequest", service=name)

    server.tell("not_serving")
    assert check(request(""), timeout=TIMEOUT).status == 2
    news = watch(request("gyre.v1.Points"), timeout=TIMEOUT)
    assert next(news).status == 2
    server.tell("serving")
    assert next(news).status == 1
    assert check(request("gyre.v1.Points"), timeout=TIMEOUT).status == 1
    server.tell("not_serving")
    assert next(news).status == 2
    news.cancel()
    assert failure(check, request("gyre.v1.Poems"), timeout=TIMEOUT).code() == grpc.StatusCode.NOT_FOUND
    unknown = watch(request("gyre.v1.Poems"), timeout=TIMEOUT)
    assert next(unknown).status == 3
    unknown.cancel()


def test_errors_carry_a_google_rpc_status(server, client):
    error = failure(client.upsert, "fail:9:field 'dim' is 3: gänse")
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "field 'dim' is 3: gänse"
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    text = "field 'dim' is 3: gänse".encode()
    assert packed == b"\x08\x09\x12" + bytes([len(text)]) + text, packed
    long = "x" * 300
    packed = dict(failure(client.upsert, "fail:3:" + long).trailing_metadata())["grpc-status-details-bin"]
    assert packed == b"\x08\x03\x12\xac\x02" + long.encode()


def test_unknown_methods_are_unimplemented(server, client):
    client.message("gyre.v1.Point")
    guess = client.method("unary_unary", "/gyre.v1.Points/Guess", "gyre.v1.UpsertReply")
    error = failure(guess, client.message("gyre.v1.UpsertRequest"), timeout=TIMEOUT)
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED and "/gyre.v1.Points/Guess" in error.details()


def test_deadlines_and_cancels_end_a_call_that_is_held(server, client):
    client.message("gyre.v1.UpsertRequest")  # connects
    begin = time.monotonic()
    assert failure(client.upsert, "hold", timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.15 < time.monotonic() - begin < TIMEOUT / 2
    server.tell("release")
    assert client.upsert("ok", points=3).upserted == 3


def test_gzip_and_deflate_are_read_and_answered(server, client):
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        compressed = Client(server.address, compression=compression)
        assert compressed.upsert("ok", points=500).upserted == 500
        reply = compressed.get(20)
        assert len(reply.points) == 20 and len(reply.points[0].payload) == 2012
        compressed.channel.close()


def test_large_replies_are_compressed_for_clients_that_compress(server, client):
    traffic = {}
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        proxy = CountingProxy(server.address)
        through = Client(proxy.address, compression=compression)
        through.message("gyre.v1.Point")
        before = proxy.received
        assert len(through.get(100).points) == 100
        traffic[compression] = proxy.received - before
        through.channel.close()
    assert traffic[grpc.Compression.NoCompression] > 1000000, traffic
    assert traffic[grpc.Compression.Gzip] < 100000, traffic


def test_a_small_message_cannot_inflate_beyond_the_limit(server, client):
    request = client.message("gyre.v1.UpsertRequest", collection="ok")
    request.points.add().vector.extend([0.0] * 1000000)
    size = len(gzip.compress(request.SerializeToString()))
    assert size < 64 << 10, size  # far below the limit of 256 KiB as it travels
    zipped = Client(server.address, compression=grpc.Compression.Gzip)
    call = zipped.method("unary_unary", "/gyre.v1.Points/Upsert", "gyre.v1.UpsertReply")
    error = failure(call, request, timeout=TIMEOUT)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error
    assert "262144" in error.details()
    zipped.channel.close()


def test_a_stream_ends_at_a_message_that_cannot_be_read(server, client):
    request = client.message("gyre.v1.ImportRequest", collection="words").SerializeToString()
    question = ReflectionRequest(list_services="*").SerializeToString()
    streams = {"/gyre.v1.Points/Import": request, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": question}
    for path, good in streams.items():
        for before in (0, 1, 2):
            answer = call_by_hand(server.address, path, *[(0, good)] * before, (1, b"no gzip"))
            assert b"grpc-status\x013" in answer and b"compressed message is damaged" in answer, answer
        bomb = gzip.compress(bytes(1000000))
        answer = call_by_hand(server.address, path, (1, gzip.compress(good)), (1, bomb))
        assert b"grpc-status\x018" in answer and b"beyond the limit of 262144 bytes" in answer, answer
    [answer] = client.reflect("v1", {"list_services": "*"})  # beside streams that ended so
    assert answer.list_services_response.service


def test_oversized_messages_are_refused(server, client):
    error = failure(client.upsert, "ok", points=5000)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "262144" in error.details(), error


def test_a_stream_of_many_messages_has_one_reply(server, client):
    stream = client.method("stream_unary", "/gyre.v1.Points/Import", "gyre.v1.ImportReply")

    def batches(n):
        for _ in range(n):
            request = client.message("gyre.v1.ImportRequest", collection="words")
            for _ in range(10):
                request.points.add().vector.extend([0.5] * 10)
            yield request

    assert stream(batches(200), timeout=TIMEOUT).imported == 2000
    assert stream(batches(0), timeout=TIMEOUT).imported == 0
    zipped = Client(server.address, compression=grpc.Compression.Gzip)
    assert zipped.method("stream_unary", "/gyre.v1.Points/Import", "gyre.v1.ImportReply")(
        batches(50), timeout=TIMEOUT).imported == 500
    zipped.channel.close()


def test_garbage_on_the_port_harms_nobody(server, client):
    host, port = server.address.rsplit(":", 1)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xff" * 10000, preface + b"\xff" * 10000,
                   preface + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff"):
        for finish in (True, False):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(bytes_)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
    assert client.upsert("ok", points=3).upserted == 3


def test_a_stopping_server_ends_streams_that_would_wait_for_ever(server, client):
    client.message("gyre.v1.Point")
    watch = client.method("unary_stream", "/grpc.health.v1.Health/Watch", "grpc.health.v1.HealthCheckResponse")
    news = watch(client.message("grpc.health.v1.HealthCheckRequest"), timeout=TIMEOUT)
    next(news)
    begin = time.monotonic()
    server.stop()
    error = failure(next, news)
    assert error.code() == grpc.StatusCode.UNAVAILABLE and error.details() == "the server is closing", error
    assert time.monotonic() - begin < TIMEOUT / 2  # the grace is TIMEOUT


def main():
    failed = 0
    for name, test in [(n, t) for n, t in globals().items() if n.startswith("test_")]:
        server = Server(sys.argv[1])
        client = Client(server.address)
        try:
            test(server, client)
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}")
            traceback.print_exc()
        finally:
            client.channel.close()
            if server.process.poll() is None:
                server.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
