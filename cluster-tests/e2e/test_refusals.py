"""Honest failures: each wrong request has its status and a sentence that names the field and the limit."""

import grpc
import numpy
import pytest

from cluster import Client

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def ready(cluster):
    with cluster.client() as client:
        client.create("cosine", 8, "COSINE")
        client.create("l2", 8, "L2")
        client.upsert("cosine", [client.point(i, [1, i, 0, 0, 0, 0, 0, 0]) for i in range(20)])
    return cluster


def refused(call, code, *words):
    with pytest.raises(grpc.RpcError) as failure:
        call()
    assert failure.value.code() == code, failure.value
    for word in words:
        assert word in failure.value.details(), failure.value.details()
    return failure.value


ONE = [1.0] + [0.0] * 7


@pytest.mark.parametrize("vector, words", [
    ([1.0] * 7, ["points[1].vector", "7", "dim 8"]),
    ([1.0] * 9, ["points[1].vector", "9", "dim 8"]),
    ([], ["points[1].vector", "0", "dim 8"]),
    ([1.0, float("nan")] + [0.0] * 6, ["points[1].vector"]),
    ([1.0, float("inf")] + [0.0] * 6, ["points[1].vector"]),
    ([0.0] * 8, ["points[1].vector", "norm 0"]),
])
def test_a_bad_vector_is_refused_and_writes_nothing(ready, client, vector, words):
    before = client.call("Points", "Count", collection="cosine").points
    refused(lambda: client.upsert("cosine", [client.point(100, ONE), client.point(101, vector)]), CODE.INVALID_ARGUMENT, *words)
    assert client.call("Points", "Count", collection="cosine").points == before
    refused(lambda: client.search("cosine", vector or None, k=1), CODE.INVALID_ARGUMENT)


def test_a_zero_vector_is_fine_without_cosine(ready, client):
    client.upsert("l2", [client.point(1, [0.0] * 8)])
    assert client.search("l2", [0.0] * 8, k=1).hits[0].distance == 0


@pytest.mark.parametrize("payload, word", [
    ("[1]", "object"), ("{", "payload"), ('{"a": ' + "[" * 40 + "]" * 40 + "}", "32"), ('{"a": "' + "x" * (1 << 20) + '"}', "1048576"),
])
def test_a_bad_payload_is_refused(ready, client, payload, word):
    error = refused(lambda: client.upsert("cosine", [client.point(1, ONE, payload)]), CODE.INVALID_ARGUMENT, "points[0].payload")
    assert word in error.details()


@pytest.mark.parametrize("options, words", [
    ({"k": 0}, ["options.k", "10000"]), ({"k": 10001}, ["options.k", "10000"]), ({"k": 4294967295}, ["options.k"]),
    ({"k": 1, "confidence": 0.5}, ["options.confidence"]), ({"k": 1, "confidence": float("nan")}, ["options.confidence"]),
    ({"k": 1, "exact": True, "approximate": True}, ["exact", "approximate"]),
])
def test_bad_search_options_are_refused(ready, client, options, words):
    refused(lambda: client.search("cosine", ONE, **options), CODE.INVALID_ARGUMENT, *words)


def test_requests_without_their_parts_are_refused(ready, client):
    messages = client.messages
    refused(lambda: client.call("Points", "Search", collection="cosine", options=messages.SearchOptions(k=1)), CODE.INVALID_ARGUMENT, "query")
    refused(lambda: client.call("Points", "Search", collection="cosine", query=messages.SearchQuery(vector=ONE)), CODE.INVALID_ARGUMENT, "options")
    refused(lambda: client.call("Points", "SearchBatch", collection="cosine", options=messages.SearchOptions(k=1)), CODE.INVALID_ARGUMENT, "1024")
    refused(lambda: client.search_batch("cosine", [ONE] * 1025), CODE.INVALID_ARGUMENT, "1024")
    refused(lambda: client.upsert("cosine", []), CODE.INVALID_ARGUMENT, "0 points")
    refused(lambda: client.upsert("cosine", [messages.Point(vector=ONE)]), CODE.INVALID_ARGUMENT, "points[0]", "id")
    refused(lambda: client.get("cosine", []), CODE.INVALID_ARGUMENT, "0 ids")
    both = messages.SearchQuery(vector=ONE, like_id=messages.PointId(num=1))
    refused(lambda: client.call("Points", "Search", collection="cosine", query=both, options=messages.SearchOptions(k=1)), CODE.INVALID_ARGUMENT, "like_id")


def test_unknown_collections_are_not_found_by_every_method(ready, client):
    messages = client.messages
    for call in [
        lambda: client.search("nowhere", ONE), lambda: client.search_batch("nowhere", [ONE]), lambda: client.get("nowhere", [1]),
        lambda: client.upsert("nowhere", [client.point(1, ONE)]), lambda: client.call("Points", "Count", collection="nowhere"),
        lambda: client.call("Points", "Delete", collection="nowhere", ids=[messages.PointId(num=1)]),
        lambda: client.import_points(iter([messages.ImportRequest(collection="nowhere", points=[client.point(1, ONE)])])),
        lambda: client.call("Collections", "Get", name="nowhere"), lambda: client.call("Collections", "Train", name="nowhere"),
    ]:
        refused(call, CODE.NOT_FOUND, "'nowhere'")


@pytest.mark.parametrize("spec, words", [
    ({"name": ""}, ["name"]), ({"name": "Upper"}, ["name"]), ({"name": "a" * 65}, ["name", "64"]), ({"name": "x/../y"}, ["name"]),
    ({"dim": 0}, ["dim", "4096"]), ({"dim": 4097}, ["dim", "4096"]), ({"shards": 1025}, ["shards", "1024"]),
    ({"codec": "magic"}, ["codec", "rabitq"]), ({"codec": "pq-p8"}, ["codec", "rabitq"]), ({"bits": 9}, ["bits", "8"]),
    ({"codec": "rabitq4", "bits": 2}, ["bits", "rabitq4"]), ({"copies": 7}, ["copies", "nodes"]), ({"copies": 8}, ["copies", "7"]), ({"metric": 0}, ["metric"]),
])
def test_a_bad_collection_spec_is_refused(ready, client, spec, words):
    fields = {"name": "fine", "dim": 8, "metric": 1, **spec}
    with pytest.raises(grpc.RpcError) as failure:
        client.call("Collections", "Create", spec=client.messages.CollectionSpec(**fields))
    error = failure.value
    # What more nodes would allow is FAILED_PRECONDITION, what can never be is INVALID_ARGUMENT.
    assert error.code() == (CODE.FAILED_PRECONDITION if spec.get("copies") == 7 else CODE.INVALID_ARGUMENT)
    for word in words:
        assert word in error.details(), error.details()


@pytest.mark.parametrize("options, words", [
    ({"nprobe": 1 << 31}, ["nprobe"]), ({"recall_target": 0.3}, ["recall_target", "0.5"]), ({"recall_target": 1.5}, ["recall_target"]),
    ({"recall_target": float("nan")}, ["recall_target"]), ({"nprobe": 3, "recall_target": 0.9}, ["nprobe", "recall_target"]),
    ({"exact": True, "nprobe": 3}, ["exact", "nprobe"]), ({"exact": True, "recall_target": 0.9}, ["exact", "recall_target"]),
])
def test_a_search_in_lists_that_cannot_be_is_refused(ready, client, options, words):
    refused(lambda: client.search("cosine", ONE, **options), CODE.INVALID_ARGUMENT, *words)


def test_a_training_that_cannot_be_is_refused(ready, client):
    refused(lambda: client.call("Collections", "Train", name="cosine", lists=1 << 31), CODE.INVALID_ARGUMENT, "lists")
    refused(lambda: client.call("Collections", "Train", name="cosine", lists=21, wait=True), CODE.FAILED_PRECONDITION, "21 lists", "20 points")


def test_creating_twice_already_exists(ready, client):
    refused(lambda: client.create("cosine", 8), CODE.ALREADY_EXISTS, "'cosine'")
    refused(lambda: client.create("cosine", 9, "L2"), CODE.ALREADY_EXISTS, "'cosine'")


def test_an_oversized_message_is_refused_and_the_server_lives(ready, client):
    huge = client.messages.UpsertRequest(collection="cosine", points=[client.point(1, ONE, "x" * (65 << 20))])
    error = refused(lambda: client.call("Points", "Upsert", huge), CODE.RESOURCE_EXHAUSTED)
    assert str(64 << 20) in error.details()
    assert client.call("Points", "Count", collection="cosine").points == 20


def test_bytes_that_are_no_message_are_refused(ready, client):
    for path in ["Points/Search", "Points/Upsert", "Collections/Create"]:
        call = client.channel.unary_unary(f"/gyre.v1.{path}")
        refused(lambda: call(b"\xff\xff\xff\xff\xff", timeout=10), CODE.INVALID_ARGUMENT)
        refused(lambda: call(b"\x0a\x7f", timeout=10), CODE.INVALID_ARGUMENT)
    refused(lambda: client.channel.unary_unary("/gyre.v1.Points/NoSuchMethod")(b"", timeout=10), CODE.UNIMPLEMENTED)


def test_strings_that_other_languages_cannot_read_are_refused(ready, client):
    call = client.channel.unary_unary("/gyre.v1.Collections/Get")
    refused(lambda: call(b"\x0a\x02\xff\xfe", timeout=10), CODE.INVALID_ARGUMENT)


def test_an_expired_deadline_is_said_by_the_server(ready, client):
    # The deadline travels as a header of our own making, so that the client's timer has no part in it.
    path, request_type, _ = client.method("Points", "Search")
    call = client.channel.unary_unary(path, request_serializer=request_type.SerializeToString)
    refused(lambda: call(client.search_request("cosine", ONE, k=1), metadata=[("grpc-timeout", "1n")], timeout=None), CODE.DEADLINE_EXCEEDED)


def test_rich_errors_carry_the_same_status(ready, client):
    error = refused(lambda: client.search("cosine", ONE, k=0), CODE.INVALID_ARGUMENT)
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    assert details and error.details().encode() in details


def test_ids_and_vectors_at_their_limits_work(ready, client):
    client.create("edge", 4096, "L2", shards=1)
    vector = numpy.random.default_rng(1).normal(size=4096).astype(numpy.float32)
    client.upsert("edge", [client.point(2**64 - 1, vector), client.point(0, -vector)])
    assert [h.id.num for h in client.search("edge", vector, k=2).hits] == [2**64 - 1, 0]
    client.create("one", 1, "L2", shards=1)
    client.upsert("one", [client.point(i, [i]) for i in range(10)])
    assert [h.id.num for h in client.search("one", [4.2], k=3).hits] == [4, 5, 3]


def test_a_client_that_allows_less_gets_a_clear_error(ready, cluster):
    with Client(cluster.ports["grpc"], options=[("grpc.max_receive_message_length", 10)]) as small:
        refused(lambda: small.search("cosine", ONE, k=10), CODE.RESOURCE_EXHAUSTED)
