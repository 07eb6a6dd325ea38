"""Writes files whole or not at all, at places that are tested before the work begins."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from . import ConversionError
from .temporary import begin

# First bytes of files that a failed download leaves.
NOT_THE_FILE = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: `git lfs pull` fetches that",
    b"<!doctype html": "a web page, not the file itself: download it again, by its link for raw files",
    b"<html": "a web page, not the file itself: download it again, by its link for raw files",
}


def check_input(path: Path) -> None:
    """Refuses a file that cannot be read in any order, or stands in for another."""
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
        # The final name means more to a reader than the temporary one.
        raise ConversionError(f"{path}: cannot be written: {error.strerror or error}") from None


def target_of(path: Path) -> Path:
    """The target of a symbolic link: it is replaced, and the link stays."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def prove_writable(path: Path) -> None:
    """Try the steps of `write_whole`, and undo them."""
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
            # Under its own name, which a file system may refuse for its length or a character. Another process
            # may give a file of its own that name, which stays.
            with contextlib.suppress(FileExistsError), target.open("xb") as file:
                if os.path.samestat(os.fstat(file.fileno()), target.lstat()):
                    target.unlink()


def prove_room(path: Path, sizes: Iterable[int]) -> None:
    """Checks that files of these sizes, in bytes, fit beside each other where `path` will be."""
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


class Kept(ConversionError):
    """The output cannot be written at its place, and is kept at another, which the message names."""


def write_whole(path: Path, write: Callable[[BinaryIO], object], synced: bool = True) -> None:
    """Like `put_whole`; a refusal of the system is a `ConversionError` that names the file."""
    with writing(path):
        put_whole(path, write, synced)


def put_whole(path: Path, write: Callable[[BinaryIO], object], synced: bool = True) -> None:
    """Write under a temporary name first, so that no half-written file has the final one. If `synced`, the file is on
    the disk before it replaces another. An error leaves the old file."""
    target = target_of(path)
    old = target.stat() if target.is_file() else None
    mode = old.st_mode & 0o666 if old else 0o666
    try:
        temporary, file = begin(target.parent, mode)
    except OSError:
        if old is None:
            raise
        # A file that may be changed, in a folder that may not.
        temporary, file = begin(Path(tempfile.gettempdir()), mode)
    with contextlib.ExitStack() as at_end:
        at_end.callback(temporary.unlink, missing_ok=True)
        at_end.enter_context(file)
        write(file)
        file.flush()
        if old is not None:
            keep_rights(path, file, old)
        if synced:
            sync(file)
        if os.name == "nt":
            file.close()  # Windows renames no open file
        try:
            os.replace(temporary, target)
        except OSError:
            if old is None:
                raise
            # A mount point, or another file system.
            try:
                write_in_place(path, temporary, target)
            except Kept:
                at_end.pop_all()  # the temporary file stays
                raise
    if synced:
        sync_folder(target.parent)


def write_in_place(path: Path, temporary: Path, target: Path) -> None:
    try:
        with temporary.open("rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            sync(file)
    except OSError as error:
        # The old file is lost, and the new one must not be.
        kept = temporary.with_name(f"kept-{secrets.token_hex(6)}-{target.name}")
        try:
            os.rename(temporary, kept)
        except OSError:
            kept = temporary
        raise Kept(f"{path}: cannot be written: {error.strerror}; it is kept as {kept}") from None


def sync(file: BinaryIO) -> None:
    """Waits until it is on the disk, if the file system supports that."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


NOTED: set[Path] = set()


def keep_rights(path: Path, file: BinaryIO, old: os.stat_result) -> None:
    """Mode and owner of the file that is replaced, as far as they differ and the system allows; else it says so."""
    if not hasattr(os, "fchown"):  # Windows
        return
    number = file.fileno()
    now = os.fstat(number)
    refused = None
    for wanted, change in (
        (now.st_uid != old.st_uid, lambda: os.fchown(number, old.st_uid, -1)),
        (now.st_gid != old.st_gid, lambda: os.fchown(number, -1, old.st_gid)),
        ((now.st_mode ^ old.st_mode) & 0o777, lambda: os.fchmod(number, old.st_mode & 0o777)),
    ):
        try:
            if wanted:
                change()
        except OSError as error:
            refused = refused or error
    if refused and path not in NOTED:
        NOTED.add(path)
        print(f"note: the mode or owner of {path} could not be kept: {refused.strerror}", file=sys.stderr)


def write_somewhere(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """For a result of hours: if it cannot be written where it belongs, it goes to the folder for
    temporary files, and the error says where."""
    try:
        write_whole(path, write)
    except Kept:
        raise
    except ConversionError as error:
        kept = keep(path.name, write)
        raise ConversionError(f"{error}" + (f"; it is kept as {kept}" if kept else "")) from None


def keep(name: str, write: Callable[[BinaryIO], None]) -> Path | None:
    """Under its name at once: no other process knows the folder, and the system may refuse to rename."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as on_error:
        folder = Path(tempfile.mkdtemp(prefix="pixelcnn-"))
        on_error.callback(shutil.rmtree, folder, ignore_errors=True)
        with (folder / name).open("xb") as file:
            write(file)
            file.flush()
            sync(file)
        on_error.pop_all()
        return folder / name
    return None
