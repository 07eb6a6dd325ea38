"""The family pixelcnn++, as it is trained: a model file of the format pixelcnn-1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import TrainingError
from .data import Data
from .likelihood import TOO_WIDE, bits_per_dim, too_wide
from .network import PixelCNN, widened
from .palette import Palette


class PlusPlus:
    def __init__(self, run: dict[str, Any], data: Data, device: torch.device):
        self.run, self.device, self.classes = run, device, data.classes
        self.channels, self.height, self.width = data.train.x.shape[1:]
        multiple = 2 ** (run["resolutions"] - 1)
        if self.height % multiple or self.width % multiple:
            raise TrainingError(
                f"the images are {self.width}x{self.height}: with {run['resolutions']} resolutions, expected "
                f"multiples of {multiple} (--size, --resolutions)"
            )
        self.palette = None
        if run["palette"]:
            self.palette = Palette(data.train.x, run["mixtures"], device)
            run["mixtures"] = self.palette.mixtures
        self.net = self.network(logits_only=self.palette is not None).to(device)
        self.judge = self.network().to(device)
        self.judge.eval()

    def network(self, logits_only: bool = False, **other: int) -> PixelCNN:
        run = self.run | other
        return PixelCNN(
            **{key: run[key] for key in ("filters", "blocks", "mixtures", "nonlinearity", "dilations", "dropout")},
            levels=run["resolutions"],
            channels=self.channels,
            classes=len(self.classes),
            logits_only=logits_only,
        )

    def begin(self, x: Tensor, h: Tensor | None) -> None:
        """A new network, for images like these."""
        self.net.initialise_on(symmetric(x), h)
        if self.palette:
            with torch.no_grad():
                self.net.values["output/b"] += torch.from_numpy(self.palette.logits).to(self.device)

    def take(self, path: Path, metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> None:
        """Go on from a model."""
        if json.loads(metadata["classes"]) != self.classes or int(metadata["channels"]) != self.channels:
            raise TrainingError(
                f"{path}: has {metadata['channels']} channels and the classes {metadata['classes']}; the data has "
                f"{self.channels} and {json.dumps(self.classes)}"
            )
        filters, mixtures = int(metadata["filters"]), int(metadata["mixtures"])
        model = self.network(filters=filters, mixtures=mixtures).current()
        refuse_other_shapes(path, model, tensors)
        own = self.net.current()
        if self.palette:
            own["output.bias"] = self.palette.logits
            tensors = self.palette.without_constants(tensors)
        if filters < self.run["filters"]:
            tensors = widened(tensors, filters, own, self.run["filters"])
        self.net.take(own | tensors)

    def loss(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bits/dim of levels [N, C, H, W], and the penalty added to them while training."""
        x = symmetric(x)
        with convolutions(self.run, self.device):
            params = self.net(self.palette.as_drawn(x) if self.palette else x, h).float()
        if self.palette:
            return self.palette.bits_per_dim(params, x).mean(), params.new_zeros(())
        return bits_per_dim(params, x).mean(), TOO_WIDE * too_wide(params, self.channels).mean()

    def judge_by(self, tensors: dict[str, np.ndarray]) -> None:
        """Take a model file's tensors for `bits`."""
        self.judge.take(tensors)

    def bits(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Bits/dim [N] as pixelcnn eval measures them."""
        params = self.judge(symmetric(x), h).cpu().double()
        return bits_per_dim(params, symmetric(x.cpu(), torch.float64), True)

    def exported(self, values: dict[str, Tensor], dtype: str) -> dict[str, np.ndarray]:
        """Tensors of the model file for these values of the parameters."""
        tensors = self.net.exported(values, dtype)
        return self.palette.with_constants(tensors) if self.palette else tensors

    def metadata(self) -> dict[str, Any]:
        """The architecture, as the model file holds it."""
        return {
            "format": "pixelcnn-1",
            "family": "pixelcnn++",
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "filters": self.run["filters"],
            "blocks": self.run["blocks"],
            "levels": self.run["resolutions"],
            "mixtures": self.run["mixtures"],
            "nonlinearity": self.run["nonlinearity"],
            "dilations": json.dumps(self.run["dilations"]),
            "classes": json.dumps(self.classes, ensure_ascii=False),
        }


def convolutions(run: dict[str, Any], device: torch.device) -> Any:
    """The precision in which they are computed while training."""
    return torch.autocast(device.type, torch.bfloat16, enabled=run["bf16"])


def symmetric(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Levels of 256 as numbers in −1…1."""
    return ((x.to(dtype) - 127.5) / 127.5).contiguous(memory_format=torch.channels_last)


def refuse_other_shapes(path: Path, expected: dict[str, Any], found: dict[str, Any]) -> None:
    shapes, others = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in (expected, found))
    if shapes != others:
        name = next(name for name in {**shapes, **others} if shapes.get(name) != others.get(name))
        raise TrainingError(f"{path}: tensor {name}: expected {shapes.get(name)}, found {others.get(name)}")
