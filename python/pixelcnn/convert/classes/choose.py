"""One place for each tensor: the only one that shapes and names leave, else the one that a flag names; or a refusal."""

from __future__ import annotations

from dataclasses import dataclass, field

from .. import ConversionError
from ..names import Checkpoint
from ..network import Architecture
from .hypotheses import Option, best_hypotheses
from .places import Reading, Size
from .refusals import disagreement, trouble, unsized
from .tensors import Affine, families
from .units import BOTH, Unit, placements, units

MOST_PROBLEMS = 8  # in one message


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
    """`told` has the height and width from flags or metadata, and `classes` is the number of names."""
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
        more = len(problems) - MOST_PROBLEMS
        raise ConversionError(
            f"tensors beside the layers of {c.convention.title} leave questions"
            + "".join(f"\n  {problem}" for problem in problems[:MOST_PROBLEMS])
            + (
                f"\n  and {more} kinds more; --ignore takes patterns, such as 'classifier.*'"
                if more > 0
                else ""
            )
        )
    choices = [
        Choice(option.unit, option.affine, option.readings[0], option.via)
        for option in hypothesis.options
        if option.placed
    ]
    feeding = [choice for choice in choices if choice.reading.feeds]
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


def alternatives(option: Option) -> list[str]:
    """Notes about the arrangements of a flag's place that are not taken."""
    return [
        f"{option.unit.label} is read as {option.readings[0].says}; if it is {reading.says}: "
        f"--class-tensor {option.unit.first.flag}={reading.flag}"
        for reading in option.readings[1:]
    ]
