"""A traced module as text, without its weights, for a report of a module that does not compile."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .. import _pixelcnn
from .trace import Program, Ref, Slot, Step, mapped, tensors_of

_MOST_NUMBERS = 16  # of an argument that are shown


def describe(module: nn.Module, call: str, outcome: str, program: Program) -> str:
    """Versions, the call, its result, the module's parts and tensors by name and shape, and its operations in order."""
    parts = [
        "A module of PyTorch for pixelcnn.compile. Names, shapes and lines of its source; no weights and no images.",
        f"pixelcnn {_pixelcnn.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        f"{call}\n{outcome}",
        f"Module:\n{module!r}",
        "Tensors:\n" + "\n".join(_tensor(name, tensor) for name, tensor in tensors_of(module).items()),
        "Operations:\n" + "\n".join(_operation(step, program) for step in program.steps),
    ]
    return "\n\n".join(parts) + "\n"


def call_of(name: str, shape: Any, arguments: Mapping[str, Any]) -> str:
    """The call of `compile`, with the arguments that were given."""
    told = {key: value for key, value in arguments.items() if value is not None}
    listed = [f"{key}={getattr(value, '__qualname__', None) or repr(value)}" for key, value in told.items()]
    return f"pixelcnn.compile({', '.join([name, repr(tuple(shape)), *listed])})"


def _tensor(name: str, tensor: torch.Tensor) -> str:
    # Zeros reveal masks, and masks decide causality.
    zeros = int((tensor.detach() == 0).sum())
    told = f"  {name}: {_type(tensor.dtype)} {list(tensor.shape)}"
    return told + (f", {zeros} of {tensor.numel()} are 0" if zeros else "")


def _operation(step: Step, program: Program) -> str:
    results = ", ".join(f"%{k} {_facts(program.slots[k])}" for k in step.results) or "nothing"
    given = [_argument(a, program) for a in step.args]
    given += [f"{key}={_argument(value, program)}" for key, value in step.kwargs.items()]
    where = str(step.where)
    return f"  {results} = {step.operation}({', '.join(given)})" + (f"    # {where}" if where else "")


def _argument(argument: Any, program: Program) -> str:
    def shown(leaf: Any) -> Any:
        return _Shown(_value(leaf.index, program) if isinstance(leaf, Ref) else _plain(leaf))

    if isinstance(argument, (list, tuple)) and len(argument) > _MOST_NUMBERS:
        return f"[{len(argument)} values]"
    return repr(mapped(shown, argument))


class _Shown(str):
    """A text that is shown without quotes in lists."""

    def __repr__(self) -> str:
        return str(self)


def _plain(value: Any) -> str:
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else str(value)[:80]


def _value(number: int, program: Program) -> str:
    slot = program.slots[number]
    if slot.name:
        return f"%{number} {slot.name}"
    return f"%{number}" if slot.constant is None or slot.image or slot.labels else f"%{number} constant {_facts(slot)}"


def _facts(slot: Slot) -> str:
    return f"{_type(slot.dtype)} {list(slot.shape)}" + (" of the image" if slot.image else "")


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
