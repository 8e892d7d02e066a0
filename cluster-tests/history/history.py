"""A history: what clients asked of a cluster and what they were told, one JSON object a line.

    {"client": "w1", "op": "upsert", "key": 7, "value": 41, "call": 1000, "return": 2000, "status": "ok"}
    {"client": "w1", "op": "delete", "key": 7, "result": true, ...}           result: whether it was there, if that was told
    {"client": "r0", "op": "get", "key": 7, "result": 41, ...}                result: the value, or null for a missing point
    {"client": "s0", "op": "search", "query": 3, "k": 10, "hits": [[7, 0.25, 41], ...], ...}   key, distance, value
    {"fault": "kill", "on": "n1", "call": 1000, "return": 9000, "allows": [], "text": "..."}      from the injection to the heal

Times are nanoseconds of one monotonic clock, from the start of the faults' schedule. status is "ok", "unknown" (it may take
effect at any later time or never) or "failed" (it never did and never will); "code" then holds the gRPC status and "text" what
it said. A "value" is a number that no other upsert of the history has; the vector of a value follows from it alone
(vectors.py), so that a history stays small and what is read can be held against what was written bit for bit. An operation on
several points is one line for each, with the same times: only single points promise to be linearizable. The value of a hit is
that of the payload and vector which came with it, null if they were gone, and left out when they were not asked for: they are
read after the search, and may be newer than its distance. Lines marked "final" were read after the last fault was healed.
"""

import dataclasses
import json
import threading
import time

FOREVER = float("inf")


@dataclasses.dataclass(slots=True)
class Operation:
    client: str
    op: str
    call: float
    ret: float  # when its effect, if any, is over at the latest: FOREVER while unknown
    told: float  # when the client was told
    status: str
    key: int | None = None
    value: int | None = None
    result: object = None
    query: int | None = None
    k: int = 0
    hits: list = dataclasses.field(default_factory=list)
    code: str = ""
    text: str = ""
    final: bool = False

    def told_as(self):
        """The operation in words, as a report shows it."""
        what = {"upsert": f"upsert {self.key} = {self.value}", "delete": f"delete {self.key}", "get": f"get {self.key}",
                "search": f"search {self.query}"}[self.op]
        answers = {"get": f"got {self.result}", "delete": f"was there: {self.result}"}
        said = answers.get(self.op, "ok") if self.status == "ok" else self.status
        return f"{self.client} {what} -> {said} [{self.call / 1e9:.4f} .. {self.told / 1e9:.4f}]{' final' if self.final else ''}"


@dataclasses.dataclass(slots=True)
class Fault:
    name: str
    on: str
    call: float
    ret: float
    allows: tuple = ()
    text: str = ""


class Recorder:
    """Writes a history while it happens. Any thread may call any method."""

    def __init__(self, path):
        self.file = open(path, "w", encoding="ascii")
        self.lock = threading.Lock()
        self.begin()

    def begin(self):
        """Time is counted from here; before anything is recorded."""
        self.origin = time.monotonic_ns()

    def now(self):
        return time.monotonic_ns() - self.origin

    def write(self, *lines):
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        with self.lock:
            self.file.write(text)

    def close(self):
        with self.lock:
            self.file.close()


def parse(lines):
    """Operations and faults of a history, each in the order of their calls."""
    operations, faults = [], []
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line) if isinstance(line, str) else dict(line)
            if "fault" in fields:
                faults.append(Fault(fields["fault"], fields["on"], fields["call"], fields["return"],
                                    tuple(fields.get("allows", ())), fields.get("text", "")))
                continue
            told = fields.pop("return")
            if fields["status"] not in ("ok", "unknown", "failed") or fields["op"] not in ("upsert", "delete", "get", "search"):
                raise ValueError("status or op is none of a history")
            if told < fields["call"]:
                raise ValueError("it returns before it is called")
            operations.append(Operation(told=told, ret=FOREVER if fields["status"] == "unknown" else told, **fields))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of the history: {error}: {str(line)[:200]}") from error
    operations.sort(key=lambda operation: (operation.call, operation.told))
    faults.sort(key=lambda fault: fault.call)
    return operations, faults


def load(path):
    with open(path, encoding="ascii") as file:
        return parse(file)
