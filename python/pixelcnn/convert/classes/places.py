"""The places that a class can have in the network, and which of them a tensor's shape fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..network import Architecture
from .tensors import Affine
from .units import STREAM_PLACES, Unit

FILM = "FiLM, which multiplies by it, looks the same"


class Size(NamedTuple):
    height: int
    width: int


class Reading(NamedTuple):
    """One place that fits. `shape` is the shape of a class's values there: channels, rows, columns, 1 along constant
    axes. A reading with a `caveat` is taken only if a flag names it."""

    flag: str
    shape: tuple[int, int, int]
    says: str
    caveat: str = ""

    @property
    def place(self) -> str:
        return self.flag.partition("-")[0]

    @property
    def feeds(self) -> bool:
        """True if it supplies channels that the first convolutions take beside the image's."""
        return self.flag.endswith("-ones")

    @property
    def sized(self) -> bool:
        return self.shape[1:] != (1, 1)


def network_places(a: Architecture, size: Size) -> Iterator[Reading]:
    """Places of a tensor that belongs to no block."""
    (h, w), c, f, x = size, a.channels, a.filters, a.concatenated
    deep = 2 ** (a.levels - 1)
    if x:
        for rows, columns, what in ((1, 1, "constant channels"), (h, w, "channels, a map a class each,")):
            between = f"{x} {what} between the colours and the channel of ones"
            yield Reading("input-before-ones", (x, rows, columns), between)
            yield Reading("input-after-ones", (x, rows, columns), f"{x} {what} after the channel of ones")
    yield Reading("input", (c, h, w), "an image a class, added to the input")
    yield Reading("input", (c, 1, 1), "a value a colour channel, added to the input")
    yield Reading("input-rows", (1, h, 1), "a value a row, added to the input")
    yield Reading("input-columns", (1, 1, w), "a value a column, added to the input")
    yield Reading("first", (f, 1, 1), "a vector, added to what the first convolutions make")
    yield Reading("first", (f, h, w), "a map, added to what the first convolutions make")
    yield Reading("bottleneck", (f, 1, 1), "a vector, added to the pair that starts the down pass")
    yield Reading(
        "bottleneck", (f, h // deep, w // deep), "a map, added to the pair that starts the down pass"
    )
    yield Reading("remembered", (f, 1, 1), "a vector, added to all that the down pass remembers")
    yield Reading("block", (f, 1, 1), "a vector, added in every block to its first convolution")
    yield Reading("gate", (2 * f, 1, 1), "a vector, added in every block to its second convolution", FILM)
    yield Reading("output", (a.outputs, 1, 1), "a vector, added to the output")


def block_places(a: Architecture, unit: Unit, alone: bool) -> Iterator[Reading]:
    """Places of a tensor in each block. If two or more have a value per filter, any may be half of a gate."""
    f = a.filters
    if unit.kind == "halves":
        yield Reading("gate", (f, 1, 1), "the two halves of what is added to a block's second convolution")
        return
    yield Reading("block", (f, 1, 1), "a vector a block, added to its first convolution")
    yield Reading("gate", (2 * f, 1, 1), "a vector a block, added to its second convolution")
    if not alone:
        yield Reading("gate-a", (f, 1, 1), "half of what is added to the second convolution: a of a·σ(b)")
        yield Reading("gate-b", (f, 1, 1), "half of what is added to the second convolution: b of a·σ(b)")


def fits(values: tuple[int, ...], shape: tuple[int, int, int]) -> bool:
    if len(values) == 1:
        return values[0] == math.prod(shape)
    return (1,) * (3 - len(values)) + values == shape


def readings(a: Architecture, size: Size, unit: Unit, affine: Affine, alone: bool) -> list[Reading]:
    """All places that the values' shape fits."""
    blocks = unit.first.blocks
    places = block_places(a, unit, alone) if blocks else network_places(a, size)
    found = {
        (reading.flag, reading.shape): reading for reading in places if fits(affine.values, reading.shape)
    }
    fitting = list(found.values())
    if any(reading.feeds for reading in fitting):  # they must come from somewhere
        fitting = [reading for reading in fitting if reading.feeds]
    if unit.kind == "streams":
        fitting = [reading for reading in fitting if reading.place in STREAM_PLACES]
        if any(word in unit.label.lower() for word in ("middle", "bottleneck")):
            fitting = [reading for reading in fitting if reading.place == "bottleneck"]
    return fitting


def nearest(a: Architecture, size: Size, blocks: bool, values: int) -> str:
    """The place whose number of values comes closest, for a message."""
    options = [(reading.place, math.prod(reading.shape)) for reading in network_places(a, size)]
    if blocks:
        options = [("block", a.filters), ("gate", 2 * a.filters)]
    place, count = min(options, key=lambda option: abs(math.log(max(1, values) / option[1])))
    return f"{place}, which takes {count} values a class"
