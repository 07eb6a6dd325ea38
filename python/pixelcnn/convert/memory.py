"""Checkpoints and state dicts as the bytes of model files, for `pixelcnn.load`."""

from __future__ import annotations

import io
import logging
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import ConversionError
from .command import converted, parse_flags
from .files import check_input
from .model_file import write_model
from .readers import MissingPackage, Source, open_source

log = logging.getLogger("pixelcnn")


def convert(checkpoint: str | os.PathLike[str] | Mapping[str, Any], **options: Any) -> bytes:
    """The model file of a checkpoint, or of the tensors of a PixelCNN++ by the names of their state dict.

    options: the flags of `scripts/convert.py --help`, with underscores: `classes` a list of names, `dilations` of
    integers,
        `class_tensor` and `ignore` of texts.

    Raises `pixelcnn.ConversionError`.
    """
    flags = _flags(options)
    if isinstance(checkpoint, Mapping):
        what, source = "state dict", _source(checkpoint)
    else:
        path = Path(checkpoint)
        check_input(path)
        what = str(path)
        try:
            source = open_source(path)
        except MissingPackage as missing:
            raise ConversionError(
                f"{path}: TensorFlow checkpoints are read with TensorFlow: pip install {missing} (Python 3.10 to 3.13)"
            ) from None
    try:
        metadata, tensors, taken = converted(source, flags)
    except ConversionError as error:
        raise ConversionError(f"{what}: {error}") from None
    log.info("%s: %s", what, "; ".join(taken))
    buffer = io.BytesIO()

    def put(_: Path, write: Any) -> None:
        write(buffer)

    write_model(Path(), metadata, tensors, put)
    return buffer.getvalue()


def _flags(options: Mapping[str, Any]) -> Namespace:
    """The arguments of the command line, with its defaults."""
    flags = parse_flags(["-", "-o", "-"])
    for key, value in options.items():
        if key in ("input", "output") or not hasattr(flags, key):
            raise TypeError(f"there is no option {key!r} of a conversion")
        if isinstance(value, Path):
            value = str(value)
        setattr(flags, key, list(value) if isinstance(value, tuple) else value)
    return flags


def _source(state_dict: Mapping[str, Any]) -> Source:
    tensors = {str(name): tensor for name, tensor in state_dict.items() if hasattr(tensor, "shape")}

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        if hasattr(tensor, "detach"):
            # NumPy has no bfloat16.
            tensor = tensor.detach().cpu()
            tensor = tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor
        return np.asarray(tensor)

    return Source("state dict", {name: tuple(tensor.shape) for name, tensor in tensors.items()}, read)
