"""Where the processes of a run live: each in a network namespace of its own behind one bridge, or all on loopback.

A run owns what has its process id in the name: namespaces, and the directory that mounts are under. What a killed run left is
recognised by an id that no run has any more, and removed by the next. Nothing is in the machine's own network: the bridge is in a
namespace, too ("hub"), which the test's threads enter.
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

PREFIX = "gyre-chaos-"
NAMESPACES = pathlib.Path("/run/netns")
CLONE_NEWNET = 0x40000000
DIES_WITH_ME = ["setpriv", "--pdeathsig", "KILL"]  # with the thread that starts it: the run's main thread


class Unsupported(Exception):
    """What this machine or this user cannot do; the sentence says what is missing."""


def command(*words):
    """Runs it; a failure is an error with what it said."""
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def run_lives(pid):
    try:
        return b"chaos" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def owner_of(name):
    found = re.match(re.escape(PREFIX) + r"(\d+)-", name)
    return int(found[1]) if found else None


def is_left_over(name):
    return owner_of(name) is not None and not run_lives(owner_of(name))


def mounts_under(directory):
    """Innermost first."""
    points = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return sorted((p for p in points if p.startswith(f"{directory}/")), reverse=True)


def unmount_under(directory):
    for point in mounts_under(directory):
        command("umount", "--lazy", point)


def remove_namespace(name):
    """With the processes in it, each by its id."""
    for pid in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
        try:
            if int(pid) != os.getpid():
                os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended by itself meanwhile
    command("ip", "netns", "delete", name)


def clean_up_after_killed_runs():
    if NAMESPACES.is_dir():
        for name in sorted(n.name for n in NAMESPACES.iterdir()):
            if is_left_over(name):
                remove_namespace(name)
    for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if is_left_over(directory.name) and mounts_under(directory):
            unmount_under(directory)
            shutil.rmtree(directory)


class Namespaces:
    """One network namespace per process, veth pairs to a bridge in the hub."""

    can_cut = True

    def __init__(self):
        self.prefix = f"{PREFIX}{os.getpid()}-"
        self.made, self.queues = [], 0
        missing = [tool for tool in ("ip", "nsenter", "iptables") if not shutil.which(tool)]
        if missing:
            raise Unsupported(f"no {', no '.join(missing)} here: install iproute2, util-linux, iptables")
        try:
            self._make("hub")
            command("ip", "-n", self.prefix + "hub", "link", "add", "bridge", "type", "bridge")
            command("ip", "-n", self.prefix + "hub", "addr", "add", "10.99.0.254/24", "dev", "bridge")
            command("ip", "-n", self.prefix + "hub", "link", "set", "bridge", "up")
            self._enter_hub()
        except (RuntimeError, OSError) as error:
            self.close()
            raise Unsupported(f"no network namespaces: {error}") from error

    def _make(self, name):
        command("ip", "netns", "add", self.prefix + name)
        self.made.append(name)
        command("ip", "-n", self.prefix + name, "link", "set", "lo", "up")

    def _enter_hub(self):
        """This thread, and those that it starts later."""
        file = os.open(NAMESPACES / f"{self.prefix}hub", os.O_RDONLY)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(file, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(file)

    def add(self, name):
        """Makes a home for a process; returns its address."""
        self._make(name)
        address = f"10.99.0.{len(self.made)}"
        command("ip", "-n", self.prefix + "hub", "link", "add", f"v-{name}", "type", "veth",
                "peer", "name", "eth0", "netns", self.prefix + name)
        command("ip", "-n", self.prefix + "hub", "link", "set", f"v-{name}", "master", "bridge", "up")
        command("ip", "-n", self.prefix + name, "addr", "add", f"{address}/24", "dev", "eth0")
        command("ip", "-n", self.prefix + name, "link", "set", "eth0", "up")
        return address

    def inside(self, name):
        """The words before a command that is to run in the home of a process; they exec it, so that its id is the one started."""
        return ["nsenter", f"--net={NAMESPACES / (self.prefix + name)}", *DIES_WITH_ME]

    def filter(self, change, name, source, *target):
        """Adds (-A) or removes (-D) a rule for what comes to `name` from the address `source` (None: from anywhere else)."""
        where = ["-s", source] if source else ["!", "-i", "lo"]
        command(*self.inside(name), "iptables", "--wait", change, "INPUT", *where, "-j", *target)

    def new_queue(self):
        self.queues += 1
        return self.queues

    def close(self):
        for name in reversed(self.made):
            remove_namespace(self.prefix + name)
        self.made = []


class Loopback:
    """All on 127.0.0.0/8, each with an address of its own: needs no privilege, but nothing can be cut or slowed."""

    can_cut = False

    def __init__(self):
        self.count = 0

    def add(self, name):
        self.count += 1
        return f"127.{64 + (os.getpid() >> 8) % 64}.{os.getpid() % 256}.{self.count}"

    def inside(self, name):
        return DIES_WITH_ME

    def close(self):
        pass
