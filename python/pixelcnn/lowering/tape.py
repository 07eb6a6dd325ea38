"""Arrays that record their computation from the module's tensors, so that new weights can be folded again.

Structure (which taps exist, which channels a value selects) is decided once, without looking at weights.
The few decisions that do look, such as leaving out a kernel's masked taps, are recorded as facts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import Refused


class Array:
    """A tensor of numbers; `value` is a NumPy array or a PyTorch tensor on the CPU, in 64 bits if real."""

    __slots__ = ("function", "inputs", "value", "varies")

    def __init__(self, value: Any, function: Callable[..., Any] | None = None, inputs: tuple[Array, ...] = ()):
        self.value = value
        self.function = function
        self.inputs = inputs
        self.varies = function is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, which new weights never change."""
        return tuple(self.value.shape)


class Tape:
    """All arrays that depend on the module's tensors, in the order in which they were made."""

    def __init__(self) -> None:
        self.leaves: dict[str, Array] = {}
        self.steps: list[Array] = []
        self.facts: list[tuple[Array, Callable[[Any], Any], Any, str]] = []

    def leaf(self, name: str, value: Any) -> Array:
        """A tensor of the module, by its name."""
        if name not in self.leaves:
            self.leaves[name] = Array(value)
            self.leaves[name].varies = True
        return self.leaves[name]

    def derive(self, function: Callable[..., Any], *inputs: Array) -> Array:
        """The array that `function` makes of the values of `inputs`."""
        value = function(*(a.value for a in inputs))
        if not any(a.varies for a in inputs):
            return Array(value)
        made = Array(value, function, inputs)
        self.steps.append(made)
        return made

    def fact(self, array: Array, function: Callable[[Any], Any], what: str) -> Any:
        """`function` of the array's value, on which the graph's structure depends from here on."""
        result = function(array.value)
        if array.varies:
            self.facts.append((array, function, result, what))
        return result

    def replay(self, tensors: Callable[[str], Any]) -> dict[int, Any]:
        """Every array's value anew from `tensors(name)`, by identity; `commit` makes them the present ones."""
        new: dict[int, Any] = {}
        for name, leaf in self.leaves.items():
            value = tensors(name)
            if tuple(value.shape) != leaf.shape:
                now, then = list(value.shape), list(leaf.shape)
                raise Refused(f"{name} has shape {now}, but {then} when the module was compiled: compile again")
            new[id(leaf)] = value
        for step in self.steps:
            assert step.function is not None
            new[id(step)] = step.function(*(new.get(id(a), a.value) for a in step.inputs))
        for array, function, expected, what in self.facts:
            if not np.array_equal(function(new.get(id(array), array.value)), expected):
                raise Refused(f"{what} changed since the module was compiled: compile again")
        return new

    def commit(self, new: dict[int, Any]) -> dict[int, Any]:
        """Take the values of a replay; returns those before it."""
        before: dict[int, Any] = {}
        for array in [*self.leaves.values(), *self.steps]:
            before[id(array)], array.value = array.value, new[id(array)]
        return before
