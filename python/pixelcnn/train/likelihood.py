"""The discretized mixture of logistics: log-likelihoods of 8-bit pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The logarithm of the narrowest scale.
NARROWEST = -7
TOO_WIDE = 1  # weight of the penalty for scales beyond 1


def mixture(params: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Logits [N, M, H, W], and means, logarithms of scales and, for 3 channels, coefficients [N, C, M, H, W]."""
    n, numbers, height, width = params.shape
    if channels == 3:
        mixtures = numbers // 10
        rest = params[:, mixtures:].reshape(n, 3, 3, mixtures, height, width)
        return params[:, :mixtures], rest[:, :, 0], rest[:, :, 1], rest[:, :, 2]
    logits, means, log_scales = params.split(numbers // 3, dim=1)
    return logits, means[:, None], log_scales[:, None], None


def too_wide(params: Tensor, channels: int) -> Tensor:
    """A penalty [N] for scales beyond 1, with which a logistic is wider than all colours: the mean over channels and
    pixels of the mixture's mean of log(scale)², where that is over 0.

    A component with a scale of e⁵ gives black and white half of the probability each, and nothing between. If white is
    common, training can be caught there: it costs one bit, and neither mean nor scale has a gradient that leads away.
    """
    logits, _, log_scales, _ = mixture(params, channels)
    weights = torch.softmax(logits.detach(), dim=1)
    return (weights[:, None] * F.relu(log_scales).square()).sum(2).mean((1, 2, 3))


def log_components(params: Tensor, x: Tensor, as_reported: bool = False) -> Tensor:
    """Logarithms [N, M, H, W] of the weighted probabilities that the components give images [N, C, H, W] in −1…1.

    A bin between −1 and 1 has the probability σ(a) − σ(b), computed without cancellation as σ(a)·σ(−b)·(1 − exp(b −
    a)). `as_reported` takes the density at its middle instead where that is at most 1e-5, as the published code and
    `pixelcnn eval` do.
    """
    channels = x.shape[1]
    logits, means, log_scales, coefficients = mixture(params, channels)
    if channels == 3:
        c = torch.tanh(coefficients)
        red, green = x[:, 0:1], x[:, 1:2]
        means = means + torch.stack(
            [torch.zeros_like(c[:, 0]), c[:, 0] * red, c[:, 1] * red + c[:, 2] * green], dim=1
        )
    log_scales = log_scales.clamp(min=NARROWEST)

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
