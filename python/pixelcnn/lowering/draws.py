"""Drawn levels against distributions and the noise that they were drawn with, apart from the engine's own draw."""

from __future__ import annotations

import numpy as np

from .likelihood import components
from .numeric import sigmoid

_MANY_LEVELS = 4096  # from more than which on a softmax takes two words of noise a channel


def words_of(kind: str, parameters: int, channels: int, levels: int) -> int:
    """Words of noise that a pixel's draw may take."""
    if kind == "logistic_mixture":
        return parameters // (10 if channels == 3 else 3) + channels
    return channels * (2 if levels > _MANY_LEVELS else 1)


def beyond(kind: str, parameters: np.ndarray, levels: np.ndarray, count: int, words: np.ndarray) -> np.ndarray:
    """The distance [N, H, W] of the noise from noise that gives the drawn levels; 0 where it gives them.

    In shares of probability for a softmax and a Bernoulli; for a mixture of logistics in units of the image from -1 to
    1, and in the logit of another component.

    parameters [N, H, W, F], levels [N, H, W, C] of `count`, words [N, H, W, `words_of`].
    """
    if kind == "logistic_mixture":
        return _of_mixture(parameters, levels, words)
    u = _uniform(words, count)
    if kind == "bernoulli":
        of_one = sigmoid(parameters)
        return np.maximum(np.where(levels == 1, u - of_one, of_one - u), 0).max(-1)
    logits = parameters.reshape(*levels.shape, count)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    ends = np.cumsum(weights, -1) / weights.sum(-1, keepdims=True)
    end = np.take_along_axis(ends, levels[..., None], -1)[..., 0]
    start = np.where(levels > 0, np.take_along_axis(ends, np.maximum(levels - 1, 0)[..., None], -1)[..., 0], 0)
    return np.maximum(0, np.maximum(start - u, u - end)).max(-1)


def _uniform(words: np.ndarray, levels: int) -> np.ndarray:
    if levels <= _MANY_LEVELS:
        return (words + 0.5) / 2.0**32
    high, low = (words[..., k::2].astype(np.uint64) for k in (0, 1))
    return ((high << np.uint64(21) | low >> np.uint64(11)) + 0.5) / 2.0**53


def _of_mixture(parameters: np.ndarray, levels: np.ndarray, words: np.ndarray) -> np.ndarray:
    """For every component its distance from being chosen, and from giving the levels; the least over components."""
    logits, mean, log_scale = components(parameters, levels)
    u = np.clip((np.float32(words >> 8) + np.float32(0.5)) / np.float32(2**24), np.float32(1e-5), np.float32(1 - 1e-5))
    u = u.astype(np.float64)
    of_components, of_channels = np.split(u, [logits.shape[-1]], -1)
    scores = logits - np.log(-np.log(of_components))
    behind = scores.max(-1, keepdims=True) - scores
    x = mean + np.exp(log_scale) * (np.log(of_channels) - np.log1p(-of_channels))[..., None]
    least = np.where(levels == 0, -np.inf, (levels - 0.5) / 127.5 - 1)[..., None]
    most = np.where(levels == 255, np.inf, (levels + 0.5) / 127.5 - 1)[..., None]
    outside = np.maximum(0, np.maximum(least - x, x - most)).max(-2)
    return np.maximum(behind, outside).min(-1)
