"""Operations on blocks: sums become nodes only where an activation, a second reader or a convolution needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import Refused
from . import maps
from .graph import EVERYWHERE, IMAGE, RAW, Form, Graph, Layer, Node, Pick, Rect, Tap
from .tape import Array
from .trace import Where
from .values import Block, Levels, Pending, Sum

KEEPS_ZERO = {"raw", "relu", "elu", "leaky_relu", "tanh", "silu", "gelu", "gelu_tanh"}


def bounded(rect: Rect, k: int, bound: float) -> Rect:
    """A rectangle with another bound."""
    a, b, c, d = (bound if i == k else r for i, r in enumerate(rect))
    return a, b, c, d


def united(a: Rect, b: Rect) -> Rect | None:
    """Two adjacent rectangles as one."""
    for k, other in ((0, 2), (2, 0)):
        if a[other : other + 2] == b[other : other + 2]:
            first, second = sorted((a, b), key=lambda r: r[k])  # noqa: B023
            if first[k + 1] == second[k]:
                return bounded(first, k + 1, second[k + 1])
    return None


class Algebra:
    """Builds a graph; values of any size are nodes here, which `place` puts on the canvas afterwards."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.tape = graph.tape
        self.where = Where()
        self._encodings: dict[tuple[object, ...], Form] = {}

    def refuse(self, why: str) -> Refused:
        """The error that names the present operation's source."""
        where = str(self.where)
        return Refused(f"{why} ({where})" if where else why)

    # Sums

    def sum_of(self, block: Block) -> Sum:
        """Any block as a sum."""
        if isinstance(block, Sum):
            return block
        if block.result is None:
            if isinstance(block, Pending):
                block.result = self.activated(block.argument, block.activation, block.slope)
            else:
                block.result = self._looked_up(block)
        return block.result

    def constant(self, channels: int, height: int, width: int, level: int, tables: list[Array]) -> Sum:
        """A sum that does not depend on the image."""
        return Sum(channels, height, width, level, [], tables, self.where)

    def node_sum(self, node: int, form: Form = RAW) -> Sum:
        """A node's form, unchanged."""
        n = self.graph.nodes[node]
        tap = Tap(node, form, 0, 0, maps.identity(n.channels))
        return Sum(n.channels, n.height, n.width, n.level, [tap], [], n.where, node if form is RAW else None)

    def _looked_up(self, block: Levels) -> Sum:
        """A function of the image's levels, as look-ups in encoding tables."""
        n, image = block.channels, self.graph.nodes[IMAGE].channels
        table = self.tape.derive(lambda t: t.double().numpy(), block.table)
        of = block.image_channels
        taps = []
        if np.array_equal(of, np.arange(image)) and (
            image == 1 or np.ptp(np.asarray(table.value), axis=1).max() == 0 and not table.varies
        ):
            each = self._encoding(table, np.arange(1), None)
            taps.append(Tap(IMAGE, each, 0, 0, maps.identity(image)))
        else:
            for c in np.unique(of):
                columns = np.flatnonzero(of == c)
                channels = np.full(n, -1)
                channels[columns] = np.arange(len(columns))
                taps.append(Tap(IMAGE, self._encoding(table, columns, int(c)), 0, 0, Pick(channels)))
        return Sum(n, block.height, block.width, 0, taps, [], self.where)

    def _encoding(self, table: Array, columns: np.ndarray, channel: int | None) -> Form:
        one = len(columns) == 1
        part = self.tape.derive(lambda t: t[:, columns[0]] if one else t[:, columns], table)
        key = (channel, part.shape, np.asarray(part.value).tobytes(), id(part) if part.varies else 0)
        return self._encodings.setdefault(key, Form(table=part, channel=channel))

    def pointwise(self, s: Sum) -> Tap | None:
        """The only tap of a sum that selects channels of one form, perhaps moved."""
        if len(s.taps) != 1:
            return None
        tap = s.taps[0]
        alone = tap.stride == 1 and tap.phase is None and isinstance(tap.map, Pick) and (tap.map.channels >= 0).all()
        return tap if alone else None

    def in_place(self, s: Sum, tap: Tap) -> bool:
        """The tap reads its whole source at the same positions."""
        n = self.graph.nodes[tap.source]
        return (tap.row, tap.column) == (0, 0) and tap.rect == EVERYWHERE and (s.height, s.width) == (n.height, n.width)

    def materialised(self, s: Sum) -> Sum:
        """The sum as a node."""
        tap = self.pointwise(s)
        if tap and not s.tables and tap.form is RAW and self.in_place(s, tap):
            return s
        if s.node is None:
            s.node = self.layer(s.channels, s.height, s.width, s.level, s.taps, s.tables, where=s.where)
        return self.node_sum(s.node)

    def layer(
        self,
        channels: int,
        height: int,
        width: int,
        level: int,
        taps: Sequence[Tap],
        tables: Sequence[Array],
        *,
        gate: tuple[str, str] | None = None,
        where: Where | None = None,
    ) -> int:
        """A new node and the layer that makes it; returns the node."""
        where = where if where and (where.file or where.module) else self.where
        self.graph.nodes.append(Node(height, width, channels, level, where))
        target = len(self.graph.nodes) - 1
        own = [replace(t) for t in taps]
        self.graph.layers.append(Layer(target, own, maps.merged_tables(self.tape, tables), gate=gate, where=where))
        return target

    def merged(self, taps: Sequence[Tap], height: int, width: int) -> list[Tap]:
        """Taps of one place added; those that read nothing left out."""
        found: dict[tuple[object, ...], Tap] = {}
        for tap in taps:
            tap = self._unbounded(tap, height, width)
            n = self.graph.nodes[tap.source]
            if (tap.rows(height, n.height) < 0).all() or (tap.columns(width, n.width) < 0).all():
                continue
            key = tap.place()
            if key in found:
                both = maps.added(self.tape, found[key].map, tap.map, self.graph.width_of(tap))
                tap = replace(tap, map=both)
            found[key] = tap
        return self._rejoined(list(found.values()), height, width)

    def _rejoined(self, taps: list[Tap], height: int, width: int) -> list[Tap]:
        """Equal taps of adjacent rectangles, such as a slice written back leaves them, as one."""
        if all(t.rect == EVERYWHERE for t in taps):
            return taps
        result: list[Tap] = []
        for tap in taps:
            again = True
            while again:
                again = False
                for other in result:
                    rect = united(tap.rect, other.rect)
                    same = replace(tap, rect=EVERYWHERE).place() == replace(other, rect=EVERYWHERE).place()
                    if rect and same and maps.equal(tap.map, other.map):
                        result.remove(other)
                        tap, again = self._unbounded(replace(tap, rect=rect), height, width), True
                        break
            result.append(tap)
        return result

    def _unbounded(self, tap: Tap, height: int, width: int) -> Tap:
        """The tap without the bounds that hide nothing."""
        source = self.graph.nodes[tap.source]
        for k, free in enumerate(EVERYWHERE):
            if tap.rect[k] != free:
                trial = replace(tap, rect=bounded(tap.rect, k, free))
                if k < 2:
                    same = np.array_equal(trial.rows(height, source.height), tap.rows(height, source.height))
                else:
                    same = np.array_equal(trial.columns(width, source.width), tap.columns(width, source.width))
                tap = trial if same else tap
        return tap

    def columns(self, block: Block, index: np.ndarray) -> Block:
        """Some channels of a block."""
        if np.array_equal(index, np.arange(block.channels)):
            return block
        if isinstance(block, Pending):
            part = self.columns(block.argument, index)
            assert isinstance(part, Sum)
            return Pending(block.activation, block.slope, part)
        if isinstance(block, Levels):
            table = self.tape.derive(lambda t: t[:, index], block.table)
            return Levels(block.image_channels[index], table, block.height, block.width)
        taps = [replace(t, map=maps.columns(self.tape, t.map, index)) for t in block.taps]
        tables = [self.tape.derive(lambda t: t[..., index], t) for t in block.tables]
        return replace(block, channels=len(index), taps=taps, tables=tables, node=None)

    def gathered(self, blocks: Sequence[Block], index: np.ndarray) -> list[Block]:
        """Channels `index` of a list of blocks, as blocks."""
        ends = np.cumsum([b.channels for b in blocks])
        which = np.searchsorted(ends, index, "right")
        result, start = [], 0
        while start < len(index):
            stop = start
            while stop < len(index) and which[stop] == which[start]:
                stop += 1
            block = blocks[which[start]]
            first = int(ends[which[start]]) - block.channels
            result.append(self.columns(block, np.asarray(index[start:stop]) - first))
            start = stop
        return result

    def aligned(self, a: Sequence[Block], b: Sequence[Block]) -> list[tuple[Block, Block]]:
        """Two lists of blocks cut at the same channels."""
        cuts = sorted({*np.cumsum([x.channels for x in a]), *np.cumsum([x.channels for x in b])})
        pairs, low = [], 0
        for high in cuts:
            index = np.arange(low, high)
            pairs += list(zip(self.gathered(a, index), self.gathered(b, index), strict=True))
            low = high
        return pairs

    def joined(self, blocks: Sequence[Block]) -> Sum:
        """Several blocks as one sum."""
        sums = [self.sum_of(b) for b in blocks]
        if len(sums) == 1:
            return sums[0]
        total, first = sum(s.channels for s in sums), sums[0]
        taps, tables, at = [], [], 0
        for s in sums:
            after = total - at - s.channels
            taps += [replace(t, map=maps.widened(self.tape, t.map, at, after)) for t in s.taps]
            for t in s.tables:
                pad = ((0, 0), (0, 0), (0, 0), (at, after))
                tables.append(self.tape.derive(lambda v, n=s.channels, pad=pad: np.pad(v + np.zeros(n), pad), t))
            at += s.channels
        merged = self.merged(taps, first.height, first.width)
        return Sum(total, first.height, first.width, self._level(sums), merged, tables, first.where)

    def _level(self, sums: Sequence[Sum]) -> int:
        levels = {s.level for s in sums if s.taps} or {sums[0].level}
        if len(levels) > 1:
            raise self.refuse("values of different resolutions together")
        return levels.pop()

    def added(self, a: Block, b: Block, sign: float = 1.0) -> Sum:
        """a + sign·b"""
        x, y = self.sum_of(a), self.sum_of(b)
        if sign != 1:
            y = self.scaled(y, float(sign))
        level = self._level([x, y])
        tables = maps.merged_tables(self.tape, [*x.tables, *y.tables])
        taps = self.merged([*x.taps, *y.taps], x.height, x.width)
        return Sum(x.channels, x.height, x.width, level, taps, tables, self.where)

    def shifted(self, s: Sum, table: Array) -> Sum:
        """The sum plus a table."""
        return replace(s, tables=maps.merged_tables(self.tape, [*s.tables, table]), node=None)

    def scaled(self, s: Sum, factor: Array | float) -> Sum:
        """The sum times a factor: a number, or a table [K|1, 1, 1, C|1]."""
        if not isinstance(factor, Array):
            factor = Array(np.full((1, 1, 1, 1), factor))
        if factor.shape[1:3] != (1, 1):
            raise self.refuse("a factor that differs from pixel to pixel")
        tables = [self.tape.derive(lambda t, f: t * f, t, factor) for t in s.tables]
        if factor.shape[0] == 1:
            vector = self.tape.derive(lambda f: np.asarray(f)[0, 0, 0], factor)
            taps = [replace(t, map=maps.scaled(self.tape, t.map, vector)) for t in s.taps]
            return replace(s, taps=taps, tables=tables, node=None)
        # A factor for each class: a form of a node, with a scale.
        tap = self.pointwise(s)
        plain = tap and self.in_place(s, tap) and tap.form.activation == "raw" and not tap.form.negate
        plain = plain and tap is not None and tap.form.table is None and tap.form.shift is None
        if not plain:
            s = self.materialised(replace(s, tables=[], node=None) if s.taps else s)
            tap = self.pointwise(s)
        assert tap is not None and isinstance(tap.map, Pick)
        n, channels = self.graph.nodes[tap.source].channels, tap.map.channels

        def spread(f: np.ndarray, old: np.ndarray | None = None) -> np.ndarray:
            result = np.ones((f.shape[0], n)) if old is None else np.broadcast_to(old, (f.shape[0], n)).copy()
            result[:, channels] *= f[:, 0, 0]
            return result

        old = [] if tap.form.scale is None else [tap.form.scale]
        form = Form(scale=self.tape.derive(spread, factor, *old))
        return replace(s, taps=[replace(tap, form=form)], tables=tables, node=None)

    def activated(self, s: Sum, activation: str, slope: float | None) -> Sum:
        """activation(sum), as a form of a node."""
        tap = self.pointwise(s)
        if tap and s.tables and not all(t.shape[1:3] == (1, 1) for t in s.tables):
            tap = None
        if tap and not self.in_place(s, tap) and (s.tables or activation not in KEEPS_ZERO):
            tap = None
        if tap:
            assert isinstance(tap.map, Pick)
            f = tap.form
            plain = f.activation == "raw" and not f.negate and f.table is None and f.shift is None
            if not plain or len(set(tap.map.channels)) != s.channels:
                tap = None
        if tap is None:
            s = self.materialised(s)
            tap = self.pointwise(s)
        assert tap is not None and isinstance(tap.map, Pick)
        form = self._form(tap, s.tables, activation, slope)
        taps = [replace(tap, form=form, map=Pick(tap.map.channels))]
        return Sum(s.channels, s.height, s.width, s.level, taps, [], s.where)

    def _form(self, tap: Tap, tables: list[Array], activation: str, slope: float | None) -> Form:
        assert isinstance(tap.map, Pick)
        factor, channels = tap.map.factor, tap.map.channels
        n = self.graph.nodes[tap.source].channels
        if factor is not None and not factor.varies and tap.form.scale is None and not tables:
            if (np.asarray(factor.value) == -1).all():
                return Form(activation, slope, negate=True)
            if (np.asarray(factor.value) == 1).all():
                factor = None
        scale, shift = tap.form.scale, None
        if factor is not None:

            def times(f: np.ndarray, old: np.ndarray | None = None) -> np.ndarray:
                result = np.ones(n) if old is None else np.broadcast_to(old, (*old.shape[:-1], n)).copy()
                result[..., channels] *= f
                return result

            scale = self.tape.derive(times, factor, *([] if scale is None else [scale]))
        for t in tables:

            def spread(v: np.ndarray, old: np.ndarray | None = None) -> np.ndarray:
                result = np.zeros((v.shape[0], n))
                result[:, channels] = v[:, 0, 0]
                return result if old is None else result + old

            shift = self.tape.derive(spread, t, *([] if shift is None else [shift]))
        return Form(activation, slope, scale=scale, shift=shift)

    # Moving

    def moved(self, s: Sum, top: int, left: int, height: int, width: int) -> Sum:
        """value'(i, j) = value(i - top, j - left), zero where there is none."""
        if (top, left, height, width) == (0, 0, s.height, s.width):
            return s
        taps = []
        for t in s.taps:
            row, column = t.row - t.stride * top, t.column - t.stride * left
            phase = t.phase
            if t.phase:
                phase = (t.phase[0] + top) % 2, (t.phase[1] + left) % 2
                row = t.row - (t.phase[0] + top - phase[0]) // 2
                column = t.column - (t.phase[1] + left - phase[1]) // 2
            r = t.rect
            rect = (max(r[0], 0) + top, min(r[1], s.height) + top, max(r[2], 0) + left, min(r[3], s.width) + left)
            taps.append(replace(t, row=row, column=column, phase=phase, rect=rect))
        size = (s.height, s.width), (height, width)
        tables = [maps.moved_table(self.tape, t, top, left, *size) for t in s.tables]
        merged = self.merged(taps, height, width)
        return Sum(s.channels, height, width, s.level, merged, maps.merged_tables(self.tape, tables), s.where)

    def outside(self, s: Sum, axis: int, low: int, high: int) -> Sum:
        """The sum with zero in rows (axis 1) or columns (axis 2) low … high - 1."""
        k = 2 * (axis - 1)
        size = s.height if axis == 1 else s.width
        taps = []
        for t in s.taps:
            for lo, hi in ((-np.inf, low), (high, np.inf)):
                rect = bounded(bounded(t.rect, k, max(t.rect[k], lo)), k + 1, min(t.rect[k + 1], hi))
                taps.append(replace(t, rect=rect))
        keep = np.ones(size)
        keep[low:high] = 0
        mask = keep.reshape([-1 if i == axis else 1 for i in range(4)])
        tables = [self.tape.derive(lambda t: t * mask, t) for t in s.tables]
        merged = self.merged(taps, s.height, s.width)
        return replace(s, taps=merged, tables=tables, node=None)

    # Products

    def gated(self, a: Block, b: Block) -> Block:
        """The product of two values of the image."""
        halves = [
            (x.activation, x.slope, x.argument) if isinstance(x, Pending) else ("raw", None, self.sum_of(x))
            for x in (a, b)
        ]
        if halves[0][0] == "sigmoid" and halves[1][0] != "sigmoid":
            halves.reverse()
        (f, f_slope, x), (g, g_slope, y) = halves
        if f_slope is not None:
            f, x = "raw", self.sum_of(Pending(f, f_slope, x))
        if g_slope is not None:
            g, y = "raw", self.sum_of(Pending(g, g_slope, y))
        if x is y and (f, g) == ("raw", "sigmoid"):
            return Pending("silu", None, x)
        both = self.joined([x, y])
        tap = self.pointwise(both)
        alone = tap is not None and self.graph.identity(tap) and self.in_place(both, tap)
        if not alone:
            both = self.materialised(both)  # `fuse` puts sum and gate into one layer
        return self.node_sum(
            self.layer(x.channels, x.height, x.width, both.level, both.taps, both.tables, gate=(f, g), where=both.where)
        )

    def mixed(self, blocks: Sequence[Block], weight: Array, bias: Array | None) -> Sum:
        """A product along the channels with weight [in, out]."""
        kernel = self.tape.derive(lambda w: w.T[:, :, None, None], weight)
        return self.convolved(blocks, kernel, bias, 1, (0, 0), (1, 1), None)

    def convolved(
        self,
        blocks: Sequence[Block],
        kernel: Array,
        bias: Array | None,
        stride: int,
        padding: tuple[int, int],
        dilation: tuple[int, int],
        transposed: tuple[int, int] | None,
    ) -> Sum:
        """A convolution with kernel [out, in, kh, kw]; `transposed` is the output padding of a transposed one."""
        outputs, _, *size = kernel.shape
        height, width = (
            (n - 1) * stride - 2 * p + d * (k - 1) + transposed[i] + 1
            if transposed
            else (n + 2 * p - d * (k - 1) - 1) // stride + 1
            for i, (n, p, d, k) in enumerate(
                zip((blocks[0].height, blocks[0].width), padding, dilation, size, strict=True)
            )
        )
        what = f"which taps of the kernel of {self.where.module or self.where} are zero"
        used = self.tape.fact(kernel, lambda w: np.asarray((w != 0).any((0, 1))), what)
        taps: list[Tap] = []
        tables: list[Array] = []
        levels = []
        at = 0
        for block in blocks:
            first, at = at, at + block.channels
            part = kernel
            if len(blocks) > 1:
                part = self.tape.derive(lambda w, a=first, b=at: w[:, a:b], kernel)
            s = self.sum_of(block)
            if s.taps:
                if s.tables and tuple(size) != (1, 1):
                    s = self.materialised(s)
                if self.pointwise(s) is None or (s.tables and stride != 1):
                    s = self.materialised(s)
                made = self._kernel_taps(
                    s, part, used, stride, padding, dilation, transposed is not None, height, width
                )
                if any(t.rect != EVERYWHERE for t in made) and self._of_a_level(s):
                    s = self.materialised(s)
                    made = self._kernel_taps(
                        s, part, used, stride, padding, dilation, transposed is not None, height, width
                    )
                taps += made
                levels.append(s.level + (0 if stride == 1 else -1 if transposed else 1))
            for t in s.tables:
                tables.append(self._convolved_table(t, s, part, stride, padding, dilation, transposed))
        if bias is not None:
            tables.append(self.tape.derive(lambda b: b.reshape(1, 1, 1, -1), bias))
        if len(set(levels)) > 1:
            raise self.refuse("values of different resolutions together")
        merged = self.merged(taps, height, width)
        tables = maps.merged_tables(self.tape, tables)
        return Sum(outputs, height, width, levels[0] if levels else 0, merged, tables, self.where)

    def _of_a_level(self, s: Sum) -> bool:
        image = self.graph.nodes[IMAGE]
        return s.level >= 0 and (s.height, s.width) == (image.height >> s.level, image.width >> s.level)

    def _kernel_taps(
        self,
        s: Sum,
        kernel: Array,
        used: np.ndarray,
        stride: int,
        padding: tuple[int, int],
        dilation: tuple[int, int],
        transposed: bool,
        height: int,
        width: int,
    ) -> list[Tap]:
        tap = self.pointwise(s)
        assert tap is not None and isinstance(tap.map, Pick)
        node, inputs = self.graph.nodes[tap.source], self.graph.width_of(tap)
        axes = (
            (tap.row, max(tap.rect[0], 0), min(tap.rect[1], s.height), node.height),
            (tap.column, max(tap.rect[2], 0), min(tap.rect[3], s.width), node.width),
        )
        taps = []
        for k in zip(*np.nonzero(used), strict=True):
            rect, offset, phase = EVERYWHERE, [], []
            for axis, (move, low, high, n) in enumerate(axes):
                o = int(k[axis]) * dilation[axis] - padding[axis]
                if transposed:  # position i reads u = (i - o) / stride
                    phase.append(o % stride)
                    offset.append((o % stride - o) // stride + move)
                    bounds = [stride * low + o, stride * (high - 1) + o + 1]
                else:  # position i reads u = stride·i + o
                    offset.append(o + move)
                    bounds = [-((o - low) // stride), -((o - high) // stride)]
                rect = bounded(rect, 2 * axis, bounds[0] if low + move > 0 else -np.inf)
                rect = bounded(rect, 2 * axis + 1, bounds[1] if high + move < n else np.inf)
            matrix = self.tape.derive(lambda w, i=k[0], j=k[1]: np.ascontiguousarray(w[:, :, i, j].T), kernel)
            product = maps.followed(self.tape, tap.map, matrix, inputs)
            up = (phase[0], phase[1]) if transposed and stride == 2 else None
            one = 1 if transposed else stride
            made = Tap(tap.source, tap.form, offset[0], offset[1], product, one, up, rect)
            taps.append(self._unbounded(made, height, width))
        return taps

    def _convolved_table(
        self,
        table: Array,
        s: Sum,
        kernel: Array,
        stride: int,
        padding: tuple[int, int],
        dilation: tuple[int, int],
        transposed: tuple[int, int] | None,
    ) -> Array:
        n = s.channels
        if kernel.shape[2:] == (1, 1) and stride == 1 and padding == (0, 0) and not transposed:
            return self.tape.derive(lambda t, w: (t + np.zeros(n)) @ w[:, :, 0, 0].T, table, kernel)

        def convolve(t: np.ndarray, w: np.ndarray) -> np.ndarray:
            full = np.broadcast_to(t, (t.shape[0], s.height, s.width, n))
            x = torch.from_numpy(full.transpose(0, 3, 1, 2).copy())
            k = torch.from_numpy((w.transpose(1, 0, 2, 3) if transposed else w).copy())
            more = (bool(transposed), list(transposed or (0, 0)), 1)
            y = torch.ops.aten.convolution(x, k, None, [stride] * 2, list(padding), list(dilation), *more)
            return y.numpy().transpose(0, 2, 3, 1)

        return self.tape.derive(convolve, table, kernel)
