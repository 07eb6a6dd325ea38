"""Walks folders: finds images, ignores other entries, names unreadable ones; by the rules of src/input/walk.rs."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..convert.console import escaped

from . import TrainingError

SUFFIXES = ("bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp")


# Files that systems put beside people's, in any case: macOS in zip files, servers of Synology and QNAP,
# Windows, file systems of Linux. The program has the same list.
OF_SYSTEMS = (
    "__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "$recycle.bin", "system volume information",
    "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini",
)  # fmt: skip


class Found(NamedTuple):
    files: list[Path]
    passed_over: list[tuple[Path, str]]
    hidden: int
    others: int

    def say(self) -> None:
        counts = ((self.hidden, "hidden"), (self.others, "of other kinds"))
        left_out = ", ".join(f"{count} {what}" for count, what in counts if count)
        if left_out:
            print(f"note: left out in folders: {left_out}", file=sys.stderr)


def walk(root: Path) -> Found:
    """The images in a folder, in the order of their names. Links are followed; hidden files and folders
    are left out."""
    files: list[Path] = []
    passed_over: list[tuple[Path, str]] = []
    hidden = others = 0
    # With the folders that each lies in, by which a link back to one of them is known.
    waiting: list[tuple[Path, tuple[tuple[Path, os.stat_result], ...]]] = [(root, ())]
    while waiting:
        path, within = waiting.pop()
        if within and is_hidden(path):
            hidden += 1
            continue
        try:
            status = path.stat()
            if path.is_dir():
                around = [folder for folder, other in within if os.path.samestat(status, other)]
                if around:
                    raise TrainingError(f"is a link back to {shown(around[0])}, in which it lies")
                entries = sorted(path.iterdir(), key=os.fsencode, reverse=True)
                waiting += ((entry, (*within, (path, status))) for entry in entries)
            elif not has_suffix(path):
                others += 1
            elif path.is_file():
                files.append(path)
            else:
                raise TrainingError("is no ordinary file")
        except OSError as error:
            if not within:
                raise TrainingError(f"{shown(path)}: {why_unreadable(path, error)}") from None
            passed_over.append((path, why_unreadable(path, error)))
        except TrainingError as error:
            passed_over.append((path, str(error)))
    return Found(files, passed_over, hidden, others)


def has_suffix(path: Path) -> bool:
    return path.suffix.lower()[1:] in SUFFIXES


def is_hidden(path: Path) -> bool:
    """True for files and folders that are not the user's data. Leading dots hide files everywhere but on Windows."""
    return path.name.startswith(".") or path.name.lower() in OF_SYSTEMS


def why_unreadable(path: Path, error: OSError) -> str:
    """The system's reason for an unreadable path; a link to nowhere is named as such."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return f"is a link to {shown(Path(os.readlink(path)))}, which is not there"
    return f"cannot be read: {error.strerror or error}"


def shown(path: Path | str) -> str:
    """A path as text of one line: bytes that are not UTF-8, and control characters, are escaped."""
    is_control = lambda c: unicodedata.category(c) == "Cc"  # noqa: E731
    return "".join(
        c.encode("unicode_escape").decode() if is_control(c) else c for c in escaped(os.fspath(path))
    )


def listed(names: Iterable[str]) -> str:
    """Names as one line; the first ones, if there are many."""
    names = [shown(name) for name in names]
    return ", ".join(names[:50]) + (f", and {len(names) - 50} more" if len(names) > 50 else "")
