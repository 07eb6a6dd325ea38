"""The model file: its container, its keys, and that whoever reads it needs nothing else."""

from __future__ import annotations

import json

import networks as n
import numpy as np
import oracle
import pixelcnn
import pytest
from pixelcnn.lowering.export import read_model, read_safetensors, write_safetensors

KEYS = {
    "top": {"canvas", "classes", "levels", "encoding", "nodes", "layers", "head"},
    "node": {"name", "channels", "level", "forms"},
    "form": {"activation", "slope", "scale", "shift", "negate"},
    "encoding": {"table", "channel"},
    "layer": {"name", "target", "taps", "add", "gate", "residual", "pre"},
    "tap": {"source", "form", "row", "column", "weight", "select", "outputs", "phase"},
    "head": {"node", "kind", "steps"},
}
MODULES = {
    "prior": (n.Prior, {"shape": (8, 8), "levels": 16, "classes": 4}),
    "colours": (n.GatedColours, {"shape": (3, 6, 7), "levels": 4, "classes": 3}),
    "film": (lambda: n.PlusPlus(place="film", classes=3), {"shape": (3, 8, 8), "levels": 256, "classes": 3}),
    "binary": (n.ResidualBinary, {"shape": (1, 6, 6), "levels": 2}),
    "padded": (n.PaddedEmbedding, {"shape": (7, 6), "levels": 10}),
}


@pytest.mark.parametrize("which", MODULES)
def test_the_graph_is_as_the_format_says(which):
    make, arguments = MODULES[which]
    document, tensors = read_model(pixelcnn.compile(make(), **arguments).to_bytes())
    assert set(document) <= KEYS["top"]
    assert set(document["head"]) <= KEYS["head"]
    height, width, channels = document["canvas"]
    each = lambda e: channels * (tensors[e["table"]].shape[1:] or (1,))[0] // (channels if "channel" in e else 1)  # noqa: E731
    shapes = {"image": (height, width, channels, [each(e) for e in document["encoding"]])}
    assert all(set(e) <= KEYS["encoding"] for e in document["encoding"])
    for node in document["nodes"]:
        assert set(node) <= KEYS["node"]
        level, c = node.get("level", 0), node["channels"]
        counts = []
        for form in node["forms"]:
            assert set(form) <= KEYS["form"]
            counts.append(c * (2 if form["activation"] == "concat_elu" else 1))
            for key in ("scale", "shift"):
                assert key not in form or tensors[form[key]].shape[-1] == c
        shapes[node["name"]] = (height >> level, width >> level, c, counts)
    made, used = {"image"}, {e["table"] for e in document["encoding"]}
    for node in document["nodes"]:
        used |= {form[k] for form in node["forms"] for k in ("scale", "shift") if k in form}
    for layer in document["layers"]:
        assert set(layer) <= KEYS["layer"]
        h, w, c, _ = shapes[layer["target"]]
        outputs = 2 * c if "gate" in layer else c
        for tap in layer["taps"]:
            assert set(tap) <= KEYS["tap"]
            assert tap["source"] in made
            count = shapes[tap["source"]][3][tap["form"]]
            if "weight" in tap:
                assert tensors[tap["weight"]].shape == (count, outputs)
                used.add(tap["weight"])
            else:
                low, high = tap["select"]
                assert 0 <= low < high <= count and tap["outputs"] + high - low <= outputs
        for name in layer.get("add", []):
            shape = tensors[name].shape
            assert shape[-1] == outputs and len(shape) in (1, 2, 4)
            assert len(shape) < 4 or (shape[1] in (1, h) and shape[2] in (1, w))
            used.add(name)
        if "residual" in layer:
            assert layer["residual"][0] in made
        made |= {layer["target"], layer.get("pre", layer["target"])}
    assert made == set(shapes)
    assert used == set(tensors)
    assert all(t.dtype == (np.float64 if k.startswith("encoding") else np.float32) for k, t in tensors.items())


def test_the_container_is_what_others_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "net.safetensors"
    sampler = pixelcnn.compile(n.Prior(), (8, 8), levels=16, classes=4)
    sampler.save(path)
    theirs = safetensors.load_file(path)
    ours, metadata = read_safetensors(path.read_bytes())
    assert set(theirs) == set(ours)
    assert all(np.array_equal(theirs[k], ours[k]) for k in ours)
    assert metadata["format"] == "pixelcnn-2" and metadata["version"] == "1.0" and metadata["input"] == "codes"
    json.loads(metadata["graph"])
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


def test_tensors_are_aligned():
    data = write_safetensors({"a": np.zeros(3, np.float32), "b": np.zeros(2), "c": np.zeros(1, np.float16)}, {})
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert len(data) == 8 + int.from_bytes(data[:8], "little") + 12 + 16 + 2
    assert header["b"]["data_offsets"][0] == 0 and header["a"]["data_offsets"][0] == 16


def test_the_same_module_gives_the_same_bytes():
    module = n.Prior()
    first, second = (pixelcnn.compile(module, (8, 8), levels=16, classes=4).to_bytes() for _ in range(2))
    assert first == second


def test_head_outputs_are_channel_after_channel():
    """[N, K, C, H, W] and [N, C, K, H, W] of the same weights give the same file."""
    module = n.GatedColours(classes=0)
    usual = pixelcnn.compile(module, (3, 6, 7), levels=4)
    turned = pixelcnn.compile(module, (3, 6, 7), levels=4, forward=lambda m, x: m(x).permute(0, 2, 1, 3, 4))
    levels = np.random.default_rng(0).integers(4, size=(1, 6, 7, 3))
    assert np.array_equal(oracle.parameters(usual, levels), oracle.parameters(turned, levels))


def test_masks_cost_nothing():
    """A masked 7×7 has 25 taps, its first one 24."""
    document = pixelcnn.compile(n.plain(), (1, 9, 9), levels=8)._model()[0]
    assert [len(layer["taps"]) for layer in document["layers"]] == [24, 25, 25, 1]
