"""The rooms by themselves: tape, maps, times, placing, writes through views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pixelcnn.errors import Refused
from pixelcnn.lowering import maps, numeric, trace
from pixelcnn.lowering.graph import Dense, Graph, Layer, Node, Pick, Tap, dense, times
from pixelcnn.lowering.place import place
from pixelcnn.lowering.tape import Array, Tape
from torch import nn


def test_the_tape_replays():
    tape = Tape()
    leaf = tape.leaf("w", np.array([1.0, 2.0]))
    twice = tape.derive(lambda w: 2 * w, leaf)
    constant = tape.derive(lambda a: a + 1, Array(np.zeros(2)))
    both = tape.derive(np.add, twice, constant)
    assert not constant.varies and len(tape.steps) == 2
    tape.fact(leaf, lambda w: bool((w > 0).all()), "the sign of w")
    new = tape.replay(lambda name: np.array([3.0, 4.0]))
    assert both.value.tolist() == [3, 5]
    tape.commit(new)
    assert both.value.tolist() == [7, 9]
    with pytest.raises(Refused, match="the sign of w changed"):
        tape.replay(lambda name: np.array([-3.0, 4.0]))
    with pytest.raises(Refused, match="w has shape"):
        tape.replay(lambda name: np.zeros(3))


def test_maps_agree_with_their_matrices():
    tape, chance = Tape(), np.random.default_rng(0)
    a, b = Pick(np.array([2, 0, -1, 1]), Array(chance.normal(size=4))), Dense(Array(chance.normal(size=(3, 4))))
    index = np.array([3, 1, 1])
    for m in (a, b):
        full = dense(m, 3)
        assert np.allclose(dense(maps.columns(tape, m, index), 3), full[:, index])
        assert np.allclose(dense(maps.widened(tape, m, 1, 2), 3), np.pad(full, ((0, 0), (1, 2))))
        assert np.allclose(dense(maps.scaled(tape, m, Array(np.arange(4.0))), 3), full * np.arange(4))
        assert np.allclose(dense(maps.added(tape, m, a, 3), 3), full + dense(a, 3))
    weight = Array(chance.normal(size=(4, 2)))
    assert np.allclose(maps.followed(tape, a, weight, 3).weight.value, dense(a, 3) @ weight.value)
    apart = maps.added(tape, Pick(np.array([0, -1])), Pick(np.array([-1, 2])), 3)
    assert isinstance(apart, Pick) and apart.channels.tolist() == [0, 2]


def line(taps: list[tuple[int, int]], height: int = 4, width: int = 4) -> Graph:
    tape = Tape()
    one = Dense(Array(np.ones((1, 1))))
    return Graph(
        tape,
        [Node(height, width, 1, 0), Node(height, width, 1, 0)],
        [Layer(1, [Tap(0, maps_form(), r, c, one) for r, c in taps], [])],
    )


def maps_form():
    from pixelcnn.lowering.graph import RAW

    return RAW


def test_times():
    latest = times(line([(0, -1), (-1, 1)]), 1)[1].latest[0]
    assert latest.tolist() == [[-1, 0, 1, 2], [1, 4, 5, 6], [5, 8, 9, 10], [9, 12, 13, 14]]
    zero = line([(0, 1)])
    zero.layers[0].taps[0].map = Dense(Array(np.zeros((1, 1))))
    assert (times(zero, 1)[1].latest == -1).all()


def test_a_taller_value_is_placed_by_what_matters():
    """image → 6 rows (one of padding above, one below) → rows 1 to 4 of it: the canvas has 4."""
    form, one = maps_form(), Dense(Array(np.ones((1, 1))))
    graph = Graph(
        Tape(),
        [Node(4, 4, 1, 0), Node(6, 4, 1, 0), Node(4, 4, 1, 0)],
        [
            Layer(1, [Tap(0, form, -2, 0, one)], [Array(np.full((1, 1, 1, 1), 3.0))]),
            Layer(2, [Tap(1, form, 0, 0, one), Tap(1, form, 1, 0, one)], []),
        ],
    )
    place(graph, 2)
    assert [(n.height, n.width) for n in graph.nodes] == [(4, 4)] * 3
    moved = graph.layers[0].taps[0].row
    assert [t.row for t in graph.layers[1].taps] == [-2 - moved, -1 - moved]
    # Row 0 of the target reads above the canvas: the constant 3, once for each tap that does.
    table = sum(np.broadcast_to(t.value, (1, 4, 4, 1)) for t in graph.layers[1].tables)
    above = [sum(r + t.row < 0 for t in graph.layers[1].taps) for r in range(4)]
    assert table[0, :, 0, 0].tolist() == [3.0 * k for k in above]


def test_a_value_of_more_rows_than_the_level_is_made_in_parts():
    """Each of 6 rows depends on the image; three readers need 4 of them each."""
    form, one = maps_form(), Dense(Array(np.ones((1, 1))))
    graph = Graph(
        Tape(),
        [Node(4, 4, 1, 0), Node(6, 4, 1, 0), Node(4, 4, 1, 0)],
        [
            Layer(1, [Tap(0, form, k, 0, one) for k in (-2, -1, 0)], []),
            Layer(2, [Tap(1, form, k, 0, one) for k in (0, 1, 2)], []),
        ],
    )
    place(graph, 2)
    assert len(graph.layers) == 4
    assert {t.row for t in graph.layers[-1].taps} == {0}
    assert sorted(min(t.row for t in layer.taps) for layer in graph.layers[:-1]) == [-2, -1, 0]


def test_reads_outside_are_zero():
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    assert numeric.read(x, np.array([-1, 1]), np.array([0, -1]))[0, :, :, 0].tolist() == [[0, 0], [2, 0]]


@pytest.mark.parametrize("name", ["relu", "elu", "tanh", "sigmoid", "silu", "gelu", "softplus", "exp"])
def test_activations_are_pytorchs(name):
    x = torch.linspace(-40, 40, 801, dtype=torch.float64)
    theirs = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    np.testing.assert_allclose(
        numeric.activate(name, x.numpy()), theirs(x).numpy(), rtol=1e-12, atol=1e-14 if name != "softplus" else 3e-9
    )


class Writer(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        self.how(x, self.weight)
        return x


WRITES = {
    "slice": lambda x, w: x[:, 1:].add_(1),
    "select": lambda x, w: x[:, 0].mul_(2),
    "slice of a view": lambda x, w: x.permute(0, 2, 1)[:, 1:].copy_(torch.ones(())),
    "view": lambda x, w: x.view(-1)[2:5].zero_(),
    "chunk": lambda x, w: x.chunk(2, 1)[1].sigmoid_(),
    "unbind": lambda x, w: x.unbind(2)[1].fill_(3),
    "squeeze": lambda x, w: x.unsqueeze(1).squeeze(1)[:, :1].neg_(),
    "of a copy": lambda x, w: x.clone().add_(1),
    "a view made before": lambda x, w: (lambda v: (x.mul_(3), v.add_(1)))(x[:, :1]),
}


@pytest.mark.parametrize("write", WRITES)
def test_writes_through_views(write):
    """Replaying the recorded operations, none of which changes anything in place, gives the module's output."""
    module = Writer(WRITES[write])
    x = torch.randn(2, 4, 3)
    expected = module(x.clone()).detach()
    given = x.clone()
    program = trace.record(module, lambda m, x: m(x) * 1, given, None)
    values = {program.image: x.clone()}
    for step in program.steps:
        bind = lambda a: values.get(a.index, program.slots[a.index].constant) if isinstance(a, trace.Ref) else a  # noqa: E731
        args, kwargs = trace.mapped(bind, (step.args, step.kwargs))
        assert not any(a.alias_info is not None and a.alias_info.is_write for a in step.function._schema.arguments)
        made = step.function(*args, **kwargs)
        for slot, value in zip(step.results, trace.leaves(made), strict=True):
            values[slot] = value
    assert torch.equal(values[program.output], expected)


def test_names_of_tensors():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    module[0].mask = torch.ones(3)
    assert {"0.weight", "0.bias", "0.mask", "1.running_mean"} <= set(trace.tensors_of(module))
