"""Animations as Pillow and imageio read them: every frame, and the last one equal to the picture."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from conftest import GOLDEN, needs_pixelcnn, run_pixelcnn
from PIL import Image

GREY = GOLDEN / "own_grey_classes_2levels_r1_f12_m5_10x14" / "model.safetensors"
RGB = GOLDEN / "rgb_elu_r1_f8_m4_8x12" / "model.safetensors"
UNDRAWN = (38, 60, 110)


def frames(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Every frame as it is shown, and how long, in ms."""
    shown, delays = [], []
    with Image.open(path) as image:
        for k in range(image.n_frames):
            image.seek(k)
            shown.append(np.asarray(image.convert("RGB")))
            delays.append(image.info["duration"])
    return shown, delays


def drawn(frame: np.ndarray) -> np.ndarray:
    return (frame != UNDRAWN).any(axis=2)


@needs_pixelcnn
@pytest.mark.parametrize("kind", ["gif", "png"])
@pytest.mark.parametrize(
    ("model", "flags"), [(GREY, ["-n", "5", "-b", "2", "--scale", "2"]), (RGB, ["-n", "3"])]
)
def test_frames_draw_pixel_after_pixel(tmp_path: Path, kind: str, model: Path, flags: list[str]) -> None:
    still, moving = tmp_path / "still.png", tmp_path / f"moving.{kind}"
    run_pixelcnn("sample", "-m", model, "--device", "cpu", "-o", still, "--animate", moving, *flags)
    shown, delays = frames(moving)
    last = np.asarray(Image.open(still).convert("RGB"))
    assert 50 < len(shown) <= 101
    assert (shown[-1] == last).all()
    assert not (shown[-2] == last).all()
    assert delays == [50] * (len(delays) - 1) + [3000]
    for before, after in zip(shown, shown[1:], strict=False):
        assert (drawn(before) <= drawn(after)).all() and drawn(before).sum() < drawn(after).sum()
        assert (after == last)[drawn(after)].all()
    # Frames of one mode make one array.
    assert (iio.imread(moving, index=None)[..., :3] == shown).all()


@needs_pixelcnn
def test_many_colours_are_close_in_a_gif(tmp_path: Path) -> None:
    """A frame of a GIF has 255 colours; an animated PNG has all of them."""
    files = [tmp_path / name for name in ("still.png", "moving.gif", "moving.png")]
    size = ["--size", "64x64", "-n", "16", "--scale", "1", "--device", "cpu"]
    for moving in files[1:]:
        run_pixelcnn("sample", "-m", RGB, *size, "-o", files[0], "--animate", moving)
    last = np.asarray(Image.open(files[0]).convert("RGB"), dtype=int)
    (gif, _), (png, _) = frames(files[1]), frames(files[2])
    assert (png[-1] == last).all()
    assert len(gif) == len(png) == 101
    assert 0 < np.abs(gif[-1] - last).mean() < 8


@needs_pixelcnn
def test_comments_hold_the_command(tmp_path: Path) -> None:
    moving = tmp_path / "moving.gif"
    still = ["-o", tmp_path / "still.png"]
    run_pixelcnn("sample", "-m", GREY, "-n", "1", "--device", "cpu", *still, "--animate", moving)
    with Image.open(moving) as image:
        comment = image.info["comment"].decode()
    assert "command: pixelcnn sample -m model.safetensors" in comment
    assert "--animate moving.gif" in comment
