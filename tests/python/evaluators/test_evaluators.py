"""Evaluators of generated images read what the program writes. Their commands are those of docs/evaluating.md, and run as they are
but for the network: one that records what reaches it, and makes 64 features of each image, takes its place."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

for package in ("pytorch_fid", "cleanfid", "torch_fidelity"):
    pytest.importorskip(package, reason="scripts/test_evaluators has the evaluators")

import cleanfid.fid
import cleanfid.resize
import pytorch_fid.fid_score
import torch
import torch_fidelity.feature_extractor_base
import torch_fidelity.fidelity
import torch_fidelity.registry

ROOT = Path(__file__).parents[3]
PIXELCNN = Path(os.environ.get("PIXELCNN", ROOT / "target/release/pixelcnn")).absolute()
COUNT = 20
# Grey with classes, and RGB without, 8 wide and 12 high.
MODELS = {"grey": "mnist", "rgb": ROOT / "tests/golden/rgb_elu_r1_f8_m4_8x12/model.safetensors"}


def draw(folder: Path, *words) -> None:
    subprocess.run([PIXELCNN, *map(str, words), "--quiet"], cwd=folder, check=True)


@pytest.fixture(scope="module", params=MODELS)
def drawn(request, tmp_path_factory):
    """A folder with `images`, `digits` of the same by class, `real` of another seed, and arrays of `images`."""
    folder = tmp_path_factory.mktemp("drawn")
    sample = ["sample", "-m", MODELS[request.param], "-n", COUNT, "--device", "cpu"]
    draw(folder, *sample, "--each", "images")
    by_class = "{class}/{index:06}.png" if request.param == "grey" else "0/{index:06}.png"
    draw(folder, *sample, "--each", "digits", "--name", by_class)
    draw(folder, *sample, "-s", 1, "--each", "real")
    draw(folder, *sample, "-o", "drawn.npz")
    draw(folder, "merge", "images", "-o", "images.npz")
    draw(folder, "merge", "digits", "-o", "flat")
    return folder


@pytest.fixture
def inside(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    return drawn


def pixels(folder: str) -> np.ndarray:
    """The images of a folder, `[N, H, W, 3]`."""
    return np.stack([np.array(Image.open(file).convert("RGB")) for file in sorted(Path(folder).rglob("*.png"))])


def command(program: str, *others: str) -> list[str]:
    """The words of a command of the page, with other folders where they are named."""
    page = (ROOT / "docs/evaluating.md").read_text()
    (line,) = re.findall(rf"\| `({program}[^`]*)` \|", page)
    words = shlex.split(line)
    if others:
        images, real = others
        words = [re.sub(r"\breal\b", real, re.sub(r"\bimages\b", images, word)) for word in words]
    return words


class Recorder:
    """Stands for a network: keeps its inputs, `[N, 3, H, W]`, and makes features of them."""

    def __init__(self):
        self.batches = []

    def __call__(self, batch):
        self.batches.append(batch.float())
        small = torch.nn.functional.adaptive_avg_pool2d(batch.double().mean(1, keepdim=True), 8)
        return small.flatten(1)

    def seen(self) -> np.ndarray:
        """Its inputs, `[N, H, W, 3]`."""
        return torch.cat(self.batches).permute(0, 2, 3, 1).numpy()


def pytorch_fid_of(*folders) -> tuple[float, np.ndarray]:
    recorder = Recorder()

    class Network(torch.nn.Module):
        BLOCK_INDEX_BY_DIM = {64: 0, 2048: 3}

        def __init__(self, blocks):
            super().__init__()

        def forward(self, batch):
            return [recorder(batch)[..., None, None]]

    words = command("python -m pytorch_fid", *folders)
    results = []
    calculate = pytorch_fid.fid_score.calculate_fid_given_paths
    keep = lambda *args: results.append(calculate(*args)) or results[0]
    argv = [*words[2:], "--dims", "64", "--device", "cpu", "--num-workers", "0"]
    with mock.patch.multiple(pytorch_fid.fid_score, InceptionV3=Network, calculate_fid_given_paths=keep):
        with mock.patch.object(sys, "argv", argv):
            runpy.run_module("pytorch_fid", run_name="__main__")
    return results[0], 255 * recorder.seen()


def clean_fid_of(*folders, flags="") -> tuple[float, np.ndarray]:
    recorder = Recorder()
    (_, _, code) = command("python -c", *folders)
    code = code.replace("'))", f"', num_workers=0{flags}))")
    said = []
    with mock.patch.multiple(
        cleanfid.fid,
        build_feature_extractor=lambda *_, **__: recorder,
        get_batch_features=lambda batch, model, _: model(batch).numpy(),  # not on a GPU
    ):
        exec(code, {"print": said.append})
    return said[-1], recorder.seen()


def torch_fidelity_of(*folders) -> tuple[float, np.ndarray]:
    recorder = Recorder()

    class Network(torch_fidelity.feature_extractor_base.FeatureExtractorBase):
        def __init__(self, name, features, **_):
            super().__init__(name, features)

        @staticmethod
        def get_provided_features_list():
            return ("64",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "64"

        @staticmethod
        def can_be_compiled():
            return False

        def forward(self, batch):
            return (recorder(batch),)

    words = command("fidelity", *folders)
    # KID draws subsets of the images, of 1000 by default.
    argv = [*words, "--cpu", "--json", "--silent", "--no-cache", "--save-cpu-ram", "--kid-subset-size", "10"]
    registry = torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY
    results = []
    calculate = torch_fidelity.fidelity.calculate_metrics
    keep = lambda *args, **kwargs: results.append(calculate(*args, **kwargs)) or results[0]
    with (
        mock.patch.dict(registry, {"inception-v3-compat": Network}),
        mock.patch.object(torch_fidelity.fidelity, "calculate_metrics", keep),
        mock.patch.object(sys, "argv", argv),
    ):
        torch_fidelity.fidelity.main()
    return results[0]["frechet_inception_distance"], recorder.seen()


OF = {"pytorch-fid": pytorch_fid_of, "clean-fid": clean_fid_of, "torch-fidelity": torch_fidelity_of}


@pytest.mark.parametrize("evaluator", OF)
def test_the_command_of_the_page_reads_every_image(inside, evaluator):
    fid, seen = OF[evaluator]()
    expected = np.concatenate([pixels("images"), pixels("real")])
    if evaluator == "clean-fid":
        resize = cleanfid.resize.build_resizer("clean")
        expected = np.stack([resize(image) for image in expected])
    assert seen.shape == expected.shape
    np.testing.assert_allclose(seen, expected, atol=1e-4)  # after a division by 255
    # Other images are another number, and the same ones none.
    assert fid > 1e-3
    same, _ = OF[evaluator]("images", "flat")
    assert abs(same) < 1e-3 * fid


def test_clean_fid_gets_the_pixels_that_were_drawn(inside):
    """Its other mode resizes within the network."""
    _, seen = clean_fid_of(flags=", mode='legacy_tensorflow'")
    np.testing.assert_allclose(seen, np.concatenate([pixels("images"), pixels("real")]), atol=1e-4)


def test_folders_per_class_are_descended_into_as_the_page_says(inside):
    with pytest.raises(Exception):
        pytorch_fid_of("digits", "real")
    with pytest.raises(Exception, match="No samples found"):
        torch_fidelity_of("digits", "real")
    _, seen = clean_fid_of("digits", "real")
    assert len(seen) == 2 * COUNT
    assert len(list(Path("flat").glob("*.png"))) == COUNT


@pytest.mark.parametrize("name", ["images.npz", "drawn.npz"])
def test_the_array_is_as_adms_evaluator_reads_it(inside, name):
    """Its reader streams arr_0 out of the archive if it is in C order and of numbers, and gives [N, H, W, 3] from 0 to 255."""
    with zipfile.ZipFile(name) as archive, archive.open("arr_0.npy") as array:
        assert np.lib.format.read_magic(array) == (1, 0)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(array)
        assert (shape, is_fortran, dtype) == (pixels("images").shape, False, np.uint8)
        read = np.frombuffer(array.read(), np.uint8).reshape(shape)
    np.testing.assert_array_equal(read, pixels("images"))
    # Statistics of other arrays would be taken for those of images.
    assert not {"mu", "sigma"} & set(np.load(name).files)


@pytest.mark.parametrize("name", ["images.npz", "drawn.npz"])
def test_adms_own_reader_reads_it(inside, name):
    path = os.environ.get("ADM_EVALUATOR")
    if not path:
        pytest.skip("ADM_EVALUATOR names no copy of guided-diffusion's evaluations/evaluator.py")
    spec = importlib.util.spec_from_file_location("adm_evaluator", path)
    module = importlib.util.module_from_spec(spec)
    tensorflow = mock.MagicMock()  # for its network alone
    with mock.patch.dict(sys.modules, {"tensorflow": tensorflow, "tensorflow.compat": tensorflow, "tensorflow.compat.v1": tensorflow}):
        spec.loader.exec_module(module)
    with module.open_npz_array(name, "arr_0") as reader:
        assert type(reader).__name__ == "StreamingNpzArrayReader"
        batches = list(reader.read_batches(16))
    assert [len(batch) for batch in batches] == [16, COUNT - 16]
    np.testing.assert_array_equal(np.concatenate(batches), pixels("images"))
