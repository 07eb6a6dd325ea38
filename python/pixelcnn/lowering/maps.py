"""Algebra of taps' maps and of tables, on arrays that the tape can compute again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .graph import Dense, Map, Pick, pick_matrix
from .tape import Array, Tape


def identity(channels: int) -> Pick:
    """All channels, unchanged."""
    return Pick(np.arange(channels))


def equal(a: Map, b: Map) -> bool:
    """True for equal maps, by their structure."""
    if isinstance(a, Pick) and isinstance(b, Pick):
        return a.factor is b.factor and np.array_equal(a.channels, b.channels)
    return isinstance(a, Dense) and isinstance(b, Dense) and a.weight is b.weight


def columns(tape: Tape, m: Map, index: np.ndarray) -> Map:
    """The outputs `index` of a map, in that order."""
    if isinstance(m, Pick):
        factor = None if m.factor is None else tape.derive(lambda f: f[index], m.factor)
        return Pick(m.channels[index], factor)
    return Dense(tape.derive(lambda w: w[:, index], m.weight))


def scaled(tape: Tape, m: Map, factor: Array) -> Map:
    """A map with its outputs multiplied by factor [outputs] or [1]."""
    if isinstance(m, Dense):
        return Dense(tape.derive(lambda w, f: w * f, m.weight, factor))
    n = m.outputs
    if m.factor is None:
        return Pick(m.channels, tape.derive(lambda f: np.broadcast_to(f, (n,)).copy(), factor))
    return Pick(m.channels, tape.derive(lambda a, f: a * f, m.factor, factor))


def widened(tape: Tape, m: Map, before: int, after: int) -> Map:
    """A map with further outputs around its own, which are zero."""
    if isinstance(m, Dense):
        return Dense(tape.derive(lambda w: np.pad(w, ((0, 0), (before, after))), m.weight))
    pads = np.full(before, -1), np.full(after, -1)
    factor = None if m.factor is None else tape.derive(lambda f: np.pad(f, (before, after)), m.factor)
    return Pick(np.concatenate([pads[0], m.channels, pads[1]]), factor)


def as_dense(tape: Tape, m: Map, inputs: int) -> Dense:
    """A map as a product."""
    if isinstance(m, Dense):
        return m
    build = pick_matrix(m, inputs)
    return Dense(Array(build()) if m.factor is None else tape.derive(build, m.factor))


def added(tape: Tape, a: Map, b: Map, inputs: int) -> Map:
    """The sum of two maps of the same inputs and outputs."""
    if isinstance(a, Pick) and isinstance(b, Pick) and not ((a.channels >= 0) & (b.channels >= 0)).any():
        mine = a.channels >= 0
        channels = np.where(mine, a.channels, b.channels)
        if a.factor is None and b.factor is None:
            return Pick(channels)
        one = Array(np.ones(len(channels)))
        return Pick(channels, tape.derive(lambda f, g: np.where(mine, f, g), a.factor or one, b.factor or one))
    x, y = as_dense(tape, a, inputs), as_dense(tape, b, inputs)
    return Dense(tape.derive(lambda v, w: v + w, x.weight, y.weight))


def followed(tape: Tape, m: Pick, weight: Array, inputs: int) -> Dense:
    """A selection, then the product with weight [selected, outputs]: one product with [inputs, outputs]."""
    channels, used = m.channels, m.channels >= 0
    if m.factor is None and np.array_equal(channels, np.arange(inputs)):
        return Dense(weight)

    def product(w: np.ndarray, f: np.ndarray | None = None) -> np.ndarray:
        full = np.zeros((inputs, w.shape[1]))
        np.add.at(full, channels[used], (w if f is None else w * f[:, None])[used])
        return full

    return Dense(tape.derive(product, weight) if m.factor is None else tape.derive(product, weight, m.factor))


def merged_tables(tape: Tape, tables: Sequence[Array]) -> list[Array]:
    """Tables with those of one shape added."""
    found: dict[tuple[int, ...], Array] = {}
    for t in tables:
        found[t.shape] = tape.derive(lambda a, b: a + b, found[t.shape], t) if t.shape in found else t
    return list(found.values())


def moved_table(tape: Tape, t: Array, top: int, left: int, old: tuple[int, int], new: tuple[int, int]) -> Array:
    """A table of a value of size `old` after padding (top, left; negative: cropping) to size `new`."""
    for axis, lead, before, after in ((1, top, old[0], new[0]), (2, left, old[1], new[1])):
        if (lead, before) == (0, after) or (t.shape[axis] == 1 and lead <= 0 and after <= before + lead):
            continue

        def move(a: np.ndarray, axis: int = axis, lead: int = lead, n: int = before, m: int = after) -> np.ndarray:
            if a.shape[axis] == 1:
                a = np.repeat(a, n, axis)
            a = np.moveaxis(a, axis, 0)
            result = np.zeros((m, *a.shape[1:]))
            lo, hi = max(lead, 0), min(n + lead, m)
            if lo < hi:
                result[lo:hi] = a[lo - lead : hi - lead]
            return np.moveaxis(result, 0, axis)

        t = tape.derive(move, t)
    return t
