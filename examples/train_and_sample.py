#!/usr/bin/env python3
"""Train a small gated PixelCNN on digits, and draw from it after every epoch.

    pip install '.[compile]'
    python examples/train_and_sample.py                          # digits that the built-in model `mnist` draws
    python examples/train_and_sample.py --data mnist.npz         # your own: x_train [N, 28, 28] and y_train, or x and y

The network is compiled once; `update` takes its new weights after each epoch. What drawing costs is told as a share of the
epoch, and beside it what the module's own loop would take: a pass of the whole network for each of the 784 pixels, of
which three are timed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path

import numpy as np
import pixelcnn
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GatedLayer(nn.Module):
    """A vertical stack, which sees the rows above, and a horizontal one, which sees the pixels to the left too.

    After van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders". Padding alone keeps it causal: the
    first layer is shifted by a pixel, so that none sees itself.
    """

    def __init__(self, inputs: int, filters: int, classes: int):
        super().__init__()
        self.is_first = inputs != filters
        self.vertical = nn.Conv2d(inputs, 2 * filters, (2, 3))
        self.horizontal = nn.Conv2d(inputs, 2 * filters, (1, 3))
        self.down = nn.Conv2d(2 * filters, 2 * filters, 1)
        self.out = nn.Conv2d(filters, filters, 1)
        self.label = nn.Embedding(classes, 2 * filters)

    def forward(self, above: Tensor, left: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        shift = int(self.is_first)
        rows, columns = above.shape[2:]
        added = self.label(label)[:, :, None, None]
        v = self.vertical(F.pad(above, (1, 1, 1 + shift, 0))[:, :, : rows + 1])
        h = self.horizontal(F.pad(left, (2 + shift, 0))[..., : columns + 2]) + self.down(v)
        h = self.out(gated(h + added))
        return gated(v + added), h if self.is_first else h + left


def gated(x: Tensor) -> Tensor:
    """tanh of one half of the channels, times the sigmoid of the other."""
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


class Network(nn.Module):
    """Logits [N, L, H, W] of the levels of each pixel, of images [N, 1, H, W] from -1 to 1 and labels [N]."""

    def __init__(self, levels: int, classes: int, filters: int, layers: int):
        super().__init__()
        inputs = [1] + [filters] * (layers - 1)
        self.layers = nn.ModuleList(GatedLayer(n, filters, classes) for n in inputs)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(filters, 64, 1), nn.ReLU(), nn.Conv2d(64, levels, 1))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        above = left = image
        for layer in self.layers:
            above, left = layer(above, left, label)
        return self.head(left)


def digits(path: str | None, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits as values from 0 to 255 [N, 28, 28, 1], and which they are [N]."""
    if path is None:
        print(f"drawing {count} digits to train on …", flush=True)
        labels = np.arange(count) % 10
        return pixelcnn.load("mnist").sample(count, labels=labels, seed=1), labels
    with np.load(path) as arrays:
        name = "_train" if "x_train" in arrays else ""
        return arrays[f"x{name}"][:count].reshape(-1, 28, 28, 1), arrays[f"y{name}"][:count].astype(np.int64)


def as_input(levels: Tensor, count: int) -> Tensor:
    """Levels [N, H, W, 1] as the network takes them [N, 1, H, W]."""
    return levels.permute(0, 3, 1, 2).float() / (count - 1) * 2 - 1


def train_epoch(net: Network, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, levels: int, batch: int) -> float:
    """One pass over the images; returns bits per dimension, as measured while training."""
    net.train()
    total = 0.0
    for part in torch.randperm(len(x)).split(batch):
        target = x[part]
        loss = F.cross_entropy(net(as_input(target, levels), y[part]), target[..., 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(part)
    return total / len(x) / math.log(2)


@torch.no_grad()
def own_loop(net: Network, labels: Tensor, levels: int, passes: int = 3) -> float:
    """Seconds in which the module itself would draw images of these labels: its first pixels, extrapolated."""
    net.eval()
    image = torch.zeros(len(labels), 28, 28, 1, dtype=torch.long)
    seconds = []
    for pixel in range(passes):
        row, column = divmod(pixel, 28)
        start = time.perf_counter()
        logits = net(as_input(image, levels), labels)[:, :, row, column]
        image[:, row, column, 0] = torch.multinomial(logits.softmax(1), 1)[:, 0]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 28 * 28


def main() -> None:
    """Train, draw, and tell what it cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FILE", help=".npz of 28×28 images [default: drawn by the model mnist]")
    parser.add_argument("--images", type=int, default=2000, help="images to train on, at most [default: 2000]")
    parser.add_argument("--epochs", type=int, default=10, help="[default: 10]")
    parser.add_argument("--samples", type=int, default=64, help="images to draw after each epoch [default: 64]")
    parser.add_argument("--levels", type=int, default=8, help="levels that the 256 are rounded to [default: 8]")
    parser.add_argument("--filters", type=int, default=32, help="[default: 32]")
    parser.add_argument("--layers", type=int, default=7, help="[default: 7]")
    parser.add_argument("-o", "--output", type=Path, default=Path("samples"), help="folder of the grids [default: samples]")
    flags = parser.parse_args()

    torch.manual_seed(0)
    values, classes = digits(flags.data, flags.images)
    x, y = torch.from_numpy(values.astype(np.int32) * flags.levels // 256), torch.from_numpy(classes)
    net = Network(flags.levels, 10, flags.filters, flags.layers)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    labels = np.arange(flags.samples) % 10
    flags.output.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    sampler = pixelcnn.compile(net, (1, 28, 28), levels=flags.levels, classes=10, input="symmetric")
    print(f"compiled in {time.perf_counter() - start:.1f} s: {sampler.summary}")
    for epoch in range(1, flags.epochs + 1):
        start = time.perf_counter()
        bits = train_epoch(net, optimizer, x, y, flags.levels, batch=64)
        trained = time.perf_counter()
        sampler.update(net)
        images = sampler.sample(flags.samples, labels=labels, seed=epoch)
        drawn = time.perf_counter()
        path = flags.output / f"epoch-{epoch:03}.png"
        pixelcnn.grid(images, levels=flags.levels, scale=2).save(path)
        cost, by_itself, training = drawn - trained, own_loop(net, torch.from_numpy(labels), flags.levels), trained - start
        print(
            f"epoch {epoch}: {bits:.3f} bits/dim in {training:.1f} s; {len(images)} images in {cost:.2f} s, "
            f"{cost / (training + cost):.1%} of the epoch (the module's own loop: about {by_itself:.0f} s, "
            f"{by_itself / (training + by_itself):.0%}); {path}",
            flush=True,
        )


if __name__ == "__main__":
    main()
