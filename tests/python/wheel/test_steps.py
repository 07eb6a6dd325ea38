"""Images that are made level by level."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pixelcnn
import pytest
from conftest import GRAPHS, ROOT

# A mixture of logistics, grey; a softmax whose channels come in steps; one by classes; a Bernoulli.
MODELS = ["mnist", "gated_rgb_real", "prior_classes", "masked_binary_real"]


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> pixelcnn.Model:
    folder = GRAPHS / request.param
    return pixelcnn.load(folder / "model.safetensors" if folder.exists() else request.param)


def drawn(model: pixelcnn.Model, n: int) -> tuple[np.ndarray, list[int] | None]:
    """Some images with their labels."""
    labels = [i % len(model.classes) for i in range(n)] if model.classes else None
    return model.sample(n, labels=labels, seed=4), labels


def of(labels: list[int] | None, part: slice) -> list[int] | None:
    return None if labels is None else labels[part]


def told(model: pixelcnn.Model, images: np.ndarray, labels: list[int] | None, **how: object) -> np.ndarray:
    """The probabilities of all steps, [steps, N, L]."""
    return np.stack([step.probs for step in model.steps(images=images, labels=labels, **how)])


def test_probabilities_are_those_of_the_likelihood(model):
    images, labels = drawn(model, 3)
    nats = np.zeros(3)
    steps = model.steps(images=images, labels=labels)
    assert len(steps) == images[0].size
    for number, step in enumerate(steps):
        place = np.unravel_index(number, images.shape[1:])
        assert (step.row, step.column, step.channel) == place and step.probs.shape == (3, model.levels)
        np.testing.assert_allclose(step.probs.sum(axis=1), 1, rtol=1e-12)
        assert np.array_equal(step.levels, images[(slice(None), *place)])
        nats += np.log(step.probs[np.arange(3), step.levels])
    assert np.array_equal(steps.images, images)
    # log_prob may be off by 1e-4 bits a value.
    expected = model.log_prob(images, labels)
    assert np.abs(nats - expected).max() < 1e-4 * math.log(2) * images[0].size
    other = images.copy()
    other[:, -1, -1] = (other[:, -1, -1].astype(int) + 1) % model.levels
    assert np.abs(nats - model.log_prob(other, labels)).max() > 1e-3


def test_the_bits_do_not_depend_on_who_is_beside_an_image(model):
    """Given together or alone, known beforehand or level by level, on one thread or three."""
    images, labels = drawn(model, 5)
    together = told(model, images, labels, threads=1)
    assert np.array_equal(told(model, images, labels, threads=3), together)
    for part in (slice(0, 1), slice(2, 5)):
        assert np.array_equal(told(model, images[part], of(labels, part)), together[:, part])
    steps = model.steps(2, labels=of(labels, slice(1, 3)))
    for number, step in enumerate(steps):
        assert np.array_equal(step.probs, together[number, 1:3])
        step.give(images[1:3, step.row, step.column, step.channel])
    assert np.array_equal(steps.images, images[1:3])


def test_nothing_is_told_by_what_comes_later(model):
    images, labels = drawn(model, 2)
    before = told(model, images, labels)
    cut = images[0].size // 2
    other = images.reshape(2, -1).copy()
    other[:, cut:] = (other[:, cut:].astype(int) + model.levels // 2) % model.levels
    after = told(model, other.reshape(images.shape), labels)
    assert np.array_equal(before[: cut + 1], after[: cut + 1]) and not np.array_equal(before, after)


def test_decoded_by_inverse_sums_in_other_batches(model):
    """A coder with a number of 52 bits a level, in place of an entropy coder's state."""
    images, labels = drawn(model, 4)
    random = np.random.default_rng(1)
    code = []
    for step in model.steps(images=images, labels=labels):
        ends = np.cumsum(step.probs, axis=1)
        each = np.arange(4)
        p = step.probs[each, step.levels]
        code.append(ends[each, step.levels] - p * random.uniform(0.25, 0.75, 4))
    for i in range(4):
        steps = model.steps(1, labels=of(labels, slice(i, i + 1)))
        for step, number in zip(steps, code):
            step.give(np.array([np.searchsorted(np.cumsum(step.probs[0]), number[i])]))
        assert np.array_equal(steps.images[0], images[i])


def test_sizes_and_precisions(avatars):
    steps = avatars.steps(1, labels="hat", size=8)
    assert len(steps) == 8 * 8 * 3 and next(steps).probs.shape == (1, 256)
    # The weights of `avatars` have 16 bits anyway.
    prior = pixelcnn.load(GRAPHS / "prior_classes" / "model.safetensors")
    f32, f16 = (next(prior.steps(1, labels=0, precision=p)).probs for p in ("f32", "f16"))
    assert 0 < np.abs(f32 - f16).max() < 0.1
    assert len(avatars.steps(0, labels=[])) == 768


def test_what_is_refused(avatars, mnist):
    images = avatars.sample(2, labels=0)
    for arguments, error, text in [
        ({}, TypeError, "expected n, images, or a label for each image"),
        ({"n": 2}, ValueError, "has classes: expected one for each image"),
        ({"n": 3, "labels": 0, "images": images}, ValueError, "n: expected 2, as many as there are images, found 3"),
        ({"labels": 0, "images": images, "size": 8}, ValueError, r"size: expected that of the images, \[16, 16\]"),
        ({"n": 1, "labels": 9}, ValueError, "from 0 to 3"),
        ({"n": 1, "labels": 0, "size": 15}, ValueError, "multiples of"),
        ({"n": 1, "labels": 0, "threads": 0}, ValueError, "threads: expected"),
        ({"n": 1, "labels": 0, "precision": "f8"}, ValueError, "precision"),
        ({"n": 100_000_000, "labels": 0}, pixelcnn.BatchTooLarge, "does not fit"),
    ]:
        with pytest.raises(error, match=text):
            avatars.steps(**arguments)
    steps = mnist.steps(2, labels=[1, 2])
    step = next(steps)
    for levels, error, text in [
        ([1], ValueError, r"row 0, column 0, channel 0>: expected levels of shape \[2\]"),
        ([0.5, 1], TypeError, "expected whole numbers, found float64"),
        ([0, 256], ValueError, "expected levels from 0 to 255, found 0 to 256"),
        ([-1, 0], ValueError, "found -1 to 0"),
    ]:
        with pytest.raises(error, match=text):
            step.give(levels)
    with pytest.raises(RuntimeError, match=r"row 0, column 0, channel 0> has no levels: step\.give"):
        next(steps)
    step.give([3, 4])
    assert next(steps).column == 1 and steps.images[:, 0, 0, 0].tolist() == [3, 4]


def test_levels_given_instead_of_those_of_the_images(mnist):
    images = mnist.sample(1, labels=7)
    steps = mnist.steps(images=images, labels=7)
    for step in steps:
        if step.row == 27:
            step.give([255 - step.levels[0]])
    assert np.array_equal(steps.images[:, :27], images[:, :27])
    assert np.array_equal(steps.images[:, 27], 255 - images[:, 27])


def test_the_example_codes_and_decodes(tmp_path):
    pytest.importorskip("constriction")
    np.savez(tmp_path / "digits.npz", x=pixelcnn.load("mnist").sample(4, labels=[3, 1, 4, 1])[..., 0], y=[3, 1, 4, 1])
    for arguments in (["-m", "mnist", "--images", "digits.npz"], ["-n", "1"]):
        command = [sys.executable, str(ROOT / "examples" / "lossless.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "coded and decoded, all equal" in done.stdout
        rows = {line[:28].strip(): int(line[28:38]) for line in done.stdout.splitlines()[2:-1]}
        # A word of 32 bits at the end, and fixed-point probabilities.
        assert rows["log_prob says"] <= rows["coded"] + 1 and rows["coded"] < 1.02 * rows["log_prob says"] + 8
        assert rows["coded"] < rows["WebP, a file an image"] and rows["coded"] < rows["PNG, a file an image"]
