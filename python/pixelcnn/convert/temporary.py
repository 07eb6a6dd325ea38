"""Temporary files: names that tell machine and process, by the rules of src/output/file/owner.rs, and the removal of
abandoned ones.

Locks are not used: on shared file systems a lock may hold on one machine only, fail, or never return.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

# First characters of temporary names, also the program's.
PREFIX = ".pixelcnn-"
# Seconds after which a temporary file of another machine is taken for abandoned, if nothing is written to it.
OLD = 6 * 60 * 60


def begin(folder: Path, mode: int = 0o666) -> tuple[Path, BinaryIO]:
    """A new file, with a mode that the umask restricts. Removes abandoned files there."""
    remove_abandoned(folder)
    return new(folder, mode)


def new(folder: Path, mode: int = 0o666) -> tuple[Path, BinaryIO]:
    path = folder / f"{PREFIX}{host()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"
    return path, open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))


@lru_cache(maxsize=1)
def host() -> str:
    """This machine: its name, its start, and its numbering of processes. Containers on one machine may have its
    name, and number processes by themselves."""
    name = "".join(c if c.isascii() and (c.isalnum() or c == ".") else "_" for c in socket.gethostname())
    # Without a start, no other process may count as one of this machine.
    return f"{name[:40]}.{since_start() or secrets.token_hex(6)}"


def since_start() -> str | None:
    """Tells this start of this machine, and the name space of its process numbers, from all others."""
    if sys.platform != "linux":
        return "0" if os.name == "posix" else None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return f"{boot[:8]}.{''.join(c for c in space if c.isdigit())}"


def remove_abandoned(folder: Path) -> None:
    """Removes files of processes of this machine that have ended, and those of other machines that are old by
    hours, and says so of these."""
    old = 0
    now = None
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            alive = is_alive(path.name)
            if alive is None:
                now = now or now_in(folder)
                if not path.is_file() or now - path.stat().st_mtime <= OLD:
                    continue
            if not alive:
                path.unlink()
                old += alive is None
    if old:
        print(
            f"note: removed {old} temporary files of other machines, which are hours old, from {folder}",
            file=sys.stderr,
        )


def now_in(folder: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    try:
        path, file = new(folder)
    except OSError:
        return time.time()
    with file:
        path.unlink()
        return os.fstat(file.fileno()).st_mtime


def is_alive(name: str) -> bool | None:
    """True if the process that writes the file of this name runs; None if this machine cannot know."""
    parts = name.removeprefix(PREFIX).split("-")
    if os.name != "posix" or len(parts) != 3 or parts[0] != host() or not parts[1].isdecimal():
        return None
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # somebody else's
    return True
