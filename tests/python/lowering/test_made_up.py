"""The modules of scripts/compare_pytorch.py are the networks that `--architecture` calls by the same names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pixelcnn
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
from made_up import Spelling  # noqa: E402


def bench(*words):
    """The output of `pixelcnn bench` about a network."""
    words = [*words, "-b", "1", "--engine", "cached", "--rows", "1", "--repeat", "1", "--device", "cpu", "--json", "-"]
    done = subprocess.run([sys.executable, "-m", "pixelcnn", "bench", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["architecture"]


@pytest.mark.parametrize("text", ["gated:8x3@7x5k16", "masked:8x3@7x5k16", "prior:8x3@5x4k12", "gated:8x2", "masked:4x2", "prior:8x2"])
def test_modules_are_the_networks_of_their_names(text, tmp_path):
    spelling = Spelling.of(text)
    codes = spelling.kind == "prior"
    shape = (spelling.height, spelling.width)
    model = tmp_path / "model.safetensors"
    compiled = pixelcnn.compile(
        spelling.module(), shape if codes else (1, *shape), levels=spelling.levels, input="codes" if codes else "unit"
    )
    compiled.save(model)
    module, network = bench("-m", str(model)), bench("--architecture", text)
    for key in ("macs_per_image", "width", "height", "weights_read_per_batch", "values_moved_per_image"):
        assert module[key] == network[key], key


@pytest.mark.parametrize("text", ["gated", "gated:64", "other:64x7", "gated:64x7@8", "gated:64x7,grey"])
def test_other_spellings_are_refused(text):
    with pytest.raises(ValueError, match="expected gated:64x7"):
        Spelling.of(text)
