"""The compiled module draws, in one process, the module's own images."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys

import idioms
import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
import torch
from pixelcnn._pixelcnn import noise
from pixelcnn.lowering.draws import beyond, words_of
from pixelcnn.lowering.trace import module_output
from torch import nn

UNIT = lambda v, levels: v / (levels - 1)  # noqa: E731

# module, shape, arguments, its input for levels
KINDS = {
    "softmax": (n.LeakyClasses, (1, 6, 5), {"levels": 16, "classes": 5}, UNIT),
    "codes": (n.Prior, (6, 6), {"levels": 16, "classes": 4}, lambda v, _: v[:, 0]),
    "colours in steps": (n.GatedColours, (3, 4, 5), {"levels": 4, "classes": 3}, UNIT),
    "bernoulli": (n.ResidualBinary, (1, 6, 5), {"levels": 2}, UNIT),
    "mixture": (lambda: n.PlusPlus(levels=1), (3, 4, 4), {"levels": 256}, lambda v, _: v / 127.5 - 1),
    "many levels": (lambda: idioms.CodesWithChannel(5000), (1, 3, 3), {"levels": 5000}, lambda v, _: v),
}


def loop(sampler, module, encode, labels, count):
    """Images drawn by the module's own loop, a pass a subpixel, with the noise of the sampler's."""
    height, width, channels = sampler.shape
    head = sampler._head
    levels = np.zeros((count, height, width, channels), int)
    given = None if labels is None else torch.tensor(labels)
    for i in range(height):
        for j in range(width):
            for step in range(1 if head.kind == "logistic_mixture" else channels):
                image = encode(torch.from_numpy(levels).permute(0, 3, 1, 2), sampler.levels)
                image = image.double() if image.is_floating_point() else image
                parameters = head.parameters(module_output(module, lambda m, *inputs: m(*inputs), image, given))
                for k in range(count):
                    levels[k, i, j] = drawn(head, parameters[k, i, j], levels[k, i, j], step, i * width + j, k)
    return levels


def drawn(head, parameters, pixel, step, place, image):
    """The levels of a pixel, with those of a step drawn from parameters [F]."""
    count = words_of(head.kind, len(parameters), len(pixel), head.levels)
    words = [int(word) for word in np.frombuffer(noise(0, image, place + 1, count), np.uint32)[-count:]]
    pixel = pixel.copy()
    if head.kind == "logistic_mixture":
        for c in range(len(pixel)):
            pixel[c] = of_mixture(parameters, pixel, c, words)
    elif head.kind == "bernoulli":
        pixel[step] = (words[step] + 0.5) / 2**32 < 1 / (1 + np.exp(-parameters[step]))
    else:
        u = (words[step] + 0.5) / 2**32
        if head.levels > 4096:
            u = ((words[2 * step] << 21 | words[2 * step + 1] >> 11) + 0.5) / 2**53
        logits = parameters.reshape(len(pixel), -1)[step]
        weights = np.exp(logits - logits.max())
        pixel[step] = np.searchsorted(np.cumsum(weights) / weights.sum(), u, "right")
    return pixel


def of_mixture(parameters, pixel, c, words):
    """The level of channel c of three, given those before it: Gumbel's maximum, then a logistic."""
    m = len(words) - 3
    u = [min(max(((word >> 8) + 0.5) / 2**24, np.float32(1e-5)), np.float32(1 - 1e-5)) for word in words]
    chosen = np.argmax(parameters[:m] - np.log(-np.log(u[:m])))
    numbers = parameters[m:].reshape(3, 3, m)[..., chosen]
    x = pixel / 127.5 - 1
    coefficients = np.tanh(numbers[:, 2])
    mean = numbers[c, 0] + {0: 0, 1: coefficients[0] * x[0], 2: coefficients[1] * x[0] + coefficients[2] * x[1]}[c]
    value = mean + np.exp(max(numbers[c, 1], -7)) * np.log(u[m + c] / (1 - u[m + c]))
    return int(np.clip(np.round((value + 1) * 127.5), 0, 255))


@pytest.mark.parametrize("kind", KINDS)
def test_it_draws_what_the_modules_own_loop_draws(kind):
    make, shape, arguments, encode = KINDS[kind]
    module = oracle.lively(make()).eval()
    sampler = pixelcnn.compile(module, shape, **arguments)
    labels = [0, 1] if "classes" in arguments else None
    assert np.array_equal(sampler.sample(2, labels=labels, device="cpu"), loop(sampler, module, encode, labels, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_another_level_is_beyond_the_noise(kind):
    """The comparison with the module's distributions must fail for images that are not drawn from them."""
    make, shape, arguments, encode = KINDS[kind]
    module = oracle.lively(make()).eval()
    sampler = pixelcnn.compile(module, shape, **arguments)
    head, (height, width, channels) = sampler._head, sampler.shape
    labels = np.array([0, 1]) if "classes" in arguments else None
    images = sampler.sample(2, labels=labels, device="cpu").astype(np.int64)
    parameters = oracle.parameters(sampler, images, labels)
    words = words_of(head.kind, parameters.shape[-1], channels, sampler.levels)
    grid = [np.frombuffer(noise(0, k, height * width, words), np.uint32) for k in range(2)]
    given = np.stack(grid).reshape(2, height, width, words)
    assert beyond(head.kind, parameters, images, sampler.levels, given).max() < 1e-5
    other = images.copy()
    other[..., -1] = (other[..., -1] + sampler.levels // 2) % sampler.levels
    assert (beyond(head.kind, parameters, other, sampler.levels, given) > 1e-3).mean() > 0.9


def test_images_that_the_module_would_not_draw_are_refused(monkeypatch):
    monkeypatch.setattr(pixelcnn.Sampler, "sample", lambda self, count, **_: np.zeros((count, *self.shape), np.uint8))
    with pytest.raises(pixelcnn.Refused, match=r"drawn image \d has .* gives another level with the same noise"):
        pixelcnn.compile(oracle.lively(n.LeakyClasses()), (1, 6, 5), levels=16, classes=5)
    pixelcnn.compile(oracle.lively(n.LeakyClasses()), (1, 6, 5), levels=16, classes=5, check=False)


def test_it_has_all_that_a_model_has():
    module = oracle.lively(n.LeakyClasses()).eval()
    sampler = pixelcnn.compile(module, (1, 6, 5), levels=16, classes=["a", "b", "c", "d", "e"])
    assert isinstance(sampler, pixelcnn.Model)
    assert (sampler.name, sampler.shape, sampler.levels) == ("LeakyClasses", (6, 5, 1), 16)
    assert sampler.classes == ["a", "b", "c", "d", "e"] and sampler.head == "a softmax over levels"
    assert repr(sampler) == "<pixelcnn.Sampler LeakyClasses: 6×5×1, 16 levels, 5 classes>"
    images = sampler.sample(6, labels="b", seed=3, temperature=0.8, top_k=5)
    with torch.no_grad():
        own = module(torch.from_numpy(images).permute(0, 3, 1, 2) / 15, torch.ones(6, dtype=torch.long))
    own = own.gather(1, torch.from_numpy(images.astype(np.int64)).permute(0, 3, 1, 2)).sum((1, 2, 3))
    np.testing.assert_allclose(sampler.log_prob(images, "b"), own, rtol=1e-5)
    steps = sampler.steps(images=images, labels="b")
    nats = sum(np.log(step.probs[np.arange(6), step.levels]) for step in steps)
    np.testing.assert_allclose(nats, own, rtol=1e-5)
    assert sampler.classify(images).shape == (6, 5)
    mask = np.zeros((6, 5), bool)
    mask[:3] = True
    filled = sampler.complete(images, mask, labels="b", n=2, particles=2)
    assert filled.shape == (6, 2, 6, 5, 1) and np.array_equal(filled[:, 0, :3], images[:, :3])
    assert len(sampler.log_prob(torch.from_numpy(images).permute(0, 3, 1, 2), "b")) == 6


def test_its_file_and_its_copies_draw_the_same(tmp_path):
    sampler = pixelcnn.compile(n.ResidualBinary(), (1, 6, 6), levels=2)
    images = sampler.sample(4, seed=9)
    sampler.save(tmp_path / "net.safetensors")
    loaded = pixelcnn.load(tmp_path / "net.safetensors")
    for other in (loaded, pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler)):
        assert np.array_equal(other.sample(4, seed=9), images)
    command = [sys.executable, "-m", "pixelcnn", "sample", "-m", "net.safetensors", "-n", "4", "-s", "9"]
    subprocess.run([*command, "-o", "x.npy", "--device", "cpu"], check=True, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "x.npy").reshape(images.shape), images)


def test_after_an_update_it_draws_from_the_new_weights():
    module = oracle.lively(n.plain())
    sampler = pixelcnn.compile(module, (1, 6, 6), levels=8)
    before = sampler.sample(8)
    with torch.no_grad():
        module[-1].bias[:] = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 50])
    sampler.update(module)
    assert (sampler.sample(8) == 7).all() and not (before == 7).all()
    # Weights of a run that has diverged change nothing.
    with torch.no_grad():
        module[-1].bias[0] = float("nan")
    with pytest.raises(pixelcnn.Refused, match="weights are not all finite"):
        sampler.update(module)
    assert (sampler.sample(8) == 7).all() and sampler._file() == sampler.to_bytes()


def test_a_run_that_has_diverged():
    module = n.plain()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(pixelcnn.Refused, match="weights are not all finite"):
        pixelcnn.compile(module, (1, 6, 6), levels=8)


def test_one_line_says_what_was_found(caplog):
    with caplog.at_level(logging.INFO, "pixelcnn"):
        sampler = pixelcnn.compile(n.GatedColours(), (3, 6, 7), levels=4, classes=3, input="unit")
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("compiled")]
    for found in ("layers", "taps", "softmax, 4 levels, a channel a step", "input unit", "M products an image"):
        assert found in line
    assert "times less than by a pass of the module a subpixel" in line
    assert "of the module for random levels; 2 drawn images have the levels" in line and sampler.summary in line


def test_the_modules_products_are_counted():
    """By hand."""
    from pixelcnn.lowering import trace

    module = nn.Sequential(n.MaskedConv("A", 1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Flatten(2))
    program = trace.record(module, lambda m, x: m(x), torch.zeros(2, 1, 6, 7), None)
    assert program.products() == 6 * 7 * (25 * 4 + 4 * 3)
    linear = nn.Sequential(nn.Flatten(2), nn.Conv1d(1, 2, 1))
    assert trace.record(linear, lambda m, x: m(x), torch.zeros(2, 1, 6, 7), None).products() == 6 * 7 * 2
    up = nn.ConvTranspose2d(2, 3, 2, stride=2)
    assert trace.record(up, lambda m, x: m(x), torch.zeros(2, 2, 6, 7), None).products() == 6 * 7 * 2 * 3 * 4
    row = nn.Linear(7, 5)
    assert trace.record(row, lambda m, x: m(x), torch.zeros(2, 1, 6, 7), None).products() == 6 * 7 * 5
