"""Fewer, wider layers that compute the same: sum and gate, gate and residual, both signs of an elu."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import maps
from .graph import RAW, Form, Graph, Layer, Tap


def fuse(graph: Graph) -> None:
    """Apply all fusions."""
    _sums_into_sums(graph)
    while _sums_into_gates(graph):
        pass
    _residuals_into_gates(graph)
    _concat_elu(graph)


def _sums_into_sums(graph: Graph) -> None:
    """sum → node → node + more, without another reader: one sum."""
    makers = {layer.target: layer for layer in graph.layers}
    for total in graph.layers[:]:
        if total.gate:
            continue
        for tap in total.taps[:]:
            part = makers.get(tap.source)
            if part is None or part.gate or tap.form != RAW or not graph.identity(tap):
                continue
            if len(graph.readers(tap.source)) != 1 or graph.nodes[part.target].level != graph.nodes[total.target].level:
                continue
            total.taps.remove(tap)
            found = {t.place(): t for t in part.taps}
            for t in total.taps:
                if t.place() in found:
                    both = maps.added(graph.tape, found[t.place()].map, t.map, graph.width_of(t))
                    found[t.place()] = replace(t, map=both)
                else:
                    found[t.place()] = t
            total.taps = list(found.values())
            total.tables = maps.merged_tables(graph.tape, [*part.tables, *total.tables])
            graph.layers.remove(part)


def _sums_into_gates(graph: Graph) -> bool:
    """sum → node → gate: one layer, which keeps the sum as `pre` if others read it. True if there was one."""
    changed = False
    makers = {layer.target: layer for layer in graph.layers}
    for gate in list(graph.layers):
        if not gate.gate or len(gate.taps) != 1:
            continue
        tap = gate.taps[0]
        sum_layer = makers.get(tap.source)
        if sum_layer is None or sum_layer.gate or sum_layer.pre is not None or sum_layer.residual:
            continue
        if tap.form != RAW or not graph.identity(tap):
            continue
        others = [(layer, t) for layer, t in graph.readers(tap.source) if layer is not gate]
        if gate.tables and others and not _taken_off(graph, gate, others):
            continue
        sum_layer.tables = maps.merged_tables(graph.tape, [*sum_layer.tables, *gate.tables])
        sum_layer.gate, sum_layer.pre, sum_layer.target = gate.gate, tap.source if others else None, gate.target
        graph.layers.remove(gate)
        makers[gate.target] = sum_layer
        changed = True
    return changed


def _taken_off(graph: Graph, gate: Layer, others: list[tuple[Layer, Tap | None]]) -> bool:
    """A gate's tables go into the sum that it reads; the sum's other readers subtract them. False if they cannot."""
    if any(t.shape[1:3] != (1, 1) for t in gate.tables):
        return False
    if any(t is None or t.form != RAW for _, t in others):
        return False
    for layer, tap in others:
        assert tap is not None
        node, source = graph.nodes[layer.target], graph.nodes[tap.source]
        inside = [
            (index >= 0).astype(float)
            for index in (tap.rows(node.height, source.height), tap.columns(node.width, source.width))
        ]
        grids = [np.ones(1) if i.all() else i for i in inside]
        mask = grids[0][None, :, None, None] * grids[1][None, None, :, None]
        matrix = maps.as_dense(graph.tape, tap.map, source.channels).weight
        minus = [graph.tape.derive(lambda t, w, m=mask: -(t @ w) * m, t, matrix) for t in gate.tables]
        layer.tables = maps.merged_tables(graph.tape, [*layer.tables, *minus])
    return True


def _residuals_into_gates(graph: Graph) -> None:
    """gate → node → node + others: the gate's layer adds them."""
    makers: dict[int, Layer] = {}
    for layer in graph.layers:
        makers[layer.target] = layer
        if layer.pre is not None:
            makers[layer.pre] = layer
    for total in list(graph.layers):
        if total.gate or total.residual or total.tables or total.pre is not None:
            continue
        if not all(graph.identity(t) for t in total.taps):
            continue
        for tap in total.taps:
            gate = makers.get(tap.source)
            if gate is None or not gate.gate or gate.residual or gate.target != tap.source or tap.form != RAW:
                continue
            if len(graph.readers(tap.source)) != 1:
                continue
            rest = [t for t in total.taps if t is not tap]
            if len(rest) != 1:
                continue
            position = {id(layer): k for k, layer in enumerate(graph.layers)}
            made = lambda n: -1 if n not in makers else position[id(makers[n])]  # noqa: B023, E731
            here = all(made(t.source) < position[id(gate)] for t in rest)
            if not here and gate.pre is not None:
                continue
            gate.residual = [(t.source, t.form) for t in rest]
            gate.target = total.target
            if not here:
                graph.layers.remove(gate)
                graph.layers.insert(graph.layers.index(total), gate)
            graph.layers.remove(total)
            makers[total.target] = gate
            break


def _concat_elu(graph: Graph) -> None:
    """Taps of elu(x) and elu(-x) at one place: one tap of twice the channels."""
    known: dict[tuple[Form, Form], bool] = {}
    for layer in graph.layers:
        found: dict[tuple[object, ...], list[Tap]] = {}
        for tap in layer.taps:
            if tap.form.activation == "elu":
                found.setdefault((tap.source, tap.row, tap.column, tap.stride, tap.phase), []).append(tap)
        for pair in found.values():
            if len(pair) != 2:
                continue
            plus, minus = sorted(pair, key=lambda t: t.form.negate)
            forms = plus.form, minus.form
            if forms not in known:
                known[forms] = _opposite(graph, *forms)
            if not known[forms]:
                continue
            n = graph.width_of(plus)
            weights = [maps.as_dense(graph.tape, t.map, n).weight for t in (plus, minus)]
            matrix = maps.Dense(graph.tape.derive(lambda a, b: np.concatenate([a, b]), *weights))
            at = layer.taps.index(plus)
            layer.taps[at] = replace(plus, form=replace(plus.form, activation="concat_elu"), map=matrix)
            layer.taps.remove(minus)


def _opposite(graph: Graph, a: Form, b: Form) -> bool:
    """b is a of the negated value."""
    if a.plain and b.plain:
        return a.negate != b.negate
    if a.negate or b.negate or (a.scale is None, a.shift is None) != (b.scale is None, b.shift is None):
        return False
    pairs = [(x, y) for x, y in ((a.scale, b.scale), (a.shift, b.shift)) if x is not None and y is not None]
    if any(x.shape != y.shape or not (np.asarray(x.value) == -np.asarray(y.value)).all() for x, y in pairs):
        return False
    for x, y in pairs:
        total = graph.tape.derive(lambda v, w: v + w, x, y)
        graph.tape.fact(total, lambda t: bool((t == 0).all()), "which values have opposite signs")
    return True
