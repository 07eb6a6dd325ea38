"""Training: it agrees with the program, survives kills, repeats itself, and reports faults of data."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import signal
import subprocess
import time

import numpy as np
import pytest
import reference
from conftest import PACKAGE, PIXELCNN, ROOT, needs_pixelcnn, run_pixelcnn, slow
from PIL import Image
from safetensors.numpy import load_file, save_file
from pytorch import TORCH, needs_torch, run_torch
from pixelcnn.train import TrainingError, data

SCRIPT = ROOT / "scripts" / "train.py"
TINY = ("--filters", 6, "--blocks", 1, "--mixtures", 2, "--batch", 8, "--threads", 1)


def pictures(count: int, size: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy bars, upright for class 1: something to learn, and black and white among the values."""
    random = np.random.default_rng(5)
    y = np.arange(count) % 2
    bars = np.where(np.arange(size) // 2 % 2, 250, 5)
    x = np.stack([np.broadcast_to(bars if k else bars[:, None], (size, size)) for k in y])[..., None]
    return np.clip(x + random.integers(-40, 40, (count, size, size, channels)), 0, 255).astype(np.uint8), y


def save_npz(path, channels: int, count: int = 64, size: int = 8):
    x, y = pictures(count, size, channels)
    np.savez(path, x=x, y=y, classes=np.array(["lying", "upright"]), odd=np.arange(count) % 4 == 3)
    return path


def train(*arguments: object, **options: object):
    return run_torch(SCRIPT, *arguments, *TINY, **options)


def trained(*arguments: object, **options: object):
    result = train(*arguments, **options)
    assert result.code == 0, result.err
    return result


def metadata(path) -> dict[str, str]:
    return reference.Network(path).metadata


# Training and sampling agree


ARCHITECTURES = {
    "grey, classes": (1, ["--classes"]),
    "rgb, one dilated level, f16": (
        3,
        ["--resolutions", 1, "--dilations", "1,2", "--dtype", "f16", "--flip", "--shift", 1],
    ),
    "rgb, elu, dropout": (3, ["--nonlinearity", "elu", "--dropout", 0.2]),
    "rgb, palette": (3, ["--palette", "--resolutions", 2]),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One trained model of each architecture, with its held-out images."""
    if TORCH is None:
        pytest.skip("needs PyTorch")
    made = {}
    for i, (name, (channels, arguments)) in enumerate(ARCHITECTURES.items()):
        folder = tmp_path_factory.mktemp(f"model{i}")
        source = save_npz(folder / "images.npz", channels)
        held_out = () if not has_pillow() else ("--held-out-to", folder / "held_out")
        trained(
            source, "-o", folder / "m.safetensors", "--held-out", 12, "--epochs", 8, *held_out, *arguments
        )
        made[name] = folder
    return made


def has_pillow() -> bool:
    """True if the interpreter with PyTorch can write images."""
    return TORCH is not None and run_torch("-c", "import PIL").code == 0


def held_out_of(folder, classes: bool) -> data.Part:
    return data.load(folder / "images.npz", data_options(classes=classes, held_out=12)).held_out


# Two components that are both wider than all colours, and a white pixel. Plain gradients, as small as they are.
WIDE = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from pixelcnn.train.likelihood import TOO_WIDE, bits_per_dim, too_wide

for channels, numbers, log_scales in (1, 6, [4, 5]), (3, 20, [4, 5, 10, 11, 16, 17]):
    for weight in TOO_WIDE, 0:
        params = torch.zeros(1, numbers, 1, 1)
        params[:, log_scales] = 5
        params.requires_grad_()
        white = torch.ones(1, channels, 1, 1)
        optimizer = torch.optim.SGD([params], lr=0.5)
        for _ in range(800):
            optimizer.zero_grad()
            bits = bits_per_dim(params, white).mean()
            (bits + weight * too_wide(params, channels).mean()).backward()
            optimizer.step()
        print(float(bits))
"""


@needs_torch
def test_a_scale_wider_than_all_colours_is_found_back_from():
    result = run_torch("-c", WIDE, PACKAGE)
    assert result.code == 0, result.err
    grey, grey_without, rgb, rgb_without = map(float, result.out.split())
    assert max(grey, rgb) < 0.2, "as good as certain"
    assert min(grey_without, rgb_without) > 0.8, "a guess between black and white"


@needs_torch
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bits_per_dim_is_that_of_the_definition(name, models):
    model = models[name] / "m.safetensors"
    held_out = held_out_of(models[name], name == "grey, classes")
    images = held_out.x.transpose(0, 2, 3, 1)
    network = reference.Network(model)
    found = reference.bits_per_dim(network.params(images, held_out.y), images).mean()
    # The script computes the network in float32, and states four decimals.
    assert abs(float(network.metadata["bits_per_dim"]) - found) < 2e-4
    assert found < 7.5, "it learned nothing"

    network.tensors["input.left.weight"][0, 0, 0, 0] += 1
    wrong = reference.bits_per_dim(network.params(images, held_out.y), images).mean()
    assert abs(wrong - found) > 1e-3


@needs_torch
@needs_pixelcnn
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bits_per_dim_is_that_of_the_program(name, models, tmp_path):
    model = models[name] / "m.safetensors"
    held_out = held_out_of(models[name], name == "grey, classes")
    for i, image in enumerate(held_out.x.transpose(0, 2, 3, 1)):
        Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).save(tmp_path / f"{i:02}.png")
    classes = () if held_out.y is None else ("--class", ",".join(map(str, held_out.y)))

    def evaluated(path) -> float:
        arguments = ("--json", "--device", "cpu", *classes)
        return json.loads(run_pixelcnn("eval", "-m", path, tmp_path, *arguments).out)["mean_bits_per_dim"]

    assert abs(evaluated(model) - float(metadata(model)["bits_per_dim"])) < 1e-3
    if has_pillow():
        written = sorted((models[name] / "held_out").glob("*.png"))
        assert [f.read_bytes() for f in written] != []
        for file, image in zip(written, held_out.x.transpose(0, 2, 3, 1), strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(file)).reshape(image.shape), image)

    tensors = load_file(model)
    tensors["input.left.weight"][0, 0, 0, 0] += 1
    save_file(tensors, tmp_path / "wrong.safetensors", metadata(model))
    assert abs(evaluated(tmp_path / "wrong.safetensors") - float(metadata(model)["bits_per_dim"])) > 1e-3


# The same again, whatever happens in between


def begin(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [str(a) for a in (TORCH, SCRIPT, *arguments, *TINY)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def step_of(checkpoint) -> int:
    # Before training begins, an empty file is there for a moment: that the place can be written to is tried.
    if not checkpoint.exists() or checkpoint.stat().st_size == 0:
        return 0
    return json.loads(reference_metadata(checkpoint)["state"])["step"]


def reference_metadata(path) -> dict[str, str]:
    with path.open("rb") as file:
        return json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]


def wait_for_step(process: subprocess.Popen, checkpoint, step: int) -> None:
    limit = time.monotonic() + 120
    while step_of(checkpoint) < step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit, "training is stuck"
        time.sleep(0.02)


@slow
@needs_torch
def test_killed_and_resumed_is_the_same_as_never_stopped(tmp_path):
    source = save_npz(tmp_path / "images.npz", 3, count=40)
    run_is = ("--classes", "--epochs", 10, "--shift", 1, "--flip", "--dropout", 0.1, "--palette")
    whole, pieces, other = (tmp_path / f"{name}.safetensors" for name in ("whole", "pieces", "other"))
    trained(source, "-o", whole, *run_is)

    checkpoint = pieces.with_suffix(".ckpt")
    process = begin(source, "-o", pieces, *run_is, "--checkpoint-minutes", 0)
    wait_for_step(process, checkpoint, 5)
    process.kill()
    process.communicate()
    first = step_of(checkpoint)
    assert 5 <= first < 40
    process = begin(source, "-o", pieces, *run_is, "--checkpoint-minutes", 0, "--resume", checkpoint)
    wait_for_step(process, checkpoint, first + 5)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM and f"--resume {checkpoint}" in message
    assert not pieces.exists()
    resumed = trained(source, "-o", pieces, "--epochs", 10, "--resume", checkpoint)
    assert "going on at step" in resumed.err

    assert metadata(pieces) == metadata(whole)
    expected, found = load_file(whole), load_file(pieces)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)

    trained(source, "-o", other, *run_is, "--seed", 1)
    assert not np.array_equal(load_file(other)["output.weight"], expected["output.weight"])


@slow
@needs_torch
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux")
def test_a_disk_that_fills_up_costs_no_checkpoint(tmp_path):
    source = save_npz(tmp_path / "images.npz", 1)
    model, checkpoint = tmp_path / "m.safetensors", tmp_path / "m.ckpt"
    process = begin(source, "-o", model, "--epochs", 12, "--checkpoint-minutes", 0)
    wait_for_step(process, checkpoint, 1)
    limit = 1000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, message = process.communicate()
    assert "warning: no checkpoint" in message and "too large" in message.lower(), message
    assert process.returncode == 1 and f"error: {model}: cannot be written" in message
    assert step_of(checkpoint) < 12 * 7 and not list(tmp_path.glob(".*"))
    trained(source, "-o", model, "--epochs", 12, "--resume", checkpoint)


# To look at


def on_path(program) -> dict[str, str]:
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


@needs_torch
@pytest.mark.skipif(
    TORCH is None or run_torch("-c", "import matplotlib").code != 0, reason="needs matplotlib beside PyTorch"
)
def test_the_plot_follows_the_log(tmp_path):
    source, model = save_npz(tmp_path / "images.npz", 1), tmp_path / "m.safetensors"
    trained(source, "-o", model, "--epochs", 1, "--plot")
    first = np.asarray(Image.open(tmp_path / "m-training.png").convert("RGB"))
    trained(source, "-o", model, "--epochs", 6, "--plot", "--resume", model.with_suffix(".ckpt"))
    later = np.asarray(Image.open(tmp_path / "m-training.png").convert("RGB"))
    assert first.shape == later.shape and not np.array_equal(first, later)


@needs_torch
def test_a_plot_without_matplotlib_is_refused_before_training(tmp_path):
    source, model = save_npz(tmp_path / "images.npz", 1), tmp_path / "m.safetensors"
    hidden = "import sys; sys.modules['matplotlib'] = None; sys.path.insert(0, sys.argv.pop(1))"
    code = f"{hidden}; from pixelcnn.train import command; sys.exit(command.main())"
    result = run_torch("-c", code, PACKAGE, source, "-o", model, "--plot", *TINY)
    assert "pip install matplotlib" in result.err and result.code == 1, result.err
    assert not model.with_suffix(".ckpt").exists()


@needs_torch
@needs_pixelcnn
def test_samples_of_every_checkpoint_are_those_of_the_program(tmp_path):
    source, model = save_npz(tmp_path / "images.npz", 3), tmp_path / "m.safetensors"
    grids = ("--samples", tmp_path / "grids", "--checkpoint-minutes", 0)
    trained(source, "-o", model, "--epochs", 0.5, *grids, env=on_path(PIXELCNN))
    steps = int(metadata(model)["steps"])
    # One for each step, and one at the end.
    written = sorted((tmp_path / "grids").iterdir())
    assert [file.name for file in written] == [f"{step:08}.png" for step in range(1, steps + 1)]
    run_pixelcnn("sample", "-m", model, "-n", 100, "-o", tmp_path / "of_the_model.png")
    of_the_model = np.asarray(Image.open(tmp_path / "of_the_model.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(written[-1])), of_the_model)
    assert not np.array_equal(np.asarray(Image.open(written[0])), of_the_model)

    result = train(source, "-o", tmp_path / "other.safetensors", *grids, env=on_path(PIXELCNN))
    assert result.code == 1 and "holds files already" in result.err


@needs_torch
def test_samples_that_fail_are_a_warning(tmp_path):
    source, model = save_npz(tmp_path / "images.npz", 1), tmp_path / "m.safetensors"
    program = tmp_path / "bin" / "pixelcnn"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho error: no device >&2\nexit 1\n")
    program.chmod(0o755)
    result = trained(
        source, "-o", model, "--epochs", 1, "--samples", tmp_path / "grids", env=on_path(program)
    )
    assert "warning: no picture" in result.err and "no device" in result.err and model.exists()


# Going on


@needs_torch
def test_init_begins_with_the_models_weights(models, tmp_path):
    folder = models["grey, classes"]
    trained(
        folder / "images.npz",
        "-o",
        tmp_path / "m.safetensors",
        "--held-out",
        12,
        "--minutes",
        0,
        "--init",
        folder / "m.safetensors",
    )
    expected, found = load_file(folder / "m.safetensors"), load_file(tmp_path / "m.safetensors")
    for name, tensor in expected.items():
        # Norm and direction, taken apart and put together again in float32.
        np.testing.assert_allclose(found[name], tensor, rtol=1e-5, atol=1e-7, err_msg=name)
    before, after = metadata(folder / "m.safetensors"), metadata(tmp_path / "m.safetensors")
    assert before["steps"] == after["steps"] != "0" and before["bits_per_dim"] == after["bits_per_dim"]


@needs_torch
@pytest.mark.parametrize("name", ["grey, classes", "rgb, palette"])
def test_init_goes_on_with_more_filters(name, models, tmp_path):
    folder, model = models[name], tmp_path / "m.safetensors"
    begin = ("-o", model, "--held-out", 12, "--minutes", 0, "--threads", 1, "--init", folder / "m.safetensors")
    begin += ("--palette", "--mixtures", 2) if "palette" in name else ()
    result = run_torch(SCRIPT, folder / "images.npz", *begin, "--filters", 10)
    assert result.code == 0, result.err
    before, after = metadata(folder / "m.safetensors"), metadata(model)
    assert (before["filters"], after["filters"]) == ("6", "10")
    assert before["bits_per_dim"] == after["bits_per_dim"]

    result = run_torch(SCRIPT, folder / "images.npz", *begin, "--filters", 4)
    assert result.code == 1 and "--filters 4" in result.err and "made with 6" in result.err


@needs_torch
def test_init_goes_on_with_other_dilations(models, tmp_path):
    folder, model = models["grey, classes"], tmp_path / "m.safetensors"
    begin = ("-o", model, "--held-out", 12, "--minutes", 0, "--threads", 1, "--init", folder / "m.safetensors")
    result = run_torch(SCRIPT, folder / "images.npz", *begin, "--dilations", "2,1")
    assert result.code == 0, result.err
    before, after = load_file(folder / "m.safetensors"), load_file(model)
    assert before.keys() == after.keys() and metadata(model)["dilations"] == "[2, 1]"
    result = run_torch(SCRIPT, folder / "images.npz", *begin, "--dilations", "1,2,1", "--overwrite")
    assert result.code == 1 and "expected blocks + 1 = 2" in result.err


# Flat colours


@slow
@needs_torch
@pytest.mark.parametrize("channels", [1, 3])
def test_palette_has_the_colours_of_the_images(channels, tmp_path):
    colours = np.array([[255, 0, 7], [0, 200, 7], [90, 91, 255], [17, 16, 15], [19, 18, 16]])[:, :channels]
    random = np.random.default_rng(3)
    images = random.choice(5, (40, 8, 8), p=[0.4, 0.3, 0.2, 0.06, 0.04])
    images[:, 1::2] = images[:, ::2]
    np.savez(tmp_path / "images.npz", x=colours[images].astype(np.uint8))
    flags = ("--filters", 6, "--blocks", 1, "--resolutions", 1, "--batch", 8, "--threads", 1, "--held-out", 8, "--palette")

    def mixture(name: str, *more: object) -> tuple[float, np.ndarray, np.ndarray]:
        """Bits per dimension, means [M, C] as levels, scales [M, C] in levels."""
        path = tmp_path / f"{name}.safetensors"
        result = run_torch(SCRIPT, tmp_path / "images.npz", "-o", path, *flags, *more)
        assert result.code == 0, result.err
        tensors, bits = load_file(path), float(metadata(path)["bits_per_dim"])
        parameters = tensors["output.bias"].reshape(1 + channels * (3 if channels == 3 else 2), -1)
        assert not tensors["output.weight"][:, parameters.shape[1] :].any(), "the same at every pixel"
        kinds = parameters[1:].reshape(channels, -1, parameters.shape[1])
        return bits, (kinds[:, 0].T + 1) * 127.5, np.exp(kinds[:, 1].T) * 127.5

    # Each has a component, the most frequent first, of the narrowest scale.
    at_first, means, scales = mixture("new", "--minutes", 0)
    np.testing.assert_allclose(means, colours, atol=1e-4)
    np.testing.assert_allclose(scales, np.exp(-7) * 127.5, rtol=1e-5)
    # Half of the rows repeat the one above.
    bits, *_ = mixture("trained", "--epochs", 60, "--rate", 0.01)
    entropy = -sum(p * np.log2(p) for p in (0.4, 0.3, 0.2, 0.06, 0.04)) / channels
    assert bits < 0.85 * entropy + 0.1 < at_first

    # The three dearest, and a group of the others, as wide as it is.
    _, means, scales = mixture("four", "--epochs", 60, "--rate", 0.01, "--mixtures", 4)
    np.testing.assert_allclose(means[:3], colours[:3], atol=1e-4)
    assert ((means[3] > colours[3]) & (means[3] < colours[4])).all()
    assert (scales[3] > 2 * scales[0]).all() and (scales[3] < 1).all()

    # It continues with the same colours; if a model has others, from the nearest ones.
    again, *_ = mixture("again", "--init", tmp_path / "trained.safetensors", "--minutes", 0)
    assert again == bits
    other, means, _ = mixture("other", "--init", tmp_path / "four.safetensors", "--minutes", 0)
    assert len(means) == 5 and other < 0.9 * at_first


# Two frequent colours and two rare ones, for three components: the rare ones are a group.
GROUPED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from pixelcnn.train.palette import Palette

x = np.zeros((1, 1, 1, 1000), np.uint8)
x[..., 400:] = 200
x[..., 800:900], x[..., 900:] = 100, 104
palette = Palette(x, 3, torch.device("cpu"))
torch.manual_seed(1)
seen = palette.as_drawn(torch.from_numpy(x) / 127.5 - 1)
levels = ((seen + 1) * 127.5).flatten()
print(palette, *np.unique(levels[:800].round().numpy()), sep=";")
print(float(levels[800:].mean()), float((levels[800:] - 102).abs().mean()), float((levels - levels.round()).abs().max()))
"""


@needs_torch
def test_colours_of_groups_are_seen_as_they_are_drawn():
    result = run_torch("-c", GROUPED, PACKAGE)
    assert result.code == 0, result.err
    said, numbers = result.out.splitlines()
    assert said == "components at 2 of 4 colours, and 1 group of the others (20 % of all pixels);0.0;200.0"
    mean, deviation, off = map(float, numbers.split())
    assert abs(mean - 102) < 1 and 1.5 < deviation < 2.5 and off < 1e-3


@needs_torch
def test_what_contradicts_a_checkpoint_or_model_is_refused(models, tmp_path):
    grey, rgb = models["grey, classes"], models["rgb, elu, dropout"]
    output = ("-o", tmp_path / "m.safetensors")

    def refused(*arguments: object) -> str:
        result = train(*arguments, *output, "--minutes", 0)
        assert result.code == 1 and "Traceback" not in result.err, result.err
        assert not (tmp_path / "m.safetensors").exists()
        return result.err

    images, model, checkpoint = grey / "images.npz", grey / "m.safetensors", grey / "m.ckpt"
    assert "to go on from a model, use --init" in refused(images, "--resume", model)
    assert "--seed 3" in refused(images, "--resume", checkpoint, "--seed", 3)
    assert "other images" in refused(save_npz(tmp_path / "others.npz", 1, count=60), "--resume", checkpoint)
    arrays = dict(np.load(images))
    swapped = arrays | {"x": arrays["x"][[1, 0, *range(2, 64)]]}  # the sums are the same
    for what, others in {
        "other labels than": arrays | {"y": arrays["y"][::-1]},
        "other classes than": arrays | {"classes": arrays["classes"][::-1]},
        "other images than": swapped,
        "other images and classes and labels than": swapped | {"y": 1 - arrays["y"], "classes": ["a", "b"]},
    }.items():
        np.savez(tmp_path / "others.npz", **others)
        assert what in refused(tmp_path / "others.npz", "--resume", checkpoint)
    assert "--nonlinearity relu" in refused(images, "--init", model, "--nonlinearity", "relu")
    assert "has 3 channels" in refused(images, "--init", rgb / "m.safetensors")
    np.savez(tmp_path / "others.npz", **dict(np.load(images)) | {"classes": ["a", "b"]})
    assert 'the data has 1 and ["a", "b"]' in refused(tmp_path / "others.npz", "--init", model)
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:3000])
    assert "not a complete safetensors file" in refused(images, "--resume", tmp_path / "cut.ckpt")
    assert "is not a class" in refused(images, "--flip", "sitting", "--classes")
    assert "multiples of 8" in refused(save_npz(tmp_path / "12.npz", 1, size=12), "--resolutions", 4)


# Data


def data_options(**changed) -> data.DataOptions:
    default = dict(size=None, grey=False, classes=False, leave_out=None, held_out=None, strict=False)
    return data.DataOptions(**{**default, **changed})


def refusal(path, **changed) -> str:
    with pytest.raises(TrainingError) as error:
        data.load(path, data_options(**changed))
    return str(error.value)


@pytest.fixture
def folder(tmp_path):
    """Two sub-folders with four images of 12×10 each."""
    x, y = pictures(8, 12, 3)
    for i, (image, k) in enumerate(zip(x, y)):
        (tmp_path / "images" / f"class{k}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[1:11]).save(tmp_path / "images" / f"class{k}" / f"{i}.png")
    return tmp_path / "images"


def test_folder_with_classes(folder):
    read = data.load(folder, data_options(size=8, classes=True, held_out=3))
    assert read.classes == ["class0", "class1"]
    assert read.train.x.shape == (5, 3, 8, 8) and read.held_out.x.shape == (3, 3, 8, 8)
    assert sorted([*read.train.y, *read.held_out.y]) == [0] * 4 + [1] * 4
    again = data.load(folder, data_options(size=10, held_out=3, grey=True))
    assert again.train.x.shape == (5, 1, 10, 10) and again.train.y is None and again.classes == []


def test_folder_with_train_and_test(folder):
    for part in ("train", "test"):
        (folder.parent / "both" / part).mkdir(parents=True)
    (folder / "class0").rename(folder.parent / "both" / "test" / "a")
    (folder / "class1").rename(folder.parent / "both" / "train" / "b")
    read = data.load(folder.parent / "both", data_options(size=8))
    assert len(read.train) == 4 and len(read.held_out) == 4
    assert "one class" in refusal(folder.parent / "both", size=8, classes=True)


def test_images_that_cannot_be_used_are_named(folder, capsys):
    (folder / "class0" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    Image.new("RGB", (7, 20)).save(folder / "class1" / "small.jpg")
    Image.fromarray(np.zeros((12, 12), np.uint16)).save(folder / "class1" / "deep.png")
    Image.new("RGB", (12, 12)).save(folder / "astray.png")
    read = data.load(folder, data_options(size=8, classes=True))
    assert len(read.train) + len(read.held_out) == 8
    said = capsys.readouterr().err
    for name, reason in {
        "broken.png": "is broken or cut off",
        "small.jpg": "is 7x20, smaller than 8x8",
        "deep.png": "more than 8 bits",
        "astray.png": "no sub-folder",
    }.items():
        assert any(name in line and reason in line for line in said.splitlines()), said
    assert "4 of 12 images were skipped" in said
    assert "astray.png" in refusal(folder, size=8, classes=True, strict=True)


def test_folders_that_hold_nothing_to_train_on(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "has no images" in refusal(tmp_path / "empty")
    assert "no such file or folder" in refusal(tmp_path / "absent")
    assert "none of its 8 images" in refusal(folder, size=64)
    assert "there are none" in refusal(folder / "class0", classes=True, size=8)
    assert "none is left" in refusal(folder, size=8, held_out=8)


def test_transparent_is_white(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / name)
    assert (data.load(tmp_path, data_options(size=8)).train.x == 255).all()


def test_npz(tmp_path):
    path = save_npz(tmp_path / "images.npz", 3)
    read = data.load(path, data_options(classes=True, leave_out="odd", held_out=8))
    assert len(read.train) == 40 and read.classes == ["lying", "upright"]
    assert "expected an array of that name" in refusal(path, leave_out="tone")
    assert "smaller than 9x9" in refusal(path, size=9)
    assert data.load(path, data_options(size=4, grey=True)).train.x.shape[1:] == (1, 4, 4)

    x, y = pictures(6, 8, 1)
    np.savez(tmp_path / "test.npz", x_train=x[..., 0], y_train=y, x_test=x[:2, ..., 0], y_test=y[:2])
    read = data.load(tmp_path / "test.npz", data_options(classes=True))
    assert (len(read.train), len(read.held_out), read.classes) == (6, 2, ["0", "1"])

    for arrays, reason in (
        ({"y": y}, "expected an array x"),
        ({"x": x / 255}, "float64"),
        ({"x": x[..., :0]}, "expected uint8"),
        ({"x": x[:0]}, "has no images"),
        ({"x": x, "y": y[:3]}, "expected [6] class numbers"),
        ({"x": x, "y": y - 1}, "class numbers"),
        ({"x": x}, "--classes needs labels"),
        ({"x": x, "y": y, "classes": np.array(["one"])}, "2 classes, and names for 1"),
        ({"x": x, "y": y * 0}, "one class"),
        ({"x": np.array([None])}, "cannot be read"),
    ):
        np.savez(tmp_path / "bad.npz", **arrays)
        assert reason in refusal(tmp_path / "bad.npz", classes=True)
    (tmp_path / "bad.npz").write_bytes(path.read_bytes()[:200])
    assert "cannot be read as an .npz" in refusal(tmp_path / "bad.npz")


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def test_mnist_files_as_published(tmp_path):
    x, y = pictures(6, 8, 1)
    x, y = x[..., 0], y.astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y)))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(x[:3]))
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(y[:3]))
    read = data.load(tmp_path, data_options(classes=True))
    np.testing.assert_array_equal(read.train.x[:, 0], x)
    np.testing.assert_array_equal(read.held_out.y, y[:3])

    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(y[:3])[:-1])
    assert "contradicts" in refusal(tmp_path)
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(b"\0\0\x0d\x01")
    assert "not an IDX file" in refusal(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y))[:20])
    assert "cannot be read" in refusal(tmp_path)


def test_cifar_batches_as_published(tmp_path):
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (6, 3, 32, 32), np.uint8)

    def write(name, value):
        (tmp_path / name).write_bytes(pickle.dumps(value, protocol=2))

    for name, part in (
        ("data_batch_1", slice(0, 2)),
        ("data_batch_2", slice(2, 4)),
        ("test_batch", slice(4, 6)),
    ):
        write(name, {b"data": x[part].reshape(-1, 3072), b"labels": [0, 1], b"filenames": [b"a", b"b"]})
    write("batches.meta", {b"label_names": [b"plane", b"car"]})
    read = data.load(tmp_path, data_options(classes=True))
    np.testing.assert_array_equal(read.train.x, x[:4])
    np.testing.assert_array_equal(read.held_out.x, x[4:])
    assert list(read.train.y) == [0, 1, 0, 1] and read.classes == ["plane", "car"]

    write("data_batch_2", {b"data": x[:2]})
    assert "expected uint8 data" in refusal(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    assert "has no place in it" in refusal(tmp_path)
