"""Commands that Python does, in the command line of the wheel."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pixelcnn
import pytest
from conftest import GOLDEN

CHECKPOINT = GOLDEN / "torch_rgb_r1_f8_m4_16x16" / "params.pth"


def test_a_checkpoint_is_converted(command_line, tmp_path):
    done = command_line("convert", CHECKPOINT, "-o", "m.safetensors", "--height", 16, "--width", 16)
    assert done.returncode == 0, done.stderr
    assert "sample from it:" in done.stdout
    drawn = command_line("sample", "-m", "m.safetensors", "-n", 2, "-o", "x.npy")
    assert drawn.returncode == 0, drawn.stderr
    by_load = pixelcnn.load(CHECKPOINT, height=16, width=16)
    assert np.array_equal(np.load(tmp_path / "x.npy"), by_load.sample(2))


@pytest.mark.parametrize("arguments", [["convert", "--help"], ["--quiet", "convert", "x"], ["--quiet", "train", "x"]])
def test_where_things_are_done_is_told(arguments, command_line):
    done = command_line(*arguments)
    if "--help" in arguments:
        assert done.returncode == 0 and done.stdout.startswith("usage: pixelcnn convert [-h]")
    else:
        assert done.returncode == 1 and f"scripts/{arguments[-2]}.py x" in done.stderr


def test_training_says_what_it_needs(command_line):
    done = command_line("train", "x", "-o", "m.safetensors")
    expected = "error: x: " if importlib.util.find_spec("torch") else "pip install 'pixelcnn[train]'"
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_checkpoint_that_is_none_is_refused(command_line, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"nothing")
    done = command_line("convert", "x.pth", "-o", "m.safetensors")
    assert done.returncode == 1 and done.stderr.startswith("error: x.pth: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "m.safetensors").exists()


def test_the_package_converts_from_its_folder_alone():
    """The command of uv for a checkpoint of TensorFlow, if the package is not in its environment."""
    from pixelcnn.convert.command import INSTALLED

    hidden = "import sys; sys.modules['pixelcnn._pixelcnn'] = None\n" + INSTALLED
    command = [sys.executable, "-c", hidden, pixelcnn.__file__, CHECKPOINT.with_name("absent"), "-o", "m.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "absent: " in done.stderr and "Traceback" not in done.stderr, done.stderr
