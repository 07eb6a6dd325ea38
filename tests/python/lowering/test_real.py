"""Modules into which the recorded state dicts of public checkpoints load, against their recorded outputs."""

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
from pixelcnn.lowering.export import read_safetensors

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[3] / "shared" / "graphs"

# name: module, arguments; tolerance in 64 bits from the file alone (graphs/README.md)
REAL = {
    "gated_mnist_real": (n.RealGated, {"levels": 256, "input": "levels"}),
    "masked_binary_real": (n.RealBinary, {"levels": 2, "input": "symmetric"}),
    "gated_rgb_real": (n.RealColours, {"levels": 2, "input": "unit", "classes": 10}),
}


def folder(name):
    for place in (HERE / "recorded" / name, SHARED / name):
        if place.exists():
            return place
    pytest.skip(f"{name} is not in the repository for its size, nor in {SHARED}")


@pytest.mark.parametrize("name", REAL)
def test_recorded(name):
    make, arguments = REAL[name]
    place = folder(name)
    module = make()
    state = torch.load(
        io.BytesIO(gzip.decompress((place / "state.pth.gz").read_bytes())), map_location="cpu", weights_only=True
    )
    module.load_state_dict(state)
    golden, _ = read_safetensors((place / "golden.safetensors").read_bytes())
    sampler = pixelcnn.compile(module, golden["levels"].shape[1:], **arguments)
    levels = np.moveaxis(golden["levels"], 1, -1).astype(int)
    out = oracle.reference_of(sampler).output(levels, golden.get("labels"))
    if "positions" in golden:
        out = out.reshape(len(levels), -1, out.shape[-1])[:, golden["positions"]]
    expected = golden["outputs"]
    if name == "gated_rgb_real":  # recorded as [levels, channels], the file has [channels, levels]
        expected = expected.reshape(*expected.shape[:-1], 2, 3).swapaxes(-1, -2).reshape(expected.shape)
        assert sampler._head.steps
    error = np.abs(out - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < 1e-6
