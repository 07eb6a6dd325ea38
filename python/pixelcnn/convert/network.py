"""The network as a table: one row a layer, with our name, the published ones, and our shape."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

KERNELS = {"vertical": (2, 3), "horizontal": (2, 2)}
TORCH_STREAMS = {"vertical": "u", "horizontal": "ul"}


@dataclass(frozen=True)
class Architecture:
    """The network, as far as names and shapes tell."""

    channels: int
    filters: int
    blocks: int
    levels: int
    outputs: int
    classes: int
    doubles: bool  # concat_elu doubles the channels, elu and relu do not
    evidence: str  # these numbers, each with the tensor that it was read from
    concatenated: int = 0  # channels that tell the class, beside the image's and the one of ones

    @property
    def inputs(self) -> int:
        """Inputs of the first convolutions."""
        return self.channels + 1 + self.concatenated

    @property
    def mixtures(self) -> int:
        return self.outputs // outputs_per_mixture(self.channels)


def outputs_per_mixture(channels: int) -> int:
    """A logit, and for each channel mean, log scale and, in colour, a coefficient."""
    return 10 if channels == 3 else 3


class Layer(NamedTuple):
    name: str  # ours, without .weight and .bias
    tensorflow: str  # scope in openai/pixel-cnn
    torch: str  # module in pclucas14/pixel-cnn-pp, which has none for classes
    kind: str  # conv2d, deconv2d, dense, conditional_weights
    shape: tuple[int, ...]  # ours: [kh, kw, in, out], [in, out], [classes, out]


def network(a: Architecture) -> Iterator[Layer]:
    """All layers in the order of creation; TensorFlow names count in this order, kind by kind."""
    counters: dict[str, Iterator[int]] = defaultdict(itertools.count)
    f = a.filters
    phi = 2 * f if a.doubles else f

    def layer(kind: str, name: str, torch: str, *shape: int) -> Layer:
        return Layer(name, f"{kind}_{next(counters[kind])}", torch, kind, shape)

    def block(name: str, torch: str, i: int, skips: dict[str, int]) -> Iterator[Layer]:
        for s, kernel in KERNELS.items():
            at, torch_at = f"{name}.{i}.{s}", f"{torch}.{TORCH_STREAMS[s]}_stream.{i}"
            yield layer("conv2d", f"{at}.conv_in", f"{torch_at}.conv_input.conv", *kernel, phi, f)
            if s in skips:
                yield layer("dense", f"{at}.skip", f"{torch_at}.nin_skip.lin_a", skips[s] * phi, f)
            yield layer("conv2d", f"{at}.conv_out", f"{torch_at}.conv_out.conv", *kernel, phi, 2 * f)
            if a.classes:
                yield layer("conditional_weights", f"{at}.class", "", a.classes, 2 * f)

    def strides(kind: str, name: str, torch: str) -> Iterator[Layer]:
        for s, kernel in KERNELS.items():
            yield layer(kind, f"{name}.{s}", torch.format(TORCH_STREAMS[s]), *kernel, f, f)

    yield layer("conv2d", "input.vertical", "u_init.conv", 2, 3, a.inputs, f)
    yield layer("conv2d", "input.above", "ul_init.0.conv", 1, 3, a.inputs, f)
    yield layer("conv2d", "input.left", "ul_init.1.conv", 2, 1, a.inputs, f)
    for l in range(a.levels):
        for i in range(a.blocks):
            yield from block(f"up.{l}.block", f"up_layers.{l}", i, {"horizontal": 1})
        if l + 1 < a.levels:
            yield from strides("conv2d", f"up.{l}.stride", f"downsize_{{}}_stream.{l}.conv")
    for step, l in enumerate(reversed(range(a.levels))):
        for i in range(a.blocks + (step > 0)):
            skips = {"vertical": 1, "horizontal": 2}
            yield from block(f"down.{l}.block", f"down_layers.{step}", i, skips)
        if l > 0:
            yield from strides("deconv2d", f"down.{l}.stride", f"upsize_{{}}_stream.{step}.deconv")
    yield layer("dense", "output", "nin_out.lin_a", f, a.outputs)


def layer_names(a: Architecture) -> tuple[list[str], dict[str, list[str]]]:
    """All blocks, per stream; and per stream the features of the up pass that the down pass reads, without the last,
    which starts the down pass."""
    blocks = [
        layer.name.removesuffix(".conv_in") for layer in network(a) if layer.name.endswith(".conv_in")
    ]
    remembered = {}
    for s in KERNELS:
        levels = [
            [f"up.{l}.block.{i}.{s}" for i in range(a.blocks)] + [f"up.{l}.stride.{s}"]
            for l in range(a.levels)
        ]
        # The last level has no stride, and its last block is the one that starts the down pass.
        remembered[s] = [f"input.{s}", *itertools.chain(*levels)][:-2]
    return blocks, remembered
