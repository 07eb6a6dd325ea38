"""Small causal networks, each for one idiom of public code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from networks import MaskedConv, horizontal, norm, vertical
from torch import Tensor, nn


class ColourResidual(nn.Module):
    """Course homework: colours as levels, scaled inside; 1×1, 7×7, 1×1 blocks; channel masks by thirds."""

    class Conv(nn.Conv2d):
        def __init__(self, kind: str, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.register_buffer("mask", torch.zeros_like(self.weight))
            k = self.kernel_size[0] // 2
            o, i = self.out_channels // 3, self.in_channels // 3
            self.mask[:, :, :k] = 1
            self.mask[:, :, k, :k] = 1
            for a in range(3):
                for b in range(a + (kind == "B")):
                    self.mask[a * o : (a + 1) * o, b * i : (b + 1) * i, k, k] = 1

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(
                x, self.weight * self.mask, self.bias, self.stride, self.padding, self.dilation, self.groups
            )

    class Block(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            conv = ColourResidual.Conv
            self.block = nn.ModuleList(
                [
                    nn.ReLU(),
                    conv("B", width, width // 2, 1),
                    nn.ReLU(),
                    conv("B", width // 2, width // 2, 7, padding=3),
                    nn.ReLU(),
                    conv("B", width // 2, width, 1),
                ]
            )

        def forward(self, x: Tensor) -> Tensor:
            out = x
            for layer in self.block:
                out = layer(out)
            return out + x

    def __init__(self, levels: int = 4, width: int = 12):
        super().__init__()
        self.levels = levels
        conv, block = ColourResidual.Conv, ColourResidual.Block
        self.net = nn.ModuleList(
            [conv("A", 3, width, 7, padding=3), block(width), block(width), nn.ReLU(), conv("B", width, 3 * levels, 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        out = (x.float() / (self.levels - 1) - 0.5) / 0.5
        for layer in self.net:
            out = layer(out)
        return out.view(x.shape[0], 3, self.levels, *x.shape[2:]).permute(0, 2, 1, 3, 4)


class OneHotConditioned(nn.Module):
    """A linear map of the one-hot class as a bias of every masked convolution."""

    def __init__(self, classes: int = 4, width: int = 8, levels: int = 2):
        super().__init__()
        self.classes = classes
        self.convs = nn.ModuleList(
            MaskedConv("A" if k == 0 else "B", 1 if k == 0 else width, width, 7, padding=3) for k in range(3)
        )
        self.conditions = nn.ModuleList(nn.Linear(classes, width) for _ in range(3))
        self.out = MaskedConv("B", width, levels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        y = F.one_hot(y, self.classes).float()
        for conv, condition in zip(self.convs, self.conditions, strict=True):
            x = F.relu(conv(x) + condition(y).view(x.shape[0], -1, 1, 1))
        return self.out(x)


class ClassPlane(nn.Module):
    """The class as a map of the image's size and as constant planes, beside the image; coordinates too."""

    def __init__(self, classes: int = 3, size=(6, 5), levels: int = 4, width: int = 6):
        super().__init__()
        self.size, self.classes = size, classes
        self.plane = nn.Embedding(classes, size[0] * size[1])
        self.first = MaskedConv("A", 1, width, 5, padding=2)
        self.maps = nn.Conv2d(1 + classes + 2, width, 1)
        self.second = MaskedConv("B", 2 * width, levels, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        n, _, h, w = x.shape
        one_hot = torch.zeros(n, self.classes, device=x.device).scatter_(1, y.unsqueeze(1), 1.0)
        planes = one_hot[:, :, None, None].expand(-1, -1, h, w)
        rows = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).repeat(n, 1, h, 1)
        maps = self.maps(torch.cat([self.plane(y).view(n, 1, h, w), planes, rows, columns], dim=1))
        return self.second(F.relu(torch.cat([self.first(x), maps], dim=1)))


class SnailWithoutAttention(nn.Module):
    """A prior's blocks: weight norm, causal padding and zeroing, elu, GLU, shifts; the image as one-hot."""

    class Causal(nn.Module):
        def __init__(self, inputs: int, outputs: int, size, padding: str):
            super().__init__()
            self.conv = norm(nn.Conv2d(inputs, outputs, size), True)
            h, w = size
            self.causal = w // 2 if padding == "causal" else -1
            right = w // 2 if padding in ("down", "causal") else 0
            self.pad = nn.ZeroPad2d([w - 1 - right if padding == "downright" else w // 2, right, h - 1, 0])

        def forward(self, x: Tensor) -> Tensor:
            if self.causal >= 0:
                self.conv.weight_v.data[:, :, -1, self.causal :].zero_()
            return self.conv(self.pad(x))

    class Block(nn.Module):
        def __init__(self, width: int, padding: str, aux: bool):
            super().__init__()
            causal = SnailWithoutAttention.Causal
            self.first, self.second = causal(width, width, (2, 3), padding), causal(width, 2 * width, (2, 3), padding)
            self.elu, self.drop, self.glu = nn.ELU(), nn.Dropout(0.1), nn.GLU(1)
            self.aux = norm(nn.Conv2d(width, width, 1), True) if aux else None

        def forward(self, x: Tensor, aux: Tensor | None = None) -> Tensor:
            out = self.first(self.elu(x))
            if aux is not None:
                out = out + self.aux(self.elu(aux))
            out = self.glu(self.second(self.drop(self.elu(out))))
            out += x
            return out

    def __init__(self, codes: int = 12, width: int = 8, size=(6, 7)):
        super().__init__()
        self.codes = codes
        self.register_buffer("background", torch.randn(1, 2, *size))
        block, causal = SnailWithoutAttention.Block, SnailWithoutAttention.Causal
        self.down = causal(codes, width, (2, 3), "down")
        self.right = causal(codes, width, (2, 1), "downright")
        self.blocks = nn.ModuleList([block(width, "causal", False), block(width, "downright", True)])
        self.background_in = nn.Conv2d(2, width, 1)
        self.out = nn.Sequential(nn.ELU(inplace=True), norm(nn.Conv2d(width, codes, 1), True))

    def forward(self, x: Tensor, condition: Tensor | None = None, cache: dict | None = None) -> tuple[Tensor, dict]:
        cache = {} if cache is None else cache
        n, h, w = x.shape
        x = F.one_hot(x, self.codes).permute(0, 3, 1, 2).type_as(self.background)
        down = F.pad(self.down(x), [0, 0, 1, 0])[:, :, :h, :]
        right = F.pad(self.right(x), [1, 0, 0, 0])[:, :, :, :w]
        out = down + right
        background = self.background[:, :, :h, :].expand(n, 2, h, w)
        out = out + self.background_in(background)
        first = self.blocks[0](out)
        return self.out(self.blocks[1](first, first)), cache


class ChannelsLast(nn.Module):
    """Linear layers on [N, H, W, C]; the output as [N, H·W, K]."""

    def __init__(self, levels: int = 6, width: int = 8):
        super().__init__()
        self.conv = MaskedConv("A", 1, width, 5, padding=2)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, levels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).permute(0, 2, 3, 1)
        return self.second(torch.relu(self.first(x))).flatten(1, 2)


class CodesWithChannel(nn.Module):
    """Whole numbers [N, 1, H, W] into an embedding."""

    def __init__(self, codes: int = 9, width: int = 6):
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.conv = MaskedConv("A", width, width, 5, padding="same", how="assign")
        self.out = nn.Conv2d(width, codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.conv(self.embedding(x.squeeze(1)).permute(0, 3, 1, 2))))


class LongInside(nn.Module):
    """A real tensor of levels, made whole in the forward."""

    def __init__(self, codes: int = 9, width: int = 6):
        super().__init__()
        self.rest = CodesWithChannel(codes, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(x.long())


class ScatterOneHot(nn.Module):
    """One-hot by scatter_ and by indexing unit vectors."""

    def __init__(self, codes: int = 7, width: int = 6):
        super().__init__()
        self.codes = codes
        self.conv = MaskedConv("A", 2 * codes, width, 3, padding=1)
        self.out = nn.Conv2d(width, codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, h, w = x.shape
        first = torch.zeros(n, self.codes, h, w, device=x.device).scatter_(1, x.unsqueeze(1), 1)
        second = torch.eye(self.codes, device=x.device)[x].permute(0, 3, 1, 2)
        return self.out(torch.tanh(self.conv(torch.cat([first, second], 1))))


class Activations(nn.Module):
    """All activations that have a form or follow from those that do."""

    def __init__(self, levels: int = 4, width: int = 4):
        super().__init__()
        self.first = MaskedConv("A", 1, width, 5, padding=2)
        acts = "relu silu gelu softplus elu selu celu hardtanh relu6 hardswish hardsigmoid mish logsigmoid"
        acts += " leaky_relu tanhshrink"
        self.names = acts.split()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in self.names)
        self.prelu = nn.PReLU(width)
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for name, conv in zip(self.names, self.convs, strict=True):
            x = x + getattr(F, name)(conv(x))
        x = x + F.gelu(x, approximate="tanh") + F.softplus(x, beta=2) + F.elu(x, 0.5) + x.abs() + x.clamp(-0.5, 1)
        return self.out(torch.maximum(self.prelu(x), x**2) + torch.exp(-F.relu(x)))


class ConstantPad(nn.Module):
    """Padding with ones; rows and columns cut by valid convolutions."""

    def __init__(self, levels: int = 4, width: int = 6):
        super().__init__()
        self.pad = nn.ConstantPad2d((2, 2, 3, 0), 1.0)
        self.first = nn.Conv2d(1, width, (3, 5))
        self.second = nn.Conv2d(width, width, (2, 1))
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.pad(x)[:, :, :-1]))
        return self.out(F.elu(self.second(F.pad(x, (0, 0, 1, 0), value=0.5))))


class Grouped(nn.Module):
    """Depthwise and grouped convolutions, channel shuffles, stacks and sums over a new axis."""

    def __init__(self, levels: int = 4, width: int = 8):
        super().__init__()
        self.first = MaskedConv("A", 1, width, 5, padding=2)
        self.depth = MaskedConv("B", width, width, 3, padding=1, groups=width)
        self.group = nn.Conv2d(width, width, 1, groups=2)
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y = F.relu(self.depth(x))
        n, c, h, w = y.shape
        y = self.group(y).view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.out(torch.stack([x, F.relu(y), x[:, torch.arange(c - 1, -1, -1)]], 0).mean(0) + y.flip(1))


@torch.jit.script
def scripted_gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class WritesInPlace(nn.Module):
    """Slices written into zeros; an activation in place of a value used again; scripted functions; a dict out."""

    def __init__(self, levels: int = 4, width: int = 6):
        super().__init__()
        self.v, self.h = vertical(1, 2 * width), horizontal(1, 2 * width, centre=False)
        self.out = nn.Sequential(nn.ReLU(True), nn.Conv2d(width, levels, 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        v = self.v(x)
        shifted = torch.zeros_like(v)
        shifted[:, :, 1:] = v[:, :, :-1]
        h = self.h(x)
        h += shifted
        h[:, :2] *= 0.5
        gated = scripted_gate(h)
        F.leaky_relu_(gated, 0.2)
        return {"logits": self.out(gated) + 0.1 * 0, "hidden": gated}


class PlusPlusSample(nn.Module):
    """A fork whose forward takes a further argument, and keeps values of the first batch."""

    def __init__(self, mixtures: int = 2, width: int = 4):
        super().__init__()
        self.first = nn.Conv2d(4, width, (2, 3))
        self.linear = norm(nn.Linear(2 * width, 10 * mixtures), True)
        self.padding = None

    def forward(self, x: Tensor, sample: bool = False) -> Tensor:
        if self.padding is None or sample:
            self.padding = torch.ones(x.shape[0], 1, *x.shape[2:])
        x = torch.cat((x, self.padding), 1)
        x = F.pad(self.first(F.pad(x, (1, 1, 1, 0)))[:, :, :-1], (0, 0, 1, 0))
        x = F.elu(torch.cat((x, -x), dim=1)).permute(0, 2, 3, 1)
        return self.linear(x).permute(0, 3, 1, 2)
