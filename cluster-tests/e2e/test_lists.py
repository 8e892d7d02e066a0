"""A collection large enough to be cut into lists: what a recall costs, what is promised and kept, and answers that stay the same."""

import threading

import grpc
import numpy
import pytest

from cluster import Cluster, brute_force, ids, until

POINTS, DIM, QUERIES, K = 30000, 48, 100, 10


def clustered(seed, points=POINTS):
    """Clusters of unequal sizes and spreads around centres with a falling spectrum, as real vectors have them."""
    random = numpy.random.default_rng(seed)
    spectrum = numpy.arange(1, DIM + 1) ** -0.4
    centres = random.normal(size=(400, DIM)) * spectrum
    weights = random.random(400) ** 2
    of = random.choice(400, points, p=weights / weights.sum())
    return (centres[of] + random.normal(size=(points, DIM)) * spectrum * (0.5 + random.random((points, 1)))).astype(numpy.float32)


class Data:
    """Points, queries near some of them, and the truth."""

    def __init__(self):
        self.base = clustered(1)
        noise = numpy.random.default_rng(2).normal(size=(QUERIES, DIM)) * 0.1
        self.queries = (self.base[::POINTS // QUERIES] + noise).astype(numpy.float32)
        self.truth = [brute_force("L2", self.base, query, K) for query in self.queries]


@pytest.fixture(scope="module")
def data():
    return Data()


def fill(client, name, base, shards):
    client.create(name, DIM, "L2", shards=shards)

    def requests():
        for start in range(0, len(base), 1000):
            yield client.messages.ImportRequest(collection="" if start else name, points=[
                client.point(start + i, v) for i, v in enumerate(base[start:start + 1000].tolist())])
    assert client.import_points(requests()).imported == len(base)


class Searcher(threading.Thread):
    """Searches without a pause for points by their own vectors, until stopped; every answer must be right."""

    def __init__(self, cluster, name, base):
        super().__init__()
        self.cluster, self.name_searched, self.base = cluster, name, base
        self.stopping = threading.Event()
        self.answers, self.versions, self.failure = 0, set(), None

    def run(self):
        try:
            with self.cluster.client() as client:
                while not self.stopping.is_set():
                    number = self.answers * 37 % len(self.base)
                    reply = client.search(self.name_searched, self.base[number], k=3)
                    assert ids(reply)[0] == number and reply.hits[0].distance <= 1e-4, (number, reply)
                    self.versions.add(reply.basis.codebook_version)
                    self.answers += 1
        except Exception as failure:  # told by stop, on the test's own thread
            self.failure = failure

    def stop(self):
        self.stopping.set()
        self.join()
        if self.failure:
            raise self.failure


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A cluster with two collections of the same points, of four shards and of one, trained while they were searched."""
    with Cluster(tmp_path_factory.mktemp("lists")) as cluster, cluster.client() as client:
        for name, shards in [("four", 4), ("one", 1)]:
            fill(client, name, data.base, shards)
            searcher = Searcher(cluster, name, data.base)
            searcher.start()
            try:
                before = client.call("Collections", "Get", name=name).codebook_version
                after = client.call("Collections", "Train", name=name, wait=True, timeout=200)
                until(lambda: searcher.failure or searcher.answers > 20, "searches to be answered")
            finally:
                searcher.stop()
            assert client.call("Collections", "Get", name=name).codebook_version > before, (before, after)
        yield cluster


@pytest.fixture(params=["four", "one"])
def name(request):
    return request.param


def recall(replies, truth):
    return numpy.mean([len(set(ids(reply)) & set(expected)) / K for reply, (expected, _) in zip(replies, truth)])


def test_the_collection_says_how_it_is_cut_and_what_a_recall_costs(trained, name):
    with trained.client() as client:
        info = client.call("Collections", "Get", name=name)
        assert 64 <= info.lists <= 1024, info.lists
        costs = [(cost.recall, cost.lists) for cost in info.probe_costs]
        assert costs == sorted(costs) and len(costs) >= 4, costs
        assert all(1 <= lists <= info.lists for _, lists in costs), costs
        assert all(shard.codebook_version == info.codebook_version for shard in info.shards)


def test_recall_is_what_was_asked_for_and_more_of_it_costs_more(trained, data, name):
    with trained.client() as client:
        info = client.call("Collections", "Get", name=name)
        scanned, found = [], []
        for target in [0.9, 0.99, 1.0]:
            replies = client.search_batch(name, data.queries, k=K, recall_target=target, confidence=0.999)
            bases = [reply.basis for reply in replies]
            found.append(recall(replies, data.truth))
            # The training promises the mean over queries like the points themselves; a hundred others vary around it.
            assert found[-1] >= target - 0.03, (target, found)
            assert all(b.exact_distances and b.lists_total == info.lists for b in bases)
            assert all(b.recall_expected >= target for b in bases), bases[0]
            scanned.append(sum(b.codes_scanned for b in bases))
        assert scanned[0] <= scanned[1] <= scanned[2] and scanned[0] < scanned[2] / 2, scanned
        assert scanned[2] >= QUERIES * POINTS
        assert bases[0].lists_probed == info.lists and bases[0].recall_expected == 1
        for lists in [1, 4]:
            basis = client.search(name, data.queries[0], k=K, nprobe=lists).basis
            assert basis.lists_probed == lists and basis.codes_scanned < POINTS / 4, basis


def test_exact_is_brute_force_and_compares_every_vector(trained, data, name):
    with trained.client() as client:
        for reply, (expected, distances) in zip(client.search_batch(name, data.queries[:25], k=K, exact=True), data.truth):
            assert ids(reply) == expected
            numpy.testing.assert_allclose([hit.distance for hit in reply.hits], distances, rtol=1e-4, atol=1e-5)
            assert reply.basis.certified and reply.basis.confidence == 1 and reply.basis.codes_scanned == POINTS


def test_what_is_written_after_the_training_is_found_in_its_list(trained, data, name):
    extra = clustered(3, 200)
    with trained.client() as client:
        numbers = range(POINTS, POINTS + len(extra))
        client.upsert(name, [client.point(n, v) for n, v in zip(numbers, extra.tolist())])
        for number, vector in zip(numbers, extra):
            reply = client.search(name, vector, k=1, nprobe=1)
            assert ids(reply) == [number] and reply.basis.lists_probed == 1
        client.call("Points", "Delete", collection=name, ids=[client.messages.PointId(num=n) for n in numbers])
        assert all(not set(ids(client.search(name, v, k=K))) & set(numbers) for v in extra[:20])


def options():
    return [{}, {"recall_target": 0.9}, {"nprobe": 3}, {"approximate": True}, {"exact": True}, {"recall_target": 1.0}]


def answers(client, name, queries):
    return [client.call_raw("Points", "Search", client.search_request(name, query, k=K, **some))
            for query in queries for some in options()]


def test_a_batch_answers_as_its_queries_do_one_by_one(trained, data, name):
    with trained.client() as client:
        for some in options():
            batch = client.search_batch(name, data.queries[:20], k=K, **some)
            for query, reply in zip(data.queries, batch):
                single = client.search(name, query, k=K, **some)
                assert reply.hits == single.hits, some
                assert reply.basis.lists_probed == single.basis.lists_probed
                assert reply.basis.codes_scanned == single.basis.codes_scanned or not reply.basis.exact_distances


def test_many_at_once_get_the_answers_they_get_alone(trained, data, name):
    """Searches that wait together at a node share a pass over its codes."""
    queries = data.queries[:24]
    with trained.client() as client:
        alone = [client.search(name, query, k=K).hits for query in queries]
        path, request_type, reply_type = client.method("Points", "Search")
        search = client.channel.unary_unary(path, request_serializer=request_type.SerializeToString, response_deserializer=reply_type.FromString)
        for _ in range(5):
            calls = [search.future(client.search_request(name, query, k=K), timeout=60) for query in queries]
            assert [call.result().hits for call in calls] == alone


def test_answers_are_byte_identical_after_every_node_restarted(trained, data):
    with trained.client() as client:
        before = {name: answers(client, name, data.queries[:8]) for name in ["four", "one"]}
        for i, daemon in enumerate(trained.shards):
            assert daemon.stop() == 0
            trained.start_shard(i)
        trained.await_nodes(len(trained.shards))

        def back(name):
            try:
                return client.call("Points", "Count", collection=name).points == POINTS
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
        for name, expected in before.items():
            until(lambda: back(name), "every point to be back")
            assert answers(client, name, data.queries[:8]) == expected, name
