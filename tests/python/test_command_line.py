"""The script as a user meets it: flags, output, uv, missing packages, full size."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import random_network, save_tensorflow, with_training_state
from conftest import GOLDEN, ROOT, SCRIPTS, needs_pixelcnn, run, run_convert, run_pixelcnn, slow
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


def test_a_size_that_is_assumed_is_known_as_such(tmp_path):
    output = tmp_path / "model.safetensors"
    for flags, is_assumed in (
        ((), True),
        (("--height", 32), True),
        (("--height", 32, "--width", 32), False),
    ):
        run_convert(RGB / "params.ckpt", "-o", output, *flags)
        assert ("size_is_assumed" in metadata(output)) == is_assumed, flags


def test_any_file_of_a_checkpoint_names_it(tmp_path):
    (tmp_path / "params.ckpt.index").symlink_to(RGB / "params.ckpt.index")
    (tmp_path / "params.ckpt.data-00000-of-00001").symlink_to(RGB / "params.ckpt.data-00000-of-00001")
    (tmp_path / "params.ckpt.meta").write_bytes(b"a graph, which is not needed")
    for name in ("params.ckpt", "params.ckpt.index", "params.ckpt.meta"):
        result = run_convert(tmp_path / name, "-o", tmp_path / "model.safetensors")
        assert result.code == 0 and "TensorFlow checkpoint (V2)" in result.out, result.err


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


def test_shipped_digits_model():
    """Against its own golden numbers it is tested in Rust; here that it says all it should."""
    found = metadata(ROOT / "weights" / "mnist.safetensors")
    assert json.loads(found["classes"]) == [str(digit) for digit in range(10)]
    assert (found["height"], found["width"], found["channels"]) == ("28", "28", "1")
    assert found["bits_per_dim"] == "0.8921" and found["steps"] == "93589"
    assert "MNIST" in found["data"] and found["source"] and found["license"]


@pytest.mark.parametrize("name", ["mnist", "avatars", "avatars-gated", "cifar10"])
def test_shipped_models(name):
    """Their output is tested in Rust; here their metadata, and that their cards agree."""
    found = metadata(ROOT / "weights" / f"{name}.safetensors")
    # In a file of another family, classes are in the graph.
    assert json.loads(found["classes"]) if "classes" in found else json.loads(found["graph"])["classes"]
    assert found["data"] and found["source"] and found["license"]
    assert f"**{found['bits_per_dim']} bits/dim**" in (ROOT / "weights" / f"{name}.md").read_text()
    table = (ROOT / "weights" / "README.md").read_text()
    (row,) = [row for row in table.splitlines() if row.startswith(f"| [`{name}`]")]
    assert f"| {int(found['steps']):,} |".replace(",", " ") in row and f"| {found['bits_per_dim']} |" in row


@pytest.mark.parametrize("style", ["reference", "tensorflow"])
def test_optimizer_slots_are_ignored(style, tmp_path):
    tensors = random_network(filters=4, blocks=2, mixtures=2)
    save_file(tensors, tmp_path / "params.safetensors")
    save_tensorflow(tmp_path / "params.ckpt", with_training_state(tensors, style), version=2)
    for source in ("params.safetensors", "params.ckpt"):
        result = run_convert(tmp_path / source, "-o", tmp_path / f"{source}.model")
        assert result.code == 0, result.err
    plain, trained = ((tmp_path / f"params.{kind}.model").read_bytes() for kind in ("safetensors", "ckpt"))
    assert plain == trained


@needs_uv
@pytest.mark.parametrize(
    "source",
    [RGB / "params_v1.ckpt", GOLDEN / "torch_rgb_r1_f8_m4_16x16" / "params.pth"],
    ids=["tensorflow", "torch"],
)
def test_uv_brings_what_is_needed(source, tmp_path):
    output = tmp_path / "model.safetensors"
    environment = {**os.environ, "PATH": f"{UV.parent}:{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    size = ("--height", 32, "--width", 32)
    result = run(UV, "run", SCRIPTS / "convert.py", source, "-o", output, *size, cwd=tmp_path, env=environment)
    assert result.code == 0, result.err
    assert ("note: reading with tensorflow" in result.err) == (source.suffix == ".ckpt")
    if source.suffix == ".ckpt":
        assert output.read_bytes() == (RGB / "model.safetensors").read_bytes()


WITHOUT = """
import runpy, sys
_, package, scripts, *sys.argv = sys.argv
sys.modules[package] = None
sys.path.insert(0, scripts)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def without(package, *arguments):
    """Run the script where `package` cannot be imported and there is no uv."""
    command = [sys.executable, "-c", WITHOUT, package, SCRIPTS, SCRIPTS / "convert.py", *arguments]
    return run(*command, env={"PATH": "/nowhere"})


def test_missing_packages_are_named(tmp_path):
    output = tmp_path / "model.safetensors"
    result = without("tensorflow", RGB / "params.ckpt", "-o", output)
    assert result.code == 1 and not output.exists()
    assert "pip install tensorflow-cpu" in result.err and "install uv" in result.err
    for package in ("numpy", "safetensors"):
        result = without(package, RGB / "params.ckpt", "-o", output)
        assert result.code == 1 and "pip install numpy safetensors" in result.err
    result = without("torch", GOLDEN / "torch_rgb_r1_f8_m4_16x16" / "params.pth", "-o", output)
    assert result.code == 0, result.err


@pytest.fixture(scope="module", params=[(1, "reference"), (2, "tensorflow")], ids=["V1", "V2"])
def full_size(request, tmp_path_factory):
    """The published size, random, as a training checkpoint in the manner of each version."""
    version, style = request.param
    folder = tmp_path_factory.mktemp("full")
    tensors = random_network(filters=160, blocks=5, mixtures=10)
    save_tensorflow(folder / "params.ckpt", with_training_state(tensors, style), version)
    assert sum(path.stat().st_size for path in folder.iterdir()) > 850e6
    del tensors
    yield folder
    for path in folder.iterdir():
        path.unlink()


# A process between pytest and the script: the system counts the parent's memory at the start as the child's peak, and
# pytest has just held a whole checkpoint.
MEASURE = """
import resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(time.monotonic() - start, peak)
sys.exit(code)
"""


@slow
def test_full_size(full_size):
    output = full_size / "model.safetensors"
    result = run(
        sys.executable,
        "-c",
        MEASURE,
        sys.executable,
        SCRIPTS / "convert.py",
        full_size / "params.ckpt",
        "-o",
        output,
    )
    assert result.code == 0, result.err
    seconds, peak = map(float, result.out.splitlines()[-1].split())
    print(f"\n{seconds:.0f} s, {peak / 1e9:.2f} GB")
    assert seconds < 120 and peak < 4e9
    # Weights and biases of random_network(160, 5, 10), without the gains that are folded away.
    assert "53,618,660 parameters" in result.out


@slow
@needs_pixelcnn
def test_full_size_samples(full_size):
    model = full_size / "model.safetensors"
    if not model.exists():
        assert run_convert(full_size / "params.ckpt", "-o", model).code == 0
    run_pixelcnn("sample", "-m", model, "-n", "1", "--device", "cpu", "-o", full_size / "image.png")
    assert (full_size / "image.png").stat().st_size > 0
