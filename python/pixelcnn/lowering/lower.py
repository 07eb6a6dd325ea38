"""Walks the recorded operations: one rule for each kind of operation on a value of the image."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import Refused
from .algebra import Algebra
from .graph import IMAGE, Graph, Node
from .tape import Array, Tape
from .trace import Program, Ref, Step, Where, leaves, mapped
from .values import Atom, Axes, Block, Levels, Pending, Sum, Value, atoms, channel_order, contiguous, image_axes, viewed

Arguments = dict[str, Any]
Rule = Callable[["Lowering", Arguments, Step], Any]
RULES: dict[str, Rule] = {}

# Changes neither values nor layout.
SAME = {
    "alias",
    "detach",
    "clone",
    "contiguous",
    "lift_fresh",
    "lift_fresh_copy",
    "positive",
    "dropout",
    "view_as_real",
}
# Keep a left-out softmax as it is.
LAYOUT = SAME | {
    "view",
    "_unsafe_view",
    "reshape",
    "permute",
    "transpose",
    "t",
    "unsqueeze",
    "squeeze",
    "_to_copy",
    "movedim",
    "flatten",
}

REFUSALS = {
    "bmm": "a product of two values of the image (attention)",
    "scaled_dot_product_attention": "a product of two values of the image (attention)",
    "_scaled_dot_product_flash_attention_for_cpu": "a product of two values of the image (attention)",
    "native_layer_norm": "layer norm: statistics of a value of the image",
    "native_group_norm": "group norm: statistics over pixels, which is not causal",
    "max_pool2d_with_indices": "pooling",
    "max_pool2d": "pooling",
    "avg_pool2d": "pooling",
    "_adaptive_avg_pool2d": "pooling",
    "reflection_pad2d": "reflect padding",
    "replication_pad2d": "replicate padding",
    "upsample_nearest2d": "interpolation between resolutions",
    "upsample_bilinear2d": "interpolation between resolutions",
    "var_mean": "statistics of a value of the image",
    "mkldnn_rnn_layer": "a recurrent layer",
    "lstm": "a recurrent layer",
    "cumsum": "a running sum over a value of the image",
    "roll": "a value of the image rolled around its edges",
}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """The rule of some operations."""

    def add(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return add


class CodesWanted(Exception):
    """The module turns its input into whole numbers: it takes codes."""


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Whole numbers divided give 64 bits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def in_double(value: Any) -> Any:
    """A tensor on the CPU, in 64 bits if real."""
    value = value.detach().to("cpu")
    return value.to(torch.float64) if value.is_floating_point() else value


class Lowering:
    """From a program to a graph of nodes of any size, and the value of its output."""

    def __init__(self, canvas: tuple[int, int, int], classes: int, encoding: torch.Tensor, float_input: bool):
        height, width, channels = canvas
        self.tape = Tape()
        self.graph = Graph(self.tape, [Node(height, width, channels, 0, Where(module="the image"))], classes=classes)
        self.algebra = Algebra(self.graph)
        self.encoding = encoding  # what the module takes for each level [L]
        self.float_input = float_input

    def refuse(self, why: str) -> Refused:
        """The error that names the present operation's source."""
        return self.algebra.refuse(why)

    def run(self, program: Program) -> Value:
        """The value of the program's output."""
        live = self._live(program)
        readers: dict[int, int] = {}
        for step in live:
            for source in set(step.sources):
                readers[source] = readers.get(source, 0) + 1
        self.readers = readers
        self.program = program
        slots = program.slots
        env: dict[int, Any] = {program.image: self._image(slots[program.image].shape)}
        self.batch = slots[program.image].shape[0]
        for step in live:
            for source in step.sources:
                if source not in env:
                    slot = slots[source]
                    assert slot.constant is not None
                    value = in_double(slot.constant)
                    env[source] = self.tape.leaf(slot.name, value) if slot.name else Array(value)
            self.algebra.where = step.where
            results = self._step(step, env)
            for slot_number, value in zip(step.results, results, strict=False):
                if isinstance(value, Value) and readers.get(slot_number, 0) > 1:
                    value = self._shared(value)
                env[slot_number] = value
        result = env[program.output]
        assert isinstance(result, Value)
        return result

    def _live(self, program: Program) -> list[Step]:
        wanted, live = {program.output}, []
        for step in reversed(program.steps):
            if wanted.intersection(step.results):
                live.append(step)
                wanted.update(step.sources)
        return live[::-1]

    def _image(self, shape: Sequence[int]) -> Value:
        image = self.graph.nodes[IMAGE]
        axes = image_axes(shape[0], image.channels, image.height, image.width)
        table = Array(self.encoding[:, None].expand(-1, image.channels).contiguous())
        block = Levels(np.arange(image.channels), table, image.height, image.width)
        return Value([block], axes if len(shape) == 4 else [axes[0], axes[2], axes[3]])

    def _shared(self, value: Value) -> Value:
        """A sum with several readers is computed once."""
        for k, block in enumerate(value.blocks):
            if isinstance(block, Sum) and block.taps and self.algebra.pointwise(block) is None:
                value.blocks[k] = self.algebra.materialised(block)
        return value

    def _step(self, step: Step, env: dict[int, Any]) -> list[Any]:
        bind = lambda a: env[a.index] if isinstance(a, Ref) else a  # noqa: E731
        args, kwargs = mapped(bind, step.args), mapped(bind, step.kwargs)
        operands = [a for a in leaves((args, kwargs)) if isinstance(a, Value)]
        if torch.Tag.nondeterministic_seeded in step.function.tags:
            raise self.refuse(f"chance inside the network ({step.operation})")
        if not operands:
            return self._on_constants(step, args, kwargs)
        named = dict(zip((a.name for a in step.function._schema.arguments), args, strict=False))
        named |= kwargs
        for argument in step.function._schema.arguments:
            if argument.name not in named:
                named[argument.name] = argument.default_value
        name = step.operation.removesuffix("_copy") if step.operation != "_to_copy" else step.operation
        if any(v.normalised for v in operands) and name not in LAYOUT:
            return [self._after_softmax(name, next(v for v in operands if v.normalised))]
        levels = self._on_levels(step, name, args, kwargs, operands)
        if levels is not None:
            return [levels]
        if name in REFUSALS and name not in RULES:
            raise self.refuse(REFUSALS[name])
        if name not in RULES:
            raise self.refuse(f"the operation {name} of a value of the image")
        try:
            result = RULES[name](self, named, step)
        except (Refused, CodesWanted):
            raise
        except Exception as error:
            raise self.refuse(
                f"the operation {name} in a form that is not known here ({type(error).__name__}: {error})"
            ) from error
        return list(result) if isinstance(result, (tuple, list)) else [result]

    def _on_constants(self, step: Step, args: Any, kwargs: Any) -> list[Any]:
        arrays = [a for a in leaves((args, kwargs)) if isinstance(a, Array)]
        kwargs = {k: v for k, v in kwargs.items() if k not in ("pin_memory", "device", "layout")}
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64

        def compute(*values: Any) -> Any:
            given = iter(values)
            fill = lambda a: next(given) if isinstance(a, Array) else a  # noqa: E731
            done = mapped(fill, (args, kwargs))
            result = step.function(*done[0], **done[1])
            return [in_double(r) for r in leaves(result) if isinstance(r, torch.Tensor)]

        if len(step.results) == 1:
            return [self.tape.derive(lambda *v: compute(*v)[0], *arrays)]
        return [self.tape.derive(lambda *v, k=k: compute(*v)[k], *arrays) for k in range(len(step.results))]

    def _on_levels(self, step: Step, name: str, args: Any, kwargs: Any, operands: list[Value]) -> Value | None:
        """A function of each channel of the image alone, computed for all levels."""
        to = kwargs.get("dtype") if name == "_to_copy" else None
        if name != "_to_copy" and torch.Tag.pointwise not in step.function.tags or name in SAME:
            return None
        if not all(isinstance(b, Levels) for v in operands for b in v.blocks):
            return None
        first = self.natural(operands[0])
        blocks = [self._one_levels(self.natural(v)) for v in operands]
        if any(v.shape != first.shape for v in operands):
            return None
        if any(not np.array_equal(b.image_channels, blocks[0].image_channels) for b in blocks):
            return None
        if to is not None and not to.is_floating_point and self.float_input and to != torch.bool:
            distinct = torch.unique(blocks[0].table.value.to(to)).numel()
            if distinct < len(self.encoding) and blocks[0].table.shape[1] <= 4:
                raise CodesWanted
        inputs: list[Array] = []

        def prepare(a: Any) -> Any:
            if isinstance(a, Value):
                inputs.append(blocks[next(k for k, v in enumerate(operands) if v is a)].table)
                return inputs[-1]
            if isinstance(a, Array):
                table = self.table_of(a, first)
                if table.shape[:3] != (1, 1, 1):
                    raise _NotPointwise
                inputs.append(self.tape.derive(lambda t: torch.as_tensor(t[0, 0, 0]), table))
                return inputs[-1]
            return a

        try:
            prepared = mapped(prepare, (args, kwargs))
        except _NotPointwise:
            return None
        options = {
            k: v
            for k, v in prepared[1].items()
            if k not in ("device", "layout", "pin_memory", "memory_format", "non_blocking")
        }
        if to is not None and to.is_floating_point:
            options["dtype"] = torch.float64

        def compute(*values: Any) -> Any:
            given = iter(values)
            fill = lambda a: next(given) if isinstance(a, Array) else a  # noqa: E731
            done = mapped(fill, prepared[0])
            if not options and name == "_to_copy":
                return done[0]
            return step.function(*done, **options)

        with double_by_default():
            table = self.tape.derive(compute, *inputs)
        return Value([Levels(blocks[0].image_channels, table, first.height, first.width)], first.axes)

    def _one_levels(self, value: Value) -> Levels:
        if len(value.blocks) == 1:
            assert isinstance(value.blocks[0], Levels)
            return value.blocks[0]
        parts = [b for b in value.blocks if isinstance(b, Levels)]
        table = self.tape.derive(
            lambda *t: torch.cat([x.double() if x.is_floating_point() else x for x in t], 1), *(p.table for p in parts)
        )
        return Levels(np.concatenate([p.image_channels for p in parts]), table, value.height, value.width)

    def _after_softmax(self, name: str, value: Value) -> Value:
        assert value.normalised is not None
        if name == "log" and value.normalised[0] == "softmax":
            return replace(value, normalised=("log_softmax", value.normalised[1]))
        raise self.refuse(f"{value.normalised[0]} inside the network")

    # Layout

    def natural(self, value: Value) -> Value:
        """The same tensor with its channels stored in the order in which the axes name them."""
        order = channel_order(value.axes, value.channels)
        if order is None:
            raise self.refuse("channels lost in a layout")
        merged = all(sum(a.kind == "c" for a in axis) <= 1 for axis in value.axes)
        if merged and np.array_equal(order, np.arange(value.channels)):
            return value
        return replace(value, blocks=self.algebra.gathered(value.blocks, order), axes=contiguous(value.axes))

    def canonical(self, value: Value, what: str) -> Value:
        """A value as [N, C, H, W]."""
        value = self.natural(value)
        kinds = [value.kinds(k) for k in range(len(value.axes))]
        if kinds not in ([["b"], ["c"], ["h"], ["w"]], [["b"], [], ["h"], ["w"]]):
            raise self.refuse(f"{what} over something else than [batch, channels, rows, columns]")
        return value

    def view(self, value: Value, shape: Sequence[int]) -> Value:
        """A view of another shape."""
        value = self.natural(value)
        axes = viewed(value.axes, shape)
        if isinstance(axes, str):
            raise self.refuse(axes)
        return replace(value, axes=axes)

    def expanded(self, value: Value, shape: Sequence[int], like: Axes | None = None) -> Value:
        """A value with channel axes of size 1 repeated."""
        value = self.natural(value)
        if len(shape) > len(value.axes):
            value = replace(value, axes=[[] for _ in range(len(shape) - len(value.axes))] + value.axes)
        if value.shape == list(shape):
            return value
        sizes, axes, stride = (
            [],
            [],
            math.prod(n for axis, n in zip(value.axes, shape, strict=True) if all(a.kind == "c" for a in axis)),
        )
        source = []
        for k, (axis, n) in enumerate(zip(value.axes, shape, strict=True)):
            have = math.prod(a.size for a in axis)
            if any(a.kind != "c" for a in axis):
                if n != have:
                    raise self.refuse("a value of the image repeated along an axis of pixels")
                axes.append(axis)
                continue
            if like is not None and any(a.kind != "c" for a in like[k]):
                raise self.refuse("a value without pixels and one with pixels along one axis")
            source.append(have)
            sizes.append(n)
            stride //= n
            axes.append([Atom("c", n, stride)])
        index = np.broadcast_to(np.arange(value.channels).reshape(source), sizes).ravel()
        return Value(self.algebra.gathered(value.blocks, index), axes)

    def pair(self, a: Value, b: Value) -> tuple[Axes, list[tuple[Block, Block]]]:
        """Two values broadcast to one layout, cut into blocks of the same channels."""
        n = max(len(a.axes), len(b.axes))
        shapes = [[1] * (n - len(v.axes)) + v.shape for v in (a, b)]
        shape = [max(p, q) for p, q in zip(*shapes, strict=True)]
        u, v = self.expanded(a, shape), self.expanded(b, shape)
        if u.axes != v.axes or (u.height, u.width) != (v.height, v.width):
            raise self.refuse("two values of different layouts together")
        return u.axes, self.algebra.aligned(u.blocks, v.blocks)

    def table_of(self, array: Array, value: Value) -> Array:
        """A constant as [K|1, H|1, W|1, C|1], to be combined with a value; 1: along that axis it is the same."""
        given = list(array.shape)
        shape = value.shape
        if len(given) > len(shape):
            raise self.refuse(f"an operation between shapes {given} and {shape}")
        given = [1] * (len(shape) - len(given)) + given
        if any(n not in (1, m) for n, m in zip(given, shape, strict=True)):
            raise self.refuse(f"an operation between shapes {given} and {shape}")
        full = atoms(value.axes)
        small = [1 if n == 1 else a.size for n, axis in zip(given, value.axes, strict=True) for a in axis]
        channels = sorted((i for i, a in enumerate(full) if a.kind == "c"), key=lambda i: -full[i].stride)
        order = [i for kind in "bhw" for i, a in enumerate(full) if a.kind == kind] + channels
        all_one = all(small[i] == 1 for i in channels)
        grown = [full[i].size if full[i].kind == "c" and not all_one else n for i, n in enumerate(small)]

        def arrange(t: Any) -> np.ndarray:
            t = torch.as_tensor(t)
            t = t.to(torch.float64).reshape(small or [1]).expand(grown or [1])
            t = t.permute(order) if order else t
            return t.reshape([small[i] for i in order[:3]] + [-1]).numpy()

        table = self.tape.derive(arrange, array)
        for axis in range(3):
            if table.shape[axis] > 1:
                equal = lambda t, axis=axis: bool((t == t.take([0], axis)).all())  # noqa: E731
                if self.tape.fact(table, equal, f"where the values are equal that are used at {self.algebra.where}"):
                    table = self.tape.derive(lambda t, axis=axis: t.take([0], axis), table)
        if table.shape[0] > 1 and not self.graph.classes:
            raise self.refuse("a value that differs within a batch, in a module without classes")
        return table

    def lifted(self, constant: Any, axes: Axes, like: Value) -> Value:
        """A constant as a value of the image, with the given axes."""
        channels = math.prod(a.size for a in atoms(axes) if a.kind == "c")
        empty = self.algebra.constant(channels, like.height, like.width, self.level(like), [])
        value = Value([empty], contiguous(axes))
        if isinstance(constant, Array):
            table = self.table_of(constant, value)
        else:
            table = Array(np.full((1, 1, 1, 1), float(constant)))
        wide = self.tape.derive(lambda t: np.broadcast_to(t, (*t.shape[:3], channels)), table)
        return replace(
            value, blocks=[self.algebra.constant(channels, like.height, like.width, self.level(like), [wide])]
        )

    def level(self, value: Value) -> int:
        """The number of times that a value's resolution is halved."""
        for block in value.blocks:
            if isinstance(block, Levels):
                return 0
            s = block.argument if isinstance(block, Pending) else block
            if s.taps:
                return s.level
        return 0

    def each(self, value: Value, function: Callable[[Block], Block]) -> Value:
        """A function of every block."""
        return replace(value, blocks=[function(b) for b in value.blocks], normalised=None)

    def with_table(self, value: Value, constant: Any, function: Callable[[Sum, Array], Sum]) -> Value:
        """A function of every block and its part of a constant."""
        value = self.natural(value)
        array = constant if isinstance(constant, Array) else Array(torch.tensor(float(constant)))
        table = self.table_of(array, value)
        blocks: list[Block] = []
        at = 0
        for block in value.blocks:
            lo, at, n = at, at + block.channels, block.channels
            part = self.tape.derive(
                lambda t, lo=lo, n=n: np.broadcast_to(t if t.shape[3] == 1 else t[..., lo : lo + n], (*t.shape[:3], n)),
                table,
            )
            blocks.append(function(self.algebra.sum_of(block), part))
        return replace(value, blocks=blocks, normalised=None)

    def spatial(self, value: Value, axis: int, lead: int, size: int) -> Value:
        """Rows or columns padded and cropped."""
        kind = value.kinds(axis)[0]

        def move(block: Block) -> Block:
            s = self.algebra.sum_of(block)
            if kind == "h":
                return self.algebra.moved(s, lead, 0, size, s.width)
            return self.algebra.moved(s, 0, lead, s.height, size)

        axes = [[replace(a, size=size) if a.kind == kind else a for a in axis] for axis in value.axes]
        return Value([move(b) for b in value.blocks], axes)

    def part(self, value: Value, axis: int, index: np.ndarray, drop: bool = False) -> Value:
        """Some entries of an axis of channels."""
        value = self.natural(value)
        held = [(k, a) for k, axis_ in enumerate(value.axes) for a in axis_ if a.kind == "c"]
        order = np.arange(value.channels).reshape([a.size for _, a in held])
        of = [k for k, _ in held]
        if axis in of:
            order = order.take(index, of.index(axis))
        elif len(index) != 1:
            raise self.refuse("part of an axis of size 1")
        axes, stride = list(value.axes), order.size
        sizes: list[int] = list(order.shape)
        for k, size in zip(of, sizes, strict=True):
            stride //= size
            axes[k] = [Atom("c", size, stride)]
        if drop:
            del axes[axis]
        return Value(self.algebra.gathered(value.blocks, order.ravel()), axes)

    def slice(self, value: Value, axis: int, low: int, high: int, step: int = 1, drop: bool = False) -> Value:
        """value[…, low:high:step, …]"""
        size = value.shape[axis]
        if (low, high, step) == (0, size, 1) and not drop:
            return value
        kinds = value.kinds(axis)
        if kinds in (["h"], ["w"]):
            if step != 1:
                raise self.refuse("every other row or column of a value of the image")
            value = self.spatial(value, axis, -low, high - low)
            if drop:  # the axis of size 1 stays, beside its neighbour
                value.axes[axis - 1] = value.axes[axis - 1] + value.axes.pop(axis)
            return value
        if any(k != "c" for k in kinds):
            raise self.refuse("part of a batch, or of an axis of pixels")
        return self.part(value, axis, np.arange(low, high, step), drop)

    def concatenated(self, parts: list[Any], axis: int) -> Value:
        """torch.cat"""
        first = self.natural(next(p for p in parts if isinstance(p, Value)))
        axis %= len(first.axes)
        parts = [p for p in parts if isinstance(p, Value) or p.shape != (0,)]
        kinds = first.kinds(axis)
        if kinds in (["h"], ["w"]):
            sizes = [p.shape[axis] for p in parts]
            at, result = 0, None
            for p, size in zip(parts, sizes, strict=True):
                if not isinstance(p, Value):
                    axes = [[replace(a, size=size) if a.kind == kinds[0] else a for a in ax] for ax in first.axes]
                    grid = replace(
                        first, blocks=[self.algebra.constant(first.channels, *self._size(first, kinds[0], size), 0, [])]
                    )
                    p = self.lifted(p, axes, grid)
                p = self.spatial(p, axis, at, sum(sizes))
                at += size
                if result is None:
                    result = p
                else:
                    axes, pairs = self.pair(result, p)
                    result = Value([self.algebra.added(x, y) for x, y in pairs], axes)
            assert result is not None
            return result
        if any(k != "c" for k in kinds):
            raise self.refuse("values put together along something else than channels, rows or columns")
        lists: list[Value] = []
        for p in parts:
            if isinstance(p, Value):
                p = self.natural(p)
                rest = [a for k, a in enumerate(p.axes) if k != axis]
                if rest != [a for k, a in enumerate(first.axes) if k != axis] and [
                    [(x.kind, x.size) for x in a] for a in rest
                ] != [[(x.kind, x.size) for x in a] for k, a in enumerate(first.axes) if k != axis]:
                    raise self.refuse("values of different layouts put together")
            else:
                axes = [a if k != axis else [Atom("c", p.shape[axis])] for k, a in enumerate(first.axes)]
                p = self.lifted(p, axes, first)
            lists.append(p)
        # Channels stored part after part: an axis's own channels need not be the innermost ones.
        blocks: list[Block] = [b for p in lists for b in p.blocks]
        total = sum(p.shape[axis] for p in lists)
        sizes = [math.prod(a.size for a in ax if a.kind == "c") for ax in first.axes]
        grids, at = [], 0
        for p in lists:
            own = [n if k != axis else p.shape[axis] for k, n in enumerate(sizes)]
            grids.append(at + np.arange(p.channels).reshape(own))
            at += p.channels
        order = np.concatenate(grids, axis).ravel()
        axes = contiguous([a if k != axis else [Atom("c", total)] for k, a in enumerate(first.axes)])
        if not np.array_equal(order, np.arange(len(order))):
            blocks = self.algebra.gathered(blocks, order)
        return Value(blocks, axes)

    def _size(self, value: Value, kind: str, size: int) -> tuple[int, int]:
        return (size, value.width) if kind == "h" else (value.height, size)

    def written(self, base: Any, source: Any, axis: int, low: int, high: int) -> Value:
        """base with base[…, low:high, …] = source."""
        like = base if isinstance(base, Value) else source
        axis %= len(like.axes)
        if isinstance(source, Value) and (low, high) == (0, base.shape[axis]):
            return source
        if "b" in like.kinds(axis):
            raise self.refuse("a write to part of a batch")
        if not isinstance(base, Value):
            axes = list(source.axes)
            kinds = source.kinds(axis)
            size = base.shape[axis]
            axes[axis] = [replace(source.axes[axis][0], size=size)] if kinds in (["h"], ["w"]) else [Atom("c", size)]
            grid = source
            if kinds in (["h"], ["w"]):
                blank = self.algebra.constant(1, *self._size(source, kinds[0], size), 0, [])
                grid = Value([blank], axes)
            base = self.lifted(base, axes, grid)
        kinds = base.kinds(axis)
        if not isinstance(source, Value):
            axes = list(base.axes)
            n = high - low
            axes[axis] = [replace(base.axes[axis][0], size=n)] if kinds in (["h"], ["w"]) else [Atom("c", n)]
            grid = base
            if kinds in (["h"], ["w"]):
                grid = Value([self.algebra.constant(1, *self._size(base, kinds[0], n), 0, [])], axes)
            source = self.lifted(source, axes, grid)
        if (low, high) == (0, base.shape[axis]):
            return source
        if kinds in (["h"], ["w"]):
            kept = self.each(
                base, lambda b: self.algebra.outside(self.algebra.sum_of(b), 1 if kinds == ["h"] else 2, low, high)
            )
            axes, pairs = self.pair(kept, self.spatial(source, axis, low, base.shape[axis]))
            return Value([self.algebra.added(x, y) for x, y in pairs], axes)
        pieces = [self.slice(base, axis, 0, low)] if low else []
        pieces.append(source)
        if high < base.shape[axis]:
            pieces.append(self.slice(base, axis, high, base.shape[axis]))
        return self.concatenated(pieces, axis)

    def product(self, value: Value, axis: int, weight: Array, bias: Array | None) -> Value:
        """A product along an axis of channels with weight [in, out]; the result's axis is in the same place."""
        value = self.natural(value)
        axis %= len(value.axes)
        inputs, outputs = weight.shape
        if any(k != "c" for k in value.kinds(axis)) or value.shape[axis] != inputs:
            raise self.refuse("a product along something else than the channels")
        others = [(k, a) for k, ax in enumerate(value.axes) for a in ax if a.kind == "c" and k != axis]
        count = math.prod(a.size for _, a in others)
        if count > 1:  # the product for every combination of the other axes
            order = [k for k, _ in others] + [axis]
            held = [k for k, ax in enumerate(value.axes) if ax and ax[0].kind == "c"]
            grid = np.arange(value.channels).reshape([value.shape[k] for k in held])
            index = grid.transpose([held.index(k) for k in order]).ravel()
            value = Value(self.algebra.gathered(value.blocks, index), value.axes)
            weight = self.tape.derive(lambda w: torch.kron(torch.eye(count, dtype=w.dtype), w), weight)
            if bias is not None:
                bias = self.tape.derive(lambda b: b.repeat(count), bias)
        matrix = self.tape.derive(lambda w: w.numpy(), weight)
        offset = None if bias is None else self.tape.derive(lambda b: b.numpy(), bias)
        mixed = self.algebra.mixed(value.blocks, matrix, offset)
        stride, axes = outputs * count, list(value.axes)
        for k, a in others:
            stride //= a.size
            axes[k] = [Atom("c", a.size, stride)]
        axes[axis] = [Atom("c", outputs, 1)]
        return Value([mixed], axes)

    def activation(self, value: Value, name: str, slope: float | None = None) -> Value:
        """An activation, pending."""

        def pend(block: Block) -> Block:
            if isinstance(block, Pending) and name == "relu" and block.activation == "relu":
                return block
            return Pending(name, slope, self.algebra.sum_of(block))

        return self.each(value, pend)

    def combined(self, value: Value, *parts: tuple[float, str, float, float]) -> Value:
        """The sum of factor·activation(sign·x + offset) over (factor, activation, sign, offset)."""

        def combine(block: Block) -> Block:
            x = self.algebra.sum_of(block)
            x = x if self.algebra.pointwise(x) else self.algebra.materialised(x)
            total: Sum | None = None
            for factor, name, sign, offset in parts:
                inner = self.algebra.scaled(x, sign) if sign != 1 else x
                if offset:
                    inner = self.algebra.shifted(inner, Array(np.full((1, 1, 1, x.channels), offset)))
                outer = self.algebra.scaled(
                    self.algebra.sum_of(inner if name == "raw" else Pending(name, None, inner)), factor
                )
                total = outer if total is None else self.algebra.added(total, outer)
            assert total is not None
            return total

        return self.each(value, combine)


class _NotPointwise(Exception):
    pass
