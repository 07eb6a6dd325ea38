"""Checkpoints for tests, written in the formats of the published ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

Tensors = dict[str, np.ndarray]


def save_tensorflow(path: Path, tensors: Tensors, version: int) -> None:
    """As tf.train.Saver does, in its V1 or V2 format."""
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
