"""The network to be trained: PixelCNN++ (Salimans et al. 2017, arXiv 1701.05517) in PyTorch.

Its layers, their names and shapes are those of the model file. Layout is NCHW here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..convert.network import Architecture, Layer, network, outputs_per_mixture

# From the model file's axes [kh, kw, in, out] to those of PyTorch's convolutions.
AXES = {"conv2d": (3, 2, 0, 1), "deconv2d": (2, 3, 0, 1), "dense": (3, 2, 0, 1)}

INITIAL = 0.05  # deviation of a new network's values

PHI = {
    "concat_elu": lambda x: F.elu(torch.cat([x, -x], dim=1)),
    "elu": F.elu,
    "relu": F.relu,
}


def shift_down(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    return F.pad(x, (1, 0, 0, 0))[:, :, :, :-1]


class PixelCNN(nn.Module):
    """Weights are kept as a direction and a gain (weight normalisation: W = g·V/‖V‖). `logits_only`: of the mixture
    parameters, it gives the first M."""

    def __init__(
        self,
        *,
        channels: int,
        filters: int,
        blocks: int,
        levels: int,
        mixtures: int,
        nonlinearity: str,
        dilations: Sequence[int],
        classes: int,
        dropout: float = 0.0,
        logits_only: bool = False,
    ):
        super().__init__()
        self.blocks, self.levels, self.dilations = blocks, levels, tuple(dilations)
        self.phi, self.dropout = PHI[nonlinearity], dropout
        outputs = (1 if logits_only else outputs_per_mixture(channels)) * mixtures
        doubles = nonlinearity == "concat_elu"
        self.layers: dict[str, Layer] = {
            layer.name: layer
            for layer in network(
                Architecture(channels, filters, blocks, levels, outputs, classes, doubles, "")
            )
        }
        self.conditional = classes > 0
        # Names with dots are not for nn.Module; this one is in the order of the layers.
        self.values = nn.ParameterDict()
        for name, layer in self.layers.items():
            key = name.replace(".", "/")
            if layer.kind == "conditional_weights":
                self.values[f"{key}/hw"] = nn.Parameter(INITIAL * torch.randn(layer.shape))
                continue
            shape = [*([1, 1] if layer.kind == "dense" else []), *layer.shape]
            v = INITIAL * torch.randn([shape[axis] for axis in AXES[layer.kind]])
            self.values[f"{key}/v"] = nn.Parameter(v)
            self.values[f"{key}/g"] = nn.Parameter(torch.ones(shape[-1]))
            self.values[f"{key}/b"] = nn.Parameter(torch.zeros(shape[-1]))

    # Weights

    def weight(self, name: str) -> Tensor:
        key = name.replace(".", "/")
        v, g = self.values[f"{key}/v"], self.values[f"{key}/g"]
        shape = [1] * v.dim()
        shape[self.output_axis(name)] = -1
        axes = [axis for axis in range(v.dim()) if axis != self.output_axis(name)]
        return v * (g.view(shape) * torch.rsqrt(v.square().sum(axes, keepdim=True)))

    def bias(self, name: str) -> Tensor:
        return self.values[f"{name.replace('.', '/')}/b"]

    def output_axis(self, name: str) -> int:
        return 1 if self.layers[name].kind == "deconv2d" else 0

    # Layers

    def apply_layer(self, name: str, x: Tensor, dilation: int = 1, init_scale: float = 1.0) -> Tensor:
        """A convolution of whatever kind, with its bias."""
        layer = self.layers[name]
        weight, bias = self.weight(name).to(x.dtype), self.bias(name).to(x.dtype)
        if self.initialising:
            self.initialise(name, self.convolve(layer, x, weight, None, dilation), init_scale)
            weight, bias = self.weight(name), self.bias(name)
        return self.convolve(layer, x, weight, bias, dilation)

    def convolve(self, layer: Layer, x: Tensor, w: Tensor, b: Tensor | None, dilation: int) -> Tensor:
        if layer.kind == "dense":
            return F.conv2d(x, w, b)
        rows, columns = w.shape[-2:]
        centred = columns == 3
        if layer.kind == "deconv2d":
            y = F.conv_transpose2d(x, w, b, stride=2)
            return y[..., 1:] if centred else y
        left = (1 if centred else columns - 1) * dilation
        x = F.pad(x, (left, dilation if centred else 0, (rows - 1) * dilation, 0))
        stride = 2 if ".stride." in layer.name else 1
        return F.conv2d(x, w, b, stride=stride, dilation=dilation)

    def block(self, name: str, i: int, x: Tensor, h: Tensor | None, aux: list[Tensor]) -> Tensor:
        """A gated residual block. Several `aux` are to be read as one, channels after channels."""
        dilation = self.dilations[i]
        c1 = self.apply_layer(f"{name}.conv_in", self.phi(x), dilation)
        if aux:
            c1 = c1 + self.apply_layer(f"{name}.skip", self.phi(torch.cat(aux, dim=1)))
        c1 = self.phi(c1)
        if self.dropout and self.training:
            c1 = F.dropout(c1, self.dropout)
        c2 = self.apply_layer(f"{name}.conv_out", c1, dilation, init_scale=0.1)
        if h is not None:
            c2 = c2 + F.embedding(h, self.values[f"{name.replace('.', '/')}/class/hw"])[:, :, None, None]
        a, b = c2.chunk(2, dim=1)
        return x + a * torch.sigmoid(b)

    # The network

    initialising = False

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Mixture parameters [N, 10M or 3M, H, W] of images [N, C, H, W] in −1…1; `h`: classes [N]."""
        assert (h is not None) == self.conditional
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

        u = shift_down(self.apply_layer("input.vertical", x))
        ul = shift_down(self.apply_layer("input.above", x)) + shift_right(self.apply_layer("input.left", x))
        us, uls = [u], [ul]
        for l in range(self.levels):
            for i in range(self.blocks):
                u = self.block(f"up.{l}.block.{i}.vertical", i, u, h, [])
                ul = self.block(f"up.{l}.block.{i}.horizontal", i, ul, h, [u])
                us.append(u)
                uls.append(ul)
            if l + 1 < self.levels:
                u = self.apply_layer(f"up.{l}.stride.vertical", u)
                ul = self.apply_layer(f"up.{l}.stride.horizontal", ul)
                us.append(u)
                uls.append(ul)

        u, ul = us.pop(), uls.pop()
        for l in reversed(range(self.levels)):
            for i in range(self.blocks + (l < self.levels - 1)):
                u = self.block(f"down.{l}.block.{i}.vertical", i, u, h, [us.pop()])
                ul = self.block(f"down.{l}.block.{i}.horizontal", i, ul, h, [u, uls.pop()])
            if l > 0:
                u = self.apply_layer(f"down.{l}.stride.vertical", u)
                ul = self.apply_layer(f"down.{l}.stride.horizontal", ul)
        return self.apply_layer("output", F.elu(ul))

    # Data-dependent initialisation

    @torch.no_grad()
    def initialise_on(self, x: Tensor, h: Tensor | None) -> None:
        """Choose gains and biases so that every layer's outputs on these images have mean 0 and a
        given deviation (Salimans and Kingma 2016, arXiv 1602.07868)."""
        self.initialising = True
        try:
            self(x, h)
        finally:
            self.initialising = False

    def initialise(self, name: str, y: Tensor, scale: float) -> None:
        key = name.replace(".", "/")
        mean, deviation = y.mean((0, 2, 3)), y.std((0, 2, 3), unbiased=False)
        gain = scale / (deviation + 1e-5)
        self.values[f"{key}/g"].copy_(gain)
        self.values[f"{key}/b"].copy_(-mean * gain)

    # From and to model files

    def exported(self, values: dict[str, Tensor], dtype: str) -> dict[str, np.ndarray]:
        """Tensors of the model file for these values of the parameters, weight norm folded in 64 bit."""
        weight_type = {"f32": "<f4", "f16": "<f2"}[dtype]
        tensors = {}
        for name, layer in self.layers.items():
            key = name.replace(".", "/")
            if layer.kind == "conditional_weights":
                tensors[f"{name}.weight"] = values[f"{key}/hw"].cpu().numpy().astype(weight_type)
                continue
            v, g, b = (values[f"{key}/{part}"].double().cpu().numpy() for part in "vgb")
            v = v.transpose(np.argsort(AXES[layer.kind])).reshape(layer.shape)
            axes = tuple(range(v.ndim - 1))
            weight = v * (g / np.sqrt(np.square(v).sum(axis=axes)))
            tensors[f"{name}.weight"] = np.ascontiguousarray(weight, weight_type)
            tensors[f"{name}.bias"] = b.astype("<f4")
        return tensors

    def current(self) -> dict[str, np.ndarray]:
        return self.exported({name: value.detach() for name, value in self.values.items()}, "f32")

    @torch.no_grad()
    def take(self, tensors: dict[str, np.ndarray]) -> None:
        """Go on from a model file's tensors: g = ‖W‖, and V as long as in a new network.

        The longer a direction, the less a step turns it: with V = W, layers with small weights would
        be thrown about.
        """
        for name, layer in self.layers.items():
            key = name.replace(".", "/")
            weight = tensors[f"{name}.weight"].astype(np.float32)
            if layer.kind == "conditional_weights":
                self.values[f"{key}/hw"].copy_(torch.from_numpy(weight))
                continue
            norm = np.sqrt(np.square(weight.astype(np.float64)).sum(axis=tuple(range(weight.ndim - 1))))
            weight = weight * np.float32(INITIAL * np.sqrt(weight[..., 0].size))
            weight /= np.where(norm, norm, 1).astype(np.float32)
            weight[..., norm == 0] = INITIAL  # any direction will do
            weight = weight.reshape([*([1, 1] if layer.kind == "dense" else []), *layer.shape])
            weight = np.ascontiguousarray(weight.transpose(AXES[layer.kind]))
            self.values[f"{key}/v"].copy_(torch.from_numpy(weight))
            self.values[f"{key}/g"].copy_(torch.from_numpy(norm.astype(np.float32)))
            self.values[f"{key}/b"].copy_(torch.from_numpy(tensors[f"{name}.bias"].astype(np.float32)))


def widened(
    tensors: dict[str, np.ndarray], filters: int, wider: dict[str, np.ndarray], wider_filters: int
) -> dict[str, np.ndarray]:
    """A model's tensors with the filters of a new, wider network beside its own, which do not read the new ones yet: the
    outputs are the same (Net2WiderNet: Chen et al. 2015, arXiv 1511.05641)."""
    result = {}
    for name, tensor in tensors.items():
        new = wider[name].astype(np.float32)
        # An axis has a block of filters for each input, sign and half of a gate.
        places = [
            n if n.size == m else n // filters * wider_filters + n % filters
            for n, m in zip(map(np.arange, tensor.shape), new.shape)
        ]
        new *= np.sqrt(np.square(tensor.astype(np.float32)).mean() / max(np.square(new).mean(), 1e-30))
        new[..., places[-1]] = 0
        new[np.ix_(*places)] = tensor
        result[name] = new
    return result
