"""Checkpoints: everything that training needs to go on as if it had never stopped.

They are safetensors files like the models, so reading one executes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..convert import ConversionError
from ..convert.files import check_input, write_somewhere, write_whole
from ..convert.model_file import DTYPES, write_model

from . import TrainingError

FORMAT = "pixelcnn-training-2"
# The settings of a run and its progress, besides its tensors.
STATE = {
    "run": dict,
    "data": dict,
    "step": int,
    "steps_before": int,
    "elapsed": (int, float),
    "log": list,
}


def write(path: Path, state: dict[str, Any], tensors: dict[str, np.ndarray], last: bool) -> None:
    """A kill at any time leaves the checkpoint before or this one, whole. After the last one there is no
    second try, so it goes to another place if it must."""
    put = write_somewhere if last else write_whole
    try:
        write_model(path, {"format": FORMAT, "state": json.dumps(state)}, tensors, put)
    except ConversionError as error:
        raise TrainingError(str(error)) from None


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    metadata, tensors = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise TrainingError(
            f"{path}: is not a checkpoint of training "
            f"(format {metadata.get('format')!r}, expected {FORMAT!r})"
            + ("; to go on from a model, use --init" if metadata.get("format") in ("pixelcnn-1", "pixelcnn-2") else "")
        )
    try:
        state = json.loads(metadata["state"])
        for key, kind in STATE.items():
            if not isinstance(state[key], kind):
                raise ValueError(f"{key} is {state[key]!r}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise TrainingError(f"{path}: is a damaged checkpoint ({error!r})") from None
    return state, tensors


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a file of ours."""
    types = {name: np.dtype(dtype) for dtype, name in DTYPES.items()}
    try:
        check_input(path)
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            tensor = np.frombuffer(data[start + begin : start + end], types[entry["dtype"]])
            tensors[name] = tensor.reshape(entry["shape"])
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are no texts")
    except ConversionError as error:
        raise TrainingError(str(error)) from None
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise TrainingError(f"{path}: is not a complete safetensors file of ours ({error})") from None
    return metadata, tensors
