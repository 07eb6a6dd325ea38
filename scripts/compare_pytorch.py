#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy"]
# ///
"""How long PyTorch takes for what `pixelcnn sample` and `pixelcnn classify` do.

    uv run scripts/compare_pytorch.py
    uv run scripts/compare_pytorch.py --classes 4

It draws by the loop that most projects draw with: the whole network over the whole image once a pixel. Its first pixels
are timed, after one to warm up; all cost the same, so that the rest is extrapolated. With --classes, images are
classified instead: each under each class, in batches of several sizes, likelihoods in 64 bits as the program has them.

The network is that of scripts/train.py with random weights. Both run one after the other, on the CPU with as many threads
as the machine has cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import source_tree  # noqa: F401
from pixelcnn.convert.model_file import write_model
from training.likelihood import bits_per_dim
from training.network import PixelCNN
from training.pictures import find_program


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, default in [("filters", 40), ("blocks", 1), ("mixtures", 5), ("size", 32), ("count", 100)]:
        parser.add_argument(f"--{flag}", type=int, default=default, metavar="N", help=f"[default: {default}]")
    parser.add_argument("--pixels", type=int, default=5, metavar="N", help="pixels to time [default: 5]")
    parser.add_argument("--classes", type=int, default=0, metavar="N", help="classify under so many")
    flags = parser.parse_args()

    architecture = {"channels": 3, "levels": 3, "nonlinearity": "concat_elu"}
    architecture |= {key: getattr(flags, key) for key in ("filters", "blocks", "mixtures")}
    dilations = [1] * (flags.blocks + 1)
    torch.manual_seed(0)
    net = PixelCNN(**architecture, dilations=dilations, classes=flags.classes).eval()
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
