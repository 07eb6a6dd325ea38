"""The discretized mixture of logistics: log-likelihoods of 8-bit pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bits_per_dim(params: Tensor, x: Tensor, as_reported: bool = False) -> Tensor:
    """Bits per dimension [N] of images [N, C, H, W] in −1…1 under [N, 10M or 3M, H, W].

    A bin between −1 and 1 has the probability σ(a) − σ(b), computed without cancellation as
    σ(a)·σ(−b)·(1 − exp(b − a)). `as_reported` takes the density at its middle instead where that is at
    most 1e-5, as the published code and `pixelcnn eval` do.
    """
    n, channels, height, width = x.shape
    if channels == 3:
        mixtures = params.shape[1] // 10
        logits = params[:, :mixtures]
        rest = params[:, mixtures:].reshape(n, 3, 3, mixtures, height, width)
        m, log_scales, c = rest[:, :, 0], rest[:, :, 1], torch.tanh(rest[:, :, 2])
        red, green = x[:, 0:1], x[:, 1:2]
        means = torch.stack(
            [m[:, 0], m[:, 1] + c[:, 0] * red, m[:, 2] + c[:, 1] * red + c[:, 2] * green], dim=1
        )
    else:
        mixtures = params.shape[1] // 3
        logits, means, log_scales = params.split(mixtures, dim=1)
        means, log_scales = means[:, None], log_scales[:, None]
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
    nats = -torch.logsumexp(log_p.sum(1) + F.log_softmax(logits, dim=1), dim=1)
    return nats.sum((1, 2)) / (channels * height * width * math.log(2))
