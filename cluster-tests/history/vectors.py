"""The vector of a value, and that of a query: both follow from a number alone, so that a history holds numbers only.

Components are multiples of 1/64 in [-2, 2): squared distances of up to 64 such components are sums that a float holds exactly,
whatever the order, so that an exact search can be held to its distances without a tolerance."""

import functools

import numpy

DIM = 16
QUERIES = 1 << 40  # numbers from here on are those of queries


def vectors_of(numbers, dim=DIM):
    """[n][dim] f32: splitmix64 of (number, component)."""
    with numpy.errstate(over="ignore"):
        x = numpy.asarray(numbers, numpy.uint64)[:, None] * numpy.uint64(dim) + numpy.arange(dim, dtype=numpy.uint64)[None, :]
        x = (x + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        x = x ^ (x >> numpy.uint64(31))
    return ((x >> numpy.uint64(56)).astype(numpy.float32) - numpy.float32(128)) / numpy.float32(64)


def vector_of(number, dim=DIM):
    return vectors_of([number], dim)[0]


def query_of(number, dim=DIM):
    return vector_of(QUERIES + number, dim)


class Distances:
    """Squared Euclidean distances of values' vectors from a query's: exact, see above. Keeps the vectors of the first values."""

    def __init__(self, count):
        self.vectors = vectors_of(range(count))
        self.query_of = functools.lru_cache(64)(lambda query: query_of(query).astype(numpy.float64))

    def __call__(self, values, query):
        return ((self.vectors[values].astype(numpy.float64) - self.query_of(query)) ** 2).sum(axis=1)
