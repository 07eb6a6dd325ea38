"""Images that are made level by level, each level chosen by the caller: for entropy coders, steganography and the like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ._pixelcnn import Session
from .arrays import as_array

Levels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Step:
    """One channel of one pixel, of all images at once. `Steps` makes them.

    row, column, channel: its place.
    probs: the probabilities of its levels, float64 [N, L], given the levels of all steps before it.
    levels: the levels that it has been given, [N]; None as long as there are none.
    """

    __slots__ = ("row", "column", "channel", "probs", "levels", "_most")

    def __init__(self, place: tuple[int, int, int], probs: npt.NDArray[np.float64], levels: npt.NDArray[Any] | None, most: int):
        self.row, self.column, self.channel = place
        self.probs = probs
        self.levels = levels
        self._most = most

    def __repr__(self) -> str:
        return f"<pixelcnn.Step row {self.row}, column {self.column}, channel {self.channel}>"

    def give(self, levels: Any) -> None:
        """Give the levels of this step, whole numbers [N], before the next step is asked for.

        Raises `ValueError` or `TypeError` for levels that are none.
        """
        array, count = as_array(levels), len(self.probs)
        if array.shape != (count,):
            raise ValueError(f"{self!r}: expected levels of shape [{count}], found {list(array.shape)}")
        if array.dtype.kind not in "uib" and count:
            raise TypeError(f"{self!r}: expected whole numbers, found {array.dtype}")
        if count and not (0 <= array.min() and array.max() <= self._most):
            raise ValueError(f"{self!r}: expected levels from 0 to {self._most}, found {array.min()} to {array.max()}")
        self.levels = array


class Steps(Iterator[Step]):
    """An iterator over the steps of images; `Model.steps` makes one. `len` is the number of all steps.

    images: the images so far, [N, H, W, C]; levels not given yet are 0.
    """

    def __init__(self, session: Session, images: Levels, given: npt.NDArray[np.uint16] | None, levels: int):
        self.images = images
        self._session, self._given, self._levels = session, given, levels
        self._step: Step | None = None

    def __len__(self) -> int:
        return math.prod(self.images.shape[1:])

    def __next__(self) -> Step:
        if self._step is not None:
            self._take(self._step)
        place = self._session.place
        if place is None:
            raise StopIteration
        probs = np.frombuffer(self._session.probabilities(), np.float64).reshape(len(self.images), self._levels)
        row, column, channel = place
        known = None if self._given is None else self._given[:, row, column, channel].astype(self.images.dtype)
        self._step = Step(place, probs, known, self._levels - 1)
        return self._step

    def _take(self, step: Step) -> None:
        if step.levels is None:
            raise RuntimeError(f"{step!r} has no levels: step.give(levels) gives them, before the next step")
        self._session.give(step.levels.tolist())
        self.images[:, step.row, step.column, step.channel] = step.levels
        self._step = None
