"""Models and the command line, both of the installed wheel. `scripts/test_wheel` runs these tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pixelcnn
import pytest

ROOT = Path(__file__).resolve().parents[3]
GRAPHS = ROOT / "tests" / "graphs"
GOLDEN = ROOT / "tests" / "golden"

# Nothing here depends on a GPU, and a software one would be looked for.
os.environ["PIXELCNN_DEVICE"] = "cpu"

# Shells start background jobs with this signal ignored, and the processes that tests start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

CommandLine = Callable[..., subprocess.CompletedProcess[str]]


def pytest_sessionstart() -> None:
    assert ROOT / "python" not in Path(pixelcnn.__file__).parents, "the source tree was imported, not the wheel"


@pytest.fixture(scope="session")
def mnist() -> pixelcnn.Model:
    return pixelcnn.load("mnist")


@pytest.fixture(scope="session")
def avatars() -> pixelcnn.Model:
    return pixelcnn.load("avatars")


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    """Runs the command that the wheel installed."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("pixelcnn")), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return run
