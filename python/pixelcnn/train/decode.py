"""Image files: from bytes to pixels, by the rules of src/input/decode.rs; a test feeds both the same."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from . import TrainingError
from .walk import why_unreadable

# First bytes of each format, and Pillow's name of it. File names do not matter.
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
# From its values to Pillow's operations; 1 is upright.
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def decode_file(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(why_unreadable(path, error)) from None
    return decode(data)


def decode(data: bytes) -> Any:
    """A picture of mode L or RGB, upright; the first frame of an animation; transparent pixels lie on white."""
    kind = format_of(data)
    if kind is None:
        raise TrainingError("is no image of a kind that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF, PNM)")
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
    from PIL import Image, UnidentifiedImageError

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
        if problem := unlike_the_program(image, data):
            raise TrainingError(f"is of a kind that is not supported: {problem}")
        if image.mode not in MODES or is_deep(image, data):
            raise TrainingError("has more than 8 bits per channel (convert it to 8)")
        frame = image.tile[0][1] if kind == "GIF" and image.tile else None
        image.load()
        if kind == "PNG" and b"\0\0\0\0IEND" not in data:
            # Pillow accepts a file once it has all pixels.
            raise TrainingError("is broken or cut off: its data ends too early")
        # Pillow turns a TIFF itself.
        turn = None if kind == "TIFF" else TURNS.get(orientation(image))
        if kind == "PNG":
            scale_transparent_grey(image, data)
        picture = flat(image)
        if frame:
            # If no frame lies on the screen of a GIF, Pillow shows a colour that no other program shows.
            whole = Image.new(picture.mode, picture.size, "white")
            whole.paste(picture.crop(frame), frame[:2])
            picture = whole
    return picture if turn is None else picture.transpose(turn)


def unlike_the_program(image: Any, data: bytes) -> str | None:
    """The reason if the program does not read it, or reads other levels."""
    if image.format == "TIFF" and image.mode in ("P", "PA", "F"):
        return f"a TIFF of mode {image.mode}"
    if image.format == "TIFF" and (problem := problem_of_channels(image.tag_v2)):
        return problem
    if image.format == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg"):
        return "a TIFF that holds a JPEG"
    if image.format == "BMP" and data[28:30] == b"\x10\0":
        return "a BMP of 16 bits a pixel"
    if image.format == "PPM" and 255 != maximum(data) < 256:
        return f"a PNM with a maximum of {maximum(data)}"
    return None


def problem_of_channels(tags: Any) -> str | None:
    """The reason why Pillow or the program would misread the channels of a TIFF, if there is one."""
    extra = tags.get(338, ())
    if extra and (extra[0] > 2 or len(extra) > 3 or any(extra[1:])):
        return "a TIFF with channels beside its colours that are no single alpha"
    apart = ((1, 1, ()), (2, 3, ()), (2, 4, (2,)))
    if tags.get(284, 1) == 2 and (tags.get(262, 1), tags.get(277, 1), tuple(extra)) not in apart:
        return "a TIFF that stores its channels apart, and others than red, green, blue and straight alpha"
    if tags.get(317, 1) != 1 and 0 in extra:
        return "a TIFF with channels without a meaning, stored with a predictor"
    return None


def scale_transparent_grey(image: Any, data: bytes) -> None:
    """Pillow spreads levels of fewer than 8 bits over 8, but not the one that is transparent: this does."""
    depth, colour, level = data[24], data[25], image.info.get("transparency")
    if colour == 0 and depth < 8 and isinstance(level, int):
        most = (1 << depth) - 1
        image.info["transparency"] = (level & most) * (255 // most)


def is_deep(image: Any, data: bytes) -> bool:
    """True if Pillow would reduce more than 8 bits a channel to 8."""
    if image.format == "PNG":
        return data[24] == 16
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,))) > 8
    return image.format == "PPM" and maximum(data) > 255


def maximum(data: bytes) -> int:
    """The largest sample value of a PNM, by its header; 255 for bitmaps, which have none."""
    header = re.sub(rb"#[^\r\n]*", b"", data[:4096])
    found = re.match(rb"P[2356]\s+\d+\s+\d+\s+(\d+)", header)
    return int(found[1]) if found else 255


def orientation(image: Any) -> int | None:
    """By EXIF alone: other programs do not look elsewhere (XMP), as Pillow would."""
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return exif.get(ORIENTATION)
    except Exception:  # a broken description of the picture is no reason to refuse it
        return None


def flat(image: Any) -> Any:
    """A picture of mode L or RGB, with transparent pixels on white."""
    from PIL import Image

    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA")).astype(np.uint32)
        colour, alpha = pixels[..., :3], pixels[..., 3:]
        return Image.fromarray(((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
