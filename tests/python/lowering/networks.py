"""Causal networks, written anew from the papers in the idioms in which people write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# --- Plain masked convolutions (van den Oord et al. 2016, "Pixel Recurrent Neural Networks")


class MaskedConv(nn.Conv2d):
    """Mask A leaves the centre out, mask B does not; `how` it is applied differs from author to author."""

    def __init__(self, kind: str, *args, how: str = "data", **kwargs):
        super().__init__(*args, **kwargs)
        self.how = how
        h, w = self.kernel_size
        mask = torch.ones(h, w)
        mask[h // 2, w // 2 + (kind == "B") :] = 0
        mask[h // 2 + 1 :] = 0
        self.register_buffer("mask", mask.expand_as(self.weight).clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "functional":
            return F.conv2d(
                x, self.weight * self.mask, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        if self.how == "data":
            self.weight.data *= self.mask
        elif self.how == "mul_":
            with torch.no_grad():
                self.weight.mul_(self.mask)
        elif self.how == "assign":
            self.weight.data = self.weight.data * self.mask
        return super().forward(x)


def plain(levels: int = 8, channels: int = 1, how: str = "data", width: int = 8, norm: bool = True) -> nn.Sequential:
    """A Sequential of masked 7×7 with batch norm."""
    conv = lambda kind, i: MaskedConv(kind, i, width, 7, 1, 3, bias=not norm, how=how)  # noqa: E731
    layers: list[nn.Module] = []
    for k in range(3):
        layers.append(conv("A" if k == 0 else "B", channels if k == 0 else width))
        if norm:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU(True))
    return nn.Sequential(*layers, nn.Conv2d(width, levels * channels, 1))


class ResidualBinary(nn.Module):
    """Masked 7×7, then blocks of ReLU, 1×1, ReLU, masked 3×3, ReLU, 1×1 with a residual; a sigmoid at the end."""

    def __init__(self, blocks: int = 3, width: int = 16, sigmoid: bool = True):
        super().__init__()
        self.first = MaskedConv("A", 1, width, 7, padding=3, how="functional")
        half = width // 2
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(width, half, 1),
                nn.ReLU(),
                MaskedConv("B", half, half, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(half, width, 1),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 1, 1))
        self.sigmoid = sigmoid

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(2 * x - 1)
        for block in self.blocks:
            x = x + block(x)
        x = self.last(x)
        return torch.sigmoid(x) if self.sigmoid else x


class LeakyClasses(nn.Module):
    """Masked 7×7 with leaky ReLU; a class embedding added to each; a log-softmax at the end."""

    def __init__(self, classes: int = 5, levels: int = 16, width: int = 8):
        super().__init__()
        self.convs = nn.ModuleList(
            MaskedConv("A" if k == 0 else "B", 1 if k == 0 else width, width, 7, padding=3) for k in range(3)
        )
        self.embeddings = nn.ModuleList(nn.Embedding(classes, width) for _ in range(3))
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for conv, embedding in zip(self.convs, self.embeddings, strict=True):
            x = F.leaky_relu(conv(x) + embedding(y)[:, :, None, None], 0.1)
        return F.log_softmax(self.out(x), dim=1)


# --- Gated, two streams (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders")


class StackConv(nn.Module):
    """A convolution with a mask for one of the two stacks."""

    def __init__(self, inputs: int, outputs: int, mask: Tensor, dilation: int = 1):
        super().__init__()
        self.register_buffer("mask", mask[None, None])
        padding = [dilation * (k - 1) // 2 for k in mask.shape]
        self.conv = nn.Conv2d(inputs, outputs, tuple(mask.shape), padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        self.conv.weight.data *= self.mask
        return self.conv(x)


def vertical(inputs: int, outputs: int, size: int = 3, centre: bool = True, dilation: int = 1) -> StackConv:
    mask = torch.ones(size, size)
    mask[size // 2 + centre :] = 0
    return StackConv(inputs, outputs, mask, dilation)


def horizontal(inputs: int, outputs: int, size: int = 3, centre: bool = True, dilation: int = 1) -> StackConv:
    mask = torch.ones(1, size)
    mask[0, size // 2 + centre :] = 0
    return StackConv(inputs, outputs, mask, dilation)


class GatedLayer(nn.Module):
    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.v = vertical(width, 2 * width, dilation=dilation)
        self.h = horizontal(width, 2 * width, dilation=dilation)
        self.v_to_h = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        v_sum = self.v(v)
        a, b = v_sum.chunk(2, dim=1)
        h_sum = self.h(h) + self.v_to_h(v_sum)
        c, d = h_sum.chunk(2, dim=1)
        return torch.tanh(a) * torch.sigmoid(b), self.out(torch.tanh(c) * torch.sigmoid(d)) + h


class GatedScaledInside(nn.Module):
    """Takes levels and scales them in its forward; dilations; elu; the output as [N, K, C, H, W]."""

    def __init__(self, width: int = 8, levels: int = 256, channels: int = 1, dilations: tuple[int, ...] = (1, 2, 1, 4)):
        super().__init__()
        self.levels = levels
        self.v_in = vertical(channels, width, 5, centre=False)
        self.h_in = horizontal(channels, width, 5, centre=False)
        self.layers = nn.ModuleList(GatedLayer(width, d) for d in dilations)
        self.out = nn.Conv2d(width, channels * levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float() / (self.levels - 1)) * 2 - 1
        v, h = self.v_in(x), self.h_in(x)
        for layer in self.layers:
            v, h = layer(v, h)
        out = self.out(F.elu(h))
        return out.reshape(out.shape[0], self.levels, out.shape[1] // self.levels, out.shape[2], out.shape[3])


class PriorLayer(nn.Module):
    """Convolutions of half kernels, padded on both sides and cropped; the first one's last row and column zeroed."""

    def __init__(self, first: bool, width: int, size: int, classes: int):
        super().__init__()
        self.first = first
        self.condition = nn.Embedding(classes, 2 * width)
        self.v = nn.Conv2d(width, 2 * width, (size // 2 + 1, size), 1, (size // 2, size // 2))
        self.h = nn.Conv2d(width, 2 * width, (1, size // 2 + 1), 1, (0, size // 2))
        self.v_to_h = nn.Conv2d(2 * width, 2 * width, 1)
        self.residual = nn.Conv2d(width, width, 1)

    @staticmethod
    def gate(x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return torch.tanh(a) * torch.sigmoid(b)

    def forward(self, v: Tensor, h: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:
            self.v.weight.data[:, :, -1].zero_()
            self.h.weight.data[:, :, :, -1].zero_()
        y = self.condition(y)
        v_sum = self.v(v)[:, :, : v.size(-1), :]
        h_sum = self.h(h)[:, :, :, : h.size(-2)]
        out = self.gate(self.v_to_h(v_sum) + h_sum + y[:, :, None, None])
        out = self.residual(out)
        return self.gate(v_sum + y[:, :, None, None]), out if self.first else out + h


class Prior(nn.Module):
    """A gated prior over codes [N, H, W], by class."""

    def __init__(self, codes: int = 16, width: int = 8, layers: int = 4, classes: int = 4):
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.layers = nn.ModuleList(PriorLayer(k == 0, width, 7 if k == 0 else 3, classes) for k in range(layers))
        self.out = nn.Sequential(nn.Conv2d(width, 32, 1), nn.ReLU(True), nn.Conv2d(32, codes, 1))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        shape = x.size() + (-1,)
        x = self.embedding(x.view(-1)).view(shape).permute(0, 3, 1, 2)
        v = h = x
        for layer in self.layers:
            v, h = layer(v, h, y)
        return self.out(h)


class SwappedPrior(nn.Module):
    """The first mask is B, all others A; codes as one-hot."""

    def __init__(self, codes: int = 12, width: int = 8):
        super().__init__()
        self.codes = codes
        self.first = MaskedConv("B", codes, width, 5, padding=2, how="functional")
        self.rest = nn.ModuleList(MaskedConv("A", width, width, 3, padding=1, how="functional") for _ in range(3))
        self.out = nn.Conv2d(width, codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.one_hot(x, self.codes).permute(0, 3, 1, 2).float()
        x = F.relu(self.first(x))
        for conv in self.rest:
            x = F.relu(conv(x))
        return self.out(x)


class ChannelMaskedConv(nn.Conv2d):
    """Masks among channels of the same pixel too: channel k belongs to colour k mod C, or to a third of the outputs."""

    def __init__(self, kind: str, colours: int, *args, spread: bool = True, **kwargs):
        super().__init__(*args, **kwargs)
        o, i, h, w = self.weight.shape
        mask = torch.zeros(o, i, h, w)
        mask[:, :, : h // 2] = 1
        mask[:, :, h // 2, : w // 2] = 1
        of_out = torch.arange(o) % colours if spread else torch.arange(o) * colours // o
        of_in = torch.arange(i) % colours
        early = of_in[None] < of_out[:, None] if kind == "A" else of_in[None] <= of_out[:, None]
        mask[:, :, h // 2, w // 2] = early.float()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)


class CroppedConv(nn.Conv2d):
    """A convolution padded by more than its kernel; two crops of its result, a row apart."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        h = self.kernel_size[0]
        return y[:, :, 1:-h, :], y[:, :, : -h - 1, :]


class ColourLayer(nn.Module):
    def __init__(self, kind: str, inputs: int, width: int, size: int, colours: int, classes: int, skip: bool):
        super().__init__()
        self.width = width
        half = size // 2
        masked = lambda i, o, k, **kw: ChannelMaskedConv(kind, colours, i, o, k, **kw)  # noqa: E731
        self.v = CroppedConv(inputs, 2 * width, (half + 1, size), padding=(half + 1, half))
        self.v_fc = nn.Conv2d(inputs, 2 * width, 1)
        self.v_to_h = masked(2 * width, 2 * width, 1)
        self.h = masked(inputs, 2 * width, (1, size), padding=(0, half))
        self.h_fc = masked(width, width, 1)
        self.skip = ChannelMaskedConv(kind, colours, width, width, 1) if skip else None
        self.label = nn.Embedding(classes, 2 * width) if classes else None

    def forward(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        v_in, h_in, y = state["v"], state["h"], state.get("y")
        v, shifted = self.v(v_in)
        v += self.v_fc(v_in)
        a, b = torch.split(v, self.width, dim=1)
        h = self.h(h_in)
        h += self.v_to_h(shifted)
        if self.label is not None:
            h += self.label(y)[:, :, None, None]
        c, d = torch.split(h, self.width, dim=1)
        gated = torch.tanh(c) * torch.sigmoid(d)
        out = self.h_fc(gated)
        if self.skip is None:
            return {**state, "v": torch.tanh(a) * torch.sigmoid(b), "h": out}
        return {
            **state,
            "v": torch.tanh(a) * torch.sigmoid(b),
            "h": out + h_in,
            "skip": state["skip"] + self.skip(gated),
        }


class GatedColours(nn.Module):
    """Red, then green given red, then blue given both."""

    def __init__(self, colours: int = 3, levels: int = 4, width: int = 12, classes: int = 3):
        super().__init__()
        self.levels, self.width = levels, width
        self.first = ColourLayer("A", colours, width, 5, colours, classes, False)
        self.layers = nn.Sequential(*[ColourLayer("B", width, width, 3, colours, classes, True) for _ in range(2)])
        self.hidden = ChannelMaskedConv("B", colours, width, 9, 1)
        self.out = ChannelMaskedConv("B", colours, 9, colours * levels, 1, spread=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        n, c, h, w = x.size()
        state = self.first({"v": x, "h": x, "y": y} if y is not None else {"v": x, "h": x})
        state["skip"] = x.new_zeros((n, self.width, h, w), requires_grad=True)
        out = F.relu(self.layers(state)["skip"])
        out = self.out(F.relu(self.hidden(out)))
        return out.view(n, c, self.levels, h, w).permute(0, 2, 1, 3, 4)


# --- Without masks: pads, crops and shifts


class ShiftedStreams(nn.Module):
    """Convolutions that see their own position, then a shift after the nonlinearity."""

    def __init__(self, levels: int = 4, width: int = 6):
        super().__init__()
        self.v1 = nn.Conv2d(1, width, (2, 3))
        self.v2 = nn.Conv2d(width, width, (2, 3))
        self.h1 = nn.Conv2d(1, width, (1, 2))
        self.h2 = nn.Conv2d(width, width, (1, 3))
        self.mix = nn.Conv2d(2 * width, width, 1)
        self.out = nn.Conv2d(width, levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        v = torch.tanh(self.v1(F.pad(x, (1, 1, 1, 0))))
        v = F.pad(v[:, :, :-1], (0, 0, 1, 0))
        v = F.silu(self.v2(F.pad(v, (1, 1, 1, 0))))
        h = torch.sigmoid(self.h1(F.pad(x, (1, 0, 0, 0))))
        h = torch.cat([torch.zeros_like(h[..., :1]), h[..., :-1]], dim=3)
        h = F.gelu(self.h2(F.pad(h, (2, 0, 0, 0))))
        return self.out(F.relu(self.mix(torch.cat([v, h], 1))))


class DilatedRows(nn.Module):
    """Rows only: a pixel sees the rows above, nothing of its own; three independent channels."""

    def __init__(self, levels: int = 8, width: int = 8):
        super().__init__()
        self.levels = levels
        self.first = nn.Conv2d(3, width, (2, 3))
        self.layers = nn.ModuleList(nn.Conv2d(width, 2 * width, (2, 3), dilation=d) for d in (1, 2))
        self.out = nn.Conv2d(width, 3 * levels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(F.pad(x, (1, 1, 2, 0))[:, :, :-1])
        for conv in self.layers:
            d = conv.dilation[0]
            a, b = conv(F.pad(x, (d, d, d, 0))).chunk(2, 1)
            x = x + F.silu(a) * torch.sigmoid(b)
        out = self.out(F.gelu(x))
        return out.view(x.shape[0], 3, self.levels, *x.shape[2:])


class PaddedEmbedding(nn.Module):
    """Codes are embedded and padded; the result is cropped only after the next operations."""

    def __init__(self, codes: int = 10, width: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(codes, width)
        self.first = nn.Conv2d(width, 2 * width, (2, 3))
        self.left = nn.Conv2d(width, width, (1, 2))
        self.second = nn.Conv2d(width, width, (2, 3), padding=(0, 1))
        self.out = nn.Conv2d(width, codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        e = F.pad(self.embedding(x).permute(0, 3, 1, 2), (1, 1, 3, 1))
        a, b = self.first(e).chunk(2, 1)  # three rows more than the image
        v = F.relu(self.second(torch.tanh(a) * torch.sigmoid(b)))
        h = F.elu(self.left(F.pad(e, (1, 0, 0, 0))))  # four rows and two columns more
        return self.out(v[:, :, : x.shape[1], :] + h[:, :, 3:-1, : x.shape[2]])


# --- PixelCNN++ (Salimans et al. 2017) as its forks in PyTorch write it


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], dim=1))


def norm(layer: nn.Module, old: bool) -> nn.Module:
    if old:
        return nn.utils.weight_norm(layer)
    return nn.utils.parametrizations.weight_norm(layer)


class Nin(nn.Module):
    def __init__(self, inputs: int, outputs: int, old: bool):
        super().__init__()
        self.linear = norm(nn.Linear(inputs, outputs), old)
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        shape = [int(n) for n in x.size()]
        out = self.linear(x.contiguous().view(shape[0] * shape[1] * shape[2], shape[3]))
        shape[-1] = self.outputs
        return out.view(shape).permute(0, 3, 1, 2)


class PlusConv(nn.Module):
    """Padded on top and the left (and right: the vertical stream), perhaps shifted afterwards."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size=(2, 3),
        stride=(1, 1),
        right: bool = True,
        shift: str = "",
        old: bool = True,
    ):
        super().__init__()
        self.conv = norm(nn.Conv2d(inputs, outputs, size, stride), old)
        side = (size[1] - 1) // 2 if right else size[1] - 1
        self.pad = nn.ZeroPad2d((side, side if right else 0, size[0] - 1, 0))
        self.shift = shift
        self.after = nn.ZeroPad2d((0, 0, 1, 0) if shift == "down" else (1, 0, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pad(x))
        if self.shift == "down":
            return self.after(x[:, :, : x.size(2) - 1, :])
        if self.shift == "right":
            return self.after(x[:, :, :, : x.size(3) - 1])
        return x


class PlusDeconv(nn.Module):
    def __init__(self, width: int, size, old: bool):
        super().__init__()
        self.size = size
        self.deconv = norm(nn.ConvTranspose2d(width, width, size, 2, output_padding=1), old)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deconv(x)
        h, w = x.size(2), x.size(3)
        if self.size[1] == 3:
            return x[:, :, : h - self.size[0] + 1, 1 : w - 1]
        return x[:, :, : h - self.size[0] + 1, : w - self.size[1] + 1]


class PlusBlock(nn.Module):
    """A gated residual block; `film`: the class scales and shifts the first sum."""

    def __init__(self, width: int, right: bool, skip: int, old: bool, film: int = 0):
        super().__init__()
        size = (2, 3) if right else (2, 2)
        self.first = PlusConv(2 * width, width, size, right=right, old=old)
        self.skip = Nin(2 * skip * width, width, old) if skip else None
        self.drop = nn.Dropout2d(0.5)
        self.second = PlusConv(2 * width, 2 * width, size, right=right, old=old)
        self.film = nn.Embedding(film, 2 * width) if film else None

    def forward(self, x: Tensor, a: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        c = self.first(concat_elu(x))
        if a is not None and self.skip is not None:
            c += self.skip(concat_elu(a))
        if self.film is not None:
            g, b = self.film(y).chunk(2, dim=1)
            c = c * (1 + g[:, :, None, None]) + b[:, :, None, None]
        p, q = self.second(self.drop(concat_elu(c))).chunk(2, dim=1)
        return x + p * torch.sigmoid(q)


class PlusPlus(nn.Module):
    """Two or three resolutions, vertical and horizontal streams, mixture of logistics."""

    def __init__(self, width=6, mixtures=2, blocks=1, levels=2, channels=3, place="", classes=0, old=True, size=8):
        super().__init__()
        self.place, self.channels, self.blocks, self.depth = place, channels, blocks, levels
        self.init_padding = None
        extra = 2 if place == "planes" else 0
        self.u_in = PlusConv(channels + 1 + extra, width, (2, 3), shift="down", old=old)
        self.ul_in = nn.ModuleList(
            [
                PlusConv(channels + 1 + extra, width, (1, 3), shift="down", old=old),
                PlusConv(channels + 1 + extra, width, (2, 1), right=False, shift="right", old=old),
            ]
        )
        film = classes if place == "film" else 0
        block = lambda right, skip: PlusBlock(width, right, skip, old, film)  # noqa: E731
        stack = lambda n, right, skip: nn.ModuleList(block(right, skip) for _ in range(n))  # noqa: E731
        down_blocks = [blocks] + [blocks + 1] * (levels - 1)
        self.up_u = nn.ModuleList(stack(blocks, True, 0) for _ in range(levels))
        self.up_ul = nn.ModuleList(stack(blocks, False, 1) for _ in range(levels))
        self.down_u = nn.ModuleList(stack(n, True, 1) for n in down_blocks)
        self.down_ul = nn.ModuleList(stack(n, False, 2) for n in down_blocks)
        self.stride_u = nn.ModuleList(PlusConv(width, width, (2, 3), (2, 2), old=old) for _ in range(levels - 1))
        self.stride_ul = nn.ModuleList(
            PlusConv(width, width, (2, 2), (2, 2), right=False, old=old) for _ in range(levels - 1)
        )
        self.up_size_u = nn.ModuleList(PlusDeconv(width, (2, 3), old) for _ in range(levels - 1))
        self.up_size_ul = nn.ModuleList(PlusDeconv(width, (2, 2), old) for _ in range(levels - 1))
        outputs = (10 if channels == 3 else 3) * mixtures
        self.out = Nin(width, outputs, old)
        small = size >> (levels - 1)
        sizes = {
            "input": (channels * size * size,),
            "planes": (2,),
            "first": (width,),
            "bottleneck": (width * small * small,),
            "remembered": (width,),
            "output": (outputs,),
        }
        self.label = nn.Embedding(classes, *sizes[place]) if place in sizes else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.init_padding is None:
            n, _, h, w = (int(k) for k in x.size())
            self.init_padding = torch.ones(n, 1, h, w)
        e = self.label(y) if self.label is not None else None
        if self.place == "input":
            x = x + e.view(x.shape)
        x = torch.cat((x, self.init_padding), 1)
        if self.place == "planes":
            x = torch.cat((x, e[:, :, None, None].expand(-1, -1, *x.shape[2:])), 1)
        plus = lambda v, at: v + e[:, :, None, None] if self.place == at else v  # noqa: E731
        us, uls = [plus(self.u_in(x), "first")], [plus(self.ul_in[0](x) + self.ul_in[1](x), "first")]
        for k in range(self.depth):
            for u_block, ul_block in zip(self.up_u[k], self.up_ul[k], strict=True):
                us.append(u_block(us[-1], y=y))
                uls.append(ul_block(uls[-1], a=us[-1], y=y))
            if k != self.depth - 1:
                us.append(self.stride_u[k](us[-1]))
                uls.append(self.stride_ul[k](uls[-1]))
        u, ul = us.pop(), uls.pop()
        if self.place == "bottleneck":
            u, ul = u + e.view(u.shape), ul + e.view(ul.shape)
        for k in range(self.depth):
            for u_block, ul_block in zip(self.down_u[k], self.down_ul[k], strict=True):
                u = u_block(u, a=plus(us.pop(), "remembered"), y=y)
                ul = ul_block(ul, a=torch.cat((u, plus(uls.pop(), "remembered")), 1), y=y)
            if k != self.depth - 1:
                u, ul = self.up_size_u[k](u), self.up_size_ul[k](ul)
        return plus(self.out(F.elu(ul)), "output")


# --- Networks into which recorded state dicts load (the shapes say what they are; see graphs/README.md)


class _Held(nn.Module):
    """A convolution under the name `conv`, whose mask is not in the state dict."""

    def __init__(self, inputs: int, outputs: int, size, dilation: int = 1, centre: bool = True):
        super().__init__()
        padding = [dilation * (k - 1) // 2 for k in size]
        self.conv = nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation)
        self.mask = torch.ones(size)
        if size[0] == 1:
            self.mask[:, size[1] // 2 + centre :] = 0
        else:
            self.mask[size[0] // 2 + centre :] = 0

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x, self.conv.weight * self.mask, self.conv.bias, padding=self.conv.padding, dilation=self.conv.dilation
        )


class _HeldLayer(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.conv_vert = _Held(width, 2 * width, (3, 3), dilation)
        self.conv_horiz = _Held(width, 2 * width, (1, 3), dilation)
        self.conv_vert_to_horiz = nn.Conv2d(2 * width, 2 * width, 1)
        self.conv_horiz_1x1 = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        v_sum = self.conv_vert(v)
        h_sum = self.conv_horiz(h) + self.conv_vert_to_horiz(v_sum)
        gate = lambda t: torch.mul(torch.tanh(t[:, : t.shape[1] // 2]), torch.sigmoid(t[:, t.shape[1] // 2 :]))  # noqa: E731
        return gate(v_sum), self.conv_horiz_1x1(gate(h_sum)) + h


class RealGated(nn.Module):
    """gated_mnist_real: levels in, (2v/255 - 1) inside."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv_vstack = _Held(1, width, (3, 3), centre=False)
        self.conv_hstack = _Held(1, width, (1, 3), centre=False)
        self.conv_layers = nn.ModuleList(_HeldLayer(width, d) for d in (1, 2, 1, 4, 1, 2, 1))
        self.conv_out = nn.Conv2d(width, 256, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.float() / 255.0) * 2 - 1
        v, h = self.conv_vstack(x), self.conv_hstack(x)
        for layer in self.conv_layers:
            v, h = layer(v, h)
        out = self.conv_out(F.elu(h))
        return out.reshape(out.shape[0], 256, 1, *out.shape[2:])


class _HeldBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        half = width // 2
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, half, 1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x


class RealBinary(nn.Module):
    """masked_binary_real; ±1 in. The recorded weights are masked, which the module does not repeat."""

    def __init__(self, blocks: int = 12, width: int = 64):
        super().__init__()
        rest = [nn.ReLU(), nn.Conv2d(width, 256, 1), nn.ReLU(), nn.Conv2d(256, 1, 1), nn.Sigmoid()]
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 7, padding=3), *[_HeldBlock(width) for _ in range(blocks)], *rest
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _RealColourLayer(nn.Module):
    def __init__(self, kind: str, inputs: int, width: int, skip: bool):
        super().__init__()
        self.width = width
        self.v_conv = CroppedConv(inputs, 2 * width, (4, 7), padding=(4, 3))
        self.v_fc = nn.Conv2d(inputs, 2 * width, 1)
        self.v_to_h = (
            ChannelMaskedConv(kind, 3, 2 * width, 2 * width, 1) if skip else nn.Conv2d(2 * width, 2 * width, 1)
        )
        self.h_conv = ChannelMaskedConv(kind, 3, inputs, 2 * width, (1, 7), padding=(0, 3))
        self.h_fc = ChannelMaskedConv(kind, 3, width, width, 1)
        if skip:
            self.h_skip = ChannelMaskedConv(kind, 3, width, width, 1)
            self.label_embedding = nn.Embedding(10, 2 * width)

    def forward(self, v_in: Tensor, h_in: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        v, shifted = self.v_conv(v_in)
        v += self.v_fc(v_in)
        if y is not None:
            v += self.label_embedding(y)[:, :, None, None]
        a, b = torch.split(v, self.width, dim=1)
        v_out = torch.tanh(a) * torch.sigmoid(b)
        h = self.h_conv(h_in)
        h += self.v_to_h(shifted)
        if y is not None:
            h += self.label_embedding(y)[:, :, None, None]
        c, d = torch.split(h, self.width, dim=1)
        gated = torch.tanh(c) * torch.sigmoid(d)
        return (
            (v_out if y is None else v_out + v_in),
            (self.h_fc(gated) if y is None else self.h_fc(gated) + h_in),
            gated,
        )


class RealColours(nn.Module):
    """gated_rgb_real: two levels, red then green then blue, classes."""

    def __init__(self, width: int = 30, layers: int = 6, levels: int = 2):
        super().__init__()
        self.causal_conv = _RealColourLayer("A", 3, width, False)
        self.hidden_conv = nn.ModuleList(_RealColourLayer("B", width, width, True) for _ in range(layers))
        self.label_embedding = nn.Embedding(10, width)
        self.out_hidden_conv = ChannelMaskedConv("B", 3, width, 10, 1)
        self.out_conv = ChannelMaskedConv("B", 3, 10, 3 * levels, 1)
        self.levels = levels

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        n, _, h, w = x.shape
        v, h_, _ = self.causal_conv(x, x)
        skip = x.new_zeros((n, h_.shape[1], h, w), requires_grad=True)
        for layer in self.hidden_conv:
            v, h_, gated = layer(v, h_, y)
            skip = skip + layer.h_skip(gated)
        skip = skip + self.label_embedding(y)[:, :, None, None]
        out = self.out_conv(F.relu(self.out_hidden_conv(F.relu(skip))))
        return out.view(n, self.levels, 3, h, w)
