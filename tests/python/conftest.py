"""Golden cases, and how the scripts and the program are called."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from checkpoints import Tensors, random_torch_network
from PIL import Image
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
PACKAGE = ROOT / "python"
GOLDEN = ROOT / "tests" / "golden"
# The case with the largest checkpoints is not copied into the repository.
GOLDEN_ELSEWHERE = Path(os.environ.get("PIXELCNN_GOLDEN", ROOT.parent / "shared" / "golden"))
PIXELCNN = Path(os.environ.get("PIXELCNN", ROOT / "target" / "release" / "pixelcnn")).resolve()

# Shells start background jobs with SIGINT ignored, and nohup its commands with SIGHUP; the processes that tests start would
# ignore them too.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

sys.path[:0] = [str(PACKAGE), str(SCRIPTS)]
import convert as script  # noqa: E402

needs_pixelcnn = pytest.mark.skipif(
    not PIXELCNN.exists(), reason=f"needs the program, and there is no {PIXELCNN}"
)

# For tests of minutes, beside shorter ones of the same code.
slow = pytest.mark.skipif(
    "PIXELCNN_TEST_ALL" not in os.environ, reason="takes minutes: scripts/test --all runs it"
)


def golden(case: str, file: str) -> Path:
    for folder in (GOLDEN, GOLDEN_ELSEWHERE):
        if (folder / case / file).exists():
            return folder / case / file
    pytest.skip(f"{case}/{file} is not in the repository for its size, nor in {GOLDEN_ELSEWHERE}")


def config(case: str) -> dict:
    return json.loads((GOLDEN / case / "config.json").read_text())


class Result(NamedTuple):
    code: int
    out: str
    err: str


def run_convert(*arguments: object) -> Result:
    """The script in this process, so that TensorFlow is loaded once."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["convert.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = script.main()
    finally:
        sys.argv = argv
    return Result(code, out.getvalue(), err.getvalue())


def run(*command: object, **options: object) -> Result:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    return Result(done.returncode, done.stdout, done.stderr)


def run_pixelcnn(*arguments: object) -> Result:
    result = run(PIXELCNN, *arguments)
    assert result.code == 0, result.err
    return result


def evaluate(
    model: Path, images: np.ndarray, classes: list[int], folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The program's parameters and bits per dimension for 8-bit images, each under its class."""
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{i:03}.png")
    flags = ["--class", ",".join(map(str, classes))] if len(classes) else []
    flags += ["--device", "cpu", "--json", "--params", folder / "params.npy"]
    result = run_pixelcnn("eval", "-m", model, folder, *flags)
    bits = [image["bits_per_dim"] for image in json.loads(result.out)["images"]]
    return np.load(folder / "params.npy"), np.array(bits)


def flags(case: str) -> list[str]:
    """The flags of a case, for facts that its checkpoint does not tell."""
    c = config(case)
    told = ["--height", str(c["height"]), "--width", str(c["width"])]
    return told + (["--nonlinearity", "relu"] if c["nonlinearity"] == "relu" else [])


def first_difference(found: np.ndarray, expected: np.ndarray, tolerance: float) -> str | None:
    """None, or where the first value beyond the tolerance is."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    beyond = np.argwhere(~(np.abs(found - expected) <= tolerance))
    if len(beyond) == 0:
        return None
    at = tuple(int(i) for i in beyond[0])
    return f"{len(beyond)} values differ, first at {at}: {found[at]!r}, expected {expected[at]!r}"


@pytest.fixture
def layers() -> Tensors:
    """A small network with the published PyTorch names and no classes."""
    return random_torch_network(6, 1, 2)


@pytest.fixture
def convert(tmp_path: Path):
    """Convert tensors from a safetensors file."""

    def run(tensors: Tensors, *flags: object) -> Result:
        save_file(tensors, tmp_path / "params.safetensors")
        return run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "model.safetensors", *flags)

    return run
