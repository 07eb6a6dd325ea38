"""Models: drawing, likelihoods, classes and completions."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _pixelcnn
from .arrays import as_classes, as_images, as_mask, size_problem, whole
from .convert.files import put_whole
from .running import MOST_IMAGES, Draw, Engines, RunSettings, Lane, Progress, compute
from .steps import Levels, Steps

log = logging.getLogger("pixelcnn")

MOST_SEED = 2**64 - 1
# The last index is left out, so that an end of a range can be said.
MOST_INDEX = 2**64 - 2


class Model:
    """A model, ready to draw images; `pixelcnn.load` makes one.

    Its methods share these arguments:

    batch: images drawn at once; by default as many as fit and help. On the CPU it changes no image.
    threads: threads of the CPU engine; by default as many as the machine runs at once. It changes no image.
    device: "auto" (a hardware GPU where it is worth it, else the CPU), "cpu", "gpu", or the index or a part of the name of
        an adapter that `pixelcnn devices` lists; by default that of PIXELCNN_DEVICE, else "auto".
    precision: precision of the weights: "f32", or "f16", which takes half the memory on a GPU or with AVX-512.
    progress: True shows a bar if tqdm is installed; a function is called with the number of finished pixels and their total.

    Python's lock is released while an engine works, and Ctrl-C stops it within a row of pixels. Several threads may use a
    model at once. Engines stay for the next call; `release` gives their memory back.

    Raises `pixelcnn.EngineError` or its children if an engine fails, `ValueError` and `TypeError` for arguments.
    """

    def __init__(self, contents: bytes, name: str = "model"):
        """Read the contents of a model file, and check all of it.

        Raises `pixelcnn.ModelError`.
        """
        self._contents = bytes(contents)
        self._native = _pixelcnn.Model(self._contents, name)
        self._engines = Engines(self._native)

    def __repr__(self) -> str:
        height, width, channels = self.shape
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"<pixelcnn.{type(self).__name__} {self.name}: {height}×{width}×{channels}, {self.levels} levels{classes}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._contents, self.name)

    @property
    def name(self) -> str:
        """The name of its file, without the extension."""
        return self._native.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that it was trained on."""
        width, height = self._native.size
        return height, width, self._native.channels

    @property
    def levels(self) -> int:
        """The number of levels of a channel: they are whole numbers from 0 to one less."""
        return self._native.levels

    @property
    def classes(self) -> list[str]:
        """Names of its classes; empty for a model without."""
        return self._native.classes

    @property
    def head(self) -> str:
        """The distribution of its pixels, in words."""
        return self._native.head

    @property
    def parameter_count(self) -> int:
        """Weights and biases, all together."""
        return self._native.parameter_count

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of its file."""
        return self._native.metadata

    @property
    def sha256(self) -> str:
        """Hash of its file, in hexadecimal."""
        return self._native.sha256

    def to_bytes(self) -> bytes:
        """The model file."""
        return self._contents

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file; it appears whole or not at all."""
        put_whole(Path(path), lambda file: file.write(self._contents))

    def release(self) -> None:
        """Give back the memory of engines that are kept for the next call."""
        self._engines.clear()

    def sample(
        self,
        n: int | None = None,
        *,
        labels: Any = None,
        seed: int | None = 0,
        first: int = 0,
        size: int | tuple[int, int] | None = None,
        temperature: float = 1.0,
        truncate: float = 0.0,
        min_p: float = 0.0,
        top_k: int = 0,
        continuous: bool = False,
        batch: int | None = None,
        threads: int | None = None,
        device: str | int | None = None,
        precision: str = "f32",
        progress: Progress = False,
    ) -> Levels:
        """Draw images: levels [n, H, W, C], uint8, or uint16 for models of more than 256 levels.

        n: number of images; by default one for each label.
        labels: a name or an index of a class for each image, or one for all; by default all classes take turns by index.
        seed: an image depends on the model, `seed`, its index and its class only, and is the one that `pixelcnn sample`
            draws, on the CPU to the bit. None chooses a seed, and logs it.
        first: index of the first image.
        size: height and width in pixels, or one number for both; by default those that the model was trained on.
        temperature: below 1, values are nearer to the likeliest ones.
        truncate: cut the tails of each pixel's distribution, this probability in all (mixtures of logistics).
        min_p: drop components or levels less than `min_p` times as likely as the likeliest.
        top_k: draw from the `top_k` likeliest levels only (softmax heads); 0 draws from all.
        continuous: feed unrounded values back, as the published samplers do (mixtures of logistics).

        For the others, see `Model`.

        >>> import pixelcnn
        >>> model = pixelcnn.load("mnist")
        >>> sevens = model.sample(2, labels="7", device="cpu")
        >>> sevens.shape
        (2, 28, 28, 1)
        """
        settings = RunSettings(batch, threads, device, precision, progress)
        if n is None:
            if labels is None or isinstance(labels, (str, int)):
                raise TypeError("sample: expected n, or a label for each image")
            n = len(labels)
        count = whole("n", n, 0, MOST_IMAGES)
        first = whole("first", first, 0, MOST_INDEX)
        whole("first + n", first + count, 0, MOST_INDEX + 1)
        height, width = self._size(size)
        names = self.classes
        classes: Sequence[int | None]
        if labels is not None:
            classes = as_classes(labels, count, names)
        else:
            classes = [(first + i) % len(names) if names else None for i in range(count)]
        lanes: list[Lane] = [(first + i, classes[i], None) for i in range(count)]
        out = self._zeros(count, height, width)
        draw = (temperature, truncate, min_p, top_k, continuous)
        self._draw(out, lanes, settings, _seed(seed), draw)
        return out

    def log_prob(
        self,
        images: Any,
        labels: Any = None,
        *,
        per_pixel: bool = False,
        batch: int | None = None,
        threads: int | None = None,
        device: str | int | None = None,
        precision: str = "f32",
        progress: Progress = False,
    ) -> npt.NDArray[np.float64]:
        """Log-likelihoods of images in nats: float64 [N], or of each pixel given those before it, [N, H, W].

        images: levels [N, H, W, C], [N, C, H, W], or [N, H, W] for one channel; arrays and tensors of whole numbers.
        labels: a name or an index of a class for each image, or one for all; for models with classes.
        per_pixel: return it for each pixel.

        Bits per dimension are `-nats / (H * W * C * log(2))`. For the other arguments, see `Model`.

        >>> import pixelcnn
        >>> model = pixelcnn.load("mnist")
        >>> images = model.sample(2, labels="7", device="cpu")
        >>> nats = model.log_prob(images, "7", device="cpu")
        >>> bool((nats > model.log_prob(images, "1", device="cpu")).all())
        True
        """
        settings = RunSettings(batch, threads, device, precision, progress)
        levels = self._images(images)
        classes = self._classes(labels, len(levels))
        lanes: list[Lane] = [(i, classes[i], i) for i in range(len(levels))]
        return self._log_prob(levels, lanes, settings, per_pixel)

    def classify(
        self,
        images: Any,
        *,
        prior: Any = None,
        batch: int | None = None,
        threads: int | None = None,
        device: str | int | None = None,
        precision: str = "f32",
        progress: Progress = False,
    ) -> npt.NDArray[np.float64]:
        """Probabilities of the classes of images by Bayes' rule: float64 [N, K].

        images: as in `log_prob`.
        prior: a share for each class [K]; by default all are equally likely before an image is seen.

        For the other arguments, see `Model`.
        """
        settings = RunSettings(batch, threads, device, precision, progress)
        names = self.classes
        if not names:
            raise ValueError(f"model {self.name} has no classes to choose from (log_prob measures likelihood)")
        share = np.ones(len(names)) if prior is None else np.asarray(prior, dtype=np.float64)
        if share.shape != (len(names),) or not np.isfinite(share).all() or (share < 0).any() or not share.sum() > 0:
            raise ValueError(f"prior: expected {len(names)} shares, none negative and one at least above 0")
        levels = self._images(images)
        # Lanes of an image follow each other, and share its pixels.
        lanes: list[Lane] = [(i, k, i) for i in range(len(levels)) for k in range(len(names))]
        nats = self._log_prob(levels, lanes, settings, False).reshape(len(levels), len(names))
        with np.errstate(divide="ignore"):
            joint = nats + np.log(share / share.sum())
        relative = np.exp(joint - joint.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = relative / relative.sum(axis=1, keepdims=True)
        return result

    def complete(
        self,
        images: Any,
        mask: Any,
        *,
        labels: Any = None,
        n: int | None = None,
        particles: int = 1,
        seed: int | None = 0,
        temperature: float = 1.0,
        truncate: float = 0.0,
        min_p: float = 0.0,
        top_k: int = 0,
        continuous: bool = False,
        batch: int | None = None,
        threads: int | None = None,
        device: str | int | None = None,
        precision: str = "f32",
        progress: Progress = False,
    ) -> Levels:
        """Draw the unknown part of images: levels [N, H, W, C], or [N, n, H, W, C] if `n` is given.

        images: as in `log_prob`; unknown pixels may have any value.
        mask: booleans [H, W] or [N, H, W]: True is given.
        labels: a name or an index of a class for each image, or one for all; by default all classes take turns over
            the `n` completions of an image.
        n: completions of each image.
        particles: number of candidates for each completion. One is chosen by the likelihood of the given pixels after the
            first unknown one, because pixels are drawn in raster order and see only those before them.

        For the arguments of the draw, see `sample`; for the others, see `Model`. Completion k of image i is the
        one that `pixelcnn complete` draws.
        """
        settings = RunSettings(batch, threads, device, precision, progress)
        levels = self._images(images)
        count, height, width, channels = levels.shape
        given = as_mask(mask, count, height, width)
        # Levels that are not given may be anything.
        levels = np.where(given[..., None], levels, 0).astype(np.uint16)
        completions = 1 if n is None else whole("n", n, 1, MOST_IMAGES)
        particles = whole("particles", particles, 1, MOST_IMAGES)
        names, number = self.classes, _seed(seed)
        if labels is None and names and n is None:
            raise ValueError(f"labels: model {self.name} has classes: expected one for each image, or n, over which they take turns")
        of_images = as_classes(labels, count, names) if labels is not None else None

        def class_of(image: int, completion: int) -> int | None:
            if of_images is not None:
                return of_images[image]
            return completion % len(names) if names else None

        per_image = completions * particles
        lanes: list[Lane] = [
            (image * per_image + lane, class_of(image, lane // particles), image)
            for image in range(count)
            for lane in range(per_image)
        ]
        drawn = self._zeros(len(lanes), height, width)
        draw = (temperature, truncate, min_p, top_k, continuous)
        nats = self._draw(drawn, lanes, settings, number, draw, levels, given, particles > 1)
        candidates = drawn.reshape(count, completions, particles, height, width, channels)
        chosen: npt.NDArray[np.intp] = np.zeros((count, completions), dtype=np.intp)
        if nats is not None:
            weights = nats.reshape(count, completions, particles, height * width)
            chosen = self._choose(weights, given.reshape(count, -1), number)
        out: Levels = candidates[np.arange(count)[:, None], np.arange(completions), chosen]
        return out.reshape(levels.shape) if n is None else out

    def steps(
        self,
        n: int | None = None,
        *,
        labels: Any = None,
        images: Any = None,
        size: int | tuple[int, int] | None = None,
        threads: int | None = None,
        precision: str = "f32",
    ) -> Steps:
        """Make images level by level: pixel after pixel in raster order, and channel after channel.

        Each step has the probabilities of its levels, `step.probs`, float64 [n, L], and takes a level for each image,
        `step.give(levels)`. Probabilities below 1e-37 may be 0. A coder encodes the levels of its images, and decodes the
        same levels by the same probabilities. Colours of a mixture of logistics come one after the other, each given those
        before it.

        n: number of images; by default that of `images` or labels.
        labels: as in `log_prob`.
        images: as in `log_prob`; their levels are taken if none are given. `step.levels` has them.
        size: height and width in pixels, as in `sample`; by default that of `images`.

        It runs on the CPU. An image's probabilities depend on the model, the precision, the image's class and the levels that
        it was given before: to the bit, with any other images and any number of threads, with the same wheel, C library and
        kind of processor. Other builds and processors may differ in the last bits, which a decoder does not survive.

        For the other arguments, see `Model`. Raises `RuntimeError` if the next step is requested before levels are given.

        >>> import pixelcnn
        >>> model = pixelcnn.load("avatars")
        >>> steps = model.steps(2, labels="hat")
        >>> for step in steps:
        ...     step.give(step.probs.argmax(axis=1))
        >>> steps.images.shape
        (2, 16, 16, 3)
        """
        settings = RunSettings(threads=threads, precision=precision)
        given = None if images is None else self._images(images)
        height, width = self._size(size) if given is None or size is not None else given.shape[1:3]
        if given is not None and given.shape[1:3] != (height, width):
            raise ValueError(f"size: expected that of the images, {list(given.shape[1:3])}, found {[height, width]}")
        if n is None and given is None:
            if labels is None or isinstance(labels, (str, int)):
                raise TypeError("steps: expected n, images, or a label for each image")
            n = len(labels)
        count = len(given) if n is None and given is not None else whole("n", n, 0, MOST_IMAGES)
        if given is not None and count != len(given):
            raise ValueError(f"n: expected {len(given)}, as many as there are images, found {count}")
        session = self._engines.session(height, width, self._classes(labels, count), settings)
        return Steps(session, self._zeros(count, height, width), given, self.levels)

    def _choose(self, nats: npt.NDArray[np.float64], given: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.intp]:
        """The particle of each completion, by the likelihood of the pixels given after the first unknown one."""
        count, completions, particles, pixels = nats.shape
        later = given & np.logical_or.accumulate(~given, axis=1)
        chosen = np.empty((count, completions), dtype=np.intp)
        effective = []
        for image in range(count):
            places = np.flatnonzero(later[image])
            for k in range(completions):
                # In the order of pixels, as the command line adds them.
                weights = [reduce(add, of_pixels, 0.0) for of_pixels in nats[image, k][:, places].tolist()]
                chosen[image, k] = _pixelcnn.choose(weights, seed, image * completions + k, pixels)
                effective.append(_pixelcnn.effective_sample_size(weights))
        if effective:
            log.info(
                "effective sample size: %.1f of %d particles on average, %.1f at least",
                np.mean(effective),
                particles,
                min(effective),
            )
        return chosen

    def _images(self, images: Any) -> npt.NDArray[np.uint16]:
        levels = as_images(images, self.shape, self.levels)
        if problem := size_problem(self._native, *levels.shape[1:3]):
            raise ValueError(problem)
        return levels

    def _size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        if size is None:
            height, width, _ = self.shape
            return height, width
        sides = size if isinstance(size, (tuple, list)) else (size, size)
        if len(sides) != 2:
            raise ValueError(f"size: expected height and width, found {size!r}")
        height, width = (whole("size", side, 1, 2**20) for side in sides)
        if problem := size_problem(self._native, height, width):
            raise ValueError(problem)
        return height, width

    def _classes(self, labels: Any, count: int) -> Sequence[int | None]:
        if labels is not None:
            return as_classes(labels, count, self.classes)
        if self.classes:
            raise ValueError(
                f"labels: model {self.name} has classes: expected one for each image (classify finds the likeliest)"
            )
        return [None] * count

    def _zeros(self, count: int, height: int, width: int) -> Levels:
        shape = (count, height, width, self._native.channels)
        return np.zeros(shape, np.uint8) if self.levels <= 256 else np.zeros(shape, np.uint16)

    def _draw(
        self,
        out: Levels,
        lanes: Sequence[Lane],
        settings: RunSettings,
        seed: int,
        draw: Draw,
        levels: npt.NDArray[np.uint16] | None = None,
        mask: npt.NDArray[np.bool_] | None = None,
        likelihood: bool = False,
    ) -> npt.NDArray[np.float64] | None:
        """Fill `out` [N, H, W, C] with drawn levels; returns log-likelihoods [N, H, W] if they are wanted."""
        count, height, width, _ = out.shape
        nats = np.empty((count, height, width)) if likelihood else None
        if count == 0:
            return nats
        start = time.perf_counter()
        given = None if levels is None else _given(levels, mask)
        with self._engines.engine(height, width, count, settings) as engine:
            batches = compute(
                engine, settings, seed, lanes, height * width, canvases=given, draw=draw, likelihood=likelihood
            )
            for begin, end, drawn, of_pixels in batches:
                out[begin:end] = np.frombuffer(drawn, out.dtype).reshape(out[begin:end].shape)
                if nats is not None:
                    nats[begin:end] = np.frombuffer(of_pixels).reshape(nats[begin:end].shape)
        log.info(
            "%d images (%d×%d, model %s) on %s in %.2f s", count, height, width, self.name, engine.name,
            time.perf_counter() - start,
        )  # fmt: skip
        return nats

    def _log_prob(
        self, levels: npt.NDArray[np.uint16], lanes: Sequence[Lane], settings: RunSettings, per_pixel: bool
    ) -> npt.NDArray[np.float64]:
        """Log-likelihoods of lanes, [N] or [N, H, W]."""
        _, height, width, _ = levels.shape
        out = np.empty((len(lanes), height, width) if per_pixel else len(lanes))
        if not lanes:
            return out
        with self._engines.engine(height, width, len(lanes), settings) as engine:
            batches = compute(
                engine, settings, 0, lanes, height * width, canvases=_given(levels, None), likelihood=True
            )
            for begin, end, _, of_pixels in batches:
                nats = np.frombuffer(of_pixels).reshape(end - begin, height, width)
                out[begin:end] = nats if per_pixel else nats.sum(axis=(1, 2))
        return out


def _given(
    levels: npt.NDArray[np.uint16], mask: npt.NDArray[np.bool_] | None
) -> Callable[[Sequence[Lane]], tuple[list[Lane], bytes, bytes | None]]:
    """The canvases of a batch of lanes, whose images follow each other: of those images alone."""

    def of_batch(lanes: Sequence[Lane]) -> tuple[list[Lane], bytes, bytes | None]:
        first, last = lanes[0][2], lanes[-1][2]
        assert first is not None and last is not None
        part: list[Lane] = [(index, label, (canvas or 0) - first) for index, label, canvas in lanes]
        return (
            part,
            levels[first : last + 1].tobytes(),
            None if mask is None else mask[first : last + 1].tobytes(),
        )

    return of_batch


def _seed(seed: int | None) -> int:
    if seed is None:
        seed = secrets.randbits(64)
        log.info("seed: %d", seed)
    return whole("seed", seed, 0, MOST_SEED)
