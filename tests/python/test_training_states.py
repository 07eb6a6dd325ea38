"""Other entries of a training state are left out without a flag: prefixes, optimizers, counters; with a flag, other
networks."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Global, save_pth, save_tensorflow
from conftest import GOLDEN, run_convert
from pixelcnn.convert import ConversionError
from pixelcnn.convert.readers import MissingPackage, open_source
from safetensors.numpy import load_file

F, K = 6, 3


def values(*shape):
    return np.random.default_rng(5).standard_normal(shape, np.float32)


@pytest.fixture
def expected(layers, convert, tmp_path):
    """Tensors with a class tensor, and the model of them."""
    tensors = layers | {"out.weight": values(K, 20)}
    assert convert(tensors).code == 0
    return tensors, load_file(tmp_path / "model.safetensors")


def same(tmp_path, model):
    found = load_file(tmp_path / "model.safetensors")
    return found.keys() == model.keys() and all((found[name] == model[name]).all() for name in found)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "_checkpoint_wrapped_module.", "pixel_cnn_model.", "module._orig_mod.", "model.module.", "net.0."]
)
def test_prefixes(prefix, expected, convert, tmp_path):
    tensors, model = expected
    result = convert({prefix + name: tensor for name, tensor in tensors.items()})
    assert result.code == 0 and same(tmp_path, model), result.err
    # A class tensor of a model that has the network as a part.
    outside = {name if name == "out.weight" else prefix + name: tensor for name, tensor in tensors.items()}
    result = convert(outside)
    assert result.code == 0 and same(tmp_path, model), result.err


def optimizer(tensors):
    state = {
        i: {"step": 5, "exp_avg": tensor, "exp_avg_sq": tensor} for i, tensor in enumerate(tensors.values())
    }
    return {
        "state": state,
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "amsgrad": False, "params": [0, 1]}],
    }


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "ema", "net"])
def test_dictionaries_of_training(key, expected, tmp_path):
    tensors, model = expected
    state = {
        "epoch": 17,
        key: OrderedDict((f"module.{name}", tensor) for name, tensor in tensors.items()),
        "optimizer_state_dict": optimizer(tensors),
        "opt": optimizer(tensors),
        "scheduler": {"last_epoch": 17, "_last_lr": [1e-3], "milestones": None},
        "best": np.float64(2.9),
        "random": np.arange(3),
        "loss": 3.25,
        "notes": ["a", "b"],
        "args": argparse.Namespace(lr=1e-3, path=Path("data"), device=None),
        "losses": defaultdict(list, {"train": [1.0, 2.0]}),
        "size": Global("torch.float32"),
    }
    del state["random"]  # a tensor to PyTorch, which no network has
    save_pth(tmp_path / "params.pth", state)
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 0 and same(tmp_path, model), result.err


def test_counters_beside_the_tensors(expected, tmp_path):
    tensors, model = expected
    save_pth(
        tmp_path / "params.pth", tensors | {"epoch": 3, "step": np.zeros((), np.int64), "n_averaged": None}
    )
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 0 and same(tmp_path, model), result.err


def test_several_networks(expected, tmp_path):
    tensors, model = expected
    others = {name: tensor + np.float32(1) for name, tensor in tensors.items()}
    state = {
        "model": {f"module.{name}": tensor for name, tensor in others.items()},
        "ema": {f"module.{name}": tensor for name, tensor in tensors.items()},
    }
    source, output = tmp_path / "params.pth", tmp_path / "model.safetensors"
    output.unlink()
    save_pth(source, state)
    result = run_convert(source, "-o", output)
    assert (
        result.code == 1 and "2 networks: choose with --state-dict ema or --state-dict model" in result.err
    )
    result = run_convert(source, "-o", output, "--state-dict", "other")
    assert result.code == 1 and "--state-dict other: there is no such network" in result.err
    assert not output.exists()
    assert run_convert(source, "-o", output, "--state-dict", "model").code == 0
    assert not same(tmp_path, model)
    assert run_convert(source, "-o", output, "--state-dict", "ema").code == 0
    assert same(tmp_path, model)

    save_pth(source, others | {"ema": tensors})
    for chosen, right in ((".", False), ("ema", True)):
        result = run_convert(source, "-o", output, "--state-dict", chosen)
        assert result.code == 0 and same(tmp_path, model) == right, result.err


@pytest.mark.parametrize(
    "name", ["e.weight", "module.e.weight", "net.module.e.weight", "e", "module.e", "*e.weight"]
)
def test_any_part_of_a_prefix_may_be_named(name, layers, tmp_path):
    tensors = {f"module.{key}": tensor for key, tensor in (layers | {"e.weight": values(K, F)}).items()}
    save_pth(tmp_path / "params.pth", {"net": tensors})
    result = run_convert(
        tmp_path / "params.pth", "-o", tmp_path / "model.safetensors", "--class-tensor", f"{name}=first"
    )
    assert result.code == 0, result.err


def test_a_class_tensor_beside_the_networks_dictionary(expected, tmp_path):
    tensors, model = expected
    layers = {name: tensor for name, tensor in tensors.items() if name != "out.weight"}
    save_pth(tmp_path / "params.pth", {"model": layers, "embedding": {"weight": tensors["out.weight"]}})
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 0 and same(tmp_path, model), result.err


def test_a_whole_module(tmp_path):
    save_pth(tmp_path / "params.pth", {"model": Global("model.PixelCNN"), "epoch": 3})
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 1 and "with model.PixelCNN, of which nothing is read or executed" in result.err
    assert "save the weights alone: torch.save(model.state_dict(), …)" in result.err
    assert not (tmp_path / "model.safetensors").exists()


def test_a_dictionary_without_tensors(tmp_path):
    save_pth(tmp_path / "params.pth", {"epoch": 3, "nested": {"loss": 1.0}})
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert (
        result.code == 1
        and "expected a dictionary of tensors, found a dictionary of epoch, nested" in result.err
    )


def test_wrappers_within_names(expected, convert, tmp_path):
    tensors, model = expected
    for wrapper in ("_checkpoint_wrapped_module", "_fsdp_wrapped_module"):
        inside = lambda name: name.replace("stream.0.", f"stream.0.{wrapper}.").replace(  # noqa: E731
            "u_init.", f"u_init.{wrapper}."
        )
        result = convert({inside(name): tensor for name, tensor in tensors.items()})
        assert result.code == 0 and same(tmp_path, model), result.err


def test_objects_beside_the_weights_are_opaque(expected, tmp_path):
    tensors, model = expected
    state = {
        "model": tensors,
        "scheduler": Global("collections.Counter"),
        "version": Global("torch.torch_version.TorchVersion"),
        "when": Global("datetime.datetime"),
        "path": Global("pathlib._local.PosixPath"),
        "dtypes": [Global("torch.bool"), Global("torch.uint8")],
        "cell": np.zeros(2, np.uint8).dtype,
    }
    del state["cell"]
    save_pth(tmp_path / "params.pth", state)
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert result.code == 0 and same(tmp_path, model), result.err


def test_tensors_that_are_no_weights_are_left_out(expected, tmp_path):
    tensors, model = expected
    beside = {"rng": np.zeros(9, np.uint8), "seen": np.ones(3, bool), "none": np.zeros((0, 3), np.float32)}
    source = tmp_path / "params.pth"
    for state in ({"model": tensors} | beside, tensors | beside):
        save_pth(source, state)
        result = run_convert(source, "-o", tmp_path / "model.safetensors")
        assert result.code == 0 and same(tmp_path, model), result.err
        assert all(f"left out: {name}, whose type or size" in result.err for name in beside)
    save_pth(source, tensors | {"out.mask": np.ones(3, bool)})
    result = run_convert(source, "-o", tmp_path / "other.safetensors")
    assert result.code == 1 and "out.mask" in result.err


@pytest.mark.parametrize("kept_as", [list, tuple, lambda values: dict(enumerate(values))])
def test_averages_without_names_are_said(kept_as, expected, tmp_path):
    tensors, model = expected
    averages = kept_as(tensors.values())
    state = {"model": tensors, "ema": {"decay": 0.999, "num_updates": 5, "shadow_params": averages}}
    source, output = tmp_path / "params.pth", tmp_path / "model.safetensors"
    save_pth(source, state)
    result = run_convert(source, "-o", output)
    said = f"left out: ema.shadow_params, {len(tensors)} tensors without names; to have averages"
    assert result.code == 0 and f"note: {said}" in result.err and same(tmp_path, model), result.err
    output.unlink()
    result = run_convert(source, "-o", output, "--state-dict", "ema")
    assert result.code == 1 and "--state-dict ema: there is no such network" in result.err
    assert said in result.err.split("error: ")[1] and not output.exists()


@pytest.mark.parametrize(
    "start, what",
    [
        (b"\x82\xa6params\x81", "a msgpack file, as Flax writes it"),
        (b"\xde\x00\x12\xa6params\x81", "a msgpack file, as Flax writes it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file, as Keras writes it"),
    ],
)
def test_files_of_other_programs_are_called_by_their_names(start, what, tmp_path):
    (tmp_path / "params").write_bytes(start + bytes(100))
    result = run_convert(tmp_path / "params", "-o", tmp_path / "model.safetensors")
    assert result.code == 1 and f"params: {what}; expected a TensorFlow checkpoint" in result.err


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "name, network",
    [
        ("conv_vert_0/weights", "a gated PixelCNN"),
        ("gated/conv_horiz/kernel", "a gated PixelCNN"),
        ("conv_1/mask", "a PixelCNN of masked convolutions"),
    ],
)
def test_another_network_is_told_without_tensorflow(version, name, network, tmp_path, monkeypatch):
    save_tensorflow(tmp_path / "other", {"conv_0/biases": values(3), name: values(3, 3)}, version)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConversionError, match=f"a TensorFlow checkpoint of {network}, not of a PixelCNN"):
        open_source(tmp_path / "other")
    # The twin: one of a PixelCNN++ is left to TensorFlow.
    with pytest.raises(MissingPackage):
        open_source(GOLDEN / "rgb_r1_f8_m10" / ("params_v1.ckpt" if version == 1 else "params.ckpt"))
