"""Images of other sizes: the program makes the same pixels of them as training, and leaves out the same ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import PIXELCNN, needs_pixelcnn, run
from PIL import Image
from record_resized import source
from safetensors import safe_open
from safetensors.numpy import save_file
from test_reading import good, model, oriented, saved  # noqa: F401  `model` is a fixture
from test_train import data_options

from pixelcnn.train import TrainingError
from pixelcnn.train import data as data_module
from pixelcnn.train.decode import decode
from pixelcnn.train.folders import fitted, middle, read_image, read_images


@pytest.fixture(scope="module")
def of_size(model, tmp_path_factory):  # noqa: F811
    """RGB models that say that they were trained on a width and height."""
    folder = tmp_path_factory.mktemp("models")

    def with_size(width: int, height: int) -> Path:
        path = folder / f"{width}x{height}.safetensors"
        if not path.exists():
            with safe_open(model, "np") as file:
                metadata = {**file.metadata(), "width": str(width), "height": str(height)}
                save_file({name: file.get_tensor(name) for name in file.keys()}, path, metadata)
        return path

    return with_size


def by_program(model: Path, *arguments: object) -> tuple[dict[str, str], dict[str, str], dict]:  # noqa: F811
    """SHA-256 of the pixels that the program reads, reasons for other images, and all that it lists."""
    result = run(PIXELCNN, "eval", "-m", model, "--list", "--json", *arguments)
    assert "panicked" not in result.err and result.out, result.err
    listed = json.loads(result.out)
    read = {Path(image["path"]).name: image["sha256"] for image in listed["images"]}
    return read, {Path(image["path"]).name: image["reason"] for image in listed["passed_over"]}, listed


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def random_picture(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise, black and white, edges, or ramps; in colour or grey."""
    kind = random.integers(4)
    if kind == 0:
        pixels = random.integers(0, 256, (height, width, 3))
    elif kind == 1:
        pixels = 255 * random.integers(0, 2, (height, width, 3))
    elif kind == 2:
        pixels = source(width, height)
    else:
        y, x = np.mgrid[:height, :width]
        pixels = np.stack([255 * x // width, 255 * y // height, np.where(x > y, 240, 20)], -1)
    picture = Image.fromarray(pixels.astype(np.uint8))
    return picture.convert("L") if random.integers(3) == 0 else picture


@needs_pixelcnn
@pytest.mark.parametrize("side", [1, 8, 28, 32])
def test_pixels_are_those_of_training_at_any_size(of_size, tmp_path, side):
    random = np.random.default_rng(side)
    for i in range(150):
        width, height = (int(side + random.integers(0, [2, 20, 200][random.integers(3)])) for _ in range(2))
        random_picture(random, width, height).save(tmp_path / f"{i:03}.png")
    read, passed_over, listed = by_program(of_size(side, side), tmp_path)
    files = sorted(tmp_path.iterdir())
    options = data_options(size=side)
    expected = {file.name: digest(read_image(file, options)[0]) for file in files}
    assert passed_over == {} and len(read) == 150
    assert {name for name in expected if read[name] != expected[name]} == set()
    others = [file for file in files if Image.open(file).size != (side, side)]
    assert listed["resized"] == sum(of["images"] for of in listed["resized_from"]) == len(others)
    # The comparison sees other levels in the middle, which may be all that is left.
    for file in others[:10]:
        pixels = np.array(Image.open(file))
        height, width = pixels.shape[:2]
        pixels[height // 3 : height - height // 3, width // 3 : width - width // 3] ^= 0x80
        Image.fromarray(pixels).save(file)
        assert digest(read_image(file, options)[0]) != read[file.name]


@needs_pixelcnn
def test_pixels_are_those_of_training_in_every_format(of_size, tmp_path):
    """Turned, made opaque and grey first, then resized."""
    files = {name: data for name, data in good().items() if min(decode(data).size) >= 8}
    assert len(files) > 100
    photo = Image.fromarray(source(90, 61))
    clear = photo.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(photo.size))
    files |= {f"turned {number}.jpg": saved(photo, "JPEG", exif=oriented(number)) for number in range(1, 9)}
    files |= {"clear.png": saved(clear, "PNG"), "clear.webp": saved(clear, "WEBP"), "palette.gif": saved(photo, "GIF")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    read, passed_over, _ = by_program(of_size(8, 8), tmp_path)
    options = data_options(size=8)
    # Names as the program prints them.
    expected = sorted(digest(read_image(file, options)[0]) for file in tmp_path.iterdir())
    assert passed_over == {} and sorted(read.values()) == expected


@needs_pixelcnn
def test_other_shapes_are_cropped_to_the_middle(of_size, tmp_path):
    """Training on arrays can have models whose images are not square."""
    random = np.random.default_rng(0)
    for size in ((12, 8), (5, 20), (31, 30)):
        folder = tmp_path / f"{size[0]}x{size[1]}"
        folder.mkdir()
        expected = {}
        for i in range(60):
            width, height = (int(side + random.integers(0, 60)) for side in size)
            picture = random_picture(random, width, height)
            picture.save(folder / f"{i:02}.png")
            left, top, right, bottom = middle(picture.size, size)
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            assert right - left == width or bottom - top == height
            # The shape differs by less than a pixel.
            assert abs((right - left) * size[1] - (bottom - top) * size[0]) <= max(size)
            expected[f"{i:02}.png"] = digest(fitted(picture, size, False))
        read, passed_over, _ = by_program(of_size(*size), folder)
        assert passed_over == {} and read == expected


@needs_pixelcnn
def test_arrays_are_resized_like_files(of_size, tmp_path):
    x = np.stack([source(20, 26), source(26, 20).transpose(1, 0, 2)])
    np.savez(tmp_path / "x.npz", x=x)
    read, _, listed = by_program(of_size(8, 8), tmp_path / "x.npz")
    part = data_module.brought(tmp_path, data_module.Raw(x, None), data_options(size=8))
    assert list(read.values()) == [digest(image.transpose(1, 2, 0)) for image in part.x]
    assert listed["resized_from"] == [{"width": 20, "height": 26, "images": 2}]


@needs_pixelcnn
def test_both_leave_out_smaller_images(of_size, tmp_path):
    for name, size in {"a": (8, 8), "b": (7, 8), "c": (8, 7), "d": (300, 7), "e": (9, 9)}.items():
        Image.fromarray(source(*size)).save(tmp_path / f"{name}.png")
    # Its sides are turned.
    (tmp_path / "f.jpg").write_bytes(saved(Image.fromarray(source(7, 30)), "JPEG", exif=oriented(6)))
    read, passed_over, _ = by_program(of_size(8, 8), tmp_path)
    refused = set()
    for file in tmp_path.iterdir():
        try:
            read_image(file, data_options(size=8))
        except TrainingError as error:
            refused.add(file.name)
            begin = str(error).split(", smaller")[0] + ", smaller than the 8x8 images that model 8x8 was trained on"
            assert passed_over[file.name].startswith(begin)
    assert refused == set(passed_over) == {"b.png", "c.png", "d.png", "f.jpg"}
    assert set(read) == {"a.png", "e.png"}


def test_training_says_what_it_does_to_images(tmp_path, capsys):
    for i, size in enumerate([(8, 8), (16, 16), (16, 16), (20, 9), (9, 20)]):
        Image.fromarray(source(*size)).save(tmp_path / f"{i}.png")
    read_images(tmp_path, data_options(size=8))
    said = capsys.readouterr().err
    expected = "note: 4 of 5 images cropped to their middle and resized to 8x8 (--size), from 16x16 and 2 other sizes\n"
    assert said == expected
    data_module.brought(tmp_path, data_module.Raw(np.zeros((3, 9, 10, 1), np.uint8), None), data_options(size=8))
    assert "3 of 3 images cropped to their middle and resized to 8x8 (--size), from 10x9\n" in capsys.readouterr().err
    for i in range(1, 5):
        (tmp_path / f"{i}.png").unlink()
    read_images(tmp_path, data_options(size=8))
    assert capsys.readouterr().err == ""
