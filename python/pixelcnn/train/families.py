"""Nodes and layers of the families of networks that are trained as graphs.

gated   two stacks of gated convolutions ("Conditional Image Generation with PixelCNN Decoders", van den Oord et al.
        2016, arXiv 1606.05328), with residuals in both
masked  residual blocks of masked convolutions ("Pixel Recurrent Neural Networks", van den Oord et al. 2016,
        arXiv 1601.06759)

Both read a pixel as the sum of numbers that are learnt for each level of its channels.
"""

from __future__ import annotations

from typing import Any

from .graph import Graph, taps

REACH = 3  # rows and columns before the pixel that the first convolution sees
BEFORE, AROUND = list(range(-REACH, 0)), list(range(-REACH, REACH + 1))
GATE = ("tanh", "sigmoid")


def gated(graph: Graph, filters: int, dilations: list[int]) -> str:
    """The vertical stack v sees the rows above, the horizontal one h the pixels to the left, and v."""
    for i, dilation in enumerate([0, *dilations]):
        if i == 0:
            above, left = taps("pixel", BEFORE, AROUND), taps("pixel", [0], BEFORE)
        else:
            above = taps(f"v{i - 1}", [-dilation, 0], [-dilation, 0, dilation])
            left = taps(f"h{i - 1}", [0], [-dilation, 0])
        # h reads the sum of v before its gate. Nothing would read the last gate.
        graph.node(f"sum{i}", 2 * filters)
        is_last = i == len(dilations)
        if is_last:
            graph.layer(f"vertical{i}", f"sum{i}", above, by_class=True)
        else:
            graph.node(f"v{i}", filters)
            how = {"gate": GATE, "pre": f"sum{i}", **residual("v", i)}
            graph.layer(f"vertical{i}", f"v{i}", above, by_class=True, **how)
        graph.node(f"g{i}", filters)
        seen = left + taps(f"sum{i}", [0], [0])
        graph.layer(f"horizontal{i}", f"g{i}", seen, by_class=True, gate=GATE)
        graph.node(f"h{i}", filters, "raw", *(["relu"] if is_last else []))
        graph.layer(f"out{i}", f"h{i}", taps(f"g{i}", [0], [0]), **residual("h", i))
    return f"h{len(dilations)}"


def masked(graph: Graph, filters: int, dilations: list[int]) -> str:
    """A masked convolution; then blocks: to half the channels, a masked convolution, and back."""
    graph.node("h0", 2 * filters, "raw", "relu")
    graph.layer("first", "h0", taps("pixel", BEFORE, AROUND) + taps("pixel", [0], BEFORE), by_class=True)
    for i, dilation in enumerate(dilations, 1):
        graph.node(f"a{i}", filters, "relu")
        graph.layer(f"narrow{i}", f"a{i}", taps(f"h{i - 1}", [0], [0], form=1))
        graph.node(f"b{i}", filters, "relu")
        above = taps(f"a{i}", [-dilation], [-dilation, 0, dilation])
        graph.layer(f"masked{i}", f"b{i}", above + taps(f"a{i}", [0], [-dilation, 0]), by_class=True)
        graph.node(f"h{i}", 2 * filters, "raw", "relu")
        graph.layer(f"wide{i}", f"h{i}", taps(f"b{i}", [0], [0]), **residual("h", i))
    return f"h{len(dilations)}"


def residual(stack: str, i: int) -> dict[str, Any]:
    """The residual of a stack's block, from the second on: the block before."""
    return {"residual": (f"{stack}{i - 1}", 0)} if i > 0 else {}


FAMILIES = {"gated": gated, "masked": masked}


def network(
    family: str,
    canvas: tuple[int, int, int],
    classes: list[str],
    levels: int,
    head: str,
    filters: int,
    dilations: list[int],
    mixtures: int,
) -> Graph:
    graph = Graph(canvas, classes, levels)
    channels = canvas[2]
    graph.node("pixel", max(1, filters // 2))
    for channel in range(channels):
        graph.table(f"level{channel}", channel, graph.nodes["pixel"]["channels"])
    whole = {"form": 0, "row": 0, "column": 0, "select": [0, graph.nodes["pixel"]["channels"]]}
    graph.layer("pixel", "pixel", [{**whole, "source": "image", "form": c} for c in range(channels)])
    features = FAMILIES[family](graph, filters, dilations)
    if head == "softmax":
        softmax(graph, features, 2 * filters)
    else:
        outputs = channels if head == "bernoulli" else (10 if channels == 3 else 3) * mixtures
        graph.node("hidden", 2 * filters, "relu")
        graph.layer("hidden", "hidden", taps(features, [0], [0], form=1))
        graph.node("parameters", outputs)
        graph.layer("output", "parameters", taps("hidden", [0], [0]))
        graph.head = {"node": "parameters", "kind": {"logistic": "logistic_mixture"}.get(head, head)}
    return graph


def softmax(graph: Graph, features: str, hidden: int) -> None:
    """Logits of each channel's levels. The pixel's channels before it enter by tables of their levels."""
    channels = graph.canvas[2]
    for channel in range(channels - 1):
        graph.table(f"known{channel}", channel, hidden * (channels - 1 - channel))
    for channel in range(channels):
        known = [
            {
                "source": "image",
                "form": channels + before,
                "row": 0,
                "column": 0,
                "select": [hidden * (channel - 1 - before), hidden * (channel - before)],
            }
            for before in range(channel)
        ]
        graph.node(f"hidden{channel}", hidden, "relu")
        graph.layer(f"hidden{channel}", f"hidden{channel}", known + taps(features, [0], [0], form=1))
        graph.node(f"logits{channel}", graph.levels)
        graph.layer(f"output{channel}", f"logits{channel}", taps(f"hidden{channel}", [0], [0]))
    graph.head = {"node": "logits0", "kind": "softmax", "steps": False}
    if channels > 1:
        graph.node("logits", channels * graph.levels)
        each = {"form": 0, "row": 0, "column": 0, "select": [0, graph.levels]}
        sources = [{**each, "source": f"logits{c}", "outputs": c * graph.levels} for c in range(channels)]
        graph.layer("logits", "logits", sources)
        graph.head = {"node": "logits", "kind": "softmax", "steps": True}
