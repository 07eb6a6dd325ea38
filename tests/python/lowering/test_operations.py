"""One operation each, in the middle of a causal network, in the ways in which people write it."""

from __future__ import annotations

import networks as n
import oracle
import pixelcnn
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Middle(nn.Module):
    """masked conv → function(self, value) → 1×1"""

    def __init__(self, function, levels=4, width=6):
        super().__init__()
        self.function = function
        self.first = n.MaskedConv("A", 1, width, 5, padding=2)
        self.masked = n.MaskedConv("B", width, width, 3, padding=1)
        self.free = nn.Conv2d(width, width, 3, padding=1)
        self.linear = nn.Linear(width, width)
        self.flat = nn.Conv1d(width, width, 1)
        self.deep = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
        self.wider = nn.Conv2d(width + 3, width, 1)
        self.norm = nn.BatchNorm2d(width)
        self.matrix = nn.Parameter(torch.randn(width, width) * 0.5)
        self.scalar = nn.Parameter(torch.tensor(0.3))
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x):
        return self.out(self.function(self, self.first(x)))


def written(s, x):
    x = torch.tanh(x)
    x = x.clone()
    x[:, :, 2] = 0.25
    x[:, 1:3, :, 1:3] = 0
    return s.masked(x)


def replaced_parameter(s, x):
    """The weight itself is exchanged for a masked one at every call."""
    s.free.weight = nn.Parameter(s.free.weight * s.masked.mask)
    return s.free(x)


def mask_made_inside(s, x):
    mask = torch.ones_like(s.free.weight)
    mask[:, :, 1, 2:] = 0
    mask[:, :, 2:] = 0
    mask[mask > 2] = 5
    return F.conv2d(x, s.free.weight * mask, s.free.bias, padding=1)


def in_inference_mode(s, x):
    with torch.inference_mode():
        return s.linear(s.masked(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def halves(q):
    return torch.tanh(q[:, 0]) * torch.sigmoid(q[:, 1])


OPERATIONS = {
    "einsum": lambda s, x: torch.einsum("bchw,oc->bohw", x, s.matrix),
    "einsum, weights first": lambda s, x: torch.einsum("oc,bchw->bohw", s.matrix, F.relu(x)),
    "matrix times flat pixels": lambda s, x: torch.matmul(s.matrix, x.flatten(2)).view(x.shape),
    "pixels times matrix": lambda s, x: (x.permute(0, 2, 3, 1) @ s.matrix).permute(0, 3, 1, 2),
    "linear on 4 axes": lambda s, x: s.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "linear on flat pixels": lambda s, x: s.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape),
    "1×1 on flat pixels": lambda s, x: s.flat(x.flatten(2)).view(x.shape),
    "depth of one": lambda s, x: s.deep(x.unsqueeze(2)).squeeze(2),
    "channels of ones": lambda s, x: s.wider(F.pad(F.relu(x), (0, 0, 0, 0, 2, 1), value=1.0)),
    "channels cut by padding": lambda s, x: s.wider(F.pad(x, (0, 0, 0, 0, -2, 5))),
    "inference mode inside": in_inference_mode,
    "checkpoint": lambda s, x: checkpoint(lambda v: F.relu(s.masked(v)), x, use_reentrant=False),
    "learned scale": lambda s, x: x + s.scalar * F.relu(s.masked(x)),
    "norm before": lambda s, x: x + s.masked(F.relu(s.norm(x))),
    "norm after": lambda s, x: s.norm(F.relu(s.masked(x))),
    "norm twice": lambda s, x: s.masked(s.norm(s.norm(torch.tanh(x)))),
    "silu by hand": lambda s, x: x * torch.sigmoid(x),
    "gate, sigmoid first": lambda s, x: torch.sigmoid(x[:, :3]).mul(torch.tanh(x[:, 3:])).repeat(1, 2, 1, 1),
    "gate on an axis": lambda s, x: halves(x.view(x.shape[0], 2, 3, *x.shape[2:])).repeat(1, 2, 1, 1),
    "gate, interleaved": lambda s, x: (torch.tanh(x[:, ::2]) * torch.sigmoid(x[:, 1::2])).repeat_interleave(2, 1),
    "three factors": lambda s, x: torch.tanh(x) * torch.sigmoid(x) * torch.relu(x),
    "shift after relu, two readers": lambda s, x: F.pad(F.relu(x), (0, 0, 1, 0))[:, :, :-1] + F.relu(x),
    "shift after sigmoid": lambda s, x: s.masked(F.pad(torch.sigmoid(x), (1, 0, 0, 0))[:, :, :, :-1]),
    "crop, pad, crop": lambda s, x: s.masked(F.pad(torch.sigmoid(x)[:, :, 1:], (0, 0, 2, 0))[:, :, :-1]),
    "rows cut and zeros back": lambda s, x: s.masked(F.pad(torch.sigmoid(x)[:, :, :-2], (0, 0, 0, 2))),
    "rows and blocks written": written,
    "shift by a further row": lambda s, x: F.pad(F.relu(s.free(F.pad(x, (0, 0, 2, 0))[:, :, :-2])), (0, 0, 1, 0))[
        :, :, :-1
    ],
    "padded more than needed": lambda s, x: x + F.relu(s.masked(F.pad(x, (1, 1, 1, 1)))[:, :, 1:-1, 1:-1]),
    "add with alpha": lambda s, x: x.add(F.relu(x), alpha=0.5).sub(1, alpha=2),
    "one minus": lambda s, x: 1 - torch.sigmoid(x),
    "where by channel": lambda s, x: torch.where(torch.arange(6).view(1, -1, 1, 1) > 2, x, torch.zeros(())),
    "masked_fill by channel": lambda s, x: x.masked_fill(torch.arange(6).view(1, -1, 1, 1) > 2, 0.0),
    "leaky relu in place": lambda s, x: F.leaky_relu(s.masked(x), 0.2, inplace=True) + x,
    "channel by channel": lambda s, x: torch.cat([x[:, i : i + 1] for i in range(6)], 1),
    "stacked last": lambda s, x: torch.stack([x, torch.relu(x)], -1).sum(-1),
    "maximum": lambda s, x: torch.max(x[:, :3], x[:, 3:]).repeat(1, 2, 1, 1),
    "lerp": lambda s, x: torch.lerp(x, F.relu(x), 0.3),
    "addcmul": lambda s, x: torch.addcmul(x, torch.tanh(x), torch.sigmoid(x)),
    "constant arithmetic": lambda s, x: x * torch.rsqrt(s.scalar**2 + 1),
    "tensor_split": lambda s, x: torch.cat(torch.tensor_split(x, 2, 1)[::-1], 1),
    "movedim": lambda s, x: x.movedim(1, -1).movedim(-1, 1),
    "padding='same'": lambda s, x: F.conv2d(x, s.free.weight * s.masked.mask, s.free.bias, padding="same"),
    "parameter exchanged": replaced_parameter,
    "mask made inside": mask_made_inside,
    "broadcast of one channel": lambda s, x: x + x[:, :1] * torch.sigmoid(x[:, 1:2]),
    "batch of one weight": lambda s, x: torch.bmm(s.matrix[None].expand(x.shape[0], -1, -1), x.flatten(2)).view(
        x.shape
    ),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation(operation):
    make = lambda: Middle(OPERATIONS[operation])  # noqa: E731
    module = oracle.lively(make())
    sampler = pixelcnn.compile(module, (1, 7, 6), levels=4, input="unit")
    oracle.follows(sampler, module, make, lambda v: v.double() / 3)


def test_codes_of_colours():
    """[N, 3, H, W] whole numbers through one embedding."""

    class Colours(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(4, 5)
            self.conv = n.MaskedConv("A", 15, 9, 5, padding=2)
            self.out = nn.Conv2d(9, 12, 1)

        def forward(self, x):
            e = self.embedding(x)
            b, c, h, w, k = e.shape
            return self.out(F.relu(self.conv(e.permute(0, 1, 4, 2, 3).reshape(b, c * k, h, w)))).view(b, 3, 4, h, w)

    module = Colours()
    sampler = pixelcnn.compile(module, (3, 6, 5), levels=4)
    assert sampler.input == "codes"
    oracle.file_error(sampler, module, Colours(), lambda v: v)


def test_many_classes():
    """A table for each class, no matter how many."""
    module = n.Prior(classes=300)
    sampler = pixelcnn.compile(module, (8, 8), levels=16, classes=300)
    oracle.file_error(sampler, module, n.Prior(classes=300), lambda v: v[:, 0], [7, 299])


class Wide(nn.Module):
    """Padded once for several convolutions: columns beside the image depend on it."""

    def __init__(self, layers: int = 3, reach: int = 1):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if k == 0 else 4, 4, (2, 2 * reach + 1)) for k in range(layers))
        self.reach = reach

    def forward(self, x):
        side = self.reach * len(self.convs)
        x = F.pad(x, (side, side, len(self.convs) + 1, 0))[:, :, :-1]
        for conv in self.convs:
            x = F.relu(conv(x))
        return x


@pytest.mark.parametrize("layers", [2, 3])
def test_a_value_that_is_wider_than_the_image(layers):
    """Its parts are computed apart, as often as readers need them."""
    module = oracle.lively(Wide(layers))
    sampler = pixelcnn.compile(module, (1, 6, 5), levels=4)
    oracle.file_error(sampler, module, Wide(layers), lambda v: v.double() / 3)
    oracle.nothing_before_moves(sampler)
    document = sampler._model()[0]
    assert len(document["nodes"]) == {2: 5, 3: 8}[layers]
    same = sampler.to_bytes()
    sampler.update(module)
    assert sampler.to_bytes() == same


def test_how_often_is_limited(monkeypatch):
    monkeypatch.setattr("pixelcnn.lowering.place._MOST_COPIES", 1)
    with pytest.raises(
        pixelcnn.Refused, match="padded once for several convolutions, would be computed more than 1 times"
    ):
        pixelcnn.compile(Wide(2), (1, 6, 5), levels=4)
