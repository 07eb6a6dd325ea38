"""The operands of the lowering: blocks of channels, and the tensor axes that are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .graph import Tap
from .tape import Array
from .trace import Where


@dataclass(eq=False)
class Sum:
    """An affine sum: taps plus tables [K|1, H|1, W|1, channels], over height × width positions."""

    channels: int
    height: int
    width: int
    level: int
    taps: list[Tap]
    tables: list[Array]
    where: Where = field(default_factory=Where)
    node: int | None = None  # that holds this sum


@dataclass(eq=False)
class Pending:
    """An activation of a sum, kept until it is known if it is half of a gate."""

    activation: str
    slope: float | None
    argument: Sum
    result: Sum | None = None
    channels = property(lambda self: self.argument.channels)
    height = property(lambda self: self.argument.height)
    width = property(lambda self: self.argument.width)


@dataclass(eq=False)
class Levels:
    """Channels that are each a function of one channel of the image: column k is table[level of channels[k], k]."""

    image_channels: np.ndarray
    table: Array  # [L, channels], a PyTorch tensor
    height: int
    width: int
    result: Sum | None = None
    channels = property(lambda self: len(self.image_channels))


Block = Sum | Pending | Levels


@dataclass(frozen=True)
class Atom:
    """A factor of an axis: "b" batch, "h" rows, "w" columns, or "c": channels, `stride` apart."""

    kind: str
    size: int
    stride: int = 1


Axes = list[list[Atom]]


@dataclass(eq=False)
class Value:
    """A tensor of the trace that depends on the image."""

    blocks: list[Block]
    axes: Axes
    normalised: tuple[str, int] | None = None  # a softmax or log-softmax that is left out, and the size of its axis

    @property
    def channels(self) -> int:
        return sum(b.channels for b in self.blocks)

    @property
    def height(self) -> int:
        return self.blocks[0].height

    @property
    def width(self) -> int:
        return self.blocks[0].width

    @property
    def shape(self) -> list[int]:
        return [math.prod(a.size for a in axis) for axis in self.axes]

    def kinds(self, axis: int) -> list[str]:
        """The parts of an axis."""
        return [a.kind for a in self.axes[axis]]


def image_axes(batch: int, channels: int, height: int, width: int) -> Axes:
    """[N, C, H, W]"""
    return [[Atom("b", batch)], [Atom("c", channels)], [Atom("h", height)], [Atom("w", width)]]


def atoms(axes: Iterable[Sequence[Atom]]) -> list[Atom]:
    """All factors, in order."""
    return [a for axis in axes for a in axis]


def channel_order(axes: Axes, channels: int) -> np.ndarray | None:
    """The stored channel of each channel as the axes name them; None if some are missing."""
    found = [a for a in atoms(axes) if a.kind == "c"]
    if math.prod(a.size for a in found) != channels:
        return None
    order = np.zeros([a.size for a in found], int)
    for k, a in enumerate(found):
        order += (np.arange(a.size) * a.stride).reshape([-1 if i == k else 1 for i in range(len(found))])
    return order.ravel()


def contiguous(axes: Axes) -> Axes:
    """The axes of the same tensor when its channels are stored in the order in which the axes name them."""
    stride = math.prod(a.size for a in atoms(axes) if a.kind == "c")
    result: Axes = []
    for axis in axes:
        new: list[Atom] = []
        for a in axis:
            if a.kind == "c":
                stride //= a.size
                a = Atom("c", a.size, stride)
                if new and new[-1].kind == "c":
                    a = Atom("c", new.pop().size * a.size, stride)
            new.append(a)
        result.append(new)
    return result


def viewed(axes: Axes, shape: Sequence[int]) -> Axes | str:
    """The axes after a view of a tensor with contiguous channels, or the reason why there is none."""
    todo = [a for a in atoms(axes) if a.size > 1 or a.kind != "c"]
    result: Axes = []
    for n in shape:
        axis: list[Atom] = []
        have = 1
        while have < n:
            if not todo:
                return "a view that does not fit"
            a, need = todo.pop(0), n // have
            if a.size <= need and need % a.size == 0:
                axis.append(a)
                have *= a.size
            elif a.kind == "c" and a.size % need == 0:
                rest = a.size // need
                axis.append(Atom("c", need, a.stride * rest))
                todo.insert(0, Atom("c", rest, a.stride))
                have *= need
            else:
                return "a view that mixes pixels with channels"
        result.append(axis)
    while todo and todo[0].size == 1 and result:
        result[-1].append(todo.pop(0))
    return "a view that does not fit" if todo else result
