"""Turns networks that a prototype lowered (graph.json, graph.safetensors, golden.safetensors) into model files.

    uv run --with numpy --with safetensors tests/graphs/convert.py FOLDER OUT

FOLDER holds a folder for each network; OUT gets the same folders with model.safetensors, in the format of
docs/model-file.md, and golden.safetensors: levels [N, H, W, C], labels, and the module's own outputs [N, P, F] in 64 bits
at the pixels `positions`, parameters in the order of the model file.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

HEADS = {"categorical": "softmax", "Bernoulli": "bernoulli", "logistic": "logistic_mixture"}


def head_order(head, levels, channels, width):
    """Indices of the parameters [C, L] of the model file among the prototype's."""
    factors = [factor for axis in head["layout"] for factor in axis if factor[0] == "c"]
    if len(factors) < 2:
        return np.arange(width)
    stride = {size: stride for _, size, stride in factors}
    return np.add.outer(np.arange(channels) * stride[channels], np.arange(levels) * stride[levels]).reshape(-1)


def encodings(image, given, levels, tensors, saved):
    """The forms of the image as tables over levels."""
    value = np.arange(levels, dtype=np.float64) * given["scale"] + given["offset"]
    entries = []
    for number, form in enumerate(image["forms"]):
        assert form["act"] == "raw"
        name = f"encoding.{number}"
        if "table" in form:
            saved[name] = tensors[form["table"]].astype(np.float64)
            entries.append({"table": name, "channel": form["channel"]})
            continue
        scale, shift = (tensors[form[k]].reshape(-1) if k in form else [d] for k, d in [("scale", 1), ("shift", 0)])
        saved[name] = value * float(scale[0]) + float(shift[0])
        entries.append({"table": name})
    return entries


def form_entry(form, saved, tensors):
    name, _, parameter = form["act"].partition(":")
    entry = {"activation": name}
    if name == "leaky_relu":
        entry["slope"] = float(parameter)
    if name == "gelu" and parameter == "tanh":
        entry["activation"] = "gelu_tanh"
    if form.get("negate"):
        entry["negate"] = True
    for key in ["scale", "shift"]:
        if key in form:
            saved[form[key]] = tensors[form[key]]
            entry[key] = form[key]
    return entry


def convert(folder, out):
    graph = json.loads((folder / "graph.json").read_text())
    tensors, golden = load_file(folder / "graph.safetensors"), load_file(folder / "golden.safetensors")
    (height, width, channels), levels = graph["canvas"], graph["input"]["levels"]
    nodes, head, saved = graph["nodes"], graph["head"], {}
    names = [node["name"] for node in nodes]
    order = head_order(head, levels, channels, nodes[head["node"]]["channels"])

    def save(name, array, is_head):
        """A tensor; of the layer that makes the head's parameters, in their order."""
        saved[name] = np.ascontiguousarray(array[..., order] if is_head else array)
        return name

    layers = []
    for layer in graph["layers"]:
        is_head = layer["target"] == head["node"]
        taps = []
        for tap in layer["taps"]:
            entry = {"source": names[tap["source"]], "form": tap["form"], "row": tap["row"], "column": tap["column"]}
            if tap.get("up", [1, 1]) != [1, 1]:
                entry["phase"] = tap["phase"]
            if "weight" in tap:
                entry["weight"] = save(tap["weight"], tensors[tap["weight"]], is_head)
            else:
                assert not is_head
                entry |= {"select": tap["select"], "outputs": tap["outputs"]}
            taps.append(entry)
        table = tensors[layer["add"]]
        while table.ndim > 2 and table.shape[1:3] == (1, 1):
            table = table[:, 0, 0]
        entry = {"name": layer["name"] or names[layer["target"]], "target": names[layer["target"]], "taps": taps}
        entry["add"] = [save(layer["add"], table, is_head)]
        if layer.get("gate"):
            entry["gate"] = layer["gate"]
        if layer.get("residual"):
            [[node, form]] = layer["residual"]
            entry["residual"] = [names[node], form]
        if layer.get("pre") is not None:
            entry["pre"] = names[layer["pre"]]
        layers.append(entry)
    of_level = {height >> level: level for level in range(12)}
    kind = next(ours for theirs, ours in HEADS.items() if theirs in head["kind"])
    described = {
        "canvas": graph["canvas"],
        "classes": [str(i) for i in range(graph["classes"])],
        "levels": levels,
        "encoding": encodings(nodes[0], graph["input"], levels, tensors, saved),
        "nodes": [
            {
                "name": node["name"],
                "channels": node["channels"],
                "level": of_level[node["rows"]],
                "forms": [form_entry(form, saved, tensors) for form in node["forms"]],
            }
            for node in nodes[1:]
        ],
        "layers": layers,
        "head": {"node": names[head["node"]], "kind": kind, "steps": graph["steps"] > 1},
    }
    source = json.loads((folder / "source.json").read_text())
    out.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pixelcnn-2", "version": "1.0", "graph": json.dumps(described, separators=(",", ":"))}
    metadata["source"] = json.dumps(source)
    save_file(saved, out / "model.safetensors", metadata)
    positions = golden.get("positions", np.arange(height * width)).astype(np.uint32)
    outputs = golden["outputs"].reshape(len(golden["outputs"]), -1, len(order))[..., order]
    count = len(golden["levels"])
    pixels = np.moveaxis(golden["levels"].reshape(count, channels, height, width), 1, -1)
    expected = {
        "levels": np.ascontiguousarray(pixels.astype(np.uint16)),
        "labels": golden.get("labels", np.zeros(0)).astype(np.uint32),
        "positions": positions,
        "outputs": np.ascontiguousarray(outputs),
    }
    save_file(expected, out / "golden.safetensors")


def main():
    folder, out = map(Path, sys.argv[1:])
    for graph in sorted(folder.glob("*/graph.json")):
        convert(graph.parent, out / graph.parent.name)


if __name__ == "__main__":
    main()
