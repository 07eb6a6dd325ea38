#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy"]
# ///
"""How long PyTorch takes for what `pixelcnn sample` does, by the loop that most projects draw with.

    uv run scripts/compare_naive.py

The loop computes the whole network over the whole image once a pixel, here the network of scripts/train.py with
random weights. Its first pixels are timed, after one to warm up; all cost the same, so that the rest is extrapolated.
Both run one after the other, on the CPU with as many threads as the machine has cores.
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

import torch
from torch import Tensor

from conversion.model_file import write_model
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


def our_seconds(model: Path, flags: argparse.Namespace) -> float:
    """Seconds of the whole program, the start included."""
    command = [find_program(), "sample", "-m", model, "-n", str(flags.count), "--device", "cpu"]
    start = time.perf_counter()
    subprocess.run([*command, "--quiet", "-o", model.with_suffix(".png")], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, default in [("filters", 40), ("blocks", 1), ("mixtures", 5), ("size", 32), ("count", 100)]:
        parser.add_argument(f"--{flag}", type=int, default=default, metavar="N", help=f"[default: {default}]")
    parser.add_argument("--pixels", type=int, default=5, metavar="N", help="pixels to time [default: 5]")
    flags = parser.parse_args()

    architecture = {"channels": 3, "levels": 3, "nonlinearity": "concat_elu"}
    architecture |= {key: getattr(flags, key) for key in ("filters", "blocks", "mixtures")}
    dilations = [1] * (flags.blocks + 1)
    torch.manual_seed(0)
    net = PixelCNN(**architecture, dilations=dilations, classes=0).eval()
    values = {name: value.detach() for name, value in net.values.items()}
    metadata = {key: str(value) for key, value in architecture.items()}
    metadata |= {"format": "pixelcnn-1", "family": "pixelcnn++", "dilations": json.dumps(dilations)}
    metadata |= {"height": str(flags.size), "width": str(flags.size), "classes": "[]"}

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        write_model(model, metadata, net.exported(values, "f32"))
        ours = statistics.median(our_seconds(model, flags) for _ in range(3))
    pixel = statistics.median(naive_seconds(net, flags))
    naive = pixel * flags.size**2
    print(
        f"{flags.count} images of {flags.size}x{flags.size}, {flags.filters} filters, {flags.blocks} blocks a level, "
        f"{flags.mixtures} mixtures, {torch.get_num_threads()} threads\n"
        f"PyTorch {torch.__version__}, naive loop: {naive:.0f} s ({flags.pixels} of {flags.size**2} pixels timed, "
        f"{pixel:.3f} s each)\n"
        f"pixelcnn sample: {ours:.2f} s\n"
        f"{naive / ours:.0f} times faster"
    )


if __name__ == "__main__":
    sys.exit(main())
