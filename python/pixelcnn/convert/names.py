"""The two published conventions: names, layouts and normalisation of tensors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import ConversionError
from .network import Architecture, Layer, outputs_per_mixture
from .readers import Source

AVERAGE = "/ExponentialMovingAverage"
TORCH_PARTS = {
    "weight_v": "V",
    "weight_g": "g",
    "bias": "b",
    "parametrizations.weight.original1": "V",
    "parametrizations.weight.original0": "g",
}


class Layout(NamedTuple):
    """Storage of a weight: transposed from ours, and with a gain along one axis of ours, over
    all others of which its norm is taken."""

    axes: tuple[int, ...]
    gain: int

    def stored(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[axis] for axis in self.axes)


@dataclass(frozen=True)
class Convention:
    title: str
    column: str  # of the table in network.py
    name: str  # of a tensor, for messages
    first: str  # scope of the first layer
    layouts: dict[str, Layout]
    gain_rank: int | None  # None: the gain has as many dimensions as the weight

    def gain_shape(self, layer: Layer) -> tuple[int, ...]:
        rank = self.gain_rank or len(layer.shape)
        return (layer.shape[self.layouts[layer.kind].gain],) + (1,) * (rank - 1)


TENSORFLOW = Convention(
    title="openai/pixel-cnn",
    column="tensorflow",
    name="model/{scope}/{part}",
    first="conv2d_0",
    layouts={
        "conv2d": Layout((0, 1, 2, 3), gain=3),
        "deconv2d": Layout((0, 1, 3, 2), gain=3),
        "dense": Layout((0, 1), gain=1),
    },
    gain_rank=1,
)
# PyTorch normalises over all but dim 0, which in a ConvTranspose2d is the input.
TORCH = Convention(
    title="pclucas14/pixel-cnn-pp",
    column="torch",
    name="{scope}.{part}",
    first="u_init.conv",
    layouts={
        "conv2d": Layout((3, 2, 0, 1), gain=3),
        "deconv2d": Layout((2, 3, 0, 1), gain=2),
        "dense": Layout((1, 0), gain=1),
    },
    gain_rank=None,
)


class Checkpoint:
    """A source whose names are understood. A tensor's key is the scope of its layer and its part:
    V, g, b (weight, gain, bias) or hw (the class weights)."""

    def __init__(self, source: Source, convention: Convention, values: str, suffix: str = ""):
        self.source = source
        self.convention = convention
        self.values = values
        self.suffix = suffix
        self.names: dict[tuple[str, str], str] = {}
        # Tensors that belong to no layer, and their names without the network's prefix.
        self.foreign: dict[str, str] = {}

    def add(self, key: tuple[str, str], name: str) -> None:
        if key in self.names:
            raise ConversionError(f"{self.names[key]} and {name} are for one and the same place")
        self.names[key] = name

    def add_foreign(self, name: str, shown: str) -> None:
        for other, same in self.foreign.items():
            if same == shown:
                raise ConversionError(f"{other} and {name} are for one and the same place")
        self.foreign[name] = shown

    def read(self, name: str) -> np.ndarray:
        """A tensor by its name in the file, in 64 bits."""
        array = self.source.read(name).astype(np.float64)
        if not np.isfinite(array).all():
            raise ConversionError(f"{name} holds NaN or infinite values")
        return array

    def name(self, key: tuple[str, str]) -> str:
        scope, part = key
        if self.convention is TORCH:
            part = {ours: torch for torch, ours in reversed(TORCH_PARTS.items())}[part]
        expected = self.convention.name.format(scope=scope, part=part) + self.suffix
        return self.names.get(key, expected)

    def shape(self, key: tuple[str, str]) -> tuple[int, ...]:
        if key not in self.names:
            raise ConversionError(f"missing: {self.name(key)}")
        return self.source.shapes[self.names[key]]

    def count(self, pattern: str) -> int:
        """Number of different matches of the group of `pattern` among the scopes."""
        matches = (re.match(pattern, scope) for scope, _ in self.names)
        return len({match[1] for match in matches if match})


def infer_architecture(c: Checkpoint) -> Architecture:
    if c.convention is TENSORFLOW:
        levels = 1 + (c.count(r"deconv2d_(\d+)") + 1) // 2
        # 3 input convs, 2(L − 1) strided ones, and 4 in each of the L·R blocks of the up pass and the
        # L·R + L − 1 blocks of the down pass.
        blocks = max(1, round((c.count(r"conv2d_(\d+)") - 3 - 6 * (levels - 1)) / (8 * levels)))
        # One skip a block up, two a block down, and the output comes last.
        block, output = "conv2d_3", f"dense_{3 * levels * blocks + 2 * (levels - 1)}"
    else:
        levels = c.count(r"up_layers\.(\d+)\.")
        blocks = c.count(r"up_layers\.0\.u_stream\.(\d+)\.")
        block, output = "up_layers.0.u_stream.0.conv_input.conv", "nin_out.lin_a"

    def dimension(scope: str, kind: str, axis: int) -> int:
        shape, layout = c.shape((scope, "V")), c.convention.layouts[kind]
        if len(shape) != len(layout.axes):
            raise ConversionError(
                f"{c.name((scope, 'V'))} has shape {list(shape)}, expected {len(layout.axes)} dimensions"
            )
        return shape[layout.axes.index(axis)]

    filters = dimension(c.convention.first, "conv2d", 3)
    first_inputs = dimension(c.convention.first, "conv2d", 2)
    inputs = dimension(block, "conv2d", 2)
    outputs = dimension(output, "dense", 1)
    hw = ("conditional_weights_0", "hw")
    classes = c.shape(hw)[0] if hw in c.names and c.shape(hw) else 0

    first_name, block_name, output_name = (
        c.name((scope, "V")) for scope in (c.convention.first, block, output)
    )
    channels, concatenated = split_channels(c, first_name, first_inputs, outputs)
    if filters == 0 or inputs not in (filters, 2 * filters):
        raise ConversionError(
            f"{first_name} gives {filters} filters, but {block_name} takes {inputs} channels, "
            f"expected {filters} (elu, relu) or {2 * filters} (concat_elu)"
        )
    if outputs == 0 or outputs % outputs_per_mixture(channels):
        raise ConversionError(
            f"{output_name} has {outputs} outputs, expected a multiple of "
            f"{outputs_per_mixture(channels)}, which a mixture component takes at {channels} channels"
        )
    evidence = f"{filters} filters and {channels} channels by {first_name}"
    evidence += f", {outputs} outputs by {output_name}"
    if inputs == 2 * filters:
        evidence += f", concat_elu by {block_name}"
    if classes:
        evidence += f", {classes} classes by {c.name(hw)}"
    doubles = inputs == 2 * filters
    return Architecture(
        channels, filters, blocks, levels, outputs, classes, doubles, evidence, concatenated
    )


def split_channels(c: Checkpoint, first: str, inputs: int, outputs: int) -> tuple[int, int]:
    """The image's channels, and those of the class, among all that the first convolutions take beside the channel of
    ones. The latter need a tensor beside the layers that can supply them."""
    if inputs - 1 in (1, 3):
        return inputs - 1, 0
    sizes = {size for name in c.foreign for size in c.source.shapes[name]}
    options = [(channels, inputs - 1 - channels) for channels in (3, 1)]
    options = [
        option for option in options if option[1] > 0 and outputs % outputs_per_mixture(option[0]) == 0
    ]
    for exact in (True, False):  # a value a channel, or a map
        for channels, more in options:
            if any(size == more if exact else size % more == 0 for size in sizes if size):
                return channels, more
    given = " or ".join(str(more) for _, more in options)
    raise ConversionError(
        f"{first} is for images of {inputs - 1} channels, expected 1 or 3"
        + (f", or a tensor [classes, {given}] for the rest" if given else "")
    )
