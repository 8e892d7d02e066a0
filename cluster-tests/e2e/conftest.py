import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from cluster import Cluster  # noqa: E402


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of three shard daemons that the tests of a file share and leave whole."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture()
def client(cluster):
    with cluster.client() as connected:
        yield connected


@pytest.fixture()
def own_cluster(tmp_path):
    """A cluster for one test, which may break it."""
    with Cluster(tmp_path) as running:
        yield running
