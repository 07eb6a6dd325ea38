"""Images in arrays: NumPy's files, and MNIST and CIFAR-10 as published."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from . import TrainingError
from .source import Raw, Source
from .walk import shown

MOST_CHANNELS = 4  # of codes


def read_arrays(path: Path, leave_out: str | None, codes: bool = False) -> Source:
    """Reads an .npz or an .npy by its content, whatever its name."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            names = getattr(loaded, "files", None)
            arrays = {"x": loaded} if names is None else {name: loaded[name] for name in names}
    except Exception as error:  # a broken file can raise anything
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise TrainingError(f"{shown(path)}: cannot be read as an .npz file: {reason}") from None
    # NumPy returns members that are no arrays as bytes.
    arrays = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    names = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    if names[0] not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise TrainingError(f"{shown(path)}: expected an array x (or x_train), found {found}")
    if codes:
        for name in names[0], "x_test":
            if name in arrays:
                arrays[name] = as_codes(path, name, arrays[name])
    train = raw(path, arrays, *names)
    if leave_out:
        if leave_out not in arrays or arrays[leave_out].shape != (len(train.x),):
            raise TrainingError(
                f"--leave-out {leave_out}: expected an array of that name in {shown(path)}, one value an image"
            )
        keep = arrays[leave_out] == 0
        train = Raw(train.x[keep], None if train.y is None else train.y[keep])
    test = raw(path, arrays, "x_test", "y_test") if "x_test" in arrays else None
    return Source(train, test, names_in(path, arrays.get("classes")))


def as_codes(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    """Whole numbers [N, H, W] or [N, H, W, C] as uint16."""
    whole = x.dtype.kind in "iu" and x.ndim in (3, 4) and 0 < (x.shape[3] if x.ndim == 4 else 1) <= MOST_CHANNELS
    if not whole or (x.size and not 0 <= int(x.min()) <= int(x.max()) < 1 << 16):
        found = f"{x.dtype} {list(x.shape)}" + (f" from {x.min()} to {x.max()}" if whole else "")
        raise TrainingError(
            f"{shown(path)}: {name} is {found}, expected codes: whole numbers from 0 to 65535 [N, H, W] or [N, H, W, C] of up "
            f"to {MOST_CHANNELS} channels"
        )
    return x.astype(np.uint16)


def names_in(path: Path, classes: np.ndarray | None) -> list[str] | None:
    if classes is None:
        return None
    if classes.ndim != 1 or classes.dtype.kind not in "US":
        raise TrainingError(
            f"{shown(path)}: classes is {classes.dtype} {list(classes.shape)}, expected a list of texts"
        )
    return [
        name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name) for name in classes
    ]


def raw(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> Raw:
    x, y = arrays[x_name], arrays.get(y_name)
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype != np.uint16 and (x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3)):
        raise TrainingError(
            f"{shown(path)}: {x_name} is {x.dtype} {list(x.shape)}, expected uint8 "
            f"[N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if y is not None and (
        y.shape != x.shape[:1]
        or y.dtype.kind not in "iu"
        or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < 2**63)
    ):
        raise TrainingError(
            f"{shown(path)}: {y_name} is {y.dtype} {list(y.shape)}, expected [{len(x)}] class numbers from 0"
        )
    return Raw(x, None if y is None else y.astype(np.int64))


def find_idx(folder: Path, stem: str) -> Path | None:
    """A file of MNIST; its name is written with a dash or a dot, packed or not."""
    rank = 3 if stem.endswith("images") else 1
    for name in (f"{stem}-idx{rank}-ubyte", f"{stem}.idx{rank}-ubyte"):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.exists():
                return candidate
    return None


def read_idx_folder(folder: Path) -> Source:
    def part(name: str) -> Raw | None:
        images, labels = find_idx(folder, f"{name}-images"), find_idx(folder, f"{name}-labels")
        if images is None:
            return None
        arrays = {"images": read_idx(images)}
        if labels is not None:
            arrays["labels"] = read_idx(labels)
        return raw(folder, arrays, "images", "labels")

    train = part("train")
    assert train is not None
    return Source(train, part("t10k"), None)


def read_idx(path: Path) -> np.ndarray:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise TrainingError(f"{shown(path)}: cannot be read: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise TrainingError(
            f"{shown(path)}: is not an IDX file of bytes (it begins with {data[:4].hex() or 'nothing'})"
        )
    rank = data[3]
    lengths = [int(n) for n in np.frombuffer(data[4 : 4 + 4 * (len(data[4:]) // 4)], ">u4")[:rank]]
    values = np.frombuffer(data, np.uint8)[4 + 4 * rank :]
    if len(lengths) < rank or len(values) != np.prod(lengths, dtype=np.int64):
        raise TrainingError(
            f"{shown(path)}: is {len(data)} bytes long, which its header {lengths} contradicts"
        )
    return values.reshape(lengths)


class Plain(pickle.Unpickler):
    """Numbers, texts and arrays only: a pickle can name any function to be called."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "_codecs.encode"}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            # Their module in NumPy has changed.
            return np.ndarray.__reduce__(np.empty(0))[0] if name == "_reconstruct" else getattr(np, name)
        if f"{module}.{name}" in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which has no place in it")


def read_batches(folder: Path) -> Source:
    def batch(name: str) -> dict[bytes, Any]:
        try:
            with (folder / name).open("rb") as file:
                return Plain(file, encoding="bytes").load()
        except Exception as error:  # a broken pickle can raise anything
            raise TrainingError(
                f"{shown(folder / name)}: cannot be read as a CIFAR-10 batch: {error}"
            ) from None

    def part(names: list[str]) -> Raw:
        batches = [(name, batch(name)) for name in names]
        for name, b in batches:
            x = b.get(b"data") if isinstance(b, dict) else None
            if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape[1:] != (3072,):
                raise TrainingError(f"{shown(folder / name)}: expected uint8 data [N, 3072]")
            labels = b.get(b"labels")
            if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
                raise TrainingError(f"{shown(folder / name)}: expected a list of whole numbers as labels")
        x = np.concatenate([b[b"data"] for _, b in batches])
        y = np.array([label for _, b in batches for label in b[b"labels"]])
        return raw(
            folder, {"data": x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), "labels": y}, "data", "labels"
        )

    names = sorted(file.name for file in folder.glob("data_batch_*"))
    test = part(["test_batch"]) if (folder / "test_batch").exists() else None
    classes = None
    if (folder / "batches.meta").exists():
        meta = batch("batches.meta")
        classes = meta.get(b"label_names") if isinstance(meta, dict) else None
        if not isinstance(classes, list) or not all(isinstance(name, bytes) for name in classes):
            raise TrainingError(f"{shown(folder / 'batches.meta')}: expected a list label_names of texts")
        classes = [name.decode("utf-8", "backslashreplace") for name in classes]
    return Source(part(names), test, classes)
