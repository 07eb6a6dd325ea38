"""The training itself: steps, checkpoints, measurements, export."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..convert import ConversionError
from ..convert.console import Stopped, escaped
from ..convert.files import write_somewhere, write_whole
from ..convert.model_file import beyond_limits, write_model

from . import TrainingError, checkpoint, pictures
from .data import Data, DataOptions, Part, load
from .graphs import GraphFamily
from .outputs import check_outputs, check_room, checkpoint_path, log_path
from .plusplus import PlusPlus
from .settings import NOT_TRAINING, flipped_classes, settle

BETAS = (0.95, 0.9995)  # of Adam, as published
WARM_UP = 100  # steps
REPORTED = 128  # held-out images that are looked at while training goes on
LINE_EVERY = 15.0  # seconds


class Trainer:
    def __init__(self, flags: argparse.Namespace):
        self.flags = flags
        self.run, before = settle(flags)
        run = self.run
        check_outputs(flags)
        self.device = pick_device(flags.device)
        if flags.threads:
            torch.set_num_threads(flags.threads)

        options = DataOptions(
            run["size"],
            run["grey"],
            run["classes"],
            run["leave_out"],
            run["held_out"],
            flags.strict,
            run.get("codes", False),
        )
        self.data = self.load(options)
        if "levels" in run:
            self.data, run["levels"] = in_levels(self.data, run["levels"], run["codes"])
        self.channels, self.height, self.width = self.data.train.x.shape[1:]
        if problem := beyond_limits({"height": self.height, "width": self.width}):
            raise TrainingError(f"the images' {problem}")
        if run["shift"] >= min(self.height, self.width):
            raise TrainingError(f"--shift {run['shift']}: the images are {self.width}x{self.height}")
        self.flips = flipped_classes(run["flip"], self.data.classes)
        self.batch = min(run["batch"], len(self.data.train))
        self.steps_per_epoch = len(self.data.train) // self.batch
        if flags.held_out_to:
            write_held_out(flags.held_out_to, self.data, run.get("levels", 256))

        torch.manual_seed(run["seed"])
        family = PlusPlus if run["family"] == "pixelcnn++" else GraphFamily
        self.family = family(run, self.data, self.device)
        self.net = self.family.net
        self.names = [name for name, _ in self.net.named_parameters()]
        check_room(flags, sum(value.numel() for value in self.net.parameters()))
        self.optimizer = torch.optim.Adam(self.net.parameters(), betas=BETAS, foreach=True)
        self.step, self.steps_before, self.elapsed = 0, 0, 0.0
        self.log: list[list[float]] = []
        if flags.resume:
            self.restore(*before)
        else:
            self.begin(before)

    def load(self, options: DataOptions) -> Data:
        try:
            data = load(self.flags.data, options)
        except TrainingError as error:
            if self.flags.init and options.classes and not self.flags.classes:
                raise TrainingError(
                    f"{error} (--init {self.flags.init} has classes, so what goes on from it needs images "
                    f"with classes too)"
                ) from None
            raise
        classes = [escaped(name) for name in data.classes]
        if len(set(classes)) < len(classes):
            raise TrainingError(f"{self.flags.data}: two classes have the same name, as far as it is text")
        return data._replace(classes=classes)

    def begin(self, model: Any) -> None:
        if model is not None:
            metadata, tensors = model
            self.family.take(self.flags.init, metadata, tensors)
            steps = metadata.get("steps", "")
            self.steps_before = int(steps) if steps.isdecimal() else 0
        else:
            some = np.random.default_rng([self.run["seed"], 2]).permutation(len(self.data.train))[:128]
            self.family.begin(*self.tensors(self.data.train.of(np.sort(some))))
        self.average = [value.detach().clone() for value in self.net.parameters()]

    # State

    def by_name(self, tensors: Any) -> Any:
        return zip((name.removeprefix("values.") for name in self.names), tensors)

    def save(self, last: bool = False) -> None:
        """A checkpoint that cannot be written is a warning, for there is the one before, and training goes
        on; where it ends with it, an error."""
        tensors = {f"value/{name}": value for name, value in self.by_name(self.net.parameters())}
        tensors |= {f"average/{name}": value for name, value in self.by_name(self.average)}
        for name, parameter in self.by_name(self.net.parameters()):
            if parameter in self.optimizer.state:
                tensors[f"first/{name}"] = self.optimizer.state[parameter]["exp_avg"]
                tensors[f"second/{name}"] = self.optimizer.state[parameter]["exp_avg_sq"]
        state = {
            "run": self.run,
            "data": self.fingerprint,
            "step": self.step,
            "steps_before": self.steps_before,
            "elapsed": self.elapsed,
            "log": self.log,
        }
        path = checkpoint_path(self.flags)
        try:
            checkpoint.write(
                path,
                state,
                {name: np.ascontiguousarray(t.detach().cpu().numpy(), "<f4") for name, t in tensors.items()},
                last,
            )
        except TrainingError as error:
            if last:
                raise
            print(f"warning: no checkpoint: {error}; trying again later", file=sys.stderr)

    def restore(self, state: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        then, now = state["data"], self.fingerprint
        if others := [key for key in now if then.get(key) != now[key]]:
            values = "; ".join(f"{key} {brief(then.get(key))} then, {brief(now[key])} now" for key in others)
            raise TrainingError(
                f"{self.flags.resume}: was made with other {' and '.join(others)} than {self.flags.data} has "
                f"({values}); to go on with others, use --init"
            )
        for key in ("step", "steps_before", "elapsed", "log"):
            setattr(self, key, state[key])
        try:
            self.restore_tensors(tensors)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(f"{self.flags.resume}: is a damaged checkpoint: tensor {error}") from None

    def restore_tensors(self, tensors: dict[str, np.ndarray]) -> None:

        def tensor(kind: str, name: str) -> torch.Tensor:
            return torch.from_numpy(tensors[f"{kind}/{name}"].copy()).to(self.device)

        with torch.no_grad():
            for name, parameter in self.by_name(self.net.parameters()):
                parameter.copy_(tensor("value", name))
                if self.step:
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.step)),
                        "exp_avg": tensor("first", name),
                        "exp_avg_sq": tensor("second", name),
                    }
        self.average = [tensor("average", name) for name, _ in self.by_name(self.net.parameters())]

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """Identifies the data: images and labels in their order, and the names of the classes."""
        parts = self.data.train, self.data.held_out
        return {
            "images": digest(part.x for part in parts),
            "classes": self.data.classes,
            "labels": digest(part.y for part in parts if part.y is not None),
        }

    # Steps

    def tensors(self, part: Part) -> tuple[torch.Tensor, torch.Tensor | None]:
        x = torch.from_numpy(part.x.astype(np.int64)).to(self.device)
        return x, None if part.y is None else torch.from_numpy(part.y).to(self.device)

    def images_of(self, step: int) -> Part:
        """The images of a step follow from the seed and its number alone."""
        seed = self.run["seed"]
        epoch, at = divmod(step, self.steps_per_epoch)
        order = order_of_images(seed, epoch, len(self.data.train))
        part = self.data.train.of(order[at * self.batch : (at + 1) * self.batch])
        random = np.random.default_rng([seed, 1, step])
        flips = random.random(len(part)) < 0.5
        flips &= self.flips if isinstance(self.flips, bool) else self.flips[part.y]
        part.x[flips] = part.x[flips, :, :, ::-1]
        if reach := self.run["shift"]:
            padded = np.pad(part.x, ((0, 0), (0, 0), (reach, reach), (reach, reach)), "edge")
            for x, image, (dy, dx) in zip(part.x, padded, random.integers(0, 2 * reach + 1, (len(part), 2))):
                x[:] = image[:, dy : dy + self.height, dx : dx + self.width]
        return part

    def progress(self) -> float:
        """Progress of the run, from 0 to 1."""
        parts = []
        if self.flags.minutes is not None:
            parts.append(self.elapsed / (60 * self.flags.minutes) if self.flags.minutes else 1)
        if self.flags.epochs is not None:
            steps = round(self.flags.epochs * self.steps_per_epoch)
            parts.append(self.step / steps if steps else 1)
        return min(1.0, max(parts))

    def train_step(self) -> float:
        x, h = self.tensors(self.images_of(self.step))
        torch.manual_seed(hash((self.run["seed"], self.step)) % 2**63)  # for dropout
        warm_up = min(1.0, (self.step + 1) / WARM_UP)
        for group in self.optimizer.param_groups:
            group["lr"] = self.run["rate"] * warm_up * 0.5 * (1 + math.cos(math.pi * self.progress()))
        bits, penalty = self.family.loss(x, h)
        self.optimizer.zero_grad(set_to_none=True)
        (bits + penalty).backward()
        self.optimizer.step()
        self.step += 1
        # Young averages forget the beginning faster: they reach back a fiftieth of the steps.
        decay = min(self.run["average"], (1 + self.step) / (50 + self.step))
        with torch.no_grad():
            for average, value in zip(self.average, self.net.parameters()):
                average.lerp_(value, 1 - decay)
        value = float(bits.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"the likelihood became {value} at step {self.step}; a lower --rate may help (--resume with "
                f"--minutes 0 exports the last checkpoint, and --init goes on from that at another rate)"
            )
        return value

    def measure(self, tensors: dict[str, np.ndarray], part: Part) -> float:
        """Bits/dim as pixelcnn eval measures them: float32 network, float64 likelihood."""
        self.family.judge_by(tensors)
        with torch.no_grad():
            parts = (self.tensors(part.of(slice(start, start + 64))) for start in range(0, len(part), 64))
            return sum(float(self.family.bits(x, h).sum()) for x, h in parts) / len(part)

    def exported(self) -> dict[str, np.ndarray]:
        return self.family.exported(dict(self.by_name(self.average)), self.flags.dtype)

    def train(self) -> None:
        count = sum(tensor.size for tensor in self.exported().values())
        print(
            f"{len(self.data.train)} images of {self.width}x{self.height}x{self.channels}, "
            f"{len(self.data.held_out)} held out, {len(self.data.classes) or 'no'} classes; "
            f"{count:,} parameters on {self.device}",
            file=sys.stderr,
        )
        if palette := getattr(self.family, "palette", None):
            print(palette, file=sys.stderr)
        if self.step:
            print(f"going on at step {self.step}", file=sys.stderr)
        self.net.train()
        clock = Clock(self)
        recent: list[float] = []
        last_line, last_save, line_step = time.monotonic(), time.monotonic(), self.step
        while self.progress() < 1:
            recent.append(self.train_step())
            clock.tick()
            now = time.monotonic()
            if now - last_line >= LINE_EVERY:
                rate = (self.step - line_step) * self.batch / (now - last_line)
                done = self.progress()
                print(
                    f"step {self.step}  epoch {self.step / self.steps_per_epoch:.2f}  "
                    f"{np.mean(recent[-200:]):.4f} bits/dim  {rate:.1f} images/s  {100 * done:.1f} %",
                    file=sys.stderr,
                    flush=True,
                )
                last_line, line_step = now, self.step
            if STOP:
                self.save(last=True)
                raise Stopped(STOP[0])
            if now - last_save >= 60 * self.flags.checkpoint_minutes:
                self.record(recent)
                recent = []
                clock.tick()
                self.save()
                last_save = time.monotonic()
        if recent:
            self.record(recent)
            self.save()
        if STOP:
            raise Stopped(STOP[0])

    def record(self, recent: list[float]) -> None:
        # Spread over all of them, because they may lie class by class.
        every = -(-len(self.data.held_out) // REPORTED)
        held_out = self.measure(self.exported(), self.data.held_out.of(slice(0, None, every)))
        train = float(np.mean(recent))
        self.log.append([self.steps_before + self.step, round(self.elapsed / 60, 2), round(train, 4), round(held_out, 4)])
        print(
            f"step {self.step}  {train:.4f} bits/dim, {held_out:.4f} on held-out images",
            file=sys.stderr,
            flush=True,
        )
        lines = [
            "step,minutes,bits_per_dim,held_out_bits_per_dim",
            *(",".join(map(str, row)) for row in self.log),
        ]
        try:
            write_whole(log_path(self.flags), lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
        except ConversionError as error:
            print(f"warning: no log: {error}", file=sys.stderr)
        self.show(held_out)

    def show(self, bits: float) -> None:
        """The requested pictures; a failure is a warning."""
        try:
            if self.flags.plot:
                pictures.plot(log_path(self.flags))
            if self.flags.samples:
                picture = self.flags.samples / f"{self.steps_before + self.step:08}.png"
                metadata = self.metadata(bits)
                pictures.sample(lambda path: write_model(path, metadata, self.exported()), picture)
        except (TrainingError, ConversionError, OSError) as error:
            print(f"warning: no picture: {error}", file=sys.stderr)

    def export(self) -> None:
        tensors = self.exported()
        bits = self.measure(tensors, self.data.held_out)
        metadata = self.metadata(bits)
        write_model(self.flags.output, metadata, tensors, write_somewhere)
        print(
            f"{self.flags.output}: {metadata['steps']} steps, {bits:.4f} bits/dim on "
            f"{metadata['bits_per_dim_of']}"
        )
        print(f"sample from it:\n  pixelcnn sample -m {shlex.quote(str(self.flags.output))}")

    def metadata(self, bits: float) -> dict[str, str]:
        run, flags = self.run, self.flags
        metadata = {
            **self.family.metadata(),
            "source": f"scripts/train.py, {date.today()}, PyTorch {torch.__version__}",
            "data": flags.about_data or flags.data.name,
            "steps": self.steps_before + self.step,
            "bits_per_dim": f"{bits:.4f}",
            "bits_per_dim_of": f"{len(self.data.held_out)} held-out images",
            "training": json.dumps(
                {k: v for k, v in run.items() if k not in NOT_TRAINING and v not in (None, False)}
            ),
        }
        if flags.license:
            metadata["license"] = flags.license
        return {key: str(value) for key, value in metadata.items()}


def in_levels(data: Data, told: int | None, codes: bool) -> tuple[Data, int]:
    """Images as levels from 0, the nearest shades as the program shows them, or codes as they are; and how many levels."""
    parts = data.train, data.held_out
    if not codes:
        levels = told or 256
        nearest = ((np.arange(256) * (levels - 1) + 127) // 255).astype(np.uint8)
        return data._replace(**{name: Part(nearest[part.x], part.y) for name, part in zip(data._fields, parts)}), levels
    largest = max(int(part.x.max()) for part in parts)
    if told is not None and largest >= told:
        raise TrainingError(f"the codes go up to {largest}; expected less than the {told} levels (--levels)")
    return data, told or max(2, largest + 1)


def digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of arrays, with their shapes."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


def brief(value: Any) -> str:
    """A value of a fingerprint, for people: the beginning of a digest, the names of classes."""
    return value[:12] if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Clock:
    """Adds the time that passes to the trainer's."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.last = trainer, time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        self.trainer.elapsed += now - self.last
        self.last = now


# Signals that asked for an end, which comes after the step and a checkpoint.
STOP: list[int] = []


@lru_cache(maxsize=1)
def order_of_images(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        float(torch.zeros(1, device=device))
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def write_held_out(folder: Path, data: Data, levels: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    part = data.held_out
    for i, image in enumerate(part.x):
        # The program shows levels in the same way.
        shades = (image.transpose(1, 2, 0).astype(int) * 255 + (levels - 1) // 2) // (levels - 1)
        image = shades.astype(np.uint8)
        picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
        # Not on the disk at once, which takes long for many: the data has them too.
        write_whole(folder / f"{i:05}.png", lambda file: picture.save(file, "PNG"), synced=False)
    if part.y is not None:
        text = ",".join(map(str, part.y))
        write_whole(folder / "classes.txt", lambda file: file.write(text.encode()), synced=False)
