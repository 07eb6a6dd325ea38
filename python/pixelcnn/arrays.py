"""Arguments of users, checked and brought into one form: images, masks, labels, whole numbers."""

from __future__ import annotations

import operator
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ._pixelcnn import Model as Native


def as_array(value: Any) -> npt.NDArray[Any]:
    """An array from any array-like, including a tensor of PyTorch on any device."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
    return np.asarray(value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number in a range."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a whole number, found {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, found {value!r}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: expected a whole number from {least} to {most}, found {number}")
    return number


def size_problem(native: Native, height: int, width: int) -> str | None:
    """The reason for which a model cannot work on images of a size; None if it can."""
    if native.takes_size(width, height):
        return None
    trained_width, trained_height = native.size
    if native.has_one_size:
        expected = f"{trained_height}×{trained_width} alone, for what it adds differs from pixel to pixel"
    else:
        expected = f"multiples of {native.size_multiple}, and no more than it has room for"
    return (
        f"model {native.name} cannot work on images of height {height} and width {width}: expected {expected} "
        f"(it was trained on {trained_height}×{trained_width})"
    )


def as_images(images: Any, shape: tuple[int, int, int], levels: int) -> npt.NDArray[np.uint16]:
    """Levels [N, H, W, C] of images [N, H, W, C], [N, C, H, W], or [N, H, W] for one channel.

    shape: of the model's own images, [H, W, C], which decides where both layouts fit.
    """
    array, channels = as_array(images), shape[2]
    found = list(array.shape)
    if array.ndim == 3 and channels == 1:
        array = array[..., None]
    elif array.ndim == 4:
        last, first = array.shape[3] == channels, array.shape[1] == channels
        if last and first and array.shape[1:] != shape:
            if array.shape[1:] != (channels, *shape[:2]):
                raise ValueError(
                    f"images of shape {found} could be [N, H, W, {channels}] or [N, {channels}, H, W]: "
                    f"transpose them to the former, with a size other than {channels}"
                )
            last = False
        if not last and first:
            array = np.moveaxis(array, 1, -1)
    if array.ndim != 4 or array.shape[3] != channels:
        one = "; one image is images[None]" if array.ndim in (2, 3) else ""
        layouts = f"[N, H, W, {channels}] or [N, {channels}, H, W]" + (" or [N, H, W]" if channels == 1 else "")
        raise ValueError(f"images: expected shape {layouts}, found {found}{one}")
    if array.dtype.kind not in "uib":
        raise TypeError(
            f"images: expected whole numbers from 0 to {levels - 1}, found {array.dtype}; of values from 0 to 1, "
            f"(images * {levels - 1}).round().astype(\"{'uint8' if levels <= 256 else 'uint16'}\") makes them"
        )
    if array.size and not (0 <= array.min() and array.max() < levels):
        raise ValueError(f"images: expected levels from 0 to {levels - 1}, found {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.uint16)


def as_mask(mask: Any, count: int, height: int, width: int) -> npt.NDArray[np.bool_]:
    """The mask of each image, [N, H, W], from a mask [H, W] or [N, H, W]."""
    array = as_array(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"mask: expected booleans, True where a pixel is given, found {array.dtype}")
    if array.shape not in ((height, width), (count, height, width)):
        raise ValueError(f"mask: expected shape {[height, width]} or {[count, height, width]}, found {list(array.shape)}")
    return np.ascontiguousarray(np.broadcast_to(array, (count, height, width)))


def as_classes(labels: Any, count: int, names: Sequence[str]) -> list[int]:
    """A class for each of `count` images, from one label for all or one each: names or indices."""
    if not names:
        raise ValueError("labels: the model has no classes")
    if not isinstance(labels, (str, int, list, tuple)):
        labels = as_array(labels)
        if labels.ndim > 1:
            raise ValueError(f"labels: expected shape [{count}], found {list(labels.shape)}")
        labels = labels.item() if labels.ndim == 0 else labels
    if isinstance(labels, (str, int, float)):
        return [_class_of(labels, names)] * count
    if len(labels) != count:
        raise ValueError(f"labels: expected one for each of the {count} images, found {len(labels)}")
    return [_class_of(label, names) for label in labels]


def _class_of(label: Any, names: Sequence[str]) -> int:
    if not isinstance(label, str):
        return whole("labels", label, 0, len(names) - 1)
    spelled = [unicodedata.normalize("NFC", name) for name in names]
    try:
        return spelled.index(unicodedata.normalize("NFC", label))
    except ValueError:
        listed = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
        raise ValueError(f"labels: no class is called {label!r}; there are {listed}") from None
