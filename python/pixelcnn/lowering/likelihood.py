"""The likelihood of images under a head's parameters, in bits."""

from __future__ import annotations

import numpy as np

from .numeric import sigmoid


def bits_per_dim(kind: str, parameters: np.ndarray, levels: np.ndarray, count: int) -> np.ndarray:
    """Bits per (sub)pixel [N] of levels [N, H, W, C] under parameters [N, H, W, F]."""
    if kind == "softmax":
        nats = _softmax(parameters.reshape(*levels.shape, count), levels)
    elif kind == "bernoulli":
        nats = -np.logaddexp(0, np.where(levels == 1, -parameters, parameters)).sum(-1)
    else:
        nats = _mixture(parameters, levels)
    return -nats.sum((1, 2)) / np.log(2) / np.prod(levels.shape[1:])


def _softmax(logits: np.ndarray, levels: np.ndarray) -> np.ndarray:
    top = logits.max(-1, keepdims=True)
    total = top[..., 0] + np.log(np.exp(logits - top).sum(-1))
    return (np.take_along_axis(logits, levels[..., None], -1)[..., 0] - total).sum(-1)


def components(parameters: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits [..., M], means and logarithms of scales [..., C, M]; green and blue given the channels before."""
    channels = levels.shape[-1]
    x = (levels - 127.5) / 127.5
    m = parameters.shape[-1] // (10 if channels == 3 else 3)
    logits, rest = parameters[..., :m], parameters[..., m:]
    rest = rest.reshape(*rest.shape[:-1], channels, -1)
    mean, log_scale = rest[..., :m].copy(), np.maximum(rest[..., m : 2 * m], -7)
    if channels == 3:
        c = np.tanh(rest[..., 2 * m :])
        mean[..., 1, :] += c[..., 0, :] * x[..., 0, None]
        mean[..., 2, :] += c[..., 1, :] * x[..., 0, None] + c[..., 2, :] * x[..., 1, None]
    return logits, mean, log_scale


def _mixture(parameters: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Section 2 of PixelCNN++: discretised logistics."""
    logits, mean, log_scale = components(parameters, levels)
    x = (levels - 127.5) / 127.5
    z = (x[..., None] - mean) * np.exp(-log_scale)
    half = np.exp(-log_scale) / 255
    upper, lower = z + half, z - half
    delta = sigmoid(upper) - sigmoid(lower)
    middle = z - log_scale - 2 * np.logaddexp(0, z) - np.log(127.5)
    inner = np.where(delta > 1e-5, np.log(np.maximum(delta, 1e-12)), middle)
    each = np.where(
        levels[..., None] == 0,
        -np.logaddexp(0, -upper),
        np.where(levels[..., None] == 255, -np.logaddexp(0, lower), inner),
    )
    joint = each.sum(-2) + logits
    top, top_logit = joint.max(-1, keepdims=True), logits.max(-1, keepdims=True)
    total = top_logit[..., 0] + np.log(np.exp(logits - top_logit).sum(-1))
    return top[..., 0] + np.log(np.exp(joint - top).sum(-1)) - total
