"""Reading files: the program and training take the same ones, and see the same pixels."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN, PIXELCNN, ROOT, needs_pixelcnn, run
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from pixelcnn.train import TrainingError
from pixelcnn.train import data as data_module
from pixelcnn.train.decode import decode, decode_file
from pixelcnn.train.walk import shown, walk

HEIGHT, WIDTH = 21, 14
ORIENTATION = 0x0112


def picture(height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """Smooth, with an edge, and no two of its corners alike."""
    y, x = np.mgrid[:height, :width]
    levels = np.stack([9 * x + 3 * y, 200 - 7 * y, np.where(x > y, 240, 20)], -1)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def oriented(number: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif.tobytes()


def transparent() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def with_tag(tiff: bytes, number: int, value: int) -> bytes:
    """A TIFF with another value of a tag that it has, of one short number."""
    tag = struct.pack("<HHI", number, 3, 1)
    assert tiff.count(tag) == 1
    at = tiff.index(tag) + len(tag)
    return tiff[:at] + struct.pack("<H", value) + tiff[at + 2 :]


def with_extra(tiff: bytes, meaning: int) -> bytes:
    """A TIFF whose fourth or second channel has another meaning: 0 none, 1 associated alpha, 2 straight alpha."""
    return with_tag(tiff, 338, meaning)


def grey_bits(depth: int, transparent: int) -> bytes:
    """A PNG of few grey levels, of which one is transparent."""
    length = -(-WIDTH * depth // 8)
    rows = b"".join(b"\0" + bytes((37 * y + 11 * x) % 256 for x in range(length)) for y in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", struct.pack(">H", transparent)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def stored_apart(image: Image.Image, meaning: int) -> bytes:
    """A TIFF with a plane for each of the four channels, and the meaning of the last."""
    planes = np.asarray(image).transpose(2, 0, 1).tobytes()
    height, width, size = *np.asarray(image).shape[:2], len(planes) // 4
    lists = {258: [8] * 4, 273: [8 + 4 * 12 + size * i for i in range(4)], 279: [size] * 4}
    numbers = {256: width, 257: height, 259: 1, 262: 2, 277: 4, 278: height, 284: 2, 338: meaning}
    at = {tag: 8 + 16 * i for i, tag in enumerate(lists)}
    entries = {tag: struct.pack("<HHII", tag, 4, 4, at[tag]) for tag in lists}
    entries |= {tag: struct.pack("<HHIHH", tag, 3, 1, number, 0) for tag, number in numbers.items()}
    values = b"".join(struct.pack("<4I", *values) for values in lists.values())
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(values) + len(planes)) + values + planes + directory


def multiplied(image: Image.Image) -> Image.Image:
    """With colours that alpha has been multiplied with."""
    pixels = np.asarray(image).astype(np.uint32)
    pixels[..., :3] = (pixels[..., :3] * pixels[..., 3:] + 127) // 255
    return Image.fromarray(pixels.astype(np.uint8))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(colour: int, channels: int) -> bytes:
    rows = (b"\0" + bytes(2 * channels * WIDTH)) * HEIGHT
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def in_a_corner(gif: bytes) -> bytes:
    """The picture does not fill its screen."""
    screen, corner = struct.pack("<HH", WIDTH, HEIGHT), struct.pack("<4H", 0, 0, WIDTH, HEIGHT)
    assert gif.count(b"," + corner) == 1
    wide = gif.replace(screen, struct.pack("<HH", WIDTH + 5, HEIGHT + 4), 1)
    return wide.replace(b"," + corner, b"," + struct.pack("<4H", 2, 3, WIDTH, HEIGHT))


def bmp15() -> bytes:
    """5 bits a channel, one of them not used."""
    values = np.arange(HEIGHT * WIDTH, dtype="<u2").reshape(HEIGHT, WIDTH) * 109 % 2**15
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + values.nbytes, 0, 0, 54) + header + values.tobytes()


def with_colour_key(image: Image.Image) -> bytes:
    return saved(image, "PNG", transparency=image.getpixel((3, 4)))


def animated(form: str) -> bytes:
    frames = [picture(), picture().rotate(180)]
    return saved(frames[0], form, save_all=True, append_images=frames[1:], duration=50)


def good() -> dict[str, bytes]:
    """Files that are read, by name."""
    rgb, grey, alpha = picture(), picture().convert("L"), transparent()
    palette = rgb.quantize(17)
    clear = palette.copy()
    clear.info["transparency"] = bytes([0, 100, 200])
    files = {
        "rgb.png": saved(rgb, "PNG"),
        "grey.png": saved(grey, "PNG"),
        "bits.png": saved(grey.convert("1"), "PNG"),
        "four-bits.png": saved(grey.quantize(9), "PNG", bits=4),
        "alpha.png": saved(alpha, "PNG"),
        "grey-alpha.png": saved(alpha.convert("LA"), "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette-alpha.png": saved(clear, "PNG"),
        "key.png": with_colour_key(rgb),
        "grey-key.png": with_colour_key(grey),
        "animated.png": animated("PNG"),
        "a.gif": saved(rgb, "GIF"),
        "animated.gif": animated("GIF"),
        "in a corner.gif": in_a_corner(saved(rgb.quantize(17), "GIF")),
        "in a corner, clear.gif": in_a_corner(saved(clear, "GIF", transparency=3)),
        "clear.gif": saved(clear, "GIF", transparency=3),
        "a.bmp": saved(rgb, "BMP"),
        "grey.bmp": saved(grey, "BMP"),
        "palette.bmp": saved(palette, "BMP"),
        "bits.bmp": saved(grey.convert("1"), "BMP"),
        "a.tif": saved(rgb, "TIFF"),
        "grey.tiff": saved(grey, "TIFF"),
        "lzw.tiff": saved(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tiff": saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "alpha.tiff": saved(alpha, "TIFF"),
        "grey alpha.tiff": saved(alpha.convert("LA"), "TIFF"),
        "grey alpha lzw.tiff": saved(alpha.convert("LA"), "TIFF", compression="tiff_lzw"),
        "grey alpha turned.tiff": saved(alpha.convert("LA"), "TIFF", tiffinfo={ORIENTATION: 6}),
        "associated.tiff": with_extra(saved(multiplied(alpha), "TIFF"), 1),
        "associated lzw.tiff": with_extra(saved(multiplied(alpha), "TIFF", compression="tiff_lzw"), 1),
        "associated turned.tiff": with_extra(saved(multiplied(alpha), "TIFF", tiffinfo={ORIENTATION: 3}), 1),
        "brighter than associated.tiff": with_extra(saved(alpha, "TIFF"), 1),
        "alpha apart.tiff": stored_apart(alpha, 2),
        "no alpha.tiff": with_extra(saved(alpha, "TIFF"), 0),
        "packbits.tiff": saved(rgb, "TIFF", compression="packbits"),
        "bits.tiff": saved(grey.convert("1"), "TIFF"),
        "fax.tiff": saved(grey.convert("1"), "TIFF", compression="group4"),
        "turned.tiff": saved(rgb, "TIFF", tiffinfo={ORIENTATION: 6}),
        "lossless.webp": saved(rgb, "WEBP", lossless=True),
        "lossless-alpha.webp": saved(alpha, "WEBP", lossless=True, exact=True),
        "lossy.webp": saved(rgb, "WEBP", quality=80),
        "lossy-alpha.webp": saved(alpha, "WEBP", quality=80),
        "animated.webp": animated("WEBP"),
        "a.ppm": saved(rgb, "PPM"),
        "a.pgm": saved(grey, "PPM"),
        "a.pbm": saved(grey.convert("1"), "PPM"),
        "text.pnm": b"P2\n# a comment\n%d %d\n255\n" % grey.size
        + b"\n".join(b" ".join(b"%d" % v for v in row) for row in np.asarray(grey)),
        "alpha.bmp": saved(alpha, "BMP"),
        "UPPER.PNG": saved(rgb, "PNG"),
        "Mixed.JpEg": saved(rgb, "JPEG"),
        "really a jpeg.png": saved(rgb, "JPEG"),
        "comma, \"quotes\" and 'more'.png": saved(rgb, "PNG"),
        "new\nline \x1b[31m\t\x9b.png": saved(rgb, "PNG"),
        "no-break\xa0and wide\u3000space.png": saved(rgb, "PNG"),
        "ünï—💧.png": saved(rgb, "PNG"),
        os.fsdecode(b"not utf-8 \xff.png"): saved(rgb, "PNG"),
    }
    for depth in (1, 2, 4, 8):
        files[f"{depth} bits, one transparent.png"] = grey_bits(depth, 1)
    for path in (ROOT / "tests" / "images").iterdir():
        files[path.name] = path.read_bytes()
    trailer = b"\0\0ftyp\xff\xda\xff\xd8\xff\xdb\0" + bytes(range(256))
    for kind in ({}, {"progressive": True}):
        files[f"more follows {len(kind)}.jpg"] = saved(rgb, "JPEG", **kind) + trailer
    for size in ((HEIGHT, WIDTH), (16, 16), (33, 9), (1, 1), (8, 40)):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            for kind, options in {
                "baseline": {},
                "progressive": {"progressive": True},
                "restarts": {"restart_marker_blocks": 1},
                "coarse": {"quality": 15},
                "fine": {"quality": 100},
            }.items():
                name = f"{size[1]}x{size[0]} {subsampling.replace(':', '')} {kind}.jpg"
                files[name] = saved(picture(*size), "JPEG", subsampling=subsampling, **options)
        files[f"{size[1]}x{size[0]} grey.jpg"] = saved(picture(*size).convert("L"), "JPEG")
    for number in range(1, 9):
        for form in ("JPEG", "PNG", "WEBP"):
            options = {"lossless": True} if form == "WEBP" else {}
            files[f"exif {number}.{form.lower()}"] = saved(rgb, form, exif=oriented(number), **options)
    for form in ("JPEG", "PNG", "WEBP"):
        files[f"broken exif.{form.lower()}"] = saved(rgb, form, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
        files[f"exif of another kind.{form.lower()}"] = saved(rgb, form, exif=b"Exif\0\0nothing known")
    files["big-endian exif.jpg"] = saved(
        rgb, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    )
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    files["xmp.jpg"] = saved(rgb, "JPEG", xmp=xmp)
    files["exif 9.jpeg"] = saved(rgb, "JPEG", exif=oriented(9))
    return files


def bad() -> dict[str, tuple[bytes, str]]:
    """Files that are refused, and how the reason begins."""
    rgb, grey, alpha = picture(), picture().convert("L"), transparent()
    predicted = saved(alpha, "TIFF", compression="tiff_adobe_deflate", tiffinfo={317: 2})
    broken = "is broken or cut off"
    deep = "has more than 8 bits per channel"
    unsupported = "is of a kind that is not supported"
    unknown = "is no image of a kind that can be read"
    files = {
        "empty.png": (b"", unknown),
        "text.jpg": (b"no image", unknown),
        "page.jpg": (b"<!DOCTYPE html><html></html>", unknown),
        "start only.png": (b"\x89PNG\r\n\x1a\n", broken),
        "start only.jpg": (b"\xff\xd8\xff\xe0", broken),
        "pam.pnm": (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\0", unknown),
        "icon.png": (saved(rgb.resize((16, 16)), "ICO"), unknown),
        "grey 16.png": (png16(0, 1), deep),
        "rgb 16.png": (png16(2, 3), deep),
        "alpha 16.png": (png16(6, 4), deep),
        "grey 16.tiff": (saved(Image.fromarray(np.zeros((4, 4), np.uint16)), "TIFF"), deep),
        "float.tiff": (saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), unsupported),
        "16.pgm": (b"P5\n2 2\n65535\n" + bytes(8), deep),
        "16.ppm": (b"P6\n2 2\n65535\n" + bytes(24), deep),
        "cmyk.jpg": (saved(rgb.convert("CMYK"), "JPEG"), "has CMYK colours"),
        "cmyk.tiff": (saved(rgb.convert("CMYK"), "TIFF"), "has CMYK colours"),
        "maximum 100.ppm": (b"P6\n1 1\n100\n" + bytes(3), unsupported),
        "maximum 7.pgm": (b"P2\n1 1\n7\n3\n", unsupported),
        "15 bits.bmp": (bmp15(), unsupported),
        "jpeg.tiff": (saved(rgb, "TIFF", compression="jpeg"), unsupported),
        "palette.tiff": (saved(rgb.quantize(17), "TIFF"), unsupported),
        "unknown channel.tiff": (with_extra(saved(alpha, "TIFF"), 999), unsupported),
        "channel without a meaning.tiff": (with_extra(predicted, 0), unsupported),
        "associated alpha apart.tiff": (stored_apart(multiplied(alpha), 1), unsupported),
        "huge.png": (
            saved(grey, "PNG").replace(
                png_chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0)),
                png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 0, 0, 0, 0)),
            ),
            "is 1048576x1048576, which is more than",
        ),
    }
    whole = {
        "baseline.jpg": saved(rgb, "JPEG"),
        "progressive.jpg": saved(rgb, "JPEG", progressive=True),
        "grey.jpg": saved(grey, "JPEG"),
        "large.jpg": saved(picture(200, 300), "JPEG"),
        "large progressive.jpg": saved(picture(200, 300), "JPEG", progressive=True),
        "a.png": saved(rgb, "PNG"),
        "a.gif": saved(rgb, "GIF"),
        "a.bmp": saved(rgb, "BMP"),
        "a.ppm": saved(rgb, "PPM"),
        "a.webp": saved(rgb, "WEBP", lossless=True),
        "lossy.webp": saved(rgb, "WEBP"),
        "a.tiff": saved(rgb, "TIFF"),
    }
    for name, data in whole.items():
        for percent in (30, 50, 90):
            files[f"{percent} % of {name}"] = (data[: len(data) * percent // 100], broken)
    for less in (1, 2, 3):
        files[f"{less} less of baseline.jpg"] = (whole["baseline.jpg"][:-less], broken)
        files[f"{less} less of progressive.jpg"] = (whole["progressive.jpg"][:-less], broken)
        files[f"{less + 8} less of a.png"] = (whole["a.png"][: -less - 8], broken)
        files[f"{less} less of lossy.webp"] = (whole["lossy.webp"][:-less], broken)
    return files


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """RGB, of one level, so that it takes images of any size; only its shape matters."""
    source = GOLDEN / "own_grey_1level_dilated_r3_f8_m4_11x13" / "model.safetensors"
    with safe_open(source, "np") as file:
        metadata = {**file.metadata(), "channels": "3"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    for name, tensor in tensors.items():
        shape = list(tensor.shape)
        if name.startswith("input") and name.endswith("weight"):
            shape[2] = 4
        elif name.startswith("output"):
            shape[-1] = 10 * int(metadata["mixtures"])
        tensors[name] = np.zeros(shape, np.float32)
    path = tmp_path_factory.mktemp("model") / "rgb.safetensors"
    save_file(tensors, path, metadata)
    return path


def by_program(model: Path, *arguments: object, code: int | None = None) -> tuple[dict, dict, dict]:
    """Digests of the files that the program reads at their own sizes, reasons for the others, and the whole list."""
    result = run(PIXELCNN, "eval", "-m", model, "--list", "--json", "--native-size", *arguments)
    if code is not None:
        assert result.code == code, result.err
    assert "panicked" not in result.err
    listed = json.loads(result.out)
    read = {image["path"]: image["sha256"] for image in listed["images"]}
    return read, {image["path"]: image["reason"] for image in listed["passed_over"]}, listed


def by_training(folder: Path) -> tuple[dict, dict]:
    found = walk(folder)
    read, passed_over = {}, {shown(path): reason for path, reason in found.passed_over}
    for path in found.files:
        try:
            pixels = np.asarray(decode_file(path).convert("RGB"))
            read[shown(path)] = hashlib.sha256(pixels.tobytes()).hexdigest()
        except TrainingError as error:
            passed_over[shown(path)] = str(error)
    return read, passed_over


@needs_pixelcnn
def test_both_read_the_same_pixels(model, tmp_path):
    for name, data in good().items():
        (tmp_path / name).write_bytes(data)
    read, passed_over, _ = by_program(model, tmp_path)
    expected, refused = by_training(tmp_path)
    assert refused == {} and passed_over == {}
    assert len(read) == len(good())
    assert {name for name in expected if read.get(name) != expected[name]} == set()


@needs_pixelcnn
def test_both_refuse_the_same_files_for_the_same_reasons(model, tmp_path):
    for name, (data, _) in bad().items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.png").write_bytes(good()["rgb.png"])
    read, passed_over, _ = by_program(model, tmp_path, code=1)
    also_read, refused = by_training(tmp_path)
    assert list(read) == list(also_read) == [str(tmp_path / "good.png")]
    for name, (_, reason) in bad().items():
        path = shown(tmp_path / name)
        assert refused[path].startswith(reason), (name, refused[path])
        assert passed_over[path].startswith(reason), (name, passed_over[path])


@needs_pixelcnn
def test_grey_with_associated_alpha_is_refused_by_both(model, tmp_path):
    """Pillow does not know it."""
    (tmp_path / "a.tiff").write_bytes(with_extra(saved(transparent().convert("LA"), "TIFF"), 1))
    (tmp_path / "good.png").write_bytes(good()["rgb.png"])
    for _, passed_over in (by_program(model, tmp_path, code=1)[:2], by_training(tmp_path)):
        assert list(passed_over) == [str(tmp_path / "a.tiff")]


@needs_pixelcnn
def test_the_comparison_sees_one_level(model, tmp_path):
    (tmp_path / "a.png").write_bytes(saved(picture(), "PNG"))
    other = picture()
    r, g, b = other.getpixel((5, 5))
    other.putpixel((5, 5), (r, g, b ^ 1))
    read, _, _ = by_program(model, tmp_path)
    (tmp_path / "a.png").write_bytes(saved(other, "PNG"))
    assert by_training(tmp_path)[0].keys() == read.keys()
    assert by_training(tmp_path)[0] != read


def lay_out(root: Path) -> Path:
    """A folder like those that people have."""
    folder = root / "pictures"
    data = {name: good()[name] for name in ("rgb.png", "grey.png")}
    for name in (
        "1.png",
        "10.png",
        "2.png",
        "cat/1.png",
        "cat/deep/2.png",
        "cat.d/1.png",
        "x.png/within.png",
        ".hidden.png",
        "._1.png",
        ".git/1.png",
        ".ipynb_checkpoints/1.png",
        "cat/.thumbnails/1.png",
        "__MACOSX/1.png",
        "@eaDir/1.png",
        "cat/#recycle/1.png",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data["rgb.png"])
    for name in ("notes.txt", "Thumbs.db", "cat/images.npz", "png"):
        (folder / name).write_bytes(data["rgb.png"])
    (folder / "empty").mkdir()
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "3.png").write_bytes(data["grey.png"])
    (folder / "linked").symlink_to(elsewhere)
    (folder / "linked.png").symlink_to(elsewhere / "3.png")
    (folder / "twice").symlink_to(folder / "cat")
    (folder / "nowhere").symlink_to("not there")
    (folder / "nowhere.png").symlink_to(root / "not there.png")
    (folder / ".#lock.png").symlink_to("not there")
    (folder / "cat" / "back").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "cat" / "here").symlink_to(".")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    return folder


def sentences(reasons: dict[str, str]) -> dict[str, str]:
    """Without the numbers that Rust gives errors of the system."""
    return {path: reason.partition(" (os error")[0] for path, reason in reasons.items()}


@needs_pixelcnn
def test_both_see_the_same_in_a_folder(model, tmp_path):
    folder = lay_out(tmp_path)
    read, passed_over, listed = by_program(model, folder, code=1)
    expected, refused = by_training(folder)
    assert list(read) == list(expected) and read == expected
    assert sentences(passed_over) == sentences(refused)
    found = walk(folder)
    assert (listed["left_out"]["hidden"], listed["left_out"]["other_files"]) == (found.hidden, found.others)

    names = [str(Path(path).relative_to(folder)) for path in read]
    assert names == [
        "1.png",
        "10.png",
        "2.png",
        "cat/1.png",
        "cat/deep/2.png",
        "cat.d/1.png",
        "linked/3.png",
        "linked.png",
        "twice/1.png",
        "twice/deep/2.png",
        "x.png/within.png",
    ]
    reasons = {str(Path(path).relative_to(folder)): reason for path, reason in sentences(refused).items()}
    assert reasons == {
        "cat/back": f"is a link back to {folder}, in which it lies",
        "cat/here": f"is a link back to {folder / 'cat'}, in which it lies",
        "nowhere": "is a link to not there, which is not there",
        "nowhere.png": f"is a link to {tmp_path / 'not there.png'}, which is not there",
        "pipe.png": "is no ordinary file",
        "self.png": "cannot be read: Too many levels of symbolic links",
        "twice/back": f"is a link back to {folder}, in which it lies",
        "twice/here": f"is a link back to {folder / 'twice'}, in which it lies",
    }
    assert (found.hidden, found.others) == (12, 5)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """To root nothing is forbidden."""
    if os.geteuid() != 0:
        yield
        return
    decode(good()["rgb.png"])  # Pillow loads its parts, which nobody may not
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@needs_pixelcnn
def test_what_may_not_be_read_is_said_by_both(model):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        program = shutil.copy(PIXELCNN, root / "pixelcnn")
        shutil.copyfile(model, root / "m.safetensors")
        folder = root / "pictures"
        (folder / "locked").mkdir(parents=True)
        for file in ("open.png", "locked.png", "locked/1.png"):
            (folder / file).write_bytes(good()["rgb.png"])
        for path in ("locked", "locked.png"):
            (folder / path).chmod(0)
        with as_nobody():
            command = (program, "eval", "-m", root / "m.safetensors", "--list", "--json")
            listed = run(*command, folder)
            locked = run(*command, folder / "locked")
            _, refused = by_training(folder)
            with pytest.raises(TrainingError) as error:
                data_module.load(folder / "locked", data_module.DataOptions(8, False, False, None, None, False))
        (folder / "locked").chmod(0o755)
    denied = "cannot be read: Permission denied"
    expected = {str(folder / path): denied for path in ("locked", "locked.png")}
    passed_over = {image["path"]: image["reason"] for image in json.loads(listed.out)["passed_over"]}
    assert listed.code == 1 and sentences(passed_over) == sentences(refused) == expected
    assert locked.code == 1 and locked.err.startswith(f"error: {folder / 'locked'}: {denied}")
    assert str(error.value) == f"{folder / 'locked'}: {denied}"


# Arrays


def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "x": random.integers(0, 256, (5, 6, 4, 3), np.uint8),
        "x_test": random.integers(0, 256, (3, 4, 8), np.uint8),
        "y_test": np.array([1, 0, 1]),
        "names": np.array(["a"] * 5),
    }


@needs_pixelcnn
def test_arrays_are_read_as_they_are(model, tmp_path):
    made = arrays()
    fortran = np.asfortranarray(made["x"])
    assert not fortran.flags.c_contiguous
    np.savez(tmp_path / "plain.npz", **made)
    np.savez_compressed(tmp_path / "packed.npz", **made)
    np.savez(tmp_path / "fortran.npz", x=fortran)
    np.save(tmp_path / "one.npy", made["x"])
    (tmp_path / "an npy.npz").write_bytes((tmp_path / "one.npy").read_bytes())
    for name, array, image in (
        ("plain.npz", "x", made["x"]),
        ("plain.npz", "x_test", made["x_test"]),
        ("packed.npz", "x", made["x"]),
        ("fortran.npz", None, made["x"]),
        ("one.npy", None, made["x"]),
        ("an npy.npz", None, made["x"]),
    ):
        rgb = image if image.ndim == 4 else np.repeat(image[..., None], 3, axis=-1)
        chosen = () if array is None else ("--array", array)
        read, _, _ = by_program(model, tmp_path / name, *chosen, code=0)
        expected = {
            f"{tmp_path / name}#{i}": hashlib.sha256(one.tobytes()).hexdigest() for i, one in enumerate(rgb)
        }
        assert read == expected, (name, array)


BAD_ARRAYS = {
    "empty.npz": b"",
    "text.npz": b"no zip file",
    "nothing.npz": b"PK\5\6" + bytes(18),
    "header only.npz": b"\x93NUMPY\1\0",
}


@needs_pixelcnn
def test_arrays_that_cannot_be_used_are_refused_by_both(model, tmp_path):
    made = arrays()
    for name, data in BAD_ARRAYS.items():
        (tmp_path / name).write_bytes(data)
    np.savez(tmp_path / "float.npz", x=made["x"] / 255)
    np.savez(tmp_path / "four channels.npz", x=np.zeros((2, 4, 4, 4), np.uint8))
    np.savez(tmp_path / "flat.npz", x=np.zeros((2, 4), np.uint8))
    np.savez(tmp_path / "none.npz", x=made["x"][:0])
    np.savez(tmp_path / "objects.npz", x=np.array([None, 1]))
    np.savez(tmp_path / "labels.npz", x=made["x"], y=np.zeros(4, np.int64))
    np.savez(tmp_path / "negative.npz", x=made["x"], y=np.full(5, -1))
    np.savez(tmp_path / "names.npz", x=made["x"], y=np.zeros(5, np.int64), classes=np.arange(3))
    np.savez(tmp_path / "whole.npz", x=made["x"])
    for percent in (30, 90):
        data = (tmp_path / "whole.npz").read_bytes()
        (tmp_path / f"{percent}.npz").write_bytes(data[: len(data) * percent // 100])
    np.save(tmp_path / "whole.npy", made["x"])
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-1])
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 4, 4), }\n" % 10**15
    (tmp_path / "lying.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    (tmp_path / "dangling.npz").symlink_to("not there.npz")
    (tmp_path / "folder").mkdir()
    options = data_module.DataOptions(None, False, False, None, None, False)
    for path in sorted(tmp_path.iterdir()):
        if path.name.startswith("whole") or path.is_dir():
            continue
        result = run(PIXELCNN, "eval", "-m", model, "--list", path)
        assert result.code == 1 and result.out == "", path
        assert result.err.startswith(f"error: {path}: ") and result.err.count("\n") == 1, result.err
        with pytest.raises(TrainingError) as error:
            data_module.load(path, options)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@needs_pixelcnn
def test_an_array_among_several_has_to_be_named(model, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    said = run(PIXELCNN, "eval", "-m", model, "--list", tmp_path / "a.npz")
    assert said.code == 1 and "several arrays of images: x, x_test (--array names" in said.err
    said = run(PIXELCNN, "eval", "-m", model, "--list", tmp_path / "a.npz", "--array", "names")
    assert said.code == 1 and "expected images in the array names" in said.err
