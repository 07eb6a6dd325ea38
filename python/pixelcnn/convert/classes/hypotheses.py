"""Possible meanings of each tensor, for every number of classes and every size that the tensors allow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..model_file import DEFAULT_SIDE
from ..network import Architecture, layer_names
from .places import Reading, Size, readings
from .tensors import Affine
from .units import STREAM_PLACES, Unit

# Sides of images that people train on. If the size is unknown, a map may tell it.
USUAL_SIDES = range(16, 65)


@dataclass
class Option:
    """Possible readings of a unit. `via` is the embedding that it projects; a source is such an embedding."""

    unit: Unit
    affine: Affine
    readings: list[Reading]
    via: Option | None = None
    source: bool = False
    transposed: bool = False

    @property
    def readable(self) -> bool:
        return self.source or bool(self.readings)

    @property
    def placed(self) -> bool:
        """True if it has a place of its own. Channels that the first convolutions take must be given, even if they go
        through another tensor too."""
        return not self.source or any(reading.feeds for reading in self.readings)


@dataclass
class Hypothesis:
    """Readings of all units for a number of classes and a size."""

    classes: int
    size: Size
    options: list[Option]

    @property
    def cost(self) -> tuple[int, int, int, int]:
        """Flags that fit nothing, then tensors without a place, then embeddings the other way round, then
        tensors for another number of classes."""
        lost = [option for option in self.options if not option.readable]
        flags = sum(option.unit.wanted is not None for option in lost)
        turned = sum(option.transposed for option in self.options)
        others = sum(option.affine.inputs != self.classes for option in self.options)
        return flags, len(lost), turned, others


def best_hypotheses(a: Architecture, every: list[Unit], told: dict[str, int]) -> list[Hypothesis]:
    affines = [affine for unit in every for t in (False, True) if (affine := unit.first.affine(t))]
    numbers = dict.fromkeys(affine.inputs for affine in affines) or {0: None}
    sizes = {Size(told.get("height", DEFAULT_SIDE), told.get("width", DEFAULT_SIDE)): None}
    if len(told) < 2:
        sizes |= dict.fromkeys(size for affine in affines for size in sizes_of(a, affine.values, told))
    hypotheses = [hypothesis(a, every, classes, size) for classes in numbers for size in sizes]
    least = min(h.cost for h in hypotheses)
    return [h for h in hypotheses if h.cost == least]


def sizes_of(a: Architecture, values: tuple[int, ...], told: dict[str, int]) -> Iterator[Size]:
    """Sizes of images, square unless one side is known, at which this many values are a map: an image of any size, or
    at usual sizes channels beside the image, or filters at the first or the deepest level."""
    deep = 2 ** (a.levels - 1)
    beside = [(a.concatenated, 1)] if a.concatenated else []
    for channels, scale in ((a.channels, 1), (a.filters, 1), (a.filters, deep), *beside):
        pixels, rest = divmod(math.prod(values), channels)
        if rest or len(values) != 1 or pixels < 2:
            continue
        height = told.get("height", scale * math.isqrt(pixels)) // scale
        width = told.get("width", scale * pixels // max(1, height)) // scale
        size = Size(height * scale, width * scale)
        usual = channels == a.channels or all(side in USUAL_SIDES for side in size)
        if height * width == pixels and not (size.height % deep or size.width % deep) and usual:
            yield size


def hypothesis(a: Architecture, every: list[Unit], classes: int, size: Size) -> Hypothesis:
    options = [option_of(a, unit, classes, size, every) for unit in every]
    for option in options:
        project(a, option, options, classes, size)
    for option in options:
        caveat_for_twins(option, options)
    return Hypothesis(classes, size, options)


def caveat_for_twins(option: Option, options: list[Option]) -> None:
    """Two tensors that fit one place alike may be two streams', or one may be left from an older network."""

    def asked(x: Option) -> bool:
        return bool(x.readings) and not (x.unit.wanted or x.source) and x.unit.kind == "single"

    for other in options:
        if other is option or not asked(option) or not asked(other):
            continue
        reading = option.readings[0]
        if reading[:2] == other.readings[0][:2]:
            caveat = f"{other.unit.label} fits it too"
            if reading.place in STREAM_PLACES:
                caveat += f", and one may be for u alone ({reading.place}-u), the other for ul ({reading.place}-ul)"
            option.readings = [reading._replace(caveat=caveat) for reading in option.readings]


def option_of(a: Architecture, unit: Unit, classes: int, size: Size, every: list[Unit]) -> Option:
    """A unit as a map of the one-hot class: an embedding, a Linear, and only if that fits nothing a Linear
    without a bias, whose shape is an embedding's the other way round."""
    for transposed in (False, True):
        affine = unit.first.affine(transposed)
        if affine and affine.inputs == classes:
            found = admitted(unit, readings(a, size, unit, affine, alone(unit, every)))
            if caveat := unusual(a, unit, affine, transposed):
                found = [reading._replace(caveat=caveat) for reading in found]
            if found:
                return Option(unit, affine, found, transposed=transposed)
    return Option(unit, unit.first.affine(False) or Affine(0, (), 0), [])


def unusual(a: Architecture, unit: Unit, affine: Affine, transposed: bool) -> str:
    """The reason why a reading that fits may still be wrong; empty if there is none."""
    if transposed:
        return f"it would be a Linear without a bias, of {affine.inputs} classes"
    if unit.first.blocks and not regular(set(unit.first.members), layer_names(a)[0]):
        return f"of {len(layer_names(a)[0])} blocks, {len(unit.first.members)} have it"
    return "it is a part of a layer" if unit.first.within else ""


def regular(members: set[str], blocks: list[str]) -> bool:
    """True if these are all blocks, or all of a stream, a pass, or a stream of a pass."""
    groups: dict[tuple[str, str], set[str]] = {}
    for block in blocks:
        parts = block.split(".")
        groups.setdefault((parts[0], parts[-1]), set()).add(block)
    return members <= set(blocks) and all(
        not group & members or group <= members for group in groups.values()
    )


def project(a: Architecture, option: Option, options: list[Option], classes: int, size: Size) -> None:
    """A Linear that is none of the one-hot class may be one of the only embedding with as many values; so is
    one that could be either where the embedding would have no place else."""
    unit = option.unit
    affine = unit.first.affine(False)
    if unit.first.blocks and affine and affine.axis == 0:
        affine = unit.first.affine(
            True
        )  # without a bias, in blocks, where no embedding would have this shape
    if affine is None or affine.axis == 0:
        return
    of = [
        other
        for other in options
        if other.affine[:2] == (classes, (affine.inputs,))
        and other is not option
        and other.unit.kind == "single"
        and not other.unit.first.blocks
        and not (other.unit.wanted and other.readings and not other.readings[0].feeds)
    ]
    if len(of) != 1 or option.readings and affine.inputs != classes:
        return
    source = of[0]
    if affine.inputs == classes and source.readings:
        source.readings = [r._replace(caveat=f"or it goes through {unit.label}") for r in source.readings]
        return
    found = admitted(unit, readings(a, size, unit, affine, alone(unit, [other.unit for other in options])))
    asked = source.unit.wanted and not source.readings
    if asked:  # a place for the embedding is one for what goes through it
        found = [reading for reading in found if source.unit.wanted.admits(reading.flag)]
    if found:
        option.readings = [
            reading._replace(
                says=f"{reading.says}, as a projection",
                caveat="" if asked else caveat_of_projection(unit, reading),
            )
            for reading in found
        ]
        option.affine, option.transposed, option.via = affine, False, source
        source.source = True


def caveat_of_projection(unit: Unit, reading: Reading) -> str:
    """One that goes into every block's first convolution is known to be without a nonlinearity before it, if
    it is no part of a sequence, where names are numbers."""
    if unit.first.blocks and reading.flag == "block" and not re.search(r"(^|\.)\d+$", unit.first.name):
        return ""
    return "a nonlinearity before it would leave no trace"


def admitted(unit: Unit, found: list[Reading]) -> list[Reading]:
    """Readings that the flag selects; without a flag, none if the name says that it is a factor."""
    if unit.wanted:
        return [reading for reading in found if unit.wanted.admits(reading.flag)]
    return [] if unit.film else found


def alone(unit: Unit, every: list[Unit]) -> bool:
    """True if no other tensor in the blocks has the same number of values."""
    affine = unit.first.affine(False)
    alike = [other for other in every if other.first.blocks and other.kind == unit.kind == "single"]
    return len([other for other in alike if affine and other.first.affine(False) == affine]) < 2
