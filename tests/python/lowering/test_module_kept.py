"""The caller's module: its mode, attributes and state are as before; types, devices and wrappers do not matter."""

from __future__ import annotations

import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
import torch
from torch import nn


def test_modes_come_back():
    module = n.plain()
    module.train()
    module[1].eval()
    modes = [m.training for m in module.modules()]
    pixelcnn.compile(module, (1, 6, 6), levels=8)
    assert [m.training for m in module.modules()] == modes


def test_modes_come_back_after_a_refusal():
    module = n.plain().train()
    with pytest.raises(pixelcnn.Refused):
        pixelcnn.compile(module, (1, 6, 6), levels=7)
    assert all(m.training for m in module.modules())


def test_attributes_weights_and_chance_are_kept():
    module = n.PlusPlus(levels=1)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    chance = torch.get_rng_state()
    pixelcnn.compile(module, (3, 4, 4), levels=256)
    assert module.init_padding is None
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types(dtype):
    torch.manual_seed(0)
    module = oracle.lively(n.LeakyClasses()).to(dtype)
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=16, classes=5)
    twin = n.LeakyClasses()
    twin.load_state_dict({k: v.float() for k, v in module.state_dict().items()})
    other = pixelcnn.compile(twin, (1, 6, 6), levels=16, classes=5)
    if dtype != torch.float64:
        assert sampler.to_bytes() == other.to_bytes()
    module.double()
    oracle.file_error(sampler, module, n.LeakyClasses().double(), lambda v: v.double() / 15, [0, 4])


def test_channels_last():
    module = n.plain()
    plain = pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes()
    assert pixelcnn.compile(module.to(memory_format=torch.channels_last), (1, 6, 6), levels=8).to_bytes() == plain


def test_wrappers():
    module = n.plain()
    plain = pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes()
    assert pixelcnn.compile(nn.DataParallel(module), (1, 6, 6), levels=8).to_bytes() == plain
    assert pixelcnn.compile(torch.compile(module), (1, 6, 6), levels=8).to_bytes() == plain


def test_within_gradients_and_inference():
    module = n.plain()
    plain = pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes()
    with torch.enable_grad():
        assert pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes() == plain
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes() == plain


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(2, 1, 6, 6))])
def test_torchscript(compiled):
    module = oracle.lively(
        nn.Sequential(nn.ZeroPad2d((1, 1, 2, -1)), nn.Conv2d(1, 6, (2, 3)), nn.ReLU(), nn.Conv2d(6, 4, 1))
    )
    same = compiled(module)
    plain, sampler = (pixelcnn.compile(m, (1, 6, 6), levels=4) for m in (module, same))
    levels = oracle.random_levels(plain)
    assert np.array_equal(oracle.parameters(sampler, levels), oracle.parameters(plain, levels))
    assert same.training
    sampler.update(same)


def test_threads_come_back():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    pixelcnn.compile(n.plain(), (1, 6, 6), levels=8)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
def test_weights_on_a_gpu():
    module = n.plain()
    plain = pixelcnn.compile(module, (1, 6, 6), levels=8).to_bytes()
    assert pixelcnn.compile(module.cuda(), (1, 6, 6), levels=8).to_bytes() == plain
