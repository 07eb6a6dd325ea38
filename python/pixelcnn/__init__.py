"""Fast exact sampling from causal convolutional image models.

>>> import pixelcnn
>>> model = pixelcnn.load("mnist")
>>> images = model.sample(3, labels=[1, 2, 3], seed=7)
>>> images.shape, images.dtype
((3, 28, 28, 1), dtype('uint8'))

Images are levels, whole numbers from 0, as arrays [N, H, W, C]. Errors are `pixelcnn.Error` and its children; invalid arguments
raise `ValueError` or `TypeError`. Notes and warnings go to the logger "pixelcnn".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._compile import Sampler as Sampler
    from ._compile import compile as compile
    from ._compile import report as report
    from ._pixelcnn import __version__
    from .errors import (
        BatchTooLarge,
        ConversionError,
        DeviceError,
        EngineError,
        Error,
        ModelError,
        NotFinite,
        Refused,
        RequestError,
    )
    from .loading import builtin_models, load
    from .model import Model
    from .picture import Grid, grid
    from .steps import Step, Steps

# Names that need no PyTorch: `from pixelcnn import *` imports all of these.
__all__ = [
    "BatchTooLarge",
    "ConversionError",
    "DeviceError",
    "EngineError",
    "Error",
    "Grid",
    "Model",
    "ModelError",
    "NotFinite",
    "Refused",
    "RequestError",
    "Step",
    "Steps",
    "__version__",
    "builtin_models",
    "grid",
    "load",
]

# The modules of the names. None is imported before it is used, for `pixelcnn.convert` needs no compiled extension, and
# `compile` alone needs PyTorch.
_HOMES = {
    "_pixelcnn": ["__version__"],
    "errors": [
        "BatchTooLarge",
        "ConversionError",
        "DeviceError",
        "EngineError",
        "Error",
        "ModelError",
        "NotFinite",
        "Refused",
        "RequestError",
    ],
    "loading": ["builtin_models", "load"],
    "model": ["Model"],
    "picture": ["Grid", "grid"],
    "steps": ["Step", "Steps"],
    "_compile": ["Sampler", "compile", "report"],
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            try:
                module = import_module(f".{home}", __name__)
            except ModuleNotFoundError as missing:
                if missing.name != "torch":
                    raise
                needed = f"pixelcnn.{name} needs PyTorch: pip install 'pixelcnn[compile]'"
                raise AttributeError(needed) from missing
            globals().update({each: getattr(module, each) for each in names})
            return globals()[name]
    if name == "convert":
        return import_module(".convert", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(name for names in _HOMES.values() for name in names), "convert"})
