"""A network as the graph of docs/model-file.md, as a module of PyTorch: the trained module is the one in the file.

A family (families.py) writes the graph; here its layers are computed on whole images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"raw": lambda x: x, "relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
GAIN = {"relu": math.sqrt(2)}  # of the weights that read a form, so that values keep their size


@dataclass
class Graph:
    """The parts of the file's graph, and the tensors that they name with their shapes."""

    canvas: tuple[int, int, int]
    classes: list[str]
    levels: int
    encoding: list[dict[str, Any]] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def table(self, name: str, channel: int, numbers: int) -> None:
        """A form of the image: this many numbers for each level of a channel."""
        self.encoding.append({"table": name, "channel": channel})
        self.shapes[name] = (self.levels, numbers)

    def node(self, name: str, channels: int, *activations: str) -> None:
        forms = [{"activation": activation} for activation in activations or ("raw",)]
        self.nodes[name] = {"name": name, "channels": channels, "forms": forms}

    def layer(
        self, name: str, target: str, taps: list[dict[str, Any]], *, by_class: bool = False, **other: Any
    ) -> None:
        """A layer whose taps that do not select have weights, with a bias then, and numbers of each class."""
        outputs = self.nodes[target]["channels"] * (2 if "gate" in other else 1)
        for tap in taps:
            if "select" not in tap:
                tap["weight"] = f"{name}.{tap['source']}[{tap['row']},{tap['column']}]"
                self.shapes[tap["weight"]] = (self.nodes[tap["source"]]["channels"], outputs)
        added = {f"{name}.bias": (outputs,)} if any("weight" in tap for tap in taps) else {}
        if by_class and self.classes:
            added[f"{name}.class"] = (len(self.classes), outputs)
        self.shapes |= added
        self.layers.append({"name": name, "target": target, "taps": taps, "add": list(added), **other})

    def document(self) -> dict[str, Any]:
        """The JSON of the model file."""
        return {
            "canvas": list(self.canvas),
            "classes": self.classes,
            "levels": self.levels,
            "encoding": self.encoding,
            "nodes": list(self.nodes.values()),
            "layers": self.layers,
            "head": self.head,
        }


def taps(source: str, rows: list[int], columns: list[int], form: int = 0) -> list[dict[str, Any]]:
    """One tap for each of these positions."""
    return [{"source": source, "form": form, "row": row, "column": column} for row in rows for column in columns]


class Network(nn.Module):
    """The head's parameters [N, P, H, W] of levels [N, C, H, W] and classes [N]."""

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        # Names with dots are not for nn.Module.
        self.values = nn.ParameterDict(
            {key(name): nn.Parameter(torch.zeros(shape)) for name, shape in graph.shapes.items()}
        )
        self.initialise()

    def tensor(self, name: str) -> Tensor:
        return self.values[key(name)]

    @torch.no_grad()
    def initialise(self) -> None:
        """Random weights, with which a layer's sums are about as large as its inputs. Neighbouring levels begin with
        similar numbers."""
        level = torch.linspace(-1, 1, self.graph.levels)[:, None]
        for entry in self.graph.encoding:
            table = self.tensor(entry["table"])
            table.copy_(level * torch.randn(1, table.shape[1]) + 0.1 * torch.randn(table.shape))
        for layer in self.graph.layers:
            weighted = [tap for tap in layer["taps"] if "weight" in tap]
            inputs = sum(self.tensor(tap["weight"]).shape[0] for tap in weighted)
            for tap in weighted:
                form = self.graph.nodes[tap["source"]]["forms"][tap["form"]]["activation"]
                self.tensor(tap["weight"]).normal_(0, GAIN.get(form, 1) / math.sqrt(inputs))

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        assert (h is not None) == bool(self.graph.classes)
        values = Values(self, x)
        for layer in self.graph.layers:
            values.add(layer, h)
        return values.of[self.graph.head["node"]]

    def take(self, tensors: dict[str, np.ndarray]) -> None:
        """The numbers of a model file."""
        with torch.no_grad():
            for name in self.graph.shapes:
                self.tensor(name).copy_(torch.from_numpy(tensors[name].astype(np.float32)))


class Values:
    """The nodes of some images, one layer after the other."""

    def __init__(self, network: Network, x: Tensor):
        self.network, self.x = network, x
        self.of: dict[str, Tensor] = {}
        self.forms: dict[tuple[str, int], Tensor] = {}

    def form(self, source: str, form: int) -> Tensor:
        """[N, F, H, W]"""
        if (source, form) not in self.forms:
            self.forms[source, form] = self.made(source, form)
        return self.forms[source, form]

    def made(self, source: str, form: int) -> Tensor:
        graph = self.network.graph
        if source == "image":
            entry = graph.encoding[form]
            return F.embedding(self.x[:, entry["channel"]], self.network.tensor(entry["table"])).movedim(-1, 1)
        return ACTIVATIONS[graph.nodes[source]["forms"][form]["activation"]](self.of[source])

    def add(self, layer: dict[str, Any], h: Tensor | None) -> None:
        added = [self.network.tensor(name) for name in layer["add"]]
        total = self.sum(layer)
        if added:
            each = [table if table.dim() == 1 else F.embedding(h, table) for table in added]
            total = total + sum(each)[..., None, None]
        if "pre" in layer:
            self.of[layer["pre"]] = total
        if "gate" in layer:
            (f, a), (g, b) = zip((ACTIVATIONS[name] for name in layer["gate"]), total.chunk(2, dim=1))
            total = f(a) * g(b)
        if "residual" in layer:
            total = total + self.form(*layer["residual"])
        self.of[layer["target"]] = total

    def sum(self, layer: dict[str, Any]) -> Tensor:
        """Sums over the taps. Taps that select read their own pixel: all outputs, or with `outputs` one part after
        another."""
        selections = [tap for tap in layer["taps"] if "select" in tap]
        parts = [self.form(tap["source"], tap["form"])[:, slice(*tap["select"])] for tap in selections]
        if any("outputs" in tap for tap in selections):
            parts = [torch.cat(parts, dim=1)]
        weighted = [tap for tap in layer["taps"] if "weight" in tap]
        for place, group in groupby(weighted, key=lambda tap: (tap["source"], tap["form"])):
            parts.append(self.convolved(self.form(*place), list(group)))
        return sum(parts[1:], parts[0])

    def convolved(self, x: Tensor, taps: list[dict[str, Any]]) -> Tensor:
        """The taps as one convolution; where it has a position that no tap reads, its weights are 0."""
        weights = {(tap["row"], tap["column"]): self.network.tensor(tap["weight"]) for tap in taps}
        (top, bottom, row_step), (left, right, column_step) = map(span, zip(*weights))
        rows, columns = range(top, bottom + 1, row_step), range(left, right + 1, column_step)
        nothing = torch.zeros_like(next(iter(weights.values())))
        kernel = torch.stack([weights.get((row, column), nothing) for row in rows for column in columns])
        kernel = kernel.view(len(rows), len(columns), *nothing.shape).permute(3, 2, 0, 1)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        if (top, bottom, left, right) != (0, 0, 0, 0):
            x = F.pad(x, (-left, right, -top, bottom))
        return F.conv2d(x, kernel, dilation=(row_step, column_step))


def span(offsets: tuple[int, ...]) -> tuple[int, int, int]:
    """The first and last of some offsets, and the step that reaches all of them."""
    first, last = min(offsets), max(offsets)
    return first, last, math.gcd(*(offset - first for offset in offsets)) or 1


def key(name: str) -> str:
    return name.replace(".", "/")
