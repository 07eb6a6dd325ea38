"""Bad input: an error message, exit code 1, and no file left behind."""

from __future__ import annotations

import random
import shutil
import zipfile

import numpy as np
import pytest
from checkpoints import random_network, save_tensorflow, with_training_state
from conftest import GOLDEN, run_convert
from pixelcnn.convert import ConversionError
from pixelcnn.convert.pth import read_pth
from pixelcnn.convert.readers import open_source
from safetensors.numpy import save_file

RGB = GOLDEN / "rgb_r1_f8_m10"
PTH_ZIP = GOLDEN / "torch_rgb_r1_f8_m4_16x16" / "params.pth"
PTH_LEGACY = GOLDEN / "torch_grey_r1_f8_m3_8x12" / "params.pth"


@pytest.fixture
def refused(tmp_path):
    """Convert, and expect an error with all these texts in it."""

    def check(source, *texts, flags=(), output=None):
        folder = tmp_path / "output"
        folder.mkdir(exist_ok=True)
        result = run_convert(source, "-o", output or folder / "model.safetensors", *flags)
        assert result.code == 1
        assert result.err.splitlines()[-1].strip() and "error: " in result.err
        for text in texts:
            assert text in result.err
        assert not list(folder.iterdir())

    return check


@pytest.fixture
def tensors():
    return random_network(filters=4, blocks=1, mixtures=2, classes=3)


@pytest.fixture
def refused_tensors(refused, tmp_path):
    def check(tensors, *texts, flags=(), metadata=None):
        save_file(tensors, tmp_path / "params.safetensors", metadata)
        refused(tmp_path / "params.safetensors", "params.safetensors: ", *texts, flags=flags)

    return check


def test_the_tensors_that_the_tests_below_damage_are_good(tensors, tmp_path):
    save_file(tensors, tmp_path / "params.safetensors")
    result = run_convert(tmp_path / "params.safetensors", "-o", tmp_path / "model.safetensors")
    assert result.code == 0, result.err


# ---- Files ----


def truncated(source, size, tmp_path):
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes()[:size])
    return path


@pytest.mark.parametrize("size", [0, 1, 100, 200_000, -1, -8, -100])
def test_truncated_v1(size, refused, tmp_path):
    refused(truncated(RGB / "params_v1.ckpt", size, tmp_path), "params_v1.ckpt: neither")


def test_damaged_v1(refused, tmp_path):
    content = bytearray((RGB / "params_v1.ckpt").read_bytes())
    content[1000:200_000] = bytes(199_000)
    (tmp_path / "params.ckpt").write_bytes(content)
    refused(tmp_path / "params.ckpt", "params.ckpt: not a whole TensorFlow checkpoint (V1)")


@pytest.mark.parametrize("size", [0, 100_000, -1])
def test_truncated_data_of_v2(size, refused, tmp_path):
    shutil.copy(RGB / "params.ckpt.index", tmp_path)
    truncated(RGB / "params.ckpt.data-00000-of-00001", size, tmp_path)
    refused(tmp_path / "params.ckpt", "params.ckpt: not a whole TensorFlow checkpoint (V2)")


@pytest.mark.parametrize("size", [0, 100, 5000, -1])
def test_truncated_index_of_v2(size, refused, tmp_path):
    truncated(RGB / "params.ckpt.index", size, tmp_path)
    shutil.copy(RGB / "params.ckpt.data-00000-of-00001", tmp_path)
    refused(tmp_path / "params.ckpt", "params.ckpt: not a whole TensorFlow checkpoint (V2)")


def test_changed_bytes_of_v2_data(refused, tmp_path):
    shutil.copy(RGB / "params.ckpt.index", tmp_path)
    content = bytearray((RGB / "params.ckpt.data-00000-of-00001").read_bytes())
    for at in range(500, len(content), 1000):
        content[at] ^= 1
    (tmp_path / "params.ckpt.data-00000-of-00001").write_bytes(content)
    refused(tmp_path / "params.ckpt", "params.ckpt: not a whole TensorFlow checkpoint (V2)")


@pytest.mark.parametrize("name", ["params.ckpt", "params.ckpt.data-00000-of-00001"])
def test_data_without_index(name, refused, tmp_path):
    shutil.copy(RGB / "params.ckpt.data-00000-of-00001", tmp_path)
    refused(tmp_path / name, "params.ckpt.index is missing", "side by side")


def test_index_without_data(refused, tmp_path):
    shutil.copy(RGB / "params.ckpt.index", tmp_path)
    refused(tmp_path / "params.ckpt.index", "not a whole TensorFlow checkpoint (V2)", "params.ckpt.data")


@pytest.mark.parametrize("source", [PTH_ZIP, PTH_LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("size", [2, 50, 1000, 30_000, 150_000, -1])
def test_truncated_pth(source, size, refused, tmp_path):
    refused(truncated(source, size, tmp_path), "params.pth: ")


def test_damaged_pth_never_raises_anything_but_our_error(tmp_path):
    """A thousand files with a few changed bytes: each is read or refused. Zip members have
    checksums, legacy files none."""
    chance = random.Random(0)
    refusals = 0
    for source in (PTH_ZIP, PTH_LEGACY):
        content = source.read_bytes()
        pickled = content.find(b"collections") or 0
        for _ in range(500):
            damaged = bytearray(content)
            for _ in range(3):
                damaged[pickled + chance.randrange(20_000)] = chance.randrange(256)
            (tmp_path / "damaged.pth").write_bytes(damaged)
            try:
                source_ = open_source(tmp_path / "damaged.pth")
                for name in source_.shapes:
                    source_.read(name)
            except ConversionError:
                refusals += 1
    assert refusals > 500


def test_tensors_stay_inside_their_storage():
    tensor = next(iter(read_pth(PTH_ZIP).values()))
    for change in (
        {"offset": 10**6},
        {"shape": (10**6,), "strides": (1,)},
        {"strides": (10**9,) * len(tensor.shape), "shape": (2,) * len(tensor.shape)},
    ):
        with pytest.raises(ConversionError, match="truncated"):
            tensor._replace(**change).read()


def test_truncated_safetensors(refused, tmp_path):
    source = GOLDEN / "own_rgb_dilated_r2_f8_m3_24x20" / "params.safetensors"
    for size in (9, 1000, 200_000, -1):
        refused(truncated(source, size, tmp_path), "not a whole safetensors file")


def test_random_bytes(refused, tmp_path):
    (tmp_path / "params.ckpt").write_bytes(np.random.default_rng(0).bytes(10_000))
    refused(tmp_path / "params.ckpt", "neither a TensorFlow checkpoint, nor a .pth, nor a safetensors file")


def test_no_such_file(refused, tmp_path):
    refused(tmp_path / "params.ckpt", "params.ckpt: no such file")


def test_folder(refused):
    refused(RGB, "a folder; name the checkpoint in it", "params.ckpt.index")


def test_zip_that_is_no_pth(refused, tmp_path):
    with zipfile.ZipFile(tmp_path / "pxpp.zip", "w") as archive:
        archive.writestr("params_cifar.ckpt", b"")
    refused(tmp_path / "pxpp.zip", "not one that torch.save writes", "params_cifar.ckpt", "unpack it first")


def test_model_file(refused):
    refused(RGB / "model.safetensors", "a model file of pixelcnn already")


# ---- Names ----


def test_another_network(refused, tmp_path):
    save_tensorflow(
        tmp_path / "other.ckpt", {"resnet/conv1/weights": np.ones((3, 3), np.float32)}, version=2
    )
    refused(
        tmp_path / "other.ckpt", "model/conv2d_0/V", "u_init.conv.weight_v", "found: resnet/conv1/weights"
    )


def test_another_network_with_a_name_of_ours(refused_tensors, tensors):
    tensors["model/attention_0/W"] = np.ones(3, np.float32)
    refused_tensors(tensors, "1 tensors have names that openai/pixel-cnn does not use: model/attention_0/W")


def test_another_torch_network(refused_tensors):
    tensors = {name: tensor.read() for name, tensor in read_pth(PTH_LEGACY).items()}
    tensors["u_init.norm.running_mean"] = np.ones(3, np.float32)
    refused_tensors(tensors, "u_init.norm.running_mean [3] is not a vector or a map a class")


@pytest.mark.parametrize(
    "name",
    [
        "conv2d_0/V",
        "conv2d_3/V",
        "conv2d_20/b",
        "conv2d_38/g",
        "deconv2d_1/V",
        "dense_0/V",
        "dense_13/V",
        "conditional_weights_7/hw",
    ],
)
def test_missing_tensor(name, refused_tensors, tensors):
    del tensors[f"model/{name}"]
    refused_tensors(tensors, f"missing: model/{name}")


def test_missing_layers(refused_tensors, tensors):
    """The last layer of a kind, whose absence its neighbours' numbers do not show."""
    for kind in ("conv2d_38", "deconv2d_3"):
        without = {name: tensor for name, tensor in tensors.items() if f"/{kind}/" not in name}
        refused_tensors(without, f"model/{kind}/V", f"model/{kind}/g", f"model/{kind}/b")


def test_missing_average(refused, tmp_path, tensors):
    state = with_training_state(tensors, "tensorflow")
    del state["model/conv2d_7/V/ExponentialMovingAverage"]
    save_tensorflow(tmp_path / "params.ckpt", state, version=2)
    refused(tmp_path / "params.ckpt", "missing: model/conv2d_7/V/ExponentialMovingAverage")


def test_raw_values_of_a_file_of_averages(refused_tensors, tensors):
    averages = {f"{name}/ExponentialMovingAverage": tensor for name, tensor in tensors.items()}
    refused_tensors(averages, "--raw", "nothing but exponential moving averages", flags=["--raw"])


def test_tensor_without_a_place(refused_tensors, tensors):
    for part, shape in (("V", (2, 3, 4, 4)), ("b", (4,)), ("g", (4,))):
        tensors[f"model/conv2d_39/{part}"] = np.ones(shape, np.float32)
    refused_tensors(tensors, "without a place: model/conv2d_39/V, model/conv2d_39/b, model/conv2d_39/g")


def test_two_tensors_for_one_place(refused_tensors):
    tensors = {name: tensor.read() for name, tensor in read_pth(PTH_LEGACY).items()}
    tensors["module.u_init.conv.bias"] = tensors["u_init.conv.bias"]
    refused_tensors(tensors, "u_init.conv.bias", "module.u_init.conv.bias", "one and the same place")


# ---- Shapes ----


@pytest.mark.parametrize(
    "name, shape",
    [
        ("conv2d_10/V", (2, 3, 8, 9)),
        ("conv2d_1/V", (1, 3, 4, 5)),
        ("conv2d_20/b", (5,)),
        ("deconv2d_0/V", (2, 3, 5, 4)),
        ("deconv2d_0/g", (4, 1)),
        ("dense_4/V", (8, 4)),
        ("conditional_weights_3/hw", (4, 8)),
    ],
)
def test_layers_that_disagree_are_both_named(name, shape, refused_tensors, tensors):
    tensors[f"model/{name}"] = np.ones(shape, np.float32)
    witness = "model/conditional_weights_0/hw" if "hw" in name else "model/conv2d_0/V"
    refused_tensors(tensors, f"model/{name} has shape {list(shape)}, expected", witness)


def test_first_layer_disagrees_with_the_blocks(refused_tensors, tensors):
    tensors["model/conv2d_0/V"] = np.ones((2, 3, 4, 7), np.float32)
    refused_tensors(tensors, "model/conv2d_0/V gives 7 filters, but model/conv2d_3/V takes 8")


def test_torch_layers_that_disagree_are_both_named(refused_tensors):
    tensors = {name: tensor.read() for name, tensor in read_pth(PTH_LEGACY).items()}
    name = "down_layers.1.u_stream.0.conv_out.conv.weight_v"
    tensors[name] = np.ones((16, 20, 2, 3), np.float32)
    refused_tensors(
        tensors, f"{name} has shape [16, 20, 2, 3], expected [16, 16, 2, 3]", "u_init.conv.weight_v"
    )


def test_number_of_channels(refused_tensors, tensors):
    tensors["model/conv2d_0/V"] = np.ones((2, 3, 3, 4), np.float32)
    refused_tensors(tensors, "model/conv2d_0/V is for images of 2 channels, expected 1 or 3")


def test_number_of_outputs(refused_tensors, tensors):
    tensors["model/dense_13/V"] = np.ones((4, 25), np.float32)
    refused_tensors(tensors, "model/dense_13/V has 25 outputs, expected a multiple of 10")


@pytest.mark.parametrize("name", ["conv2d_0/V", "conv2d_3/V", "conditional_weights_0/hw", "dense_13/V"])
def test_wrong_rank(name, refused_tensors, tensors):
    tensors[f"model/{name}"] = np.ones((), np.float32)
    refused_tensors(tensors, f"model/{name}")


# ---- Values ----


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv2d_5/V", "deconv2d_2/g", "dense_3/b", "conditional_weights_1/hw"])
def test_value_that_is_not_finite(name, value, refused_tensors, tensors):
    tensors[f"model/{name}"].reshape(-1)[1] = value
    refused_tensors(tensors, f"model/{name} holds NaN or infinite values")


def test_norm_of_zero(refused_tensors, tensors):
    tensors["model/conv2d_5/V"][..., 2] = 0
    refused_tensors(tensors, "model/conv2d_5/V: the norm of channel 2 is zero")


def test_weight_beyond_half_precision(refused_tensors, tensors):
    tensors["model/conv2d_5/g"][2] = 1e6
    refused_tensors(tensors, "model/conv2d_5/V", "beyond the range of float16", flags=["--dtype", "f16"])


# ---- Flags and metadata ----


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--height", "30"], "height 30: expected a positive multiple of 4, for 3 levels"),
        (["--width", "0"], "width 0: expected a positive multiple of 4"),
        (["--width", "-4"], "width -4: expected a positive multiple of 4"),
        (["--classes", "cat,dog"], "expected 3 different names, found 2: cat, dog"),
        (["--classes", "cat,dog,cat"], "expected 3 different names, found 3"),
        (["--nonlinearity", "relu"], "nonlinearity relu: the shapes tell concat_elu"),
        (["--dilations", "1,2,4"], "dilations [1, 2, 4]: expected 2 positive integers"),
        (["--dilations", "1,0"], "dilations [1, 0]: expected 2 positive integers"),
    ],
)
def test_flags(flags, text, refused_tensors, tensors):
    refused_tensors(tensors, text, flags=flags)


@pytest.mark.parametrize(
    "metadata, text",
    [
        ({"levels": "2"}, "levels is 2 by the metadata, 3 by the shapes"),
        ({"nr_filters": "8"}, "nr_filters is 8 by the metadata, 4 by the shapes"),
        ({"height": "tall"}, "height tall: expected a positive multiple of 4"),
        ({"dilations": "[1, "}, "dilations is '[1, ' in the metadata, expected a JSON list"),
        ({"dilations": '["1", "2"]'}, "expected 2 positive integers"),
        ({"classes": "3"}, "classes is '3' in the metadata, expected a JSON list"),
    ],
)
def test_metadata(metadata, text, refused_tensors, tensors):
    refused_tensors(tensors, text, metadata=metadata)


def test_output(refused, tmp_path):
    source = RGB / "params.ckpt"
    refused(source, "there is no folder", output=tmp_path / "nowhere" / "model.safetensors")
    (tmp_path / "taken").mkdir()
    refused(source, "taken: is a folder", output=tmp_path / "taken")
    copy = shutil.copy(GOLDEN / "own_rgb_dilated_r2_f8_m3_24x20" / "params.safetensors", tmp_path)
    refused(copy, "is the same file as INPUT", output=copy)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"output", "taken", "params.safetensors"}


def test_a_refused_input_leaves_an_older_output_alone(tmp_path, tensors):
    source, output = tmp_path / "params.safetensors", tmp_path / "model.safetensors"
    save_file(tensors, source)
    assert run_convert(source, "-o", output).code == 0
    older = output.read_bytes()
    tensors["model/conv2d_5/V"][...] = 0
    save_file(tensors, source)
    assert run_convert(source, "-o", output).code == 1
    assert output.read_bytes() == older
