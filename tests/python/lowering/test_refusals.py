"""Refusals: one sentence each, with the operation and the module's source line."""

from __future__ import annotations

import networks as n
import numpy as np
import pixelcnn
import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Around(nn.Module):
    """A causal network with something in its middle."""

    def __init__(self, *inner, middle=None, levels=4, width=6):
        super().__init__()
        self.first = n.MaskedConv("A", 1, width, 5, padding=2)
        self.inner = nn.Sequential(*inner)
        self.middle = middle
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x):
        x = self.inner(self.first(x))
        return self.out(x if self.middle is None else self.middle(x))


def attention(x):
    q = x.flatten(2).transpose(1, 2)
    return (torch.softmax(q @ q.transpose(1, 2), -1) @ q).transpose(1, 2).view(x.shape)


class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x):
        rows = x.flatten(2).transpose(1, 2)
        return self.layer(rows)[0].transpose(1, 2).reshape(x.shape)


def branch(x):
    if x.mean() > 0:
        return x
    return -x


FACTOR = torch.linspace(0, 1, 6).view(1, 1, 6, 1)

# Refused modules, with a part of the sentence, and a part of the line that it names.
REFUSED = {
    "attention": (
        lambda: Around(middle=attention),
        "a product of two values of the image (attention)",
        "q @ q.transpose",
    ),
    "scaled dot product": (
        lambda: Around(middle=lambda x: F.scaled_dot_product_attention(x, x, x)),
        "attention",
        "F.scaled_dot_product_attention",
    ),
    "layer norm": (lambda: Around(middle=lambda x: F.layer_norm(x, x.shape[1:])), "layer norm", "F.layer_norm"),
    "group norm": (lambda: Around(nn.GroupNorm(2, 6)), "group norm", "inner.0"),
    "average pooling": (lambda: Around(nn.AvgPool2d(3, 1, 1)), "pooling", "inner.0"),
    "maximum pooling": (lambda: Around(nn.MaxPool2d(3, 1, 1)), "pooling", "inner.0"),
    "reflect padding": (
        lambda: Around(nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")),
        "reflect padding",
        "inner.0",
    ),
    "batch statistics": (lambda: Around(nn.BatchNorm2d(6, track_running_stats=False)), "batch norm", "inner.0"),
    "factor of a pixel": (
        lambda: Around(middle=lambda x: x * FACTOR),
        "a factor that differs from pixel to pixel",
        "x * FACTOR",
    ),
    "control flow": (lambda: Around(middle=branch), "control flow", "if x.mean() > 0:"),
    "chance": (lambda: Around(middle=lambda x: F.dropout(x, 0.5)), "chance inside the network", "F.dropout"),
    "noise": (lambda: Around(middle=lambda x: x + torch.randn_like(x)), "chance inside the network", "randn_like"),
    "quotient": (lambda: Around(middle=lambda x: x / (1 + x.abs())), "a quotient of two values", "x / (1 + x.abs())"),
    "sum over pixels": (
        lambda: Around(middle=lambda x: x + x.sum((2, 3), keepdim=True)),
        "over its pixels",
        "x.sum((2, 3)",
    ),
    "inner softmax": (
        lambda: Around(middle=lambda x: torch.softmax(x, 1) * 2),
        "softmax inside the network",
        "torch.softmax(x, 1) * 2",
    ),
    "softmax as a gate": (
        lambda: Around(middle=lambda x: x * torch.softmax(x, 1)),
        "softmax inside the network",
        "x * torch.softmax(x, 1)",
    ),
    "recurrent layer": (lambda: Around(middle=Rows()), "a recurrent layer", "self.layer(rows)"),
    "instance norm": (lambda: Around(nn.InstanceNorm2d(6)), "batch norm", "inner.0"),
    "interpolation": (
        lambda: Around(middle=lambda x: F.interpolate(x[:, :, :3, :3], scale_factor=2)),
        "interpolation",
        "F.interpolate",
    ),
    "rolled": (lambda: Around(middle=lambda x: torch.roll(x, 1, 2)), "rolled", "torch.roll"),
    "every other column": (
        lambda: Around(middle=lambda x: x[..., ::2].repeat(1, 1, 1, 2)),
        "every other row or column",
        "x[..., ::2]",
    ),
    "stride of 3": (lambda: Around(nn.Conv2d(6, 6, 3, 3)), "stride [3, 3]", "inner.0"),
    "unknown operation": (lambda: Around(middle=torch.erfinv), "the operation erfinv", "self.middle(x)"),
    "rounded": (lambda: Around(middle=lambda x: x.long().float()), "whole numbers", "x.long()"),
    "one-hot without width": (
        lambda: Around(middle=lambda x: F.one_hot(x.long()[:, 0]).permute(0, 3, 1, 2)),
        "num_classes",
        "",
    ),
    "a failing forward": (
        lambda: Around(nn.Conv2d(7, 7, 1)),
        "the module's forward failed: RuntimeError",
        "self.inner(self.first(x))",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    make, sentence, line = REFUSED[what]
    with pytest.raises(pixelcnn.Refused) as caught:
        pixelcnn.compile(make(), (1, 6, 6), levels=4)
    text = str(caught.value)
    assert sentence in text and line in text
    assert "\n" not in text
    if line:
        assert "test_refusals.py:" in text or "in inner.0" in text


def test_not_causal_shows_the_path():
    module = Around(nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
    with pytest.raises(
        pixelcnn.Refused, match="not causal: the output at row 0, column 0 sees the image at row 1, column 0"
    ) as caught:
        pixelcnn.compile(module, (1, 6, 6), levels=4)
    steps = str(caught.value).split(" ← ")
    assert len(steps) == 4
    assert "in out" in steps[1] and "in inner.1" in steps[2] and "in first" in steps[3]


def test_one_mask_forgotten():
    module = n.plain()
    module[3].mask[:] = 1
    with pytest.raises(pixelcnn.Refused, match="not causal"):
        pixelcnn.compile(module, (1, 6, 6), levels=8)


def test_output_of_another_size():
    with pytest.raises(pixelcnn.Refused, match="the output has 3x3 positions for an image of 6x6"):
        pixelcnn.compile(Around(nn.Conv2d(6, 6, 2, 2)), (1, 6, 6), levels=4)


def test_ambiguous_axes():
    with pytest.raises(pixelcnn.Refused, match="output_axes='NCKHW'.* or .*output_axes='NKCHW'"):
        pixelcnn.compile(n.plain(channels=3, levels=5), (3, 6, 6), levels=5)
    with pytest.raises(pixelcnn.Refused, match="must name C"):
        pixelcnn.compile(n.plain(channels=3, levels=5), (3, 6, 6), levels=5, output_axes="NHW")


def test_no_head_fits():
    with pytest.raises(pixelcnn.Refused, match="7 outputs a pixel fit no head for 1 channels with 4 levels"):
        pixelcnn.compile(Around(levels=7), (1, 6, 6), levels=4)
    with pytest.raises(pixelcnn.Refused, match="no head is called 'gauss'"):
        pixelcnn.compile(Around(), (1, 6, 6), levels=4, head="gauss")


def test_a_second_call_that_differs():
    class Counts(Around):
        calls = [0]

        def forward(self, x):
            self.calls[0] += 1
            return super().forward(x) + self.calls[0]

    with pytest.raises(pixelcnn.Refused, match="a second call of the module's forward differs from its first"):
        pixelcnn.compile(Counts(), (1, 6, 6), levels=4)


def test_a_value_that_leaves_pytorch():
    """A value that NumPy computed from the image looks like a constant; the comparison on other levels finds it."""

    def through_numpy(x):
        return torch.from_numpy(np.tanh(x.detach().cpu().numpy()))

    with pytest.raises(pixelcnn.Refused, match="differs within a batch|differs from the module"):
        pixelcnn.compile(Around(middle=lambda x: x + through_numpy(x)), (1, 6, 6), levels=4)


def test_labels_that_nobody_takes():
    with pytest.raises(pixelcnn.Refused, match="the module's forward failed: TypeError"):
        pixelcnn.compile(Around(), (1, 6, 6), levels=4, classes=3)


def test_one_hot_labels():
    class Linear(Around):
        def __init__(self):
            super().__init__()
            self.label = nn.Linear(3, 4)

        def forward(self, x, y):
            return super().forward(x) + self.label(y)[:, :, None, None]

    with pytest.raises(pixelcnn.Refused, match=r"one-hot: forward=lambda m, x, y: m\(x, F.one_hot\(y, K\)"):
        pixelcnn.compile(Linear(), (1, 6, 6), levels=4, classes=3)
    pixelcnn.compile(Linear(), (1, 6, 6), levels=4, classes=3, forward=lambda m, x, y: m(x, F.one_hot(y, 3).float()))


def test_a_value_within_a_batch():
    def first_image(x):
        return x + torch.arange(x.shape[0]).view(-1, 1, 1, 1)

    with pytest.raises(pixelcnn.Refused, match="differs within a batch"):
        pixelcnn.compile(Around(middle=first_image), (1, 6, 6), levels=4)
