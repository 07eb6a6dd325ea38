#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy"]
# ///
"""How long PyTorch takes for what `pixelcnn sample` and `pixelcnn classify` do.

    uv run scripts/compare_pytorch.py
    uv run scripts/compare_pytorch.py --classes 4
    python scripts/compare_pytorch.py --compile        # where pixelcnn is installed
    python scripts/compare_pytorch.py --network gated:64x7,masked:64x8,prior:64x15 --json out.json      # there too

It draws by the loop that most projects draw with: the whole network over the whole image once a pixel. Its first pixels
are timed, after one to warm up; all cost the same, so that the rest is extrapolated. With --classes, images are
classified instead: each under each class, in batches of several sizes, likelihoods in 64 bits as the program has them.

The network is that of scripts/train.py with random weights, weight normalisation folded before anything is timed. With --compile it is a gated PixelCNN of 13 layers and 64 filters
instead, in the same process: what `pixelcnn.compile` takes, first and warm, what `update` takes, and 16 images of 28×28 by
the sampler and by the module's own loop, a pass a pixel, whose first passes and the sampler are timed alternately.

Both run one after the other, on the CPU with as many threads
as the machine has cores.

With --network they are networks that `pixelcnn bench --architecture` knows by these names, compiled by `pixelcnn.compile`, and
each runs on one thread, bound to one processor, in turns. What is told is user time of the processor, which other
programs disturb less than the clock. Ours is `pixelcnn sample` as a whole, several batches of it; theirs is the loop's first
pixels, masks applied before. The peak is that of `pixelcnn bench`: the best products of our own kernel.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

if not importlib.util.find_spec("pixelcnn"):  # --compile needs the installed one
    import source_tree  # noqa: F401
from made_up import Spelling
from pixelcnn.convert.files import write_whole
from pixelcnn.convert.model_file import write_model
from pixelcnn.train.likelihood import bits_per_dim
from pixelcnn.train.network import PixelCNN
from pixelcnn.train.pictures import find_program


class Folded(PixelCNN):
    """The same network with fixed weights: weight normalisation is folded once, as for drawing, not in every pass."""

    def __init__(self, **architecture):
        super().__init__(**architecture)
        convolutions = (name for name, layer in self.layers.items() if layer.kind != "conditional_weights")
        self.folded = {name: super(Folded, self).weight(name).detach() for name in convolutions}

    def weight(self, name: str) -> Tensor:
        return self.folded[name]


def drawn(params: Tensor) -> Tensor:
    """A draw of one pixel [N, 3] from its mixture of logistics [N, 10M]."""
    mixtures = params.shape[1] // 10
    noise = -torch.log(-torch.log(torch.rand(params.shape[0], mixtures).clamp(1e-5, 1 - 1e-5)))
    chosen = (params[:, :mixtures] + noise).argmax(1)
    rest = params[:, mixtures:].reshape(-1, 3, 3, mixtures)
    rest = rest.gather(3, chosen.view(-1, 1, 1, 1).expand(-1, 3, 3, 1))[..., 0]
    means, scales, c = rest[:, :, 0], rest[:, :, 1].clamp(min=-7).exp(), rest[:, :, 2].tanh()
    u = torch.rand(means.shape).clamp(1e-5, 1 - 1e-5)
    x = means + scales * (u.log() - (1 - u).log())
    red = x[:, 0].clamp(-1, 1)
    green = (x[:, 1] + c[:, 0] * red).clamp(-1, 1)
    blue = (x[:, 2] + c[:, 1] * red + c[:, 2] * green).clamp(-1, 1)
    return torch.stack([red, green, blue], 1)


@torch.no_grad()
def naive_seconds(net: PixelCNN, flags: argparse.Namespace) -> list[float]:
    """Seconds of each pixel that is timed, of all images at once."""
    x = torch.zeros(flags.count, 3, flags.size, flags.size)
    seconds = []
    for pixel in range(flags.pixels + 1):
        start = time.perf_counter()
        row, column = divmod(pixel, flags.size)
        x[:, :, row, column] = drawn(net(x, None)[:, :, row, column])
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


@torch.no_grad()
def classifying_seconds(net: PixelCNN, images: np.ndarray, classes: int, batch: int) -> float:
    """Seconds of the log-likelihoods of all images under all classes."""
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    x = x.repeat_interleave(classes, dim=0).contiguous(memory_format=torch.channels_last)
    h = torch.arange(len(x)) % classes
    start = time.perf_counter()
    for part, h_part in zip(x.split(batch), h.split(batch)):
        bits_per_dim(net(part, h_part).double(), part.double(), as_reported=True)
    return time.perf_counter() - start


def our_seconds(words: list[str | Path]) -> float:
    """Seconds of the whole program, the start included; the median of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([find_program(), *words, "--device", "cpu", "--quiet"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class GatedLayer(nn.Module):
    """Two gated stacks, of the rows above and of the row itself."""

    def __init__(self, filters: int, dilation: int):
        super().__init__()
        self.vertical = Masked(filters, 2 * filters, (3, 3), dilation)
        self.horizontal = Masked(filters, 2 * filters, (1, 3), dilation)
        self.across, self.out = nn.Conv2d(2 * filters, 2 * filters, 1), nn.Conv2d(filters, filters, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        of_v = self.vertical(v)
        a, b = of_v.chunk(2, dim=1)
        c, d = (self.horizontal(h) + self.across(of_v)).chunk(2, dim=1)
        return torch.tanh(a) * torch.sigmoid(b), h + self.out(torch.tanh(c) * torch.sigmoid(d))


class Masked(nn.Conv2d):
    """A convolution that sees the rows above and the pixels to the left; `centre`: also the row or the pixel itself."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], dilation: int = 1, centre: bool = True):
        padding = tuple(dilation * (side // 2) for side in size)
        super().__init__(inputs, outputs, size, padding=padding, dilation=dilation)
        mask = torch.ones(size)
        along = 0 if size[0] > 1 else 1
        mask.narrow(along, size[along] // 2 + centre, size[along] // 2 + 1 - centre).zero_()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding, dilation=self.dilation)


class Gated(nn.Module):
    """A gated PixelCNN of 13 layers over 256 levels of grey, which it scales itself."""

    def __init__(self, filters: int = 64, dilations: tuple[int, ...] = (1, 2, 1, 4, 1, 2, 1, 1, 2, 1, 4, 1, 2)):
        super().__init__()
        self.vertical = Masked(1, filters, (3, 3), centre=False)
        self.horizontal = Masked(1, filters, (1, 3), centre=False)
        self.layers = nn.ModuleList(GatedLayer(filters, dilation) for dilation in dilations)
        self.out = nn.Conv2d(filters, 256, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float() / 127.5 - 1
        v, h = self.vertical(x), self.horizontal(x)
        for layer in self.layers:
            v, h = layer(v, h)
        return self.out(F.elu(h))


def compiled(pixels: int, count: int = 16, size: int = 28) -> None:
    """Times of `pixelcnn.compile`, of `update`, and of drawing in both ways, in one process."""
    import pixelcnn

    torch.manual_seed(0)
    net = Gated().eval()
    timed = []
    for _ in range(4):
        start = time.perf_counter()
        sampler = pixelcnn.compile(net, (1, size, size), levels=256, input="levels")
        compiled_at = time.perf_counter()
        sampler.update(net)
        timed.append((compiled_at - start, time.perf_counter() - compiled_at))
    first, warm = timed[0][0], statistics.median(t for t, _ in timed[1:])
    update = statistics.median(t for _, t in timed[1:])
    print(f"13 layers, 64 filters, {size}x{size}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"compile: {first:.2f} s first, {warm:.2f} s warm; update: {update:.3f} s, {100 * update / warm:.0f} % of that")
    x = torch.zeros(count, 1, size, size)
    ours, passes = [], []
    sampler.sample(count, device="cpu")
    for pixel in range(pixels + 1):
        row, column = divmod(pixel, size)
        start = time.perf_counter()
        with torch.no_grad():
            levels = torch.distributions.Categorical(logits=net(x)[:, :, row, column]).sample()
        x[:, 0, row, column] = levels.float()
        passes.append(time.perf_counter() - start)
        start = time.perf_counter()
        sampler.sample(count, device="cpu")
        ours.append(time.perf_counter() - start)
    own, loop = statistics.median(ours), statistics.median(passes[1:]) * size**2
    print(f"{count} images by the sampler: {own:.3f} s (median of {len(ours)})")
    print(
        f"by the module's loop: {loop:.0f} s, {loop / own:.0f} times as long ({pixels} of {size**2} passes timed, "
        f"{statistics.median(passes[1:]):.3f} s each)"
    )


def ran(words: list[str | Path]) -> tuple[str, float]:
    """The output of the program, and the user time that it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([find_program(), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def bench(words: list[str | Path]) -> dict:
    """The report of `pixelcnn bench` on a network, with one thread."""
    words = ["bench", *words, "-b", "1", "--engine", "cached", "--rows", "1", "--repeat", "1", "--threads", "1"]
    return json.loads(ran([*words, "--device", "cpu", "--json", "-"])[0])


class Loop:
    """The loop that projects draw with, a pixel at a time, over and over."""

    def __init__(self, net: nn.Module, spelling: Spelling, count: int):
        self.net, self.spelling, self.pixel = net, spelling, 0
        shape = (count, spelling.height, spelling.width)
        codes = spelling.kind == "prior"
        self.x = torch.zeros(shape, dtype=torch.long) if codes else torch.zeros(count, 1, *shape[1:])

    @torch.no_grad()
    def step(self) -> None:
        row, column = divmod(self.pixel % (self.spelling.width * self.spelling.height), self.spelling.width)
        logits = self.net(self.x)[:, :, row, column]
        levels = torch.distributions.Categorical(logits=logits).sample()
        if self.spelling.kind == "prior":
            self.x[:, row, column] = levels
        else:
            self.x[:, 0, row, column] = levels.float() / (self.spelling.levels - 1)
        self.pixel += 1

    def seconds(self, passes: int) -> float:
        """User time of a pass."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for _ in range(passes):
            self.step()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_utime - before) / passes


def compared(name: str, batches: list[int], least: float, rounds: int) -> list[dict]:
    """A network by both, at every batch size; each measurement takes `least` seconds or more."""
    import pixelcnn

    spelling = Spelling.of(name)
    torch.manual_seed(0)
    net = spelling.module()
    shape = (spelling.height, spelling.width)
    codes = spelling.kind == "prior"
    sampler = pixelcnn.compile(
        net, shape if codes else (1, *shape), levels=spelling.levels, input="codes" if codes else "unit"
    )
    pixels, rows = spelling.width * spelling.height, []
    with tempfile.TemporaryDirectory() as folder:
        model, images = Path(folder) / "model.safetensors", Path(folder) / "images.npy"
        sampler.save(model)
        ours_has = bench(["-m", model])["architecture"]["macs_per_image"]
        products = bench(["--architecture", name])["architecture"]["macs_per_image"]
        if ours_has != products:
            raise SystemExit(f"error: {name}: the module takes {ours_has} products an image, the network {products}")
        for batch in batches:

            def sample(times: int, batch: int = batch) -> float:
                words = ["sample", "-m", model, "-n", str(batch * times), "-b", str(batch), "-o", images]
                return ran([*words, "--threads", "1", "--device", "cpu", "--quiet"])[1] / times

            loop = Loop(net, spelling, batch)
            loop.step()
            passes = min(pixels, max(3, round(least / max(loop.seconds(1), 1e-3))))
            times = max(1, round(least / max(sample(1), 1e-3)))
            ours, theirs, peaks = [], [], []
            for _ in range(rounds):
                ours.append(sample(times))
                theirs.append(loop.seconds(passes) * pixels)
                peaks.append(bench(["-m", model])["device"]["peak_gflops"])
            row = {
                "network": name,
                "batch": batch,
                "pixels": pixels,
                "products_per_image": products,
                "seconds_per_batch": statistics.median(ours),
                "loop_seconds_per_batch": statistics.median(theirs),
                "batches_timed": times,
                "loop_pixels_timed": passes,
                "gflops": 2e-9 * products * batch / statistics.median(ours),
                "peak_gflops": max(peaks),
                "seconds_per_batch_of_each_round": ours,
                "loop_seconds_per_batch_of_each_round": theirs,
            }
            row["times"] = row["loop_seconds_per_batch"] / row["seconds_per_batch"]
            rows.append(row)
            print(
                f"{name}, batch {batch}: {row['seconds_per_batch']:.4f} s; loop {row['loop_seconds_per_batch']:.4g} s "
                f"({passes} of {pixels} pixels timed), {row['times']:.0f} times as long; {row['gflops']:.1f} GFLOP/s",
                flush=True,
            )
    return rows


def networks(flags: argparse.Namespace) -> None:
    """Networks by both, each on one thread."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = []
    print(f"user time on one thread, medians of {flags.rounds} rounds; PyTorch {torch.__version__}")
    for name in flags.network.split(","):
        batches = [int(batch) for batch in flags.batches.split(",")]
        rows += compared(name, batches, flags.seconds, flags.rounds)
    # One machine has one peak; the rounds of a busy one miss it.
    peak = max(row["peak_gflops"] for row in rows)
    print(f"\npeak: {peak:.1f} GFLOP/s, the best of all rounds\n")
    lines = [("network", "batch", "ours, s", "loop, s", "pixels timed", "times", "GFLOP/s", "of peak")]
    for row in rows:
        row["peak_gflops"], row["peak_share"] = peak, row["gflops"] / peak
        lines.append(
            (
                row["network"],
                str(row["batch"]),
                f"{row['seconds_per_batch']:.3g}",
                f"{row['loop_seconds_per_batch']:.3g}",
                f"{row['loop_pixels_timed']} of {row['pixels']}",
                f"{row['times']:.0f}",
                f"{row['gflops']:.1f}",
                f"{100 * row['peak_share']:.0f} %",
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    if flags.json:
        report = {"pytorch": torch.__version__, "threads": 1, "rounds": flags.rounds, "results": rows}
        text = json.dumps(report, indent=2) + "\n"
        write_whole(flags.json, lambda file: file.write(text.encode()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, default in [("filters", 40), ("blocks", 1), ("mixtures", 5), ("size", 32), ("count", 100)]:
        parser.add_argument(f"--{flag}", type=int, default=default, metavar="N", help=f"[default: {default}]")
    parser.add_argument("--pixels", type=int, default=5, metavar="N", help="pixels to time [default: 5]")
    parser.add_argument("--classes", type=int, default=0, metavar="N", help="classify under so many")
    parser.add_argument("--compile", action="store_true", help="measure pixelcnn.compile")
    parser.add_argument("--network", metavar="LIST", help="compare these, such as gated:64x7,masked:64x8,prior:64x15")
    parser.add_argument("--batches", default="1,16,64", metavar="LIST", help="of --network [default: 1,16,64]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of --network [default: 3]")
    parser.add_argument(
        "--seconds", type=float, default=2, metavar="S", help="of a measurement of --network, at least [default: 2]"
    )
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write what --network measured")
    flags = parser.parse_args()
    if flags.json and not flags.network:
        parser.error("--json: expected --network")
    if flags.network:
        return networks(flags)
    if flags.compile:
        return compiled(flags.pixels)

    architecture = {"channels": 3, "levels": 3, "nonlinearity": "concat_elu"}
    architecture |= {key: getattr(flags, key) for key in ("filters", "blocks", "mixtures")}
    dilations = [1] * (flags.blocks + 1)
    torch.manual_seed(0)
    net = Folded(**architecture, dilations=dilations, classes=flags.classes).eval()
    values = {name: value.detach() for name, value in net.values.items()}
    metadata = {key: str(value) for key, value in architecture.items()}
    metadata |= {"format": "pixelcnn-1", "family": "pixelcnn++", "dilations": json.dumps(dilations)}
    metadata |= {"height": str(flags.size), "width": str(flags.size)}
    metadata["classes"] = json.dumps([str(i) for i in range(flags.classes)])
    print(
        f"{flags.count} images of {flags.size}x{flags.size}, {flags.filters} filters, {flags.blocks} blocks a level, "
        f"{flags.mixtures} mixtures, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    )

    with tempfile.TemporaryDirectory() as folder:
        model, images = Path(folder) / "model.safetensors", Path(folder) / "images.npy"
        write_model(model, metadata, net.exported(values, "f32"))
        if flags.classes:
            x = np.random.default_rng(0).integers(0, 256, (flags.count, flags.size, flags.size, 3), np.uint8)
            np.save(images, x)
            ours = our_seconds(["classify", "-m", model, images])
            print(f"pixelcnn classify under {flags.classes} classes: {ours:.2f} s")
            cases = flags.count * flags.classes
            for batch in (25, 100, cases):
                theirs = statistics.median(classifying_seconds(net, x, flags.classes, batch) for _ in range(3))
                print(f"PyTorch in batches of {batch}: {theirs:.2f} s, {theirs / ours:.1f} times as long")
        else:
            ours = our_seconds(["sample", "-m", model, "-n", str(flags.count), "-o", Path(folder) / "grid.png"])
            pixel = statistics.median(naive_seconds(net, flags))
            naive = pixel * flags.size**2
            print(f"pixelcnn sample: {ours:.2f} s")
            print(
                f"naive loop: {naive:.0f} s ({flags.pixels} of {flags.size**2} pixels timed, {pixel:.3f} s each), "
                f"{naive / ours:.0f} times as long"
            )


if __name__ == "__main__":
    sys.exit(main())
