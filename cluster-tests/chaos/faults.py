"""What can go wrong: each fault is a class that says on what it works, breaks it, mends it, and which errors clients may see.

A fault gets its choices (how slow, which byte) from the dice it is given, so that a seed gives the same faults again.
"""

import os
import pathlib
import subprocess
import sys

from network import command

ALWAYS = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


class Fault:
    name = ""  # as --faults and the timeline say it
    needs = ()  # of "cut" (namespaces), "mount", "shim", "copies" (two full copies at least)
    allows = ALWAYS  # gRPC statuses that clients may see from it
    alone = False  # whether no other fault may be there meanwhile
    at_once = False  # whether it is over when it is injected
    may_end_it = False  # whether the daemon may give up over it; it is started again when healed

    def __init__(self, world, on, dice):
        self.world, self.on, self.dice = world, on, dice
        self.node = world.nodes.get(on)

    @classmethod
    def targets(cls, layout):
        """Names of what it may hit; the first word is the node that is busy with it meanwhile."""
        return layout.all

    def text(self):
        """What it does, with its choices."""
        return self.__doc__.split("\n")[0]

    def inject(self):
        raise NotImplementedError

    def heal(self):
        raise NotImplementedError


class Kill(Fault):
    """kill -9; started again when healed"""
    name = "kill"

    def inject(self):
        self.node.kill()

    def heal(self):
        self.node.start()


class Freeze(Fault):
    """SIGSTOP; SIGCONT when healed"""
    name = "freeze"

    def inject(self):
        self.node.freeze()

    def heal(self):
        self.node.thaw()


class Cut(Fault):
    """nothing passes between two nodes, in either direction"""
    name = "cut"
    needs = ("cut",)
    both = True

    @classmethod
    def targets(cls, layout):
        pairs = [f"{a}|{b}" for a in layout.all for b in layout.all if a != b and layout.talk(a, b)]
        return pairs + [f"{a}|*" for a in layout.all]

    def rules(self):
        """(at whom, from which address: None for anybody)"""
        a, b = self.on.split("|")
        here = self.world.nodes[a]
        if b != "*":
            there = self.world.nodes[b]
            return [(a, there.address)] + ([(b, here.address)] if self.both else [])
        others = [n for n in self.world.nodes.values() if n is not here]
        return [(a, n.address) for n in others] + ([(n.name, here.address) for n in others] if self.both else [])

    def inject(self):
        for at, source in self.rules():
            self.world.network.filter("-A", at, source, "DROP")

    def heal(self):
        for at, source in self.rules():
            self.world.network.filter("-D", at, source, "DROP")


class OneWayCut(Cut):
    """a|b: nothing that b sends reaches a; what a sends reaches b"""
    name = "one-way-cut"
    both = False


class SlowLink(Fault):
    """what comes to a node comes late, and some of it not at all"""
    name = "slow-link"
    needs = ("cut",)

    def __init__(self, world, on, dice):
        super().__init__(world, on, dice)
        self.delay_ms, self.jitter_ms = dice.choice([5, 30, 120, 400]), dice.choice([0, 20, 100])
        self.loss = dice.choice([0, 0, 0.01, 0.05])

    def text(self):
        return f"{super().text()}: {self.delay_ms} to {self.delay_ms + self.jitter_ms} ms, {self.loss:.0%} lost"

    def rule(self, change):
        self.world.network.filter(change, self.on, None, "NFQUEUE", "--queue-num", str(self.queue), "--queue-bypass")

    def inject(self):
        self.queue = self.world.network.new_queue()
        program = pathlib.Path(__file__).parent / "slow_link.py"
        words = [sys.executable, program, *map(str, (self.queue, self.delay_ms, self.jitter_ms, self.loss))]
        self.process = subprocess.Popen([*self.world.network.inside(self.on), *words], stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError(f"slow_link.py of {self.on} ended with {self.process.wait()}")
        self.rule("-A")

    def heal(self):
        self.rule("-D")
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class FullDisk(Fault):
    """a ballast file fills the node's disk; removed when healed, and the daemon started again if it gave up"""
    name = "full-disk"
    needs = ("mount",)
    may_end_it = True
    allows = ALWAYS + ("RESOURCE_EXHAUSTED",)

    def __init__(self, world, on, dice):
        super().__init__(world, on, dice)
        self.left = dice.choice([0, 64 << 10, 4 << 20, 32 << 20])

    @classmethod
    def targets(cls, layout):
        return layout.shards

    def text(self):
        return f"{super().text()}: {self.left >> 10} KiB left"

    def inject(self):
        disk = os.statvfs(self.node.directory)
        size = disk.f_bavail * disk.f_frsize - self.left
        if size > 0:
            with open(self.node.directory / "ballast", "wb") as ballast:
                os.posix_fallocate(ballast.fileno(), 0, size)

    def heal(self):
        (self.node.directory / "ballast").unlink(missing_ok=True)
        if not self.node.runs():
            self.node.start()


class SyncError(Fault):
    """syncs of the node fail with EIO and lose what they were for; killed when healed, and started again"""
    name = "sync-error"
    needs = ("shim",)
    may_end_it = True

    @classmethod
    def targets(cls, layout):
        return layout.shards

    def inject(self):
        self.world.sync_fails(self.on).touch()

    def heal(self):
        self.world.sync_fails(self.on).unlink()
        self.node.kill()
        self.node.start()


class BitFlip(Fault):
    """a bit of one of the node's RocksDB files is another; the replica must come back from its peers"""
    name = "bit-flip"
    needs = ("copies",)
    may_end_it = True
    alone = True  # the other copies must be whole
    allows = ALWAYS + ("DATA_LOSS",)

    def __init__(self, world, on, dice):
        super().__init__(world, on, dice)
        self.suffix, self.stopped = dice.choice([".sst", ".log"]), dice.random() < 0.5
        self.which, self.place, self.bit = dice.random(), dice.random(), dice.randrange(8)

    @classmethod
    def targets(cls, layout):
        return layout.shards

    def text(self):
        return f"{super().text()}: {self.suffix}, while the daemon {'is stopped' if self.stopped else 'runs'}"

    def inject(self):
        if self.stopped:
            self.node.kill()
        files = sorted(f for f in self.node.directory.rglob(f"*{self.suffix}") if f.stat().st_size)
        if not files:
            return
        victim = files[int(self.which * len(files))]
        with open(victim, "r+b") as file:
            at = int(self.place * victim.stat().st_size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.bit]))

    def heal(self):
        """A write-ahead log is read at start only: a running daemon meets what was done to it when it is started again. What comes
        next may damage another copy, so this one must be whole before."""
        if self.node.runs():
            self.node.kill()
        self.node.start()
        self.world.await_healthy()


class RollingRestart(Fault):
    """every node in turn: SIGTERM, exit code 0, started, ready"""
    name = "rolling-restart"
    at_once = True
    allows = ALWAYS + ("CANCELLED",)  # what a coordinator says to calls that come while it stops
    alone = True

    @classmethod
    def targets(cls, layout):
        return ["all"]

    def inject(self):
        for node in self.world.nodes.values():
            code = node.stop()
            if code != 0 and node.program != "etcd":
                raise AssertionError(f"{node.name} ended with {code} when told to stop\n{node.log_tail()}")
            node.start()
            node.await_ready()

    def heal(self):
        pass


class Split(Fault):
    """a shard of the collection is split: no fault at all, and goes on while others come"""
    name = "split"
    at_once = True
    allows = ("DEADLINE_EXCEEDED",)  # of writes to the upper half, which wait
    shards_max = 16  # enough

    def __init__(self, world, on, dice):
        super().__init__(world, on, dice)
        self.which, self.done = dice.random(), ""

    @classmethod
    def targets(cls, layout):
        return ["a shard"]

    def text(self):
        return super().text() + self.done

    def inject(self):
        self.done = f": {self.world.split(self.which, self.shards_max)}"

    def heal(self):
        pass


ALL = {fault.name: fault
       for fault in (Kill, Freeze, Cut, OneWayCut, SlowLink, FullDisk, SyncError, BitFlip, RollingRestart, Split)}


def usable(names, layout, can):
    """Those of these faults (of all, when empty) that work here, and [(name, why not)] of the others. ValueError for one unknown."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        raise ValueError(f"no fault is called {', '.join(unknown)}; there are {', '.join(ALL)}")
    can = {*can, *(["copies"] if layout.copies > 1 else [])}
    left_out = [(n, f"needs {', '.join(set(ALL[n].needs) - can)}") for n in names or ALL if not can.issuperset(ALL[n].needs)]
    return [n for n in ALL if n in (names or ALL) and can.issuperset(ALL[n].needs)], left_out


def can_mount(directory):
    """Whether this user may mount a file system there."""
    place = pathlib.Path(directory) / "mount-probe"
    place.mkdir()
    try:
        command("mount", "-t", "tmpfs", "-o", "size=1m", "gyre-chaos", place)
        command("umount", place)
        return True
    except (RuntimeError, FileNotFoundError):
        return False
    finally:
        place.rmdir()
