"""Damaged files: each is read or refused with an error of ours, and never anything else. `scripts/fuzz` runs
this for minutes."""

from __future__ import annotations

import io
import json
import os
import random
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN
from pixelcnn.convert import ConversionError
from pixelcnn.convert.model_file import write_model
from pixelcnn.convert.readers import MissingPackage, open_source
from safetensors.numpy import save
from pixelcnn.train import TrainingError, checkpoint, data
from pixelcnn.train.settings import RUN

INPUTS = 300  # of a reader, where no time is given
NUMBERS = [b"0", b"-1", b"8", b"1e9", b"4294967296", b"18446744073709551615", b"NaN", b"[]", b"{}", b'"'] + [b"[" * 3000]


def mutate(content: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(1 << chance.randrange(4)):
        at = chance.randrange(len(damaged) or 1)
        # Near the start more often, where formats have their headers.
        at = at if chance.random() < 0.5 else min(at, chance.randrange(512))
        end = at + 1 + chance.randrange(32)
        match chance.randrange(6):
            case 0:
                damaged[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del damaged[at:end]
            case 2:
                damaged[at:at] = damaged[at:end]
            case 3:
                damaged[at:end] = chance.choice(NUMBERS)
            case 4:
                number = chance.choice([0, 1, 2**31, 2**63, 2**64 - 1, len(damaged)])
                damaged[at : at + 8] = number.to_bytes(8, chance.choice(["little", "big"]))
            case _ if chance.random() < 0.2:
                del damaged[at:]
    return bytes(damaged)


def read_checkpoint(path: Path) -> None:
    source = open_source(path)
    for name in source.shapes:
        source.read(name)


def read_images(path: Path) -> None:
    options = data.DataOptions(size=None, grey=False, classes=True, leave_out=None, held_out=None, strict=False)
    data.load(path, options)


def npz() -> bytes:
    file = io.BytesIO()
    random = np.random.default_rng(0)
    np.savez(file, x=random.integers(0, 256, (8, 4, 4, 3), np.uint8), y=np.arange(8) % 2, classes=np.array(["a", "b"]))
    return file.getvalue()


def training_checkpoint(folder: Path) -> bytes:
    state = {"run": RUN, "data": {"images": "12"}, "step": 3, "steps_before": 0, "elapsed": 1.5, "log": [[1, 2, 3, 4]]}
    tensors = {"value/a": np.ones((2, 3), np.float32)}
    write_model(folder / "t", {"format": checkpoint.FORMAT, "state": json.dumps(state)}, tensors)
    return (folder / "t").read_bytes()


TARGETS = {
    "pth": (lambda _: (GOLDEN / "torch_rgb_r1_f8_m4_16x16" / "params.pth").read_bytes(), read_checkpoint),
    "legacy.pth": (lambda _: (GOLDEN / "torch_grey_r1_f8_m3_8x12" / "params.pth").read_bytes(), read_checkpoint),
    "safetensors": (lambda _: save({"model/a": np.ones((2, 3), np.float32)}, {"height": "8"}), read_checkpoint),
    "npz": (lambda _: npz(), read_images),
    "ckpt": (training_checkpoint, checkpoint.read),
}


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_read_or_refused(target, tmp_path):
    make, read = TARGETS[target]
    content = make(tmp_path)
    path = tmp_path / f"fuzzed.{target}"
    path.write_bytes(content)
    read(path)
    seconds = os.environ.get("PIXELCNN_FUZZ_SECONDS")
    seed = random.randrange(2**32) if seconds else 0
    chance = random.Random(seed)
    start, count, refusals = time.monotonic(), 0, 0
    while time.monotonic() - start < float(seconds) if seconds else count < INPUTS:
        damaged = mutate(content, chance)
        path.write_bytes(damaged)
        count += 1
        try:
            read(path)
        except (ConversionError, TrainingError, MissingPackage) as error:
            assert str(error).strip()
            refusals += 1
        except BaseException:
            kept = Path(os.environ.get("TMPDIR", "/tmp")) / f"pixelcnn-fuzz-{target}"
            kept.write_bytes(damaged)
            print(f"input {count} of seed {seed} is kept as {kept}")
            raise
    print(f"{target}: {count} inputs, {refusals} refused")
    assert 0 < refusals


def test_a_member_of_an_npz_that_is_no_array_is_passed_over(tmp_path):
    """Found by the test above: NumPy returns such a member as bytes."""
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
        file.writestr("x.npy", b"\x93NUMPZ, damaged")
    with pytest.raises(TrainingError, match="expected an array x"):
        read_images(tmp_path / "bad.npz")
