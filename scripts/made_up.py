"""The networks of `pixelcnn bench --architecture gated:…`, `masked:…` and `prior:…` as modules of PyTorch, with random weights.

They are written as most projects write them. Masks are applied once, before anything is timed. `src/graph/gated.rs` and
`masked.rs` say the same in equations."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEFAULTS = {"gated": (28, 256), "masked": (28, 256), "prior": (8, 512)}


@dataclass
class Spelling:
    """KIND:FILTERSxLAYERS[@WIDTHxHEIGHT[kLEVELS]], as `--architecture` has it."""

    kind: str
    filters: int
    layers: int
    width: int
    height: int
    levels: int

    @classmethod
    def of(cls, text: str) -> Spelling:
        found = re.fullmatch(r"(gated|masked|prior):(\d+)x(\d+)(?:@(\d+)x(\d+)(?:k(\d+))?)?", text)
        if not found:
            raise ValueError(f"{text}: expected gated:64x7, masked:64x8, prior:64x15@8x8k512, or the like")
        kind, *numbers = found.groups()
        side, levels = DEFAULTS[kind]
        given = [int(n) if n else default for n, default in zip(numbers, (0, 0, side, side, levels))]
        return cls(kind, *given)

    def module(self) -> nn.Module:
        if self.kind == "masked":
            return Masked(self.filters, self.layers, self.levels).eval()
        return Gated(self.filters, self.layers, self.levels, codes=self.kind == "prior").eval()


class GatedLayer(nn.Module):
    """Two gated stacks: of the rows above, and of the row itself. Kernels have no weights that a mask would zero."""

    def __init__(self, inputs: int, filters: int, reach: int, first: bool):
        super().__init__()
        self.reach, self.first = reach, first
        rows, columns = (reach, reach) if first else (reach + 1, reach + 1)
        self.vertical = nn.Conv2d(inputs, 2 * filters, (rows, 2 * reach + 1))
        self.horizontal = nn.Conv2d(inputs, 2 * filters, (1, columns))
        self.across = nn.Conv2d(2 * filters, 2 * filters, 1)
        self.residual = nn.Conv2d(filters, filters, 1)
        self.skip = nn.Conv2d(filters, filters, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        reach = self.reach
        above, left = F.pad(v, (reach, reach, reach, 0)), F.pad(h, (reach, 0))
        if self.first:  # mask A: neither the row itself nor the pixel itself
            above, left = above[:, :, :-1], left[:, :, :, :-1]
        of_v = self.vertical(above)
        g = gate(self.horizontal(left) + self.across(of_v))
        of_h = self.residual(g)
        return gate(of_v), of_h if self.first else h + of_h, self.skip(g)


def gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.tanh(a) * torch.sigmoid(b)


class Gated(nn.Module):
    """A gated PixelCNN over shades [N, 1, H, W] from 0 to 1, or over codes [N, H, W]."""

    def __init__(self, filters: int, layers: int, levels: int, codes: bool):
        super().__init__()
        self.codes = nn.Embedding(levels, filters) if codes else None
        first = GatedLayer(filters if codes else 1, filters, 3, first=True)
        others = [GatedLayer(filters, filters, 1, first=False) for _ in range(layers - 1)]
        self.layers = nn.ModuleList([first, *others])
        self.hidden, self.out = nn.Conv2d(filters, filters, 1), nn.Conv2d(filters, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.codes is not None:
            x = self.codes(x).permute(0, 3, 1, 2)
        v, h, skips = x, x, 0
        for layer in self.layers:
            v, h, skip = layer(v, h)
            skips = skips + skip
        return self.out(F.relu(self.hidden(F.relu(skips))))


class Masked(nn.Module):
    """Masked 7×7 convolutions with ReLU over shades [N, 1, H, W] from 0 to 1; the first has mask A."""

    def __init__(self, filters: int, layers: int, levels: int):
        super().__init__()
        convolutions = [nn.Conv2d(filters if i else 1, filters, 7, padding=3) for i in range(layers)]
        for i, convolution in enumerate(convolutions):
            with torch.no_grad():
                convolution.weight[:, :, 3, 3 + (i > 0) :] = 0
                convolution.weight[:, :, 4:] = 0
        self.layers = nn.Sequential(*(m for c in convolutions for m in (c, nn.ReLU())), nn.Conv2d(filters, levels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
