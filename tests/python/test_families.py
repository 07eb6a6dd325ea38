"""Training of the families that are graphs: the network in PyTorch equals the program's, and unsuitable input is
refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import PACKAGE, needs_pixelcnn, run_pixelcnn
from PIL import Image
from safetensors.numpy import load_file, save_file
from pytorch import needs_torch, run_torch
from test_train import SCRIPT, has_pillow, save_npz
from test_train import reference_metadata as metadata

SMALL = ("--filters", 6, "--blocks", 2, "--batch", 8, "--threads", 1, "--held-out", 12)

MODELS = {
    "gated, rgb, classes, dilated, f16": (
        3, ["--family", "gated", "--classes", "--dilations", "1,2", "--dtype", "f16", "--flip", "--shift", 1],
    ),
    "gated, 4 levels": (1, ["--family", "gated", "--levels", 4]),
    "gated, codes, classes": (0, ["--family", "gated", "--codes", "--classes"]),
    "gated, one probability": (1, ["--family", "gated", "--head", "bernoulli", "--levels", 2]),
    "masked, rgb, 16 levels": (3, ["--family", "masked", "--levels", 16]),
    "masked, grey, classes, dilated": (1, ["--family", "masked", "--classes", "--dilations", "2,1"]),
    "masked, rgb, mixture": (3, ["--family", "masked", "--head", "logistic", "--mixtures", 2]),
    "masked, codes of two channels, more than 256": (0, ["--family", "masked", "--codes", "--levels", 300]),
}  # fmt: skip


def save_codes(path, channels: int = 1, largest: int = 19, count: int = 64):
    """Three codes, the same in all rows, and three others for the other class."""
    random = np.random.default_rng(7)
    y = np.arange(count) % 2
    x = np.repeat(random.choice([0, 3, largest // 2], (count, 1, 8, channels)), 8, axis=1)
    x += (y * (largest - largest // 2))[:, None, None, None]
    np.savez(path, x=x[..., 0] if channels == 1 else x, y=y, classes=np.array(["low", "high"]))
    return path


def data_of(name: str, folder):
    channels = MODELS[name][0]
    if channels == 0:
        return save_codes(folder / "images.npz", 2 if "two" in name else 1, 270 if "256" in name else 19)
    return save_npz(folder / "images.npz", channels)


def trained(*arguments: object):
    result = run_torch(SCRIPT, *arguments)
    assert result.code == 0, result.err
    return result


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of each, trained when it is first asked for; its folder."""
    made = {}

    def folder_of(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("model")
            source = data_of(name, folder)
            trained(source, "-o", folder / "m.safetensors", "--epochs", 12, "--rate", 0.01, *SMALL, *MODELS[name][1])
            made[name] = folder
        return made[name]

    return folder_of


# The levels that were held out [N, H, W, C], their classes, and the network's output for them [N, H, W, P].
OUTPUT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import json
import numpy as np, torch
from pixelcnn.train import checkpoint, data, families, graph, settings, trainer

torch.set_num_threads(1)
model, source, out = map(Path, sys.argv[2:])
metadata, tensors = checkpoint.read_safetensors(model)
run = settings.settings_of(model, metadata)
there = json.loads(metadata["graph"])
known = {key: run[key] for key in ("family", "levels", "head", "filters", "dilations")}
built = families.network(canvas=tuple(there["canvas"]), classes=there["classes"], mixtures=run.get("mixtures", 0), **known)
assert json.loads(json.dumps(built.document())) == there
network = graph.Network(built)
network.take(tensors)
read = data.load(source, data.DataOptions(None, False, run["classes"], None, 12, False, run["codes"]))
part = trainer.in_levels(read, run["levels"], run["codes"])[0].held_out
with torch.no_grad():
    h = None if part.y is None else torch.from_numpy(part.y)
    output = network(torch.from_numpy(part.x.astype(np.int64)), h)
y = np.zeros(len(part), int) if part.y is None else part.y
np.savez(out, x=part.x.transpose(0, 2, 3, 1), y=y, output=output.permute(0, 2, 3, 1).numpy())
"""


def program(model, images, folder) -> tuple[np.ndarray, float]:
    """The program's output for an .npz, and bits/dim."""
    arguments = ("--device", "cpu", "--json", "--params", folder / "params.npy")
    told = json.loads(run_pixelcnn("eval", "-m", model, images, *arguments).out)
    return np.load(folder / "params.npy"), told["mean_bits_per_dim"]


@needs_torch
@needs_pixelcnn
@pytest.mark.parametrize("name", MODELS)
def test_the_network_is_the_programs(name, models, tmp_path):
    folder = models(name)
    model, levels = folder / "m.safetensors", int(metadata(folder / "m.safetensors")["levels"])
    result = run_torch("-c", OUTPUT, PACKAGE, model, folder / "images.npz", tmp_path / "own.npz")
    assert result.code == 0, result.err
    own = dict(np.load(tmp_path / "own.npz"))
    arrays = {"x": own["x"]} | ({"y": own["y"]} if "classes" in name else {})
    np.savez(tmp_path / "images.npz", **arrays)

    params, bits = program(model, tmp_path / "images.npz", tmp_path)
    # Both compute in 32 bits, and add in another order.
    np.testing.assert_allclose(params, own["output"], rtol=1e-4, atol=2e-4)
    assert abs(bits - float(metadata(model)["bits_per_dim"])) < 2e-4
    assert bits < 0.8 * np.log2(levels), "it learned nothing"
    run_pixelcnn("verify", "-m", model, "--device", "cpu")

    tensors = load_file(model)
    weight = next(tensor for name, tensor in tensors.items() if name.startswith(("vertical1.v0[", "narrow1.h0[")))
    weight[0, 0] += 1
    save_file(tensors, tmp_path / "wrong.safetensors", metadata(model))
    wrong, _ = program(tmp_path / "wrong.safetensors", tmp_path / "images.npz", tmp_path)
    assert np.abs(wrong - own["output"]).max() > 1e-3


@needs_torch
@needs_pixelcnn
@pytest.mark.skipif(not has_pillow(), reason="needs Pillow beside PyTorch")
def test_images_that_were_held_out_are_written_as_they_are_shown(tmp_path):
    source, model = save_npz(tmp_path / "images.npz", 1), tmp_path / "m.safetensors"
    flags = ("--family", "masked", "--levels", 4, "--epochs", 1, "--held-out-to", tmp_path / "held_out")
    trained(source, "-o", model, *flags, *SMALL)
    written = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "held_out").glob("*.png"))])
    assert set(np.unique(written)) == {0, 85, 170, 255}
    told = json.loads(run_pixelcnn("eval", "-m", model, tmp_path / "held_out", "--device", "cpu", "--json").out)
    assert abs(told["mean_bits_per_dim"] - float(metadata(model)["bits_per_dim"])) < 2e-4


@needs_torch
def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    source = save_codes(tmp_path / "images.npz")
    run_is = ("--family", "gated", "--codes", "--classes", *SMALL)
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    trained(source, "-o", whole, *run_is, "--epochs", 4)
    # Checkpoints at every step, of which the first one that is seen is copied.
    process = run_torch("-c", STOPPED, PACKAGE, source, "-o", pieces, *run_is, "--epochs", 4)
    assert process.code == 143 and "--resume" in process.err, process.err
    assert not pieces.exists()
    trained(source, "-o", pieces, "--epochs", 4, "--threads", 1, "--resume", tmp_path / "pieces.ckpt")
    assert metadata(pieces) == metadata(whole)
    for name, tensor in load_file(whole).items():
        np.testing.assert_array_equal(load_file(pieces)[name], tensor, err_msg=name)


# The training, which is told to stop in its tenth step.
STOPPED = """
import signal, sys
sys.path.insert(0, sys.argv.pop(1))
from pixelcnn.train import command
from pixelcnn.train.trainer import Trainer

step = Trainer.train_step
def stopped_at_ten(self):
    if self.step == 9:
        signal.raise_signal(signal.SIGTERM)
    return step(self)
Trainer.train_step = stopped_at_ten
sys.exit(command.main())
"""


@needs_torch
def test_init_begins_with_the_models_weights(models, tmp_path):
    folder = models("gated, codes, classes")
    begin = ("-o", tmp_path / "m.safetensors", "--held-out", 12, "--minutes", 0, "--threads", 1)
    trained(folder / "images.npz", *begin, "--init", folder / "m.safetensors")
    expected, found = load_file(folder / "m.safetensors"), load_file(tmp_path / "m.safetensors")
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    before, after = metadata(folder / "m.safetensors"), metadata(tmp_path / "m.safetensors")
    assert before["steps"] == after["steps"] != "0" and before["bits_per_dim"] == after["bits_per_dim"]


@needs_torch
def test_what_contradicts_a_model_is_refused(models, tmp_path):
    def refused(*arguments: object) -> str:
        result = run_torch(SCRIPT, *arguments, "-o", tmp_path / "m.safetensors", "--minutes", 0)
        assert result.code == 1 and "Traceback" not in result.err, result.err
        assert not (tmp_path / "m.safetensors").exists()
        return result.err

    codes = models("gated, codes, classes")
    model, images = codes / "m.safetensors", codes / "images.npz"
    assert "--family masked" in refused(images, "--init", model, "--family", "masked")
    assert "--filters 8" in refused(images, "--init", model, "--filters", 8)
    assert "--levels 30" in refused(images, "--init", model, "--levels", 30)
    assert "--seed 3" in refused(images, "--resume", codes / "m.ckpt", "--seed", 3)
    arrays = dict(np.load(images))
    np.savez(tmp_path / "other.npz", **arrays | {"classes": np.array(["low", "lower"])})
    assert 'its classes are ["low", "high"], the data\'s ["low", "lower"]' in refused(
        tmp_path / "other.npz", "--init", model
    )
    assert "other classes than" in refused(tmp_path / "other.npz", "--resume", codes / "m.ckpt")
    np.savez(tmp_path / "other.npz", **arrays | {"y": arrays["y"][::-1]})
    assert "other labels than" in refused(tmp_path / "other.npz", "--resume", codes / "m.ckpt")
    np.savez(tmp_path / "other.npz", **arrays | {"x": arrays["x"] + 1})
    assert "go up to 20; expected less than the 20 levels" in refused(tmp_path / "other.npz", "--init", model)
    np.savez(tmp_path / "other.npz", **arrays | {"x": arrays["x"][:, :4]})
    assert "its canvas are [8, 8, 1], the data's [4, 8, 1]" in refused(tmp_path / "other.npz", "--init", model)
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "foreign.safetensors", {"format": "pixelcnn-2"})
    assert "is not a model of ours" in refused(images, "--init", tmp_path / "foreign.safetensors")


@needs_torch
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--levels", 16], "--levels: is a setting of gated and masked, not of pixelcnn++"),
        (["--family", "gated", "--resolutions", 2], "--resolutions: is a setting of pixelcnn++, not of gated"),
        (["--family", "gated", "--palette"], "--palette: is a setting of pixelcnn++"),
        (["--family", "masked", "--dilations", "1,2,4"], "dilations: expected blocks = 2"),
        (["--family", "masked", "--mixtures", 5], "--mixtures: is for --head logistic"),
        (["--family", "gated", "--head", "bernoulli"], "--head bernoulli: expected 2 levels, found 256"),
        (["--family", "gated", "--head", "logistic", "--levels", 4], "--head logistic: expected 256 levels of 1 or 3"),
        (["--family", "gated", "--codes", "--flip"], "--flip: is for images"),
        (["--family", "gated", "--codes", "--samples", "grids"], "--samples: is for images"),
        (["--family", "gated", "--codes", "--levels", 100], "the codes go up to 255; expected less than the 100"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_training(flags, reason, tmp_path):
    x = np.zeros((20, 8, 8), np.uint8)
    x[0, 0, 0] = 255
    np.savez(tmp_path / "images.npz", x=x)
    result = run_torch(SCRIPT, tmp_path / "images.npz", "-o", tmp_path / "m.safetensors", "--blocks", 2, *flags)
    assert result.code == 1 and reason in result.err, result.err
    assert not (tmp_path / "m.ckpt").exists()


@needs_torch
@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.zeros((4, 8, 8)), "x is float64 [4, 8, 8], expected codes"),
        (np.full((4, 8, 8), -1), "from -1 to -1, expected codes"),
        (np.full((4, 8, 8), 1 << 16), "from 65536 to 65536, expected codes"),
        (np.zeros((4, 8, 8, 5), int), "expected codes"),
    ],
)
def test_what_are_no_codes_is_refused(x, reason, tmp_path):
    np.savez(tmp_path / "codes.npz", x=x)
    arguments = ("-o", tmp_path / "m.safetensors", "--family", "gated", "--codes")
    result = run_torch(SCRIPT, tmp_path / "codes.npz", *arguments)
    assert result.code == 1 and reason in result.err, result.err
