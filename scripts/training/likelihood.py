"""The discretized mixture of logistics: log-likelihoods of 8-bit pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# A pixel of more bits is dear: the model has no component for its colour.
DEAR = 4


def mixture(params: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Logits [N, M, H, W], and means, logarithms of scales and, for 3 channels, coefficients [N, C, M, H, W]."""
    n, numbers, height, width = params.shape
    if channels == 3:
        mixtures = numbers // 10
        rest = params[:, mixtures:].reshape(n, 3, 3, mixtures, height, width)
        return params[:, :mixtures], rest[:, :, 0], rest[:, :, 1], rest[:, :, 2]
    logits, means, log_scales = params.split(numbers // 3, dim=1)
    return logits, means[:, None], log_scales[:, None], None


def split_components(
    tensors: dict[str, np.ndarray], mixtures: int, times: int, seed: int
) -> dict[str, np.ndarray]:
    """A model's tensors with `times` as many of its `mixtures` components: each as it is, and copies beside it whose
    output weights are off by a tenth of their root mean square.

    A component that has several colours to say grows wide between them, and the others, narrow and elsewhere, have no
    gradient that would call them. Its copies share the colours out among themselves.
    """

    def joined(copies: list[np.ndarray]) -> np.ndarray:
        kinds = [copy.reshape(*copy.shape[:-1], -1, mixtures) for copy in copies]
        return np.concatenate(kinds, axis=-1).reshape(*copies[0].shape[:-1], -1)

    weight, bias = tensors["output.weight"].astype(np.float32), tensors["output.bias"]
    off = 0.1 * np.sqrt(np.square(weight).mean(axis=tuple(range(weight.ndim - 1))))
    random = np.random.default_rng([seed, 3])
    copies = [weight + off * random.standard_normal(weight.shape, np.float32) for _ in range(1, times)]
    return tensors | {"output.weight": joined([weight, *copies]), "output.bias": joined([bias] * times)}


class Colours:
    """Which colours cost a model most, and which component says them."""

    def __init__(self, mixtures: int, channels: int) -> None:
        self.mixtures, self.channels = mixtures, channels
        self.costs: dict[tuple[int, ...], float] = {}

    def add(self, params: Tensor, x: Tensor) -> None:
        """Counts images [N, C, H, W] in −1…1 under a model whose components were split."""
        nats = log_components(params, x)
        bits = -torch.logsumexp(nats, dim=1) / math.log(2)
        says = nats.argmax(dim=1) % self.mixtures
        levels = ((x + 1) * 127.5).round().long().movedim(1, -1)
        dear = bits > DEAR
        for pixel, component, cost in zip(levels[dear].tolist(), says[dear].tolist(), bits[dear].tolist()):
            pair = (component, *pixel)
            self.costs[pair] = self.costs.get(pair, 0) + cost

    def placed(self, tensors: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
        """The tensors of a split model, with its copies at the colours that cost most: each has the logit of the
        component that says the colour now, less so that all of its copies have a tenth of its weight; and the colour as
        its mean, whatever the image.

        A copy that says the same as its component learns to say another thing only where that is not far. This one
        is there already, and has only to learn when.
        """
        weight, bias = (tensors[name].astype(np.float32) for name in ("output.weight", "output.bias"))
        kinds = 3 if self.channels == 3 else 2  # mean, scale, coefficient
        inputs, outputs = weight.shape[-2:]
        count = outputs // (1 + self.channels * kinds)
        weight, bias = weight.reshape(inputs, -1, count), bias.reshape(-1, count)
        pairs = sorted(self.costs, key=self.costs.__getitem__, reverse=True)[: count - self.mixtures]
        copies = np.bincount([component for component, *_ in pairs], minlength=self.mixtures)
        random = np.random.default_rng([seed, 4])
        for at, (component, *levels) in enumerate(pairs, self.mixtures):
            logit = weight[:, 0, component]
            off = 0.05 * np.sqrt(np.square(logit).mean()) * random.standard_normal(inputs, np.float32)
            weight[:, 0, at] = logit + off
            bias[0, at] = bias[0, component] + math.log(0.1 / copies[component])
            weight[:, 1:, at] = 0.002 * random.standard_normal(weight[:, 1:, at].shape, np.float32)
            bias[1:, at] = 0
            bias[1::kinds, at] = np.array(levels) / 127.5 - 1
            bias[2::kinds, at] = -5.5
        shape = tensors["output.weight"].shape
        return tensors | {"output.weight": weight.reshape(shape), "output.bias": bias.reshape(-1)}


def annealed(params: Tensor, channels: int, progress: float) -> Tensor:
    """Parameters with components that are wide and equally likely at progress 0, and all but as they are at 1: logits
    times the progress, and scales with another added that falls from e⁻¹ to e⁻⁷·⁵.

    Components that are narrow from the start have no gradient from colours that they are far from, and those that are
    unlikely none at all: they stay where they are. Wide ones divide the colours as they narrow (deterministic annealing,
    Ueda and Nakano 1998).
    """
    logits, means, log_scales, coefficients = mixture(params, channels)
    log_scales = torch.logaddexp(log_scales, log_scales.new_tensor(-1 - 6.5 * progress))
    kinds = [means, log_scales] if coefficients is None else [means, log_scales, coefficients]
    return torch.cat([logits * progress, torch.stack(kinds, dim=2).flatten(1, 3)], dim=1)


def too_wide(params: Tensor, channels: int) -> Tensor:
    """A penalty [N] for scales beyond 1, with which a logistic is wider than all colours: the mean over channels
    and pixels of the mixture's mean of log(scale)², where that is over 0.

    A component with a scale of e⁵ says black or white, half each, and nothing between. Where white is common, training
    can be caught there: it costs one bit, and neither mean nor scale has a gradient any more that would lead on.
    """
    logits, _, log_scales, _ = mixture(params, channels)
    weights = torch.softmax(logits.detach(), dim=1)
    return (weights[:, None] * F.relu(log_scales).square()).sum(2).mean((1, 2, 3))


def log_components(params: Tensor, x: Tensor, as_reported: bool = False) -> Tensor:
    """Logarithms [N, M, H, W] of what the components, with their weights, say of images [N, C, H, W] in −1…1.

    A bin between −1 and 1 has the probability σ(a) − σ(b), computed without cancellation as
    σ(a)·σ(−b)·(1 − exp(b − a)). `as_reported` takes the density at its middle instead where that is at
    most 1e-5, as the published code and `pixelcnn eval` do.
    """
    channels = x.shape[1]
    logits, means, log_scales, coefficients = mixture(params, channels)
    if channels == 3:
        c = torch.tanh(coefficients)
        red, green = x[:, 0:1], x[:, 1:2]
        means = means + torch.stack(
            [torch.zeros_like(c[:, 0]), c[:, 0] * red, c[:, 1] * red + c[:, 2] * green], dim=1
        )
    log_scales = log_scales.clamp(min=-7)

    x = x[:, :, None]
    inverse = torch.exp(-log_scales)
    a, b = (x - means + 1 / 255) * inverse, (x - means - 1 / 255) * inverse
    below, above = -F.softplus(-a), -F.softplus(b)  # log σ(a), log σ(−b)
    between = below + above + torch.log(-torch.expm1(-2 / 255 * inverse))
    if as_reported:
        z = (x - means) * inverse
        middle = z - log_scales - 2 * F.softplus(z) - math.log(127.5)
        between = torch.where(between > math.log(1e-5), between, middle)
    log_p = torch.where(x < -0.999, below, torch.where(x > 0.999, above, between))
    return log_p.sum(1) + F.log_softmax(logits, dim=1)


def bits_per_dim(params: Tensor, x: Tensor, as_reported: bool = False) -> Tensor:
    """Bits per dimension [N] of images [N, C, H, W] in −1…1 under [N, 10M or 3M, H, W]."""
    nats = -torch.logsumexp(log_components(params, x, as_reported), dim=1)
    return nats.sum((1, 2)) / (x[0].numel() * math.log(2))
