"""Class tensors against recorded numbers: our own cases, and, where they are, checkpoints of other people, as
their own code evaluated them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import GOLDEN, GOLDEN_ELSEWHERE, evaluate, needs_pixelcnn, run_convert, run_pixelcnn
from record_classes import CASES, LABELS, convert, record
from reference import Network, bits_per_dim
from safetensors.numpy import load_file

# Flags of a user who knows the network's code: places of tensors, and unused ones.
FLAGS = {
    "rand_block_gate_1": ["--ignore", "class_embedding.weight", "--ignore", "onehot_linear"],
    "rand_bottleneck_vector_1": ["--class-tensor", "embedded_labels.weight=bottleneck"],
    "rand_first_conv_1": ["--class-tensor", "embedding.weight=first"],
    "rand_input_channel_1": ["--ignore", "mid_embedding.weight"],
    "rand_input_concat_1": [
        "--ignore",
        "MLP.0",
        "--class-tensor",
        "class_embedding.weight=input-before-ones",
    ],
    "rand_input_row_1": ["--ignore", "classifier", "--class-tensor", "label_embedding.weight=input-rows"],
    "rand_skips_1": ["--class-tensor", "embedding.weight=remembered"],
    "real_block_gate_1": ["--ignore", "*.embedding_to_feature_map_?.*"],
    "real_skips_1": ["--ignore", "pos_encoding.W", "--class-tensor", "pos_embedding.weight=remembered"],
    "real_skips_linear_1": ["--class-tensor", "embedding.weight=remembered"],
}
OTHERS = sorted(
    path.parent.name for way in ("real", "rand") for path in GOLDEN_ELSEWHERE.glob(f"{way}_*/params.pth")
) or [pytest.param("", marks=pytest.mark.skip(f"there are no checkpoints of others in {GOLDEN_ELSEWHERE}"))]


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of the numbers where these are large."""
    return (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()


@pytest.fixture(scope="module", params=OTHERS)
def other(request, tmp_path_factory):
    """Another project's checkpoint, converted: the network, its own output in 32 bits, and the model file."""
    folder = GOLDEN_ELSEWHERE / request.param
    c = json.loads((folder / "config.json").read_text())
    output = tmp_path_factory.mktemp("other") / "model.safetensors"
    size = ["--height", c["height"], "--width", c["width"]]
    result = run_convert(folder / "params.pth", "-o", output, *size, *FLAGS.get(request.param, []))
    assert result.code == 0, result.err
    return Network(output), load_file(folder / "golden.safetensors"), output


def test_other_peoples_checkpoints_give_what_their_own_code_gave(other):
    network, expected, _ = other
    params = network.params(expected["image"], expected.get("label"))
    assert network.used == set(network.tensors)
    # Float32 against float64 of the same network differs by up to 4e-5.
    assert worst(params, expected["params"]) < 1e-4
    bits = bits_per_dim(params, expected["image"])
    assert np.abs(bits - expected["bits_per_dim"]).max() < 1e-4


def test_and_under_every_class(other):
    network, expected, _ = other
    image = expected["image"]
    if not network.classes:
        pytest.skip("has no classes")
    bits = [
        bits_per_dim(network.params(image, [k] * len(image)), image) for k in range(len(network.classes))
    ]
    bits = np.stack(bits, axis=1)
    assert np.abs(bits - expected["class_bits_per_dim"]).max() < 1e-4
    # The twin: each class taken for the next.
    assert np.abs(np.roll(bits, 1, axis=1) - expected["class_bits_per_dim"]).max() > 1e-3


@needs_pixelcnn
def test_and_to_the_program(other, tmp_path):
    network, expected, model = other
    image = expected["image"]
    params, bits = evaluate(model, image, expected.get("label", []), tmp_path / "images")
    assert worst(params, expected["params"]) < 1e-4
    assert np.abs(bits - expected["bits_per_dim"]).max() < 1e-4
    for k in range(len(network.classes)):
        _, bits = evaluate(model, image, [k] * len(image), tmp_path / "images")
        assert np.abs(bits - expected["class_bits_per_dim"][:, k]).max() < 1e-4


@needs_pixelcnn
def test_the_program_verifies_each(other):
    run_pixelcnn("verify", "-m", other[2], "--device", "cpu")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_cases_are_what_is_recorded_today(case, tmp_path):
    today = convert(case, tmp_path)
    stored = load_file(GOLDEN / case.name / "model.safetensors")
    for name, tensor in load_file(today).items():
        np.testing.assert_allclose(stored.pop(name), tensor, rtol=1e-6, atol=1e-7)
    assert not stored
    recorded = load_file(GOLDEN / case.name / "golden.safetensors")
    for name, array in record(case, today).items():
        np.testing.assert_allclose(array, recorded[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_class_tensor_swapped_between_classes_is_seen(case):
    """The twin: of each place, two classes' rows exchanged."""
    recorded = load_file(GOLDEN / case.name / "golden.safetensors")
    names = [name for name in load_file(GOLDEN / case.name / "model.safetensors") if ".class." in name]
    for name in names:
        network = Network(GOLDEN / case.name / "model.safetensors")
        network.tensors[name] = network.tensors[name][[2, 1, 0]]
        params = network.params(recorded["image"], LABELS)
        assert worst(params, recorded["params"]) > 1e-3, name
