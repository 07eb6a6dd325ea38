"""Pictures of a run: bits/dim over its steps, and samples of every checkpoint."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ..convert.files import write_whole

from . import TrainingError

BUILT = Path(__file__).parents[3] / "target" / "release" / "pixelcnn"
GRID = 100  # samples


def plot_path(log: Path) -> Path:
    return log.with_name(f"{log.stem}-training.png")


def require_matplotlib() -> None:
    if find_spec("matplotlib") is None:
        raise TrainingError(
            f"--plot: matplotlib is not installed for {sys.executable}: "
            f"pip install matplotlib, or leave --plot out"
        )


def plot(log: Path) -> None:
    """Bits/dim over steps, beside the log (.csv) that they are in."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with log.open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    figure = Figure(figsize=(5, 3), dpi=80, layout="constrained")
    axes = figure.subplots()
    for key, label in (
        ("bits_per_dim", "training, weights of the moment"),
        ("held_out_bits_per_dim", "held-out, averaged weights"),
    ):
        axes.plot([row["step"] for row in rows], [row[key] for row in rows], ".-", label=label)
    drawn = [row[key] for row in rows for key in ("bits_per_dim", "held_out_bits_per_dim")]
    if max(drawn, default=1) > 10 * min(drawn, default=1) > 0:
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel="bits/dim", title=log.stem)
    axes.locator_params(axis="x", nbins=5)  # such that long numbers do not run together
    axes.grid(alpha=0.3)
    axes.legend()
    canvas = FigureCanvasAgg(figure)
    write_whole(plot_path(log), lambda file: canvas.print_png(file, metadata={"Software": None}))


def find_program() -> str:
    program = shutil.which("pixelcnn") or shutil.which(BUILT)
    if program is None:
        raise TrainingError(
            f"--samples: there is no program pixelcnn on the PATH, nor {BUILT}: "
            f"install or build it, or leave --samples out"
        )
    return program


def sample(write_model: Callable[[Path], None], picture: Path) -> None:
    """A grid drawn by the program from the model that `write_model` writes."""
    with tempfile.TemporaryDirectory(prefix="pixelcnn-") as folder:
        model = Path(folder) / "model.safetensors"
        write_model(model)
        picture.parent.mkdir(parents=True, exist_ok=True)
        command = [find_program(), "sample", "-m", model, "-n", str(GRID), "-o", picture]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise TrainingError(f"{picture}: {done.stderr.strip() or f'pixelcnn ended with {done.returncode}'}")
