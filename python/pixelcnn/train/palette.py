"""For images of few colours: a mixture whose components are those colours, the same at every pixel.

The network learns only which colour comes where. Free components must be as exact as their scales are narrow. If they
are not, their gradients are a hundred times those of the weights and drown them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .likelihood import NARROWEST, log_components

GROUPS = 16  # if there are more colours than components, a sixteenth of the components stands for groups


class Palette:
    def __init__(self, x: np.ndarray, most: int, device: torch.device) -> None:
        """The palette of images [N, C, H, W], with `most` components: the most frequent colours have one each, of the
        narrowest scale. If there are more colours, groups of the others have theirs, as wide as they are."""
        channels = x.shape[1]
        codes, counts = np.unique(codes_of(torch.from_numpy(x)).numpy(), return_counts=True)
        colours = codes[:, None] >> 8 * np.arange(channels) & 255
        order = np.argsort(-counts, kind="stable")
        self.exact = len(order) if len(order) <= most else most - -(-most // GROUPS)
        component = np.empty(len(order), np.int64)
        component[order[: self.exact]] = np.arange(self.exact)
        if len(rest := order[self.exact :]):
            component[rest] = self.exact + grouped(colours[rest], counts[rest], most - self.exact)

        weights = counts / counts.sum()
        shares = np.bincount(component, weights)
        self.mixtures, self.colours = len(shares), len(order)
        self.others = shares[self.exact :].sum()
        self.logits = np.log(shares).astype(np.float32)

        def means(values: np.ndarray) -> np.ndarray:
            return np.stack([np.bincount(component, weights * v) for v in values.T]) / shares

        colours = colours / 127.5 - 1
        mean = means(colours)
        # The mean deviation of a logistic is ln 4 times its scale.
        scale = means(np.abs(colours - mean.T[component])) / math.log(4)
        log_scale = np.log(np.maximum(scale, math.exp(NARROWEST)))
        kinds = [mean, log_scale, np.zeros_like(mean)][: 3 if channels == 3 else 2]
        # All mixture parameters but the logits [C, kinds, M].
        self.constants = np.stack(kinds, axis=1).astype(np.float32)

        params = np.zeros((1 + channels * len(kinds), len(order)), np.float32)
        params[1:] = self.constants.reshape(-1, self.mixtures)[:, component]
        x = torch.from_numpy(colours.T.astype(np.float32))
        nats = log_components(torch.from_numpy(params)[None, :, None], x[None, :, None])[0, 0, 0]
        tensors = torch.from_numpy(codes), torch.from_numpy(component), nats
        self.codes, self.component, self.nats = (tensor.to(device) for tensor in tensors)
        # [M, C]
        self.mean, self.log_scale = (torch.from_numpy(self.constants[:, i].T.copy()).to(device) for i in (0, 1))

    def __str__(self) -> str:
        said = f"components at {self.exact} of {self.colours} colours"
        if groups := self.mixtures - self.exact:
            said += f", and {groups} group{'s' * (groups > 1)} of the others ({100 * self.others:.2g} % of all pixels)"
        return said

    def bits_per_dim(self, logits: Tensor, x: Tensor) -> Tensor:
        """Bits per dimension [N] of images [N, C, H, W] in −1…1 under logits [N, M, H, W], as if of all components only
        the one of the pixel's colour could say it: an upper bound, and a close one."""
        at = self.at(x)
        nats = F.cross_entropy(logits, self.component[at], reduction="none") - self.nats[at]
        return nats.sum((1, 2)) / (x[0].numel() * math.log(2))

    def as_drawn(self, x: Tensor) -> Tensor:
        """The images, in which every colour without a component is replaced by a draw of its group: the network sees
        such colours in its own samples, and must continue from them."""
        component = self.component[self.at(x)]
        mean, log_scale = (of[component].movedim(-1, 1) for of in (self.mean, self.log_scale))
        u = torch.rand_like(x).clamp(1e-5, 1 - 1e-5)
        drawn = (mean + log_scale.exp() * torch.logit(u)).clamp(-1, 1)
        levels = ((drawn + 1) * 127.5).round()
        return torch.where((component >= self.exact)[:, None], levels / 127.5 - 1, x)

    def at(self, x: Tensor) -> Tensor:
        """The index [N, H, W] of each pixel's colour among all colours."""
        return torch.searchsorted(self.codes, codes_of(((x + 1) * 127.5).round()))

    def with_constants(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A model's tensors, from those of a network that gives the logits alone."""
        weight, bias = tensors["output.weight"], tensors["output.bias"]
        zeros = np.zeros((len(weight), self.constants.size), weight.dtype)
        return tensors | {
            "output.weight": np.concatenate([weight, zeros], axis=1),
            "output.bias": np.concatenate([bias, self.constants.reshape(-1)]),
        }

    def without_constants(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The other way round. If the model has another palette, each component begins as the model's nearest one, with
        its share of that one's probability. If its components are free, there is no output layer to begin with."""
        weight, bias = tensors["output.weight"], tensors["output.bias"]
        channels, kinds, _ = self.constants.shape
        m = len(bias) // (1 + channels * kinds)
        if weight[:, m:].any():
            return {name: tensor for name, tensor in tensors.items() if not name.startswith("output.")}
        means = bias[m:].reshape(channels, kinds, m)[:, 0]
        nearest = np.square(self.constants[:, 0, :, None] - means[:, None]).sum(axis=0).argmin(axis=1)
        shares = np.exp(self.logits)
        parts = shares / np.bincount(nearest, shares, m)[nearest]
        return tensors | {
            "output.weight": weight[:, nearest],
            "output.bias": bias[nearest] + np.log(parts).astype(np.float32),
        }


def codes_of(x: Tensor) -> Tensor:
    """Colours [N, H, W] of images [N, C, H, W] of levels, as one number each."""
    return sum(x[:, c].long() << 8 * c for c in range(x.shape[1]))


def grouped(colours: np.ndarray, counts: np.ndarray, groups: int) -> np.ndarray:
    """The index of the group of similar colours, of `groups`, of each colour."""
    from PIL import Image

    times = np.maximum(1, np.rint(counts * (50_000 / counts.sum()))).astype(int)
    pixels = np.repeat(np.arange(len(colours)), times)
    rgb = np.broadcast_to(colours[pixels], (len(pixels), 3)).astype(np.uint8)
    group = np.empty(len(colours), np.int64)
    group[pixels] = np.asarray(Image.fromarray(rgb[None]).quantize(groups, kmeans=8))[0]
    return np.unique(group, return_inverse=True)[1]
