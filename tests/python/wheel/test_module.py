"""Arguments, results and refusals of the module."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys

import numpy as np
import pixelcnn
import pytest
from conftest import GRAPHS


class Tensor:
    """The used part of a PyTorch tensor's interface, on a device that NumPy cannot read."""

    def __init__(self, array: np.ndarray, is_here: bool = False):
        self.array, self.is_here = array, is_here

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return Tensor(self.array, True)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        assert self.is_here, "it was not brought from its device"
        return self.array


def test_facts(avatars):
    assert avatars.name == "avatars" and avatars.shape == (16, 16, 3) and avatars.levels == 256
    assert len(avatars.classes) == 4 and avatars.head == "a mixture of logistics"
    assert avatars.parameter_count > 100_000 and avatars.metadata["family"] == "pixelcnn++"
    assert repr(avatars).startswith("<pixelcnn.Model avatars: 16×16×3")
    assert pixelcnn.__version__.count(".") == 2 and set(pixelcnn.__all__) <= set(dir(pixelcnn))


def test_what_load_takes(avatars, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    avatars.save(path)
    for source in (path, str(path), avatars.to_bytes(), bytearray(avatars.to_bytes())):
        assert pixelcnn.load(source).sha256 == avatars.sha256
    assert pixelcnn.load(path).name == "mine" and pixelcnn.load(path, name="other").name == "other"
    # A file wins over a built-in model.
    monkeypatch.chdir(tmp_path)
    path.rename("mnist")
    assert pixelcnn.load("mnist").sha256 == avatars.sha256


def test_what_load_refuses(avatars, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a file nor a built-in model: avatars"):
        pixelcnn.load("of-no-such-name")
    with pytest.raises(TypeError, match="for checkpoints alone"):
        pixelcnn.load("avatars", height=8)
    with pytest.raises(TypeError):
        pixelcnn.load()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(avatars.to_bytes()[:-9])
    with pytest.raises(pixelcnn.ModelError, match=r"cut\.safetensors: not a complete safetensors file"):
        pixelcnn.load(cut)
    renamed = avatars.to_bytes().replace(b'"output.weight"', b'"outqut.weight"', 1)
    with pytest.raises(pixelcnn.ModelError) as refusal:
        pixelcnn.load(renamed)
    assert refusal.value.tensor == "output.weight" and isinstance(refusal.value, pixelcnn.Error)
    assert pickle.loads(pickle.dumps(refusal.value)).tensor == "output.weight"


def test_copies_draw_the_same(avatars):
    images = avatars.sample(2)
    for other in (pickle.loads(pickle.dumps(avatars)), copy.deepcopy(avatars)):
        assert other.name == "avatars" and np.array_equal(other.sample(2), images)


def test_labels(mnist):
    images = mnist.sample(2, labels=[3, 3])
    for labels in ("3", 3, np.int64(3), ["3", 3], np.array([3, 3]), np.array(["3", "3"]), Tensor(np.array([3, 3]))):
        assert np.array_equal(mnist.sample(2, labels=labels), images)
    assert mnist.sample(labels=["1", "2", "3"]).shape == (3, 28, 28, 1)
    assert np.array_equal(mnist.sample(12), mnist.sample(12, labels=[i % 10 for i in range(12)]))
    for labels, error, text in [
        ("cat", ValueError, "no class is called 'cat'; there are 0, 1"),
        ([1], ValueError, "expected one for each of the 2 images, found 1"),
        (10, ValueError, "from 0 to 9, found 10"),
        (1.0, TypeError, "expected a whole number"),
        ([True, False], TypeError, "expected a whole number"),
    ]:
        with pytest.raises(error, match=text):
            mnist.sample(2, labels=labels)
    with pytest.raises(ValueError, match="has classes: expected one for each image"):
        mnist.log_prob(images)


def test_layouts_and_types(avatars, mnist):
    images = avatars.sample(3, labels=0)
    nats = avatars.log_prob(images, 0)
    assert nats.dtype == np.float64 and nats.shape == (3,)
    channels_first = np.moveaxis(images, -1, 1)
    for same in (channels_first, images.astype(np.int64), Tensor(images), images[:, ::-1][:, ::-1], images.tolist()):
        assert np.array_equal(avatars.log_prob(same, 0), nats)
    of_pixels = avatars.log_prob(images, 0, per_pixel=True)
    assert of_pixels.shape == (3, 16, 16)
    np.testing.assert_allclose(of_pixels.sum(axis=(1, 2)), nats, rtol=1e-12)
    digits = mnist.sample(2, labels=1)
    assert np.array_equal(mnist.log_prob(digits[..., 0], 1), mnist.log_prob(digits, 1))
    assert len(avatars.log_prob(images[:0], 0)) == 0 and avatars.sample(0).shape == (0, 16, 16, 3)
    for wrong, error, text in [
        (images[0], ValueError, r"one image is images\[None\]"),
        (images / 255, TypeError, "round"),
        (images.astype(int) + 1, ValueError, "from 0 to 255, found"),
        (images[:, :15], ValueError, "cannot work on images of height 15 and width 16"),
        (np.zeros((1, 3, 8, 3), np.uint8), ValueError, "could be"),
        (np.zeros((1, 16, 16, 4), np.uint8), ValueError, "expected shape"),
    ]:
        with pytest.raises(error, match=text):
            avatars.log_prob(wrong, 0)


def test_torch_tensors(avatars):
    torch = pytest.importorskip("torch")
    images = avatars.sample(2, labels=torch.tensor([0, 1]))
    tensor = torch.from_numpy(images)
    assert tensor.data_ptr() == images.__array_interface__["data"][0]
    assert np.array_equal(avatars.log_prob(tensor.permute(0, 3, 1, 2), [0, 1]), avatars.log_prob(images, [0, 1]))


def test_arguments(avatars):
    for arguments, error, text in [
        ({"n": -1}, ValueError, "n: expected"),
        ({"n": 2.5}, TypeError, "n: expected a whole number"),
        ({"n": None}, TypeError, "expected n, or a label"),
        ({"seed": -1}, ValueError, "seed: expected"),
        ({"seed": 2**64}, ValueError, "seed: expected"),
        ({"first": 2**64 - 2}, ValueError, r"first \+ n"),
        ({"size": 15}, ValueError, "multiples of"),
        ({"batch": 0}, ValueError, "batch: expected"),
        ({"threads": 0}, ValueError, "threads: expected"),
        ({"precision": "f8"}, ValueError, "precision"),
        ({"device": 1.5}, TypeError, "device"),
        ({"temperature": -1.0}, ValueError, "temperature: expected a finite number from 0"),
        ({"truncate": 1.0}, ValueError, "truncation"),
        ({"top_k": 3}, ValueError, "top-k: this model draws from a mixture of logistics"),
        ({"device": "of no such name"}, pixelcnn.DeviceError, "there is no device"),
    ]:
        with pytest.raises(error, match=text):
            avatars.sample(**{"n": 2, **arguments})
    with pytest.raises(pixelcnn.RequestError):
        avatars.sample(1, truncate=1.0)


def test_seeds_and_indices(avatars, caplog):
    images = avatars.sample(4, labels=0, seed=2**64 - 1)
    assert np.array_equal(avatars.sample(2, labels=0, seed=2**64 - 1, first=2), images[2:])
    with caplog.at_level(logging.INFO, "pixelcnn"):
        random = avatars.sample(2, labels=0, seed=None)
    seed = int(caplog.messages[0].removeprefix("seed: "))
    assert np.array_equal(avatars.sample(2, labels=0, seed=seed), random)
    assert any("2 images (16×16, model avatars) on CPU" in message for message in caplog.messages)


def test_more_than_256_levels_and_fewer():
    model = pixelcnn.load(GRAPHS / "masked_binary_real" / "model.safetensors")
    images = model.sample(2)
    assert model.levels == 2 and set(np.unique(images)) <= {0, 1}
    assert np.isfinite(model.log_prob(images.astype(bool))).all()
    pixelcnn.grid(images, levels=2).to_png()
    with pytest.raises(ValueError, match="from 0 to 1"):
        model.log_prob(images + 1)


def test_classify(mnist):
    images = mnist.sample(4, labels=[0, 1, 2, 3], seed=1)
    probabilities = mnist.classify(images)
    assert probabilities.shape == (4, 10) and list(probabilities.argmax(axis=1)) == [0, 1, 2, 3]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    without_two = mnist.classify(images, prior=[1, 1, 0, 1, 1, 1, 1, 1, 1, 1])
    assert (without_two[:, 2] == 0).all()
    with pytest.raises(ValueError, match="prior: expected 10 shares"):
        mnist.classify(images, prior=[1, 2])


def test_complete(avatars):
    images = avatars.sample(3, labels=[0, 1, 2])
    mask = np.zeros((16, 16), bool)
    assert np.array_equal(avatars.complete(images, mask, labels=[0, 1, 2]), images)
    mask[:8] = True
    filled = avatars.complete(images, mask, labels=[0, 1, 2], seed=4)
    assert np.array_equal(filled[:, :8], images[:, :8]) and not np.array_equal(filled, images)
    masks = np.stack([mask, ~mask, mask])
    assert np.array_equal(avatars.complete(images, masks, labels=0)[1, 8:], images[1, 8:])
    # Unknown pixels have no meaning.
    assert np.array_equal(avatars.complete(images * mask[..., None], mask, labels=[0, 1, 2], seed=4), filled)
    for wrong, error in [(mask.astype(int), TypeError), (mask[:4], ValueError)]:
        with pytest.raises(error, match="mask"):
            avatars.complete(images, wrong, labels=0)
    with pytest.raises(ValueError, match="has classes"):
        avatars.complete(images, mask)


def test_grid(avatars, tmp_path):
    images = avatars.sample(5)
    grid = pixelcnn.grid(images, columns=2, scale=3)
    png = grid._repr_png_()
    assert png.startswith(b"\x89PNG") and png[16:24] == bytes([0, 0, 0, 3 * 33, 0, 0, 0, 3 * 50])
    grid.save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes() == png and len(list(tmp_path.iterdir())) == 1
    assert pixelcnn.grid(np.moveaxis(images, -1, 1), columns=2, scale=3).to_png() == png
    with pytest.raises(ValueError, match=r"\.png"):
        grid.save(tmp_path / "x.jpg")
    with pytest.raises(TypeError):
        pixelcnn.grid(images / 255)


def test_progress(avatars, capfd):
    seen = []
    avatars.sample(6, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6 * 256, 6 * 256) and seen == sorted(seen) and len(seen) >= 3
    avatars.sample(2, progress=True)
    pytest.importorskip("tqdm")
    assert "px" in capfd.readouterr().err

    def fails(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        avatars.sample(4, progress=fails)
    assert len(avatars.sample(4)) == 4


def test_imports_are_lazy():
    code = """
import sys, pixelcnn
assert "numpy" not in sys.modules and "pixelcnn._pixelcnn" not in sys.modules
from pixelcnn.convert import ConversionError
assert ConversionError is pixelcnn.ConversionError and "pixelcnn._pixelcnn" not in sys.modules
assert not hasattr(pixelcnn, "of_no_such_name")
sys.modules["torch"] = None
try:
    pixelcnn.compile
except AttributeError as error:
    assert "needs PyTorch" in str(error)
from pixelcnn import *
assert load is pixelcnn.load
"""
    subprocess.run([sys.executable, "-c", code], check=True)
