"""Clients that write, read and search while faults come and go, and record what they asked and what they were told."""

import json
import random
import threading

import grpc
import numpy

from vectors import DIM, query_of, vector_of
from world import COLLECTION, Client

CALL_SECONDS = 3.0
PAUSE_SECONDS = 0.004
BACK_OFF_SECONDS = 0.2  # after an error: those of a dead node come at once, and leave points of which little is known
UNKNOWN_MAX = 3
BATCH = 12
K = 10
# A call for one point that ends so has had no effect. Any other error, and any of a call for several points, leaves it unknown.
REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "UNIMPLEMENTED"}


class Keys:
    """The points that clients work on: few, so that they meet. A point with several unknown writes says little any more; another
    takes its place, and somebody deletes it. Also gives out values. Any thread."""

    def __init__(self, slots):
        self.lock, self.slots, self.next_key, self.next_value = threading.Lock(), list(range(1, slots + 1)), slots + 1, 0
        self.unknown, self.retired = {}, []

    def draw(self, dice, count):
        with self.lock:
            return dice.sample(self.slots, count)

    def values(self, count):
        with self.lock:
            self.next_value += count
            return range(self.next_value - count, self.next_value)

    def was_unknown(self, keys):
        with self.lock:
            for key in keys:
                self.unknown[key] = self.unknown.get(key, 0) + 1
                if self.unknown[key] >= UNKNOWN_MAX and key in self.slots:
                    self.slots[self.slots.index(key)] = self.next_key
                    self.next_key += 1
                    self.retired.append(key)

    def take_retired(self):
        """One to delete, or None."""
        with self.lock:
            return self.retired.pop() if self.retired else None

    def give_back(self, key):
        with self.lock:
            self.retired.append(key)

    def ever(self):
        with self.lock:
            return range(1, self.next_key)


class Asker:
    """Makes calls and records them. Goes to the next coordinator when one does not answer."""

    def __init__(self, name, addresses, recorder, keys, final=False):
        self.name, self.addresses, self.recorder, self.keys, self.final = name, addresses, recorder, keys, final
        self.at, self.client = 0, None

    def __enter__(self):
        self.client = Client(self.addresses[self.at])
        return self

    def __exit__(self, *failure):
        self.client.channel.close()

    def ask(self, lines, invoke, fill=None):
        """Calls invoke(client) and records the lines that say what was asked, with how it went; fill(lines, reply) adds what came
        back. Returns the reply, or None after an error."""
        begin, reply, outcome = self.recorder.now(), None, {"status": "ok"}
        try:
            reply = invoke(self.client)
        except grpc.RpcError as error:
            code = error.code().name
            without_effect = lines[0]["op"] in ("get", "search") or (len(lines) == 1 and code in REFUSED)
            outcome = {"status": "failed" if without_effect else "unknown", "code": code, "text": (error.details() or "")[:300]}
        end = self.recorder.now()
        for line in lines:
            line.update(outcome, client=self.name, call=begin, **{"return": end}, **({"final": True} if self.final else {}))
        if reply is not None and fill:
            fill(lines, reply)
        self.recorder.write(*lines)
        if outcome["status"] == "unknown":
            self.keys.was_unknown([line["key"] for line in lines])
        if reply is None and len(self.addresses) > 1:
            self.client.channel.close()
            self.at = (self.at + 1) % len(self.addresses)
            self.client = Client(self.addresses[self.at])
        return reply

    def upsert(self, keys):
        values = self.keys.values(len(keys))
        lines = [{"op": "upsert", "key": key, "value": value} for key, value in zip(keys, values)]
        return self.ask(lines, lambda client: client.call(
            "Points", "Upsert", collection=COLLECTION, timeout=CALL_SECONDS,
            points=[client.point(k, vector_of(v), json.dumps({"v": v})) for k, v in zip(keys, values)]))

    def delete(self, key):
        def fill(lines, reply):
            lines[0]["result"] = bool(reply.deleted)
        return self.ask([{"op": "delete", "key": key}], lambda client: client.call(
            "Points", "Delete", collection=COLLECTION, ids=[client.messages.PointId(num=key)], timeout=CALL_SECONDS), fill)

    def get(self, keys):
        def fill(lines, reply):
            found = {point.id.num: value_read(point) for point in reply.points}
            for line in lines:
                line["result"] = found.get(line["key"])
        return self.ask([{"op": "get", "key": key} for key in keys],
                        lambda client: client.get(COLLECTION, keys, timeout=CALL_SECONDS), fill)

    def search(self, query, k=K, read=True):
        """read: also ask for payloads and vectors, which are read after the search."""
        def fill(lines, reply):
            found = [[value_read(hit) if hit.vector else None] if read else [] for hit in reply.hits]
            lines[0]["hits"] = [(hit.id.num, hit.distance, *value) for hit, value in zip(reply.hits, found)]
        return self.ask([{"op": "search", "query": query, "k": k}], lambda client: client.search(
            COLLECTION, query_of(query), k=k, exact=True, with_payload=read, with_vector=read, timeout=CALL_SECONDS), fill)


def value_read(point):
    """The value that a point read back has; a negative one if its payload and its vector are not of one value."""
    value = json.loads(point.payload)["v"]
    return value if numpy.array_equal(numpy.array(point.vector, numpy.float32), vector_of(value)) else -1 - value


class Worker(threading.Thread):
    """Asks for ever, as its dice say. `doing` is a table of (weight, what to do with an asker and the dice)."""

    def __init__(self, name, asker, dice, doing):
        super().__init__(name=name, daemon=True)
        self.asker, self.dice, self.doing = asker, dice, doing
        self.stopping, self.trouble = threading.Event(), None

    def run(self):
        try:
            with self.asker:
                reply = True
                while not self.stopping.wait(PAUSE_SECONDS if reply is not None else BACK_OFF_SECONDS):
                    what, = self.dice.choices([what for _, what in self.doing], [weight for weight, _ in self.doing])
                    reply = what(self.asker, self.dice)
        except Exception as error:  # noqa: BLE001 - reported by the run, which joins every worker
            self.trouble = error


def write_one(asker, dice):
    return asker.upsert(asker.keys.draw(dice, 1))


def write_many(asker, dice):
    return asker.upsert(asker.keys.draw(dice, BATCH))


def delete_one(asker, dice):
    retired = asker.keys.take_retired()
    reply = asker.delete(retired if retired is not None else asker.keys.draw(dice, 1)[0])
    if reply is None and retired is not None:
        asker.keys.give_back(retired)
    return reply


def read_some(asker, dice):
    return asker.get(asker.keys.draw(dice, dice.choice([1, 1, 1, 8])))


def search_one(asker, dice):
    return asker.search(dice.randrange(1 << 30), read=dice.random() < 0.3)


WRITER = [(40, write_one), (15, write_many), (15, delete_one), (30, read_some)]
READER = [(1, read_some)]
SEARCHER = [(1, search_one)]


def workers(addresses, recorder, keys, seed, writers, readers, searchers):
    made = []
    for letter, count, doing in [("w", writers, WRITER), ("r", readers, READER), ("s", searchers, SEARCHER)]:
        for i in range(count):
            asker = Asker(f"{letter}{i}", addresses[i % len(addresses):] + addresses[:i % len(addresses)], recorder, keys)
            made.append(Worker(asker.name, asker, random.Random(f"{seed}{asker.name}"), doing))
    return made


def read_all(addresses, recorder, keys):
    """Every point there ever was, and some searches, as a last client reads them. Returns how many points there are."""
    ever, there = list(keys.ever()), 0
    with Asker("final", addresses, recorder, keys, final=True) as asker:
        for start in range(0, len(ever), 100):
            reply = asker.get(ever[start:start + 100])
            if reply is None:
                raise AssertionError("the last read failed, after the cluster was healthy; see the history's last lines")
            there += len(reply.points)
        for query in range(20):
            asker.search(query)
        asker.search(20, k=10000)
        counted = asker.client.call("Points", "Count", collection=COLLECTION, timeout=CALL_SECONDS).points
    if counted != there:
        raise AssertionError(f"the cluster counts {counted} points; {there} of all that were ever written are there")
    return there
