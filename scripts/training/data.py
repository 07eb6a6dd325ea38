"""Images to train on: read from any of the supported forms, brought to one size, and split."""

from __future__ import annotations

import gzip
import pickle
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import TrainingError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
KINDS = (
    "a folder of images (sub-folders are classes, and may lie in train/ and test/), an .npz with x and, "
    "for classes, y, or a folder with the files of MNIST (IDX) or CIFAR-10 (python batches)"
)
DEFAULT_SIZE = 32  # of folders; other data comes with its own


class Part(NamedTuple):
    """Some of the images, uint8 [N, C, H, W], and their classes, int64 [N]."""

    x: np.ndarray
    y: np.ndarray | None

    def __len__(self) -> int:
        return len(self.x)

    def of(self, indices: Any) -> Part:
        return Part(self.x[indices], None if self.y is None else self.y[indices])


class Data(NamedTuple):
    train: Part
    held_out: Part
    classes: list[str]


@dataclass(frozen=True)
class Wishes:
    """What the flags say of the data."""

    size: int | None
    grey: bool
    classes: bool
    leave_out: str | None
    held_out: int | None
    strict: bool


class Raw(NamedTuple):
    """Images as read, uint8 [N, H, W, C], with any labels."""

    x: np.ndarray
    y: np.ndarray | None


class Source(NamedTuple):
    train: Raw
    test: Raw | None
    classes: list[str] | None


def load(path: Path, wishes: Wishes) -> Data:
    if not path.exists():
        raise TrainingError(f"{path}: there is no such file or folder; expected {KINDS}")
    source = open_source(path, wishes)
    if wishes.classes and source.train.y is None:
        raise TrainingError(
            f"{path}: --classes needs labels, and there are none (y in an .npz, or sub-folders)"
        )
    train = brought(path, source.train, wishes)
    test = brought(path, source.test, wishes) if source.test is not None else None
    if test is not None and test.x.shape[1:] != train.x.shape[1:]:
        raise TrainingError(f"{path}: its test images are {shape(test)}, and the others {shape(train)}")
    classes = class_names(path, source, train, test) if wishes.classes else []
    return Data(*split(path, train, test, wishes.held_out), classes)


def open_source(path: Path, wishes: Wishes) -> Source:
    if path.suffix == ".npz":
        source = read_npz(path, wishes.leave_out)
    elif wishes.leave_out:
        raise TrainingError(f"--leave-out {wishes.leave_out}: is for .npz files, and {path} is none")
    elif not path.is_dir():
        raise TrainingError(f"{path}: expected {KINDS}")
    elif find_idx(path, "train-images"):
        source = read_idx_folder(path)
    elif (path / "data_batch_1").exists():
        source = read_batches(path)
    else:
        source = read_folder(path, wishes)
    if len(source.train.x) == 0:
        raise TrainingError(f"{path}: holds no images")
    return source


# Arrays


def read_npz(path: Path, leave_out: str | None) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{path}: cannot be read as an .npz file: {error}") from None
    names = ("x_train", "y_train") if "x_train" in arrays else ("x", "y")
    if names[0] not in arrays:
        found = ", ".join(arrays) or "nothing"
        raise TrainingError(f"{path}: expected an array x (or x_train), found {found}")
    train = raw(path, arrays, *names)
    if leave_out:
        if leave_out not in arrays or arrays[leave_out].shape != (len(train.x),):
            raise TrainingError(
                f"--leave-out {leave_out}: expected an array of that name in {path}, one value an image"
            )
        keep = arrays[leave_out] == 0
        train = Raw(train.x[keep], None if train.y is None else train.y[keep])
    test = raw(path, arrays, "x_test", "y_test") if "x_test" in arrays else None
    classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
    return Source(train, test, classes)


def raw(path: Path, arrays: dict[str, np.ndarray], x_name: str, y_name: str) -> Raw:
    x, y = arrays[x_name], arrays.get(y_name)
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise TrainingError(
            f"{path}: {x_name} is {x.dtype} {list(x.shape)}, expected uint8 "
            f"[N, H, W], [N, H, W, 1] or [N, H, W, 3]"
        )
    if y is not None and (y.shape != x.shape[:1] or y.dtype.kind not in "iu" or (len(y) and y.min() < 0)):
        raise TrainingError(
            f"{path}: {y_name} is {y.dtype} {list(y.shape)}, expected [{len(x)}] class numbers from 0"
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
    except (OSError, EOFError) as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise TrainingError(
            f"{path}: is not an IDX file of bytes (it begins with {data[:4].hex() or 'nothing'})"
        )
    rank = data[3]
    lengths = [int(n) for n in np.frombuffer(data[4 : 4 + 4 * (len(data[4:]) // 4)], ">u4")[:rank]]
    values = np.frombuffer(data, np.uint8)[4 + 4 * rank :]
    if len(lengths) < rank or len(values) != np.prod(lengths, dtype=np.int64):
        raise TrainingError(f"{path}: is {len(data)} bytes long, which its header {lengths} contradicts")
    return values.reshape(lengths)


class Plain(pickle.Unpickler):
    """Numbers, texts and arrays only: a pickle can name any function to be called."""

    ALLOWED = {"_reconstruct", "ndarray", "dtype", "_codecs.encode"}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            # Where NumPy keeps them has changed.
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
            raise TrainingError(f"{folder / name}: cannot be read as a CIFAR-10 batch: {error}") from None

    def part(names: list[str]) -> Raw:
        batches = [(name, batch(name)) for name in names]
        for name, b in batches:
            x = b.get(b"data") if isinstance(b, dict) else None
            if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape[1:] != (3072,):
                raise TrainingError(f"{folder / name}: expected uint8 data [N, 3072]")
        x = np.concatenate([b[b"data"] for _, b in batches])
        y = np.concatenate([np.asarray(b.get(b"labels", [])) for _, b in batches])
        return raw(
            folder, {"data": x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), "labels": y}, "data", "labels"
        )

    names = sorted(file.name for file in folder.glob("data_batch_*"))
    test = part(["test_batch"]) if (folder / "test_batch").exists() else None
    classes = None
    if (folder / "batches.meta").exists():
        classes = [name.decode() for name in batch("batches.meta")[b"label_names"]]
    return Source(part(names), test, classes)


# Folders of images


def read_folder(folder: Path, wishes: Wishes) -> Source:
    parts = {name: folder / name for name in ("train", "test") if (folder / name).is_dir()}
    if len(parts) < 2:
        parts = {"train": folder}
    classes: list[str] | None = None
    if wishes.classes:
        classes = sorted({f.name for part in parts.values() for f in part.iterdir() if f.is_dir()})
        if not classes:
            raise TrainingError(f"{folder}: --classes takes sub-folders as classes, and there are none")
    read = {name: read_images(part, classes, wishes) for name, part in parts.items()}
    return Source(read["train"], read.get("test"), classes)


def read_images(folder: Path, classes: list[str] | None, wishes: Wishes) -> Raw:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
    if not files:
        raise TrainingError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})")
    images, labels, skipped = [], [], []
    for file in files:
        try:
            place = file.relative_to(folder).parts
            if classes and len(place) == 1:
                raise TrainingError("lies in no sub-folder, so it has no class")
            images.append(read_image(file, wishes))
            labels.append(classes.index(place[0]) if classes else 0)
        except TrainingError as error:
            if wishes.strict:
                raise TrainingError(f"{file}: {error}") from None
            print(f"skipped {file}: {error}", file=sys.stderr)
            skipped.append(file)
    if skipped:
        print(
            f"note: {len(skipped)} of {len(files)} images were skipped (--strict stops instead)",
            file=sys.stderr,
        )
    if not images:
        raise TrainingError(f"{folder}: none of its {len(files)} images can be used")
    return Raw(np.stack(images), np.array(labels) if classes else None)


def read_image(file: Path, wishes: Wishes) -> np.ndarray:
    from PIL import Image

    size = wishes.size or DEFAULT_SIZE
    try:
        with Image.open(file) as image:
            image.load()
            if image.mode.startswith(("I", "F")):
                raise TrainingError(f"has more than 8 bits a channel (mode {image.mode}); convert it first")
            if min(image.size) < size:
                width, height = image.size
                raise TrainingError(f"is {width}x{height}, smaller than {size}x{size} (--size)")
            return fitted(image, size, wishes.grey)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingError(f"cannot be read: {error}") from None


def fitted(image: Any, size: int, grey: bool) -> np.ndarray:
    """The middle square of a picture, on white where it is transparent, at this size [H, W, C]."""
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if grey else "RGB")
    if image.size != (size, size):
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.resize((size, size), Image.LANCZOS, (left, top, left + side, top + side))
    return np.asarray(image).reshape(size, size, -1)


# What is common to all


def brought(path: Path, source: Raw, wishes: Wishes) -> Part:
    """To the size and colours asked for, [N, C, H, W]."""
    x = source.x
    height, width, channels = x.shape[1:]
    size = wishes.size
    if size and min(height, width) < size:
        raise TrainingError(f"{path}: its images are {width}x{height}, smaller than {size}x{size} (--size)")
    if (size and (height, width) != (size, size)) or (wishes.grey and channels == 3):
        from PIL import Image

        pictures = (Image.fromarray(image if channels == 3 else image[..., 0]) for image in x)
        grey = wishes.grey or channels == 1
        if size is None and height != width:
            raise TrainingError(
                f"{path}: its images are {width}x{height}; --grey needs --size where they are not square"
            )
        x = np.stack([fitted(picture, size or height, grey) for picture in pictures])
    return Part(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), source.y if wishes.classes else None)


def shape(part: Part) -> str:
    channels, height, width = part.x.shape[1:]
    return f"{width}x{height} of {channels} channels"


def class_names(path: Path, source: Source, train: Part, test: Part | None) -> list[str]:
    count = 1 + max(int(part.y.max()) for part in (train, test) if part is not None and part.y is not None)
    names = source.classes or [str(k) for k in range(count)]
    if count > len(names) or len(set(names)) < len(names):
        raise TrainingError(f"{path}: there are {count} classes, and names for {len(set(names))}")
    if len(np.unique(train.y)) < 2:
        raise TrainingError(f"{path}: all images are of one class; leave --classes out")
    return names


def split(path: Path, train: Part, test: Part | None, held_out: int | None) -> tuple[Part, Part]:
    """The test set or else some of the images are held out; always the same ones, whatever the seed."""
    if test is not None:
        if len(test) == 0:
            raise TrainingError(f"{path}: its test set holds no images")
        order = np.random.default_rng(0).permutation(len(test))
        return train, test.of(np.sort(order[: held_out or len(test)]))
    count = held_out or max(1, round(0.05 * len(train)))
    if count >= len(train):
        raise TrainingError(
            f"{path}: {len(train)} images, {count} of them to be held out: none is left to train on"
        )
    order = np.random.default_rng(0).permutation(len(train))
    return train.of(np.sort(order[count:])), train.of(np.sort(order[:count]))
