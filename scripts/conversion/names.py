"""The two published conventions: how they name tensors, lay them out, and normalise weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from . import ConversionError, listing
from .network import Architecture, Layer, outputs_per_mixture
from .readers import Source

AVERAGE = "/ExponentialMovingAverage"
TENSORFLOW_NAME = re.compile(rf"model/(\w+)/(V|g|b|hw)({AVERAGE})?")
# What training leaves beside the weights: the slots and counters of TensorFlow's Adam and those of
# the reference code's own, whose slots are variables without a name.
TENSORFLOW_IGNORED = re.compile(
    r"(.+/)?(Adam(_\d+)?|adam_t(_\d+)?|Variable(_\d+)?|beta[12]_power(_\d+)?|global_step)"
)
TORCH_NAME = re.compile(
    r"(?:module\.)?(.+)\.(weight_v|weight_g|bias|parametrizations\.weight\.original[01])"
)
TORCH_PARTS = {
    "weight_v": "V",
    "weight_g": "g",
    "bias": "b",
    "parametrizations.weight.original1": "V",
    "parametrizations.weight.original0": "g",
}


class Layout(NamedTuple):
    """How a weight is stored: transposed from ours, and with a gain along one axis of ours, over
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

    def add(self, key: tuple[str, str], name: str) -> None:
        if key in self.names:
            raise ConversionError(f"{self.names[key]} and {name} are for one and the same place")
        self.names[key] = name

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
        """How many different matches the group of `pattern` has among the scopes."""
        matches = (re.match(pattern, scope) for scope, _ in self.names)
        return len({match[1] for match in matches if match})


def understand(source: Source, raw: bool) -> Checkpoint:
    """Whose names these are, and the place of every tensor that is not to be ignored."""
    if any(TENSORFLOW_NAME.fullmatch(name) for name in source.shapes):
        return understand_tensorflow(source, raw)
    if any(name.removeprefix("module.").startswith("u_init.") for name in source.shapes):
        return understand_torch(source)
    raise ConversionError(
        f"not a PixelCNN++ checkpoint that this script knows\n"
        f"  expected: model/conv2d_0/V and so on, as in {TENSORFLOW.title},\n"
        f"            or u_init.conv.weight_v and so on, as in {TORCH.title}\n"
        f"  found: {listing(sorted(source.shapes)) or 'no tensors'}"
    )


def understand_tensorflow(source: Source, raw: bool) -> Checkpoint:
    matches = {name: TENSORFLOW_NAME.fullmatch(name) for name in source.shapes}
    foreign = [n for n, match in matches.items() if not match and not TENSORFLOW_IGNORED.fullmatch(n)]
    refuse_foreign(foreign, TENSORFLOW)
    kinds = {bool(match[3]) for match in matches.values() if match}
    if kinds == {True, False}:
        averaged = not raw
        values = "the raw values, as --raw asks" if raw else "the exponential moving averages"
    else:
        (averaged,) = kinds
        values = "the exponential moving averages" if averaged else "the values, which are not averaged"
        if averaged and raw:
            raise ConversionError("--raw: the file holds nothing but exponential moving averages")
    checkpoint = Checkpoint(source, TENSORFLOW, values, AVERAGE if averaged else "")
    for name, match in matches.items():
        if match and bool(match[3]) == averaged:
            checkpoint.add((match[1], match[2]), name)
    return checkpoint


def understand_torch(source: Source) -> Checkpoint:
    matches = {name: TORCH_NAME.fullmatch(name) for name in source.shapes}
    refuse_foreign([name for name, match in matches.items() if not match], TORCH)
    checkpoint = Checkpoint(source, TORCH, "the values, which are not averaged")
    for name, match in matches.items():
        checkpoint.add((match[1], TORCH_PARTS[match[2]]), name)
    return checkpoint


def refuse_foreign(names: Iterable[str], convention: Convention) -> None:
    if names := sorted(names):
        raise ConversionError(
            f"{len(names)} tensors have names that {convention.title} does not use: {listing(names)}"
        )


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
    channels = dimension(c.convention.first, "conv2d", 2) - 1
    inputs = dimension(block, "conv2d", 2)
    outputs = dimension(output, "dense", 1)
    hw = ("conditional_weights_0", "hw")
    classes = c.shape(hw)[0] if hw in c.names and c.shape(hw) else 0

    first_name, block_name, output_name = (
        c.name((scope, "V")) for scope in (c.convention.first, block, output)
    )
    if channels not in (1, 3):
        raise ConversionError(f"{first_name} is for images of {channels} channels, expected 1 or 3")
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
    return Architecture(channels, filters, blocks, levels, outputs, classes, doubles, evidence)
