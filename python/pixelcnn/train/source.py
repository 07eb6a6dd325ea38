"""Data as it is read, before it is brought to one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class DataOptions:
    """Flags about the data."""

    size: int | None
    grey: bool
    classes: bool
    leave_out: str | None
    held_out: int | None
    strict: bool
    codes: bool = False


class Raw(NamedTuple):
    """Images as read, uint8 [N, H, W, C], with any labels."""

    x: np.ndarray
    y: np.ndarray | None


class Source(NamedTuple):
    train: Raw
    test: Raw | None
    classes: list[str] | None
