"""The families that are trained as a graph, gated and masked: a model file of the format pixelcnn-2."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import TrainingError
from .data import Data
from .families import network
from .graph import Network
from .likelihood import TOO_WIDE, bits_per_dim, too_wide
from .plusplus import convolutions, refuse_other_shapes, symmetric

VERSION = "1.0"  # of the format
RARE = 0.01  # how often a level is taken to have been seen, beside how often it was


class GraphFamily:
    def __init__(self, run: dict[str, Any], data: Data, device: torch.device):
        self.run, self.device = run, device
        channels, height, width = data.train.x.shape[1:]
        of_head = {"bernoulli": run["levels"] == 2, "logistic": run["levels"] == 256 and channels in (1, 3)}
        if not of_head.get(run["head"], True):
            expected = {"bernoulli": "2 levels", "logistic": "256 levels of 1 or 3 channels"}[run["head"]]
            raise TrainingError(
                f"--head {run['head']}: expected {expected}, found {run['levels']} of {channels} (--levels, --head softmax)"
            )
        settings = {key: run[key] for key in ("family", "levels", "head", "filters", "dilations", "mixtures")}
        self.graph = network(canvas=(height, width, channels), classes=data.classes, **settings)
        self.net = Network(self.graph).to(device)
        self.judge = Network(self.graph).to(device)

    def begin(self, x: Tensor, h: Tensor | None) -> None:
        """A new network, for images like these: it begins with their frequencies of levels."""
        if self.run["head"] != "softmax":
            return
        for channel in range(x.shape[1]):
            counts = torch.bincount(x[:, channel].flatten(), minlength=self.graph.levels) + RARE
            with torch.no_grad():
                self.net.tensor(f"output{channel}.bias").copy_(torch.log(counts / counts.sum()))

    def take(self, path: Path, metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> None:
        """Go on from a model."""
        there = json.loads(metadata["graph"])
        for key, value in self.graph.document().items():
            if key in ("canvas", "classes", "levels") and there.get(key) != value:
                raise TrainingError(f"{path}: its {key} are {json.dumps(there.get(key))}, the data's {json.dumps(value)}")
        refuse_other_shapes(path, dict(self.named()), tensors)
        self.net.take(tensors)

    def named(self) -> dict[str, Tensor]:
        return {name: self.net.tensor(name) for name in self.graph.shapes}

    def loss(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bits/dim of levels [N, C, H, W], and the penalty added to them while training."""
        with convolutions(self.run, self.device):
            params = self.net(x, h).float()
        penalty = params.new_zeros(())
        if self.run["head"] == "logistic":
            penalty = TOO_WIDE * too_wide(params, x.shape[1]).mean()
        return self.bits_of(params, x, False).mean(), penalty

    def judge_by(self, tensors: dict[str, np.ndarray]) -> None:
        """Take a model file's tensors for `bits`."""
        self.judge.take(tensors)

    def bits(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Bits/dim [N] as pixelcnn eval measures them."""
        return self.bits_of(self.judge(x, h).cpu().double(), x.cpu(), True)

    def bits_of(self, params: Tensor, x: Tensor, as_reported: bool) -> Tensor:
        if self.run["head"] == "logistic":
            return bits_per_dim(params, symmetric(x, params.dtype), as_reported)
        if self.run["head"] == "bernoulli":
            nats = F.binary_cross_entropy_with_logits(params, x.to(params.dtype), reduction="none")
        else:
            logits = params.permute(0, 2, 3, 1).reshape(-1, self.graph.levels)
            nats = F.cross_entropy(logits, x.permute(0, 2, 3, 1).flatten(), reduction="none")
        return nats.view(len(x), -1).mean(1) / math.log(2)

    def exported(self, values: dict[str, Tensor], dtype: str) -> dict[str, np.ndarray]:
        """Tensors of the model file for these values of the parameters. Only weights are rounded."""
        weights = {tap["weight"] for layer in self.graph.layers for tap in layer["taps"] if "weight" in tap}
        of_weights = {"f32": "<f4", "f16": "<f2"}[dtype]
        arrays = ((name, values[name.replace(".", "/")].cpu().numpy()) for name in self.graph.shapes)
        return {name: array.astype(of_weights if name in weights else "<f4") for name, array in arrays}

    def metadata(self) -> dict[str, Any]:
        """The graph, and the settings behind it."""
        document = json.dumps(self.graph.document(), separators=(",", ":"), ensure_ascii=False)
        settings = {key: self.run[key] for key in ("family", "filters", "blocks", "levels", "head")}
        if self.run["head"] == "logistic":
            settings["mixtures"] = self.run["mixtures"]
        return {
            "format": "pixelcnn-2",
            "version": VERSION,
            "graph": document,
            **settings,
            "dilations": json.dumps(self.run["dilations"]),
        }
