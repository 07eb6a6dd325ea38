#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=1.13", "numpy", "pillow"]
# ///
"""How many sampled digits does a classifier read as the class they were drawn for?

    pixelcnn sample -m mnist -n 1000 --each digits
    uv run weights/read_digits.py mnist.npz digits

mnist.npz holds x_train, y_train, x_test, y_test. Classes are cycled over the samples, which is what
pixelcnn does without --class. The classifier is trained first, in a minute or two.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

EPOCHS, BATCH = 2, 64


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32) / 255)[:, None]


def classifier() -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(
        *stage(1, 16), *stage(16, 32), nn.Flatten(), nn.Linear(32 * 49, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def fit(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    net.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x))[: len(x) // BATCH * BATCH].view(-1, BATCH):
            loss = F.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def read(net: nn.Module, x: torch.Tensor) -> np.ndarray:
    net.eval()
    return torch.cat([net(part).argmax(1) for part in x.split(500)]).numpy()


def main(data: str, samples: str) -> None:
    torch.manual_seed(0)
    with np.load(data) as file:
        net = classifier()
        fit(net, tensor(file["x_train"]), torch.from_numpy(file["y_train"].astype(np.int64)))
        right = (read(net, tensor(file["x_test"])) == file["y_test"]).mean()
    print(f"test images: {100 * right:.2f} % read as their class")

    files = sorted(Path(samples).glob("*.png"))
    images = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])
    drawn = np.array([int(file.stem) % 10 for file in files])
    right = read(net, tensor(images)) == drawn
    print(f"{len(files)} samples: {100 * right.mean():.1f} % read as their class")
    print("by class: " + ", ".join(f"{k}: {100 * right[drawn == k].mean():.0f} %" for k in range(10)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
