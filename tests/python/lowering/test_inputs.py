"""The module's input for a level: given, found, or chosen by data; wrong arguments."""

from __future__ import annotations

import logging

import idioms
import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
import torch
from pixelcnn.lowering.likelihood import bits_per_dim
from torch import nn


def test_unit_is_the_default_and_said(caplog):
    with caplog.at_level(logging.INFO, "pixelcnn"):
        sampler = pixelcnn.compile(n.plain(), (1, 6, 6), levels=8)
    assert sampler.input == "unit"
    assert "input='unit'" in caplog.text and "layers" in caplog.text and "of the module" in caplog.text


def test_symmetric_before_a_mixture():
    assert pixelcnn.compile(n.PlusPlus(levels=1), (3, 4, 4), levels=256).input == "symmetric"


def test_levels_where_the_module_scales():
    assert pixelcnn.compile(n.GatedScaledInside(dilations=(1,)), (1, 6, 6), levels=256).input == "levels"


@pytest.mark.parametrize("make", [idioms.CodesWithChannel, idioms.LongInside])
def test_codes_where_they_are_looked_up(make):
    assert pixelcnn.compile(make(), (1, 6, 6), levels=9).input == "codes"


def test_told_inputs_are_kept():
    for told in ("unit", "symmetric", "levels"):
        assert pixelcnn.compile(n.plain(), (1, 6, 6), levels=8, input=told).input == told


def test_a_function_of_levels():
    module = n.plain()
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=8, input=lambda v: (v / 7 - 0.13) / 0.31)
    table = sampler._model()[1]["encoding.0"]
    np.testing.assert_allclose(table, (np.arange(8) / 7 - 0.13) / 0.31, rtol=1e-6)
    with pytest.raises(ValueError, match="must keep"):
        pixelcnn.compile(module, (1, 6, 6), levels=8, input=lambda v: v[:2])
    with pytest.raises(ValueError, match="no input is called"):
        pixelcnn.compile(module, (1, 6, 6), levels=8, input="bytes")


def test_data_tells_the_inputs_apart(caplog):
    """A network fitted to symmetric input is told from unit input by its bits/dim."""
    torch.manual_seed(1)
    module = nn.Sequential(n.MaskedConv("A", 1, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 4, 1))
    levels = torch.randint(4, (64, 1, 1, 6)).repeat(1, 1, 6, 1)  # columns of one level
    optimiser = torch.optim.Adam(module.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(2 * levels / 3 - 1), levels[:, 0]).backward()
        optimiser.step()
    with caplog.at_level(logging.INFO, "pixelcnn"):
        sampler = pixelcnn.compile(module, (1, 6, 6), levels=4, data=levels.numpy())
    assert sampler.input == "symmetric"
    assert "symmetric fits best" in caplog.text
    own = nn.functional.cross_entropy(module(2 * levels / 3 - 1).double(), levels[:, 0]).item() / np.log(2)
    assert abs(oracle.bits(sampler, np.moveaxis(levels.numpy(), 1, -1)).mean() - own) < 1e-5
    with caplog.at_level(logging.WARNING, "pixelcnn"):
        pixelcnn.compile(module, (1, 6, 6), levels=4, data=levels.numpy(), input="unit")
    assert "symmetric fits best" in caplog.text


def test_the_bits_of_a_mixture():
    """Against a direct sum of the 256 levels' probabilities: they are one, and ours is the drawn level's."""
    module = n.PlusPlus(levels=1, channels=1)
    sampler = pixelcnn.compile(module, (1, 4, 4), levels=256)
    bits_of = lambda x: bits_per_dim("logistic_mixture", oracle.parameters(sampler, x), x, 256)  # noqa: E731
    images = np.zeros((256, 4, 4, 1), int)
    images[:, 3, 3, 0] = np.arange(256)  # the last pixel takes every level, the others are the same
    bits = bits_of(images) * 16
    total = np.log2(np.sum(2.0 ** -(bits - bits.min()))) - bits.min()
    before = bits_of(images[:1]) * 16
    assert np.isfinite(bits).all() and total < 0 and before > 0
    only = np.exp2(-(bits - (-total)))
    assert abs(only.sum() - 1) < 1e-9


def test_class_names():
    sampler = pixelcnn.compile(n.Prior(classes=2), (8, 8), levels=16, classes=["cat", "dog"])
    assert sampler._model()[0]["classes"] == ["cat", "dog"]


def test_one_class():
    pixelcnn.compile(n.Prior(classes=1), (8, 8), levels=16, classes=1)


def test_forward():
    class Wants(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = n.LeakyClasses()

        def forward(self, labels, image, verbose):
            return {"loss": torch.zeros(()), "out": self.net(image, labels)}

    sampler = pixelcnn.compile(
        Wants(), (1, 6, 6), levels=16, classes=5, forward=lambda m, x, y: m(y, image=x, verbose=False)["out"]
    )
    assert sampler._head.normalised == "log_softmax"


@pytest.mark.parametrize(
    ("shape", "levels"), [((1, 2, 3, 4), 4), ((3,), 4), ((0, 4, 4), 4), ((1, 4, 4), 1), ((1, 4, 4), 70000)]
)
def test_wrong_arguments(shape, levels):
    with pytest.raises(ValueError, match="shape must be|levels must be"):
        pixelcnn.compile(n.plain(), shape, levels=levels)


def test_images_of_another_shape():
    with pytest.raises(ValueError, match=r"data: expected images of shape \[6, 5, 1\], found \[5, 6, 1\]"):
        pixelcnn.compile(n.plain(), (1, 6, 5), levels=8, data=np.zeros((2, 5, 6), int))
    with pytest.raises(ValueError, match="expected levels from 0 to 7"):
        pixelcnn.compile(n.plain(), (1, 6, 5), levels=8, data=np.full((2, 6, 5), 8))
    with pytest.raises(ValueError, match=r"takes labels: expected \(images, labels\)"):
        pixelcnn.compile(n.LeakyClasses(), (1, 6, 5), levels=16, classes=5, data=np.zeros((2, 6, 5), int))
