#!/usr/bin/env python3
"""A slow link: holds packets that the kernel hands to a queue (iptables -j NFQUEUE) and lets them go later, in order.

    slow_link.py QUEUE DELAY_MS JITTER_MS LOSS        LOSS: share of packets dropped, 0 to 1

Connections that are there already are slowed, too, and nothing knows of it: unlike with a proxy, addresses stay what they are.
Does what `tc netem` does, which not every kernel has. Speaks nfnetlink itself, about what libnetfilter_queue's example does
(linux/netfilter/nfnetlink_queue.h); packets themselves stay in the kernel. Prints "ready" and works until it is killed; rules
that use the queue say --queue-bypass, so that packets pass when it is gone.
"""

import collections
import random
import select
import socket
import struct
import sys
import time

NETLINK_NETFILTER, SOL_NETLINK, NETLINK_NO_ENOBUFS = 12, 270, 5
PACKET, VERDICT, CONFIG = (3 << 8) | 0, (3 << 8) | 1, (3 << 8) | 2
REQUEST, ACK, ERROR = 1, 4, 2
CFG_CMD, CFG_PARAMS, CFG_MAXLEN, VERDICT_HEADER, PACKET_HEADER = 1, 2, 3, 2, 1
BIND, COPY_META = 1, 1
DROP, ACCEPT = 0, 1
PACKETS_MAX = 65536


def message(kind, flags, queue, attribute, data):
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(queue)) + struct.pack("=HH", 4 + len(data), attribute) + data
    body += b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 0, 0) + body


def configure(link, queue, attribute, data):
    link.send(message(CONFIG, ACK, queue, attribute, data))
    kind, error = struct.unpack_from("=4xH10xi", link.recv(65536))
    if kind != ERROR or error:
        raise OSError(-error, f"queue {queue} cannot be had")


def packet_ids(data):
    """Ids of the packets that a datagram of the kernel speaks of."""
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        attribute = at + 20
        while kind == PACKET and attribute + 4 <= at + size:
            length, name = struct.unpack_from("=HH", data, attribute)
            if name & 0x3FFF == PACKET_HEADER:
                yield struct.unpack_from(">I", data, attribute + 4)[0]
            attribute += max(4, (length + 3) & ~3)
        at += max(16, (size + 3) & ~3)


def main():
    queue, delay_s, jitter_s, loss = int(sys.argv[1]), float(sys.argv[2]) / 1e3, float(sys.argv[3]) / 1e3, float(sys.argv[4])
    dice = random.Random(queue)
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    link.bind((0, 0))
    link.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
    configure(link, queue, CFG_CMD, struct.pack(">BxH", BIND, socket.AF_INET))
    configure(link, queue, CFG_PARAMS, struct.pack(">IB", 0, COPY_META))
    configure(link, queue, CFG_MAXLEN, struct.pack(">I", PACKETS_MAX))
    print("ready", flush=True)
    held, latest = collections.deque(), 0.0
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([link], [], [], wait)[0]:
            for packet in packet_ids(link.recv(1 << 20)):
                if dice.random() < loss:
                    link.send(message(VERDICT, 0, queue, VERDICT_HEADER, struct.pack(">II", DROP, packet)))
                    continue
                # In order: TCP would take it for loss.
                latest = max(latest, time.monotonic() + delay_s + dice.random() * jitter_s)
                held.append((latest, packet))
        while held and held[0][0] <= time.monotonic():
            link.send(message(VERDICT, 0, queue, VERDICT_HEADER, struct.pack(">II", ACCEPT, held.popleft()[1])))


if __name__ == "__main__":
    main()
