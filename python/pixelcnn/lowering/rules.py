"""The rules: the effect of each of PyTorch's operations on a value of the image. Arguments are named as in its schema.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from .lower import SAME, Arguments, Lowering, rule
from .tape import Array
from .trace import Step
from .values import Atom, Block, Levels, Sum, Value


def bounds(size: int, start: Any, end: Any) -> tuple[int, int]:
    """A slice's bounds within 0 … size."""
    low = 0 if start is None else start
    high = size if end is None else end
    low, high = (min(max(n + size if n < 0 else n, 0), size) for n in (low, high))
    return low, max(low, high)


# Layout


@rule(*SAME)
def same(lo: Lowering, a: Arguments, step: Step) -> Value:
    return next(v for v in a.values() if isinstance(v, Value))


@rule("_to_copy")
def converted(lo: Lowering, a: Arguments, step: Step) -> Value:
    if a["dtype"] is not None and not a["dtype"].is_floating_point:
        raise lo.refuse("a conversion of values of the image to whole numbers")
    return a["self"]


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten")
def view(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.view(a["self"], lo.program.slots[step.results[0]].shape)


@rule("permute")
def permute(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = a["self"]
    return Value(x.blocks, [x.axes[d] for d in a["dims"]], x.normalised)


@rule("transpose", "t", "swapaxes")
def transpose(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, axes = a["self"], list(a["self"].axes)
    i, j = a.get("dim0", 0), a.get("dim1", len(axes) - 1)
    axes[i], axes[j] = axes[j], axes[i]
    return Value(x.blocks, axes, x.normalised)


@rule("repeat")
def repeat(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, times = lo.natural(a["self"]), list(a["repeats"])
    x = Value(x.blocks, [[] for _ in range(len(times) - len(x.axes))] + x.axes)
    for axis, n in enumerate(times):
        if n != 1 and x.shape[axis] == 1:
            x = lo.expanded(x, [m * (n if k == axis else 1) for k, m in enumerate(x.shape)])
        elif n != 1:
            if any(k != "c" for k in x.kinds(axis)):
                raise lo.refuse("a value of the image repeated along an axis of pixels")
            x = lo.part(x, axis, np.tile(np.arange(x.shape[axis]), n))
    return x


@rule("expand")
def expand(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.expanded(a["self"], lo.program.slots[step.results[0]].shape)


@rule("slice")
def slice_(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    return lo.slice(x, axis, *bounds(x.shape[axis], a["start"], a["end"]), a["step"])


@rule("narrow")
def narrow(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    return lo.slice(x, axis, a["start"], a["start"] + a["length"])


@rule("select")
def select(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    index = a["index"] % x.shape[axis]
    return lo.slice(x, axis, index, index + 1, drop=True)


@rule("split", "split_with_sizes", "chunk")
def split(lo: Lowering, a: Arguments, step: Step) -> list[Value]:
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    sizes = [lo.program.slots[r].shape[axis] for r in step.results]
    blocks = [b for b in x.blocks if not isinstance(b, Levels)]
    if len(blocks) == 1 and len(step.results) > 1 and all(k == "c" for k in x.kinds(axis)):
        x = lo._shared(Value(list(x.blocks), x.axes))
    at = np.cumsum([0, *sizes])
    return [lo.slice(x, axis, int(p), int(q)) for p, q in zip(at, at[1:], strict=False)]


@rule("unbind")
def unbind(lo: Lowering, a: Arguments, step: Step) -> list[Value]:
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    return [lo.slice(x, axis, i, i + 1, drop=True) for i in range(x.shape[axis])]


@rule("cat")
def cat(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.concatenated(list(a["tensors"]), a["dim"])


@rule("stack")
def stack(lo: Lowering, a: Arguments, step: Step) -> Value:
    axis = a["dim"] % len(lo.program.slots[step.results[0]].shape)

    def widen(t: Any) -> Any:
        if isinstance(t, Value):
            return Value(t.blocks, [*t.axes[:axis], [], *t.axes[axis:]])
        return lo.tape.derive(lambda v: v.unsqueeze(axis), t)

    return lo.concatenated([widen(t) for t in a["tensors"]], axis)


@rule("flip")
def flip(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = a["self"]
    for d in a["dims"]:
        if any(k != "c" for k in x.kinds(d % len(x.axes))):
            raise lo.refuse("a value of the image flipped")
        x = lo.part(x, d % len(x.axes), np.arange(x.shape[d])[::-1])
    return x


@rule("constant_pad_nd")
def pad(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, amounts = lo.natural(a["self"]), a["pad"]
    for k in range(len(amounts) // 2):
        before, after = amounts[2 * k : 2 * k + 2]
        axis = len(x.axes) - 1 - k
        if (before, after) == (0, 0):
            continue
        if x.kinds(axis) in (["h"], ["w"]):
            size = x.shape[axis]
            x = lo.spatial(x, axis, before, size + before + after)
            if a["value"]:
                border = np.full(size + before + after, float(a["value"]))
                border[max(before, 0) : before + size] = 0
                grid = border.reshape((1, -1, 1, 1) if x.kinds(axis) == ["h"] else (1, 1, -1, 1))
                tables = [Array(np.repeat(grid, b.channels, 3)) for b in x.blocks]
                sums = [lo.algebra.sum_of(b) for b in x.blocks]
                x = Value([lo.algebra.shifted(s, t) for s, t in zip(sums, tables, strict=True)], x.axes)
        elif all(kind == "c" for kind in x.kinds(axis)):
            if min(before, after) < 0:
                low, high = max(-before, 0), x.shape[axis] - max(-after, 0)
                x, before, after = lo.slice(x, axis, low, high), max(before, 0), max(after, 0)
            made = [[1] * axis + [m] + [1] * (len(x.axes) - axis - 1) for m in (before, after)]
            first, last = (Array(torch.full(s, float(a["value"] or 0), dtype=torch.float64)) for s in made)
            x = lo.concatenated([first] * (before > 0) + [x] + [last] * (after > 0), axis)
        else:
            raise lo.refuse("padding of something else than rows, columns or channels")
    return x


@rule("slice_scatter")
def slice_scatter(lo: Lowering, a: Arguments, step: Step) -> Value:
    base = a["self"]
    like = base if isinstance(base, Value) else a["src"]
    axis = a["dim"] % len(like.shape)
    if a["step"] != 1:
        raise lo.refuse("a write to every other entry")
    return lo.written(base, a["src"], axis, *bounds(base.shape[axis], a["start"], a["end"]))


@rule("select_scatter")
def select_scatter(lo: Lowering, a: Arguments, step: Step) -> Value:
    base, source = a["self"], a["src"]
    axis = a["dim"] % len(base.shape)
    index = a["index"] % base.shape[axis]
    if isinstance(source, Value):
        source = Value(source.blocks, [*source.axes[:axis], [], *source.axes[axis:]])
        like = base.axes[axis] if isinstance(base, Value) else []
        if like and like[0].kind != "c":
            raise lo.refuse("a value of the image written into single rows or columns")
    else:
        source = lo.tape.derive(lambda t: t.unsqueeze(axis) if t.dim() else t, source)
    return lo.written(base, source, axis, index, index + 1)


@rule("copy")
def copy(lo: Lowering, a: Arguments, step: Step) -> Any:
    source, shape = a["src"], lo.program.slots[step.results[0]].shape
    return (
        lo.expanded(source, shape) if isinstance(source, Value) else lo.tape.derive(lambda s: s.expand(shape), source)
    )


@rule(
    "zeros_like",
    "ones_like",
    "new_zeros",
    "new_ones",
    "full_like",
    "new_full",
    "empty_like",
    "new_empty",
    "fill",
    "zero",
)
def fresh(lo: Lowering, a: Arguments, step: Step) -> Array:
    shape, name = lo.program.slots[step.results[0]].shape, step.operation
    value: Any = a.get("fill_value", a.get("value", 1.0 if "ones" in name else 0.0))
    if isinstance(value, Array):
        return lo.tape.derive(lambda v: v.double().expand(shape), value)
    return Array(torch.full((1,) * len(shape), float(value), dtype=torch.float64).expand(shape))


# Look-ups


def look_up(lo: Lowering, table: Any, index: Any) -> Value:
    """table[index] for an index that is a function of one channel of the image."""
    if isinstance(table, Value) or not isinstance(index, Value):
        raise lo.refuse("a look-up in a table made from the image")
    index = lo.natural(index)
    if not all(isinstance(b, Levels) for b in index.blocks):
        raise lo.refuse("a look-up by something else than the image's levels")
    levels = lo._one_levels(index)
    if levels.table.value.is_floating_point():
        raise lo.refuse("a look-up by numbers that are not whole")
    width = math.prod(table.shape[1:])

    def take(t: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(t)[i.clamp(0, len(t) - 1)].reshape(len(i), -1)

    made = Levels(
        np.repeat(levels.image_channels, width), lo.tape.derive(take, table, levels.table), index.height, index.width
    )
    axes = [[Atom(x.kind, x.size, x.stride * width) if x.kind == "c" else x for x in axis] for axis in index.axes]
    stride = width
    for n in table.shape[1:]:
        stride //= n
        axes.append([Atom("c", n, stride)])
    return Value([made], axes)


@rule("embedding")
def embedding(lo: Lowering, a: Arguments, step: Step) -> Value:
    return look_up(lo, a["weight"], a["indices"])


@rule("index_select")
def index_select(lo: Lowering, a: Arguments, step: Step) -> Value:
    if isinstance(a["index"], Value):
        if a["dim"] != 0:
            raise lo.refuse("a look-up along another axis than the first")
        return look_up(lo, a["self"], a["index"])
    x = a["self"]
    axis = a["dim"] % len(x.axes)
    if any(k != "c" for k in x.kinds(axis)):
        raise lo.refuse("chosen rows, columns or images of a value of the image")
    return lo.part(x, axis, lo.tape.fact(a["index"], lambda i: np.asarray(i), "an index"))


@rule("index")
def index(lo: Lowering, a: Arguments, step: Step) -> Value:
    given = list(a["indices"])
    if not isinstance(a["self"], Value) and len(given) == 1:
        return look_up(lo, a["self"], given[0])
    used = [k for k, i in enumerate(given) if i is not None]
    if (
        isinstance(a["self"], Value)
        and len(used) == 1
        and isinstance(given[used[0]], Array)
        and len(given[used[0]].shape) == 1
    ):
        return index_select(lo, {"self": a["self"], "dim": used[0], "index": given[used[0]]}, step)
    raise lo.refuse("an index into, or by, values of the image")


@rule("scatter")
def scatter(lo: Lowering, a: Arguments, step: Step) -> Value:
    """zeros.scatter(dim, levels, 1): one-hot."""
    base, where, axis = a["self"], a["index"], a["dim"]
    value: Any = a.get("value", a.get("src"))
    value = value.value.flatten()[0] if isinstance(value, Array) else value
    if isinstance(base, Value) or not isinstance(where, Value) or isinstance(value, Value):
        raise lo.refuse("a scatter of values of the image")
    axis %= len(where.axes)
    if where.shape[axis] != 1 or bool(base.value.any()):
        raise lo.refuse("a scatter other than zeros with one value at the image's level")
    unit = Array(torch.eye(base.shape[axis], dtype=torch.float64) * float(value))
    found = look_up(lo, unit, Value(where.blocks, [x for k, x in enumerate(where.axes) if k != axis]))
    axes = found.axes[:-1]
    return Value(found.blocks, [*axes[:axis], found.axes[-1], *axes[axis:]])


# Sums and products


def plus(lo: Lowering, x: Any, y: Any, factor: float = 1.0) -> Value:
    """x + factor·y, of values of the image and constants."""
    if isinstance(x, Value) and isinstance(y, Value):
        axes, pairs = lo.pair(x, y)
        return Value([lo.algebra.added(p, q, factor) for p, q in pairs], axes)
    of_x, of_y = 1.0, factor
    if not isinstance(x, Value):
        x, y, of_x, of_y = y, x, of_y, of_x
    x = lo.expanded(x, broadcast(x, y))

    def shift(s: Sum, table: Array) -> Sum:
        s = lo.algebra.scaled(s, of_x) if of_x != 1 else s
        return lo.algebra.shifted(s, lo.tape.derive(lambda t: of_y * t, table) if of_y != 1 else table)

    return lo.with_table(x, y, shift)


def times(lo: Lowering, x: Any, y: Any) -> Value:
    """x·y, of values of the image and constants."""
    if isinstance(x, Value) and isinstance(y, Value):
        axes, pairs = lo.pair(x, y)
        return Value([lo.algebra.gated(p, q) for p, q in pairs], axes)
    if not isinstance(x, Value):
        x, y = y, x
    if not isinstance(y, Array):
        return lo.each(x, lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), float(y)))
    return lo.with_table(lo.expanded(x, broadcast(x, y)), y, lo.algebra.scaled)


def broadcast(x: Value, y: Any) -> list[int]:
    """The shape that two operands have together."""
    return list(np.broadcast_shapes(x.shape, y.shape if isinstance(y, Array) else ()))


@rule("add")
def add(lo: Lowering, a: Arguments, step: Step) -> Value:
    return plus(lo, a["self"], a["other"], float(a["alpha"]))


@rule("sub")
def subtract(lo: Lowering, a: Arguments, step: Step) -> Value:
    return plus(lo, a["self"], a["other"], -float(a["alpha"]))


@rule("rsub")
def subtract_from(lo: Lowering, a: Arguments, step: Step) -> Value:
    return plus(lo, a["other"], a["self"], -float(a["alpha"]))


@rule("mul")
def multiply(lo: Lowering, a: Arguments, step: Step) -> Value:
    return times(lo, a["self"], a["other"])


@rule("div")
def divide(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, y = a["self"], a["other"]
    if isinstance(y, Value):
        raise lo.refuse(
            "a quotient of two values of the image" if isinstance(x, Value) else "a quotient by a value of the image"
        )
    if a.get("rounding_mode"):
        raise lo.refuse("a quotient that is rounded")
    return times(lo, x, lo.tape.derive(lambda v: 1 / v.double(), y) if isinstance(y, Array) else 1 / y)


@rule("neg")
def negative(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.each(a["self"], lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), -1.0))


@rule("pow")
def power(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, n = a["self"], a.get("exponent")
    if not isinstance(x, Value) or n not in (2, 3):
        raise lo.refuse("a power other than 2 or 3 of a value of the image")

    def raised(b: Block) -> Block:
        b = lo.algebra.materialised(lo.algebra.sum_of(b))
        square = lo.algebra.gated(b, b)
        return square if n == 2 else lo.algebra.gated(square, b)

    return lo.each(x, raised)


@rule("square")
def square(lo: Lowering, a: Arguments, step: Step) -> Value:
    return power(lo, {"self": a["self"], "exponent": 2}, step)


@rule("addcmul")
def addcmul(lo: Lowering, a: Arguments, step: Step) -> Value:
    return plus(lo, a["self"], times(lo, a["tensor1"], a["tensor2"]), float(a["value"]))


@rule("maximum", "minimum")
def maximum(lo: Lowering, a: Arguments, step: Step) -> Value:
    """max(x, y) = x + relu(y - x)"""
    x, y, sign = a["self"], a["other"], 1.0 if step.operation == "maximum" else -1.0
    difference = plus(lo, y, x, -1.0)
    more = lo.activation(lo.each(difference, lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), sign)), "relu")
    return plus(lo, x, more, sign)


@rule("lerp")
def lerp(lo: Lowering, a: Arguments, step: Step) -> Value:
    """x + weight·(y - x)"""
    return plus(lo, a["self"], times(lo, plus(lo, a["end"], a["self"], -1.0), a["weight"]))


@rule("where")
def where(lo: Lowering, a: Arguments, step: Step) -> Any:
    """mask·x + (1 - mask)·y"""
    mask, parts = a["condition"], [a["self"], a["other"]]
    if not isinstance(mask, Array):
        raise lo.refuse("control flow, or a number, that depends on values of the image")
    masks = [lo.tape.derive(lambda m: m.double(), mask), lo.tape.derive(lambda m: 1 - m.double(), mask)]
    shares: list[Any] = []
    for part, m in zip(parts, masks, strict=True):
        if isinstance(part, Value):
            shares.append(times(lo, part, m))
        else:
            array = part if isinstance(part, Array) else Array(torch.tensor(float(part), dtype=torch.float64))
            shares.append(lo.tape.derive(lambda p, q: p * q, array, m))
    return plus(lo, shares[0], shares[1])


@rule("masked_fill")
def masked_fill(lo: Lowering, a: Arguments, step: Step) -> Any:
    return where(lo, {"condition": a["mask"], "self": a["value"], "other": a["self"]}, step)


@rule("sum", "mean")
def total(lo: Lowering, a: Arguments, step: Step) -> Value:
    """Over channels, a product with ones."""
    x, keep = lo.natural(a["self"]), a.get("keepdim", False)
    dims = a.get("dim")
    if dims is None or any(k != "c" for d in dims for k in x.kinds(d)):
        raise lo.refuse(f"{step.operation}: statistics of a value of the image over its pixels")
    for d in sorted((d % len(x.axes) for d in dims), reverse=True):
        n = x.shape[d]
        if x.kinds(d):
            ones = torch.full((n, 1), 1.0 if step.operation == "sum" else 1 / n, dtype=torch.float64)
            x = lo.product(x, d, Array(ones), None)
        if not keep:
            x = Value(x.blocks, [axis for k, axis in enumerate(x.axes) if k != d])
    return x


@rule("mm", "addmm", "linear", "bmm", "baddbmm")
def matrix_product(lo: Lowering, a: Arguments, step: Step) -> Value:
    name = step.operation
    if name == "linear":
        x, w = (
            a["input"],
            lo.tape.derive(lambda t: t.t(), a["weight"]) if isinstance(a["weight"], Array) else a["weight"],
        )
        bias = a["bias"]
    elif name in ("addmm", "baddbmm"):
        x, w, bias = (a["mat1"], a["mat2"], a["self"]) if name == "addmm" else (a["batch1"], a["batch2"], a["self"])
        if a.get("beta", 1) != 1 or a.get("alpha", 1) != 1:
            raise lo.refuse("a scaled product")
    else:
        x, w, bias = a["self"], a["mat2"], None
    if isinstance(x, Value) and isinstance(w, Value):
        raise lo.refuse("a product of two values of the image (attention)")
    turned = isinstance(w, Value)
    if turned:  # W·x = (xᵀ·Wᵀ)ᵀ
        x, w = w, lo.tape.derive(lambda t: t.transpose(-1, -2), x)
    if len(w.shape) == 3:
        same = lambda t: bool((t == t[:1]).all())  # noqa: E731
        if not lo.tape.fact(w, same, "a batch of weights"):
            raise lo.refuse("a product with weights that differ within a batch")
        w = lo.tape.derive(lambda t: t[0], w)
    if isinstance(bias, Value) or (bias is not None and len(bias.shape) > 1):
        y = lo.product(x, len(x.axes) - (2 if turned else 1), w, None)
        return plus(lo, y, bias)
    return lo.product(x, len(x.axes) - (2 if turned else 1), w, bias)


@rule("convolution", "_convolution")
def convolution(lo: Lowering, a: Arguments, step: Step) -> Value:
    x, weight, groups = a["input"], a["weight"], a["groups"]
    if isinstance(weight, Value) or not isinstance(x, Value):
        raise lo.refuse("a convolution whose weights depend on the image")
    stride, transposed = a["stride"], a["transposed"]
    size = tuple(weight.shape[2:])
    if len(size) != 2 and {*size, *stride} == {1} and not any(a["padding"]) and groups == 1 and not transposed:
        return lo.product(x, 1, lo.tape.derive(lambda w: w.flatten(1).t(), weight), a["bias"])
    if len(size) == 3 and x.shape[2] == 1 and a["stride"][0] == 1 and not transposed:
        return flattened(lo, a, step)
    if len(size) != 2:
        raise lo.refuse(f"a convolution in {len(size)} dimensions")
    x = lo.canonical(x, "a convolution")
    strides = {*stride}
    if len(strides) != 1 or not strides <= {1, 2}:
        raise lo.refuse(f"a convolution of stride {stride}: 1 and 2, the same for rows and columns, are taken")

    def kernel(w: torch.Tensor) -> np.ndarray:
        """[out, in, kh, kw], whatever the groups"""
        full = w.numpy()
        each = full.reshape(groups, -1, *full.shape[1:])
        if transposed:
            each = each.transpose(0, 2, 1, 3, 4)
        if groups == 1:
            return each[0]
        _, o, i, *size = each.shape
        result = np.zeros((groups * o, groups * i, *size))
        for g in range(groups):
            result[g * o : (g + 1) * o, g * i : (g + 1) * i] = each[g]
        return result

    bias = None if a["bias"] is None else lo.tape.derive(lambda b: b.numpy(), a["bias"])
    more = tuple(a["output_padding"]) if transposed else None
    weights = lo.tape.derive(kernel, weight)
    made = lo.algebra.convolved(x.blocks, weights, bias, stride[0], tuple(a["padding"]), tuple(a["dilation"]), more)
    n, c, h, w = x.axes
    axes = [n, [Atom("c", made.channels)], [Atom("h", made.height)], [Atom("w", made.width)]]
    return Value([made], axes)


def flattened(lo: Lowering, a: Arguments, step: Step) -> Value:
    """A convolution in three dimensions of a value of depth 1: the slice of the kernel that meets it."""
    (pad, *padding), (dilated, *dilation), size = a["padding"], a["dilation"], a["weight"].shape[2]
    place, rest = divmod(pad, dilated)
    if rest or place >= size or 1 + 2 * pad != dilated * (size - 1) + 1:
        raise lo.refuse("a convolution in 3 dimensions that changes a depth of 1")
    x = lo.natural(a["input"])
    x = Value(x.blocks, x.axes[:2] + x.axes[3:])
    weight = lo.tape.derive(lambda w: w[:, :, place], a["weight"])
    flat = {**a, "input": x, "weight": weight, "stride": a["stride"][1:], "padding": padding, "dilation": dilation}
    y = convolution(lo, flat, step)
    return Value(y.blocks, [*y.axes[:2], [], *y.axes[2:]])


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_batch_norm_no_update",
    "_batch_norm_with_update",
    "_batch_norm_impl_index",
)
def batch_norm(lo: Lowering, a: Arguments, step: Step) -> list[Value]:
    mean, var = a.get("running_mean"), a.get("running_var")
    if (
        a.get("training", a.get("train", False))
        or mean is None
        or var is None
        or step.operation == "_batch_norm_with_update"
    ):
        raise lo.refuse("batch norm in training mode, or without running statistics")
    eps = a.get("eps", a.get("epsilon"))
    one = Array(torch.ones((), dtype=torch.float64))
    scale = lo.tape.derive(lambda w, v: w / torch.sqrt(v + eps), a["weight"] or one, var)
    shift = lo.tape.derive(lambda b, m, s: b - m * s, a["bias"] or Array(one.value * 0), mean, scale)
    x = a["input"]
    grow = lambda t: t.reshape(-1, *[1] * (len(x.axes) - 2))  # noqa: E731
    x = lo.with_table(x, lo.tape.derive(grow, scale), lo.algebra.scaled)
    x = lo.with_table(x, lo.tape.derive(grow, shift), lo.algebra.shifted)
    return [x] * len(step.results)


# Activations


@rule("relu", "tanh", "sigmoid", "silu", "exp")
def plain(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.activation(a["self"], step.operation)


@rule("gelu")
def gelu(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.activation(a["self"], "gelu_tanh" if a.get("approximate") == "tanh" else "gelu")


@rule("leaky_relu")
def leaky_relu(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.activation(a["self"], "leaky_relu", float(a["negative_slope"]))


@rule("_prelu_kernel", "prelu")
def prelu(lo: Lowering, a: Arguments, step: Step) -> Value:
    """relu(x) - weight·relu(-x)"""
    x = a["self"]
    positive = lo.combined(x, (1.0, "relu", 1.0, 0.0))
    negative = lo.combined(x, (-1.0, "relu", -1.0, 0.0))
    weight = a["weight"]
    if len(weight.shape) == 1:
        weight = lo.tape.derive(lambda w: w.reshape(-1, *[1] * (len(x.axes) - 2)), weight)
    negative = lo.with_table(negative, weight, lo.algebra.scaled)
    axes, pairs = lo.pair(positive, negative)
    return Value([lo.algebra.added(p, q) for p, q in pairs], axes)


@rule("elu", "celu", "selu")
def elu(lo: Lowering, a: Arguments, step: Step) -> Value:
    if step.operation == "selu":
        alpha, scale = 1.6732632423543772, 1.0507009873554805
    else:
        alpha, scale = float(a["alpha"]), float(a.get("scale", 1.0))
    if a.get("input_scale", 1) != 1:
        raise lo.refuse("an elu with a scaled input")
    if (alpha, scale) == (1.0, 1.0):
        return lo.activation(a["self"], "elu")
    if step.operation == "celu":  # alpha·elu(x / alpha)
        inner = lo.each(a["self"], lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), 1 / alpha))
        return lo.combined(inner, (alpha, "elu", 1.0, 0.0))
    return lo.combined(a["self"], (scale * (1 - alpha), "relu", 1.0, 0.0), (scale * alpha, "elu", 1.0, 0.0))


@rule("softplus")
def softplus(lo: Lowering, a: Arguments, step: Step) -> Value:
    beta = float(a["beta"])
    if beta == 1:
        return lo.activation(a["self"], "softplus")
    inner = lo.each(a["self"], lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), beta))
    return lo.combined(inner, (1 / beta, "softplus", 1.0, 0.0))


@rule("log_sigmoid_forward", "log_sigmoid")
def log_sigmoid(lo: Lowering, a: Arguments, step: Step) -> list[Value]:
    return [lo.combined(a["self"], (-1.0, "softplus", -1.0, 0.0))] * len(step.results)


@rule("abs")
def absolute(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.combined(a["self"], (1.0, "relu", 1.0, 0.0), (1.0, "relu", -1.0, 0.0))


def clamped(lo: Lowering, x: Value, low: float | None, high: float | None) -> Value:
    """low + relu(x - low) - relu(x - high)"""
    if low is None and high is None:
        return x
    if low is None:
        assert high is not None
        clipped = lo.combined(x, (1.0, "raw", 1.0, 0.0), (-1.0, "relu", 1.0, -high))
        return clipped
    parts = [(1.0, "relu", 1.0, -low)] + ([] if high is None else [(-1.0, "relu", 1.0, -high)])
    y = lo.combined(x, *parts)
    return lo.with_table(y, low, lo.algebra.shifted) if low else y


@rule("hardtanh", "clamp", "clamp_min", "clamp_max", "clip", "relu6")
def clamp(lo: Lowering, a: Arguments, step: Step) -> Value:
    if step.operation == "relu6":
        return clamped(lo, a["self"], 0.0, 6.0)
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    if isinstance(low, (Array, Value)) or isinstance(high, (Array, Value)):
        raise lo.refuse("a clamp between tensors")
    return clamped(lo, a["self"], None if low is None else float(low), None if high is None else float(high))


@rule("hardsigmoid")
def hardsigmoid(lo: Lowering, a: Arguments, step: Step) -> Value:
    return lo.each(
        clamped(lo, lo.with_table(a["self"], 3.0, lo.algebra.shifted), 0.0, 6.0),
        lambda b: lo.algebra.scaled(lo.algebra.sum_of(b), 1 / 6),
    )


@rule("hardswish")
def hardswish(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = lo._shared(a["self"])
    return times(lo, x, hardsigmoid(lo, {"self": x}, step))


@rule("mish")
def mish(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = lo._shared(a["self"])
    inner = lo.activation(lo.activation(x, "softplus"), "tanh")
    return times(lo, x, inner)


@rule("glu")
def glu(lo: Lowering, a: Arguments, step: Step) -> Value:
    x = lo._shared(a["self"])
    axis = a["dim"] % len(x.axes)
    n = x.shape[axis] // 2
    gate = lo.activation(lo.slice(x, axis, n, 2 * n), "sigmoid")
    return times(lo, lo.slice(x, axis, 0, n), gate)


@rule("_softmax", "_log_softmax", "softmax", "log_softmax")
def softmax(lo: Lowering, a: Arguments, step: Step) -> Value:
    """Left out: the head does it. Anything but layout after it is refused."""
    x = lo.natural(a["self"])
    axis = a["dim"] % len(x.axes)
    if any(k != "c" for k in x.kinds(axis)):
        raise lo.refuse(f"{step.operation.lstrip('_')} over pixels")
    return Value(x.blocks, x.axes, (step.operation.lstrip("_"), x.shape[axis]))
