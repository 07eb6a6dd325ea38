"""The examples that need PyTorch, small. `scripts/test_examples` runs these tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pixelcnn

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"

# A software GPU would be looked for.
os.environ["PIXELCNN_DEVICE"] = "cpu"


def test_the_wheel_is_tested():
    assert ROOT / "python" not in Path(pixelcnn.__file__).parents


def test_train_and_sample(tmp_path):
    small = "--images 60 --epochs 2 --samples 6 --filters 8 --layers 3 --levels 4".split()
    command = [sys.executable, str(EXAMPLES / "train_and_sample.py"), *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    epochs = re.findall(
        r"epoch \d: ([\d.]+) bits/dim in [\d.]+ s; 6 images in [\d.]+ s, ([\d.]+)% of the epoch "
        r"\(the module's own loop: about (\d+) s, \d+%\); (samples/epoch-00\d\.png)",
        done.stdout,
    )
    assert len(epochs) == 2, done.stdout
    assert float(epochs[1][0]) < float(epochs[0][0]), "it learned nothing"
    for _, _, _, path in epochs:
        assert (tmp_path / path).read_bytes().startswith(b"\x89PNG")
    # Two epochs are two networks.
    assert len({(tmp_path / path).read_bytes() for *_, path in epochs}) == 2


def test_notebook(tmp_path):
    """Every cell runs, and shows its output."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    settings = notebook.cells[1]
    assert "IMAGES, EPOCHS, LEVELS = 2000, 5, 4" in settings.source
    settings.source = settings.source.replace("2000, 5", "100, 2")
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    text = "".join(o.get("text", "") for o in outputs)
    assert len(pictures) == 3 and text.count("bits/dim") == 3 and "of them read right" in text
    assert "error" not in {o.output_type for o in outputs}, json.dumps(outputs)
