"""Images to train on: read from any of the supported forms, brought to one size, and split."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import TrainingError
from .arrays import find_idx, read_arrays, read_batches, read_idx_folder
from .folders import fitted, read_folder, say_resized
from .source import DataOptions, Raw, Source
from .walk import listed, shown, why_unreadable

KINDS = (
    "a folder of images (sub-folders are classes, and may lie in train/ and test/ or val/), an .npz with x "
    "and, for classes, y, an .npy, or a folder with the files of MNIST (IDX) or CIFAR-10 (python batches)"
)


class Part(NamedTuple):
    """Some of the images, uint8 (of codes uint16) [N, C, H, W], and their classes, int64 [N]."""

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


def load(path: Path, options: DataOptions) -> Data:
    try:
        if not path.exists():
            raise TrainingError(f"{shown(path)}: there is no such file or folder; expected {KINDS}")
        if path.is_dir():
            os.listdir(path)  # what may not be read is said before anything is looked for in it
        source = open_source(path, options)
    except OSError as error:
        place = path if error.filename is None else Path(error.filename)
        raise TrainingError(f"{shown(place)}: {why_unreadable(place, error)}") from None
    if options.classes:
        source = with_classes(path, source)
    train = brought(path, source.train, options)
    test = brought(path, source.test, options) if source.test is not None else None
    if test is not None and test.x.shape[1:] != train.x.shape[1:]:
        raise TrainingError(
            f"{shown(path)}: its test images are {shape(test)}, and the others {shape(train)}"
        )
    classes = source.classes or [] if options.classes else []
    data = Data(*split(path, train, test, options.held_out, classes), classes)
    if classes:
        say_classes(data)
    return data


def open_source(path: Path, options: DataOptions) -> Source:
    if path.suffix.lower() in (".npz", ".npy"):
        source = read_arrays(path, options.leave_out, options.codes)
    elif options.codes:
        raise TrainingError(f"--codes: expected an .npz or .npy with x, found {shown(path)}")
    elif options.leave_out:
        raise TrainingError(f"--leave-out {options.leave_out}: is for .npz files, and {shown(path)} is none")
    elif not path.is_dir():
        raise TrainingError(f"{shown(path)}: expected {KINDS}")
    elif find_idx(path, "train-images"):
        source = read_idx_folder(path)
    elif (path / "data_batch_1").exists():
        source = read_batches(path)
    else:
        source = read_folder(path, options)
    if len(source.train.x) == 0:
        raise TrainingError(f"{shown(path)}: has no images")
    return source


def brought(path: Path, source: Raw, options: DataOptions) -> Part:
    """Images of the requested size and colours, [N, C, H, W]."""
    x = source.x
    height, width, channels = x.shape[1:]
    size = options.size
    if size and min(height, width) < size:
        raise TrainingError(
            f"{shown(path)}: its images are {width}x{height}, smaller than {size}x{size} (--size)"
        )
    if (size and (height, width) != (size, size)) or (options.grey and channels == 3):
        from PIL import Image

        pictures = (Image.fromarray(image if channels == 3 else image[..., 0]) for image in x)
        grey = options.grey or channels == 1
        if size is None and height != width:
            raise TrainingError(
                f"{shown(path)}: its images are {width}x{height}; --grey needs --size where they are not square"
            )
        side = size or height
        x = np.stack([fitted(picture, (side, side), grey) for picture in pictures])
        say_resized(Counter({(width, height): len(x)}), side, side)
    return Part(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), source.y if options.classes else None)


def shape(part: Part) -> str:
    channels, height, width = part.x.shape[1:]
    return f"{width}x{height} of {channels} channels"


def with_classes(path: Path, source: Source) -> Source:
    """Renumbers labels from 0 without gaps, with a name for each."""
    train, test, names = source
    for part, what in (
        (train, "--classes needs labels, and there are none (y in an .npz, or sub-folders)"),
        (test, "its test set has no labels, which --classes needs (y_test in an .npz)"),
    ):
        if part is not None and part.y is None:
            raise TrainingError(f"{shown(path)}: {what}")
    labels, counts = np.unique(train.y, return_counts=True)
    if len(labels) < 2:
        raise TrainingError(f"{shown(path)}: all images are of one class; leave --classes out")
    if names is None:
        if labels[-1] >= len(labels):
            found = ", ".join(f"{label} ({count} images)" for label, count in zip(labels[:5], counts))
            raise TrainingError(
                f"{shown(path)}: expected labels from 0 to {len(labels) - 1} without gaps, found {len(labels)} labels "
                f"from {labels[0]} to {labels[-1]}: {found}{', …' if len(labels) > 5 else ''} (an array classes "
                f"in an .npz gives names, and those without images are left out)"
            )
        names = [str(label) for label in labels]
    if labels[-1] >= len(names) or len(set(names)) < len(names):
        raise TrainingError(
            f"{shown(path)}: there are {labels[-1] + 1} classes, and names for {len(set(names))}"
        )
    empty = sorted(set(range(len(names))) - set(labels.tolist()))
    if empty:
        print(
            f"note: no classes, for they have no images: {listed(names[k] for k in empty)}", file=sys.stderr
        )
    if test is not None and not np.isin(test.y, labels).all():
        label = test.y[~np.isin(test.y, labels)][0]
        raise TrainingError(
            f"{shown(path)}: its test set has the label {label}, which none of the others has"
        )
    parts = [part and Raw(part.x, np.searchsorted(labels, part.y)) for part in (train, test)]
    return Source(parts[0], parts[1], [names[k] for k in labels])


def say_classes(data: Data) -> None:
    counts = [np.bincount(part.y, minlength=len(data.classes)) for part in (data.train, data.held_out)]
    each = (f"{name} {train} + {held_out}" for name, train, held_out in zip(data.classes, *counts))
    print(f"{len(data.classes)} classes, with images to train on + held out: {listed(each)}", file=sys.stderr)


def split(
    path: Path, train: Part, test: Part | None, held_out: int | None, classes: list[str]
) -> tuple[Part, Part]:
    """The test set or else some of the images are held out; always the same ones, whatever the seed. Each class
    keeps one to train on."""
    if test is not None:
        if len(test) == 0:
            raise TrainingError(f"{shown(path)}: its test set has no images")
        order = np.random.default_rng(0).permutation(len(test))
        return train, test.of(np.sort(order[: held_out or len(test)]))
    count = held_out or max(1, round(0.05 * len(train)))
    order = np.random.default_rng(0).permutation(len(train))
    kept = one_of_each_class(order, train.y)
    chosen = order[~kept][:count]
    if len(chosen) < count or count == len(train):
        raise TrainingError(
            f"{shown(path)}: {len(train)} images, {count} of them to be held out: none is left to train on"
            + (f", or none of a class: each of the {kept.sum()} needs one" if kept.any() else "")
        )
    if kept[:count].any():
        names = listed(classes[k] for k in sorted(train.y[order[:count][kept[:count]]]))
        print(f"note: not held out, for each is the last of its class to train on: one image of {names}", file=sys.stderr)
    rest = np.setdiff1d(np.arange(len(train)), chosen)
    return train.of(rest), train.of(np.sort(chosen))


def one_of_each_class(order: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Marks the last image of each class in this order."""
    last = np.zeros(len(order), bool)
    if y is not None:
        _, from_end = np.unique(y[order[::-1]], return_index=True)
        last[len(order) - 1 - from_end] = True
    return last
