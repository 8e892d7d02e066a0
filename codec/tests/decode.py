#!/usr/bin/env python3
"""A second reading of FORMAT.md, written from that page: checks every golden file in the given folder.

Rotation, codebook, rows and blocks are derived again from seed, mean and vectors with numpy alone, and must be equal byte for
byte; the decoded vector must lie where the row's own factors say.
"""
import hashlib
import math
import pathlib
import struct
import sys

import numpy as np

f32 = np.float32


def chacha20_block(key, counter, nonce):
    """RFC 8439, section 2.3."""
    initial = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    x = list(initial)

    def quarter(a, b, c, d):
        for into, other, turned, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[into] = (x[into] + x[other]) & 0xFFFFFFFF
            value = x[turned] ^ x[into]
            x[turned] = (value << by | value >> (32 - by)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for diagonal in range(4):
            quarter(diagonal, 4 + (diagonal + 1) % 4, 8 + (diagonal + 2) % 4, 12 + (diagonal + 3) % 4)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, initial)))


class Keystream:
    def __init__(self, key, nonce):
        self.key, self.nonce, self.counter, self.waiting = key, nonce, 0, b""

    def take(self, count):
        while len(self.waiting) < count:
            self.waiting += chacha20_block(self.key, self.counter, self.nonce)
            self.counter += 1
        taken, self.waiting = self.waiting[:count], self.waiting[count:]
        return taken


class Rotation:
    def __init__(self, seed, dim, matrix=None):
        self.dim, self.rounds, self.matrix = dim, [], matrix
        self.parts = [1 << m for m in range(12, -1, -1) if dim >> m & 1]
        for k in range(3):
            stream = Keystream(seed, b"ROT1" + struct.pack("<II", dim, k))
            bits = stream.take((dim + 7) // 8)
            signs = np.array([-1 if bits[i // 8] >> i % 8 & 1 else 1 for i in range(dim)], f32)
            order = list(range(dim))
            for i in range(dim - 1, 0, -1):
                x = 1 << 32
                while x >= (1 << 32) - (1 << 32) % (i + 1):
                    (x,) = struct.unpack("<I", stream.take(4))
                j = x % (i + 1)
                order[i], order[j] = order[j], order[i]
            self.rounds.append((signs, np.array(order)))

    def hadamard(self, x):
        first = 0
        for t in self.parts:
            part = x[first:first + t]
            h = 1
            while h < t:
                pairs = part.reshape(-1, 2, h)
                a, b = pairs[:, 0].copy(), pairs[:, 1].copy()
                pairs[:, 0], pairs[:, 1] = a + b, a - b
                h *= 2
            m = t.bit_length() - 1
            scale = f32(2.0 ** -(m // 2))
            if m % 2:
                scale *= np.array([0x3F3504F3], "<u4").view("<f4")[0]
            part *= scale
            first += t

    def apply(self, x):
        x = x.astype(f32)
        for signs, order in self.rounds:
            x = x * signs
            self.hadamard(x)
            x = x[order]
        return x if self.matrix is None else np.array([dot(row, x) for row in self.matrix], f32)

    def invert(self, x):
        x = x.astype(f32) if self.matrix is None else (self.matrix.T.astype(np.float64) @ x).astype(f32)
        for signs, order in reversed(self.rounds):
            back = np.empty_like(x)
            back[order] = x
            self.hadamard(back)
            x = back * signs
        return x


def dot(a, b):
    """The product of f32 in the order of learned rotations."""
    lane = np.zeros(16, f32)
    for j, product in enumerate(a * b):
        lane[j % 16] += product
    for width in (8, 4, 2, 1):
        lane = lane[:width] + lane[width:2 * width]
    return lane[0]


def lanes(values):
    """The sum of f64 in the fixed order."""
    lane = [0.0] * 8
    for i, value in enumerate(values):
        lane[i % 8] += float(value)
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]))


def products(a, b):
    return lanes(a.astype(np.float64) * b.astype(np.float64))


def bf16_up(value):
    """The least bf16 that is not below value >= 0, by trying."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    half = max((bits >> 16) - 1, 0)
    while bf16(half) < value:
        half += 1
    return half


def bf16(half):
    return struct.unpack("<f", struct.pack("<I", half << 16))[0]


def checksum(data):
    return hashlib.blake2b(data, digest_size=32).digest()[:8]


class Codebook:
    def __init__(self, data):
        magic, form, self.metric, self.dim, self.version, seed = struct.unpack_from("<4sHHII32s", data)
        matrix, matrix_at = None, 48 + 4 * self.dim
        if form == 2:
            assert struct.unpack_from("<I", data, matrix_at) == (1,), "kind of rotation"
            matrix = np.frombuffer(data, "<f4", self.dim ** 2, matrix_at + 4).reshape(self.dim, self.dim)
            off = np.abs(matrix.astype(np.float64) @ matrix.T - np.eye(self.dim)).sum(axis=1)
            assert off.max() <= 4e-6, "not a rotation"
        count, self.lists = {1: 0, 2: 4 + 4 * self.dim ** 2}.get(form, 0), None
        if form == 3:
            (lists,) = struct.unpack_from("<I", data, matrix_at)
            assert 1 <= lists <= 1 << 24, "lists"
            count = 4 + 4 * lists * self.dim
            self.lists = np.frombuffer(data, "<f4", lists * self.dim, matrix_at + 4).reshape(lists, self.dim)
            assert np.isfinite(self.lists).all(), "centroids"
        assert magic == b"GYCB" and form in (1, 2, 3)
        assert len(data) == matrix_at + count + 8
        assert checksum(data[:-8]) == data[-8:], "checksum"
        self.fingerprint = checksum(data[:12] + bytes(4) + data[16:-8])
        self.seed = seed
        self.mean = np.frombuffer(data, "<f4", self.dim, 48)
        self.rotation = Rotation(seed, self.dim, matrix)

    def normalise(self, x):
        if self.metric != 3:
            return x
        return (x.astype(np.float64) / math.sqrt(products(x, x))).astype(f32)

    def encode(self, x):
        r = self.normalise(x) - self.mean
        z = self.rotation.apply(r)
        code = np.packbits(z >= 0, bitorder="little").tobytes()
        r2, total = products(r, r), lanes(np.abs(z.astype(np.float64)))
        s = e = 0.0
        if r2 > 0 and total > 0:
            s = r2 / total
            tan2 = self.dim * r2 / (total * total) - 1
            if self.dim > 1 and tan2 > 0:
                e = math.sqrt(r2 * tan2 / (self.dim - 1))
        add = r2 if self.metric == 1 else -products(r, self.mean)
        return code + struct.pack("<fffH", s, add, r2, bf16_up(e))

    def decode(self, row):
        code_bytes = (self.dim + 7) // 8
        s, _, r2, _ = struct.unpack_from("<fffH", row, code_bytes)
        bits = np.unpackbits(np.frombuffer(row, np.uint8, code_bytes), bitorder="little")[:self.dim]
        step = r2 / (s * self.dim) if s > 0 else 0.0
        return self.mean + self.rotation.invert(np.where(bits, step, -step).astype(f32))


def block_of(dim, rows):
    n = (dim + 7) // 8
    code = np.zeros((64 * ((n + 1) // 2) // 32, 32), np.uint8)
    s, add, r2 = np.zeros(32, "<f4"), np.full(32, np.inf, "<f4"), np.zeros(32, "<f4")
    e = np.zeros(32, "<u2")
    for v, row in enumerate(rows):
        code[:n, v] = np.frombuffer(row, np.uint8, n)
        s[v], add[v], r2[v], e[v] = struct.unpack_from("<fffH", row, n)
    return code.tobytes() + s.tobytes() + add.tobytes() + e.tobytes() + r2.tobytes()


def check(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    fields = {name: bytes.fromhex(value) for name, value in lines}
    repeated = {name: [bytes.fromhex(v) for n, v in lines if n == name] for name in ("vector", "rotated", "row")}
    codebook = Codebook(fields["codebook"])
    assert struct.pack("<I", codebook.metric) == fields["metric"] and struct.pack("<I", codebook.dim) == fields["dim"]
    assert struct.pack("<I", codebook.version) == fields["version"]
    assert codebook.seed == fields["seed"] and codebook.mean.tobytes() == fields["mean"]
    assert codebook.fingerprint == fields["fingerprint"], "fingerprint"
    for vector, rotated, row in zip(repeated["vector"], repeated["rotated"], repeated["row"]):
        x = np.frombuffer(vector, "<f4")
        normal = codebook.normalise(x)
        assert codebook.rotation.apply(normal).tobytes() == rotated, "rotated"
        assert codebook.encode(x) == row, f"row {row.hex()} is {codebook.encode(x).hex()}"
        s, _, r2, _ = struct.unpack_from("<fffH", row, (codebook.dim + 7) // 8)
        error = np.sum((codebook.decode(row).astype(np.float64) - normal) ** 2)
        assert abs(error / r2 - (1 - r2 / (s * s * codebook.dim))) < 1e-5, "reconstruction error"
    assert block_of(codebook.dim, repeated["row"]) == fields["block"], "block"
    return len(repeated["row"])


def main():
    paths = sorted(pathlib.Path(sys.argv[1]).glob("rabitq1-*.txt"))
    if not paths:
        sys.exit(f"no golden files in {sys.argv[1]}")
    for path in paths:
        print(f"{path.name}: {check(path)} rows, equal")


if __name__ == "__main__":
    main()
