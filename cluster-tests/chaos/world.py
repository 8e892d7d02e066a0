"""The processes of a run: coordinators, shard daemons, etcd members; each started, killed, frozen and stopped by its id."""

import os
import pathlib
import subprocess
import sys
import time

# A client all of whose calls fail at once does not look at its sockets in between, but every so often: by default every 5 s,
# and so long it does not notice that a coordinator is back. Read when grpc is loaded.
os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "50")

import grpc  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "history"))

from cluster import BIN, BUILD, Client, Daemon, until  # noqa: E402
from network import command  # noqa: E402

DISK_BYTES = 640 << 20  # a shard's file system; only what is used takes memory
DISK_FREE_MIN = 48 << 20  # of which the daemon keeps so much free
COLLECTION = "chaos"
HEALTHY_SECONDS = 120
SPLIT_REFUSED = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "CANCELLED", "FAILED_PRECONDITION")


class Node(Daemon):
    """A process with a home, a directory and a word on whether it should run. Started without waiting: see await_ready."""

    def __init__(self, network, directory, name, program, arguments, env=None):
        self.name, self.network, self.program, self.env = name, network, program, env or {}
        self.address = network.add(name)
        self.directory = pathlib.Path(directory) / name
        self.log_path = pathlib.Path(directory) / f"{name}.log"
        self.arguments, self.process, self.reader, self.wanted = arguments, None, None, False

    def start(self):
        ready, ready_fd = ([], None) if self.program == "etcd" else os.pipe()
        words = [w.format(address=self.address, directory=self.directory) for w in self.arguments]
        if ready_fd is not None:
            words += ["--ready-fd", str(ready_fd)]
        program = "etcd" if self.program == "etcd" else BIN / self.program
        settings = ["env", *(f"{name}={value}" for name, value in self.env.items())]  # for the program, not for what starts it
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.network.inside(self.name), *settings, program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[] if ready_fd is None else [ready_fd])
        if ready_fd is not None:
            os.close(ready_fd)
            self._drop_reader()
            self.reader = ready
        self.wanted = True

    def await_ready(self):
        if self.reader is not None:
            reader, self.reader = self.reader, None
            self.ready = self._await_ready(reader)

    def _drop_reader(self):
        if self.reader is not None:
            os.close(self.reader)
            self.reader = None

    def kill(self):
        self.wanted = False
        super().kill()

    def stop(self, seconds=60):
        self.wanted = False
        return super().stop(seconds)

    def runs(self):
        return self.process is not None and self.process.poll() is None


class World:
    """All nodes of a run. Coordinators are c0…, shard daemons n0…, etcd members e0…"""

    def __init__(self, network, directory, layout, shim=None, small_disks=False):
        self.network, self.directory, self.layout = network, pathlib.Path(directory), layout
        self.nodes = {}
        key = self.directory / "cluster.key"
        key.write_text(os.urandom(32).hex() + "\n")
        key.chmod(0o600)
        self._add_etcd(layout)
        common = ["--cluster-key-file", str(key), "--data-dir", "{directory}"]
        endpoints = ",".join(f"{self.nodes[e].address}:2379" for e in layout.etcd)
        catalog = [word.format(endpoints=endpoints) for word in layout.catalog_arguments]
        for name in layout.coordinators:
            self.nodes[name] = Node(network, directory, name, "gyre-coordinator", common + catalog + [
                "--listen", "{address}:7700", "--bus-listen", "{address}:7601", "--http-listen", "{address}:7600",
                "--allow-insecure-listen"])
        buses = ",".join(f"{self.nodes[c].address}:7601" for c in layout.coordinators)
        for name in layout.shards:
            env = {}
            if shim:
                env = {"LD_PRELOAD": str(shim), "GYRE_SYNC_FAILS_WHILE": str(self.sync_fails(name)),
                       "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
            self.nodes[name] = Node(network, directory, name, "gyre-shard", common + [
                "--listen", "{address}:7701", "--http-listen", "{address}:7702", "--node", name, "--coordinators", buses,
                "--disk-free-min", str(DISK_FREE_MIN)], env)
            self.nodes[name].directory.mkdir()
            if small_disks:
                command("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "gyre-chaos", self.nodes[name].directory)

    def _add_etcd(self, layout):
        members = {name: Node(self.network, self.directory, name, "etcd", []) for name in layout.etcd}
        everybody = ",".join(f"{name}=http://{node.address}:2380" for name, node in members.items())
        for node in members.values():
            node.arguments = ["--name", node.name, "--data-dir", "{directory}", "--listen-client-urls", "http://{address}:2379",
                              "--advertise-client-urls", "http://{address}:2379", "--listen-peer-urls", "http://{address}:2380",
                              "--initial-advertise-peer-urls", "http://{address}:2380", "--initial-cluster", everybody,
                              "--initial-cluster-state", "new"]
        self.nodes.update(members)

    def sync_fails(self, name):
        """While this file is there, the node's disk fails to sync."""
        return self.directory / f"{name}.sync-fails"

    def clients(self):
        return [f"{self.nodes[c].address}:7700" for c in self.layout.coordinators]

    def start(self):
        for node in self.nodes.values():
            node.start()

    def await_healthy(self, seconds=HEALTHY_SECONDS):
        """Every node ready and up for every coordinator, every shard of the collection reachable with all its copies in sync,
        none being split, and an exact search and reads by id that need them all answered. Returns how long that took."""
        begin = time.monotonic()
        for node in self.nodes.values():
            node.await_ready()
        for address in self.clients():
            with Client(address) as client:
                self._await_healthy_for(client, seconds)
        return time.monotonic() - begin

    def _await_healthy_for(self, client, seconds):
        missing = None

        def healthy():
            nonlocal missing
            ended = self.ended_by_themselves()
            if ended:
                raise AssertionError("\n".join(f"{n.name} ended with {n.process.returncode}\n{n.log_tail()}" for n in ended))
            missing = self._not_healthy(client)
            return missing is None
        try:
            until(healthy, "healthy", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {missing}") from error

    def _not_healthy(self, client):
        """What is missing, in words; None if nothing is."""
        try:
            up = client.messages.NodeState.Value("NODE_STATE_UP")
            there = {n.name for n in client.call("Cluster", "Status", timeout=5).nodes if n.state == up}
            if there != set(self.layout.shards):
                return f"nodes up are {sorted(there)}"
            for collection in client.call("Collections", "List", timeout=5).collections:
                gone = [s.shard for s in collection.shards if not s.reachable]
                if gone:
                    return f"shards {gone} of {collection.spec.name} cannot be reached"
                short = [s.shard for s in collection.shards
                         if sum(m.in_sync for m in s.members) < collection.spec.copies or any(m.restoring for m in s.members)]
                if short:
                    return f"shards {short} of {collection.spec.name} have fewer copies in sync than {collection.spec.copies}"
                splitting = [s.shard for s in collection.shards if s.splitting_into or s.foreign_points]
                if splitting:
                    return f"shards {splitting} of {collection.spec.name} are being split"
                client.search(collection.spec.name, [0.0] * collection.spec.dim, k=1, exact=True, timeout=5)
                client.call("Points", "Count", collection=collection.spec.name, timeout=5)
                # Of every shard's primary under its lease: after a restart it has none before a coordinator leads.
                client.get(collection.spec.name, range(64), timeout=5)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return None

    def split(self, which, shards_max):
        """Asks the first coordinator that answers to split a shard, `which` of the way through them; what came of it, in words.
        It may be refused: one is split at a time, and none while the collection is trained."""
        refused = ""
        for address in self.clients():
            try:
                with Client(address) as client:
                    count = len(client.call("Collections", "Get", name=COLLECTION, timeout=3).shards)
                    if count >= shards_max:
                        return f"{count} shards are enough"
                    shard = int(which * count)
                    made = client.call("Cluster", "Split", collection=COLLECTION, shard=shard, timeout=3).new_shard
                    return f"the upper half of {shard} becomes {made}"
            except grpc.RpcError as error:
                if error.code().name not in SPLIT_REFUSED:
                    raise
                refused = f"refused, {error.details()}"
        return refused

    def ended_by_themselves(self):
        """Nodes that should run and do not."""
        return [node for node in self.nodes.values() if node.wanted and not node.runs()]

    def kill_everything(self):
        for node in self.nodes.values():
            if node.runs():
                node.kill()

    def stop(self):
        """SIGTERM to all; the names of those that did not end with 0."""
        shards_first = [*self.layout.shards, *self.layout.coordinators]
        bad = [f"{name} ended with {code}" for name in shards_first if (code := self.nodes[name].stop()) != 0]
        for name in self.layout.etcd:
            self.nodes[name].stop()
        return bad
