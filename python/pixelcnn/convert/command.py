"""Convert a published PixelCNN++ checkpoint to a model file.

    pixelcnn convert INPUT -o OUT.safetensors
    uv run scripts/convert.py INPUT -o OUT.safetensors

INPUT is a TensorFlow checkpoint of openai/pixel-cnn (V1: its one file; V2: its prefix, its .index
or its .data), a .pth of pclucas14/pixel-cnn-pp or of a fork that adds the class in a place of its own,
or a safetensors file with the names of either.

The first is the command line of the Python package: pip install 'pixelcnn[convert]' brings what it needs. With the
script, uv does. A TensorFlow checkpoint needs TensorFlow too. A .pth needs no PyTorch, and nothing in it is executed.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from . import ConversionError, console

try:
    import numpy as np

    from .classes.choose import Chosen, choose
    from .classes.fold import class_places
    from .classes.places import Size
    from .classes.units import ARRANGEMENTS, PLACES
    from .files import check_input, prove_writable, write_somewhere
    from .model_file import (
        NONLINEARITIES,
        PROVENANCE,
        describe,
        is_model,
        stored_list,
        told_size,
        write_model,
    )
    from .names import Checkpoint, infer_architecture
    from .network import Architecture
    from .places import refuse_clashes
    from .readers import MissingPackage, Source, files_of, open_source
    from .understand import understand
    from .weights import WEIGHT_TYPES, account, convert_weights
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}: "
        f"pip install numpy safetensors, or in the source tree uv run scripts/convert.py, which brings them"
    )

log = logging.getLogger("pixelcnn")

# Set in the copy of the script that uv runs, which must not start another.
RERUN = "PIXELCNN_CONVERT_RERUN"

# Runs this package alone from its folder: the packages beside it are of another interpreter.
INSTALLED = """\
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("pixelcnn", sys.argv.pop(1))
sys.modules["pixelcnn"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
runpy.run_module("pixelcnn.convert", run_name="__main__", alter_sys=True)
"""


def parse_flags(words: list[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flag = parser.add_argument
    flag("input", type=Path, metavar="INPUT", help="the checkpoint")
    flag("-o", "--output", type=Path, metavar="OUT", required=True, help="the model file to write")
    flag("--raw", action="store_true", help="the raw values instead of their moving averages")
    flag("--height", type=int, help="of the images as trained [default: the input's, or else 32]")
    flag("--width", type=int, help="of the images as trained [default: the input's, or else 32]")
    flag("--classes", type=names, metavar="NAMES", help="comma-separated [default: the input's, or 0,1,…]")
    flag(
        "--class-tensor",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help=f"where a tensor beside the layers adds its class: {', '.join(PLACES)}; "
        f"where that leaves a choice, {', '.join(exact for more in ARRANGEMENTS.values() for exact in more)}",
    )
    flag(
        "--ignore",
        action="append",
        default=[],
        metavar="NAME",
        help="a tensor that the network defines and never uses; * stands for anything",
    )
    flag("--state-dict", metavar="NAME", help="the network to take, where there are several")
    flag("--dtype", choices=WEIGHT_TYPES, default="f32", help="of the weights [default: f32]")
    flag("--nonlinearity", choices=NONLINEARITIES, help="for where the shapes do not tell [default: elu]")
    flag(
        "--dilations",
        type=integers,
        metavar="LIST",
        help="blocks + 1 integers [default: the input's, or 1,1,…]",
    )
    for key in PROVENANCE:
        flag(f"--{key.replace('_', '-')}", metavar="TEXT", help="provenance, kept in the model file")
    return parser.parse_args(words)


def names(text: str) -> list[str]:
    return text.split(",")


def integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def convert(flags: argparse.Namespace) -> None:
    refuse_clashes([("INPUT", path) for path in files_of(flags.input)], [("-o", flags.output)])
    prove_writable(flags.output)
    if flags.output.exists() and flags.output.stat().st_size and not is_model(flags.output):
        raise ConversionError(f"{flags.output}: is there already, and no model file; name another output")
    check_input(flags.input)
    try:
        metadata, tensors, taken = converted(open_source(flags.input), flags)
    except Unfit as error:
        raise ConversionError(f"{flags.input}: {error}") from None
    write_model(flags.output, metadata, tensors, write_somewhere)

    print(f"{flags.input}: {taken[0]}")
    for line in taken[1:]:
        print(f"  {line}")
    print(f"{flags.output}: {sum(tensor.size for tensor in tensors.values()):,} parameters, {flags.dtype}")
    for key, value in metadata.items():
        print(f"  {key}: {value}")
    print(f"sample from it:\n  pixelcnn sample -m {shlex.quote(str(flags.output))}")


class Unfit(ConversionError):
    """A checkpoint that was read, and cannot be converted."""


def converted(
    source: Source, flags: argparse.Namespace
) -> tuple[dict[str, str], dict[str, np.ndarray], list[str]]:
    """Metadata and tensors of the model file, and lines of text about the tensors taken from the checkpoint."""
    try:
        checkpoint = understand(source, flags)
        a, chosen, stored = read_classes(checkpoint, flags)
        metadata = describe(a, flags, stored, class_places(chosen))
        size = Size(int(metadata["height"]), int(metadata["width"]))
        tensors = convert_weights(checkpoint, a, chosen, size, flags.dtype)
    except ConversionError as error:
        raise Unfit(str(error)) from None
    taken = [f"{source.format} of {checkpoint.convention.title}", f"taken: {checkpoint.values}"]
    taken += [f"taken: {choice.says}" for choice in chosen.choices]
    if any(name.endswith("class.weight") and tensor.ndim == 4 for name, tensor in tensors.items()):
        taken.append(f"images of {size.height}×{size.width} alone: what a class adds varies over them")
    return metadata, tensors, taken


def read_classes(c: Checkpoint, flags: argparse.Namespace) -> tuple[Architecture, Chosen, dict[str, str]]:
    """The architecture with its classes, their places, and the metadata with the facts that tensors tell."""
    a, stored = infer_architecture(c), c.source.metadata
    account(c, a)
    names = flags.classes or stored_list("classes", stored)
    chosen = choose(c, a, flags.class_tensor, told_size(a, flags, stored), len(names or ()) or None)
    for note in chosen.notes:
        log.warning("%s", note)
    if chosen.choices:
        a = replace(a, classes=chosen.classes)
    if chosen.size:
        stored = stored | {"height": str(chosen.size.height), "width": str(chosen.size.width)}
    return a, chosen, stored


def rerun_with(package: str) -> int:
    """Run this script once more, with one more package, in an environment that uv makes."""
    uv = shutil.which("uv")
    if uv is None or RERUN in os.environ:
        raise ConversionError(
            f"TensorFlow checkpoints are read with TensorFlow, which is not installed for "
            f"{sys.executable}: pip install {package} (Python 3.10 to 3.13)"
            + ("" if uv else ", or install uv, which will bring it")
        )
    print(f"note: reading with {package}, which uv brings", file=sys.stderr)
    script = Path(__file__).parents[3] / "scripts" / "convert.py"
    if script.is_file():
        what = [str(script)]
    else:
        package_file = str(Path(__file__).parents[1] / "__init__.py")
        what = ["--no-project", "--with", "numpy", "--with", "safetensors", "python", "-c", INSTALLED, package_file]
    command = [uv, "run", "--python", ">=3.10,<3.14", "--with", package, *what, *sys.argv[1:]]
    with subprocess.Popen(command, env={**os.environ, RERUN: "1"}) as process:
        try:
            code = process.wait()
        except console.Stopped:
            process.terminate()  # uv hands it on
            raise
    return code if code >= 0 else 128 - code  # ended by a signal, as shells tell it


class Notes(logging.Handler):
    """Prints the log."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"note: {record.getMessage()}", file=sys.stderr)


def main(program: str | None = None) -> int:
    """Run the command line `sys.argv`; return the exit code. `program` is its name in the help."""
    if not log.handlers:
        log.addHandler(Notes())
        log.propagate = False
    try:
        try:
            convert(parse_flags(program=program))
        except MissingPackage as missing:
            return rerun_with(str(missing))
    except ConversionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
