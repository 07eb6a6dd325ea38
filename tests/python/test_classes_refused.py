"""Class tensors that cannot be read, or have several readings: an error that says what to do, and no file."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import block_names, random_torch_network
from conftest import GOLDEN
from safetensors.numpy import load_file
from pixelcnn.train import TrainingError
from pixelcnn.train.checkpoint import read_safetensors
from pixelcnn.train.settings import settings_of

F, K = 6, 3
COMPILE = "pixelcnn.compile(net, …) takes any causal network as a live module"


def values(*shape):
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def per_block(layers, **shapes):
    return {f"{b}.{name}": values(*shape) for b in block_names(layers) for name, shape in shapes.items()}


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


def test_maps_beside_the_image_tell_the_size(convert):
    layers = random_torch_network(10, 1, 2, concatenated=1)
    flags = ("--class-tensor", "e.weight=input-after-ones")
    result = convert(layers | {"e.weight": values(K, 28 * 28)}, *flags)
    assert result.code == 0, result.err
    assert (
        "1 channels, a map a class each, after the channel of ones" in result.out
        and "height: 28" in result.out
    )


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
    refused(tensors, "encoding [9, 6] has no place", "--ignore 'encoding'", COMPILE, flags=placed)
    assert convert(tensors, *placed, "--ignore", "encoding").code == 0


# ---- No reading ----


@pytest.mark.parametrize(
    "names",
    [("gamma", "beta"), ("film_scale", "film_shift"), ("FiLM",), ("to_gamma_beta",), ("scale", "bias_k")],
)
def test_film(names, layers, refused):
    shape = (K, F) if len(names) == 2 else (K, 2 * F)
    refused(layers | per_block(layers, **{f"{n}.weight": shape for n in names}), "FiLM, γ ⊙ c + β", COMPILE)


def test_film_that_projects_an_embedding(layers, refused):
    tensors = layers | {"label.weight": values(K, 9)}
    tensors |= per_block(layers, **{"cond.weight": (2 * F, 9), "cond.bias": (2 * F,)})
    refused(tensors, "cond.weight [12, 9], in 16 blocks fits one place, but is not taken")


def test_a_projection_that_is_part_of_a_sequence(layers, refused):
    tensors = layers | {"label.weight": values(K, 9)}
    tensors |= per_block(layers, **{"cond.1.weight": (F, 9), "cond.1.bias": (F,)})
    refused(
        tensors,
        "not taken unasked: a nonlinearity before it would leave no trace",
        "--class-tensor cond.1=",
    )


def test_a_shared_vector_of_two_values_a_filter(layers, refused):
    refused(
        layers | {"h.weight": values(K, 2 * F)},
        "is not taken unasked: FiLM",
        "--class-tensor h.weight=gate",
    )


def test_masked_convolutions(refused):
    tensors = {"net.0.weight": values(8, 3, 7, 7), "net.0.mask": values(8, 3, 7, 7)}
    names = "its names are those of a PixelCNN of masked convolutions"
    refused(tensors, "not a PixelCNN++ checkpoint", names, COMPILE)


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
    """It would drop the class's values there."""
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
    refused(tensors, "--state-dict is for", flags=("--state-dict", "ema"))


def test_an_exact_name_goes_before_one_within_a_block(layers, convert):
    tensors = (
        layers | {"embedding.weight": values(K, F)} | per_block(layers, **{"embedding.weight": (K, 2 * F)})
    )
    result = convert(tensors, "--class-tensor", "embedding.weight=first")
    assert result.code == 0, result.err
    assert 'class_places: ["input", "conv_out"]' in result.out


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
