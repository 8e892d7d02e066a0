"""Which fault when, on what, for how long: drawn from a seed before anything runs, so that a seed says it all."""

import collections
import dataclasses
import random

from faults import ALL

Event = collections.namedtuple("Event", "at seconds fault on seed")
FIRST_AT = 3.0


@dataclasses.dataclass
class Layout:
    """What a cluster is made of."""
    coordinators: list
    shards: list
    etcd: list
    copies: int = 1
    quantized: int = 0
    catalog_arguments: tuple = ()

    @property
    def all(self):
        return [*self.coordinators, *self.shards, *self.etcd]

    def talk(self, a, b):
        """Whether two nodes have anything to say to each other: shard daemons only with several copies, and never to etcd."""
        kinds = {a[0], b[0]}
        return kinds not in ({"n", "e"}, {"c"}) and (kinds != {"n"} or self.copies + self.quantized > 1)


def layout(coordinators, shards, etcd, copies, quantized, catalog_arguments):
    def names(letter, count):
        return [f"{letter}{i}" for i in range(count)]
    return Layout(names("c", coordinators), names("n", shards), names("e", etcd), copies, quantized, catalog_arguments)


def busy(on):
    return on.split("|")[0]


def draw(seed, seconds, names, of):
    """Events of a run, by time. Each fault comes once before any comes twice; every third or so begins before the last ends."""
    dice, events, bag, at = random.Random(seed), [], [], FIRST_AT
    while names:
        if not bag:
            bag = list(names)
            dice.shuffle(bag)
        fault = ALL[bag.pop()]
        lasts = 0.0 if fault.at_once else round(dice.choice([0.5, 2, 4, 8]) * dice.uniform(0.8, 1.2), 2)
        on = dice.choice(fault.targets(of))
        there = [e for e in events if e.at + e.seconds > at]
        if fault.alone or any(ALL[e.fault].alone or busy(e.on) == busy(on) for e in there):
            at = max([at, *(e.at + e.seconds + 0.5 for e in there)])
        if at + lasts > seconds:
            break
        events.append(Event(round(at, 2), lasts, fault.name, on, dice.randrange(1 << 32)))
        at += dice.uniform(0.3, 0.9) * lasts if dice.random() < 0.35 and not fault.alone else lasts + dice.uniform(1, 5)
    return events


def told(event):
    return f"{event.at:7.2f} s  {event.fault:16s}{event.on:8s} for {event.seconds:.2f} s"
