"""The settings of a run: flags, what a checkpoint or a model says, defaults."""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from pixelcnn.convert.console import escaped
from pixelcnn.convert.model_file import LIMITS, beyond_limits

from . import TrainingError, checkpoint

ARCHITECTURE = {
    "filters": 32,
    "blocks": 2,
    "levels": 3,
    "mixtures": 10,
    "nonlinearity": "concat_elu",
    "dilations": None,
}
# What makes a training run what it is: kept in the checkpoint, and not to be changed on the way.
RUN = {
    **ARCHITECTURE,
    "size": None,
    "grey": False,
    "classes": False,
    "leave_out": None,
    "held_out": None,
    "batch": 16,
    "rate": 0.002,
    "average": 0.999,
    "palette": False,
    "dropout": 0.0,
    "flip": None,
    "shift": 0,
    "seed": 0,
    "bf16": False,
}


def settle(flags: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """The settings of the run, and the checkpoint or the model's tensors to go on from."""
    told = {key: getattr(flags, key) for key in RUN if getattr(flags, key) is not None}
    if flags.resume and flags.init:
        raise TrainingError("--resume goes on with a run and --init begins one: give only one of them")
    if flags.resume:
        state, tensors = checkpoint.read(flags.resume)
        if not RUN.keys() <= state["run"].keys():
            missing = ", ".join(RUN.keys() - state["run"].keys())
            raise TrainingError(f"{flags.resume}: lacks the settings {missing}; it is of another version")
        agree(flags.resume, told, state["run"])
        check_architecture(flags.resume, state["run"])
        return state["run"], (state, tensors)
    if told.get("palette"):
        told.setdefault("mixtures", LIMITS["mixtures"])  # or as many as there are colours
    if flags.init:
        metadata, tensors = checkpoint.read_safetensors(flags.init)
        if metadata.get("format") != "pixelcnn-1":
            raise TrainingError(f"{flags.init}: is not a model of ours (format {metadata.get('format')!r})")
        stored = settings_of(flags.init, metadata)
        check_architecture(flags.init, stored)
        if told.get("palette"):
            del stored["mixtures"]
        if "dilations" in told:
            del stored["dilations"]
        if told.get("filters", 0) > stored["filters"]:
            del stored["filters"]
        agree(flags.init, told, stored)
        run = {**RUN, **told, **stored}
        check_architecture(None, run)
        return run, (metadata, tensors)
    run = {**RUN, **told}
    run["dilations"] = run["dilations"] or [1] * (run["blocks"] + 1)
    check_architecture(None, run)
    return run, None


def check_architecture(path: Path | None, run: dict[str, Any]) -> None:
    """By what the program takes, before hours of training."""
    where = f"{path}: " if path else "--"
    if problem := beyond_limits(run):
        raise TrainingError(where + problem)
    if not isinstance(run["dilations"], list) or len(run["dilations"]) != run["blocks"] + 1:
        raise TrainingError(f"{where}dilations: expected blocks + 1 = {run['blocks'] + 1} whole numbers")


def settings_of(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What a model file says of the settings that made it."""
    if "class_places" in metadata:
        raise TrainingError(
            f"{path}: has its classes in {metadata['class_places']}, where training does not put them; begin anew"
        )
    try:
        stored = {key: int(metadata[key]) for key in ("filters", "blocks", "levels", "mixtures")}
        stored["nonlinearity"] = metadata["nonlinearity"]
        stored["dilations"] = json.loads(metadata["dilations"])
        stored["classes"] = json.loads(metadata["classes"]) != []
        stored["grey"] = metadata["channels"] == "1"
        if metadata["height"] == metadata["width"]:
            stored["size"] = int(metadata["height"])
    except (KeyError, ValueError, TypeError) as error:
        raise TrainingError(f"{path}: its metadata does not describe a model: {error!r}") from None
    return stored


def agree(path: Path, told: dict[str, Any], stored: dict[str, Any]) -> None:
    for key, value in told.items():
        if key in stored and stored[key] != value:
            raise TrainingError(
                f"--{key.replace('_', '-')} {value}: {path} was made with {stored[key]}; leave the flag out"
            )


def flipped_classes(flip: str | None, classes: list[str]) -> np.ndarray | bool:
    """Whether images may be mirrored: all, none, or by class."""
    if flip is None or flip == "all":
        return flip == "all"
    # Accents can be spelled in two ways that look the same.
    spelled = {unicodedata.normalize("NFC", name): name for name in classes}
    names = [escaped(name.strip()) for name in flip.split(",")]
    names = [name if name in classes else spelled.get(unicodedata.normalize("NFC", name), name) for name in names]
    for name in names:
        if name not in classes:
            raise TrainingError(f"--flip {name}: is not a class; there are: {', '.join(classes) or 'none'}")
    return np.array([name in names for name in classes])
