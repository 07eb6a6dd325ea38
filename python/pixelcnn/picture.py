"""Grids of images, for notebooks and PNG files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ._pixelcnn import grid_png
from .arrays import as_array, whole
from .convert.files import put_whole


class Grid:
    """Images side by side; a notebook shows it as a picture."""

    def __init__(self, images: npt.NDArray[np.uint8], columns: int | None, scale: int):
        self._images, self._columns, self._scale = images, columns, scale

    def __repr__(self) -> str:
        count, height, width, channels = self._images.shape
        return f"<pixelcnn.Grid of {count} images, {height}×{width}×{channels}>"

    def to_png(self) -> bytes:
        """The picture as a PNG file."""
        count, height, width, channels = self._images.shape
        return grid_png(self._images.tobytes(), count, width, height, channels, self._columns, self._scale)

    def _repr_png_(self) -> bytes:
        return self.to_png()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as a PNG file, which appears whole or not at all.

        Raises `ValueError` for a name that does not end in .png.
        """
        if os.path.splitext(os.fspath(path))[1].lower() != ".png":
            raise ValueError(f"{os.fspath(path)}: a grid is a PNG file: expected a name that ends in .png")
        put_whole(Path(path), lambda file: file.write(self.to_png()))


def grid(images: Any, *, columns: int | None = None, scale: int | None = None, levels: int = 256) -> Grid:
    """Show images side by side, with gaps of a pixel.

    images: levels [N, H, W, C] or [N, C, H, W] with 1 or 3 channels, [N, H, W], or completions [N, n, H, W, C], with
        one row per image.
    columns: images in a row; by default as many as make the picture about as wide as high.
    scale: pixels of the picture per pixel of an image; by default such that it is about 400 wide.
    levels: number of levels of the model; fewer than 256 are stretched.

    >>> import numpy, pixelcnn
    >>> pixelcnn.grid(numpy.zeros((6, 8, 8, 3), numpy.uint8), columns=3)
    <pixelcnn.Grid of 6 images, 8×8×3>
    """
    array = as_array(images)
    found = list(array.shape)
    if array.ndim == 5:
        columns = array.shape[1] if columns is None else columns
        array = array.reshape(-1, *array.shape[2:])
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim == 4 and array.shape[3] not in (1, 3) and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise ValueError(f"images: expected shape [N, H, W, C] with 1 or 3 channels, found {found}")
    if array.dtype.kind not in "uib":
        raise TypeError(f"images: expected whole numbers, found {array.dtype}")
    whole("levels", levels, 2, 256)
    if array.min() < 0 or array.max() >= levels:
        raise ValueError(f"images: expected levels from 0 to {levels - 1}, found {array.min()} to {array.max()}")
    array = (array.astype(np.uint32) * 255 // (levels - 1)).astype(np.uint8)
    count, height, width, _ = array.shape
    if columns is not None:
        columns = min(whole("columns", columns, 1, 2**20), count)
    if scale is None:
        across = columns or max(1, round((count * (height + 1) / (width + 1)) ** 0.5))
        scale = max(1, 400 // (across * (width + 1)))
    return Grid(np.ascontiguousarray(array), columns, whole("scale", scale, 1, 1024))
