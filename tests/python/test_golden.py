"""Every golden case, converted from the file that its published implementation wrote, must give the
numbers that this implementation gave."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import (
    GOLDEN,
    config,
    evaluate,
    first_difference,
    flags,
    golden,
    needs_pixelcnn,
    run_convert,
    run_pixelcnn,
)
from reference import Network, bits_per_dim
from safetensors.numpy import load_file

CHECKPOINTS = [
    ("rgb_r1_f8_m10", "params.ckpt.index"),
    ("rgb_r1_f8_m10", "params_v1.ckpt"),
    ("rgb_r2_f16_m5_16x24", "params.ckpt.index"),
    ("rgb_r2_f16_m5_16x24", "params_v1.ckpt"),
    ("rgb_classes10_r1_f12_m3_8x8", "params.ckpt.index"),
    ("rgb_elu_r1_f8_m4_8x12", "params.ckpt.index"),
    ("rgb_relu_r1_f8_m4_12x8", "params.ckpt.index"),
    ("torch_grey_r1_f8_m3_8x12", "params.pth"),
    ("torch_rgb_r1_f8_m4_16x16", "params.pth"),
    ("own_grey_1level_dilated_r3_f8_m4_11x13", "params.safetensors"),
    ("own_grey_classes_2levels_r1_f12_m5_10x14", "params.safetensors"),
    ("own_rgb_dilated_r2_f8_m3_24x20", "params.safetensors"),
]
# Two float32 implementations of these small networks differ by some 5e-6.
TOLERANCE = 1e-4


def test_no_golden_case_is_left_out():
    assert {case for case, _ in CHECKPOINTS} == {path.parent.name for path in GOLDEN.glob("*/config.json")}


def convert_case(case, file, output, *more):
    given = [] if case.startswith("own_") else flags(case)
    result = run_convert(golden(case, file), "-o", output, *given, *more)
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize("case, file", CHECKPOINTS)
def test_conversion_matches_the_recorded_numbers(case, file, tmp_path):
    convert_case(case, file, tmp_path / "model.safetensors")
    network = Network(tmp_path / "model.safetensors")
    expected = load_file(golden(case, "golden.safetensors"))
    params = network.params(expected["image"], expected.get("label"))
    assert first_difference(params, expected["params"], TOLERANCE) is None
    bits = bits_per_dim(params, expected["image"])
    assert first_difference(bits, expected["bits_per_dim"], TOLERANCE) is None
    assert network.used == set(network.tensors)

    c, m = config(case), network.metadata
    assert {key: m[key] for key in ("channels", "height", "width", "filters", "blocks", "mixtures")} == {
        "channels": str(c["channels"]),
        "height": str(c["height"]),
        "width": str(c["width"]),
        "filters": str(c["nr_filters"]),
        "blocks": str(c["nr_resnet"]),
        "mixtures": str(c["nr_logistic_mix"]),
    }
    assert m["levels"] == str(c.get("levels", 3))
    assert m["nonlinearity"] == c["nonlinearity"]
    assert json.loads(m["dilations"]) == c.get("dilations", [1] * (c["nr_resnet"] + 1))
    assert json.loads(m["classes"]) == [str(k) for k in range(c["nr_classes"])]


@pytest.mark.parametrize("kind", ["conv_in", "conv_out", "skip", "stride", "input", "output", "class"])
def test_one_wrong_weight_is_seen(kind, tmp_path):
    """The twin of the test above: in each kind of layer, one weight off by 0.1 must fail it."""
    case = "rgb_classes10_r1_f12_m3_8x8"
    network = Network(GOLDEN / case / "model.safetensors")
    name = next(name for name in network.tensors if kind in name and name.endswith("weight"))
    network.tensors[name].reshape(-1)[0] += 0.1
    expected = load_file(GOLDEN / case / "golden.safetensors")
    params = network.params(expected["image"], expected["label"])
    assert first_difference(params, expected["params"], TOLERANCE) is not None


@pytest.mark.parametrize("case", sorted({c for c, f in CHECKPOINTS if not c.startswith("torch_")}))
def test_shipped_models_are_what_conversion_gives(case, tmp_path):
    file = next(file for c, file in CHECKPOINTS if c == case)
    convert_case(case, file, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (
        GOLDEN / case / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("case", ["rgb_r1_f8_m10", "rgb_r2_f16_m5_16x24"])
def test_v1_and_v2_give_the_same_file(case, tmp_path):
    convert_case(case, "params_v1.ckpt", tmp_path / "v1.safetensors")
    convert_case(case, "params.ckpt.index", tmp_path / "v2.safetensors")
    assert (tmp_path / "v1.safetensors").read_bytes() == (tmp_path / "v2.safetensors").read_bytes()


@pytest.mark.parametrize(
    "spelling", ["params.ckpt", "params.ckpt.index", "params.ckpt.data-00000-of-00001"]
)
def test_any_name_of_a_v2_checkpoint_will_do(spelling, tmp_path):
    case = "rgb_r1_f8_m10"
    result = run_convert(GOLDEN / case / spelling, "-o", tmp_path / "model.safetensors", *flags(case))
    assert result.code == 0, result.err
    assert (tmp_path / "model.safetensors").read_bytes() == (
        GOLDEN / case / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("file", ["params_v1.ckpt", "params.ckpt.index"])
def test_raw_values_differ_from_their_averages(file, tmp_path):
    case = "rgb_r1_f8_m10"
    averages = convert_case(case, file, tmp_path / "averages.safetensors")
    raw = convert_case(case, file, tmp_path / "raw.safetensors", "--raw")
    assert "exponential moving averages" in averages.out and "raw values" in raw.out
    averages, raw = load_file(tmp_path / "averages.safetensors"), load_file(tmp_path / "raw.safetensors")
    assert averages.keys() == raw.keys()
    assert all(np.abs(averages[name] - raw[name]).max() > 1e-4 for name in raw)


@needs_pixelcnn
@pytest.mark.parametrize("case, file", CHECKPOINTS)
def test_the_program_evaluates_a_converted_model(case, file, tmp_path):
    convert_case(case, file, tmp_path / "model.safetensors")
    expected = load_file(golden(case, "golden.safetensors"))
    params, bits = evaluate(
        tmp_path / "model.safetensors", expected["image"], expected.get("label", []), tmp_path / "images"
    )
    assert first_difference(params, expected["params"], TOLERANCE) is None
    assert first_difference(bits, expected["bits_per_dim"], TOLERANCE) is None


@needs_pixelcnn
def test_the_program_verifies_a_converted_model(tmp_path):
    convert_case("torch_rgb_r1_f8_m4_16x16", "params.pth", tmp_path / "model.safetensors")
    run_pixelcnn("verify", "-m", tmp_path / "model.safetensors", "--device", "cpu")
