"""Open a checkpoint, whatever its format, as named tensors that are read one by one."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open

from . import ConversionError, listing
from .pth import read_pth

# Parts of names that networks of other kinds have, and PixelCNN++ as published has not.
OTHER_NETWORKS = {
    r"(^|[./])(conv_)?(vert|horiz)(ical|ontal)?(?![a-z])|[vh]stack": "a gated PixelCNN",
    r"(^|[./_])mask(ed)?(?![a-z])": "a PixelCNN of masked convolutions",
    r"(^|\.)layers\.\d+\.": "a network of plain layers",
}


def another_network(names: Iterable[str]) -> str | None:
    """The other network that names tell, if any; none of the names may be of a PixelCNN++."""
    names = list(names)
    if any("u_init" in name or re.match(r"model/\w+_\d+/(V|g|b|hw)\b", name) for name in names):
        return None
    for pattern, network in OTHER_NETWORKS.items():
        if any(re.search(pattern, name) for name in names):
            return network
    return None


# The last bytes of a TensorFlow table: all of a V1 checkpoint, the .index of a V2 one.
TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


class MissingPackage(Exception):
    """The Python package that reads this format is not installed."""


@dataclass(frozen=True)
class Source:
    format: str
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)
    # Holders of tensors without names, in words.
    left_out: list[str] = field(default_factory=list)


# Endings of the files of a V2 checkpoint.
PARTS = r"\.(index|meta|data-\d+-of-\d+)$"


def files_of(path: Path) -> list[Path]:
    """The files that are read of a checkpoint, as far as they are there."""
    prefix = re.sub(PARTS, "", path.name)
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    parts = [file for file in beside if file.name != prefix and re.sub(PARTS, "", file.name) == prefix]
    return [path] * path.exists() + parts


def open_source(path: Path) -> Source:
    """Find out the format by content; only the .data part of a V2 checkpoint has no mark in it."""
    prefix = re.sub(PARTS, "", str(path))
    if prefix != str(path) or not path.exists():
        if os.path.isfile(f"{prefix}.index"):
            return open_tensorflow(Path(prefix), "V2")
        if path.exists() or os.path.exists(f"{prefix}.data-00000-of-00001"):
            raise ConversionError(
                f"{path}: {prefix}.index is missing; a V2 checkpoint is an .index and its .data "
                f"files, side by side"
            )
        raise ConversionError(f"{path}: no such file, nor a checkpoint {prefix}.index")
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir())
        raise ConversionError(
            f"{path}: a folder; name the checkpoint in it (found: {listing(inside) or 'nothing'})"
        )

    with path.open("rb") as file:
        head = file.read(9)
        file.seek(max(0, path.stat().st_size - len(TABLE_MAGIC)))
        tail = file.read()
    if tail == TABLE_MAGIC:
        return open_tensorflow(path, "V1")
    if head[8:] == b"{":
        return open_safetensors(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return open_pth(path)
    if other := other_format(head):
        raise ConversionError(f"{path}: {other}; expected a TensorFlow checkpoint, a .pth or a safetensors file")
    raise ConversionError(
        f"{path}: neither a TensorFlow checkpoint, nor a .pth, nor a safetensors file; "
        f"if it should be one, it is truncated or damaged"
    )


def other_format(head: bytes) -> str | None:
    """The kind of a file by its first bytes, if it is a kind that is not read."""
    # A map of msgpack, whose first key is a text.
    key = {0xDE: 3, 0xDF: 5}.get(head[0], 1) if head else 0
    if head[:1] > b"\x80" and head[0] in (*range(0x81, 0x90), 0xDE, 0xDF) and 0xA0 <= head[key] <= 0xDB:
        return "a msgpack file, as Flax writes it"
    return next((what for start, what in OTHERS.items() if head.startswith(start)), None)


OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x93NUMPY": "an array of NumPy",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"GGUF": "a GGUF file",
}


@contextlib.contextmanager
def reading(path: Path, format: str) -> Iterator[None]:
    """Says which file an error is about. A damaged file can raise almost anything in a reader."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    except Exception as error:
        first_line = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConversionError(f"{path}: not a whole {format}: {first_line}") from None


def guarded(path: Path, format: str, read: Callable[[str], np.ndarray]) -> Callable[[str], np.ndarray]:
    def guarded_read(name: str) -> np.ndarray:
        with reading(path, format):
            return read(name)

    return guarded_read


def open_safetensors(path: Path) -> Source:
    format = "safetensors file"
    with reading(path, format):
        file = safe_open(path, framework="numpy")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        metadata = file.metadata() or {}
        if metadata.get("format", "").startswith("pixelcnn-"):
            raise ConversionError("a model file of pixelcnn already; there is nothing to convert")
    return Source(format, shapes, guarded(path, format, file.get_tensor), metadata)


def open_pth(path: Path) -> Source:
    format = "PyTorch state dict"
    with reading(path, format):
        left_out: list[str] = []
        tensors = read_pth(path, left_out)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    read = guarded(path, format, lambda name: tensors[name].read())
    return Source(format, shapes, read, left_out=left_out)


def open_tensorflow(path: Path, version: str) -> Source:
    format = f"TensorFlow checkpoint ({version})"
    names = names_in_table(path if version == "V1" else Path(f"{path}.index"))
    if other := another_network(names):
        raise ConversionError(f"{path}: a TensorFlow checkpoint of {other}, not of a PixelCNN++: found {listing(sorted(names))}")
    # TensorFlow greets with a page of advice unless it is told not to before it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        from tensorflow import train
    except ImportError:
        # tensorflow-cpu leaves out the GPU kernels, but is not built for every machine.
        slim = platform.machine() in ("x86_64", "AMD64") and platform.system() != "Darwin"
        raise MissingPackage("tensorflow-cpu" if slim else "tensorflow") from None
    with reading(path, format):
        checkpoint = train.load_checkpoint(str(path))
        shapes = {k: tuple(v) for k, v in checkpoint.get_variable_to_shape_map().items()}
    return Source(format, shapes, guarded(path, format, checkpoint.get_tensor))


def names_in_table(path: Path) -> set[str]:
    """The names of a TensorFlow checkpoint, without TensorFlow: it is a sorted table as LevelDB writes it. In V2 they
    are its keys; V1 has them in the value of the first key, which is empty. None of a table that is compressed or
    damaged."""

    def varint(data: bytes, at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value, at

    def block(offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
        if offset + size >= len(table) or table[offset + size]:
            return
        data = table[offset : offset + size]
        end = len(data) - 4 - 4 * int.from_bytes(data[-4:], "little")
        key, at = b"", 0
        while at < end:
            shared, at = varint(data, at)
            more, at = varint(data, at)
            length, at = varint(data, at)
            key = key[:shared] + data[at : at + more]
            yield key, data[at + more : at + more + length]
            at += more + length

    def handle(data: bytes, at: int = 0) -> tuple[int, int, int]:
        offset, at = varint(data, at)
        size, at = varint(data, at)
        return offset, size, at

    names: set[str] = set()
    try:
        table = path.read_bytes()
        footer = table[-48:]
        index = handle(footer, handle(footer)[2])
        for _, value in block(*index[:2]):
            for key, content in block(*handle(value)[:2]):
                found = [key] if key else re.findall(rb"[\w./-]{3,}", content)
                names.update(name.decode() for name in found if re.fullmatch(rb"[\w./-]+", name))
    except (OSError, IndexError):
        return set()
    return names
