"""Class tensors that cannot be read, or not in one way alone: an error that says what to do, and no file. And
what is left out without being asked for: optimizers, counters, other networks, prefixes."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Global, block_names, random_torch_network, save_pth
from conftest import GOLDEN, run_convert
from safetensors.numpy import load_file, save_file
from training import TrainingError
from training.checkpoint import read_safetensors
from training.settings import settings_of

F, K = 6, 3


@pytest.fixture
def layers():
    return random_torch_network(F, 1, 2)


def values(*shape):
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def per_block(layers, **shapes):
    return {f"{b}.{name}": values(*shape) for b in block_names(layers) for name, shape in shapes.items()}


@pytest.fixture
def convert(tmp_path):
    def run(tensors, *flags):
        save_file(tensors, tmp_path / "params.safetensors")
        return run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "model.safetensors", *flags)

    return run


@pytest.fixture
def refused(convert, tmp_path):
    def check(tensors, *texts, flags=()):
        result = convert(tensors, *flags)
        assert result.code == 1 and "error: " in result.err
        for text in texts:
            assert text in result.err
        assert [path.name for path in tmp_path.iterdir()] == ["params.safetensors"]

    return check


# ---- Several readings ----


def test_a_value_a_filter_has_four_readings(layers, refused):
    refused(
        layers | {"embedding.weight": values(K, F)},
        "embedding.weight [3, 6] may be read as follows",
        *(f"--class-tensor embedding.weight={p}: " for p in ("first", "bottleneck", "remembered", "block")),
        "--ignore 'embedding.weight': if the network defines it and never uses it",
    )


def test_a_linear_has_the_same(layers, refused):
    tensors = layers | {"embedding.weight": values(F, K), "embedding.bias": values(F)}
    refused(tensors, "embedding.weight [6, 3] may be read", "--class-tensor embedding=remembered")


def test_rows_and_columns_of_a_square(layers, refused):
    tensors = layers | {"e.weight": values(K, 16)}
    size = ("--height", 16, "--width", 16)
    refused(tensors, "e.weight=input-rows: ", "e.weight=input-columns: ", flags=size)


def test_either_side_of_the_ones(refused):
    tensors = random_torch_network(F, 1, 2, concatenated=7) | {"e.weight": values(K, 7)}
    refused(tensors, "e.weight=input-before-ones: 7 constant channels", "e.weight=input-after-ones: ")


def test_a_map_of_filters_and_an_image_of_as_many_values(refused, convert, tmp_path):
    """48 filters of 8×8 are 3 channels of 32×32."""
    tensors = random_torch_network(48, 1, 2) | {"e.weight": values(K, 3072)}
    refused(tensors, "e.weight=input: an image", "e.weight=bottleneck: a map")
    for place in ("input", "bottleneck"):
        result = convert(tensors, "--class-tensor", f"e.weight={place}")
        assert result.code == 0, result.err
        assert f'class_places: ["{place}"]' in result.out


def test_the_size_decides(refused, convert):
    """12 filters of 16×16 are an image of 32×32, a map of the first convolutions of 16×16 images, and one
    at the bottleneck of images of 64×64."""
    tensors = random_torch_network(12, 1, 2) | {"e.weight": values(K, 3072)}
    refused(
        tensors,
        "--height 32 --width 32: e.weight [3, 3072]: an image",
        "--height 16 --width 16: e.weight [3, 3072]: a map, added to what the first convolutions make",
        "--height 64 --width 64: e.weight [3, 3072]: a map, added to the pair that starts the down pass",
    )
    for side, place, ours in (
        (32, "input", "input"),
        (16, "first", "input"),
        (64, "bottleneck", "bottleneck"),
    ):
        for flags in (("--height", side, "--width", side), ("--class-tensor", f"e.weight={place}")):
            result = convert(tensors, *flags)
            assert result.code == 0, result.err
            assert f'class_places: ["{ours}"]' in result.out
            assert f"height: {side}" in result.out and f"width: {side}" in result.out


@pytest.mark.parametrize(
    "shape, place, side",
    [((K, 3 * 8 * 8), "input", 8), ((K, 3 * 100 * 100), "input", 100), ((K, 10 * 8 * 8), "bottleneck", 32),
     ((K, 10 * 4 * 4), "bottleneck", 16), ((K, 10 * 32 * 32), "first", 32)],
)  # fmt: skip
def test_maps_tell_the_size(shape, place, side, convert):
    result = convert(random_torch_network(10, 1, 2) | {"e.weight": values(*shape)})
    assert result.code == 0, result.err
    assert f"height: {side}" in result.out and f"{side}×{side} alone" in result.out
    assert ("bottleneck" in result.out) == (place == "bottleneck") and "assumed" not in result.err


def test_two_vectors_a_block_that_their_names_do_not_tell_apart(layers, refused):
    tensors = layers | per_block(layers, x=(K, F), y=(K, F))
    refused(tensors, "--class-tensor x=gate-a", "--class-tensor x=block", "--class-tensor y=gate-b")


def test_two_tensors_for_one_place(layers, refused, convert):
    tensors = layers | {"x.weight": values(K, F * 64), "y.weight": values(K, F * 64)}
    refused(tensors, "x.weight [3, 384] fits one place, but is not taken unasked: y.weight [3, 384] fits it too",
            "one may be for u alone (bottleneck-u), the other for ul (bottleneck-ul)")  # fmt: skip
    assert (
        convert(tensors, "--class-tensor", "x=bottleneck-u", "--class-tensor", "y=bottleneck-ul").code == 0
    )
    assert convert(tensors, "--class-tensor", "x.weight=bottleneck", "--ignore", "y.weight").code == 0


def test_different_numbers_of_classes(layers, refused, convert):
    tensors = layers | {"encoding": values(9, F), "embedding.weight": values(K, F)}
    refused(
        tensors, "disagree on the number of classes", "9 by encoding [9, 6]", "3 by embedding.weight [3, 6]"
    )
    placed = ("--class-tensor", "embedding.weight=remembered")
    refused(tensors, "encoding [9, 6] has no place", "--ignore 'encoding'", flags=placed)
    assert convert(tensors, *placed, "--ignore", "encoding").code == 0


# ---- No reading ----


@pytest.mark.parametrize(
    "names",
    [("gamma", "beta"), ("film_scale", "film_shift"), ("FiLM",), ("to_gamma_beta",), ("scale", "bias_k")],
)
def test_film(names, layers, refused):
    shape = (K, F) if len(names) == 2 else (K, 2 * F)
    refused(layers | per_block(layers, **{f"{n}.weight": shape for n in names}), "FiLM, γ ⊙ c + β")


def test_film_that_projects_an_embedding(layers, refused):
    tensors = layers | {"label.weight": values(K, 9)}
    tensors |= per_block(layers, **{"cond.weight": (2 * F, 9), "cond.bias": (2 * F,)})
    refused(tensors, "cond.weight [12, 9], in 16 blocks fits one place, but is not taken")


def test_a_shared_vector_of_two_values_a_filter(layers, refused):
    refused(
        layers | {"h.weight": values(K, 2 * F)},
        "is not taken unasked: FiLM",
        "--class-tensor h.weight=gate",
    )


def test_masked_convolutions(refused):
    tensors = {"net.0.weight": values(8, 3, 7, 7), "net.0.mask": values(8, 3, 7, 7)}
    refused(tensors, "not a PixelCNN++ checkpoint", "masked convolutions are those of PixelCNN")


@pytest.mark.parametrize(
    "name, shape, text",
    [
        (
            "embedding.weight",
            (5, 7),
            "has no place: 7 values for each of 5; the nearest is first, which takes 6",
        ),
        ("embedding.weight", (5, 2900), "the nearest is input, which takes 3072"),
        ("embedding.weight", (K, 7), "it would be a Linear without a bias, of 7 classes"),
        ("attention.weight", (F, F, 3, 3), "has no place: 54 values"),
        ("temperature", (), "temperature [] is not a vector or a map a class"),
        ("norm.running_mean", (F,), "norm.running_mean [6] is not a vector or a map a class"),
        ("up_layers.0.u_stream.0.attention.weight", (5, 99), "attention.weight [5, 99] has no place"),
        ("up_layers.0.u_stream.0.attention.weight", (K, F), "of 16 blocks, 1 have it"),
        ("up_layers.0.embedding.weight", (K, 3072), "it is a part of a layer"),
    ],
)
def test_tensors_without_a_place(name, shape, text, layers, refused):
    refused(layers | {name: values(*shape)}, text, "--ignore '")


def test_channels_that_nothing_gives(refused):
    layers = random_torch_network(F, 1, 2, concatenated=7)
    refused(layers, "is for images of 10 channels, expected 1 or 3, or a tensor [classes, 7")
    tensors = layers | {"e.weight": values(K, 7)}
    refused(tensors, "expected 1 or 3", flags=("--ignore", "e.weight"))
    two = tensors | {"d.weight": values(K, 7)}
    placed = [f for n in "de" for f in ("--class-tensor", f"{n}.weight=input")]
    refused(two, "which one class tensor should give, [classes, 7]; 2 do", flags=placed)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(value, layers, refused):
    tensors = layers | {"out.weight": values(K, 20)}
    tensors["out.weight"][1, 3] = value
    refused(tensors, "out.weight holds NaN or infinite values")


def test_a_projection_without_a_direction(layers, refused):
    tensors = layers | {"fc.weight_v": values(20, K), "fc.weight_g": values(20, 1)}
    tensors["fc.weight_v"][4] = 0
    refused(tensors, "fc.weight_v: a norm is zero")


def test_training_does_not_go_on_from_another_place():
    """It would drop what the classes add there."""
    model = GOLDEN / "class_everywhere_2levels_10x12" / "model.safetensors"
    metadata, _ = read_safetensors(model)
    with pytest.raises(
        TrainingError, match="has its classes in .*remembered.*, where training does not put them"
    ):
        settings_of(model, metadata)


# ---- Flags ----


@pytest.mark.parametrize(
    "flags, text",
    [
        (
            ["--class-tensor", "e.weight=nowhere"],
            "expected NAME=PLACE, PLACE one of input, first, bottleneck",
        ),
        (["--class-tensor", "e.weight"], "expected NAME=PLACE"),
        (["--class-tensor", "=first"], "expected NAME=PLACE"),
        (
            ["--class-tensor", "d.weight=first"],
            "there is no tensor d.weight beside those of the layers (there are: e",
        ),
        (
            ["--class-tensor", "u_init.conv.weight_v=first"],
            "there is no tensor u_init.conv.weight_v beside",
        ),
        (
            ["--class-tensor", "e.weight=output"],
            "e.weight=output contradicts the shape of e.weight [3, 6], 6 values",
        ),
        (["--class-tensor", "e.weight=gate"], "it fits first, bottleneck, remembered, block"),
        (
            ["--class-tensor", "e.weight=first", "--class-tensor", "e=block"],
            "two places for one tensor, e.weight",
        ),
        (["--ignore", "d.weight"], "--ignore d.weight: there is no such tensor"),
        (["--ignore", "e.*", "--class-tensor", "e.weight=first"], "there is no tensor e.weight beside"),
        (["--ignore", "u_init.conv.bias", "--class-tensor", "e.weight=first"], "missing: u_init.conv.bias"),
        (
            ["--class-tensor", "e.weight=first", "--classes", "a,b"],
            "expected 3 different names, found 2: a, b",
        ),
        (
            ["--state-dict", "ema", "--class-tensor", "e=first"],
            "--state-dict ema: there is no such network",
        ),
    ],
)
def test_flags(flags, text, layers, refused):
    refused(layers | {"e.weight": values(K, F)}, text, flags=flags)


def test_names_tell_the_place_of_tensorflows_tensors(refused):
    from checkpoints import random_network

    tensors = random_network(filters=4, blocks=1, mixtures=2, classes=3)
    refused(tensors, "--class-tensor is for", flags=("--class-tensor", "model/dense_0/V=first"))


def test_an_exact_name_goes_before_one_within_a_block(layers, convert):
    tensors = (
        layers | {"embedding.weight": values(K, F)} | per_block(layers, **{"embedding.weight": (K, 2 * F)})
    )
    result = convert(tensors, "--class-tensor", "embedding.weight=first")
    assert result.code == 0, result.err
    assert 'class_places: ["input", "conv_out"]' in result.out


# ---- What is around the network ----


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
    "prefix", ["module.", "_orig_mod.", "pixel_cnn_model.", "module._orig_mod.", "model.module.", "net.0."]
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
    assert result.code == 1 and "it asks for model.PixelCNN, where only tensors may be" in result.err
    assert "save the weights alone: torch.save(model.state_dict(), …)" in result.err
    assert not (tmp_path / "model.safetensors").exists()


def test_a_dictionary_without_tensors(tmp_path):
    save_pth(tmp_path / "params.pth", {"epoch": 3, "nested": {"loss": 1.0}})
    result = run_convert(tmp_path / "params.pth", "-o", tmp_path / "model.safetensors")
    assert (
        result.code == 1
        and "expected a dictionary of tensors, found a dictionary of epoch, nested" in result.err
    )


# ---- Numbers of classes ----


@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_few_and_many_classes(classes, layers, convert, tmp_path):
    names = ",".join(f"class {k}" for k in range(classes))
    tensors = layers | {"image.weight": values(classes, 3 * 8 * 8)}
    result = convert(tensors, "--classes", names, "--dtype", "f16")
    assert result.code == 0, result.err
    assert "height: 8" in result.out and f'"class {classes - 1}"]' in result.out
    weight = load_file(tmp_path / "model.safetensors")["input.vertical.class.weight"]
    assert weight.shape == (classes, 8, 8, F) and weight.dtype == np.float16
