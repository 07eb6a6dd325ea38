"""The model file `pixelcnn-2`: the graph as JSON, tensors beside it, in the safetensors container."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from ..errors import Refused
from .graph import IMAGE, Form, Graph, Pick, Tap, dense
from .head import Head
from .tape import Array

FORMAT, VERSION = "pixelcnn-2", "1.0"
_MOST_SELECTIONS = 8  # of one tap; a selection in more pieces is a product
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "U8": np.uint8, "I32": np.int32, "I64": np.int64}
Model = tuple[dict[str, Any], dict[str, np.ndarray]]


class _Exporter:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.tensors: dict[str, np.ndarray] = {}
        self.forms: list[dict[Form, int]] = [{} for _ in graph.nodes]
        self._names: dict[tuple[object, ...], str] = {}

    def tensor(self, name: str, value: Any) -> str:
        """Store a tensor once; returns its name."""
        array = np.ascontiguousarray(value)
        key = (array.shape, array.tobytes(), name.startswith("encoding"))
        if key not in self._names:
            self._names[key] = name
            self.tensors[name] = array
        return self._names[key]

    def form(self, node: int, form: Form) -> int:
        """The number of a node's form."""
        return self.forms[node].setdefault(form, len(self.forms[node]))

    def taps(self, number: int, k: int, tap: Tap) -> list[dict[str, Any]]:
        """A tap as one product or a few selections."""
        entry: dict[str, Any] = {"source": name_of(tap.source), "form": self.form(tap.source, tap.form)}
        entry |= {"row": int(tap.row), "column": int(tap.column)}
        if tap.phase:
            entry["phase"] = [int(p) for p in tap.phase]
        m = tap.map
        if isinstance(m, Pick) and m.factor is None:
            used = np.flatnonzero(m.channels >= 0)
            breaks = (np.diff(used) != 1) | (np.diff(m.channels[used]) != 1)
            runs = [r for r in np.split(used, np.flatnonzero(breaks) + 1) if len(r)]
            if len(runs) <= _MOST_SELECTIONS:
                first = [int(m.channels[r[0]]) for r in runs]
                return [
                    {**entry, "select": [c, c + len(r)], "outputs": int(r[0])} for c, r in zip(first, runs, strict=True)
                ]
        matrix = dense(m, self.graph.width_of(tap))
        return [{**entry, "weight": self.tensor(f"layer.{number}.tap.{k}", matrix)}]

    def table(self, name: str, array: Array, outputs: int) -> str | None:
        """A table without the axes along which it is the same; None if it is zero."""
        value = np.asarray(array.value)
        if not value.any():
            return None
        for axis in range(3):
            if value.shape[axis] > 1 and (value == value.take([0], axis)).all():
                value = value.take([0], axis)
        value = np.broadcast_to(value, (*value.shape[:3], outputs))
        if value.shape[1:3] == (1, 1):
            value = value[:, 0, 0]
            value = value[0] if len(value) == 1 else value
        return self.tensor(name, value)

    def form_entry(self, node: int, k: int, form: Form) -> dict[str, Any]:
        """A form in the notation of the file."""
        if form.table is not None:
            entry: dict[str, Any] = {"table": self.tensor(f"encoding.{k}", form.table.value)}
            return entry if form.channel is None else {**entry, "channel": form.channel}
        entry = {"activation": form.activation}
        if form.slope is not None:
            entry["slope"] = form.slope
        for key, array in (("scale", form.scale), ("shift", form.shift)):
            if array is not None:
                value = np.asarray(array.value)
                value = value[0] if value.ndim == 2 and len(value) == 1 else value
                entry[key] = self.tensor(f"{name_of(node)}.form.{k}.{key}", value)
        if form.negate:
            entry["negate"] = True
        return entry


def name_of(node: int) -> str:
    """A node's name in the file."""
    return "image" if node == IMAGE else f"n{node}"


def export(graph: Graph, head_node: int, head: Head, class_names: list[str]) -> Model:
    """The graph as JSON and its tensors, in 64 bits."""
    exporter = _Exporter(graph)
    layers = []
    for number, layer in enumerate(graph.layers):
        outputs = graph.outputs(layer)
        taps = [entry for k, tap in enumerate(layer.taps) for entry in exporter.taps(number, k, tap)]
        tables = [exporter.table(f"layer.{number}.add.{k}", t, outputs) for k, t in enumerate(layer.tables)]
        names = graph.nodes[layer.target].where
        where = names.module or (f"line {names.line}" if names.line else f"layer {number}")
        entry: dict[str, Any] = {"name": where, "target": name_of(layer.target), "taps": taps}
        if any(tables):
            entry["add"] = [t for t in tables if t]
        if layer.gate:
            entry["gate"] = list(layer.gate)
        for source, form in layer.residual:
            entry["residual"] = [name_of(source), exporter.form(source, form)]
        if layer.pre is not None:
            entry["pre"] = name_of(layer.pre)
        layers.append(entry)
    nodes = []
    for k, node in enumerate(graph.nodes):
        forms = [exporter.form_entry(k, f, form) for form, f in exporter.forms[k].items()]
        if k == IMAGE:
            encoding = forms
            continue
        entry = {"name": name_of(k), "channels": node.channels}
        if node.level:
            entry["level"] = node.level
        nodes.append({**entry, "forms": forms or [{"activation": "raw"}]})
    image = graph.nodes[IMAGE]
    document = {
        "canvas": [image.height, image.width, image.channels],
        "classes": class_names,
        "levels": head.levels,
        "encoding": encoding,
        "nodes": nodes,
        "layers": layers,
        "head": {"node": name_of(head_node), "kind": head.kind, **({"steps": True} if head.steps else {})},
    }
    return document, exporter.tensors


def to_bytes(model: Model, provenance: dict[str, str]) -> bytes:
    """A model file: weights in 32 bits, encoding tables in 64."""
    document, tensors = model
    stored = {n: t if n.startswith("encoding") else t.astype(np.float32) for n, t in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise Refused(f"the module's weights are not all finite: they make NaN or infinity in {name}")
    metadata = {"format": FORMAT, "version": VERSION, "graph": json.dumps(document, separators=(",", ":"))}
    return write_safetensors(stored, metadata | provenance)


def write_safetensors(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The container; wide types first, so that every tensor is aligned."""
    names = {np.dtype(t): n for n, t in _TYPES.items()}
    header: dict[str, Any] = {"__metadata__": metadata}
    parts, at = [], 0
    for name in sorted(tensors, key=lambda n: (-tensors[n].itemsize, n)):
        data = np.ascontiguousarray(tensors[name]).tobytes()
        header[name] = {
            "dtype": names[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [at, at + len(data)],
        }
        at += len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a container."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        low, high = (8 + size + n for n in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[low:high], _TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def read_model(data: bytes) -> Model:
    """The graph and tensors of a model file."""
    tensors, metadata = read_safetensors(data)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not a file of format {FORMAT}")
    return json.loads(metadata["graph"]), tensors
