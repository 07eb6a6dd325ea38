"""Fewer, wider layers that compute the same: sum and gate, gate and residual, both signs of an elu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import maps
from .graph import RAW, Form, Graph, Layer, Tap


def fuse(graph: Graph) -> None:
    """All of it."""
    _sums_into_gates(graph)
    _residuals_into_gates(graph)
    _concat_elu(graph)


def _only_raw(graph: Graph, node: int) -> bool:
    forms = [t.form for _, t in graph.readers(node) if t is not None]
    forms += [f for layer in graph.layers for n, f in layer.residual if n == node]
    return all(f == RAW for f in forms)


def _sums_into_gates(graph: Graph) -> None:
    """sum → node → gate: one layer, which keeps the sum as `pre` if others read it."""
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
        if gate.tables and others:
            # The tables would be in the sum: others that read it would have to take them off again.
            continue
        sum_layer.tables = maps.merged_tables(graph.tape, [*sum_layer.tables, *gate.tables])
        sum_layer.gate, sum_layer.pre, sum_layer.target = gate.gate, tap.source if others else None, gate.target
        graph.layers.remove(gate)
        makers[gate.target] = sum_layer


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
    both: Callable[[Form], bool] = lambda f: f.plain and f.activation == "elu"  # noqa: E731
    for layer in graph.layers:
        found: dict[tuple[object, ...], dict[bool, Tap]] = {}
        for tap in layer.taps:
            if both(tap.form):
                key = (tap.source, tap.row, tap.column, tap.stride, tap.phase)
                found.setdefault(key, {})[tap.form.negate] = tap
        for pair in found.values():
            if len(pair) != 2:
                continue
            plus, minus = pair[False], pair[True]
            n = graph.width_of(plus)
            weights = [maps.as_dense(graph.tape, t.map, n).weight for t in (plus, minus)]
            matrix = maps.Dense(graph.tape.derive(lambda a, b: np.concatenate([a, b]), *weights))
            at = layer.taps.index(plus)
            layer.taps[at] = replace(plus, form=Form("concat_elu"), map=matrix)
            layer.taps.remove(minus)
