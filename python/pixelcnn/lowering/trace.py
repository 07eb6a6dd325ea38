"""Runs a module once and records its operations, without views and without changes in place.

The module runs on real tensors, so nothing of PyTorch's tracing machinery can leak into its attributes. A tensor is
identified with its storage and the views that lead from there to it: a write through a view becomes a new value of the
whole storage, and later reads are reads of that.
"""

from __future__ import annotations

import contextlib
import linecache
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import Refused

aten = torch.ops.aten
_TORCH = os.path.dirname(torch.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep


_LINE = 120  # characters of a source line that are shown


def leaves(tree: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts, in order."""
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from leaves(part)
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from leaves(part)
    else:
        yield tree


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """Nested tuples, lists and dicts with a function of every leaf."""
    if isinstance(tree, tuple):
        return tuple(mapped(function, part) for part in tree)
    if isinstance(tree, list):
        return [mapped(function, part) for part in tree]
    if isinstance(tree, dict):
        return {key: mapped(function, part) for key, part in tree.items()}
    return function(tree)


@dataclass(frozen=True)
class Where:
    """The place in the module's source that an operation comes from."""

    file: str = ""
    line: int = 0
    module: str = ""

    def __str__(self) -> str:
        parts = [f"in {'module ' if self.module.isdigit() else ''}{self.module}"] if self.module else []
        if self.file:
            text = linecache.getline(self.file, self.line).strip()
            text = text if len(text) <= _LINE else text[: _LINE - 1] + "…"
            parts.append(f"{os.path.basename(self.file)}:{self.line}" + (f": {text}" if text else ""))
        return ", ".join(parts)


@dataclass(frozen=True)
class Ref:
    """A recorded value, by its number."""

    index: int


@dataclass
class Slot:
    """The known facts of a recorded value."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    image: bool = False
    labels: bool = False
    name: str = ""  # of a tensor of the module
    constant: torch.Tensor | None = None  # of any other tensor that was not computed


@dataclass
class Step:
    """One operation; the arguments hold `Ref` where the operation had tensors."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: list[int]
    where: Where

    @property
    def operation(self) -> str:
        """The operation's name, without namespace and overload."""
        return self.function._schema.name.split("::")[-1]

    @property
    def sources(self) -> list[int]:
        """The values that it reads."""
        return [a.index for a in leaves((self.args, self.kwargs)) if isinstance(a, Ref)]


@dataclass
class Program:
    """A recorded forward pass."""

    slots: list[Slot] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    image: int = 0
    output: int = 0
    position: int = 0  # of the output among the tensors that the module returns

    def products(self) -> int:
        """Multiplications of convolutions and matrix products, for one image."""
        total, batch = 0, self.slots[self.image].shape[0]
        for step in self.steps:
            shapes = [self.slots[r.index].shape for r in leaves(step.args) if isinstance(r, Ref)]
            if not step.results or not self.slots[step.results[0]].image or len(shapes) < 2:
                continue
            made = math.prod(self.slots[step.results[0]].shape)
            if step.operation in ("convolution", "_convolution"):
                transposed = step.args[6]
                weight = shapes[1]
                total += (math.prod(shapes[0]) if transposed else made) * math.prod(weight[1:])
            elif step.operation in ("mm", "bmm", "addmm", "baddbmm", "linear"):
                total += made * shapes[-2 if step.operation in ("addmm", "baddbmm") else 0][-1]
        return total // batch


@dataclass
class _Base:
    slot: int
    storage: int
    version: int = 0
    unwritten: torch.Tensor | None = None  # a tensor of the module that has not been written to yet
    alive: int = 0  # tensors on the storage


@dataclass
class _Link:
    view: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]  # after it


@dataclass
class _Alias:
    base: _Base
    path: list[_Link]
    version: int
    slot: int
    storage: int  # which `tensor.data = …` exchanges


class _OneHot(TorchFunctionMode):
    """F.one_hot reads its argument's values to check them; a look-up in the unit vectors does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.one_hot or getattr(func, "__name__", "") == "one_hot":
            index = args[0] if args else kwargs["tensor" if "tensor" in kwargs else "input"]
            classes = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
            if classes < 0:
                raise Refused("F.one_hot without num_classes: its width would depend on the image")
            unit = torch.eye(classes, dtype=torch.int64, device=index.device)
            return aten.embedding(unit, index)
        return func(*args, **kwargs)


class Recorder(TorchDispatchMode):
    """Records every operation that runs while it is active."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first operation imports all of torch._dynamo, which takes seconds

    def __init__(self, module: nn.Module, program: Program):
        super().__init__()
        self.program = program
        self._aliases: dict[int, _Alias] = {}
        self._bases: dict[int, tuple[_Base, tuple[Any, ...]]] = {}
        self._watched: dict[int, weakref.ref[torch.Tensor]] = {}
        self._modules = {id(m): name for name, m in module.named_modules() if name}
        self._names = {_geometry(t): name for name, t in tensors_of(module).items()}

    def given(self, tensor: torch.Tensor, *, image: bool = False, labels: bool = False) -> int:
        """Register an input."""
        slot = self._slot(tensor, image=image, labels=labels, constant=tensor.clone())
        self._own(tensor, slot)
        return slot

    def slot_of(self, tensor: torch.Tensor) -> int:
        """The number of a tensor's present value."""
        alias = self._aliases.get(id(tensor))
        if alias is None or alias.storage != _storage(tensor):
            alias = self._meet(tensor)
        if alias.version != alias.base.version:
            alias.slot = self._chain(alias)[-1]
            alias.version = alias.base.version
        return alias.slot

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # in which compound operations come here undivided
            with self:
                divided = func.decompose(*args, **kwargs)
            if divided is not NotImplemented:
                return divided
        replaced = self._replace(args), self._replace(kwargs)
        slots = [self.program.slots[r.index] for r in leaves(replaced) if isinstance(r, Ref)]
        image, labels = any(s.image for s in slots), any(s.labels for s in slots)
        written = [a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        if written:
            self._before_write(args, kwargs, func)
        result = func(*args, **kwargs)
        tensors = [t for t in leaves(result) if isinstance(t, torch.Tensor)]
        where = self._where()
        if not tensors and not written and (image or labels):
            self._no_values(func, where, "image" if image else "labels")
        if torch.Tag.nondeterministic_seeded in func.tags:
            # Lowering shows if the result matters.
            self._record(func, replaced, tensors, where, True, False)
        elif written:
            self._write(func, args, kwargs, replaced, where, tensors)
        elif any(a.alias_info is not None for a in func._schema.arguments):
            self._view(func, args, kwargs, replaced, tensors, where)
        else:
            self._record(func, replaced, tensors, where, image, labels)
        return result

    def _no_values(self, func: Any, where: Where, of: str) -> None:
        if where.file and linecache.getline(where.file, where.line).strip().startswith("assert"):
            return  # its only effect would be an error
        raise Refused(f"control flow, or a number, that depends on values of the {of} ({where})")

    def _slot(self, tensor: torch.Tensor, **known: Any) -> int:
        self.program.slots.append(Slot(tuple(tensor.shape), tensor.dtype, **known))
        return len(self.program.slots) - 1

    def _own(self, tensor: torch.Tensor, slot: int, unwritten: torch.Tensor | None = None) -> _Alias:
        base = _Base(slot, _storage(tensor), unwritten=unwritten)
        self._bases[base.storage] = base, _geometry(tensor)
        return self._watch(tensor, _Alias(base, [], 0, slot, base.storage))

    def _watch(self, tensor: torch.Tensor, alias: _Alias) -> _Alias:
        """Know a tensor until it is freed: identities and addresses are reused."""
        key, base = id(tensor), alias.base

        def gone(_: Any) -> None:
            if self._aliases.get(key) is alias:
                del self._aliases[key]
            base.alive -= 1
            if base.alive == 0 and base.storage in self._bases and self._bases[base.storage][0] is base:
                del self._bases[base.storage]

        base.alive += 1
        self._aliases[key] = alias
        self._watched[key] = weakref.ref(tensor, gone)
        return alias

    def _meet(self, tensor: torch.Tensor) -> _Alias:
        """A tensor that no recorded operation has made: one of the module's, or a constant."""
        geometry = _geometry(tensor)
        known = self._bases.get(_storage(tensor))
        if known is not None and known[1] == geometry:
            return self._watch(tensor, _Alias(known[0], [], -1, known[0].slot, geometry[0]))
        name = self._names.get(geometry, "")
        slot = self._slot(tensor, name=name, constant=tensor.detach() if name else tensor.detach().clone())
        return self._own(tensor, slot, tensor if name else None)

    def _replace(self, tree: Any) -> Any:
        return mapped(lambda a: Ref(self.slot_of(a)) if isinstance(a, torch.Tensor) else a, tree)

    def _record(
        self, func: Any, replaced: Any, tensors: list[torch.Tensor], where: Where, image: bool, labels: bool
    ) -> list[int]:
        results = [self._slot(t, image=image, labels=labels) for t in tensors]
        self.program.steps.append(Step(func, tuple(replaced[0]), replaced[1], results, where))
        for tensor, slot in zip(tensors, results, strict=True):
            self._own(tensor, slot)
        return results

    def _view(
        self, func: Any, args: Any, kwargs: Any, replaced: Any, tensors: list[torch.Tensor], where: Where
    ) -> None:
        viewed = args[0]
        parent = self._aliases[id(viewed)]
        slot = self.program.slots[parent.slot]
        known = {id(t): self._aliases.get(id(t)) for t in tensors}
        results = [self._slot(t, image=slot.image, labels=slot.labels) for t in tensors]
        self.program.steps.append(Step(func, tuple(replaced[0]), replaced[1], results, where))
        at = 0
        for k, (tensor, result) in enumerate(zip(tensors, results, strict=True)):
            link = _Link(func, tuple(args[1:]), kwargs, tuple(tensor.shape))
            operation = func._schema.name
            if operation.startswith("aten::split"):
                dim = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % viewed.dim()
                link = _Link(aten.slice.Tensor, (dim, at, at + tensor.shape[dim]), {}, link.shape)
                at += tensor.shape[dim]
            elif operation == "aten::unbind":
                dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
                link = _Link(aten.select.int, (dim, k), {}, link.shape)
            if known[id(tensor)] is None:
                base, path = parent.base, [*parent.path, link]
                self._watch(tensor, _Alias(base, path, base.version, result, _storage(tensor)))

    def _before_write(self, args: Any, kwargs: Any, func: Any) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, torch.Tensor):
                self._keep_original(value)
        for value in kwargs.values():
            if isinstance(value, torch.Tensor) and id(value) in self._aliases:
                self._keep_original(value)

    def _keep_original(self, tensor: torch.Tensor) -> None:
        base = self._aliases[id(tensor)].base
        if base.unwritten is not None:
            self.program.slots[base.slot].constant = base.unwritten.detach().clone()
            base.unwritten = None

    def _write(
        self, func: Any, args: Any, kwargs: Any, replaced: Any, where: Where, tensors: list[torch.Tensor]
    ) -> None:
        target = args[0] if args and isinstance(args[0], torch.Tensor) else next(iter(tensors), None)
        if target is None:
            return
        schema = func._schema
        name = schema.name.split("::")[-1]
        functional = getattr(aten, name[:-1], None) if name.endswith("_") else None
        functional = getattr(functional, func._overloadname, None) if functional is not None else None
        slots = [self.program.slots[r.index] for r in leaves(replaced) if isinstance(r, Ref)]
        image, labels = any(s.image for s in slots), any(s.labels for s in slots)
        made = self._slot(target, image=image, labels=labels)
        self.program.steps.append(Step(functional or func, tuple(replaced[0]), replaced[1], [made], where))
        alias = self._aliases[id(target)]
        chain = self._chain(alias)
        for link, parent in zip(reversed(alias.path), reversed(chain[:-1]), strict=True):
            made = self._put_back(link, parent, made, where)
        alias.base.slot = made
        alias.base.version += 1

    def _chain(self, alias: _Alias) -> list[int]:
        """The present values along the views from a storage to a tensor."""
        chain = [alias.base.slot]
        for link in alias.path:
            parent = self.program.slots[chain[-1]]
            self.program.slots.append(Slot(link.shape, parent.dtype, parent.image, parent.labels))
            made = len(self.program.slots) - 1
            self.program.steps.append(Step(link.view, (Ref(chain[-1]), *link.args), link.kwargs, [made], Where()))
            chain.append(made)
        return chain

    def _put_back(self, link: _Link, parent: int, child: int, where: Where) -> int:
        """The value of a view's parent after the view has taken the value `child`."""
        args, kwargs = link.args, link.kwargs
        name = link.view._schema.name.split("::")[-1]
        before, after = self.program.slots[parent], self.program.slots[child]
        if name == "slice":
            dim, rest = (args[0], args[1:]) if args else (kwargs.get("dim", 0), ())
            step = (aten.slice_scatter.default, (Ref(parent), Ref(child), dim, *rest))
        elif name == "select":
            step = (aten.select_scatter.default, (Ref(parent), Ref(child), *args))
        elif name in ("detach", "alias", "lift_fresh"):
            return child
        elif name in ("view", "_unsafe_view", "unsqueeze", "squeeze", "_reshape_alias", "flatten", "reshape"):
            step = (aten.view.default, (Ref(child), list(before.shape)))
        elif name == "permute":
            order = [d % len(before.shape) for d in args[0]]
            step = (aten.permute.default, (Ref(child), [order.index(i) for i in range(len(order))]))
        elif name in ("transpose", "t"):
            step = (aten.transpose.int, (Ref(child), *(args or (0, 1))))
        else:
            raise Refused(f"a write through the view {name} ({where})")
        either = before.image or after.image, before.labels or after.labels
        self.program.slots.append(Slot(before.shape, before.dtype, *either))
        self.program.steps.append(Step(step[0], step[1], {}, [len(self.program.slots) - 1], where))
        return len(self.program.slots) - 1

    def _where(self) -> Where:
        frame: FrameType | None = sys._getframe(2)
        file, line, module = "", 0, ""
        while frame is not None and not (file and module):
            code = frame.f_code
            name = code.co_filename
            if not module and code.co_varnames[:1] == ("self",):
                module = self._modules.get(id(frame.f_locals.get("self")), "")
            if not file and not name.startswith((_TORCH, _OURS, "<frozen", "<string")):
                file, line = name, frame.f_lineno
            if name.startswith(_OURS) and code.co_name == "record":
                break
            frame = frame.f_back
        return Where(file, line, module)


def _storage(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):
        return id(tensor)


def _geometry(tensor: torch.Tensor) -> tuple[Any, ...]:
    return _storage(tensor), tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors that a module and its parts hold, by name: parameters, buffers and plain attributes."""
    found: dict[str, torch.Tensor] = {}
    for prefix, part in module.named_modules():
        held = [*part.__dict__.items(), *part._buffers.items(), *part._parameters.items()]
        for name, value in held:
            if isinstance(value, torch.Tensor):
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: passes of a few images gain little from more, and lose much where cores are not free."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def eval_view(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode; its mode and attributes are as before afterwards."""
    # Of a scripted module, only the mode is restored, not its attributes.
    parts = [m for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
    modes = [(m, m.training) for m in module.modules()]
    saved = [(m, dict(m.__dict__), dict(m._parameters), dict(m._buffers)) for m in parts]
    try:
        module.eval()
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for part, attributes, parameters, buffers in saved:
            part.__dict__.clear()
            part.__dict__.update(attributes)
            part._parameters.clear()
            part._parameters.update(parameters)
            part._buffers.clear()
            part._buffers.update(buffers)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and type(module).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def record(
    module: nn.Module,
    forward: Callable[..., Any],
    image: torch.Tensor,
    labels: torch.Tensor | None,
    program: Program | None = None,
) -> Program:
    """Run `forward(module, image[, labels])` once and return its operations. If it fails, `program` has those before."""
    recorder = Recorder(module, Program() if program is None else program)
    with eval_view(module):
        recorder.program.image = recorder.given(image, image=True)
        inputs = [image]
        if labels is not None:
            recorder.given(labels, labels=True)
            inputs.append(labels)
        with _OneHot(), recorder:
            output = forward(module, *inputs)
    results = [t for t in leaves(_opened(output)) if isinstance(t, torch.Tensor)]
    slots = [recorder.slot_of(t) for t in results]
    of_image = [s for s in slots if recorder.program.slots[s].image]
    if not of_image:
        raise Refused("the module's output does not depend on the image")
    recorder.program.position = slots.index(of_image[0])
    recorder.program.output = of_image[0]
    return recorder.program


def _opened(output: Any) -> Any:
    """Outputs that are objects (dataclasses, named results) as something to walk."""
    if isinstance(output, (torch.Tensor, list, tuple, dict)):
        return output
    return list(getattr(output, "__dict__", {}).values())


class _DoubleOperands(TorchFunctionMode):
    """Some functions compare the types of their operands before they are dispatched."""

    NAMES = frozenset(
        [
            "conv1d",
            "conv2d",
            "conv3d",
            "conv_transpose2d",
            "linear",
            "batch_norm",
            "matmul",
            "__matmul__",
            "mm",
            "bmm",
            "addmm",
            "baddbmm",
            "einsum",
            "prelu",
            "lerp",
        ]
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.NAMES:
            args, kwargs = mapped(_double, tuple(args)), mapped(_double, kwargs)
        return func(*args, **kwargs)


class InDouble(TorchDispatchMode):
    """Runs a module as it is, in 64 bits: every real operand is made one of 64 bits first."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or the first operation imports all of torch._dynamo, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        arguments = func._schema.arguments
        if any(a.alias_info is not None and a.alias_info.is_write for a in arguments):
            target = args[0] if args else None
            if isinstance(target, torch.Tensor) and target.is_floating_point() and target.dtype != torch.float64:
                same = [a.to(target.dtype) if _real(a) else a for a in args[1:]]
                return func(target, *same, **kwargs)  # a tensor of the module, such as a weight that is masked in place
        elif any(a.alias_info is not None for a in arguments):
            return func(*args, **kwargs)
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        result = func(*mapped(_double, args), **mapped(_double, kwargs))
        made = not any(isinstance(a, torch.Tensor) for a in leaves((args, kwargs)))
        return mapped(_double, result) if made else result


def _double(a: Any) -> Any:
    return a.double() if _real(a) and a.dtype != torch.float64 else a


def _real(a: Any) -> bool:
    return isinstance(a, torch.Tensor) and a.is_floating_point()


def module_output(
    module: nn.Module,
    forward: Callable[..., Any],
    image: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    position: int = 0,
    double: bool = True,
) -> torch.Tensor:
    """The module's own output, in 64 bits or in its own precision."""
    inputs = [image] if labels is None else [image, labels]
    with contextlib.ExitStack() as stack:
        stack.enter_context(eval_view(module))
        for mode in (_OneHot(), _DoubleOperands(), InDouble()) if double else ():
            stack.enter_context(mode)
        output = forward(module, *inputs)
    return [t for t in leaves(_opened(output)) if isinstance(t, torch.Tensor)][position]
