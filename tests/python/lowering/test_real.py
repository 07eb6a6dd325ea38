"""Modules into which the state dicts of public checkpoints load, against the outputs that were recorded of their own."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
import torch
from pixelcnn.lowering.likelihood import bits_per_dim
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
GRAPHS = HERE.parents[1] / "graphs"
SHARED = HERE.parents[3] / "shared" / "graphs"

# name: module, a small one of the same kind, arguments
REAL = {
    "gated_mnist_real": (n.RealGated, lambda: n.RealGated(8), {"levels": 256, "input": "levels"}),
    "masked_binary_real": (n.RealBinary, lambda: n.RealBinary(2, 8), {"levels": 2, "input": "symmetric"}),
    "gated_rgb_real": (n.RealColours, lambda: n.RealColours(12, 2), {"levels": 2, "input": "unit", "classes": 10}),
}


def state_of(name):
    """The state dict; the largest is not in the repository."""
    for place in (HERE / "recorded" / f"{name}.pth.gz", SHARED / name / "state.pth.gz"):
        if place.exists():
            return torch.load(io.BytesIO(gzip.decompress(place.read_bytes())), map_location="cpu", weights_only=True)
    pytest.skip(f"the state dict of {name} takes 3 MB: it is neither in the repository nor in {SHARED}")


@pytest.mark.parametrize("name", REAL)
def test_recorded(name):
    make, _, arguments = REAL[name]
    module = make()
    module.load_state_dict(state_of(name))
    golden = load_file(GRAPHS / name / "golden.safetensors")
    levels, labels = golden["levels"].astype(int), golden["labels"] if "classes" in arguments else None
    sampler = pixelcnn.compile(module, (levels.shape[3], *levels.shape[1:3]), **arguments)
    parameters = oracle.parameters(sampler, levels, labels)
    out = parameters.reshape(len(levels), -1, parameters.shape[-1])[:, golden["positions"]]
    error = np.abs(out - golden["outputs"]) / np.maximum(1, np.abs(golden["outputs"]))
    assert error.max() < 1e-6
    assert sampler._head.steps == (name == "gated_rgb_real")
    # The engine computes in 32 bits.
    bits = bits_per_dim(sampler._head.kind, parameters, levels, sampler.levels)
    found = oracle.bits(sampler, levels, labels)
    np.testing.assert_allclose(found, bits, rtol=2e-5)
    images = sampler.sample(4, labels=labels)
    assert images.shape == levels.shape
    assert oracle.bits(sampler, images, labels).mean() < 2 * bits.mean()


@pytest.mark.parametrize("name", REAL)
def test_a_small_one_with_random_weights(name):
    _, make, arguments = REAL[name]
    module = oracle.lively(make())
    if name == "masked_binary_real":  # whose recorded weights are masked
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d) and part.kernel_size[0] > 1:
                middle = part.kernel_size[0] // 2
                part.weight.data[:, :, middle + 1 :] = 0
                part.weight.data[:, :, middle, middle + (part.in_channels > 1) :] = 0
    channels = 3 if name == "gated_rgb_real" else 1
    encode = {"levels": lambda v: v.double(), "symmetric": lambda v: 2.0 * v - 1, "unit": lambda v: v.double()}
    sampler = pixelcnn.compile(module, (channels, 8, 8), **arguments)
    labels = [3, 7] if "classes" in arguments else None
    oracle.follows(sampler, module, make, encode[arguments["input"]], labels)
