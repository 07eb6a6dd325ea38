"""Puts nodes of any size on the canvas of their level.

A value of any size, such as a padded embedding or the uncropped result of a convolution, is known by its relevant
positions: those from which a path leads to the head. They are placed so that all of them that depend on the image lie
on the canvas. Positions outside of it do not depend on the image; their share is added as a table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import Refused
from . import maps, numeric
from .graph import EVERYWHERE, IMAGE, RAW, Form, Graph, Layer, Map, Node, Pick, Tap, pick_matrix, times
from .tape import Array

Origin = tuple[int, int]
_ANY = 1 << 20
_MOST_COPIES = 500  # of nodes whose readers need more positions than a canvas has


def place(graph: Graph, head: int) -> None:
    """Place every node; the head covers the image."""
    image, out = graph.nodes[IMAGE], graph.nodes[head]
    if (out.height, out.width, out.level) != (image.height, image.width, 0):
        raise Refused(f"the output has {out.height}x{out.width} positions for an image of {image.height}x{image.width}")
    canvas = [(image.height >> n.level, image.width >> n.level) if n.level >= 0 else (0, 0) for n in graph.nodes]
    whole = all((n.height, n.width) == canvas[k] for k, n in enumerate(graph.nodes)) and all(
        t.rect == EVERYWHERE for layer in graph.layers for t in layer.taps
    )
    if whole:
        return
    _Placement(graph, canvas).run(head)


class _Placement:
    def __init__(self, graph: Graph, canvas: list[tuple[int, int]]):
        self.graph = graph
        self.canvas = canvas
        self.static = [(t.latest == -1).all(0) for t in times(graph, 1)]
        self.wanted = [np.zeros((n.height, n.width), bool) for n in graph.nodes]
        self.origin: dict[int, Origin] = {IMAGE: (0, 0)}
        self.readers: list[list[tuple[Layer, Tap]]] = [[] for _ in graph.nodes]
        self.copies = 0
        self.values: dict[tuple[int, bytes, bytes], Array] = {}

    def run(self, head: int) -> None:
        graph = self.graph
        for layer in graph.layers:
            for tap in layer.taps:
                self.readers[tap.source].append((layer, tap))
        self.wanted[head][:] = True
        self.origin[head] = (0, 0)
        placed: list[Layer] = []
        for original in reversed(graph.layers):
            for layer in [original] if original.target == head else self._split(original):
                placed.append(layer)
                n = layer.target
                if not self.wanted[n].any():
                    self.origin.setdefault(n, (0, 0))
                    continue
                if n not in self.origin:
                    self.origin[n] = self._choose(n)
                self.wanted[n] &= self._on_canvas(n)
                for tap in layer.taps:
                    self._want(layer, tap)
        graph.layers = placed[::-1]
        borders = {id(x): [table for t in x.taps for table in self._border(x, t)] for x in graph.layers}
        copies: dict[int, list[Layer]] = {}
        for layer in graph.layers:
            if self.wanted[layer.target].any():
                for k, tap in enumerate(layer.taps):
                    layer.taps[k] = self._masked(layer, tap, copies)
        self._rewrite(borders)
        if copies:
            graph.layers = [x for layer in graph.layers for x in (*copies.get(id(layer), []), layer)]

    def _split(self, layer: Layer) -> list[Layer]:
        """A layer once for each part of its value that fits on the canvas, if its readers need more than fits."""
        n = layer.target
        groups: list[tuple[list[int], list[tuple[Layer, Tap]]]] = []  # bounds of the origin, and who reads
        for reader in self.readers[n]:
            self.wanted[n][:] = False
            self._want(*reader)
            bounds = self._origins(n)
            for known, readers in groups:
                both = [f(p, q) for f, p, q in zip((max, min, max, min), known, bounds, strict=True)]
                if both[0] <= both[1] and both[2] <= both[3]:
                    known[:] = both
                    readers.append(reader)
                    break
            else:
                groups.append((bounds, [reader]))
        layers = [layer]
        for _ in groups[1:]:
            layers.append(self._copy(layer))
        self.copies += len(layers) - 1
        if self.copies > _MOST_COPIES:
            raise Refused(
                "values that reach beside the image, padded once for several convolutions, would be computed more "
                f"than {_MOST_COPIES} times ({layer.where})"
            )
        for part, (_, readers) in zip(layers, groups, strict=False):
            self.wanted[part.target][:] = False
            self.readers[part.target] = readers
            for reader in readers:
                reader[1].source = part.target
                self._want(*reader)
        return layers

    def _copy(self, layer: Layer) -> Layer:
        node = self.graph.nodes[layer.target]
        self.graph.nodes.append(replace(node))
        self.canvas.append(self.canvas[layer.target])
        self.static.append(self.static[layer.target])
        self.wanted.append(np.zeros((node.height, node.width), bool))
        self.readers.append([])
        made = replace(layer, target=len(self.graph.nodes) - 1, taps=[replace(t) for t in layer.taps])
        for tap in made.taps:
            self.readers[tap.source].append((made, tap))
        return made

    def _origins(self, n: int) -> list[int]:
        """The range of origins at which all relevant positions of a node that depend on the image are on the canvas."""
        node = self.graph.nodes[n]
        matter = self.wanted[n] & ~self.static[n]
        bounds: list[int] = []
        for axis, size in enumerate(self.canvas[n]):
            used = np.flatnonzero(matter.any(1 - axis))
            bounds += [int(used[-1]) - size + 1, int(used[0])] if len(used) else [-_ANY, _ANY]
            if bounds[-2] > bounds[-1]:
                raise Refused(
                    f"{'columns' if axis else 'rows'} {used[0]} to {used[-1]} of a value with "
                    f"{node.height}x{node.width} positions are needed, more than the {size} of its level ({node.where})"
                )
        return bounds

    def _on_canvas(self, n: int) -> np.ndarray:
        node, (a, b), (height, width) = self.graph.nodes[n], self.origin[n], self.canvas[n]
        rows, columns = np.arange(node.height) - a, np.arange(node.width) - b
        return ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))

    def _want(self, layer: Layer, tap: Tap) -> None:
        rows, columns = self._virtual(layer, tap)
        i, j = np.nonzero(self.wanted[layer.target] & (rows >= 0)[:, None] & (columns >= 0))
        self.wanted[tap.source][rows[i], columns[j]] = True

    def _virtual(self, layer: Layer, tap: Tap) -> tuple[np.ndarray, np.ndarray]:
        """The positions that a tap reads."""
        target, source = self.graph.nodes[layer.target], self.graph.nodes[tap.source]
        return tap.rows(target.height, source.height), tap.columns(target.width, source.width)

    def _engine(self, layer: Layer, tap: Tap, origin: Origin | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The positions that the tap reads on the canvas, where bounds and sizes are the canvas's."""
        a, b = origin or self.origin[tap.source]
        target = self.graph.nodes[layer.target]
        height, width = self.canvas[tap.source]
        big = 1 << 20
        free = replace(tap, rect=EVERYWHERE, row=tap.row + big, column=tap.column + big)
        rows, columns = free.rows(target.height, 4 * big) - big, free.columns(target.width, 4 * big) - big
        rows = np.where(rows < -big // 2, -1, rows - a)
        columns = np.where(columns < -big // 2, -1, columns - b)
        inside = lambda p, n: np.where((p >= 0) & (p < n), p, -1)  # noqa: E731
        return inside(rows, height), inside(columns, width)

    def _choose(self, n: int) -> Origin:
        node = self.graph.nodes[n]
        bounds = self._origins(n)
        origin = []
        for axis, (size, have) in enumerate(zip(self.canvas[n], (node.height, node.width), strict=True)):
            low, high = bounds[2 * axis : 2 * axis + 2]
            if high == _ANY:
                low, high = min(0, have - size), max(0, have - size)
            origin.append(min(range(low, high + 1), key=lambda a: self._cost(n, axis, a, have == size)))  # noqa: B023
        return origin[0], origin[1]

    def _cost(self, n: int, axis: int, at: int, level: bool) -> tuple[int, int, int]:
        """Number of reads that should be zero; distance of reads ahead; distance from the same place."""
        wrong, ahead = 0, []
        for layer, tap in self.readers[n]:
            wanted = self.wanted[layer.target]
            if not wanted.any():
                continue
            real = self._virtual(layer, tap)[axis] >= 0
            seen = self._engine(layer, tap, (at, at))[axis] >= 0
            wrong += int((wanted.any(1 - axis) & seen & ~real).sum())
            if tap.stride == 1 and tap.phase is None:
                ahead.append((tap.row, tap.column)[axis] + self.origin[layer.target][axis] - at)
        far = 0 if level or not ahead else abs(max(ahead))
        return wrong, far, abs(at)

    def _border(self, layer: Layer, tap: Tap) -> list[Array]:
        """The values that a tap reads outside of the canvas, as tables of the target's canvas."""
        if tap.source == IMAGE:
            return []
        (rows, columns), (seen_rows, seen_columns) = self._virtual(layer, tap), self._engine(layer, tap)
        wanted = self.wanted[layer.target]
        above = wanted & ((rows >= 0) & (seen_rows < 0))[:, None] & (columns >= 0)
        beside = wanted & ((rows >= 0) & (seen_rows >= 0))[:, None] & ((columns >= 0) & (seen_columns < 0))
        return [self._border_table(layer, tap, part) for part in (above, beside) if part.any()]

    def _border_table(self, layer: Layer, tap: Tap, where: np.ndarray) -> Array:
        rows, columns = self._virtual(layer, tap)
        i, j = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        from_rows, at_rows = np.unique(rows[i], return_inverse=True)
        from_columns, at_columns = np.unique(columns[j], return_inverse=True)
        value = self._form_value(tap.source, tap.form, from_rows, from_columns)
        part = where[i][:, j]
        (a, b), (height, width) = self.origin[layer.target], self.canvas[layer.target]
        inputs, m = self.graph.width_of(tap), tap.map

        def table(x: np.ndarray, w: np.ndarray | None = None) -> np.ndarray:
            matrix = w if not isinstance(m, Pick) else pick_matrix(m, inputs)(*([] if w is None else [w]))
            shares = (x[:, at_rows][:, :, at_columns] * part[None, :, :, None]) @ matrix
            result = np.zeros((len(x), height, width, shares.shape[-1]))
            result[:, (i - a)[:, None], j - b] = shares
            return result

        weight = m.factor if isinstance(m, Pick) else m.weight
        return self.graph.tape.derive(table, value, *([] if weight is None else [weight]))

    def _form_value(self, n: int, form: Form, rows: np.ndarray, columns: np.ndarray) -> Array:
        """A node's form at some rows and columns, without the image."""
        given = [t for t in (form.scale, form.shift) if t is not None]

        def build(x: np.ndarray, *tables: np.ndarray) -> np.ndarray:
            left = [numeric.spread(t) for t in tables]
            scale = left.pop(0) if form.scale is not None else None
            shift = left.pop(0) if form.shift is not None else None
            return numeric.formed(form.activation, form.slope, form.negate, scale, shift, x)

        return self.graph.tape.derive(build, self._node_value(n, rows, columns), *given)

    def _node_value(self, n: int, rows: np.ndarray, columns: np.ndarray) -> Array:
        key = n, rows.tobytes(), columns.tobytes()
        if key not in self.values:
            self.values[key] = self._compute(n, rows, columns)
        return self.values[key]

    def _compute(self, n: int, rows: np.ndarray, columns: np.ndarray) -> Array:
        """The closure's inputs are taken now: `_rewrite` changes the taps."""
        graph, half = self.graph, self.graph.nodes[n].channels
        layer = next(x for x in graph.layers if x.target == n)
        shape, gate = (1, len(rows), len(columns), graph.outputs(layer)), layer.gate
        given: list[Array] = []
        reads: list[tuple[Map, bool, np.ndarray, np.ndarray]] = []
        for tap in layer.taps:
            r, c = (index[at] for index, at in zip(self._virtual(layer, tap), (rows, columns), strict=True))
            if tap.source == IMAGE or (r < 0).all() or (c < 0).all():
                continue
            from_rows, from_columns = np.unique(r[r >= 0]), np.unique(c[c >= 0])
            given.append(self._form_value(tap.source, tap.form, from_rows, from_columns))
            weight = tap.map.factor if isinstance(tap.map, Pick) else tap.map.weight
            given += [] if weight is None else [weight]
            at = [np.where(p >= 0, np.searchsorted(f, p), -1) for p, f in ((r, from_rows), (c, from_columns))]
            reads.append((tap.map, weight is not None, at[0], at[1]))

        def build(*values: np.ndarray) -> np.ndarray:
            left = list(values)
            total = np.zeros(shape)
            for m, weighted, r, c in reads:
                x = left.pop(0)
                w = [left.pop(0)] if weighted else []
                matrix = pick_matrix(m, x.shape[-1])(*w) if isinstance(m, Pick) else w[0]
                total = total + numeric.read(x, r, c) @ matrix
            for t in left:
                t = t if t.shape[1] == 1 else t[:, rows]
                total = total + (t if t.shape[2] == 1 else t[:, :, columns])
            if gate:
                total = numeric.activate(gate[0], total[..., :half]) * numeric.activate(gate[1], total[..., half:])
            return total

        return graph.tape.derive(build, *given, *layer.tables)

    def _masked(self, layer: Layer, tap: Tap, copies: dict[int, list[Layer]]) -> Tap:
        """A tap that would read nonzero values on the canvas instead of zeros takes a form that is zero there."""
        (rows, columns), (seen_rows, seen_columns) = self._virtual(layer, tap), self._engine(layer, tap)
        real = (rows >= 0)[:, None] & (columns >= 0)
        seen = (seen_rows >= 0)[:, None] & (seen_columns >= 0)
        wanted = self.wanted[layer.target]
        bad = wanted & seen & ~real
        if not bad.any():
            return tap
        mask = np.ones(self.canvas[tap.source])
        i, j = np.nonzero(bad)
        mask[seen_rows[i], seen_columns[j]] = 0
        i, j = np.nonzero(wanted & seen & real)
        if not mask[seen_rows[i], seen_columns[j]].all():
            raise Refused(f"a value that is zero for some of its readers only ({layer.where})")
        graph, form, source = self.graph, tap.form, tap.source
        if (
            form.scale is not None
            or form.shift is not None
            or form.table is not None
            or form.activation in ("sigmoid", "exp", "softplus")
        ):
            n = graph.width_of(tap)
            of = graph.nodes[source]
            graph.nodes.append(Node(of.height, of.width, n, of.level, of.where))
            copy = len(graph.nodes) - 1
            self.canvas.append(self.canvas[source])
            self.origin[copy] = self.origin[source]
            self.wanted.append(np.ones((of.height, of.width), bool))
            copies.setdefault(id(layer), []).append(
                Layer(copy, [Tap(source, form, 0, 0, maps.identity(n))], [], where=of.where)
            )
            form, source = RAW, copy
        grid = mask[None, :, :, None]
        for axis in (1, 2):
            if (grid == grid.take([0], axis)).all():
                grid = grid.take([0], axis)
        channels = graph.nodes[source].channels
        scale = Array(np.repeat(grid, channels, 3))
        return replace(tap, source=source, form=replace(form, scale=scale))

    def _rewrite(self, borders: dict[int, list[Array]]) -> None:
        graph = self.graph
        for layer in graph.layers:
            n = layer.target
            (a, b), size = self.origin[n], (graph.nodes[n].height, graph.nodes[n].width)
            for tap in layer.taps:
                c, d = self.origin[tap.source]
                if tap.phase:
                    p, q = tap.phase
                    new = (p - a) % 2, (q - b) % 2
                    tap.row += (new[0] + a - p) // 2 - c
                    tap.column += (new[1] + b - q) // 2 - d
                    tap.phase = new
                else:
                    tap.row += tap.stride * a - c
                    tap.column += tap.stride * b - d
                tap.rect = EVERYWHERE
            tables = layer.tables
            for axis, move in ((1, a), (2, b)):
                new_size = self.canvas[n][axis - 1]
                tables = [
                    t if t.shape[axis] == 1 else _cropped(graph, t, axis, move, size[axis - 1], new_size)
                    for t in tables
                ]
            layer.tables = maps.merged_tables(graph.tape, [*tables, *borders.get(id(layer), [])])
        for k, node in enumerate(graph.nodes):
            node.height, node.width = self.canvas[k]


def _cropped(graph: Graph, table: Array, axis: int, move: int, old: int, new: int) -> Array:
    """A table's rows (axis 1) or columns (axis 2) that are on the canvas; one of them if they are all the same."""
    sizes = [(old, 1), (new, 1)] if axis == 1 else [(1, old), (1, new)]
    lead = (-move, 0) if axis == 1 else (0, -move)
    moved = maps.moved_table(graph.tape, table, *lead, *sizes)
    same = lambda t: bool((t == t.take([0], axis)).all())  # noqa: E731
    # Zeros may be biases that are not trained yet, and differ at the border when they are.
    if np.asarray(moved.value).any() and same(moved.value):
        graph.tape.fact(moved, same, "which additions are the same in all rows or columns")
        return graph.tape.derive(lambda t: t.take([0], axis), moved)
    return moved
