"""From a checkpoint's tensors to ours: strict accounting, then the weight norm folded away."""

from __future__ import annotations

import numpy as np

from . import COMPILE, ConversionError, listing
from .classes.choose import Chosen
from .classes.fold import fold_classes, published_inputs
from .classes.places import Size
from .names import TORCH, Checkpoint, Layout
from .network import Architecture, network

WEIGHT_TYPES = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}
BIAS_TYPE = np.dtype("<f4")


def convert_weights(
    c: Checkpoint, a: Architecture, chosen: Chosen, size: Size, dtype: str
) -> dict[str, np.ndarray]:
    """All tensors of our file."""
    weight_type = WEIGHT_TYPES[dtype]
    weights, first = {}, {}
    for layer in network(a):
        scope = getattr(layer, c.convention.column)
        if layer.kind == "conditional_weights":
            if scope:
                weight = c.read(c.names[scope, "hw"])
                weights[f"{layer.name}.weight"] = cast(c.name((scope, "hw")), weight, weight_type)
            continue
        v, g, b = (c.names[scope, part] for part in ("V", "g", "b"))
        weight = fold(c.read(v), c.read(g), c.convention.layouts[layer.kind], v)
        if layer.name.startswith("input."):
            first[layer.name] = weight
            weight = weight[:, :, published_inputs(chosen, a)]
        weights[f"{layer.name}.weight"] = cast(v, weight, weight_type)
        weights[f"{layer.name}.bias"] = cast(b, c.read(b), BIAS_TYPE)
    for name, share in fold_classes(chosen, a, size, first):
        weights[name] = cast(name, share, weight_type)
    return weights


def account(c: Checkpoint, a: Architecture) -> None:
    """Every layer's tensor has its place, every place its tensor, and every shape is as expected."""
    expected: dict[tuple[str, str], tuple[int, ...]] = {}
    for layer in network(a):
        scope = getattr(layer, c.convention.column)
        if not scope:  # other conventions' classes
            continue
        if layer.kind == "conditional_weights":
            expected[scope, "hw"] = layer.shape
        else:
            expected[scope, "V"] = c.convention.layouts[layer.kind].stored(layer.shape)
            expected[scope, "g"] = c.convention.gain_shape(layer)
            expected[scope, "b"] = layer.shape[-1:]

    missing = [c.name(key) for key in expected if key not in c.names]
    extra = [name for key, name in c.names.items() if key not in expected]
    if missing or extra:
        raise ConversionError(
            f"the tensors are not those of a network of {a.levels} levels of {a.blocks} blocks "
            f"({a.evidence})"
            + (f"\n  missing: {listing(missing)}" if missing else "")
            + (f"\n  without a place: {listing(sorted(extra))}" if extra else "")
            + (f"\n  {COMPILE}" if c.convention is TORCH else "")
        )
    for key, shape in expected.items():
        if c.shape(key) != shape:
            raise ConversionError(
                f"{c.name(key)} has shape {list(c.shape(key))}, expected {list(shape)} ({a.evidence})"
            )


def fold(v: np.ndarray, g: np.ndarray, layout: Layout, name: str) -> np.ndarray:
    """W = g·V/‖V‖, in our layout."""
    v = v.transpose(np.argsort(layout.axes))
    others = tuple(axis for axis in range(v.ndim) if axis != layout.gain)
    norm = np.sqrt(np.square(v).sum(axis=others, keepdims=True))
    if not norm.all():
        raise ConversionError(
            f"{name}: the norm of channel {int(np.argmin(norm))} is zero, so its weights have no direction"
        )
    return v * (g.reshape(norm.shape) / norm)


def cast(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype)
    if not np.isfinite(result).all():
        largest = np.abs(array).max()
        raise ConversionError(f"{name}: {largest:.3g} is beyond the range of {dtype.name}")
    return result
