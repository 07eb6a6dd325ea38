"""Open a checkpoint, whatever its format, as named tensors that are read one by one."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open

from . import ConversionError, listing
from .pth import read_pth

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


# How the names of a V2 checkpoint's files end.
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
    raise ConversionError(
        f"{path}: neither a TensorFlow checkpoint, nor a .pth, nor a safetensors file; "
        f"if it should be one, it is truncated or damaged"
    )


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
        tensors = read_pth(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return Source(format, shapes, guarded(path, format, lambda name: tensors[name].read()))


def open_tensorflow(path: Path, version: str) -> Source:
    format = f"TensorFlow checkpoint ({version})"
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
