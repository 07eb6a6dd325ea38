"""The rule for the files of a call: no output is an input or another output. Files are compared by identity, not by the
spelling of their names; src/cli/files.rs has the same rule."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from . import ConversionError
from .temporary import new


class Place(NamedTuple):
    """The place of a file that is there or will be: device and number of the file, or of the nearest folder above it that exists; and
    the names below that folder."""

    identity: tuple[int, int]
    folder: Path
    missing: tuple[str, ...]

    def is_same(self, other: Place) -> bool:
        if self.identity != other.identity:
            return False
        if self.missing == other.missing:
            return True
        folded = [[name.lower() for name in place.missing] for place in (self, other)]
        return folded[0] == folded[1] and ignores_case(self.folder)


def place_of(path: Path) -> Place | None:
    """None for a path without a place, which cannot be written."""
    path = Path(os.path.realpath(path))
    missing: list[str] = []
    while True:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            missing.insert(0, path.name)
            if path == path.parent:
                return None
            path = path.parent
        except OSError:
            return None
        else:
            return Place((status.st_dev, status.st_ino), path, tuple(missing))


def ignores_case(folder: Path) -> bool:
    """Tested in the folder itself, because a system may have file systems of both kinds."""
    try:
        path, file = new(folder)
    except OSError:
        return sys.platform in ("win32", "darwin")
    with file:
        found = path.with_name(path.name.upper()).exists()
    path.unlink()
    return found


def is_within(path: Path, folder: Path) -> bool:
    """True if a file is, or will be, the folder or below it."""
    place, above = place_of(folder), Path(os.path.realpath(path))
    if place is None:
        return False
    return any((at := place_of(each)) is not None and at.is_same(place) for each in (above, *above.parents))


def refuse_clashes(read: Iterable[tuple[str, Path]], written: Iterable[tuple[str, Path]]) -> None:
    """Takes names and their purposes; before anything is written."""
    places: list[tuple[str, Path, Place]] = []
    for what, path in written:
        place = place_of(path)
        if place is None:
            continue
        for other, first, taken in places:
            if taken.is_same(place):
                raise ConversionError(
                    f"{what} {path}: is the same file as {other} {first}; name another for one of them"
                )
        places.append((what, path, place))
    for what, path in read:
        place = place_of(path)
        for output, name, taken in places:
            if place is not None and taken.is_same(place):
                raise ConversionError(
                    f"{output} {name}: is the same file as {what} {path}, which is read; name another output"
                )
