"""The reader of .pth files, which knows no PyTorch, judged by PyTorch itself."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
from checkpoints import torch_names
from conftest import GOLDEN, ROOT, flags, run_convert
from pixelcnn.convert.pth import read_pth
from pytorch import needs_torch, run_torch
from safetensors.numpy import load_file, save_file

CASES = ["torch_grey_r1_f8_m3_8x12", "torch_rgb_r1_f8_m4_16x16"]
NEW_NAMES = ("parametrizations.weight.original0", "parametrizations.weight.original1")


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """The golden checkpoints as PyTorch writes them in all the ways that save_torch.py knows."""
    folder = tmp_path_factory.mktemp("torch")
    for case in CASES:
        (folder / case).mkdir()
        script = ROOT / "tests" / "python" / "save_torch.py"
        result = run_torch(script, GOLDEN / case / "params.pth", folder / case)
        assert result.code == 0, result.err
    return folder


def converted(source, case, output) -> bytes:
    result = run_convert(source, "-o", output, *flags(case))
    assert result.code == 0, result.err
    return output.read_bytes()


@needs_torch
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "variant", ["published", "legacy", "strided", "shared", "parameters", "float64", "bfloat16", "float16"]
)
def test_tensors_are_those_that_pytorch_reads(case, variant, saved):
    expected = np.load(saved / case / f"{variant}.npz")
    tensors = read_pth(saved / case / f"{variant}.pth")
    assert tensors.keys() == set(expected.files)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.read(), expected[name], err_msg=name)


@needs_torch
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "variant",
    [
        f"{format}{names}{prefix}"
        for format in ("zip", "legacy")
        for names in ("", "-parametrized")
        for prefix in ("", "-module")
    ]
    + ["strided", "shared", "parameters", "float64"],
)
def test_all_ways_to_save_convert_to_the_same_file(case, variant, saved, tmp_path):
    expected = converted(GOLDEN / case / "params.pth", case, tmp_path / "golden.safetensors")
    assert converted(saved / case / f"{variant}.pth", case, tmp_path / "variant.safetensors") == expected


@needs_torch
@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_a_whole_module_is_refused(format, saved, tmp_path):
    result = run_convert(saved / CASES[0] / f"module-{format}.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 1 and "of which nothing is read or executed" in result.err
    assert "torch.save(model.state_dict(), …)" in result.err
    assert not list(tmp_path.iterdir())


@needs_torch
@pytest.mark.parametrize("format", ["zip", "legacy"])
def test_a_training_state_converts_to_the_same_file(format, saved, tmp_path):
    case = CASES[0]
    expected = converted(GOLDEN / case / "params.pth", case, tmp_path / "golden.safetensors")
    assert (
        converted(saved / case / f"training-{format}.pth", case, tmp_path / "model.safetensors") == expected
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("parts", [("weight_g", "weight_v"), NEW_NAMES])
def test_names_do_not_depend_on_the_format(case, prefix, parts, tmp_path):
    expected = converted(GOLDEN / case / "params.pth", case, tmp_path / "golden.safetensors")
    tensors = {name: tensor.read() for name, tensor in read_pth(GOLDEN / case / "params.pth").items()}
    save_file(torch_names(tensors, prefix, parts), tmp_path / "renamed.safetensors")
    assert converted(tmp_path / "renamed.safetensors", case, tmp_path / "model.safetensors") == expected


def test_transposed_convolutions_are_normalised_over_their_inputs(tmp_path):
    """The twin: normalised as TensorFlow does, the same file would give other weights."""
    case = "torch_rgb_r1_f8_m4_16x16"
    converted(GOLDEN / case / "params.pth", case, tmp_path / "model.safetensors")
    tensors = {name: t.read() for name, t in read_pth(GOLDEN / case / "params.pth").items()}
    v = tensors["module.upsize_u_stream.0.deconv.weight_v"].astype(np.float64)  # [in, out, kh, kw]
    g = tensors["module.upsize_u_stream.0.deconv.weight_g"].astype(np.float64).ravel()
    found = load_file(tmp_path / "model.safetensors")["down.2.stride.vertical.weight"]
    over_inputs = v * (g / np.sqrt((v**2).sum(axis=(1, 2, 3))))[:, None, None, None]
    over_outputs = v * (g / np.sqrt((v**2).sum(axis=(0, 2, 3))))[None, :, None, None]
    np.testing.assert_allclose(found, over_inputs.transpose(2, 3, 0, 1), rtol=1e-6)
    assert np.abs(found - over_outputs.transpose(2, 3, 0, 1)).max() > 1e-3


class Executes:
    """Unpickled by Python's own unpickler, this runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("format", ["zip", "legacy", "bare"])
def test_code_is_refused_and_not_executed(format, tmp_path):
    marker = tmp_path / "executed"
    program = pickle.dumps(Executes(f"touch {marker}"), protocol=2)
    path = tmp_path / "evil.pth"
    if format == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
    elif format == "legacy":
        magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
        path.write_bytes(magic + protocol + pickle.dumps({"little_endian": True}, 2) + program + pickle.dumps([], 2))
    else:
        path.write_bytes(program)
    result = run_convert(path, "-o", tmp_path / "model.safetensors")
    assert result.code == 1
    if format == "bare":
        assert "a pickle, but not one that torch.save writes" in result.err
    else:
        assert "with posix.system, of which nothing is read or executed" in result.err
    assert not marker.exists() and not (tmp_path / "model.safetensors").exists()

    pickle.loads(program)  # the twin: the file does what it says
    assert marker.exists()
