"""Files that are there whole or not at all, at places that are known to take them before the work begins."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from . import ConversionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What stands in a file's place when its download went wrong.
NOT_THE_FILE = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: `git lfs pull` fetches that",
    b"<!doctype html": "a web page, not the file itself: download it again, by its link for raw files",
    b"<html": "a web page, not the file itself: download it again, by its link for raw files",
}


def check_input(path: Path) -> None:
    """Says so if a file is none that could be read in any order, or a stand-in for another."""
    if not path.exists() or path.is_dir():
        return
    if not path.is_file():
        raise ConversionError(f"{path}: is a pipe or a device; name a file (save what comes from it first)")
    with path.open("rb") as file:
        head = file.read(64).lstrip().lower()
    for start, meaning in NOT_THE_FILE.items():
        if head.startswith(start):
            raise ConversionError(f"{path}: is {meaning}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Of two names, the temporary one means nothing to a reader.
        raise ConversionError(f"{path}: cannot be written: {error.strerror or error}") from None


def target_of(path: Path) -> Path:
    """Where a symbolic link leads: the file there is replaced, and the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def prove_writable(path: Path) -> None:
    """By writing there: what `write_whole` needs is done, and undone."""
    with writing(path):
        target = target_of(path)
        if target.is_dir():
            raise ConversionError(f"{path}: is a folder; name a file in it")
        if target.exists():
            mode = target.stat().st_mode
            if not stat.S_ISREG(mode):
                raise ConversionError(f"{path}: is no ordinary file; name another output")
            if not mode & 0o222:
                raise ConversionError(f"{path}: is read-only; name another output, or allow writing")
            target.open("r+b").close()
        elif not target.absolute().parent.is_dir():
            raise ConversionError(f"{path}: there is no folder {target.parent}")
        else:
            # Under its own name, which a file system may refuse for its length or a character.
            try:
                target.open("xb").close()
            finally:
                target.unlink(missing_ok=True)


def prove_room(path: Path, sizes: Iterable[int]) -> None:
    """That files of these sizes, in bytes, fit beside each other where `path` will be."""
    sizes = list(sizes)
    with writing(path), contextlib.ExitStack() as files:
        folder = target_of(path).absolute().parent
        if not hasattr(os, "posix_fallocate"):
            if shutil.disk_usage(folder).free < sum(sizes):
                raise ConversionError(f"{path}: {sum(sizes) / 1e6:.1f} MB are needed, and there is less room")
            return
        try:
            for size in sizes:
                file = files.enter_context(tempfile.TemporaryFile(dir=folder))
                os.posix_fallocate(file.fileno(), 0, max(1, size))
        except PermissionError:
            pass  # a file that is written in place, in a folder that takes no others
        except OSError as error:
            raise ConversionError(
                f"{path}: {sum(sizes) / 1e6:.1f} MB are needed there: {error.strerror}"
            ) from None


def write_whole(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Under a temporary name first, so that no half-written file has the final one. An error leaves
    what was there before."""
    with writing(path):
        target = target_of(path)
        exists = target.is_file()
        try:
            temporary, file = begin(target.parent)
        except OSError:
            if not exists:
                raise
            # A file that may be changed, in a folder that may not.
            temporary, file = begin(Path(tempfile.gettempdir()))
        with contextlib.ExitStack() as at_end:
            at_end.callback(temporary.unlink, missing_ok=True)
            at_end.enter_context(file)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows renames no open file; elsewhere the lock holds until it is done.
            if exists:
                shutil.copymode(target, temporary)
            try:
                os.replace(temporary, target)
            except OSError:
                if not exists:
                    raise
                # A mount point, or another file system.
                shutil.copyfile(temporary, target)


# Of the names of files in the making, the program's too.
PREFIX = ".pixelcnn-"


def begin(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file, locked, with the rights that an ordinary one gets. What was abandoned there goes."""
    remove_abandoned(folder)
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(6)}.tmp"
        file = path.open("xb")
        lock(file)
        # Another's `remove_abandoned` may have been faster.
        if path.exists():
            return path, file
        file.close()


def lock(file: BinaryIO) -> bool:
    """Whether it is ours alone now. Some file systems have no locks."""
    with contextlib.suppress(OSError):
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def remove_abandoned(folder: Path) -> None:
    """Takes away what programs that were killed have left unfinished. Files that another one is still
    making are locked, and stay."""
    for path in folder.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            if lock(file):
                path.unlink()


def write_somewhere(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """For a result of hours: if it cannot be written where it belongs, it goes to the folder for
    temporary files, and the error says where."""
    try:
        write_whole(path, write)
    except ConversionError as error:
        kept = keep(path.name, write)
        raise ConversionError(f"{error}" + (f"; it is kept as {kept}" if kept else "")) from None


def keep(name: str, write: Callable[[BinaryIO], None]) -> Path | None:
    try:
        folder = Path(tempfile.mkdtemp(prefix="pixelcnn-"))
    except OSError:
        return None
    try:
        write_whole(folder / name, write)
    except ConversionError:
        folder.rmdir()
        return None
    return folder / name
