"""Units that are placed together: a tensor, or a pair that names tell apart; and the places that flags give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from .. import ConversionError, listing
from ..names import Checkpoint
from ..understand import matching
from .tensors import Family

PLACES = ("input", "first", "bottleneck", "remembered", "block", "gate", "output")
# Flags for a place with several arrangements.
ARRANGEMENTS = {
    "input": ("input-rows", "input-columns", "input-before-ones", "input-after-ones"),
    "first": ("first-u", "first-ul"),
    "bottleneck": ("bottleneck-u", "bottleneck-ul"),
    "remembered": ("remembered-u", "remembered-ul"),
    "gate": ("gate-a", "gate-b"),
}
STREAM_PLACES = ("first", "bottleneck", "remembered")
BOTH = ("vertical", "horizontal")

# Pairs of words that tell a pair of tensors apart. In the gate a·σ(b), the input of b comes second.
STREAMS = (("u", "ul"), ("vertical", "horizontal"), ("vert", "horiz"), ("v", "h"))
HALVES = (
    ("f", "g"), ("a", "b"), ("tanh", "sigmoid"), ("filter", "gate"), ("feature", "gate"), ("value", "gate"),
    ("signal", "gate"),
)  # fmt: skip
# Names of a factor and a term, γ ⊙ c + β, for which no sum can stand.
FILM = re.compile(r"film|gamma|modulat|(?<![a-z])(beta|scale|shift)s?(?![a-z])")


class Placement(NamedTuple):
    """The place that a flag asks for."""

    flag: str
    place: str  # one of PLACES
    exact: str  # the same, or one of its arrangements

    @property
    def streams(self) -> tuple[str, ...]:
        if self.place not in STREAM_PLACES or self.exact == self.place:
            return BOTH
        return BOTH[:1] if self.exact.endswith("-u") else BOTH[1:]

    def admits(self, reading: str) -> bool:
        """True if a reading with this flag is one that is asked for."""
        if self.place in STREAM_PLACES:
            return reading == self.place
        return reading == self.exact or self.exact == "input" and reading.startswith("input-")


def placements(c: Checkpoint, found: list[Family], flags: list[str]) -> dict[int, Placement]:
    """By the number of the family."""
    placed: dict[int, Placement] = {}
    for flag in flags:
        name, equals, exact = flag.rpartition("=")
        place = exact.partition("-")[0]
        if not name or exact not in (place, *ARRANGEMENTS.get(place, ())) or place not in PLACES:
            raise ConversionError(
                f"--class-tensor {flag}: expected NAME=PLACE, PLACE one of {', '.join(PLACES)}, or, where "
                f"these leave a choice, {', '.join(exact for more in ARRANGEMENTS.values() for exact in more)}"
            )
        names = set(matching(name, c.foreign))
        if not names:
            raise ConversionError(
                f"--class-tensor {flag}: there is no tensor {name} beside those of the layers "
                f"(there are: {listing(sorted(c.foreign.values())) or 'none'})"
            )
        for i, family in enumerate(found):
            if names & set(family.tensors):
                if placed.setdefault(i, Placement(flag, place, exact)).exact != exact:
                    raise ConversionError(
                        f"--class-tensor {placed[i].flag} and --class-tensor {flag}: "
                        f"two places for one tensor, {family.label}"
                    )
    return placed


@dataclass(frozen=True)
class Unit:
    """`kind` is single, streams (families by stream) or halves (of a gate, by a and b)."""

    kind: str
    families: dict[str, Family]
    wanted: Placement | None

    @property
    def first(self) -> Family:
        return next(iter(self.families.values()))

    @property
    def label(self) -> str:
        return " and ".join(family.label for family in self.families.values())

    @property
    def film(self) -> bool:
        return any(FILM.search(family.name.lower()) for family in self.families.values())


def units(found: list[Family], placed: dict[int, Placement]) -> list[Unit]:
    """Pairs where names tell which is which and no flag says otherwise, and the rest one by one."""
    pairs, paired = [], set()
    for i, x in enumerate(found):
        for j, y in enumerate(found):
            wanted = {placed[k] for k in (i, j) if k in placed}
            asked = {(placement.place, placement.exact) for placement in wanted}
            alike = i != j and not {i, j} & paired and x.matches(y)
            if alike and len(asked) < 2 and all(place == exact for place, exact in asked):
                kind = "halves" if x.blocks else "streams"
                if differ_as(x.words, y.words, kind):
                    keys = ("a", "b") if x.blocks else BOTH
                    pairs.append(Unit(kind, dict(zip(keys, (x, y))), next(iter(wanted), None)))
                    paired |= {i, j}
    singles = [
        Unit("single", {"": family}, placed.get(i)) for i, family in enumerate(found) if i not in paired
    ]
    return [*pairs, *singles]


def differ_as(x: list[str], y: list[str], kind: str) -> bool:
    """True if they differ in one word only, and there like a pair of the table, after the part that they share."""
    different = [pair for pair in zip(x, y) if pair[0] != pair[1]]
    if len(x) != len(y) or len(different) != 1:
        return False
    p, q = different[0]
    if kind == "streams":  # middleu, middleul; uclass, ulclass
        return (
            (p, q) in STREAMS or p.endswith("u") and q == f"{p}l" or p.startswith("u") and q == f"ul{p[1:]}"
        )
    while (p, q) not in HALVES and p and q and p[0] == q[0]:  # kf, kg
        p, q = p[1:], q[1:]
    return (p, q) in HALVES
