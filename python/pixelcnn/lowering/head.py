"""The meaning of the module's output: the head, and the order of its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import Refused
from .lower import Lowering
from .values import Axes, Pending, Sum, Value, atoms

KINDS = ("softmax", "logistic_mixture", "bernoulli")


@dataclass
class Head:
    """The kind, and the conversion of the module's output to [N, H, W, F] in the model file's order."""

    kind: str
    axes: Axes
    order: np.ndarray
    normalised: str | None  # what the module does at the end and the graph leaves out
    levels: int
    steps: bool = False

    def arranged(self, output: torch.Tensor) -> np.ndarray:
        """The module's output as [N, H, W, F]."""
        full = atoms(self.axes)
        batch = output.numel() // math.prod(a.size for a in full if a.kind != "b")
        found = [k for kind in "bhwc" for k, a in enumerate(full) if a.kind == kind]
        sizes = [batch if a.kind == "b" else a.size for a in full]
        t = output.detach().cpu().double().reshape(sizes).permute(found)
        return t.reshape(*[sizes[k] for k in found[:3]], -1).numpy()[..., self.order]

    def parameters(self, output: torch.Tensor) -> np.ndarray:
        """The head's parameters [N, H, W, F] of the module's output: logits, if it normalises them."""
        arranged = self.arranged(output)
        if self.normalised == "softmax":
            return np.log(np.maximum(arranged, 1e-300))
        if self.normalised == "sigmoid":
            return np.log(np.maximum(arranged, 1e-300)) - np.log(np.maximum(1 - arranged, 1e-300))
        return arranged

    def finished(self, logits: np.ndarray) -> np.ndarray:
        """The graph's output after the module's last operations."""
        if self.normalised is None:
            return logits
        if self.normalised == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        grid = logits.reshape(*logits.shape[:-1], -1, self.levels)
        grid = grid - grid.max(-1, keepdims=True)
        grid = grid - np.log(np.exp(grid).sum(-1, keepdims=True))
        return (np.exp(grid) if self.normalised == "softmax" else grid).reshape(logits.shape)


def read_head(
    lowering: Lowering, value: Value, levels: int, kind: str | None, output_axes: str | None
) -> tuple[Sum, Head]:
    """The head of an output, and its sum in the model file's order."""
    channels = lowering.graph.nodes[0].channels
    normalised, over = value.normalised or (None, levels)
    if over != levels:
        raise Refused(f"the module's {normalised} is over an axis of {over}, not over the {levels} levels")
    value = lowering.natural(replace(value, normalised=None))
    if all(isinstance(b, Pending) and b.activation == "sigmoid" for b in value.blocks):
        normalised = "sigmoid"
        value = replace(value, blocks=[b.argument for b in value.blocks if isinstance(b, Pending)])
    if sorted(a.kind for a in atoms(value.axes) if a.kind != "c") != ["b", "h", "w"]:
        raise Refused(f"an output of shape {value.shape} without one axis each of images, rows and columns")
    kind = _kind(value.channels, channels, levels, kind, normalised)
    order = np.arange(value.channels)
    if kind == "softmax":
        order = _softmax_order(value, channels, levels, output_axes)
    blocks = lowering.algebra.gathered(value.blocks, order)
    return lowering.algebra.joined(blocks), Head(kind, value.axes, order, normalised, levels)


def fits_mixture(count: int, channels: int, levels: int) -> bool:
    """A mixture of logistics has 10 numbers a component for three channels, 3 for one."""
    return levels == 256 and ((channels == 3 and count % 10 == 0) or (channels == 1 and count % 3 == 0))


def _kind(count: int, channels: int, levels: int, told: str | None, normalised: str | None) -> str:
    fits = {
        "softmax": count == channels * levels and normalised != "sigmoid",
        "logistic_mixture": fits_mixture(count, channels, levels) and normalised is None,
        "bernoulli": levels == 2 and count == channels and normalised in (None, "sigmoid"),
    }
    told = {"logistic": "logistic_mixture"}.get(told or "", told)
    if told is not None:
        if told not in KINDS:
            raise Refused(f"no head is called {told!r}: softmax, logistic or bernoulli")
        if not fits[told]:
            raise Refused(
                f"{count} outputs a pixel do not fit the head {told} of {channels} channels with {levels} levels"
            )
        return told
    readings = [k for k in KINDS if fits[k]]
    if len(readings) != 1:
        listed = " or ".join(readings) if readings else "no head"
        raise Refused(
            f"{count} outputs a pixel fit {listed} for {channels} channels with {levels} levels"
            + (
                ": say head=…"
                if readings
                else " (softmax: channels·levels; bernoulli: channels; logistic: 10 or 3 a component)"
            )
        )
    return readings[0]


def _softmax_order(value: Value, channels: int, levels: int, output_axes: str | None) -> np.ndarray:
    """The output's channel for level l of channel c, as index [C·L]."""
    held = [a.size for a in atoms(value.axes) if a.kind == "c" and a.size > 1]
    if channels == 1:
        return np.arange(levels)
    if output_axes is not None:
        letters = [x for x in output_axes.upper() if x in "CK"]
        if sorted(letters) != ["C", "K"]:
            raise Refused(f"output_axes={output_axes!r} must name C (channels) and K (levels) once each, such as NKCHW")
        sizes = [channels if x == "C" else levels for x in letters]
        if held not in (sizes, [channels * levels]):
            raise Refused(f"output_axes={output_axes!r} does not fit an output of shape {value.shape}")
    else:
        readings = [s for s in ([channels, levels], [levels, channels]) if held == s]
        if len(readings) != 1:
            raise Refused(
                f"an output of shape {value.shape} can be read with channels before levels (output_axes='NCKHW') "
                "or levels before channels (output_axes='NKCHW')"
            )
        sizes = readings[0]
        letters = ["C", "K"] if sizes == [channels, levels] else ["K", "C"]
    grid = np.arange(channels * levels).reshape(sizes)
    return (grid if letters == ["C", "K"] else grid.T).ravel()
