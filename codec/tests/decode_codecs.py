#!/usr/bin/env python3
"""A second reading of FORMAT.md, "row" and what follows, written from that page: checks the golden file of every codec.

    decode_codecs.py <folder of golden files> <folder of the books> <folder of the trellis tables>

From codebook, header and rows alone, every code is decoded to what it stands for (zb), and factors, blocks and decoded vectors are
computed again, with numpy and the standard library: all must be equal byte for byte. Codes themselves are derived again from the
vectors, but for those of codecs that learn, whose encoders FORMAT.md leaves free.
"""
import hashlib
import math
import pathlib
import re
import struct
import sys

import numpy as np

sys.dont_write_bytecode = True  # the source folder stays as it is
from decode import Codebook, Keystream, Rotation, bf16, bf16_up, block_of, checksum, lanes, products

f32 = np.float32
FOLDERS = {}


def f32s(data):
    return np.frombuffer(data, "<f4")


def pack(bits):
    return np.packbits(np.asarray(bits, np.uint8), bitorder="little").tobytes()


def unpack(data, count):
    return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:count].astype(np.int64)


def planes(indices, bits):
    """Bits of every index, the highest first."""
    return b"".join(pack(indices >> b & 1) for b in reversed(range(bits)))


def from_planes(data, bits, dim):
    size = (dim + 7) // 8
    return sum(unpack(data[p * size:(p + 1) * size], dim) << (bits - 1 - p) for p in range(bits)) if bits else np.zeros(dim, np.int64)


def whole(values):
    """Truncated, as f32 values to whole numbers."""
    return np.trunc(values).astype(np.int64)


def xor(hashes):
    total = 0
    for h in hashes:
        total ^= struct.unpack("<Q", h)[0]
    return total


class Codec:
    """One plane of a codec: code bytes to zb, and z to code bytes. first: the sign bits, for second planes."""
    scale = "unbiased"
    book_hash = 0
    free = False  # FORMAT.md leaves the encoder free

    def __init__(self, header, codebook):
        self.dim, self.bits, self.block, self.variant = codebook.dim, header.bits, header.block, header.variant
        self.codebook, self.state = codebook, header.state

    def size(self):
        return self.bits * ((self.dim + 7) // 8)


class Signs(Codec):
    def size(self):
        return (self.dim + 7) // 8

    def decode(self, code, first=None):
        return np.where(unpack(code, self.dim), f32(1), f32(-1))

    def encode(self, z, u, first=None):
        return pack(z >= 0)


class Extended(Codec):
    steps = (None, None, .9957, .5860, .3352, .1881, .1041, .0569, .0308)

    def size(self):
        return (self.bits - 1) * ((self.dim + 7) // 8)

    def decode(self, code, first):
        top = (1 << self.bits) - 1
        value = (unpack(first, self.dim) << (self.bits - 1)) + from_planes(code, self.bits - 1, self.dim)
        return (value - top / 2).astype(f32)

    def encode(self, z, u, first):
        most = (1 << (self.bits - 1)) - 1
        a = self.fast(np.abs(z), u * (f32(1) / f32(self.steps[self.bits])), most) if self.variant == 1 else self.search(np.abs(z), most)
        return planes(np.where(unpack(first, self.dim), a, most - a), self.bits - 1)

    @staticmethod
    def fast(magnitudes, t, most):
        return whole(np.minimum(magnitudes * f32(t), f32(most)))

    def search(self, magnitudes, most):
        """All t at which a level may begin, and the floats beside them."""
        with np.errstate(divide="ignore"):
            scale = f32(32767) / magnitudes.max()
        if not np.isfinite(scale):
            return np.zeros(self.dim, np.int64)
        h = whole(magnitudes * scale + f32(.5))
        t = np.array([k / n for n in sorted(set(h[h > 0])) for k in range(1, most + 1)], f32)
        t = np.unique(np.concatenate([np.nextafter(t, f32(0)), t, np.nextafter(t, f32(np.inf)), [f32(2 ** -16), f32(most + .5)]]))
        t = t[(t >= f32(2 ** -16)) & (t <= f32(most + .5))].astype(f32)
        a = whole(np.minimum(h.astype(f32) * t[:, None], f32(most)))
        along, square = (h * (2 * a + 1)).sum(axis=1), ((2 * a + 1) ** 2).sum(axis=1)
        quality = along.astype(np.float64) ** 2 / square
        return a[min(range(len(t)), key=lambda i: (-quality[i], along[i]))]


LEVELS = (None, (0.797884583,), (0.452780038, 1.51041758), (0.24509418, 0.756005287, 1.34390926, 2.15194559),
          (0.128395036, 0.388048291, 0.656759143, 0.942340434, 1.25623119, 1.6180464, 2.06901717, 2.73258948))


class Levels(Codec):
    """eden, turboquant-mse."""
    def __init__(self, header, codebook, bits=None):
        super().__init__(header, codebook)
        self.bits = header.bits if bits is None else bits
        self.positive = np.array(LEVELS[self.bits] or (), f32)
        self.book_hash = xor([checksum(struct.pack("<B", self.bits) + self.positive.astype("<f4").tobytes())]) if self.bits else 0
        eden = header.kind == 7
        self.scale = ("shrunk" if self.variant == 2 else "unbiased") if eden else "own"
        self.unit = f32(1) if eden else f32(1 / math.sqrt(self.dim))

    def decode(self, code, first=None):
        magnitudes = self.positive * self.unit
        return np.concatenate([-magnitudes[::-1], magnitudes])[from_planes(code, self.bits, self.dim)]

    def encode(self, z, u, first=None):
        middles = (self.positive[:-1] + self.positive[1:]) * f32(.5)
        level, half = (np.abs(z * u)[:, None] > middles).sum(axis=1), len(self.positive)
        return planes(np.where(z >= 0, half + level, half - 1 - level), self.bits)


class Sketch(Codec):
    """turboquant-prod."""
    scale = "own"

    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        self.levels = Levels(header, codebook, self.bits - 1) if self.bits > 1 else None
        self.book_hash = self.levels.book_hash if self.levels else 0
        stream = Keystream(codebook.seed, b"QJL1" + struct.pack("<II", self.dim, 0))
        words = struct.unpack(f"<{self.dim ** 2}Q", stream.take(8 * self.dim ** 2))
        self.a = np.array([bin(word).count("1") - 32 for word in words]).reshape(self.dim, self.dim)
        self.factor = f32(math.sqrt(math.pi / 2) / (self.dim * 4))

    def size(self):
        return self.bits * ((self.dim + 7) // 8) + 4

    def base(self, code):
        return self.levels.decode(code[:self.levels.size()]) if self.levels else np.zeros(self.dim, f32)

    def decode(self, code, first=None):
        signs, rest = np.where(unpack(code[-4 - (self.dim + 7) // 8:-4], self.dim), 1, -1), f32s(code[-4:])[0]
        return self.base(code) + (signs @ self.a).astype(f32) * (rest * self.factor)

    def encode(self, z, u, first=None):
        code = self.levels.encode(z, u) if self.levels else b""
        rest = z * (u * f32(1 / math.sqrt(self.dim))) - self.base(code)
        scale = f32(32767) / np.abs(rest).max() if np.abs(rest).max() > 0 else f32(np.inf)
        k = whole(np.abs(rest) * scale + f32(.5)) if np.isfinite(scale) else np.zeros(self.dim, np.int64)
        bits = pack(self.a @ np.where(rest < 0, -k, k) >= 0)
        return code + bits + struct.pack("<f", math.sqrt(products(rest, rest)))


class Hamming(Signs):
    scale = "own"

    def decode(self, code, first=None):
        return super().decode(code) * f32(1 / math.sqrt(self.dim))


class Dithered(Codec):
    scale = "own"

    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        stream = Keystream(codebook.seed, b"DITH" + struct.pack("<II", self.dim, 0))
        draws = np.array(struct.unpack(f"<{self.dim}I", stream.take(4 * self.dim)))
        self.shift = (((draws >> 9) + .5) * 2.0 ** -23 - .5).astype(f32)
        self.reach, self.half = f32({2: 2.2, 3: 3.0, 4: 3.4}[self.bits]), f32(1 << (self.bits - 1))

    def decode(self, code, first=None):
        step = f32(float(self.reach) / float(self.half) / math.sqrt(self.dim))
        return (from_planes(code, self.bits, self.dim).astype(f32) + f32(.5) - self.half - self.shift) * step

    def encode(self, z, u, first=None):
        at = z * (u * (self.half / self.reach)) + self.shift + self.half
        return planes(whole(np.clip(at, f32(0), 2 * self.half - f32(1))), self.bits)


class Projection(Codec):
    """jl."""
    scale = "own"

    def size(self):
        return self.kept() * (4 if self.variant == 5 else 1)

    def kept(self):
        return -(-self.dim // self.block)

    def decode(self, code, first=None):
        zb, inflation = np.zeros(self.dim, f32), self.dim / self.kept()
        if self.variant == 5:
            zb[:self.kept()] = f32s(code) * f32(inflation)
        else:
            zb[:self.kept()] = np.frombuffer(code, np.int8).astype(f32) * f32(inflation / 31.75 / math.sqrt(self.dim))
        return zb

    def encode(self, z, u, first=None):
        z = z[:self.kept()]
        if self.variant == 5:
            return (z * (u * f32(1 / math.sqrt(self.dim)))).astype("<f4").tobytes()
        k = np.minimum(whole(np.abs(z * u) * f32(31.75) + f32(.5)), 127)
        return np.where(z < 0, -k, k).astype(np.int8).tobytes()


def constants(path):
    """The arrays of whole numbers in a C file, by name."""
    arrays = re.findall(r"(\w+)\[\w*\] = \{([-\d\s,]*)\}", path.read_text())
    return {name: np.array([int(v) for v in values.replace(",", " ").split()]) for name, values in arrays}


class Books:
    def __init__(self, kind, bits):
        name = {1: "block", 2: "sign", 3: "additive"}[kind]
        self.kind, self.bits, self.arrays = kind, bits, constants(FOLDERS["books"] / f"{name}_books.c")

    def whole_numbers(self, p):
        return self.arrays[f"p{p}b{self.bits}"]

    def of(self, p):
        return (self.whole_numbers(p) / 4096).astype(f32).reshape(-1, p)

    def hash(self, p):
        return checksum(struct.pack("<BBB", self.kind, p, self.bits) + self.whole_numbers(p).astype("<i2").tobytes())


class Blocks(Codec):
    """blockquant, signblock, additive."""
    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        self.signed, self.each = header.kind == 4, self.bits - (header.kind == 4)
        self.tail = self.dim % self.block
        if header.kind == 3:
            sums, plain = Books(3, 1), Books(1, 1)
            a, b = sums.of(8)[:16], sums.of(8)[16:]
            self.book = (a[None] + b[:, None]).reshape(256, 8)
            low, high = min(self.tail, 4), max(self.tail - 4, 0)
            self.rest = plain.of(low) if low else None
            if high:
                k, l = plain.of(high), self.rest
                self.rest = np.concatenate([np.tile(l, (len(k), 1)), np.repeat(k, len(l), axis=0)], axis=1)
            self.book_hash = xor([sums.hash(8)] + [plain.hash(p) for p in range(1, 5)])
        else:
            books = Books(2 if self.signed else 1, self.bits)
            self.book, self.rest = books.of(self.block), books.of(self.tail) if self.tail else None
            self.book_hash = xor([books.hash(p) for p in range(1, self.block + 1)])

    def size(self):
        return (self.each * self.dim + 7) // 8

    def parts(self):
        """First coordinate and book of every block."""
        for at in range(0, self.dim - self.tail, self.block):
            yield at, self.book
        if self.tail:
            yield self.dim - self.tail, self.rest

    def decode(self, code, first=None):
        bits, zb = unpack(code, self.each * self.dim), np.zeros(self.dim, f32)
        for at, book in self.parts():
            own = bits[self.each * at:self.each * (at + book.shape[1])]
            zb[at:at + book.shape[1]] = book[int((own << np.arange(len(own))).sum())]
        return np.where(unpack(first, self.dim), zb, -zb) if self.signed else zb

    def encode(self, z, u, first=None):
        v, bits = (np.abs(z) if self.signed else z) * u, []
        for at, book in self.parts():
            score = -((book.astype(np.float64) ** 2).sum(axis=1) / 2).astype(f32)
            for j in range(book.shape[1]):
                score = score + v[at + j] * book[:, j]
            k = int(np.argmax(score))
            bits += [k >> b & 1 for b in range(self.each * book.shape[1])]
        return pack(bits)


class Trellis(Codec):
    """trellis, signtrellis."""
    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        self.signed, self.window = header.kind == 6, header.block
        self.fresh = self.bits - self.signed
        self.table_scale = 64 if self.signed else 48 if self.fresh == 1 else 40
        name = f"{'sign' if self.signed else 'plain'}_l{self.window}k{self.fresh}"
        self.table = constants(FOLDERS["trellis"] / "tables.c")[name]
        header_bytes = struct.pack("<BBBB", header.kind, self.window, self.fresh, self.table_scale)
        self.book_hash = xor([checksum(header_bytes + self.table.astype("<i2").tobytes())])

    def length(self):
        return self.fresh * self.dim + self.window - self.fresh

    def size(self):
        return (self.length() + 7) // 8

    def decode(self, code, first=None):
        bits = int.from_bytes(code, "little")
        assert bits >> self.length() == 0, "padding"
        states = [bits >> self.fresh * (self.dim - 1 - i) & (1 << self.window) - 1 for i in range(self.dim)]
        values = self.table[states].astype(f32)
        return np.where(unpack(first, self.dim), values, f32(0) - values) if self.signed else values

    def encode(self, z, u, first=None):
        scaled = (np.abs(z) if self.signed else z) * (f32(self.table_scale) * u)
        samples = np.rint(np.clip(scaled, f32(-1023), f32(1023))).astype(np.int64)
        costs, came_from, stems = (samples[0] - self.table) ** 2, [], 1 << (self.window - self.fresh)
        states = np.arange(1 << self.window)
        for sample in samples[1:]:
            ways = costs.reshape(-1, stems)  # row t: the states t·stems … that lead to each stem
            best = np.argmin(ways, axis=0)  # of equals the first
            came_from.append(best)
            costs = ways[best, np.arange(stems)][states >> self.fresh] + (sample - self.table) ** 2
        state = int(np.argmin(costs))
        bits, count = state, self.window
        for best in reversed(came_from):
            stem = state >> self.fresh
            state = int(best[stem]) * stems + stem
            bits |= int(best[stem]) << count
            count += self.fresh
        return bits.to_bytes(self.size(), "little")


class Product(Codec):
    """pq."""
    scale, free = "own", True

    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        self.count = -(-self.dim // self.block)
        self.words = f32s(self.state).reshape(self.count, 256, self.block)

    def size(self):
        return self.count

    def decode(self, code, first=None):
        return np.concatenate([self.words[m][k] for m, k in enumerate(code)])[:self.dim]


class Segments(Codec):
    scale, free = "own", True

    class Part:
        kind, variant, block, state = 1, 0, 0, b""

    def __init__(self, header, codebook):
        super().__init__(header, codebook)
        self.rows, count = struct.unpack_from("<II", self.state)
        shapes = [struct.unpack_from("<HH", self.state, 8 + 4 * s) for s in range(count)]
        assert sum(dims for dims, _ in shapes) == self.rows
        self.basis, self.parts = f32s(self.state[8 + 4 * count:]).reshape(self.rows, self.dim), []
        for s, (dims, bits) in enumerate(shapes):
            seed = hashlib.blake2b(b"SEG1" + struct.pack("<I", s), key=codebook.seed, digest_size=32).digest()
            part = self.Part()
            part.dim, part.bits, part.seed, part.rotation = dims, bits, seed, Rotation(seed, dims)
            part.planes = [Signs(part, part)] + ([Extended(part, part)] if bits > 1 else [])
            self.parts.append(part)

    def size(self):
        return self.bits * ((self.dim + 7) // 8) + 4

    @staticmethod
    def share(number):
        return math.ldexp(2048 + (number & 2047), (number >> 11) - 42) if number else 0.0

    def decode(self, code, first=None):
        at, w = 4 * len(self.parts) + (2 if self.rows < self.dim else 0), []
        for s, part in enumerate(self.parts):
            scale, codes = self.share(struct.unpack_from("<H", code, 4 * s)[0]), []
            for plane in part.planes:
                codes.append(code[at:at + plane.size()])
                at += plane.size()
            own = part.planes[-1].decode(codes[-1], codes[0])
            w.append(part.rotation.invert((scale * own.astype(np.float64)).astype(f32)))
        assert not any(code[at:]), "what is left is zero"
        sums = np.zeros(self.dim)
        for value, row in zip(np.concatenate(w), self.basis):
            sums += float(value) * row.astype(np.float64)
        return sums.astype(f32)


PLANES = {1: lambda h: [Signs] + ([Extended] if h.bits > 1 else []), 2: lambda h: [Blocks], 3: lambda h: [Blocks],
          4: lambda h: [Signs, Blocks], 5: lambda h: [Trellis], 6: lambda h: [Signs, Trellis], 7: lambda h: [Levels],
          8: lambda h: [Sketch if h.variant == 4 else Levels],
          9: lambda h: [Hamming], 10: lambda h: [Dithered], 11: lambda h: [Product], 12: lambda h: [Projection],
          13: lambda h: [Segments]}


class Quantizer:
    """What a header says, and the planes of a row."""
    def __init__(self, data, codebook):
        magic, form, self.kind, self.bits, self.block, self.variant, zero, dim = struct.unpack_from("<4sHHBBBBI", data)
        assert magic == b"GYQZ" and form == 1 and zero == 0 and dim == codebook.dim
        assert data[16:24] == codebook.fingerprint and checksum(data[:-8]) == data[-8:]
        (count,) = struct.unpack_from("<I", data, 40)
        self.state, self.codebook = data[44:44 + count], codebook
        assert len(data) == 52 + count
        self.planes = [plane(self, codebook) for plane in PLANES[self.kind](self)]
        hashes = [plane.book_hash for plane in self.planes] + [0]
        assert struct.unpack_from("<QQ", data, 24) == tuple(hashes[:2]), "hash of the books"

    def split(self, row):
        """(code, s, e) of every plane; add, r2."""
        n = self.planes[0].size()
        s, add, r2, e = struct.unpack_from("<fffH", row, n)
        parts = [(row[:n], s, e)]
        if len(self.planes) > 1:
            m = self.planes[1].size()
            parts.append((row[n + 14:n + 14 + m], *struct.unpack_from("<fH", row, n + 14 + m)))
        assert len(row) == n + 14 + (6 + len(parts[1][0]) if len(parts) > 1 else 0)
        return parts, add, r2

    def residual(self, x):
        r = self.codebook.normalise(x) - self.codebook.mean
        unrotated = self.kind in (11, 13) and self.codebook.rotation.matrix is None
        return r, r if unrotated else self.codebook.rotation.apply(r)

    def factors(self, plane, z, zb, r2):
        """s and e, f64."""
        dim, along, nu2 = self.codebook.dim, products(z, zb), products(zb, zb)
        if not np.abs(z).sum() > 0:
            return (math.sqrt(r2) if plane.scale == "own" else 0.0), 0.0
        s = {"unbiased": r2 / along if along > 0 else 0.0, "shrunk": along / nu2 if along > 0 else 0.0, "own": math.sqrt(r2)}[plane.scale]
        if plane.scale == "unbiased":
            left = r2 * (nu2 * r2 / (along * along) - 1.0) if along > 0 else r2
        else:
            left = r2 - s * along if plane.scale == "shrunk" else r2 - 2 * s * along + s * s * nu2
        if left < r2 * 2.0 ** -10:
            left = lanes((z.astype(np.float64) - s * zb.astype(np.float64)) ** 2)
        if dim == 1:
            return s, 0.0 if plane.scale == "unbiased" or left <= 0 else math.sqrt(left)
        return s, math.sqrt(left / (dim - 1)) if left > 0 else 0.0

    def decoded(self, parts, zb, r2):
        plane, s = self.planes[-1], parts[-1][1]
        factor = s
        if plane.scale == "unbiased" and s > 0:
            nu2 = products(zb, zb)
            factor = min(r2 / (s * nu2), 2 * math.sqrt(r2 / nu2))
        scaled = (zb.astype(np.float64) * factor).astype(f32)
        unrotated = self.kind in (11, 13) and self.codebook.rotation.matrix is None
        return (scaled if unrotated else self.codebook.rotation.invert(scaled)) + self.codebook.mean


def check_row(quantizer, vector, row, zbs, decoded):
    parts, add, r2 = quantizer.split(row)
    r, z = quantizer.residual(f32s(vector))
    exact = products(r, r)
    metric_add = exact if quantizer.codebook.metric == 1 else -products(r, quantizer.codebook.mean)
    assert struct.pack("<ff", metric_add, exact) == struct.pack("<ff", add, r2), "add and r2"
    u = f32(math.sqrt(quantizer.codebook.dim / exact)) if exact > 0 else f32(0)
    for plane, (code, s, e), wanted in zip(quantizer.planes, parts, zbs):
        zb = plane.decode(code, parts[0][0]).astype(f32)
        assert zb.tobytes() == wanted, "zb"
        if not plane.free:
            assert plane.encode(z, u, parts[0][0]) == code, f"code {code.hex()} is {plane.encode(z, u, parts[0][0]).hex()}"
        own_s, own_e = quantizer.factors(plane, z, zb, exact)
        assert struct.pack("<f", own_s) == struct.pack("<f", s), f"s {s} is {own_s}"
        assert bf16_up(own_e) == e, f"e {bf16(e)} is {own_e}"
    assert quantizer.decoded(parts, zb, r2).astype(f32).tobytes() == decoded, "decoded"


def check_list_row(quantizer, vector, reference, row):
    """A row of a list: codes and factors as of any row of x - reference, add with what the reference adds, one for each plane."""
    codebook, own = quantizer.codebook, row
    if len(quantizer.planes) > 1:
        own, second_add = row[:-4], row[-4:]
    parts, add, r2 = quantizer.split(own)
    r = codebook.normalise(f32s(vector)) - reference
    z, offset = codebook.rotation.apply(r), codebook.rotation.apply(reference - codebook.mean)
    exact, l2 = products(r, r), codebook.metric == 1
    u = f32(math.sqrt(codebook.dim / exact)) if exact > 0 else f32(0)
    assert struct.pack("<f", exact) == struct.pack("<f", r2), "r2"
    adds = [struct.pack("<f", add)] + ([second_add] if len(parts) > 1 else [])
    for plane, (code, s, e), stored in zip(quantizer.planes, parts, adds):
        assert plane.encode(z, u, parts[0][0]) == code, "code"
        zb = plane.decode(code, parts[0][0]).astype(f32)
        own_s, own_e = quantizer.factors(plane, z, zb, exact)
        assert struct.pack("<f", own_s) == struct.pack("<f", s) and bf16_up(own_e) == e, "s and e"
        folded = (2.0 if l2 else 1.0) * (s * products(offset, zb))
        wanted = exact if l2 else -products(r, reference)
        assert struct.pack("<f", wanted + folded if folded else wanted) == stored, "add"


def check_lists(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    fields = {name: bytes.fromhex(value) for name, value in lines}
    each = {name: [bytes.fromhex(v) for n, v in lines if n == name] for name in ("vector", "list", "row")}
    codebook = Codebook(fields["codebook"])
    quantizer = Quantizer(fields["header"], codebook)
    for vector, number, row in zip(each["vector"], each["list"], each["row"]):
        check_list_row(quantizer, vector, codebook.lists[struct.unpack("<I", number)[0]], row)
    return len(each["row"])


def check(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    fields = {name: bytes.fromhex(value) for name, value in lines}
    each = {name: [bytes.fromhex(v) for n, v in lines if n == name] for name in ("vector", "row", "zb", "decoded")}
    codebook = Codebook(fields["codebook"])
    quantizer = Quantizer(fields["header"], codebook)
    count = len(quantizer.planes)
    for v, (vector, row, decoded) in enumerate(zip(each["vector"], each["row"], each["decoded"])):
        check_row(quantizer, vector, row, each["zb"][v * count:(v + 1) * count], decoded)
    n = quantizer.planes[0].size()
    if "block" in fields:
        assert block_of(8 * n, [row[:n + 14] for row in each["row"]]) == fields["block"], "block"
    return len(each["row"])


def main():
    FOLDERS["books"], FOLDERS["trellis"] = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder = pathlib.Path(sys.argv[1])
    paths = [(path, check) for path in sorted(folder.glob("codec-*.txt"))] + [(path, check_lists) for path in sorted(folder.glob("list-*.txt"))]
    if len({reader for _, reader in paths}) < 2:
        sys.exit(f"not all golden files are in {sys.argv[1]}")
    for path, reader in paths:
        try:
            print(f"{path.name}: {reader(path)} rows, equal")
        except AssertionError as reason:
            sys.exit(f"{path.name}: {reason}")


if __name__ == "__main__":
    main()
