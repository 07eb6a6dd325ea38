"""Checks of a graph: causality, and equality with the module."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..errors import Refused
from .draws import beyond
from .export import Model
from .graph import IMAGE, Graph, Pick, Times, times
from .head import Head
from .reference import Reference

TOLERANCE = 1e-6  # of the graph against the module, both in 64 bits: max(1, |output|) times this
# For drawn levels, which the engine computes in 32 bits: the noise's distance from the boundary of another level.
DRAWN_TOLERANCE = 1e-3

_LARGE = 2e8  # products an image, from which on one image is compared


def causal(graph: Graph, head_node: int, head: Head) -> bool:
    """Refuse a graph whose head sees its own pixel or later ones; True if channels come one after the other."""
    image = graph.nodes[IMAGE]
    raster = np.arange(image.height)[:, None] * image.width + np.arange(image.width)
    first: Refused | None = None
    many = image.channels > 1 and head.kind != "logistic_mixture"
    for steps in (1, image.channels) if many else (1,):
        when = times(graph, steps)
        seen = when[head_node]
        outputs = graph.nodes[head_node].channels
        each = head.levels if head.kind == "softmax" else 1
        own = np.arange(outputs) // each if steps > 1 else np.zeros(outputs, int)
        late: tuple[int, int, int] | None = None
        for c in range(outputs):
            bad = seen.latest[seen.group[c]] >= raster * steps + own[c]
            if bad.any():
                i, j = np.argwhere(bad)[0]
                late = c, int(i), int(j)
                break
        if late is None:
            return steps > 1
        first = Refused("not causal: " + _path(graph, when, steps, head_node, *late))
    assert first is not None
    raise first


def _path(graph: Graph, when: list[Times], steps: int, n: int, c: int, i: int, j: int) -> str:
    """From an output back to the pixel that it must not see."""
    makers = {layer.target: layer for layer in graph.layers} | {x.pre: x for x in graph.layers if x.pre is not None}
    wanted = when[n].latest[when[n].group[c]][i, j]
    parts = [f"the output at row {i}, column {j} sees the image at {_pixel(graph, wanted, steps)}"]
    while n != IMAGE:
        layer, node = makers[n], graph.nodes[n]
        parts.append(f"row {i}, column {j} of {layer.where or 'a sum'}")
        columns = [c] if n == layer.pre or not layer.gate else [c, c + graph.nodes[layer.target].channels]
        found = None
        for tap in layer.taps:
            source = graph.nodes[tap.source]
            p, q = tap.rows(node.height, source.height)[i], tap.columns(node.width, source.width)[j]
            if p < 0 or q < 0:
                continue
            group = when[tap.source].of_form(tap.form, source.channels)
            if isinstance(tap.map, Pick):
                inputs = [int(k) for k in tap.map.channels[columns] if k >= 0]
            else:
                inputs = [int(k) for k in np.flatnonzero((np.asarray(tap.map.weight.value)[:, columns] != 0).any(1))]
            hits = [k for k in inputs if when[tap.source].latest[group[k]][p, q] == wanted]
            if hits:
                found = tap.source, hits[0] % source.channels if tap.form.table is None else 0, int(p), int(q)
                break
        if found is None:
            for m, _ in layer.residual if n == layer.target else []:
                if when[m].latest[when[m].group[c]][i, j] == wanted:
                    found = m, c, i, j
        if found is None:
            break
        n, c, i, j = found
    return " ← ".join(parts)


def _pixel(graph: Graph, time: int, steps: int) -> str:
    image = graph.nodes[IMAGE]
    pixel, channel = divmod(int(time), steps)
    return f"row {pixel // image.width}, column {pixel % image.width}" + (f", channel {channel}" if steps > 1 else "")


Run = Callable[[np.ndarray, "np.ndarray | None", bool], torch.Tensor]
"""The module's own output for levels [N, H, W, C] and labels [N], in 64 bits or as it computes by itself."""


def compared(run: Run, model: Model, head: Head, classes: int, *, exact: bool, seed: int = 0) -> float:
    """The largest relative difference between graph and module on random levels; refuse one above the tolerance.

    exact: the module's device has 64 bits.
    """
    document, tensors = model
    chance = np.random.default_rng(seed)
    levels = chance.integers(head.levels, size=(2, *document["canvas"]))
    labels = chance.integers(classes, size=2) if classes else None
    if not torch.equal(*(run(levels, labels, False) for _ in range(2))):
        raise Refused("a second call of the module's forward differs from its first: chance, or a state that it keeps")
    tolerance = TOLERANCE if exact else 1e3 * TOLERANCE
    reference = Reference(document, tensors)
    count = 1 if reference.products() > _LARGE else 2
    expected = head.arranged(run(levels, labels, exact))[:count]
    result = head.finished(reference.output(levels[:count], None if labels is None else labels[:count]))
    error = np.abs(result - expected) / np.maximum(1, np.abs(expected))
    worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
    if not error[worst] <= tolerance:
        number, row, column, output = (int(k) for k in worst)
        raise Refused(
            f"the graph differs from the module by {error[worst]:.1e} (limit {tolerance:.0e}): image {number}, "
            f"row {row}, column {column}, output {output}: module {expected[worst]:.9g}, graph {result[worst]:.9g}; "
            "a value of the image may have left PyTorch on its way; please report it with the module"
        )
    return float(error[worst])


def drawn_alike(
    run: Run, head: Head, levels: np.ndarray, labels: np.ndarray | None, words: np.ndarray, *, exact: bool
) -> float:
    """The largest distance between drawn levels and those that the module's distributions give with the same noise.

    levels: drawn images [N, H, W, C]; words: their noise [N, H, W, W′]. Refuses a distance above the tolerance.
    """
    parameters = head.parameters(run(levels, labels, exact))
    distance = beyond(head.kind, parameters, levels, head.levels, words)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(distance), np.inf, distance)), distance.shape)
    if not distance[worst] <= DRAWN_TOLERANCE:
        number, row, column = (int(k) for k in worst)
        raise Refused(
            f"drawn image {number} has {levels[worst].tolist()} at row {row}, column {column}, but the module's own "
            f"distribution gives another level with the same noise, which is {distance[worst]:.1e} from a boundary (limit "
            f"{DRAWN_TOLERANCE:.0e}); please report it with the module"
        )
    return float(distance[worst])
