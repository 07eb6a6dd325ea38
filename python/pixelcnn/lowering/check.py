"""Is the graph causal, and does it compute what the module computes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from . import trace
from .errors import Refused
from .export import Model
from .graph import IMAGE, Graph, Pick, Times, times
from .head import Head
from .reference import Reference

TOLERANCE = 1e-6  # of the graph against the module, both in 64 bits: max(1, |output|) times this

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


def compared(
    module: nn.Module,
    forward: Callable[..., Any],
    model: Model,
    head: Head,
    encode: Callable[[torch.Tensor, bool], torch.Tensor],
    classes: int,
    position: int,
    *,
    seed: int = 0,
) -> float:
    """The largest relative difference between graph and module on random levels; refuse one above the tolerance."""
    document, tensors = model
    height, width, channels = document["canvas"]
    chance = torch.Generator().manual_seed(seed)
    levels = torch.randint(head.levels, (2, channels, height, width), generator=chance)
    labels = torch.randint(classes, (2,), generator=chance) if classes else None
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    there = None if labels is None else labels.to(device)
    own = [
        trace.module_output(module, forward, encode(levels, False).to(device), there, position=position, double=False)
        for _ in range(2)
    ]
    if not torch.equal(*own):
        raise Refused("a second call of the module's forward differs from its first: chance, or a state that it keeps")
    exact = device.type != "mps"  # which has no 64 bits
    tolerance = TOLERANCE if exact else 1e3 * TOLERANCE
    image = encode(levels, exact).to(device)
    given = trace.module_output(module, forward, image, there, position=position, double=exact)
    reference = Reference(document, tensors)
    count = 1 if reference.products() > _LARGE else 2
    expected = head.arranged(given)[:count]
    pixels = levels.permute(0, 2, 3, 1).numpy()[:count]
    result = head.finished(reference.output(pixels, None if labels is None else labels.numpy()[:count]))
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
