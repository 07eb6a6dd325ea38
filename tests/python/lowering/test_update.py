"""`update`: new weights in the same graph."""

from __future__ import annotations

import time

import networks as n
import numpy as np
import pixelcnn
import pytest
import torch
from torch import nn


def trained_step(module, loss):
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    loss.backward()
    optimiser.step()


@pytest.mark.parametrize(
    ("make", "arguments", "batch"),
    [
        (n.plain, {"shape": (1, 6, 6), "levels": 8}, lambda: (torch.rand(2, 1, 6, 6),)),
        (
            n.Prior,
            {"shape": (8, 8), "levels": 16, "classes": 4},
            lambda: (torch.randint(16, (2, 8, 8)), torch.tensor([0, 3])),
        ),
        (
            n.GatedColours,
            {"shape": (3, 6, 7), "levels": 4, "classes": 3},
            lambda: (torch.rand(2, 3, 6, 7), torch.tensor([0, 2])),
        ),
        (
            lambda: n.PlusPlus(place="film", classes=3),
            {"shape": (3, 8, 8), "levels": 256, "classes": 3},
            lambda: (torch.rand(2, 3, 8, 8), torch.tensor([0, 2])),
        ),
        (n.PaddedEmbedding, {"shape": (7, 6), "levels": 10}, lambda: (torch.randint(10, (2, 7, 6)),)),
    ],
)
def test_after_training_it_is_what_compile_makes(make, arguments, batch):
    module = make()
    sampler = pixelcnn.compile(module, **arguments)
    before = sampler.to_bytes()
    for _ in range(2):
        trained_step(module, module(*batch()).square().mean())
    if isinstance(module, n.PlusPlus):
        module.init_padding = None
    sampler.update(module)
    after = sampler.to_bytes()
    assert after != before
    assert after == pixelcnn.compile(module, **arguments).to_bytes()


def test_it_takes_under_a_tenth_of_the_compile():
    module = n.GatedScaledInside(32, 256, dilations=(1, 2, 1, 4, 1, 2))
    pixelcnn.compile(module, (1, 20, 20), levels=256)
    start = time.perf_counter()
    sampler = pixelcnn.compile(module, (1, 20, 20), levels=256)
    middle = time.perf_counter()
    sampler.update(module)
    assert (time.perf_counter() - middle) * 10 < middle - start


def test_another_module_of_the_same_kind():
    first, second = n.Prior(), n.Prior()
    sampler = pixelcnn.compile(first, (8, 8), levels=16, classes=4)
    sampler.update(second)
    assert sampler.to_bytes() == pixelcnn.compile(second, (8, 8), levels=16, classes=4).to_bytes()


def test_another_shape():
    sampler = pixelcnn.compile(n.Prior(), (8, 8), levels=16, classes=4)
    before = sampler.to_bytes()
    with pytest.raises(pixelcnn.Refused, match="has shape .* when the module was compiled: compile again"):
        sampler.update(n.Prior(width=6))
    with pytest.raises(pixelcnn.Refused, match="has no tensor"):
        sampler.update(n.plain())
    assert sampler.to_bytes() == sampler._file() == before  # nothing is half updated


def test_zeros_that_became_taps():
    module = n.plain(how="none")
    for m in module:
        if isinstance(m, n.MaskedConv):
            m.weight.data *= m.mask
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=8)
    before = sampler.to_bytes()
    with torch.no_grad():
        module[3].weight[:, :, 6, 6] = 1
    with pytest.raises(pixelcnn.Refused, match="which taps of the kernel of 3 are zero changed.*compile again"):
        sampler.update(module)
    assert sampler.to_bytes() == sampler._file() == before


def test_zeros_within_a_tap():
    module = n.GatedColours(classes=0)
    sampler = pixelcnn.compile(module, (3, 6, 7), levels=4)
    module.hidden.mask[:] = 1
    module.hidden.weight.data[:] = 1
    with pytest.raises(pixelcnn.Refused, match="weights that were zero"):
        sampler.update(module)


def test_masks_applied_in_place_are_applied_again():
    module = n.plain(how="data")
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=8)
    before = sampler.to_bytes()
    with torch.no_grad():
        module[0].weight[:, :, -1, -1] = 5  # masked by the next forward
    sampler.update(module)
    assert sampler.to_bytes() == before


def test_a_mask_that_is_a_plain_attribute():
    class Plain(nn.Conv2d):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.mask = torch.ones(5, 5)
            self.mask[2, 2:] = 0
            self.mask[3:] = 0

        def forward(self, x):
            self.weight.data *= self.mask
            return super().forward(x)

    module = nn.Sequential(Plain(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 4, 1))
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=4)
    with torch.no_grad():
        module[0].weight.mul_(2)
    sampler.update(module)
    assert np.isfinite(sampler.log_prob(np.zeros((1, 6, 6), int))).all()
