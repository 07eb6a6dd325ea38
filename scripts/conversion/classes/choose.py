"""One place for each tensor: where shapes and names leave one, that; else what a flag says; or a refusal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import ConversionError
from ..model_file import DEFAULT_SIDE
from ..names import Checkpoint
from ..network import Architecture, layer_names
from .places import Reading, Size, nearest, readings
from .tensors import Affine, Family, families
from .units import BOTH, STREAM_PLACES, Unit, placements, units

# Of images that people train on. Where their size is not told, a map may tell it.
USUAL_SIDES = range(16, 65)


@dataclass
class Option:
    """What a unit can be. `via` is the embedding that it projects; a source is such an embedding."""

    unit: Unit
    affine: Affine
    readings: list[Reading]
    via: Option | None = None
    source: bool = False
    transposed: bool = False

    @property
    def readable(self) -> bool:
        return self.source or bool(self.readings)


@dataclass
class Hypothesis:
    """How all units can be read with so many classes, at such a size."""

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


@dataclass(frozen=True)
class Choice:
    """A unit with its one reading."""

    unit: Unit
    affine: Affine
    reading: Reading
    via: Option | None

    @property
    def streams(self) -> tuple[str, ...]:
        return self.unit.wanted.streams if self.unit.wanted else BOTH

    @property
    def says(self) -> str:
        of = f" of {self.via.unit.label}" if self.via else ""
        only = "" if len(self.streams) == 2 else f", in the {self.streams[0]} stream alone"
        return f"{self.unit.label}: {self.reading.says}{of}{only}"


@dataclass(frozen=True)
class Chosen:
    classes: int = 0
    size: Size | None = None  # if a tensor tells it
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose(
    c: Checkpoint, a: Architecture, flags: list[str], told: dict[str, int], classes: int | None
) -> Chosen:
    """`told` has the height and width that flags or metadata tell, and `classes` is the number of names."""
    found = families(c, a)
    every = units(found, placements(c, found, flags))
    if not every:
        return Chosen()
    best = best_hypotheses(a, every, told)
    if len({hypothesis.classes for hypothesis in best}) > 1:
        best = [hypothesis for hypothesis in best if hypothesis.classes == classes] or best
    if len({hypothesis.classes for hypothesis in best}) > 1:
        raise ConversionError(disagreement(best))
    sizes = [hypothesis for hypothesis in best if hypothesis.options != best[0].options]
    if sizes:
        raise ConversionError(unsized([best[0], *sizes]))
    (hypothesis,) = best[:1]
    problems = [problem for option in hypothesis.options if (problem := trouble(a, option, hypothesis))]
    if problems:
        raise ConversionError(
            f"{len(problems)} kinds of tensors beside the layers of {c.convention.title} leave a question"
            + "".join(f"\n  {problem}" for problem in problems)
        )
    choices = [
        Choice(option.unit, option.affine, option.readings[0], option.via)
        for option in hypothesis.options
        if not option.source
    ]
    feeding = [choice for choice in choices if choice.reading.flag.endswith("-ones")]
    if a.concatenated and len(feeding) != 1:
        raise ConversionError(
            f"the first convolutions take {a.concatenated} channels beside the colours and the channel of "
            f"ones, which one class tensor should give, [classes, {a.concatenated}]; "
            + (f"{len(feeding)} do" if feeding else "none does")
        )
    sized = any(choice.reading.sized for choice in choices)
    return Chosen(
        hypothesis.classes,
        hypothesis.size if sized else None,
        choices,
        [note for option in hypothesis.options for note in alternatives(option)],
    )


# ---- Hypotheses ----


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
    """Sizes of images, square unless one side is told, at which so many values are a map: an image, of any
    size, or filters at the first or the deepest level, of a size that images have in practice."""
    deep = 2 ** (a.levels - 1)
    for channels, scale in ((a.channels, 1), (a.filters, 1), (a.filters, deep)):
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
        doubt_twins(option, options)
    return Hypothesis(classes, size, options)


def doubt_twins(option: Option, options: list[Option]) -> None:
    """Two tensors that fit one place alike may be two streams', or one may be left from an older network."""
    for other in options:
        alike = [x.readings[:1] for x in (option, other) if not x.unit.wanted and x.unit.kind == "single"]
        if other is not option and len(alike) == 2 and alike[0] and at(alike[0]) == at(alike[1]):
            doubt = f"{other.unit.label} fits it too"
            if option.readings[0].place in STREAM_PLACES:
                place = option.readings[0].place
                doubt += f"; one may be for u alone ({place}-u) and one for ul ({place}-ul)"
            option.readings = [reading._replace(doubt=doubt) for reading in option.readings]


def at(found: list[Reading]) -> list[tuple]:
    return [(reading.flag, reading.shape) for reading in found]


def option_of(a: Architecture, unit: Unit, classes: int, size: Size, every: list[Unit]) -> Option:
    """As a map of the one-hot class: an embedding, a Linear, and only where that fits nothing a Linear without
    a bias, whose shape is an embedding's the other way round."""
    for transposed in (False, True):
        affine = unit.first.affine(transposed)
        if affine and affine.inputs == classes:
            found = admitted(unit, readings(a, size, unit, affine, alone(unit, every)))
            if doubt := unusual(a, unit, affine, transposed):
                found = [reading._replace(doubt=doubt) for reading in found]
            if found:
                return Option(unit, affine, found, transposed=transposed)
    return Option(unit, unit.first.affine(False) or Affine(0, (), 0), [])


def unusual(a: Architecture, unit: Unit, affine: Affine, transposed: bool) -> str:
    """Why a reading that fits may still be none."""
    if transposed:
        return f"it would be a Linear without a bias, of {affine.inputs} classes"
    if unit.first.blocks and not regular(set(unit.first.members), layer_names(a)[0]):
        return f"of {len(layer_names(a)[0])} blocks, {len(unit.first.members)} have it"
    return "it is a part of a layer" if unit.first.within else ""


def regular(members: set[str], blocks: list[str]) -> bool:
    """Whether these are all blocks, or all of a stream, a pass, or a stream of a pass."""
    groups: dict[tuple[str, str], set[str]] = {}
    for block in blocks:
        parts = block.split(".")
        groups.setdefault((parts[0], parts[-1]), set()).add(block)
    return members <= set(blocks) and all(not group & members or group <= members for group in groups.values())


def project(a: Architecture, option: Option, options: list[Option], classes: int, size: Size) -> None:
    """A Linear that is none of the one-hot class may be one of the only embedding with as many values; so is
    one that could be either where the embedding would have no place else."""
    unit, affine = option.unit, option.affine
    of = [
        other
        for other in options
        if other.affine[:2] == (classes, (affine.inputs,))
        and other.unit.kind == "single"
        and not other.unit.first.blocks
        and not (other.unit.wanted and other.readings)
    ]
    if affine.axis == 0 or len(of) != 1:
        return
    if affine.inputs == classes and of[0].readings:
        of[0].readings = [r._replace(doubt=f"or it goes through {unit.label}") for r in of[0].readings]
        return
    if option.readings and affine.inputs != classes:
        return
    found = admitted(unit, readings(a, size, unit, affine, alone(unit, [other.unit for other in options])))
    if asked := of[0].unit.wanted:  # a place for the embedding is one for what goes through it
        found = [reading._replace(doubt="") for reading in found if asked.admits(reading.flag)]
    if found:
        # One that goes into every block is known to be without a nonlinearity before it.
        known = [asked is not None or unit.first.blocks and reading.flag == "block" for reading in found]
        option.readings = [
            reading._replace(
                says=f"{reading.says}, as a projection", doubt="" if sure else "a nonlinearity leaves no trace"
            )
            for reading, sure in zip(found, known)
        ]
        option.via = of[0]
        of[0].source = True


def admitted(unit: Unit, found: list[Reading]) -> list[Reading]:
    """Those that the flag asks for; without one, none for what its name calls a factor."""
    if unit.wanted:
        return [reading for reading in found if unit.wanted.admits(reading.flag)]
    return [] if unit.film else found


def alone(unit: Unit, every: list[Unit]) -> bool:
    """Whether no other tensor in the blocks has as many values."""
    affine = unit.first.affine(False)
    alike = [other for other in every if other.first.blocks and other.kind == unit.kind == "single"]
    return len([other for other in alike if affine and other.first.affine(False) == affine]) < 2


# ---- Refusals ----


def trouble(a: Architecture, option: Option, h: Hypothesis) -> str | None:
    unit, found = option.unit, option.readings
    if option.source:
        return None
    if not found:
        return lost(a, option, h)
    if unit.wanted or len(found) == 1 and not found[0].doubt:
        return None
    ways = [
        f"\n    {' '.join(f'--class-tensor {family.flag}={reading.flag}' for family in unit.families.values())}"
        f": {reading.says}" + (f" of {option.via.unit.label}" if option.via else "")
        for reading in found
    ]
    doubt = f"{found[0].doubt}; " if found[0].doubt else ""
    why = f"may be read as follows, and its shape does not tell; {doubt}choose"
    if len(found) == 1:
        why = f"fits one place, but is not taken unasked: {found[0].doubt}"
    return f"{unit.label} {why}{''.join(ways)}{unused(unit)}"


def lost(a: Architecture, option: Option, h: Hypothesis) -> str:
    unit, affine = option.unit, option.affine
    values = math.prod(affine.values)
    near = nearest(a, h.size, unit.first.blocks, values)
    if unit.wanted:
        free = Unit(unit.kind, unit.families, None)
        other = option_of(a, free, h.classes, h.size, [free]).readings
        could = ", ".join(dict.fromkeys(reading.flag for reading in other)) or f"none; the nearest is {near}"
        return (
            f"--class-tensor {unit.wanted.flag} contradicts the shape of {unit.label}, {values} values a class; "
            f"with {h.classes} classes and images of {h.size.height}×{h.size.width} it fits {could}"
        )
    if unit.film:
        return (
            f"{unit.label} has the name of a factor or a term of FiLM, γ ⊙ c + β, which is no sum and cannot "
            f"be read; if it is added and nothing else, say where with --class-tensor {unit.first.flag}=PLACE"
            + unused(unit)
        )
    if affine.inputs == 0:
        return f"{unit.label} is not a vector or a map a class; no place takes it{unused(unit)}"
    return (
        f"{unit.label} has no place: {values} values for each of {affine.inputs}; the nearest is {near}, with "
        f"{h.classes} classes and images of {h.size.height}×{h.size.width} (--height, --width)" + unused(unit)
    )


def unused(unit: Unit) -> str:
    flags = " ".join(f"--ignore '{family.flag}'" for family in unit.families.values())
    return f"\n    {flags}: if the network defines it and never uses it"


def disagreement(best: list[Hypothesis]) -> str:
    lines = []
    for number in dict.fromkeys(h.classes for h in best):
        h = next(h for h in best if h.classes == number)
        for option in h.options:
            if option.readable:
                lines.append(f"\n  {number} by {option.unit.label}{unused(option.unit)}")
    return (
        "tensors beside the layers disagree on the number of classes; say which of them the network never uses, "
        "or where one is used (--class-tensor NAME=PLACE)" + "".join(lines)
    )


def unsized(best: list[Hypothesis]) -> str:
    lines = []
    for h in best:
        says = [
            f"{option.unit.label}: {reading.says}"
            for option in h.options
            for reading in option.readings
            if reading.sized
        ]
        lines.append(
            f"\n  --height {h.size.height} --width {h.size.width}: {'; '.join(says) or 'no map at all'}"
        )
    return "the size of the images decides how tensors are read; say it" + "".join(dict.fromkeys(lines))


def alternatives(option: Option) -> list[str]:
    """Where a flag's place leaves arrangements, the one that is not taken, to be said aloud."""
    return [
        f"{option.unit.label} is read as {option.readings[0].says}; if it is {reading.says}: "
        f"--class-tensor {option.unit.first.flag}={reading.flag}"
        for reading in option.readings[1:]
    ]
