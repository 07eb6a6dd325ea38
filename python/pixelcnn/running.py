"""Engines, kept for the next call, and the batches that they compute."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ._pixelcnn import Engine, Session
from ._pixelcnn import Model as Native
from .arrays import whole
from .errors import BatchTooLarge, DeviceError

log = logging.getLogger("pixelcnn")

MOST_IMAGES = 1_000_000_000
MOST_THREADS = 1024

Progress = bool | Callable[[int, int], object]
Lane = tuple[int, int | None, int | None]
Draw = tuple[float, float, float, int, bool]

# The model itself.
AS_IT_IS: Draw = (1.0, 0.0, 0.0, 0, False)


@dataclass(frozen=True)
class RunSettings:
    """Device, precision and batch of a computation."""

    batch: int | None = None
    threads: int | None = None
    device: str | int | None = None
    precision: str = "f32"
    progress: Progress = False

    def __post_init__(self) -> None:
        if self.batch is not None:
            whole("batch", self.batch, 1, MOST_IMAGES)
        if self.threads is not None:
            whole("threads", self.threads, 1, MOST_THREADS)
        if self.precision not in ("f32", "f16"):
            raise ValueError(f"precision: expected 'f32' or 'f16', found {self.precision!r}")
        if not isinstance(self.device, (str, int, type(None))):
            raise TypeError(f"device: expected a text or an index, found {self.device!r}")

    @property
    def device_name(self) -> str:
        """The device by the names of the command line."""
        if self.device is None:
            return os.environ.get("PIXELCNN_DEVICE", "").strip() or "auto"
        return str(self.device)


class Gpus:
    """Tells if this process may use GPUs: not if it was forked from one that did, because drivers do not survive that.
    """

    looked_for = False
    lost = False
    # Never freed: objects of a driver of another process must not be touched.
    abandoned: list[Engine] = []

    @classmethod
    def look(cls) -> None:
        """To be called before they are looked for."""
        cls.looked_for = True
        if sys.platform == "linux" and "XDG_RUNTIME_DIR" not in os.environ:
            # Like the command line: Mesa would look for a display to choose a GPU by, and write errors to stderr.
            os.environ.setdefault("NODEVICE_SELECT", "1")


def _after_fork() -> None:
    Gpus.lost = Gpus.lost or Gpus.looked_for


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Engines:
    """Engines of a model. One that is in use is taken out, so that several threads may draw at once."""

    KEPT = 2

    def __init__(self, native: Native):
        self._natives = {"f32": native}
        self._lock = threading.Lock()
        self._free: dict[tuple[Any, ...], Engine] = {}
        self._process = os.getpid()

    @contextmanager
    def engine(self, height: int, width: int, images: int, settings: RunSettings) -> Iterator[Engine]:
        """An engine, which is kept afterwards unless something fails."""
        if self._process != os.getpid():
            # Locks may be held by threads that are not in this process.
            Gpus.abandoned.extend(self._free.values())
            self._lock, self._free, self._process = threading.Lock(), {}, os.getpid()
        device = settings.device_name
        if Gpus.lost and device != "cpu":
            if device != "auto":
                raise DeviceError(
                    f"device {device!r}: a GPU cannot be used in a process that was forked from one that looked for GPUs: "
                    f"start workers by spawn, or say device='cpu'"
                )
            log.info("using the CPU engine: GPUs do not survive a fork")
            device = "cpu"
        key = (height, width, settings.precision, settings.threads, device, images if device == "auto" else None)
        with self._lock:
            engine = self._free.pop(key, None)
        if engine is None:
            if device != "cpu":
                Gpus.look()
            engine = self._native(settings.precision).engine(width, height, images, device, settings.threads)
            for is_warning, text in engine.notes:
                log.log(logging.WARNING if is_warning else logging.INFO, "%s", text)
        yield engine
        if not engine.is_gpu:
            # Without its caches.
            engine.prepare(1, 1)
        with self._lock:
            self._free[key] = engine
            while len(self._free) > self.KEPT:
                self._free.pop(next(iter(self._free)))

    def session(self, height: int, width: int, classes: Sequence[int | None], settings: RunSettings) -> Session:
        """Images that are made level by level."""
        return self._native(settings.precision).session(width, height, classes, settings.threads)

    def _native(self, precision: str) -> Native:
        """The model with weights of this precision."""
        if precision not in self._natives:
            self._natives[precision] = self._natives["f32"].half()
        return self._natives[precision]

    def clear(self) -> None:
        """Give back the memory of engines that are not in use."""
        with self._lock:
            self._free.clear()


def compute(
    engine: Engine,
    settings: RunSettings,
    seed: int,
    lanes: Sequence[Lane],
    pixels: int,
    *,
    canvases: Callable[[Sequence[Lane]], tuple[list[Lane], bytes | None, bytes | None]] | None = None,
    draw: Draw = AS_IT_IS,
    likelihood: bool = False,
) -> Iterator[tuple[int, int, bytearray, bytearray]]:
    """For each batch of lanes its range, levels, and log-likelihoods. `canvases` makes the given pixels of a batch."""
    batch = _batch(engine, settings.batch, len(lanes))
    with Bar(settings.progress, len(lanes) * pixels) as bar:
        for start in range(0, len(lanes), batch):
            part: list[Lane] = list(lanes[start : start + batch])
            levels = mask = None
            if canvases is not None:
                part, levels, mask = canvases(part)
            tell = bar.teller(start * pixels, len(part))
            results = engine.run(seed, part, levels, mask, draw, likelihood, tell)
            bar.at((start + len(part)) * pixels)
            yield start, start + len(part), *results


def _batch(engine: Engine, wanted: int | None, count: int) -> int:
    """Images at once: as many as are wanted, or as fit and help, in batches of about one size."""
    if wanted is None:
        most = engine.prepare(None, count)
        return -(-count // -(-count // most))
    try:
        return engine.prepare(wanted, wanted)
    except BatchTooLarge:
        if wanted <= count:
            raise
        log.info("batch: %d (all images; %d would not fit)", count, wanted)
        return engine.prepare(count, count)


class Bar:
    """Tells progress in pixels: to a function, or by tqdm."""

    def __init__(self, progress: Progress, total: int):
        self._total, self._tell, self._bar = total, None, None
        if callable(progress):
            self._tell = progress
        elif progress:
            try:
                from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
            except ImportError:
                log.info("no progress is shown: tqdm is not installed")
            else:
                self._bar = tqdm(total=total, unit="px", unit_scale=True, leave=False)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def teller(self, before: int, images: int) -> Callable[[int], None] | None:
        """A function that the engine calls with the number of pixels of each of `images` that are done."""
        if self._tell is None and self._bar is None:
            return None
        return lambda done: self.at(before + done * images)

    def at(self, done: int) -> None:
        """Shows a number of finished pixels."""
        if self._tell is not None:
            self._tell(done, self._total)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
