#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy", "pillow"]
# ///
"""Count samples that a classifier reads as their own class, and copies of training images.

    pixelcnn sample -m mnist -n 1000 --each digits
    uv run weights/read_samples.py mnist.npz digits

Classes are cycled over the samples, which is what pixelcnn does without --class. The classifier is trained
first, in a minute or two, on the images that scripts/train.py would train on, and tested on those that it
would hold out (--held-out N, as there). A sample is a copy if it differs visibly (by more than 8 of 255
levels) from a training image in none of its pixels, a near copy if in at most 1 % of them. Held-out images
are looked up in the same way: of things made of few parts, some are alike by chance.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
from pixelcnn.train import data  # noqa: E402

BATCH = 64
VISIBLE = 8  # levels of 255
NEAR = 0.01  # of the pixels


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32) / 255)


def classifier(channels: int, height: int, width: int, classes: int) -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    flat = 32 * (height // 4) * (width // 4)
    return nn.Sequential(
        *stage(channels, 16), *stage(16, 32), nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, classes)
    )


def fit(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    steps = epochs * (len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            loss = F.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def read(net: nn.Module, x: np.ndarray) -> np.ndarray:
    net.eval()
    return torch.cat([net(part).argmax(1) for part in tensor(x).split(500)]).numpy()


def different(images: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The share of pixels in which each image differs visibly from the training image most like it, of the
    20 that are nearest by squared difference."""
    known = torch.from_numpy(train.reshape(len(train), -1)).float() / 255
    lengths = known.square().sum(1)
    shares = []
    for part in np.array_split(images, -(-len(images) // 100)):
        distances = lengths - 2 * tensor(part.reshape(len(part), -1)) @ known.T
        nearest = distances.topk(min(20, len(train)), largest=False).indices.numpy()
        apart = np.abs(part[:, None].astype(np.int16) - train[nearest]) > VISIBLE
        shares.append(apart.any(axis=2).mean(axis=(2, 3)).min(axis=1))
    return np.concatenate(shares)


def say_copies(name: str, images: np.ndarray, train: np.ndarray) -> None:
    apart = different(images, train)
    print(
        f"{len(images)} {name}: {(apart == 0).sum()} copies of training images, {((apart > 0) & (apart <= NEAR)).sum()} "
        f"near copies; half of them differ in {100 * np.median(apart):.1f} % of the pixels or more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="as for scripts/train.py, with classes")
    parser.add_argument("samples", type=Path, nargs="+", metavar="DIR", help="folders of samples")
    parser.add_argument("--held-out", type=int, metavar="N")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="of the classifier [default: 2]")
    flags = parser.parse_args()

    options = data.DataOptions(
        size=None, grey=False, classes=True, leave_out=None, held_out=flags.held_out, strict=False
    )
    train, held_out, classes = data.load(flags.data, options)
    torch.manual_seed(0)
    net = classifier(*train.x.shape[1:], len(classes))
    fit(net, tensor(train.x), torch.from_numpy(train.y), flags.epochs)
    right = (read(net, held_out.x) == held_out.y).mean()
    print(f"held-out images: {100 * right:.2f} % read as their class")

    for folder in flags.samples:
        files = sorted(folder.glob("*.png"))
        mode = "L" if train.x.shape[1] == 1 else "RGB"
        images = np.stack([np.asarray(Image.open(file).convert(mode)) for file in files])
        images = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2)
        drawn = np.array([int(file.stem) % len(classes) for file in files])
        right = read(net, images) == drawn
        print(f"{folder}: {100 * right.mean():.1f} % of {len(files)} samples read as their class")
        print("by class: " + ", ".join(f"{k}: {100 * right[drawn == i].mean():.0f} %" for i, k in enumerate(classes)))
        say_copies("samples", images, train.x)
    say_copies("held-out images", held_out.x[:1000], train.x)


if __name__ == "__main__":
    main()
