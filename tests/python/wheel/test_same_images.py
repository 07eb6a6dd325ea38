"""The images of the module are those of the command line, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pixelcnn
import pytest
from conftest import GOLDEN, GRAPHS, CommandLine

KNOWN_ROWS = 20


def drawn(command_line: CommandLine, folder: Path, *words: object) -> np.ndarray:
    done = command_line(*words, "-o", "x.npy")
    assert done.returncode == 0, done.stderr
    return np.load(folder / "x.npy")


@pytest.mark.parametrize("how", [{}, {"batch": 3}, {"threads": 1}, {"batch": 5, "threads": 3}], ids=str)
def test_samples(mnist, command_line, tmp_path, how):
    words = ["sample", "-m", "mnist", "-n", 12, "-s", 5, "--first", 3, "--class", "7,1"]
    expected = drawn(command_line, tmp_path, *words)
    labels = ["7" if (3 + i) % 2 == 0 else "1" for i in range(12)]
    images = mnist.sample(12, labels=labels, seed=5, first=3, **how)
    assert images.dtype == np.uint8 and np.array_equal(images, expected.reshape(images.shape))
    # The comparison can fail.
    assert not np.array_equal(mnist.sample(12, labels=labels, seed=6, first=3), images)


def test_samples_without_labels_in_another_size_and_way(avatars, command_line, tmp_path):
    flags = ["--size", "8x24", "--temperature", 0.9, "--truncate", 0.02, "--min-p", 0.05, "--precision", "f16"]
    expected = drawn(command_line, tmp_path, "sample", "-n", 6, *flags)
    images = avatars.sample(6, size=(24, 8), temperature=0.9, truncate=0.02, min_p=0.05, precision="f16")
    assert images.shape == (6, 24, 8, 3) and np.array_equal(images, expected)


@pytest.mark.parametrize("graph", ["gated_mnist_real", "masked_binary_real", "plusplus_film"])
def test_any_network(graph, command_line, tmp_path):
    path = GRAPHS / graph / "model.safetensors"
    model = pixelcnn.load(path)
    expected = drawn(command_line, tmp_path, "sample", "-m", path, "-n", 3)
    images = model.sample(3)
    assert images.max() < model.levels
    if model.levels == 256:
        assert np.array_equal(images, expected.reshape(images.shape))


def test_all_that_is_done_with_a_graph(command_line, tmp_path):
    """The built-in model of the family gated has classes and draws one channel after another."""
    labels = ["hat", "beard", "plain"]
    model = pixelcnn.load("avatars-gated")
    images = model.sample(3, labels=labels, seed=4)
    words = ["sample", "-m", "avatars-gated", "-n", 3, "-s", 4, "--class", ",".join(labels)]
    assert np.array_equal(images, drawn(command_line, tmp_path, *words))
    assert not np.array_equal(model.sample(3, labels=labels, seed=5), images)

    np.savez(tmp_path / "x.npz", x=images, y=np.array([2, 3, 0]))
    known = np.zeros((16, 16), bool)
    known[:8] = True
    words = ["complete", "x.npz", "-m", "avatars-gated", "--rows", 8, "-n", 2, "-s", 6, "-o", "out.npz"]
    done = command_line(*words)
    assert done.returncode == 0, done.stderr
    filled = model.complete(images, known, labels=labels, n=2, seed=6)
    assert np.array_equal(filled.reshape(6, 16, 16, 3), np.load(tmp_path / "out.npz")["arr_0"])
    assert not np.array_equal(filled[:, 0], filled[:, 1])

    done = command_line("classify", "x.npz", "-m", "avatars-gated", "--scores", "nats.npy")
    assert done.returncode == 0, done.stderr
    nats = np.stack([model.log_prob(images, k) for k in range(4)], axis=1)
    np.testing.assert_allclose(nats, np.load(tmp_path / "nats.npy"), rtol=1e-13)

    done = command_line("eval", "x.npz", "-m", "avatars-gated", "--json")
    assert done.returncode == 0, done.stderr
    bits = [image["bits_per_dim"] for image in json.loads(done.stdout)["images"]]
    np.testing.assert_allclose(model.log_prob(images, labels) / (-np.log(2) * images[0].size), bits, rtol=1e-13)


def test_likelihoods(mnist, command_line, tmp_path):
    images = mnist.sample(4, labels=[0, 1, 2, 3])
    np.savez(tmp_path / "x.npz", x=images, y=np.arange(4))
    assert command_line("classify", "x.npz", "-m", "mnist", "--scores", "nats.npy").returncode == 0
    nats = np.load(tmp_path / "nats.npy")
    ours = np.stack([mnist.log_prob(images, k) for k in range(10)], axis=1)
    np.testing.assert_allclose(ours, nats, rtol=1e-13)
    probabilities = mnist.classify(images)
    expected = np.exp(nats - nats.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, expected / expected.sum(axis=1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("particles", [1, 3])
def test_completions(mnist, command_line, tmp_path, particles):
    images = mnist.sample(2, labels=[4, 9])
    np.savez(tmp_path / "x.npz", x=images, y=np.array([4, 9]))
    # The known part is below, black in the mask: particles are weighted by it.
    unknown = np.full((28, 28), 255, np.uint8)
    unknown[KNOWN_ROWS:] = 0
    pixelcnn.grid(unknown[None], scale=1).save(tmp_path / "mask.png")
    words = ["complete", "x.npz", "-m", "mnist", "--mask", "mask.png", "-n", 2, "--particles", particles, "--each", "out"]
    done = command_line(*words)
    assert done.returncode == 0, done.stderr
    filled = mnist.complete(images, unknown == 0, labels=[4, 9], n=2, particles=particles)
    assert filled.shape == (2, 2, 28, 28, 1)
    assert np.array_equal(filled[:, :, KNOWN_ROWS:], np.repeat(images[:, None, KNOWN_ROWS:], 2, axis=1))
    for path in sorted((tmp_path / "out").glob("*-[0-9].png")):
        image, k = map(int, path.stem.split("-"))
        assert read_grey(path) == filled[image, k].tobytes(), path.name
    # Beside the completions of an image lies its mask.
    masks = sorted((tmp_path / "out").glob("*-mask.png"))
    assert [read_grey(path) for path in masks] == 2 * [unknown.tobytes()]
    assert len(list((tmp_path / "out").iterdir())) == 4 + 2


def read_grey(path: Path) -> bytes:
    """Levels of a grey PNG file, whose rows are unfiltered or filtered in the ways that sum earlier bytes."""
    import struct
    import zlib

    data, at, packed, width = path.read_bytes(), 8, b"", 0
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width = struct.unpack(">I", body[:4])[0]
            assert body[8:] == bytes([8, 0, 0, 0, 0])
        packed += body if kind == b"IDAT" else b""
        at += length + 12
    raw, above, out = zlib.decompress(packed), bytes(width), b""
    for start in range(0, len(raw), width + 1):
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + width])
        for i in range(width):
            a, b, c = (row[i - 1] if i else 0), above[i], (above[i - 1] if i else 0)
            nearest = min((a, b, c), key=lambda x: abs(a + b - c - x))
            row[i] = (row[i] + (0, a, b, (a + b) // 2, nearest)[kind]) % 256
        above = bytes(row)
        out += above
    return out


def test_a_checkpoint_and_its_state_dict(tmp_path):
    pytest.importorskip("safetensors")
    case = GOLDEN / "torch_rgb_r1_f8_m4_16x16"
    model = pixelcnn.load(case / "params.pth", height=16, width=16)
    from pixelcnn.convert.pth import read_pth

    tensors = {name: tensor.read() for name, tensor in read_pth(case / "params.pth").items()}
    again = pixelcnn.load(state_dict=tensors, height=16, width=16)
    assert np.array_equal(model.sample(2), again.sample(2))
    with pytest.raises(pixelcnn.ConversionError, match="expected: model/conv2d_0"):
        pixelcnn.load(state_dict={"weight": np.zeros(3)})
