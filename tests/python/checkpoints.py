"""Checkpoints for tests, written in the formats of the published ones."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

Tensors = dict[str, np.ndarray]


def save_tensorflow(path: Path, tensors: Tensors, version: int) -> None:
    """Saves like tf.train.Saver, in its V1 or V2 format."""
    import tensorflow as tf

    if version == 1:
        tf.raw_ops.Save(filename=str(path), tensor_names=list(tensors), data=list(tensors.values()))
    else:
        tf.raw_ops.SaveV2(
            prefix=str(path),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )


def random_network(
    filters: int, blocks: int, mixtures: int, channels: int = 3, classes: int = 0
) -> Tensors:
    """Random weights under the published TensorFlow names, of three levels and concat_elu.

    Names and shapes are written down here once more, from the reference code, and not taken from
    the converter's table, which this has to judge.
    """
    random = np.random.default_rng(1)
    tensors: Tensors = {}
    counts: dict[str, int] = {}
    f = filters

    def scope(kind: str) -> str:
        counts[kind] = counts.get(kind, -1) + 1
        return f"model/{kind}_{counts[kind]}"

    def layer(kind: str, *shape: int, gain: int = -1) -> None:
        name = scope(kind)
        tensors[f"{name}/V"] = random.standard_normal(shape, np.float32)
        # Small enough for the activations of a deep random network to stay of order one.
        tensors[f"{name}/g"] = random.uniform(0.2, 0.4, shape[gain]).astype(np.float32)
        tensors[f"{name}/b"] = random.uniform(-0.1, 0.1, shape[gain]).astype(np.float32)

    def gated_resnet(kernel: tuple[int, int], skip: int) -> None:
        layer("conv2d", *kernel, 2 * f, f)
        if skip:
            layer("dense", 2 * skip * f, f)
        layer("conv2d", *kernel, 2 * f, 2 * f)
        if classes:
            hw = random.standard_normal((classes, 2 * f), np.float32)
            tensors[f"{scope('conditional_weights')}/hw"] = hw

    for kernel in ((2, 3), (1, 3), (2, 1)):
        layer("conv2d", *kernel, channels + 1, f)
    for level in range(3):
        for _ in range(blocks):
            gated_resnet((2, 3), 0)
            gated_resnet((2, 2), 1)
        if level < 2:
            layer("conv2d", 2, 3, f, f)
            layer("conv2d", 2, 2, f, f)
    for level in range(3):
        for _ in range(blocks + (level > 0)):
            gated_resnet((2, 3), 1)
            gated_resnet((2, 2), 2)
        if level < 2:
            layer("deconv2d", 2, 3, f, f, gain=2)
            layer("deconv2d", 2, 2, f, f, gain=2)
    layer("dense", f, (10 if channels == 3 else 3) * mixtures)
    return tensors


def random_torch_network(
    filters: int,
    blocks: int,
    mixtures: int,
    channels: int = 3,
    levels: int = 3,
    concatenated: int = 0,
    seed: int = 1,
) -> Tensors:
    """Random weights under the published PyTorch names, with concat_elu. As above, names and shapes are written down
    once more. `concatenated` channels are beside the image's and the one of ones."""
    random = np.random.default_rng(seed)
    tensors: Tensors = {}
    f = filters

    def layer(name: str, *shape: int, bias: int | None = None) -> None:
        tensors[f"{name}.weight_v"] = random.standard_normal(shape, np.float32)
        gain = random.uniform(0.7, 1.3, (shape[0],) + (1,) * (len(shape) - 1))
        tensors[f"{name}.weight_g"] = gain.astype(np.float32)
        tensors[f"{name}.bias"] = random.uniform(-0.1, 0.1, bias or shape[0]).astype(np.float32)

    def block(name: str, i: int, skips: tuple[int, int]) -> None:
        for stream, kernel, skip in zip(("u", "ul"), ((2, 3), (2, 2)), skips):
            at = f"{name}.{stream}_stream.{i}"
            layer(f"{at}.conv_input.conv", f, 2 * f, *kernel)
            if skip:
                layer(f"{at}.nin_skip.lin_a", f, 2 * skip * f)
            layer(f"{at}.conv_out.conv", 2 * f, 2 * f, *kernel)

    inputs = channels + 1 + concatenated
    for name, kernel in (("u_init", (2, 3)), ("ul_init.0", (1, 3)), ("ul_init.1", (2, 1))):
        layer(f"{name}.conv", f, inputs, *kernel)
    for level in range(levels):
        for i in range(blocks):
            block(f"up_layers.{level}", i, (0, 1))
        for i in range(blocks + (level > 0)):
            block(f"down_layers.{level}", i, (1, 2))
        if level < levels - 1:
            for stream, kernel in (("u", (2, 3)), ("ul", (2, 2))):
                layer(f"downsize_{stream}_stream.{level}.conv", f, f, *kernel)
                layer(f"upsize_{stream}_stream.{level}.deconv", f, f, *kernel)
    layer("nin_out.lin_a", (10 if channels == 3 else 3) * mixtures, f)
    return tensors


def block_names(tensors: Tensors) -> list[str]:
    """The blocks of a network with PyTorch's names."""
    return [
        name.removesuffix(".conv_out.conv.bias") for name in tensors if name.endswith(".conv_out.conv.bias")
    ]


TORCH_TYPES = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<i8": "LongStorage", "|u1": "ByteStorage", "|b1": "BoolStorage"}


class Global(str):
    """Pickled as a reference to this name of a module, without importing it."""


class PthPickler(pickle._Pickler):
    """Pickles arrays as PyTorch does its tensors, and keeps the content of their storages."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, protocol=2)
        self.storages: list[np.ndarray] = []

    def save(self, value: object, save_persistent_id: bool = True) -> None:
        if isinstance(value, Global):
            module, _, name = value.rpartition(".")
            self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())
        elif isinstance(value, np.ndarray):
            self.storages.append(np.array(value, order="C"))
            strides = tuple(n // value.itemsize for n in self.storages[-1].strides)
            self.save(Global("torch._utils._rebuild_tensor_v2"))
            self.save((self.storages[-1:], 0, value.shape, strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)

    def persistent_id(self, value: object) -> object:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], np.ndarray):
            type = Global(f"torch.{TORCH_TYPES[value[0].dtype.str]}")
            return "storage", type, str(len(self.storages) - 1), "cpu", value[0].size
        return None


def save_pth(path: Path, state: object) -> None:
    """Like torch.save, for dictionaries, arrays and plain values."""
    pickled = io.BytesIO()
    pickler = PthPickler(pickled)
    pickler.dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, array in enumerate(pickler.storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())


def with_training_state(tensors: Tensors, style: str) -> Tensors:
    """A whole training checkpoint: the tensors as averages, raw values, and two slots of Adam under
    the names of the reference code's own optimizer or of TensorFlow's."""
    state: Tensors = {}
    for i, (name, tensor) in enumerate(tensors.items()):
        state[name] = tensor + np.float32(1)
        state[f"{name}/ExponentialMovingAverage"] = tensor
        slots = {
            "reference": ("Variable" if i == 0 else f"Variable_{2 * i}", f"Variable_{2 * i + 1}"),
            "tensorflow": (f"{name}/Adam", f"{name}/Adam_1"),
        }[style]
        for slot in slots:
            state[slot] = np.zeros_like(tensor)
    if style == "reference":
        state["adam_t"] = np.float32(1)
    else:
        state |= {"beta1_power": np.float32(0.9), "beta2_power": np.float32(0.999)}
        state["global_step"] = np.int64(1)
    return state


def torch_names(tensors: Tensors, prefix: str, parts: tuple[str, str]) -> Tensors:
    """A state dict's keys with another prefix and other names for the weight norm's two parts."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        for old, new in zip(("weight_g", "weight_v"), parts):
            name = name.replace(old, new)
        renamed[prefix + name] = tensor
    return renamed
