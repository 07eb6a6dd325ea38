"""The network's forward pass over whole images in numpy, straight from its definition.

Slow and plain on purpose: it shares nothing with the converter or with the engines, so that it can
judge both. It reads our model files. Layout is NHWC throughout.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


PHI = {
    "concat_elu": lambda x: elu(np.concatenate([x, -x], axis=-1)),
    "elu": elu,
    "relu": lambda x: np.maximum(x, 0),
}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def convolve(x, weight, stride=1, dilation=1):
    """A causal convolution: all kernel rows but the last look up, and a kernel of width 3 is centred
    while a narrower one looks left."""
    rows, columns = weight.shape[:2]
    _, h, w, _ = x.shape
    top = (rows - 1) * dilation
    left = ((columns - 1) // 2 if columns == 3 else columns - 1) * dilation
    right = (columns - 1) * dilation - left
    x = np.pad(x, ((0, 0), (top, 0), (left, right), (0, 0)))
    return sum(
        x[:, i * dilation : i * dilation + h : stride, j * dilation : j * dilation + w : stride]
        @ weight[i, j]
        for i in range(rows)
        for j in range(columns)
    )


def transpose_convolve(x, weight):
    """Stride 2: each input adds to a 2×3 (centred) or 2×2 patch of the output, cropped to twice the
    input's size."""
    rows, columns = weight.shape[:2]
    n, h, w, _ = x.shape
    y = np.zeros((n, 2 * h, 2 * w + 2, weight.shape[3]), x.dtype)
    for i in range(rows):
        for j in range(columns):
            y[:, i::2, j : j + 2 * w : 2] += x @ weight[i, j]
    left = 1 if columns == 3 else 0
    return y[:, :, left : left + 2 * w]


def shift_down(x):
    return np.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]


def shift_right(x):
    return np.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]


class Network:
    def __init__(self, path: Path):
        with safe_open(path, framework="numpy") as file:
            self.metadata = file.metadata()
            self.tensors = {k: file.get_tensor(k).astype(np.float64) for k in file.keys()}
        m = self.metadata
        assert m["format"] == "pixelcnn-1" and m["family"] == "pixelcnn++", m
        self.levels, self.blocks = int(m["levels"]), int(m["blocks"])
        self.channels, self.mixtures = int(m["channels"]), int(m["mixtures"])
        self.classes = json.loads(m["classes"])
        default = '["conv_out"]' if self.classes else "[]"
        self.class_places = json.loads(m.get("class_places", default))
        self.dilations = json.loads(m["dilations"])
        self.phi = PHI[m["nonlinearity"]]
        self.used: set[str] = set()

    def tensor(self, name):
        self.used.add(name)
        return self.tensors[name]

    def conv(self, name, x, **how):
        return convolve(x, self.tensor(f"{name}.weight"), **how) + self.tensor(f"{name}.bias")

    def dense(self, name, x):
        return x @ self.tensor(f"{name}.weight") + self.tensor(f"{name}.bias")

    def deconv(self, name, x):
        return transpose_convolve(x, self.tensor(f"{name}.weight")) + self.tensor(f"{name}.bias")

    def of_class(self, place, name):
        """The values of the images' classes there: a vector, or a map over the image."""
        if place not in self.class_places:
            return 0
        weight = self.tensor(f"{name}.class.weight")
        return np.tensordot(self.one_hot, weight if weight.ndim == 4 else weight[:, None, None], axes=1)

    def block(self, name, x, dilation, aux=None):
        c1 = self.conv(f"{name}.conv_in", self.phi(x), dilation=dilation)
        if aux is not None:
            c1 = c1 + self.dense(f"{name}.skip", self.phi(aux))
        c1 = c1 + self.of_class("conv_in", f"{name}.conv_in")
        c2 = self.conv(f"{name}.conv_out", self.phi(c1), dilation=dilation)
        c2 = c2 + self.of_class("conv_out", name)
        a, b = np.split(c2, 2, axis=-1)
        return x + a * sigmoid(b)

    def seen(self, x):
        """The input of the first convolutions: the image, and a channel of ones."""
        return np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)

    def params(self, image: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
        """The network's output [N, H, W, 10M or 3M] for 8-bit images [N, H, W, C]."""
        self.one_hot = None if label is None else np.eye(len(self.classes))[label]
        x = self.seen((image.astype(np.float64) - 127.5) / 127.5)

        u = shift_down(self.conv("input.vertical", x))
        ul = shift_down(self.conv("input.above", x)) + shift_right(self.conv("input.left", x))
        u = u + self.of_class("input", "input.vertical")
        ul = ul + self.of_class("input", "input.horizontal")
        us, uls = [("input.vertical", u)], [("input.horizontal", ul)]
        for l in range(self.levels):
            for i in range(self.blocks):
                name = f"up.{l}.block.{i}"
                u = self.block(f"{name}.vertical", u, self.dilations[i])
                ul = self.block(f"{name}.horizontal", ul, self.dilations[i], aux=u)
                us.append((f"{name}.vertical", u))
                uls.append((f"{name}.horizontal", ul))
            if l + 1 < self.levels:
                name = f"up.{l}.stride"
                u = self.conv(f"{name}.vertical", u, stride=2)
                ul = self.conv(f"{name}.horizontal", ul, stride=2)
                us.append((f"{name}.vertical", u))
                uls.append((f"{name}.horizontal", ul))

        def pop(remembered):
            name, value = remembered.pop()
            return value + self.of_class("remembered", f"{name}.remembered")

        (_, u), (_, ul) = us.pop(), uls.pop()
        u = u + self.of_class("bottleneck", "bottleneck.vertical")
        ul = ul + self.of_class("bottleneck", "bottleneck.horizontal")
        for l in reversed(range(self.levels)):
            for i in range(self.blocks if l == self.levels - 1 else self.blocks + 1):
                name = f"down.{l}.block.{i}"
                u = self.block(f"{name}.vertical", u, self.dilations[i], aux=pop(us))
                aux = np.concatenate([u, pop(uls)], axis=-1)
                ul = self.block(f"{name}.horizontal", ul, self.dilations[i], aux=aux)
            if l > 0:
                u = self.deconv(f"down.{l}.stride.vertical", u)
                ul = self.deconv(f"down.{l}.stride.horizontal", ul)
        assert not us and not uls
        return self.dense("output", elu(ul)) + self.of_class("output", "output")


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


def bits_per_dim(params: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Bits per dimension [N] of 8-bit images under the network's output, in float64."""
    params = params.astype(np.float64)
    x = (image.astype(np.float64) - 127.5) / 127.5
    n, h, w, channels = x.shape
    m = params.shape[-1] // (10 if channels == 3 else 3)
    logits, rest = params[..., :m], params[..., m:]
    if channels == 3:
        rest = rest.reshape(n, h, w, 3, 3, m)  # channel, (means, log scales, coefficients)
        means, log_scales, c = rest[..., 0, :], rest[..., 1, :], np.tanh(rest[..., 2, :])
        red, green = x[..., 0:1], x[..., 1:2]
        means = np.stack(
            [
                means[..., 0, :],
                means[..., 1, :] + c[..., 0, :] * red,
                means[..., 2, :] + c[..., 1, :] * red + c[..., 2, :] * green,
            ],
            axis=-2,
        )
    else:
        means, log_scales = rest[..., None, :m], rest[..., None, m:]
    log_scales = np.maximum(log_scales, -7)

    x = x[..., None]
    scales = np.exp(log_scales)
    plus, minus, z = ((x - means + d) / scales for d in (1 / 255, -1 / 255, 0))
    delta = sigmoid(plus) - sigmoid(minus)
    middle = z - log_scales - 2 * np.logaddexp(0, z) - np.log(127.5)
    log_prob = np.where(delta > 1e-5, np.log(np.maximum(delta, 1e-12)), middle)
    log_prob = np.where(x > 0.999, log_sigmoid(-minus), log_prob)
    log_prob = np.where(x < -0.999, log_sigmoid(plus), log_prob)
    log_prob = log_prob.sum(axis=-2) + logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    nats = -np.logaddexp.reduce(log_prob, axis=-1).sum(axis=(1, 2))
    return nats / (h * w * channels * np.log(2))
