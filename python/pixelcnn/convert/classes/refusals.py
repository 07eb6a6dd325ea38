"""Messages about tensors that cannot be read, or have several readings."""

from __future__ import annotations

import math

from .. import COMPILE
from ..network import Architecture
from .hypotheses import Hypothesis, Option, option_of
from .places import nearest
from .units import Unit


def trouble(a: Architecture, option: Option, h: Hypothesis) -> str | None:
    unit, found = option.unit, option.readings
    if not option.placed:
        return None
    if not found:
        return lost(a, option, h)
    if unit.wanted or len(found) == 1 and not found[0].caveat:
        return None
    of = f" of {option.via.unit.label}" if option.via else ""
    ways = []
    for reading in found:
        flags = " ".join(
            f"--class-tensor {family.flag}={reading.flag}" for family in unit.families.values()
        )
        ways.append(f"\n    {flags}: {reading.says}{of}")
    caveat = f"{found[0].caveat}; " if found[0].caveat else ""
    why = f"may be read as follows, and its shape does not tell; {caveat}choose"
    if len(found) == 1:
        why = f"fits one place, but is not taken unasked: {found[0].caveat}"
    return f"{unit.label} {why}{''.join(ways)}{unused(unit)}"


def lost(a: Architecture, option: Option, h: Hypothesis) -> str:
    unit, affine = option.unit, option.affine
    values = math.prod(affine.values)
    near = nearest(a, h.size, unit.first.blocks, values)
    if unit.wanted:
        free = Unit(unit.kind, unit.families, None)
        other = option_of(a, free, h.classes, h.size, [free]).readings
        could = (
            ", ".join(dict.fromkeys(reading.flag for reading in other)) or f"none; the nearest is {near}"
        )
        return (
            f"--class-tensor {unit.wanted.flag} contradicts the shape of {unit.label}, {values} values a "
            f"class; with {h.classes} classes and images of {h.size.height}×{h.size.width} it fits {could}"
        )
    if unit.film:
        return (
            f"{unit.label} has the name of a factor or a term of FiLM, γ ⊙ c + β, which is no sum and "
            f"cannot be read; if it is added and nothing else, say where: "
            f"--class-tensor {unit.first.flag}=PLACE" + unused(unit) + f"\n    else {COMPILE}"
        )
    if affine.inputs == 0:
        return f"{unit.label} is not a vector or a map a class; no place takes it{unused(unit)}"
    return (
        f"{unit.label} has no place: {values} values for each of {affine.inputs}; the nearest is {near}, "
        f"with {h.classes} classes and images of {h.size.height}×{h.size.width} (--height, --width)"
        + unused(unit)
        + f"\n    else {COMPILE}"
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
        "tensors beside the layers disagree on the number of classes; say which of them the network never "
        "uses, or where one is used (--class-tensor NAME=PLACE)" + "".join(lines)
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
