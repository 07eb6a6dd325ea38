"""Independent of the package's own check: a twin of the module in 64 bits against the file, read back."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pixelcnn
import torch
from pixelcnn.lowering.export import read_model
from pixelcnn.lowering.lower import double_by_default
from pixelcnn.lowering.reference import Reference


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Statistics and biases that are not zero or one, so that a mistake in them shows."""
    chance = torch.Generator().manual_seed(3)
    for name, t in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            t.data.copy_(torch.randn(t.shape, generator=chance) * 0.3)
        elif name.endswith("running_var"):
            t.data.copy_(torch.rand(t.shape, generator=chance) + 0.5)
    return module


def logits_of(output):
    """The module's output, where it returns more than one."""
    if isinstance(output, dict):
        return output["logits"]
    return output[0] if isinstance(output, tuple) else output


def reference_of(sampler: pixelcnn.Sampler) -> Reference:
    return Reference(*read_model(sampler.to_bytes()))


def parameters(sampler: pixelcnn.Sampler, levels: np.ndarray, labels=None) -> np.ndarray:
    """The head's parameters [N, H, W, F] of levels [N, H, W, C], from the model file in 64 bits."""
    return reference_of(sampler).output(levels, labels)


def bits(sampler: pixelcnn.Sampler, levels: np.ndarray, labels=None) -> np.ndarray:
    """Bits per dimension [N] of levels [N, H, W, C], by the engine."""
    return -sampler.log_prob(levels, labels) / np.log(2) / np.prod(levels.shape[1:])


def random_levels(sampler: pixelcnn.Sampler, n: int = 2) -> np.ndarray:
    h, w, c = read_model(sampler.to_bytes())[0]["canvas"]
    return np.random.default_rng(5).integers(sampler._head.levels, size=(n, h, w, c))


def file_error(sampler, module, twin, encode, labels=None, tolerance=1e-6):
    """The file, read back, against `twin` in 64 bits with the module's weights."""
    levels = random_levels(sampler)
    x = encode(torch.from_numpy(levels).permute(0, 3, 1, 2))
    twin.load_state_dict(module.state_dict())
    twin.double().eval()
    with torch.no_grad(), mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        y = twin(x) if labels is None else twin(x, torch.tensor(labels))
    expected = sampler._head.arranged(logits_of(y))
    found = sampler._head.finished(reference_of(sampler).output(levels, None if labels is None else np.array(labels)))
    error = (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()
    assert error < tolerance, error
    return error


def follows(sampler, module, make, encode, labels=None, tolerance=1e-6):
    """The sampler is causal, equals a module of `make` with these weights, and stays the same when the same weights are
    folded again."""
    nothing_before_moves(sampler, labels)
    with double_by_default():
        file_error(sampler, module, make(), encode, labels, tolerance)
    same = sampler.to_bytes()
    sampler.update(module)
    assert sampler.to_bytes() == same


def nothing_before_moves(sampler, labels=None, places=6):
    """Change one subpixel: no output for an earlier one, nor its own, may move; some later one does."""
    reference = reference_of(sampler)
    chance = np.random.default_rng(9)
    levels = random_levels(sampler, 1)
    given = None if labels is None else np.array(labels[:1])
    before = reference.output(levels, given)
    _, h, w, c = levels.shape
    each = sampler._head.levels if sampler._head.kind == "softmax" else 1
    moved = False
    for _ in range(places):
        i, j, k = chance.integers(h), chance.integers(w), chance.integers(c)
        other = levels.copy()
        other[0, i, j, k] = (other[0, i, j, k] + 1 + chance.integers(sampler._head.levels - 1)) % sampler._head.levels
        after = reference.output(other, given)
        change = (after != before)[0].reshape(h * w, -1)
        at = i * w + j
        assert not change[:at].any()
        if sampler._head.steps:
            assert not change[at, : (k + 1) * each].any()
        else:
            assert not change[at].any()
        moved |= bool(change[at:].any())
    assert moved
