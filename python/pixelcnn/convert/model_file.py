"""Our model file: its metadata, and how it is written."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import ConversionError, listing
from .console import escaped
from .files import write_whole
from .network import Architecture

log = logging.getLogger("pixelcnn")

NONLINEARITIES = ("concat_elu", "elu", "relu")
DEFAULT_SIDE = 32  # of images, where nothing tells it
PROVENANCE = ("source", "data", "steps", "bits_per_dim", "license")
DTYPES = {"<f4": "F32", "<f2": "F16"}
# Limits of the program, which reads the same file.
LIMITS: dict[str, int] = json.loads(Path(__file__).with_name("limits.json").read_text())


def describe(
    a: Architecture, flags: argparse.Namespace, stored: dict[str, str], places: list[str]
) -> dict[str, str]:
    """The metadata. Names and shapes decide first, then flags, then the input's own metadata; a default is printed.
    `places` are those of the classes, if they differ from the published one."""
    for key, inferred in {
        "channels": a.channels,
        "nr_filters": a.filters,
        "nr_resnet": a.blocks,
        "nr_logistic_mix": a.mixtures,
        "nr_classes": a.classes,
        "levels": a.levels,
    }.items():
        if stored.get(key, str(inferred)) != str(inferred):
            raise ConversionError(f"{key} is {stored[key]} by the metadata, {inferred} by the shapes")

    metadata = {
        "format": "pixelcnn-1",
        "family": "pixelcnn++",
        "channels": a.channels,
        **image_size(a, flags, stored),
        # The program does not resize images to such a size.
        **({"size_is_assumed": "yes"} if size_is_assumed(flags, stored) else {}),
        "filters": a.filters,
        "blocks": a.blocks,
        "levels": a.levels,
        "mixtures": a.mixtures,
        "nonlinearity": nonlinearity(a, flags, stored),
        "dilations": json.dumps(dilations(a, flags, stored)),
        "classes": json.dumps(class_names(a, flags, stored), ensure_ascii=False),
        **({"class_places": json.dumps(places)} if places else {}),
    }
    if problem := beyond_limits({**metadata, "dilations": dilations(a, flags, stored)}):
        raise ConversionError(problem)
    for key in PROVENANCE:
        if value := getattr(flags, key) or stored.get(key):
            metadata[key] = value
    return {key: str(value) for key, value in metadata.items()}


def beyond_limits(architecture: dict[str, Any]) -> str | None:
    """Names the part of an architecture, as far as it is given, that the program would refuse."""
    for key, most in LIMITS.items():
        value = architecture.get(key, 1)
        numbers = value if isinstance(value, list) else [value]
        if not all(isinstance(number, int) and 1 <= number <= most for number in numbers):
            return f"{key} {','.join(map(str, numbers))}: the program takes whole numbers from 1 to {most}"
    return None


def choose(key: str, flags: argparse.Namespace, stored: dict[str, str], default: Any) -> Any:
    if getattr(flags, key) is not None:
        return getattr(flags, key)
    if key in stored:
        return stored[key]
    log.warning("the input does not tell its %s; %s is assumed (--%s)", key, default, key)
    return default


def told_size(a: Architecture, flags: argparse.Namespace, stored: dict[str, str]) -> dict[str, int]:
    """Height and width, if flags or the input's metadata tell them."""
    told = {}
    for key in ("height", "width"):
        value = getattr(flags, key) if getattr(flags, key) is not None else stored.get(key)
        if value is not None:
            told[key] = side(key, str(value), a)
    return told


def image_size(a: Architecture, flags: argparse.Namespace, stored: dict[str, str]) -> dict[str, int]:
    return {key: side(key, str(choose(key, flags, stored, DEFAULT_SIDE)), a) for key in ("height", "width")}


def size_is_assumed(flags: argparse.Namespace, stored: dict[str, str]) -> bool:
    return any(getattr(flags, key) is None and key not in stored for key in ("height", "width"))


def side(key: str, value: str, a: Architecture) -> int:
    multiple = 2 ** (a.levels - 1)
    if not value.isdecimal() or int(value) == 0 or int(value) % multiple:
        raise ConversionError(
            f"{key} {value}: expected a positive multiple of {multiple}, for {a.levels} levels"
        )
    return int(value)


def nonlinearity(a: Architecture, flags: argparse.Namespace, stored: dict[str, str]) -> str:
    expected = NONLINEARITIES[:1] if a.doubles else NONLINEARITIES[1:]
    if a.doubles:
        chosen = flags.nonlinearity or stored.get("nonlinearity", "concat_elu")
    else:
        chosen = choose("nonlinearity", flags, stored, "elu")
    if chosen not in expected:
        raise ConversionError(f"nonlinearity {chosen}: the shapes tell {' or '.join(expected)}")
    return chosen


def dilations(a: Architecture, flags: argparse.Namespace, stored: dict[str, str]) -> list[int]:
    chosen = flags.dilations or stored_list("dilations", stored) or [1] * (a.blocks + 1)
    if len(chosen) != a.blocks + 1 or not all(type(d) is int and d > 0 for d in chosen):
        raise ConversionError(
            f"dilations {chosen}: expected {a.blocks + 1} positive integers, one a block of the down pass"
        )
    return chosen


def class_names(a: Architecture, flags: argparse.Namespace, stored: dict[str, str]) -> list[str]:
    names = flags.classes or stored_list("classes", stored) or [str(k) for k in range(a.classes)]
    if len(names) != a.classes or len({str(name) for name in names}) != a.classes:
        raise ConversionError(
            f"classes: expected {a.classes} different names, found {len(names)}: "
            f"{listing([str(name) for name in names])}"
        )
    return [escaped(str(name)) for name in names]


def stored_list(key: str, stored: dict[str, str]) -> list[Any] | None:
    try:
        value = json.loads(stored.get(key, "null"))
    except json.JSONDecodeError:
        value = stored[key]
    if value is not None and not isinstance(value, list):
        raise ConversionError(f"{key} is {stored[key]!r} in the metadata, expected a JSON list")
    return value


def write_model(
    path: Path,
    metadata: dict[str, str],
    tensors: dict[str, np.ndarray],
    put: Callable[[Path, Callable[[BinaryIO], None]], None] = write_whole,
) -> None:
    """A file of ours, put where it belongs by one of the functions of files.py.

    Not through safetensors' own writer: it puts metadata in a random order, and here the same model
    is the same file, whose hash names it.
    """
    header: dict[str, Any] = {"__metadata__": {key: escaped(text) for key, text in metadata.items()}}
    # Wider types first keeps all of them aligned, as the format asks.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    offset = 0
    for name, tensor in ordered:
        header[name] = {
            "dtype": DTYPES[tensor.dtype.str],
            "shape": tensor.shape,
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def write(file: BinaryIO) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.data)

    put(path, write)


def is_model(path: Path) -> bool:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return b'"pixelcnn-1"' in file.read(min(length, 1 << 24))
