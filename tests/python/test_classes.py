"""Classes where other people's networks put them: each way, converted, against the same network with the
class put in by its definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from checkpoints import Tensors, block_names, random_torch_network
from conftest import Result, first_difference, run_convert
from reference import Network
from safetensors.numpy import save_file

# Both sides have the same folded weights; only the class tables are rounded to 32 bits.
TOLERANCE = 1e-5
F, K, M = 6, 3, 3
HEIGHT, WIDTH = 8, 16
SIZE = ("--height", HEIGHT, "--width", WIDTH)
BOTH = ("vertical", "horizontal")

random = np.random.default_rng(5)


def values(*shape: int) -> np.ndarray:
    return random.normal(0, 0.7, shape).astype(np.float32)


def on_image(rows: np.ndarray, *shape: int) -> np.ndarray:
    """[K, n] as PyTorch views it, [K, channels, rows, columns], in our order."""
    return rows.reshape(len(rows), *shape).transpose(0, 2, 3, 1)


class Defined(Network):
    """The layers without classes, and the class values, by the definitions: `adds` has for a place the values that each
    class adds to a layer, [K, n] or [K, H, W, n]; `sees` makes the first convolutions' input."""

    def __init__(self, path, adds: dict[str, Callable[[str], np.ndarray]], sees=None):
        super().__init__(path)
        self.adds, self.sees = adds, sees

    def of_class(self, place, name):
        if place not in self.adds:
            return 0
        share = np.asarray(self.adds[place](name), np.float64)
        return share[self.label] if share.ndim == 4 else share[self.label][:, None, None]

    def seen(self, x):
        ones = np.ones_like(x[..., :1])
        if not self.sees:
            return np.concatenate([x, ones], axis=-1)
        return self.sees(x, self.label, ones)

    def params(self, image, label):
        self.label = np.asarray(label)
        return super().params(image)


@dataclass
class Way:
    """Class tensors, the flags that place them, and their meaning."""

    name: str
    tensors: Tensors
    flags: tuple = ()
    adds: dict[str, Callable[[str], np.ndarray]] = field(default_factory=dict)
    sees: Callable | None = None
    places: tuple[str, ...] = ()
    blocks: Callable[[str], Tensors] | None = None  # the tensors of a block
    network: dict = field(default_factory=dict)  # of random_torch_network
    concatenated: int = 0
    size: tuple[int, int] = (HEIGHT, WIDTH)


def placed(name: str, place: str) -> tuple[str, str]:
    return "--class-tensor", f"{name}={place}"


def everywhere(e: np.ndarray, *places: str) -> dict:
    return {place: lambda _: e for place in places}


def by_stream(u: np.ndarray, ul: np.ndarray, place: str) -> dict:
    return {place: lambda name: u if name.endswith("vertical") else ul}


def added(e: np.ndarray) -> Callable:
    return lambda x, label, ones: np.concatenate([x + e[label], ones], axis=-1)


def torch_block(name: str, levels: int = 3) -> str:
    """up.0.block.1.vertical.conv_in → up_layers.0.u_stream.1"""
    direction, level, _, i, stream = name.removesuffix(".conv_in").split(".")
    layer = int(level) if direction == "up" else levels - 1 - int(level)
    return f"{direction}_layers.{layer}.{'u' if stream == 'vertical' else 'ul'}_stream.{i}"


def normed(v: np.ndarray, g: np.ndarray) -> np.ndarray:
    v = v.astype(np.float64)
    return v * (
        g.reshape(-1, *[1] * (v.ndim - 1))
        / np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
    )


def input_ways() -> list[Way]:
    image, colour = values(K, 3 * HEIGHT * WIDTH), values(K, 3)
    rows, columns, square = values(K, HEIGHT), values(K, WIDTH), values(K, 8)
    grey = values(K, HEIGHT * WIDTH)
    linear, bias = values(3 * HEIGHT * WIDTH, K), values(3 * HEIGHT * WIDTH)
    seen_image = added(on_image(image, 3, HEIGHT, WIDTH))
    of_linear = added(on_image(linear.T + bias, 3, HEIGHT, WIDTH))
    place = ("input",)
    return [
        Way("image", {"class_embedding.weight": image}, sees=seen_image, places=place),
        Way("raw_image", {"e": image.reshape(K, 3, HEIGHT, WIDTH)}, sees=seen_image, places=place),
        Way("linear_image", {"fc.weight": linear, "fc.bias": bias}, sees=of_linear, places=place),
        Way("grey_image", {"label_map.weight": grey}, sees=added(on_image(grey, 1, HEIGHT, WIDTH)), places=place,
            network={"channels": 1}),
        Way("colour", {"early.weight": colour}, sees=added(colour[:, None, None]), places=place),
        Way("rows", {"embed.weight": rows}, sees=added(rows[:, :, None, None]), places=place),
        Way("columns", {"embed.weight": columns}, sees=added(columns[:, None, :, None]), places=place),
        Way("square_rows", {"embed.weight": square}, placed("embed.weight", "input"), size=(8, 8),
            sees=added(square[:, :, None, None]), places=place),
        Way("square_columns", {"embed.weight": square}, placed("embed", "input-columns"), size=(8, 8),
            sees=added(square[:, None, :, None]), places=place),
    ]  # fmt: skip


def concatenated_ways() -> list[Way]:
    def before(share):
        return lambda x, label, ones: np.concatenate([x, share[label] + 0 * ones, ones], axis=-1)

    def after(share):
        return lambda x, label, ones: np.concatenate([x, ones, share[label] + 0 * ones], axis=-1)

    constant, maps = values(K, 7), values(K, 2 * HEIGHT * WIDTH)
    linear, bias = values(5, K), values(5)
    weights = constant[:, None, None]
    of_maps = on_image(maps, 2, HEIGHT, WIDTH)
    name = "class_embedding.weight"
    ways = [
        Way("before", {name: constant}, placed(name, "input-before-ones"), sees=before(weights), concatenated=7),
        Way("as_seen", {name: constant}, placed(name, "input"), sees=before(weights), concatenated=7),
        Way("after", {name: constant}, placed(name, "input-after-ones"), sees=after(weights), concatenated=7),
        Way("maps_before", {"e": maps}, placed("e", "input-before-ones"), sees=before(of_maps), concatenated=2),
        Way("maps_after", {"e": maps}, placed("e", "input-after-ones"), sees=after(of_maps), concatenated=2),
        Way("linear", {"fc.weight": linear, "fc.bias": bias}, placed("fc.weight", "input"),
            sees=before((linear.T + bias)[:, None, None]), concatenated=5),
        Way("grey", {name: constant}, placed(name, "input"), sees=before(weights), concatenated=7,
            network={"channels": 1}),
    ]  # fmt: skip
    for way in ways:
        way.name, way.places = f"concatenated_{way.name}", ("input",)
    return ways


def vector_ways() -> list[Way]:
    e, u, ul = values(K, F), values(K, F), values(K, F)
    linear, bias, v, g = values(F, K), values(F), values(F, K), values(F, 1)
    small = HEIGHT // 4, WIDTH // 4
    one_map, u_map, ul_map = (values(K, F * small[0] * small[1]) for _ in range(3))
    full_map, output = values(K, F * HEIGHT * WIDTH), values(K, 10 * M)
    at_bottleneck = by_stream(on_image(u_map, F, *small), on_image(ul_map, F, *small), "bottleneck")
    remembered = ("bottleneck", "remembered")
    name = "embedding.weight"
    ways = [
        Way("first", {name: e}, placed(name, "first"), everywhere(e, "input"), places=("input",)),
        Way("first_map", {name: full_map}, (), everywhere(on_image(full_map, F, HEIGHT, WIDTH), "input"),
            places=("input",)),
        Way("first_pair", {"emb_u.weight": u, "emb_ul.weight": ul}, placed("emb_u.weight", "first"),
            by_stream(u, ul, "input"), places=("input",)),
        Way("first_u_alone", {name: u}, placed(name, "first-u"), by_stream(u, 0 * u, "input"), places=("input",)),
        Way("first_told_apart", {"x": u, "y": ul}, placed("y", "first-ul") + placed("x", "first-u"),
            by_stream(u, ul, "input"), places=("input",)),
        Way("bottleneck", {name: e}, placed("embedding", "bottleneck"), everywhere(e, "bottleneck"),
            places=("bottleneck",)),
        Way("bottleneck_map", {name: one_map}, (), everywhere(on_image(one_map, F, *small), "bottleneck"),
            places=("bottleneck",)),
        Way("bottleneck_raw_map", {"m": one_map.reshape(K, F, *small)}, (),
            everywhere(on_image(one_map, F, *small), "bottleneck"), places=("bottleneck",)),
        Way("remembered", {name: e}, placed(name, "remembered"), everywhere(e, *remembered), places=remembered),
        Way("remembered_linear", {name: linear, "embedding.bias": bias}, placed(name, "remembered"),
            everywhere(linear.T + bias, *remembered), places=remembered),
        Way("remembered_linear_without_bias", {"fc.weight": linear}, placed("fc.weight", "remembered"),
            everywhere(linear.T, *remembered), places=remembered),
        Way("remembered_conv", {"c.weight": linear[..., None, None], "c.bias": bias}, placed("c", "remembered"),
            everywhere(linear.T + bias, *remembered), places=remembered),
        Way("remembered_normed", {"fc.weight_v": v, "fc.weight_g": g, "fc.bias": bias},
            placed("fc.weight_v", "remembered"), everywhere(normed(v, g).T + bias, *remembered), places=remembered),
        Way("output", {"label_encoding.W": output}, (), everywhere(output, "output"), places=("output",)),
        Way("output_grey", {"bias": output[:, : 3 * M]}, (), everywhere(output[:, : 3 * M], "output"),
            places=("output",), network={"channels": 1}),
        Way("several", {name: e, "image.weight": full_map, "out.weight": output}, placed(name, "remembered"),
            everywhere(on_image(full_map, F, HEIGHT, WIDTH), "input") | everywhere(e, *remembered)
            | everywhere(output, "output"), places=("input", *remembered, "output")),
        Way("two_at_the_bottleneck", {"x": e, "y": one_map}, placed("x", "bottleneck"),
            everywhere(e[:, None, None] + on_image(one_map, F, *small), "bottleneck"), places=("bottleneck",)),
    ]  # fmt: skip
    for x, y in (
        ("middle_u_embeddings", "middle_ul_embeddings"),
        ("embeddings_middle_u", "embeddings_middle_ul"),
        ("embeddingsMiddleU", "embeddingsMiddleUL"),
        ("uMiddle", "ulMiddle"),
        ("middleu", "middleul"),
        ("middle_vertical", "middle_horizontal"),
    ):
        vectors = {f"{y}.weight": ul, f"{x}.weight": u}
        maps = {f"{y}.weight": ul_map, f"{x}.weight": u_map}
        ways += [
            Way(f"{x}_vectors", vectors, (), by_stream(u, ul, "bottleneck"), places=("bottleneck",)),
            Way(f"{x}_maps", maps, (), at_bottleneck, places=("bottleneck",)),
        ]
    return ways


def block_ways() -> list[Way]:
    e, double, names = values(K, F), values(K, 2 * F), block_names(random_torch_network(F, 1, M))
    own = {name: values(K, F) for name in names}
    other = {name: values(K, F) for name in names}
    pair = {name: np.concatenate([own[name], other[name]], axis=1) for name in names}
    v, g, b = ({name: values(*shape) for name in names} for shape in ((F, 9), (F, 1), (F,)))
    label = values(K, 9)
    projected = {name: label @ normed(v[name], g[name]).T + b[name] for name in names}
    linear = {name: (values(2 * F, K), values(2 * F)) for name in names}
    square = {name: values(F, K) for name in names}
    label_square = values(K, K)
    wide = {name: values(F, 9) for name in names}
    hw = {name: (values(2 * F, 9), values(2 * F, 1), values(2 * F)) for name in names}
    upward = {name: own[name] for name in names if name.startswith("up")}

    def per_block(rows, place):
        return {place: lambda name: rows.get(torch_block(name), np.zeros((K, F)))}

    def halves(x, y):
        return lambda block: {f"{x}": own[block], f"{y}": other[block]}

    conv_in, conv_out = ("conv_in",), ("conv_out",)
    ways = [
        Way("vector", {}, (), per_block(own, "conv_in"), places=conv_in, blocks=lambda n: {"emb.weight": own[n]}),
        Way("up_pass_alone", {}, (), per_block(upward, "conv_in"), places=conv_in,
            blocks=lambda n: {"emb.weight": upward[n]} if n in upward else {}),
        Way("projections", {"label_embedding.weight": label}, (), per_block(projected, "conv_in"), places=conv_in,
            blocks=lambda n: {"nin_condition.lin_a.weight_v": v[n], "nin_condition.lin_a.weight_g": g[n],
                              "nin_condition.lin_a.bias": b[n]}),
        Way("new_projections", {"label_embedding.weight": label}, (), per_block(projected, "conv_in"),
            places=conv_in, blocks=lambda n: {
                "cond.parametrizations.weight.original1": v[n], "cond.parametrizations.weight.original0": g[n],
                "cond.bias": b[n]}),
        Way("projections_without_a_bias", {"label_embedding.weight": label}, (),
            per_block({n: label @ wide[n].T for n in names}, "conv_in"), places=conv_in,
            blocks=lambda n: {"cond.weight": wide[n]}),
        Way("projections_to_the_gate", {"label_embedding.weight": label}, placed("hw.lin_a", "gate"),
            per_block({n: label @ normed(*h[:2]).T + h[2] for n, h in hw.items()}, "conv_out"), places=conv_out,
            blocks=lambda n: dict(zip(("hw.lin_a.weight_v", "hw.lin_a.weight_g", "hw.lin_a.bias"), hw[n]))),
        Way("projections_of_what_is_concatenated", {"e.weight": label}, placed("e.weight", "input"),
            per_block(projected, "conv_in"), concatenated=9, places=("input", "conv_in"),
            sees=lambda x, k, ones: np.concatenate([x, label[k][:, None, None] + 0 * ones, ones], axis=-1),
            blocks=lambda n: {"cond.weight_v": v[n], "cond.weight_g": g[n], "cond.bias": b[n]}),
        Way("projections_of_as_many_as_classes", {"label_embedding.weight": label_square}, (),
            per_block({n: label_square @ square[n].T + b[n] for n in names}, "conv_in"), places=conv_in,
            blocks=lambda n: {"cond.weight": square[n], "cond.bias": b[n]}, network={"channels": 1}),
        Way("projections_by_their_embedding", {"label_embedding.weight": label},
            placed("label_embedding.weight", "block"), per_block(projected, "conv_in"), places=conv_in,
            blocks=lambda n: {"cond.weight_v": v[n], "cond.weight_g": g[n], "cond.bias": b[n]}),
        Way("shared_vector", {"early_embedding.weight": e}, placed("early_embedding.weight", "block"),
            everywhere(e, "conv_in"), places=conv_in),
        Way("gate_whole", {}, (), per_block(pair, "conv_out"), places=conv_out,
            blocks=lambda n: {"embedding.weight": pair[n]}),
        Way("gate_linear", {}, (), per_block({n: w.T + c for n, (w, c) in linear.items()}, "conv_out"),
            places=conv_out, blocks=lambda n: {"h.weight": linear[n][0], "h.bias": linear[n][1]}),
        Way("gate_told_apart", {}, placed("second", "gate-a") + placed("first", "gate-b"),
            per_block(pair, "conv_out"), places=conv_out, blocks=halves("second", "first")),
        Way("gate_against_its_names", {}, placed("w_g", "gate-a") + placed("w_f", "gate-b"),
            per_block(pair, "conv_out"), places=conv_out, blocks=halves("w_g", "w_f")),
        Way("gate_half", {}, placed("emb.weight", "gate-b") + placed("none", "gate-a"),
            per_block({n: np.concatenate([0 * own[n], other[n]], axis=1) for n in names}, "conv_out"),
            places=conv_out, blocks=lambda n: {"emb.weight": other[n], "none": 0 * own[n]}),
        Way("gate_shared", {"h.weight": double}, placed("h.weight", "gate"), everywhere(double, "conv_out"),
            places=conv_out),
        Way("in_and_out", {}, (), per_block(own, "conv_in") | per_block(pair, "conv_out"),
            places=("conv_in", "conv_out"), blocks=lambda n: {"x.weight": own[n], "y.weight": pair[n]}),
    ]  # fmt: skip
    for x, y in (("V_kf.weight", "V_kg.weight"), ("weight_a", "weight_b"), ("filter", "gate")):
        ways.append(
            Way(f"gate_{x}", {}, (), per_block(pair, "conv_out"), places=conv_out, blocks=halves(x, y))
        )
    for way in ways:
        way.name = f"block_{way.name}"
    return ways


WAYS = {way.name: way for way in [*input_ways(), *concatenated_ways(), *vector_ways(), *block_ways()]}


def checkpoint(way: Way) -> Tensors:
    tensors = random_torch_network(F, 1, M, concatenated=way.concatenated, **way.network)
    for block in block_names(tensors) if way.blocks else []:
        tensors |= {f"{block}.{name}": tensor for name, tensor in way.blocks(block).items()}
    return tensors | way.tensors


def converted(tensors: Tensors, folder, *flags: object) -> Result:
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        folder / "params.safetensors",
    )
    return run_convert(folder / "params.safetensors", "-o", folder / "model.safetensors", *flags)


def defined(way: Way, folder) -> Defined:
    """The layers alone, converted, with the first convolutions as the checkpoint has them."""
    plain = random_torch_network(F, 1, M, **way.network)
    whole = random_torch_network(F, 1, M, concatenated=way.concatenated, **way.network)
    first = {
        "u_init.conv": "input.vertical",
        "ul_init.0.conv": "input.above",
        "ul_init.1.conv": "input.left",
    }
    parts = {name: tensor for name, tensor in whole.items() if name.rpartition(".")[0] not in first}
    (folder / "plain").mkdir()
    result = converted(plain | parts, folder / "plain", *SIZE)
    assert result.code == 0, result.err
    network = Defined(folder / "plain" / "model.safetensors", way.adds, way.sees)
    for theirs, ours in first.items():
        weight = normed(whole[f"{theirs}.weight_v"], whole[f"{theirs}.weight_g"]).transpose(2, 3, 1, 0)
        network.tensors[f"{ours}.weight"] = weight.astype(np.float32).astype(np.float64)
        network.tensors[f"{ours}.bias"] = whole[f"{theirs}.bias"].astype(np.float64)
    return network


@pytest.mark.parametrize("name", WAYS)
def test_every_way_means_what_it_is_defined_as(name, tmp_path):
    way = WAYS[name]
    height, width = way.size
    result = converted(checkpoint(way), tmp_path, "--height", height, "--width", width, *way.flags)
    assert result.code == 0, result.err
    network = Network(tmp_path / "model.safetensors")
    assert network.class_places == list(way.places)
    assert len(network.classes) == K
    channels = way.network.get("channels", 3)
    image = np.random.default_rng(7).integers(0, 256, (3, height, width, channels), np.uint8)
    label = [2, 0, 1]
    params = network.params(image, label)
    assert network.used == set(network.tensors)
    expected = defined(way, tmp_path)
    assert first_difference(params, expected.params(image, label), TOLERANCE) is None
    # The twin: one class taken for another.
    assert first_difference(params, expected.params(image, [2, 1, 1]), 100 * TOLERANCE) is not None
    # The reading of each tensor is printed.
    for tensor in way.tensors:
        if not tensor.endswith(("bias", "weight_g")) or tensor == "bias":
            assert f"{tensor} [" in result.out
