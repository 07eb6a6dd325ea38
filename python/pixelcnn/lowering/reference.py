"""A model file's graph, evaluated by NumPy in 64 bits over whole images. It shares no code with the lowering."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import numeric


class Reference:
    """Evaluates a `pixelcnn-2` graph from its JSON and tensors."""

    def __init__(self, document: dict[str, Any], tensors: dict[str, np.ndarray]):
        self.document = document
        self.tensors = {n: np.asarray(t, np.float64) for n, t in tensors.items()}
        height, width, channels = document["canvas"]
        self.nodes = {n["name"]: n for n in document["nodes"]}
        self.nodes["image"] = {"name": "image", "channels": channels, "forms": document["encoding"]}
        self.sizes = {n: (height >> v.get("level", 0), width >> v.get("level", 0)) for n, v in self.nodes.items()}

    def output(self, levels: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The head's parameters [N, H, W, F] of levels [N, H, W, C] and labels [N]."""
        values = {"image": levels}
        made: dict[tuple[str, int], np.ndarray] = {}

        def form(name: str, k: int) -> np.ndarray:
            if (name, k) not in made:
                made[name, k] = self._form(name, self.nodes[name]["forms"][k], values[name], labels)
            return made[name, k]

        for layer in self.document["layers"]:
            target = self.nodes[layer["target"]]
            outputs = target["channels"] * (2 if "gate" in layer else 1)
            total = np.zeros((len(levels), *self.sizes[target["name"]], outputs))
            for name in layer.get("add", []):
                total += self._spread(name, labels)
            for tap in layer["taps"]:
                x = self._read(layer["target"], tap, form(tap["source"], tap["form"]))
                if "select" in tap:
                    low, high = tap["select"]
                    total[..., tap["outputs"] : tap["outputs"] + high - low] += x[..., low:high]
                else:
                    total += x @ self.tensors[tap["weight"]]
            if "pre" in layer:
                values[layer["pre"]] = total
            if "gate" in layer:
                f, g = layer["gate"]
                half = outputs // 2
                total = numeric.activate(f, total[..., :half]) * numeric.activate(g, total[..., half:])
            if "residual" in layer:
                total = total + form(*layer["residual"])
            values[layer["target"]] = total
        return values[self.document["head"]["node"]]

    def products(self) -> int:
        """Multiplications for one image, each value computed once."""
        total = 0
        for layer in self.document["layers"]:
            height, width = self.sizes[layer["target"]]
            for tap in layer["taps"]:
                if "weight" in tap:
                    positions = height * width // (4 if "phase" in tap else 1)
                    total += positions * self.tensors[tap["weight"]].size
        return total

    def _spread(self, name: str, labels: np.ndarray | None) -> np.ndarray:
        table = numeric.spread(self.tensors[name])
        if len(table) > 1:
            assert labels is not None
            table = table[labels]
        return table

    def _form(self, name: str, form: dict[str, Any], x: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        if "table" in form:
            channels = [form["channel"]] if "channel" in form else range(x.shape[-1])
            looked_up = [self.tensors[form["table"]][x[..., c]] for c in channels]
            return np.concatenate([v if v.ndim == 4 else v[..., None] for v in looked_up], -1)
        scale, shift = (self._spread(form[k], labels) if k in form else None for k in ("scale", "shift"))
        return numeric.formed(form["activation"], form.get("slope"), form.get("negate", False), scale, shift, x)

    def _read(self, target: str, tap: dict[str, Any], x: np.ndarray) -> np.ndarray:
        level = {n: self.nodes[n].get("level", 0) for n in (target, tap["source"])}
        indices = []
        for axis, offset in enumerate((tap["row"], tap["column"])):
            i = np.arange(self.sizes[target][axis])
            if "phase" in tap:
                read = np.where(i % 2 == tap["phase"][axis], i // 2 + offset, -1)
            else:
                read = i * (2 if level[target] > level[tap["source"]] else 1) + offset
            indices.append(np.where((read >= 0) & (read < self.sizes[tap["source"]][axis]), read, -1))
        return numeric.read(x, *indices)
