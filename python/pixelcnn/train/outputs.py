"""Output files of a run, tested before it begins: nothing of another run is replaced, nothing fails at the end."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ..convert import ConversionError
from ..convert.files import prove_room, prove_writable
from ..convert.places import is_within, refuse_clashes

from . import TrainingError, checkpoint, pictures
from .walk import walk


def checkpoint_path(flags: argparse.Namespace) -> Path:
    return flags.output.with_suffix(".ckpt")


def log_path(flags: argparse.Namespace) -> Path:
    return flags.output.with_suffix(".csv")


def check_outputs(flags: argparse.Namespace) -> None:
    """Checks before anything is read."""
    if flags.output.suffix != ".safetensors":
        raise TrainingError(f"{flags.output}: expected a name that ends in .safetensors")
    paths = [checkpoint_path(flags), flags.output, log_path(flags)]
    paths += [pictures.plot_path(log_path(flags))] if flags.plot else []
    goes_on = flags.resume is not None and same(flags.resume, paths[0])
    if not goes_on and not flags.overwrite:
        for path in paths:
            refuse_to_replace(path)
    for path in paths:
        prove_writable(path)
    if flags.held_out_to:
        check_folder("--held-out-to", flags.held_out_to, flags.overwrite or goes_on)
    if flags.samples:
        pictures.find_program()
        check_folder("--samples", flags.samples, flags.overwrite or goes_on)
    if flags.plot:
        pictures.require_matplotlib()
    check_places(flags, paths, goes_on)


def check_places(flags: argparse.Namespace, paths: list[Path], goes_on: bool) -> None:
    """No output is a file that is read, or another output, nor does it lie among the images."""
    read = [("--init", flags.init)] if flags.init else []
    if flags.resume and not goes_on:
        read.append(("--resume", flags.resume))
    is_folder = flags.data.is_dir()
    read += [("DATA", path) for path in (walk(flags.data).files if is_folder else [flags.data])]
    names = ("the checkpoint", "-o", "the log", "--plot")
    folders = [("--held-out-to", flags.held_out_to), ("--samples", flags.samples)]
    folders = [(flag, folder) for flag, folder in folders if folder]
    try:
        refuse_clashes(read, [*zip(names, paths), *folders])
    except ConversionError as error:
        raise TrainingError(str(error)) from None
    for flag, path in [*zip(names[3:], paths[3:]), *folders]:
        if is_folder and is_within(path, flags.data):
            raise TrainingError(f"{flag} {path}: lies among the images of {flags.data}; name another place")


def same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def refuse_to_replace(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    there = "a file of that name"
    if path.suffix == ".ckpt":
        try:
            state, _ = checkpoint.read(path)
            there = f"the checkpoint of another run, at step {state['step']} (to go on from it: --resume {shlex.quote(str(path))}),"
        except (TrainingError, KeyError, TypeError):
            pass
    raise TrainingError(f"{path}: {there} is there already; name another output, or replace it with --overwrite")


def check_folder(flag: str, folder: Path, may_replace: bool) -> None:
    if not folder.exists():
        return  # it is made once there are images for it, which is early enough
    if not folder.is_dir():
        raise TrainingError(f"{flag} {folder}: is a file; name a folder")
    if not may_replace and any(folder.iterdir()):
        raise TrainingError(
            f"{flag} {folder}: holds files already, which new ones would be mixed with; name another "
            f"folder, or replace them with --overwrite"
        )
    prove_writable(folder / "00000.png")


def check_room(flags: argparse.Namespace, values: int) -> None:
    """For a checkpoint beside the one before, and the model: a checkpoint holds each value four times."""
    path = checkpoint_path(flags)
    there = path.stat().st_size if path.exists() else 0
    size = 16 * values
    try:
        prove_room(path, [size, *([size] if there < size else []), 4 * values])
    except ConversionError as error:
        raise TrainingError(f"{error} (two checkpoints and the model)") from None
