"""The tensors that a network has beside its layers, as affine maps of a class or of another's values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import ConversionError
from ..names import Checkpoint
from ..understand import block_of, split_part
from ..network import Architecture

MODULES = re.compile(r"((up|down)_layers|(up|down)size_ul?_stream|ul?_init|nin_out)\.")


class Affine(NamedTuple):
    """A possible shape of a tensor: inputs, each with values of a shape. `axis` is that of the inputs."""

    inputs: int
    values: tuple[int, ...]
    axis: int


@dataclass(frozen=True)
class Family:
    """One module, or one in each of many blocks. `members` has the file's names by part, V, g, b, a block."""

    checkpoint: Checkpoint
    name: str  # of the module; within its block, if it is in one
    blocks: bool
    parts: dict[str, tuple[int, ...]]
    members: dict[str, dict[str, str]]

    @property
    def tensors(self) -> list[str]:
        return [name for parts in self.members.values() for name in parts.values()]

    @property
    def label(self) -> str:
        """The tensor, its shape, and where there are more of them."""
        first = next(iter(self.members.values()))
        more = f", in {len(self.members)} blocks" if self.blocks and len(self.members) > 1 else ""
        return f"{self.checkpoint.foreign[first['V']]} {list(self.parts['V'])}{more}"

    @property
    def flag(self) -> str:
        """Its name in flags: a single tensor, or a module."""
        if self.blocks or len(self.parts) > 1:
            return self.name
        return self.checkpoint.foreign[self.tensors[0]]

    @property
    def within(self) -> bool:
        """True if it is in one of the network's modules, but in none of its blocks."""
        return not self.blocks and bool(MODULES.match(self.name))

    @property
    def words(self) -> list[str]:
        return words(self.name)

    def affine(self, transposed: bool) -> Affine | None:
        """An embedding [inputs, …], or, with a bias or a gain to say so, a Linear [values, inputs]. An
        embedding that is `transposed` is a Linear without a bias."""
        shape = squeezed(self.parts["V"])
        if len(shape) < 2 or any(n == 0 for n in shape):
            return None
        bias, gain = self.parts.get("b"), self.parts.get("g")
        linear = gain is not None or bias == shape[:1]
        if bias is not None and not linear and bias != shape[1:]:
            return None
        if transposed:
            linear = not linear and bias is None
            if not linear:
                return None
        if not linear:
            return Affine(shape[0], shape[1:], 0)
        return Affine(shape[1], shape[:1], 1) if len(shape) == 2 else None

    def matches(self, other: Family) -> bool:
        return (self.blocks, self.parts, self.members.keys()) == (
            other.blocks,
            other.parts,
            other.members.keys(),
        )

    def rows(self, block: str, affine: Affine) -> np.ndarray:
        """[inputs, values…] in 64 bits, the bias left out."""
        parts = self.members[block]
        v = self.checkpoint.read(parts["V"])
        if "g" in parts:  # PyTorch's norm is over all but the first dimension
            norm = np.sqrt(np.square(v).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
            if not norm.all():
                raise ConversionError(f"{parts['V']}: a norm is zero, so its weights have no direction")
            v = v * (self.checkpoint.read(parts["g"]).reshape(norm.shape) / norm)
        return np.moveaxis(v.reshape(squeezed(v.shape)), affine.axis, 0)

    def bias(self, block: str) -> np.ndarray | float:
        parts = self.members[block]
        return self.checkpoint.read(parts["b"]) if "b" in parts else 0.0


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A 1×1 convolution, and a vector that is kept as [n, 1, 1], are a matrix."""
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def words(name: str) -> list[str]:
    """middle_u.embeddingsMiddleUL → middle, u, embeddings, middle, ul"""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def families(c: Checkpoint, a: Architecture) -> list[Family]:
    grouped: dict[tuple, dict[str, dict[str, str]]] = {}
    modules: dict[str, dict[str, str]] = {}
    for name, shown in c.foreign.items():
        scope, part = split_part(shown)
        modules.setdefault(scope, {})[part] = name
    for scope, parts in modules.items():
        if "V" not in parts:  # a lone bias
            parts = {("V" if i == 0 else part): name for i, (part, name) in enumerate(parts.items())}
        block, inner = block_of(scope, a.levels)
        shapes = tuple(sorted((part, c.source.shapes[name]) for part, name in parts.items()))
        grouped.setdefault((inner, bool(block), shapes), {})[block] = parts
    return [
        Family(c, name, blocks, dict(shapes), members)
        for (name, blocks, shapes), members in grouped.items()
    ]
