"""The script as a user meets it: flags, what it prints, uv, missing packages, full size."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_network, save_tensorflow, with_training_state
from conftest import GOLDEN, ROOT, SCRIPTS, needs_pixelcnn, run, run_convert, run_pixelcnn
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

RGB = GOLDEN / "rgb_r1_f8_m10"
CLASSES = GOLDEN / "rgb_classes10_r1_f12_m3_8x8"
UV = Path(sys.executable).with_name("uv")
needs_uv = pytest.mark.skipif(not UV.exists(), reason=f"needs uv, and there is no {UV}")


def metadata(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata()


def test_what_it_prints(tmp_path):
    output = tmp_path / "my model.safetensors"
    result = run_convert(RGB / "params.ckpt", "-o", output)
    assert "TensorFlow checkpoint (V2) of openai/pixel-cnn" in result.out
    assert "taken: the exponential moving averages" in result.out
    assert "37,412 parameters, f32" in result.out
    assert "filters: 8" in result.out and "nonlinearity: concat_elu" in result.out
    assert result.out.endswith(f"pixelcnn sample -m '{output}'\n")
    assert "note: the input does not tell its height; 32 is assumed (--height)" in result.err
    assert sum(tensor.size for tensor in load_file(output).values()) == 37_412


def test_elu_is_assumed_aloud(tmp_path):
    elu = GOLDEN / "rgb_elu_r1_f8_m4_8x12" / "params.ckpt"
    result = run_convert(elu, "-o", tmp_path / "elu.safetensors", "--height", 8, "--width", 12)
    assert "the input does not tell its nonlinearity; elu is assumed (--nonlinearity)" in result.err
    told = run_convert(
        elu, "-o", tmp_path / "relu.safetensors", "--height", 8, "--width", 12, "--nonlinearity", "relu"
    )
    assert told.err == ""
    assert metadata(tmp_path / "relu.safetensors")["nonlinearity"] == "relu"


def test_flags_reach_the_model_file(tmp_path):
    names = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,Müll"
    result = run_convert(
        CLASSES / "params.ckpt", "-o", tmp_path / "model.safetensors",
        "--height", "16", "--width", "24", "--classes", names, "--dilations", "1,2",
        "--source", "a paper", "--data", "CIFAR-10", "--steps", "12", "--bits-per-dim", "2.94", "--license", "MIT",
    )  # fmt: skip
    assert result.code == 0 and result.err == ""
    found = metadata(tmp_path / "model.safetensors")
    assert json.loads(found["classes"]) == names.split(",")
    assert json.loads(found["dilations"]) == [1, 2]
    assert {key: found[key] for key in ("format", "family", "height", "width")} == {
        "format": "pixelcnn-1", "family": "pixelcnn++", "height": "16", "width": "24",
    }  # fmt: skip
    provenance = [found[key] for key in ("source", "data", "steps", "bits_per_dim", "license")]
    assert provenance == ["a paper", "CIFAR-10", "12", "2.94", "MIT"]


def test_half_precision(tmp_path):
    for dtype in ("f32", "f16"):
        assert run_convert(CLASSES / "params.ckpt", "-o", tmp_path / dtype, "--dtype", dtype).code == 0
    full, half = load_file(tmp_path / "f32"), load_file(tmp_path / "f16")
    assert full.keys() == half.keys()
    for name in full:
        weight = name.endswith(".weight")
        assert half[name].dtype == (np.float16 if weight else np.float32)
        # Half a unit in the last place, or half the smallest subnormal number.
        np.testing.assert_allclose(
            half[name], full[name], rtol=1.001 * 2**-11 if weight else 0, atol=2**-25 if weight else 0
        )


def test_metadata_of_the_input_is_taken_over(tmp_path):
    tensors = random_network(filters=4, blocks=1, mixtures=2, channels=1, classes=2)
    told = {
        "height": "8",
        "width": "12",
        "classes": '["no", "yes"]',
        "dilations": "[2, 1]",
        "data": "answers",
    }
    save_file(tensors, tmp_path / "params.safetensors", told)
    result = run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "model", "--width", "16")
    assert result.code == 0 and result.err == ""
    found = metadata(tmp_path / "model")
    assert {key: found[key] for key in told} == told | {"width": "16"}


@pytest.mark.parametrize("name", ["mnist", "mnist-dilated", "cifar10", "emoji"])
def test_shipped_models(name):
    """What they compute is tested in Rust; here that they say all they should, and their cards the same."""
    found = metadata(ROOT / "weights" / f"{name}.safetensors")
    assert json.loads(found["classes"]) and found["data"] and found["source"] and found["license"]
    assert f"**{found['bits_per_dim']} bits/dim**" in (ROOT / "weights" / f"{name}.md").read_text()
    table = (ROOT / "weights" / "README.md").read_text()
    (row,) = [row for row in table.splitlines() if row.startswith(f"| [`{name}`]")]
    assert f"| {int(found['steps']):,} |".replace(",", " ") in row and f"| {found['bits_per_dim']} |" in row
