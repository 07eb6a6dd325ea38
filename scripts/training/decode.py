"""Image files: from bytes to pixels, by the rules of src/input/decode.rs; a test gives both the same files."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from . import TrainingError

SUFFIXES = ("bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")
# How files of each format begin, and Pillow's name of it. What a file is called does not matter.
FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    **{b"P%d" % kind: "PPM" for kind in range(1, 7)},
}
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
MOST_PIXELS = 2**27
ORIENTATION = 0x0112  # of EXIF


def has_suffix(path: Path) -> bool:
    return path.suffix.lower()[1:] in SUFFIXES


def decode(data: bytes) -> Any:
    """A picture of mode L or RGB, upright; of animations, the first frame; what is transparent lies on
    white."""
    kind = format_of(data)
    if kind is None:
        raise TrainingError(
            "is no image of a kind that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read(data, kind)
    except TrainingError:
        raise
    except Exception as error:  # a broken file can raise anything
        raise TrainingError(f"is broken or cut off: {error or type(error).__name__}") from None


def format_of(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for start, name in FORMATS.items() if data.startswith(start)), None)


def read(data: bytes, kind: str) -> Any:
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # there is a limit of our own
    try:
        opened = Image.open(io.BytesIO(data), formats=(kind,))
    except UnidentifiedImageError:
        raise TrainingError(f"is broken or cut off: no {kind} picture follows its first bytes") from None
    with opened as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise TrainingError(f"is {width}x{height}, which is more than {MOST_PIXELS} pixels")
        if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
            raise TrainingError("has CMYK colours; convert it to RGB first")
        if image.mode not in MODES or is_deep(image, data):
            raise TrainingError("has more than 8 bits a channel; convert it first")
        image.load()
        # What Pillow would look up elsewhere (XMP) other programs do not.
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        picture = flat(image)
    if exif.get(ORIENTATION, 1) == 1:
        return picture
    upright = Image.Exif()
    upright[ORIENTATION] = exif[ORIENTATION]
    picture.info["exif"] = upright.tobytes()
    return ImageOps.exif_transpose(picture)


def is_deep(image: Any, data: bytes) -> bool:
    """Whether Pillow would make 8 bits a channel of more than that."""
    if image.format == "PNG":
        return data[24] == 16
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,))) > 8
    if image.format == "PPM":
        return any(isinstance(tile.args, int) and tile.args > 255 for tile in image.tile)
    return False


def flat(image: Any) -> Any:
    """On white where it is transparent; of mode L or RGB."""
    from PIL import Image

    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA")).astype(np.uint32)
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        return Image.fromarray(((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
