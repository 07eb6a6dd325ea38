#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["numpy", "safetensors"]
# ///
"""Convert a published PixelCNN++ checkpoint to a model file of pixelcnn.

    uv run scripts/convert.py INPUT -o OUT.safetensors

INPUT is one of
  - a TensorFlow checkpoint of openai/pixel-cnn: the one file of the V1 format, or the prefix,
    the .index or the .data file of the V2 format;
  - a .pth of pclucas14/pixel-cnn-pp, zip or legacy format;
  - a safetensors file with the names of either.

Without uv, numpy and safetensors must be installed, and for TensorFlow checkpoints TensorFlow.
A .pth is read without PyTorch, and nothing in it is executed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open


class ConversionError(Exception):
    """What was wrong, where, what was expected and found, and what to do."""


# ---- The network -------------------------------------------------------------------------------


@dataclass
class Architecture:
    """What names and shapes tell about the network."""

    channels: int
    filters: int
    blocks: int
    levels: int
    output: int
    classes: int
    doubled: bool  # concat_elu doubles the channels, elu and relu do not
    witness: dict[str, str]  # the tensor each of these numbers was read from

    @property
    def mixtures(self) -> int:
        return self.output // (10 if self.channels == 3 else 3)


class Layer(NamedTuple):
    """One row of the table that maps published names to ours."""

    name: str  # ours
    tensorflow: str  # scope in openai/pixel-cnn
    torch: str  # module in pclucas14/pixel-cnn-pp
    kind: str  # conv2d, deconv2d, dense or conditional_weights
    shape: tuple[int, ...]  # ours: [kh, kw, in, out], [in, out] or [classes, out]


def network(a: Architecture) -> Iterator[Layer]:
    """All layers in the order of creation, which is what the published TensorFlow names count."""
    counters: dict[str, Iterator[int]] = defaultdict(itertools.count)
    kernels = {"vertical": (2, 3), "horizontal": (2, 2)}
    streams = {"vertical": "u", "horizontal": "ul"}
    phi = 2 if a.doubled else 1
    f = a.filters

    def layer(kind: str, name: str, torch: str, *shape: int) -> Layer:
        return Layer(name, f"{kind}_{next(counters[kind])}", torch, kind, shape)

    def block(name: str, torch: str, i: int, skips: dict[str, int]) -> Iterator[Layer]:
        for s, kernel in kernels.items():
            ours, theirs = f"{name}.{s}", f"{torch}.{streams[s]}_stream.{i}"
            yield layer("conv2d", f"{ours}.conv_in", f"{theirs}.conv_input.conv", *kernel, phi * f, f)
            if s in skips:
                yield layer("dense", f"{ours}.skip", f"{theirs}.nin_skip.lin_a", skips[s] * phi * f, f)
            yield layer("conv2d", f"{ours}.conv_out", f"{theirs}.conv_out.conv", *kernel, phi * f, 2 * f)
            if a.classes:
                yield layer("conditional_weights", f"{ours}.class", "", a.classes, 2 * f)

    yield layer("conv2d", "input.vertical", "u_init.conv", 2, 3, a.channels + 1, f)
    yield layer("conv2d", "input.above", "ul_init.0.conv", 1, 3, a.channels + 1, f)
    yield layer("conv2d", "input.left", "ul_init.1.conv", 2, 1, a.channels + 1, f)
    for l in range(a.levels):
        for i in range(a.blocks):
            yield from block(f"up.{l}.block.{i}", f"up_layers.{l}", i, {"horizontal": 1})
        if l + 1 < a.levels:
            for s, kernel in kernels.items():
                theirs = f"downsize_{streams[s]}_stream.{l}.conv"
                yield layer("conv2d", f"up.{l}.stride.{s}", theirs, *kernel, f, f)
    for step, l in enumerate(reversed(range(a.levels))):
        for i in range(a.blocks if step == 0 else a.blocks + 1):
            skips = {"vertical": 1, "horizontal": 2}
            yield from block(f"down.{l}.block.{i}", f"down_layers.{step}", i, skips)
        if l > 0:
            for s, kernel in kernels.items():
                theirs = f"upsize_{streams[s]}_stream.{step}.deconv"
                yield layer("deconv2d", f"down.{l}.stride.{s}", theirs, *kernel, f, f)
    yield layer("dense", "output", "nin_out.lin_a", f, a.output)


# ---- How each source names and lays out its tensors ---------------------------------------------


class Layout(NamedTuple):
    axes: tuple[int, ...]  # their tensor is ours.transpose(axes)
    gain: int  # our axis that the weight norm keeps; it sums over all others


@dataclass(frozen=True)
class Convention:
    title: str
    column: str  # of the table
    first: str  # scope of the first layer
    example: str
    layouts: dict[str, Layout]


TENSORFLOW = Convention(
    "openai/pixel-cnn (TensorFlow)",
    "tensorflow",
    "conv2d_0",
    "model/conv2d_0/V",
    {
        "conv2d": Layout((0, 1, 2, 3), 3),
        "deconv2d": Layout((0, 1, 3, 2), 3),
        "dense": Layout((0, 1), 1),
    },
)
# PyTorch's weight norm runs over dim 0, which is the INPUT of a ConvTranspose2d.
TORCH = Convention(
    "pclucas14/pixel-cnn-pp (PyTorch)",
    "torch",
    "u_init.conv",
    "u_init.conv.weight_v",
    {
        "conv2d": Layout((3, 2, 0, 1), 3),
        "deconv2d": Layout((2, 3, 0, 1), 2),
        "dense": Layout((1, 0), 1),
    },
)

AVERAGE = "/ExponentialMovingAverage"
TENSORFLOW_NAME = re.compile(r"model/(\w+)/(V|g|b|hw)")
# Optimizer slots and counters: tf.train's Adam, and the reference code's own, whose slots are
# anonymous variables.
TENSORFLOW_IGNORED = re.compile(
    r"(.*/)?(Adam(_\d+)?|adam_t(_\d+)?|Variable(_\d+)?|beta[12]_power(_\d+)?|global_step)"
)
TORCH_NAME = re.compile(r"(?:module\.)?(.+)\.(.+)")
TORCH_PARTS = {
    "weight_v": "V",
    "weight_g": "g",
    "bias": "b",
    "parametrizations.weight.original1": "V",
    "parametrizations.weight.original0": "g",
}


# ---- Readers --------------------------------------------------------------------------------------


@dataclass
class Source:
    """A file's tensors, read one by one."""

    kind: str
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    metadata: dict[str, str] = field(default_factory=dict)


def read_safetensors(path: Path) -> Source:
    try:
        file = safe_open(path, framework="numpy")
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ConversionError(f"{path}: not a whole safetensors file: {error}") from None
    return Source("safetensors", shapes, file.get_tensor, file.metadata() or {})


def open_input(path: Path) -> Source:
    """Find out the format by content."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(16)
        if head[8:9] == b"{":
            return read_safetensors(path)
    raise ConversionError(f"{path}: unknown format")


# ---- From names and shapes to the architecture ----------------------------------------------------


@dataclass
class Checkpoint:
    """A source whose names are understood: (scope, part) to the tensor's name."""

    source: Source
    convention: Convention
    tensors: dict[tuple[str, str], str]
    ignored: int
    values: str

    def shape(self, scope: str, part: str) -> tuple[int, ...] | None:
        name = self.tensors.get((scope, part))
        return None if name is None else self.source.shapes[name]

    def count(self, pattern: str) -> int:
        """One more than the largest number that the group of `pattern` takes among the scopes."""
        matches = (re.fullmatch(pattern, scope) for scope, _ in self.tensors)
        return max((int(m[1]) + 1 for m in matches if m), default=0)


def first_names(names: list[str], limit: int = 5) -> str:
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def understand_names(source: Source, raw: bool) -> Checkpoint:
    names = list(source.shapes)
    if any(TENSORFLOW_NAME.fullmatch(name.removesuffix(AVERAGE)) for name in names):
        averaged = [name for name in names if name.endswith(AVERAGE)]
        suffix = AVERAGE if averaged and not raw else ""
        tensors, foreign, ignored = {}, [], 0
        for name in names:
            match = TENSORFLOW_NAME.fullmatch(name.removesuffix(AVERAGE))
            if match and name.endswith(AVERAGE) == bool(suffix):
                tensors[match[1], match[2]] = name
            elif match or TENSORFLOW_IGNORED.fullmatch(name):
                ignored += 1
            else:
                foreign.append(name)
        values = (
            "the exponential moving averages" if suffix
            else "the raw values (--raw)" if averaged
            else "the only values in the file"
        )
        convention = TENSORFLOW
    else:
        tensors, foreign, ignored = {}, [], 0
        for name in names:
            stem = name.removeprefix("module.")
            part = next((p for p in TORCH_PARTS if stem.endswith("." + p)), None)
            if part is None:
                foreign.append(name)
                continue
            key = stem.removesuffix("." + part), TORCH_PARTS[part]
            if key in tensors:
                raise ConversionError(f"two tensors for one place: {tensors[key]} and {name}")
            tensors[key] = name
        values, convention = "the only values in the file", TORCH
    if (convention.first, "V") not in tensors:
        expected = " or ".join(f"{c.example} … ({c.title})" for c in (TENSORFLOW, TORCH))
        raise ConversionError(
            f"not a PixelCNN++ checkpoint that this script knows.\n"
            f"  expected names: {expected}\n"
            f"  found: {first_names(sorted(names)) or 'no tensor at all'}"
        )
    if foreign:
        raise ConversionError(
            f"{len(foreign)} tensors that no PixelCNN++ of {convention.title} has: "
            f"{first_names(sorted(foreign))}"
        )
    return Checkpoint(source, convention, tensors, ignored, values)


def ours(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...] | None:
    """The shape in our order of axes."""
    if len(shape) != len(layout.axes):
        return None
    return tuple(shape[layout.axes.index(axis)] for axis in range(len(shape)))


def theirs(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in layout.axes)


def infer_architecture(c: Checkpoint) -> Architecture:
    if c.convention is TENSORFLOW:
        levels = math.ceil(c.count(r"deconv2d_(\d+)") / 2) + 1
        convs = c.count(r"conv2d_(\d+)")
        # 3 input convs, 2(levels − 1) strided ones, and 4 in each of the R·L blocks up and the
        # R·L + L − 1 blocks down.
        blocks = max(1, round((convs - 3 - 6 * (levels - 1)) / (8 * levels)))
        dense = c.count(r"dense_(\d+)")
        block, output = "conv2d_3", f"dense_{dense - 1}"
    else:
        levels = c.count(r"up_layers\.(\d+)\..*")
        blocks = c.count(r"up_layers\.0\.u_stream\.(\d+)\..*")
        block, output = "up_layers.0.u_stream.0.conv_input.conv", "nin_out.lin_a"

    witness = {}

    def dimension(what: str, kind: str, scope: str, axis: int) -> int:
        name = c.tensors.get((scope, "V"))
        if name is None:
            raise ConversionError(f"no tensor for {scope}, which tells the number of {what}")
        witness[what] = name
        shape = ours(c.source.shapes[name], c.convention.layouts[kind])
        if shape is None:
            raise ConversionError(
                f"{name} has shape {list(c.source.shapes[name])}, "
                f"expected {len(c.convention.layouts[kind].axes)} dimensions"
            )
        return shape[axis]

    first = c.convention.first
    filters = dimension("filters", "conv2d", first, 3)
    channels = dimension("channels", "conv2d", first, 2) - 1
    inputs = dimension("block inputs", "conv2d", block, 2)
    outputs = dimension("outputs", "dense", output, 1)
    classes = 0
    if ("conditional_weights_0", "hw") in c.tensors:
        witness["classes"] = c.tensors["conditional_weights_0", "hw"]
        classes = c.shape("conditional_weights_0", "hw")[0]

    if channels not in (1, 3):
        raise ConversionError(
            f"{witness['channels']} has shape {list(c.shape(first, 'V'))}: {channels} channels "
            f"and one of ones; expected 1 or 3 channels"
        )
    if inputs not in (filters, 2 * filters):
        raise ConversionError(
            f"{witness['filters']} has {filters} filters, but {witness['block inputs']} takes "
            f"{inputs} inputs; expected {filters} (elu, relu) or {2 * filters} (concat_elu)"
        )
    per_mixture = 10 if channels == 3 else 3
    if outputs == 0 or outputs % per_mixture:
        raise ConversionError(
            f"{witness['outputs']} has {outputs} outputs, expected a multiple of {per_mixture} "
            f"({per_mixture} numbers a mixture component for {channels} channels)"
        )
    return Architecture(
        channels, filters, blocks, levels, outputs, classes, inputs == 2 * filters, witness
    )


# ---- From their tensors to ours -------------------------------------------------------------------


def account(c: Checkpoint, a: Architecture) -> list[Layer]:
    """Every tensor has one place, every place has its tensor, and all shapes agree."""
    layers = list(network(a))
    scope_of = lambda layer: getattr(layer, c.convention.column)
    expected: dict[tuple[str, str], tuple[int, ...]] = {}
    for layer in layers:
        scope = scope_of(layer)
        if layer.kind == "conditional_weights":
            expected[scope, "hw"] = layer.shape
            continue
        layout = c.convention.layouts[layer.kind]
        gain = layer.shape[layout.gain]
        trailing = len(layer.shape) - 1 if c.convention is TORCH else 0
        expected[scope, "V"] = theirs(layer.shape, layout)
        expected[scope, "g"] = (gain,) + (1,) * trailing
        expected[scope, "b"] = (layer.shape[-1],)

    what = (
        f"{a.levels} levels of {a.blocks} blocks, {a.filters} filters"
        f"{f', {a.classes} classes' if a.classes else ''}"
    )
    missing = [".".join(key) for key in expected if key not in c.tensors]
    extra = [name for key, name in c.tensors.items() if key not in expected]
    if missing or extra:
        found = [f"missing: {first_names(missing)}"] if missing else []
        found += [f"without a place: {first_names(sorted(extra))}"] if extra else []
        raise ConversionError(f"not the tensors of a network of {what}\n  " + "\n  ".join(found))
    for key, shape in expected.items():
        found = c.shape(*key)
        if found != shape:
            raise ConversionError(
                f"{c.tensors[key]} has shape {list(found)}, expected {list(shape)}: "
                f"{c.tensors[scope_of(layers[0]), 'V']} says {a.filters} filters"
            )
    return layers


def fold(v: np.ndarray, g: np.ndarray, layout: Layout, name: str) -> np.ndarray:
    """Weight normalisation, W = g·V/‖V‖, in our layout and in float64."""
    v = np.transpose(v, np.argsort(layout.axes)).astype(np.float64)
    others = tuple(axis for axis in range(v.ndim) if axis != layout.gain)
    norm = np.sqrt(np.square(v).sum(axis=others, keepdims=True))
    if not norm.all():
        index = int(np.flatnonzero(norm.ravel() == 0)[0])
        raise ConversionError(f"{name}: the norm of row {index} is zero, so no weight can be made of it")
    gain = g.astype(np.float64).reshape(norm.shape)
    return v * (gain / norm)


def convert_tensors(c: Checkpoint, a: Architecture, dtype: str) -> dict[str, np.ndarray]:
    weight_type = np.dtype({"f32": "<f4", "f16": "<f2"}[dtype])

    def checked(array: np.ndarray, to: np.dtype, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(array, dtype=to)
        if not np.isfinite(result).all():
            cause = "holds NaN or Inf" if not np.isfinite(array).all() else f"overflows {to.name}"
            raise ConversionError(f"{name}: {cause}")
        return result

    def read(scope: str, part: str) -> np.ndarray:
        name = c.tensors[scope, part]
        array = c.source.read(name)
        if not np.isfinite(array).all():
            raise ConversionError(f"{name}: holds NaN or Inf")
        return array

    result = {}
    for layer in account(c, a):
        scope = getattr(layer, c.convention.column)
        if layer.kind == "conditional_weights":
            result[f"{layer.name}.weight"] = checked(
                read(scope, "hw"), weight_type, c.tensors[scope, "hw"]
            )
            continue
        name = c.tensors[scope, "V"]
        layout = c.convention.layouts[layer.kind]
        weight = fold(read(scope, "V"), read(scope, "g"), layout, name)
        result[f"{layer.name}.weight"] = checked(weight, weight_type, name)
        result[f"{layer.name}.bias"] = checked(
            read(scope, "b"), np.dtype("<f4"), c.tensors[scope, "b"]
        )
    return result


# ---- Metadata and writing -------------------------------------------------------------------------

PROVENANCE = ("source", "data", "steps", "bits_per_dim", "license")


def note(message: str) -> None:
    print(f"note: {message}", file=sys.stderr)


def describe(a: Architecture, given: argparse.Namespace, stored: dict[str, str]) -> dict[str, str]:
    """The model file's metadata. A flag wins over what the input's own metadata says."""

    def choose(key: str, default: Any, why: str) -> Any:
        if getattr(given, key) is not None:
            return getattr(given, key)
        if key in stored:
            return stored[key]
        note(f"{key} is not in the file: taken to be {default} ({why})")
        return default

    height = int(choose("height", 32, "--height sets it"))
    width = int(choose("width", 32, "--width sets it"))
    multiple = 2 ** (a.levels - 1)
    if min(height, width) <= 0 or height % multiple or width % multiple:
        raise ConversionError(
            f"size {width}x{height}: width and height must be positive multiples of {multiple}, "
            f"since the network has {a.levels} levels"
        )

    if a.doubled:
        nonlinearity = given.nonlinearity or stored.get("nonlinearity", "concat_elu")
    else:
        nonlinearity = choose("nonlinearity", "elu", "shapes do not tell elu from relu; --nonlinearity sets it")
    if (nonlinearity == "concat_elu") != a.doubled or nonlinearity not in NONLINEARITIES:
        raise ConversionError(
            f"nonlinearity {nonlinearity}: the shapes say "
            f"{'concat_elu' if a.doubled else 'elu or relu'}"
        )

    dilations = given.dilations or json.loads(stored.get("dilations", "null")) or [1] * (a.blocks + 1)
    if len(dilations) != a.blocks + 1 or not all(isinstance(d, int) and d > 0 for d in dilations):
        raise ConversionError(
            f"dilations {dilations}: expected {a.blocks + 1} positive integers, "
            f"one more than the {a.blocks} blocks of a level"
        )

    classes = given.classes or json.loads(stored.get("classes", "null"))
    if classes is None:
        classes = [str(k) for k in range(a.classes)]
    if len(classes) != a.classes or len(set(classes)) != len(classes):
        raise ConversionError(
            f"{len(classes)} class names ({first_names(classes)}), expected {a.classes} different ones"
        )

    metadata = {
        "format": "pixelcnn-1",
        "family": "pixelcnn++",
        "channels": a.channels,
        "height": height,
        "width": width,
        "filters": a.filters,
        "blocks": a.blocks,
        "levels": a.levels,
        "mixtures": a.mixtures,
        "nonlinearity": nonlinearity,
        "dilations": json.dumps(dilations),
        "classes": json.dumps(classes, ensure_ascii=False),
    }
    for key in PROVENANCE:
        value = getattr(given, key) or stored.get(key)
        if value:
            metadata[key] = value
    return {key: str(value) for key, value in metadata.items()}


def write_model(path: Path, metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> None:
    """Write under a temporary name, then rename.

    The safetensors package orders metadata at random; here equal models are equal files, so that
    a hash names a model.
    """
    names = {"<f4": "F32", "<f2": "F16"}
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)  # keeps f32 aligned
    header: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, array in ordered:
        header[name] = {
            "dtype": names[array.dtype.str],
            "shape": array.shape,
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, array in ordered:
                file.write(array.data)
        os.replace(temporary, path)
    except OSError as error:
        raise ConversionError(f"cannot write {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


# ---- Command line ---------------------------------------------------------------------------------

NONLINEARITIES = ("concat_elu", "elu", "relu")


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="the checkpoint")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="the model file to write")
    add("--raw", action="store_true", help="take the raw values, not their moving averages")
    add("--height", type=int, help="image height as trained [default: the file's, or 32]")
    add("--width", type=int, help="image width as trained [default: the file's, or 32]")
    add("--nonlinearity", choices=NONLINEARITIES, help="where shapes do not tell [default: elu]")
    add("--dilations", type=integers, metavar="LIST", help="blocks + 1 integers [default: all 1]")
    add("--classes", type=lambda text: text.split(","), metavar="NAMES", help="class names, comma-separated [default: 0,1,…]")
    add("--dtype", choices=("f32", "f16"), default="f32", help="type of the weights [default: f32]")
    for key in PROVENANCE:
        add(f"--{key.replace('_', '-')}", metavar="TEXT", help="provenance, written into the file")
    return parser.parse_args()


def convert(given: argparse.Namespace) -> None:
    source = open_input(given.input)
    checkpoint = understand_names(source, given.raw)
    architecture = infer_architecture(checkpoint)
    tensors = convert_tensors(checkpoint, architecture, given.dtype)
    metadata = describe(architecture, given, source.metadata)
    write_model(given.output, metadata, tensors)

    a, m = architecture, metadata
    print(f"{given.input}: {source.kind}, names of {checkpoint.convention.title}, {checkpoint.values}")
    print(
        f"{given.output}: {m['width']}x{m['height']}, {a.channels} channels, {a.filters} filters, "
        f"{a.levels} levels of {a.blocks} blocks, {a.mixtures} mixtures, {m['nonlinearity']}, "
        f"{f'{a.classes} classes' if a.classes else 'unconditional'}, "
        f"{sum(t.size for t in tensors.values()):,} parameters, {given.dtype}"
    )
    print(f"sample from it: pixelcnn sample -m {shlex.quote(str(given.output))}")


def main() -> int:
    try:
        convert(parse_arguments())
    except ConversionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
