"""Compares the vector readers with NumPy, on files that NumPy wrote. Run by CTest with the path of vectors_dump."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
except ImportError:
    sys.exit(77)  # CTest: skipped

DUMP = sys.argv[1]
failures = 0


def dump(path, first=0):
    return subprocess.run([DUMP, path, str(first)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def check(name, good, detail=""):
    global failures
    failures += not good
    print("ok  " if good else "FAIL", name, "" if good else detail)


def same(name, path, want, first=0):
    done = dump(path, first)
    got = np.frombuffer(done.stdout, dtype="<f4")
    want = np.ascontiguousarray(want[first:], dtype="<f4")
    # Bit for bit: NaNs and signed zeros count.
    check(name, done.returncode == 0 and got.tobytes() == want.tobytes(), done.stderr.decode())


def refused(name, path, status, part):
    done = dump(path)
    text = done.stderr.decode()
    check(name, done.returncode == 1 and status + ": " in text and part in text, text)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


def vecs(array, dtype):
    rows, dim = array.shape
    prefix = np.full((rows, 1), dim, dtype="<i4").view(np.uint8).reshape(rows, 4)
    return np.hstack([prefix, np.ascontiguousarray(array, dtype=dtype).view(np.uint8).reshape(rows, -1)]).tobytes()


def binary(array, dtype):
    return np.array(array.shape, dtype="<u4").tobytes() + np.ascontiguousarray(array, dtype=dtype).tobytes()


with tempfile.TemporaryDirectory() as folder:
    random = np.random.default_rng(7)
    at = lambda name: os.path.join(folder, name)

    for rows, dim in [(1, 1), (3, 2), (1000, 100), (5, 4096), (0, 8)]:
        array = random.standard_normal((rows, dim)).astype("<f4")
        octets = random.integers(0, 256, (rows, dim), dtype=np.uint8)
        for version in [(1, 0), (2, 0), (3, 0)]:
            for dtype in ["<f2", "<f4", "<f8"]:
                path = at("a.npy")
                with open(path, "wb") as file:
                    np.lib.format.write_array(file, array.astype(dtype), version=version)
                same(f"npy {version} {dtype} {rows}x{dim}", path, array.astype(dtype))
        np.save(at("u.npy"), octets)
        same(f"npy |u1 {rows}x{dim}", at("u.npy"), octets)
        same(f"fbin {rows}x{dim}", write(at("a.fbin"), binary(array, "<f4")), array)
        same(f"u8bin {rows}x{dim}", write(at("a.u8bin"), binary(octets, "u1")), octets)
        if rows:
            same(f"fvecs {rows}x{dim}", write(at("a.fvecs"), vecs(array, "<f4")), array)
            same(f"bvecs {rows}x{dim}", write(at("a.bvecs"), vecs(octets, "u1")), octets)
            for name in ["a.npy", "a.fbin", "a.fvecs"]:
                same(f"{name} from row {rows // 2}", at(name), array.astype("<f8") if name == "a.npy" else array, rows // 2)

    halves = np.arange(65536, dtype="<u2").view("<f2").reshape(256, 256)
    np.save(at("halves.npy"), halves)
    quiet = dump(at("halves.npy"))
    got, want = np.frombuffer(quiet.stdout, dtype="<f4"), halves.astype("<f4").ravel()
    # NumPy may set the quiet bit of a signalling NaN; all others must agree in every bit.
    numbers = ~np.isnan(want)
    check("every half", bool(np.array_equal(got.view("<u4")[numbers], want.view("<u4")[numbers]) and np.isnan(got[~numbers]).all()))

    special = np.array([[np.inf, -np.inf, np.nan, -0.0, 1e-310, 3.4028234663852886e38]], dtype="<f8")
    np.save(at("special.npy"), special)
    same("doubles that are no plain numbers", at("special.npy"), special)

    np.save(at("big.npy"), np.array([[1.0, 2.0], [3.0, 1e39]]))
    refused("a double beyond f32", at("big.npy"), "INVALID_ARGUMENT", "row 1, column 1")
    np.save(at("order.npy"), np.asfortranarray(np.zeros((3, 4), dtype="<f4")))
    refused("fortran order", at("order.npy"), "INVALID_ARGUMENT", "fortran_order")
    np.save(at("endian.npy"), np.zeros((3, 4), dtype=">f4"))
    refused("big-endian", at("endian.npy"), "INVALID_ARGUMENT", "big-endian")
    np.save(at("ints.npy"), np.zeros((3, 4), dtype="<i4"))
    refused("integers", at("ints.npy"), "INVALID_ARGUMENT", "'<i4'")
    np.save(at("record.npy"), np.zeros((3,), dtype=[("a", "<f4")]))
    refused("records", at("record.npy"), "INVALID_ARGUMENT", "descr is no plain number type")
    np.save(at("flat.npy"), np.zeros(3, dtype="<f4"))
    refused("one axis", at("flat.npy"), "INVALID_ARGUMENT", "1 axes")
    np.save(at("deep.npy"), np.zeros((3, 4, 5), dtype="<f4"))
    refused("three axes", at("deep.npy"), "INVALID_ARGUMENT", "3 axes")
    np.save(at("wide.npy"), np.zeros((1, 4097), dtype="<f4"))
    refused("dim over the limit", at("wide.npy"), "INVALID_ARGUMENT", "dim 4097 is outside 1 to 4096")
    np.savez(at("archive.npz"), a=np.zeros((2, 2)))
    os.rename(at("archive.npz"), at("archive.npy"))
    refused("an archive under the wrong name", at("archive.npy"), "DATA_LOSS", "not an npy file")

sys.exit(1 if failures else 0)
