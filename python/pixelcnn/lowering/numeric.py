"""The arithmetic of forms and gates, for `reference` and for constant borders."""

from __future__ import annotations

from math import erf

import numpy as np

_ERF = np.vectorize(erf, otypes=[float])


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The sigmoid, without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def activate(name: str, x: np.ndarray, slope: float | None = None) -> np.ndarray:
    """An activation by its name in the model file."""
    if name == "raw":
        return x
    if name == "relu":
        return np.maximum(x, 0)
    if name == "elu":
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    if name == "concat_elu":
        return np.concatenate([activate("elu", x), activate("elu", -x)], -1)
    if name == "leaky_relu":
        assert slope is not None
        return np.where(x > 0, x, x * slope)
    if name == "tanh":
        return np.tanh(x)
    if name == "sigmoid":
        return sigmoid(x)
    if name == "silu":
        return x * sigmoid(x)
    if name == "gelu":
        return x * 0.5 * (1 + _ERF(x / np.sqrt(2)))
    if name == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    if name == "softplus":
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    if name == "exp":
        return np.exp(x)
    raise ValueError(f"no activation is called {name}")


def formed(
    name: str,
    slope: float | None,
    negate: bool,
    scale: np.ndarray | None,
    shift: np.ndarray | None,
    x: np.ndarray,
) -> np.ndarray:
    """activation(±(scale·x + shift)) of [N, H, W, F]; scale and shift are broadcast already."""
    if scale is not None:
        x = x * scale
    if shift is not None:
        x = x + shift
    return activate(name, -x if negate else x, slope)


def spread(table: np.ndarray) -> np.ndarray:
    """[F], [K, F] or [K, H, W, F] as [K, H, W, F]."""
    if table.ndim == 1:
        return table[None, None, None]
    return table[:, None, None] if table.ndim == 2 else table


def read(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """x [N, h, w, F] at rows × columns; zero where an index is -1."""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    return padded[:, rows][:, :, columns]
