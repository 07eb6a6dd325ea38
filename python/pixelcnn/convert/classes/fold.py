"""Class tensors, folded in 64 bits into the tensors of our model file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..network import Architecture, layer_names
from .choose import Choice, Chosen
from .places import Size
from .units import BOTH

# The places of our file, and the places of flags that go into each.
PLACES = {
    "input": {"input", "first"},
    "bottleneck": {"bottleneck", "remembered"},  # the last pair that is remembered starts the down pass
    "remembered": {"remembered"},
    "conv_in": {"block"},
    "conv_out": {"gate"},
    "output": {"output"},
}
# The first convolutions of a stream, whose sum it is, and the axis along which their output is shifted.
FIRST = {"vertical": {"input.vertical": 0}, "horizontal": {"input.above": 0, "input.left": 1}}


def class_places(chosen: Chosen) -> list[str]:
    used = {choice.reading.place for choice in chosen.choices}
    return [place for place, given in PLACES.items() if given & used]


def fold_classes(
    chosen: Chosen, a: Architecture, size: Size, first: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of every class tensor of our file. `first` has the weights of the
    first convolutions, with all the inputs that they have in the checkpoint."""
    blocks, nodes = layer_names(a)
    remembered = {stream: [f"{node}.remembered" for node in nodes[stream]] for stream in BOTH}
    bottleneck = {stream: [f"bottleneck.{stream}"] for stream in BOTH}
    shares: dict[str, np.ndarray] = {}

    def add(name: str, share: np.ndarray) -> None:
        name = f"{name}.class.weight"
        shares[name] = plus(shares[name], share) if name in shares else share

    def add_to_streams(choice: Choice, nodes: dict[str, list[str]]) -> None:
        """A stream without values gets zeros, so that the file is uniform."""
        pair = choice.unit.kind == "streams"
        for stream in BOTH:
            share = values(choice, stream if pair else "")
            if stream not in choice.streams:
                share = np.zeros((a.classes, a.filters))
            for node in nodes[stream]:
                add(node, share)

    seen = [choice for choice in chosen.choices if choice.reading.place == "input"]
    if seen:
        for stream, convolutions in FIRST.items():
            add(f"input.{stream}", convolved(seen, a, size, convolutions, first))
    for choice in chosen.choices:
        match choice.reading.place:
            case "first":
                add_to_streams(choice, {stream: [f"input.{stream}"] for stream in BOTH})
            case "bottleneck":
                add_to_streams(choice, bottleneck)
            case "remembered":
                add_to_streams(choice, remembered)
                add_to_streams(choice, bottleneck)
            case "block":
                for block in blocks:
                    add(f"{block}.conv_in", in_block(choice, block, a))
            case "gate":
                for block in blocks:
                    add(block, in_block(choice, block, a))
            case "output":
                add("output", values(choice))
    for name, share in shares.items():
        everywhere = share.ndim == 4 and (share == share[:, :1, :1]).all()
        yield name, share[:, 0, 0] if everywhere else share


def plus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum of two shares, of which either may be the same at every pixel."""
    if x.ndim != y.ndim:
        x, y = (share[:, None, None] if share.ndim == 2 else share for share in (x, y))
    return x + y


def values(choice: Choice, key: str = "", block: str = "") -> np.ndarray:
    """The values that each class adds there, [K, n] or [K, H, W, n]."""
    family = choice.unit.families[key]
    rows = family.rows(block, choice.affine)
    if choice.via:
        source = choice.via.unit.first
        rows = np.tensordot(source.rows("", choice.via.affine) + source.bias(""), rows, axes=1)
    rows = rows + family.bias(block)
    channels, height, width = choice.reading.shape
    if (height, width) == (1, 1):
        return rows.reshape(len(rows), channels)
    return rows.reshape(len(rows), channels, height, width).transpose(0, 2, 3, 1)


def in_block(choice: Choice, block: str, a: Architecture) -> np.ndarray:
    """The values of a block: its own, or those common to all blocks."""
    unit = choice.unit
    count = a.filters * (2 if choice.reading.place == "gate" else 1)
    if not unit.first.blocks:
        return values(choice)
    if block not in unit.first.members:
        return np.zeros((a.classes, count))
    given = [values(choice, key, block) for key in unit.families]
    nothing = np.zeros((a.classes, a.filters))
    if choice.reading.flag == "gate-a":
        given = [*given, nothing]
    if choice.reading.flag == "gate-b":
        given = [nothing, *given]
    return np.concatenate(given, axis=-1)


def convolved(
    seen: list[Choice],
    a: Architecture,
    size: Size,
    convolutions: dict[str, int],
    first: dict[str, np.ndarray],
) -> np.ndarray:
    """[K, H, W, F]: the shifted convolutions, without bias, of the values that a class adds to their inputs, with 0 in
    the channel of ones."""
    given = [(channels(choice, a), values(choice)) for choice in seen]
    given = [(at, share if share.ndim == 4 else share[:, None, None]) for at, share in given]
    result = np.zeros((a.classes, *size, a.filters))
    for k, made in enumerate(result):
        x = np.zeros((*size, a.inputs))
        for at, share in given:
            x[..., at] += share[k]
        for name, axis in convolutions.items():
            y = convolution(x, first[name])
            if axis == 0:
                made[1:] += y[:-1]
            else:
                made[:, 1:] += y[:, :-1]
    return result


def convolution(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Zero-padded so that the last row of the kernel is the pixel's own, and its columns are centred."""
    rows, columns = weight.shape[:2]
    height, width = x.shape[:2]
    x = np.pad(x, ((rows - 1, 0), (columns // 2, columns // 2), (0, 0)))
    return sum(x[i : i + height, j : j + width] @ weight[i, j] for i in range(rows) for j in range(columns))


def channels(choice: Choice, a: Architecture) -> slice:
    """The inputs of the first convolutions to which it is added, or which it supplies."""
    if choice.reading.flag == "input-before-ones":
        return slice(a.channels, a.channels + a.concatenated)
    if choice.reading.flag == "input-after-ones":
        return slice(a.channels + 1, a.inputs)
    return slice(0, a.channels)


def published_inputs(chosen: Chosen, a: Architecture) -> list[int]:
    """The colours and the channel of ones among the inputs of the first convolutions."""
    before = any(choice.reading.flag == "input-before-ones" for choice in chosen.choices)
    return [*range(a.channels), a.channels + (a.concatenated if before else 0)]
