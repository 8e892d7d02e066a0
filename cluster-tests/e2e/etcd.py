"""Members of etcd on loopback, in a directory the test made; stopped by process id."""

import pathlib
import shutil
import socket
import subprocess
import urllib.error
import urllib.request

from cluster import until


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Etcd:
    def __init__(self, directory, members=3):
        self.directory = pathlib.Path(directory)
        self.client_ports = [free_port() for _ in range(members)]
        self.peer_ports = [free_port() for _ in range(members)]
        self.processes = [None] * members
        for i in range(members):
            self.start(i)
        until(self.healthy, "etcd has a leader")

    @staticmethod
    def here():
        return shutil.which("etcd") is not None

    @property
    def endpoints(self):
        return ",".join(f"127.0.0.1:{port}" for port in self.client_ports)

    def start(self, i):
        peer, client = f"http://127.0.0.1:{self.peer_ports[i]}", f"http://127.0.0.1:{self.client_ports[i]}"
        peers = ",".join(f"m{j}=http://127.0.0.1:{port}" for j, port in enumerate(self.peer_ports))
        with open(self.directory / f"etcd-{i}.log", "ab") as log:
            self.processes[i] = subprocess.Popen(
                ["etcd", "--name", f"m{i}", "--data-dir", self.directory / f"etcd-{i}", "--listen-peer-urls", peer,
                 "--initial-advertise-peer-urls", peer, "--listen-client-urls", client, "--advertise-client-urls", client,
                 "--initial-cluster", peers, "--logger", "zap", "--log-level", "warn", "--log-outputs", "stderr"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def healthy(self):
        """Every running member answers, which it does only while it knows a leader."""
        for port, process in zip(self.client_ports, self.processes):
            try:
                if process and urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status != 200:
                    return False
            except (urllib.error.URLError, OSError):
                return False
        return True

    def kill(self, i):
        if self.processes[i]:
            self.processes[i].kill()
            self.processes[i].wait()
            self.processes[i] = None

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for i in range(len(self.processes)):
            self.kill(i)
