"""Folders of images: parts, classes, and files that cannot be used."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..convert.console import escaped

from . import TrainingError
from .decode import decode_file
from .source import DataOptions, Raw, Source
from .walk import SUFFIXES, is_hidden, listed, shown, walk

DEFAULT_SIZE = 32  # of folders; other data comes with its own
# Names of the folder beside one named train, in any case; the first that exists is held out.
HELD_OUT = ("test", "val", "valid", "validation")


class Images(NamedTuple):
    """The usable images of a folder, and the sub-folder of each."""

    x: np.ndarray
    folders: list[str]


def read_folder(folder: Path, options: DataOptions) -> Source:
    train, test = parts_of(folder)
    images = read_images(train, options)
    if not options.classes:
        return Source(Raw(images.x, None), Raw(read_images(test, options).x, None) if test else None, None)
    classes = sorted(set(images.folders))
    empty = sorted(
        entry.name
        for entry in train.iterdir()
        if entry.is_dir() and not is_hidden(entry) and escaped(entry.name) not in classes
    )
    if empty:
        print(f"note: no classes, for they hold no images that can be used: {listed(empty)}", file=sys.stderr)
    labelled = [Raw(images.x, numbers(images, classes))]
    if test:
        held_out = read_images(test, options)
        unknown = sorted(set(held_out.folders) - set(classes))
        if unknown and len(classes) > 1:
            raise TrainingError(f"{shown(test)}: its {listed(unknown)} are no classes in {shown(train)}")
        labelled.append(Raw(held_out.x, numbers(held_out, classes)))
    return Source(labelled[0], labelled[1] if test else None, classes)


def numbers(images: Images, classes: list[str]) -> np.ndarray:
    number = {name: k for k, name in enumerate(classes)}
    return np.array([number.get(name, -1) for name in images.folders])


def parts_of(folder: Path) -> tuple[Path, Path | None]:
    """The folder to train on and the one to hold out, if there are two."""
    inside = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    held_out = [inside[name] for name in HELD_OUT if name in inside]
    if "train" not in inside or not held_out:
        return folder, None
    used = (inside["train"], held_out[0])
    rest = [entry.name for entry in sorted(folder.iterdir()) if entry not in used and not is_hidden(entry)]
    print(
        f"note: {shown(used[0].name)} is to train on, {shown(used[1].name)} is held out"
        + (f"; left out: {listed(rest)}" if rest else ""),
        file=sys.stderr,
    )
    return used


def read_images(folder: Path, options: DataOptions) -> Images:
    found = walk(folder)
    images, folders = [], []
    sizes: Counter[tuple[int, int]] = Counter()
    skipped = 0

    def skip(file: Path, reason: object) -> None:
        nonlocal skipped
        if options.strict:
            raise TrainingError(f"{shown(file)}: {reason}")
        print(f"skipped {shown(file)}: {reason}", file=sys.stderr)
        skipped += 1

    for file, reason in found.passed_over:
        skip(file, reason)
    if options.classes and found.files and all(file.parent == folder for file in found.files):
        raise TrainingError(f"{shown(folder)}: --classes takes sub-folders as classes, and there are none")
    for file in found.files:
        try:
            place = file.relative_to(folder).parts
            if options.classes and len(place) == 1:
                raise TrainingError("lies in no sub-folder, so it has no class")
            image, size = read_image(file, options)
            images.append(image)
            sizes[size] += 1
            folders.append(escaped(place[0]))
        except TrainingError as error:
            skip(file, error)
    found.say()
    if images:
        say_resized(sizes, images[0].shape[1], images[0].shape[0])
    count = len(images) + skipped
    if not count:
        raise TrainingError(f"{shown(folder)}: has no images: expected files that end in {', '.join(SUFFIXES)}")
    if not images:
        raise TrainingError(f"{shown(folder)}: none of its {count} images can be used")
    if skipped:
        print(f"note: {skipped} of {count} images were skipped (--strict stops instead)", file=sys.stderr)
    return Images(np.stack(images), folders)


def read_image(file: Path, options: DataOptions) -> tuple[np.ndarray, tuple[int, int]]:
    """An image of the requested size [H, W, C], and the width and height that it had."""
    size = options.size or DEFAULT_SIZE
    picture = decode_file(file)
    if min(picture.size) < size:
        width, height = picture.size
        raise TrainingError(f"is {width}x{height}, smaller than {size}x{size} (--size)")
    return fitted(picture, (size, size), options.grey), picture.size


def fitted(picture: Any, size: tuple[int, int], grey: bool) -> np.ndarray:
    """The middle of a picture at this width and height [H, W, C]. src/input/resize.rs does the same, to the level."""
    from PIL import Image

    picture = picture.convert("L" if grey else "RGB")
    if picture.size != size:
        picture = picture.resize(size, Image.LANCZOS, middle(picture.size, size))
    return np.asarray(picture).reshape(size[1], size[0], -1)


def middle(of: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the largest box with the shape of `size`, in the middle of a picture."""
    share = lambda whole, part, of: (whole * part + of // 2) // of  # noqa: E731
    is_wide = of[0] * size[1] > of[1] * size[0]
    width = share(of[1], size[0], size[1]) if is_wide else of[0]
    height = of[1] if is_wide else share(of[0], size[1], size[0])
    left, top = (of[0] - width) // 2, (of[1] - height) // 2
    return left, top, left + width, top + height


def say_resized(sizes: Counter[tuple[int, int]], width: int, height: int) -> None:
    """Says how many images have been brought to a size, of images of these widths and heights."""
    others = [size for size, _ in sizes.most_common() if size != (width, height)]
    if others:
        first = f"{others[0][0]}x{others[0][1]}"
        more = {1: "", 2: " and 1 other size"}.get(len(others), f" and {len(others) - 1} other sizes")
        print(
            f"note: {sum(sizes[size] for size in others)} of {sizes.total()} images cropped to their middle and resized to "
            f"{width}x{height} (--size), from {first}{more}",
            file=sys.stderr,
        )
