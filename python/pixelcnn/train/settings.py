"""The settings of a run: from flags, from a checkpoint or a model, from defaults."""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from ..convert.console import escaped
from ..convert.model_file import LIMITS, beyond_limits

from . import TrainingError, checkpoint

# The settings that define a run: the checkpoint keeps them, and they do not change on the way.
RUN = {
    "size": None,
    "grey": False,
    "classes": False,
    "leave_out": None,
    "held_out": None,
    "batch": 16,
    "rate": 0.002,
    "average": 0.999,
    "flip": None,
    "shift": 0,
    "seed": 0,
    "bf16": False,
}
DEFAULT = "pixelcnn++"
# Further settings of each family.
GRAPH = {
    "filters": 32,
    "blocks": 6,
    "dilations": None,
    "levels": None,
    "codes": False,
    "head": "softmax",
    "mixtures": 10,
}
FAMILIES = {
    DEFAULT: {
        "filters": 32,
        "blocks": 2,
        "resolutions": 3,
        "mixtures": 10,
        "nonlinearity": "concat_elu",
        "dilations": None,
        "palette": False,
        "dropout": 0.0,
    },
    "gated": GRAPH,
    "masked": GRAPH,
}
# All of them, by their flags.
FLAGS = list(dict.fromkeys(["family", *RUN, *(key for family in FAMILIES.values() for key in family)]))
# The settings that a model file has as such, not as those of its training.
NOT_TRAINING = {"family", "filters", "blocks", "resolutions", "mixtures", "nonlinearity", "dilations", "levels", "head"}


def settle(flags: argparse.Namespace) -> tuple[dict[str, Any], Any]:
    """The settings of the run, and the checkpoint or the model's tensors to go on from."""
    told = {key: getattr(flags, key) for key in FLAGS if getattr(flags, key) is not None}
    if flags.resume and flags.init:
        raise TrainingError("--resume goes on with a run and --init begins one: give only one of them")
    if flags.resume:
        state, before = checkpoint.read(flags.resume)
        run = resumed(flags.resume, told, state["run"])
        before = state, before
    elif flags.init:
        before = checkpoint.read_safetensors(flags.init)
        run = gone_on_with(flags.init, told, settings_of(flags.init, before[0]))
    else:
        run, before = new(told), None
    if run.get("codes"):
        for_images = [key for key in ("size", "grey", "flip", "shift") if run[key]]
        for_images += [key for key in ("held_out_to", "samples") if getattr(flags, key)]
        if for_images:
            raise TrainingError(f"{flag(for_images[0])}: is for images, which codes are not")
    return run, before


def new(told: dict[str, Any]) -> dict[str, Any]:
    family = told.get("family", DEFAULT)
    refuse_others(family, told)
    if told.get("palette"):
        told.setdefault("mixtures", LIMITS["mixtures"])  # or as many as there are colours
    run = {**RUN, **FAMILIES[family], **told, "family": family}
    if family != DEFAULT and "mixtures" in told and run["head"] != "logistic":
        raise TrainingError("--mixtures: is for --head logistic")
    run["dilations"] = run["dilations"] or [1] * dilations_of(run)
    check_architecture(None, run)
    return run


def resumed(path: Path, told: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint."""
    family = stored.get("family")
    expected = RUN.keys() | FAMILIES.get(family, {"family"}).keys()
    if missing := ", ".join(sorted(expected - stored.keys())):
        raise TrainingError(f"{path}: lacks the settings {missing}; it is of another version")
    agree(path, told, stored)
    refuse_others(family, told)
    check_architecture(path, stored)
    return stored


def gone_on_with(path: Path, told: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """The fixed settings of a model, and those of a new run."""
    family = stored["family"]
    check_architecture(path, stored)
    if family == DEFAULT:
        if told.get("palette"):
            told.setdefault("mixtures", LIMITS["mixtures"])
            del stored["mixtures"]
        if "dilations" in told:
            del stored["dilations"]
        if told.get("filters", 0) > stored["filters"]:
            del stored["filters"]
    agree(path, told, stored)
    refuse_others(family, told)
    run = {**RUN, **FAMILIES[family], **told, **stored}
    check_architecture(None, run)
    return run


def flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def refuse_others(family: str, told: dict[str, Any]) -> None:
    """Refuse settings that the family does not have."""
    for key in told.keys() - RUN.keys() - FAMILIES[family].keys() - {"family"}:
        having = " and ".join(name for name, settings in FAMILIES.items() if key in settings)
        raise TrainingError(f"{flag(key)}: is a setting of {having}, not of {family} (--family)")


def dilations_of(run: dict[str, Any]) -> int:
    """The number of dilations: one a block; of PixelCNN++, one a block of the down pass."""
    return run["blocks"] + (run["family"] == DEFAULT)


def check_architecture(path: Path | None, run: dict[str, Any]) -> None:
    """Applies the program's limits, before hours of training."""
    where = f"{path}: " if path else "--"
    limited = {key: run[key] for key in ("filters", "blocks", "mixtures", "dilations") if key in run}
    if "resolutions" in run:
        limited["levels"] = run["resolutions"]  # as the model file calls them
    if problem := beyond_limits(limited):
        raise TrainingError(where + problem.replace("levels", "resolutions"))
    if not isinstance(run["dilations"], list) or len(run["dilations"]) != dilations_of(run):
        blocks = "blocks + 1" if run["family"] == DEFAULT else "blocks"
        raise TrainingError(f"{where}dilations: expected {blocks} = {dilations_of(run)} whole numbers")


def settings_of(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """The settings that made a model file, from its metadata."""
    family = metadata.get("family", "")
    expected = "pixelcnn-1" if family == DEFAULT else "pixelcnn-2"
    if family not in FAMILIES or metadata.get("format") != expected:
        raise TrainingError(
            f"{path}: is not a model of ours: expected format {expected} and one of the families {', '.join(FAMILIES)}, "
            f"found format {metadata.get('format')!r} and family {family!r}"
        )
    if "class_places" in metadata:
        raise TrainingError(
            f"{path}: has its classes in {metadata['class_places']}, where training does not put them; begin anew"
        )
    try:
        stored: dict[str, Any] = {"family": family}
        stored |= {key: int(metadata[key]) for key in ("filters", "blocks")}
        stored["dilations"] = json.loads(metadata["dilations"])
        if family == DEFAULT:
            stored["resolutions"], stored["mixtures"] = int(metadata["levels"]), int(metadata["mixtures"])
            stored["nonlinearity"] = metadata["nonlinearity"]
            classes = json.loads(metadata["classes"])
            canvas = [int(metadata[key]) for key in ("height", "width", "channels")]
        else:
            stored["levels"], stored["head"] = int(metadata["levels"]), metadata["head"]
            stored |= {key: int(metadata[key]) for key in ("mixtures",) if key in metadata}
            graph = json.loads(metadata["graph"])
            classes, canvas = graph["classes"], graph["canvas"]
            stored["codes"] = json.loads(metadata["training"]).get("codes", False)
        stored["classes"] = classes != []
        if not stored.get("codes"):
            stored["grey"] = canvas[2] == 1
            if canvas[0] == canvas[1]:
                stored["size"] = canvas[0]
    except (KeyError, ValueError, TypeError) as error:
        raise TrainingError(f"{path}: its metadata does not describe a model: {error!r}") from None
    return stored


def agree(path: Path, told: dict[str, Any], stored: dict[str, Any]) -> None:
    for key, value in told.items():
        if key in stored and stored[key] != value:
            raise TrainingError(
                f"{flag(key)} {value}: {path} was made with {stored[key]}; leave the flag out"
            )


def flipped_classes(flip: str | None, classes: list[str]) -> np.ndarray | bool:
    """The images that may be mirrored: all, none, or those of some classes."""
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
