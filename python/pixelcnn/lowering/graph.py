"""The graph: nodes, taps, layers, and the time at which each position of a node is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .tape import Array, Tape
from .trace import Where

IMAGE = 0  # the number of the node that holds the image


@dataclass(frozen=True, eq=True)
class Form:
    """The form in which a node is read: activation(±(scale·x + shift)), or a look-up in a table of the image's levels."""

    activation: str = "raw"
    slope: float | None = None  # of a leaky_relu
    negate: bool = False
    scale: Array | None = None  # [F], [K, F] or [K|1, H|1, W|1, F]
    shift: Array | None = None
    table: Array | None = None  # [L] or [L, E]: an encoding of the image
    channel: int | None = None  # of the image; None: all, one after the other

    @property
    def plain(self) -> bool:
        """An activation alone."""
        return self.scale is None and self.shift is None and self.table is None


RAW = Form()


@dataclass(eq=False)
class Pick:
    """A linear map that selects: output k is channel `channels[k]` of the form, times a factor; -1: nothing."""

    channels: np.ndarray
    factor: Array | None = None

    @property
    def outputs(self) -> int:
        return len(self.channels)


@dataclass(eq=False)
class Dense:
    """A product with a matrix [channels of the form, outputs]."""

    weight: Array

    @property
    def outputs(self) -> int:
        return self.weight.shape[1]


Map = Pick | Dense
Rect = tuple[float, float, float, float]
EVERYWHERE: Rect = (-np.inf, np.inf, -np.inf, np.inf)


@dataclass(eq=False)
class Tap:
    """A source's form at an offset through a map.

    Target (i, j) reads (stride·i + row, stride·j + column); with a phase, only where (i, j) mod 2 is the phase, it
    reads (i div 2 + row, j div 2 + column). Outside the source and outside `rect` (of the target) it reads zero.
    """

    source: int
    form: Form
    row: int
    column: int
    map: Map
    stride: int = 1
    phase: tuple[int, int] | None = None
    rect: Rect = EVERYWHERE

    def place(self) -> tuple[object, ...]:
        """All but the map: taps of one place can be added."""
        return self.source, self.form, self.row, self.column, self.stride, self.phase, self.rect

    def step(self) -> int:
        """The number of levels by which the target is coarser than the source."""
        return -1 if self.phase else {1: 0, 2: 1}[self.stride]

    def rows(self, height: int, source_height: int) -> np.ndarray:
        """For each row of the target the row that is read; -1: none."""
        phase = None if self.phase is None else self.phase[0]
        return _index(height, source_height, self.row, self.stride, phase, self.rect[0], self.rect[1])

    def columns(self, width: int, source_width: int) -> np.ndarray:
        """For each column of the target the column that is read; -1: none."""
        phase = None if self.phase is None else self.phase[1]
        return _index(width, source_width, self.column, self.stride, phase, self.rect[2], self.rect[3])


@lru_cache(maxsize=4096)
def _index(n: int, source: int, offset: int, stride: int, phase: int | None, lo: float, hi: float) -> np.ndarray:
    i = np.arange(n)
    read = i // 2 + offset if phase is not None else i * stride + offset
    valid = (read >= 0) & (read < source) & (i >= lo) & (i < hi)
    if phase is not None:
        valid &= i % 2 == phase
    result = np.where(valid, read, -1)
    result.flags.writeable = False
    return result


@dataclass(eq=False)
class Node:
    """A value at every position. Before `place` it may have any size."""

    height: int
    width: int
    channels: int
    level: int
    where: Where = field(default_factory=Where)


@dataclass(eq=False)
class Layer:
    """target = gate(sum of taps + tables) + residual; `pre` keeps the sum before the gate."""

    target: int
    taps: list[Tap]
    tables: list[Array]  # each [K|1, H|1, W|1, outputs]
    gate: tuple[str, str] | None = None
    residual: list[tuple[int, Form]] = field(default_factory=list)
    pre: int | None = None
    where: Where = field(default_factory=Where)


@dataclass(eq=False)
class Graph:
    """Nodes and layers; sources come before targets."""

    tape: Tape
    nodes: list[Node]
    layers: list[Layer] = field(default_factory=list)
    classes: int = 0

    def width_of(self, tap: Tap) -> int:
        """Channels of a tap's form."""
        return form_channels(self.nodes[tap.source].channels, tap.form)

    def outputs(self, layer: Layer) -> int:
        """Channels of a layer's sum."""
        return self.nodes[layer.target].channels * (2 if layer.gate else 1)

    def readers(self, node: int) -> list[tuple[Layer, Tap | None]]:
        """The readers of a node: taps, and residuals as None."""
        found: list[tuple[Layer, Tap | None]] = []
        for layer in self.layers:
            found += [(layer, t) for t in layer.taps if t.source == node]
            found += [(layer, None) for n, _ in layer.residual if n == node]
        return found

    def identity(self, tap: Tap) -> bool:
        """The tap selects all channels of its source at the same place."""
        n = self.nodes[tap.source].channels
        return (
            tap.stride == 1
            and tap.phase is None
            and (tap.row, tap.column) == (0, 0)
            and isinstance(tap.map, Pick)
            and tap.map.factor is None
            and tap.form.plain
            and np.array_equal(tap.map.channels, np.arange(n))
        )

    def prune(self, head: int) -> int:
        """Drop nodes that the head does not need; returns the head's new number."""
        used = {head}
        for layer in reversed(self.layers):
            if layer.target in used or layer.pre in used:
                used |= {t.source for t in layer.taps} | {n for n, _ in layer.residual}
        self.layers = [x for x in self.layers if x.target in used or x.pre in used]
        made = [IMAGE] + [
            n for x in self.layers for n in (x.pre, x.target) if n is not None and (n in used or n == x.target)
        ]
        new = {n: i for i, n in enumerate(made)}
        for layer in self.layers:
            layer.pre = new[layer.pre] if layer.pre in used and layer.pre is not None else None
            layer.target = new[layer.target]
            layer.residual = [(new[n], f) for n, f in layer.residual]
            for tap in layer.taps:
                tap.source = new[tap.source]
        self.nodes = [self.nodes[n] for n in made]
        return new[head]


def form_channels(channels: int, form: Form) -> int:
    """Channels of a form of a node with that many channels."""
    if form.table is not None:
        each = form.table.shape[1] if len(form.table.shape) > 1 else 1
        return each * (channels if form.channel is None else 1)
    return channels * (2 if form.activation == "concat_elu" else 1)


def dense(m: Map, inputs: int) -> np.ndarray:
    """A map's matrix, now."""
    return (
        np.asarray(m.weight.value)
        if isinstance(m, Dense)
        else pick_matrix(m, inputs)(*([] if m.factor is None else [m.factor.value]))
    )


def pick_matrix(m: Pick, inputs: int) -> Callable[..., np.ndarray]:
    """The function from a selection's factor to its matrix."""
    outputs = np.flatnonzero(m.channels >= 0)

    def build(factor: np.ndarray | float = 1.0) -> np.ndarray:
        matrix = np.zeros((inputs, m.outputs))
        matrix[m.channels[outputs], outputs] = factor[outputs] if isinstance(factor, np.ndarray) else factor
        return matrix

    return build


@dataclass
class Times:
    """The latest (sub)pixel that each position depends on, raster·S + channel; -1: none. By groups of channels."""

    group: np.ndarray  # [channels]
    latest: np.ndarray  # [groups, H, W]

    def of_form(self, form: Form, channels: int) -> np.ndarray:
        """The group of each channel of a form."""
        if form.table is not None:
            each = form.table.shape[1] if len(form.table.shape) > 1 else 1
            of = range(len(self.group)) if form.channel is None else [form.channel]
            return np.repeat(self.group[list(of)], each)
        return np.concatenate([self.group, self.group]) if form.activation == "concat_elu" else self.group


def times(graph: Graph, steps: int) -> list[Times]:
    """The time at which each position of each node is known, exactly, from the taps and their nonzero weights."""
    image = graph.nodes[IMAGE]
    raster = np.arange(image.height)[:, None] * image.width + np.arange(image.width)
    result: dict[int, Times] = {}
    if steps > 1:
        result[IMAGE] = Times(np.arange(image.channels), np.stack([raster * steps + c for c in range(steps)]))
    else:
        result[IMAGE] = Times(np.zeros(image.channels, int), raster[None])
    for layer in graph.layers:
        node = graph.nodes[layer.target]
        sums = graph.outputs(layer)
        reach: list[np.ndarray] = []
        latest: list[np.ndarray] = []
        for tap in layer.taps:
            source = result[tap.source]
            group = source.of_form(tap.form, graph.nodes[tap.source].channels)
            at = graph.nodes[tap.source]
            rows, columns = tap.rows(node.height, at.height), tap.columns(node.width, at.width)
            nonzero = None if isinstance(tap.map, Pick) else np.asarray(tap.map.weight.value) != 0
            for g in np.unique(group):
                if isinstance(tap.map, Pick):
                    c = tap.map.channels
                    touched = (c >= 0) & (group[c] == g)
                else:
                    assert nonzero is not None
                    touched = nonzero[group == g].any(0)
                if touched.any():
                    padded = np.pad(source.latest[g], ((0, 1), (0, 1)), constant_values=-1)
                    reach.append(touched)
                    latest.append(padded[rows][:, columns])
        if layer.pre is not None:
            result[layer.pre] = _grouped(reach, latest, sums, node)
        if layer.gate:
            reach = [r[: node.channels] | r[node.channels :] for r in reach]
        for n, form in layer.residual:
            group = result[n].of_form(form, graph.nodes[n].channels)
            for g in range(len(result[n].latest)):
                reach.append(group == g)
                latest.append(result[n].latest[g])
        result[layer.target] = _grouped(reach, latest, node.channels, node)
    none = Times(np.zeros(1, int), np.full((1, 1, 1), -1))
    return [result.get(n, none) for n in range(len(graph.nodes))]


def _grouped(reach: list[np.ndarray], latest: list[np.ndarray], channels: int, node: Node) -> Times:
    if not reach:
        return Times(np.zeros(channels, int), np.full((1, node.height, node.width), -1))
    patterns, which = np.unique(np.stack(reach), axis=1, return_inverse=True)
    seen: dict[bytes, int] = {}
    maps: list[np.ndarray] = []
    group = []
    for pattern in patterns.T:
        each = [latest[k] for k in np.flatnonzero(pattern)]
        found = np.maximum.reduce(each) if each else np.full((node.height, node.width), -1)
        group.append(seen.setdefault(found.tobytes(), len(seen)))
        if group[-1] == len(maps):
            maps.append(found)
    return Times(np.array(group)[np.ravel(which)], np.stack(maps))
