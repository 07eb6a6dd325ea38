"""`compile`: from a live PyTorch module to its cached sampler."""

from __future__ import annotations

import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .convert.files import put_whole
from .lowering import check as checks
from .lowering import rules as _rules  # noqa: F401  (registers the rules)
from .lowering import trace
from .lowering.errors import Refused
from .lowering.export import Model, export, read_model, to_bytes
from .lowering.fuse import fuse
from .lowering.graph import Graph, Pick
from .lowering.head import Head, fits_mixture, read_head
from .lowering.likelihood import bits_per_dim
from .lowering.lower import CodesWanted, Lowering, double_by_default, in_double
from .lowering.place import place
from .lowering.reference import Reference
from .lowering.trace import Program

log = logging.getLogger("pixelcnn")
Forward = Callable[..., Any]
Input = str | Callable[[torch.Tensor], torch.Tensor]
INPUTS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "unit": lambda v, n: v.double() / (n - 1),
    "symmetric": lambda v, n: 2 * v.double() / (n - 1) - 1,
    "levels": lambda v, n: v.double(),
    "codes": lambda v, n: v,
}


class Sampler:
    """A compiled module: its graph, its weights as they were last folded, and what draws from them.

    Sampling methods (`sample`, `log_prob`, `complete`, …) are those of the model that `pixelcnn` makes of
    `to_bytes()`; they need the compiled extension.
    """

    def __init__(self, graph: Graph, head_node: int, head: Head, class_names: list[str], source: Input, text: str):
        self._graph, self._head_node, self.head, self._class_names = graph, head_node, head, class_names
        self.input = source
        self.text = text
        self._engine: Any = None
        self._bytes: bytes | None = None

    def __repr__(self) -> str:
        return f"<pixelcnn.Sampler: {self.text}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.engine, name)

    @property
    def engine(self) -> Any:
        """The engine's model of the present weights."""
        if self._engine is None:
            try:
                from pixelcnn import engine_model  # type: ignore[attr-defined]
            except ImportError:
                raise RuntimeError("drawing needs the compiled extension of pixelcnn, which is not installed") from None
            self._engine = engine_model(self.to_bytes())
        return self._engine

    def model(self) -> Model:
        """The graph as the model file says it, and its tensors in 64 bits."""
        return export(self._graph, self._head_node, self.head, self._class_names)

    def to_bytes(self) -> bytes:
        """The model file, format pixelcnn-2."""
        if self._bytes is None:
            source = self.input if isinstance(self.input, str) else "a function"
            self._bytes = to_bytes(self.model(), {"source": "pixelcnn.compile", "input": source})
        return self._bytes

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model file; it appears whole or not at all."""
        put_whole(Path(path), lambda file: file.write(self.to_bytes()))

    def bits(self, images: Any, labels: Any = None) -> np.ndarray:
        """Bits per (sub)pixel [N] of levels [N, H, W, C], [N, C, H, W] or [N, H, W], from the model file in 64 bits."""
        levels = as_levels(images, self.head.levels, self._canvas)
        given = None if labels is None else np.asarray(labels)
        return bits_per_dim(self.head.kind, self.parameters(levels, given), levels, self.head.levels)

    def parameters(self, levels: Any, labels: Any = None) -> np.ndarray:
        """The head's parameters [N, H, W, F] of levels [N, H, W, C], from the model file in 64 bits."""
        return Reference(*read_model(self.to_bytes())).output(np.asarray(levels), labels)

    @property
    def _canvas(self) -> tuple[int, int, int]:
        image = self._graph.nodes[0]
        return image.height, image.width, image.channels

    def update(self, module: nn.Module) -> None:
        """Fold the module's present weights into the same graph; refuse anything else that changed."""
        tensors = trace.tensors_of(trace.unwrap(module))

        def present(name: str) -> torch.Tensor:
            if name not in tensors:
                raise Refused(f"the module has no tensor {name} any more: compile again")
            return in_double(tensors[name])

        with double_by_default():
            new = self._graph.tape.replay(present)
        for layer in self._graph.layers:
            for tap in layer.taps:
                if not isinstance(tap.map, Pick) and id(tap.map.weight) in new:
                    old, now = np.asarray(tap.map.weight.value), np.asarray(new[id(tap.map.weight)])
                    if ((old == 0) & (now != 0)).any():
                        raise Refused(
                            f"weights that were zero when the module was compiled are not now ({layer.where}): "
                            "compile again"
                        )
        self._graph.tape.commit(new)
        self._engine = self._bytes = None


def as_levels(images: Any, levels: int, canvas: tuple[int, int, int]) -> np.ndarray:
    """Whole numbers [N, H, W, C] of images in any of the usual layouts."""
    array = np.asarray(images)
    height, width, channels = canvas
    if array.ndim == 3:
        array = array[..., None]
    elif array.shape[1:] == (channels, height, width) and array.shape[1:] != (height, width, channels):
        array = np.moveaxis(array, 1, -1)
    if array.shape[1:] != (height, width, channels):
        raise ValueError(
            f"images of shape {list(np.shape(images))}, but the module draws {height}x{width} with {channels} channels"
        )
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0 or array.max() >= levels:
        raise ValueError(f"images must be whole numbers from 0 to {levels - 1}")
    return array.astype(np.int64)


def compile(
    module: nn.Module,
    shape: Sequence[int],
    *,
    levels: int,
    classes: int | Sequence[str] | None = None,
    input: Input | None = None,
    head: str | None = None,
    output_axes: str | None = None,
    forward: Forward | None = None,
    check: bool = True,
    data: Any = None,
) -> Sampler:
    """Compile a causal convolutional module to its cached sampler.

    shape: (C, H, W) of an image, or (H, W) if the module takes whole numbers [N, H, W].
    levels: L; every channel has levels 0 … L-1.
    classes: K, or K names, if the module takes labels [N] after the image.
    input: what the module takes for level v: "unit" v/(L-1), "symmetric" 2v/(L-1)-1, "levels" v, "codes" v as a whole
        number, or a function of a tensor of levels. By default codes if they go into an embedding or one-hot,
        symmetric before a mixture of logistics, levels if the module scales by itself, else unit; the choice is logged.
    head: "softmax", "logistic" or "bernoulli", if the output's shape leaves more than one reading.
    output_axes: the output's axes, such as "NKCHW": K levels, C channels.
    forward: `forward(module, image[, labels])`, for modules that want other arguments.
    check: compare with the module's own output, in 64 bits, before anything is returned.
    data: whole-number images, or (images, labels), on which the inputs that come into question are compared.

    Raises `Refused`, in one sentence, for a module that cannot be compiled.
    """
    start = time.perf_counter()
    module = trace.unwrap(module)
    job = _Job(module, shape, levels, classes, output_axes, head, forward)
    sampler, used = job.compile(input, data)
    if check:
        encode = lambda v, double: job.encode(v, used, double)  # noqa: E731
        try:
            difference = checks.compared(
                module, job.forward, sampler.model(), sampler.head, encode, job.classes, job.position
            )
        except Refused:
            raise
        except Exception as error:
            raise _failed(error) from error
        sampler.text += f", within {difference:.0e} of the module"
    log.info("compiled %s in %.1f s", sampler.text, time.perf_counter() - start)
    return sampler


class _Job:
    """One module on its way."""

    def __init__(
        self,
        module: nn.Module,
        shape: Sequence[int],
        levels: int,
        classes: int | Sequence[str] | None,
        output_axes: str | None,
        head: str | None,
        forward: Forward | None,
    ):
        if len(shape) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(f"shape must be (C, H, W), or (H, W) for codes, not {shape!r}")
        if not 2 <= levels <= 65536:
            raise ValueError(f"levels must be from 2 to 65536, not {levels}")
        self.module, self.levels = module, levels
        self.flat = len(shape) == 2
        channels, height, width = (1, *shape) if self.flat else shape
        self.canvas = (height, width, channels)
        names = (
            [] if classes is None else [str(k) for k in range(classes)] if isinstance(classes, int) else list(classes)
        )
        self.class_names = names
        self.classes = len(names)
        self.output_axes, self.head_kind = output_axes, head
        self.forward = forward or (lambda m, *inputs: m(*inputs))
        parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
        self.dtype = parameter.dtype if parameter is not None else torch.float32
        self.device = parameter.device if parameter is not None else torch.device("cpu")
        self.programs: dict[bool, Program] = {}
        self.position = 0

    def table(self, source: Input) -> torch.Tensor:
        """The numbers that stand for the levels, as the module takes them [L]."""
        every = torch.arange(self.levels)
        if isinstance(source, str):
            if source not in INPUTS:
                raise ValueError(f"no input is called {source!r}: unit, symmetric, levels, codes, or a function")
            return INPUTS[source](every, self.levels)
        made = torch.as_tensor(source(every))
        if made.shape != every.shape:
            raise ValueError(
                f"the function `input` makes shape {list(made.shape)} of {self.levels} levels; "
                f"it must keep [{self.levels}]"
            )
        return made.double() if made.is_floating_point() else made.long()

    def encode(self, levels: torch.Tensor, source: Input, double: bool) -> torch.Tensor:
        """Levels [N, C, H, W] as the module takes them."""
        table = self.table(source)
        x = table[levels]
        x = x.to(torch.float64 if double else self.dtype) if table.is_floating_point() else x
        return x[:, 0] if self.flat else x

    def compile(self, told: Input | None, data: Any) -> tuple[Sampler, Input]:
        """Choose the input, lower, and finish the graph."""
        source: Input = told if told is not None else "codes" if self.flat else "unit"
        fixed = told is not None or self.flat
        try:
            program = self.recorded(source)
        except _ForwardFailed as error:
            if fixed:
                raise error.reason from error.__cause__
            try:
                program = self.recorded("codes")
            except _ForwardFailed:
                raise error.reason from error.__cause__
            source = "codes"
        if not fixed and source != "codes":
            source = self._default(program)
        try:
            lowering, out, head = self.lowered(source)
        except CodesWanted:
            if fixed:
                raise Refused(
                    f"the module turns its input into whole numbers, which input={source!r} does not keep apart"
                ) from None
            source = "codes"
            try:
                lowering, out, head = self.lowered(source)
            except _ForwardFailed as error:
                raise error.reason from error.__cause__
        if source != "codes":
            best = self._fitting(head, data, source) if data is not None else source
            if not fixed and best != source:
                source = best
                lowering, out, head = self.lowered(source)
            elif not fixed and data is None:
                log.warning(
                    "the module is taken to want input=%r for levels 0 to %d; say input=… if it does not",
                    source,
                    self.levels - 1,
                )
        graph = lowering.graph
        node = lowering.algebra.materialised(out).node
        assert node is not None
        node = self._finished(graph, node)
        head.steps = checks.causal(graph, node, head)
        return Sampler(graph, node, head, self.class_names, source, self._text(graph, head, source)), source

    def lowered(self, source: Input) -> tuple[Lowering, Any, Head]:
        """The graph of nodes of any size."""
        table = self.table(source)
        program = self.recorded(source)
        self.position = program.position
        lowering = Lowering(self.canvas, self.classes, table, table.is_floating_point())
        with double_by_default():
            value = lowering.run(program)
            out, head = read_head(lowering, value, self.levels, self.head_kind, self.output_axes)
        return lowering, out, head

    def recorded(self, source: Input) -> Program:
        """The module's operations on real or whole numbers."""
        real = self.table(source).is_floating_point()
        if real not in self.programs:
            self.programs[real] = self._record(source)
        return self.programs[real]

    def _record(self, source: Input) -> Program:
        batch = max(self.classes, 2)
        height, width, channels = self.canvas
        chance = torch.Generator().manual_seed(1)
        drawn = torch.randint(self.levels, (batch, channels, height, width), generator=chance)
        image = self.encode(drawn, source, False).to(self.device)
        labels = torch.arange(batch).clamp(max=self.classes - 1).to(self.device) if self.classes else None
        try:
            return trace.record(self.module, self.forward, image, labels)
        except Refused:
            raise
        except Exception as error:
            raise _ForwardFailed(_failed(error)) from error

    def _default(self, program: Program) -> Input:
        """Guess the input of a module that takes real numbers."""
        n = self.levels
        whole = (n - 1, n) if n < 16 else (n - 1, (n - 1) / 2, n, n / 2)
        same = {program.image}
        for step in program.steps:
            if not same.intersection(step.sources):
                continue
            number = next((a for a in step.args[1:] if isinstance(a, (int, float)) and a), None)
            if step.operation in ("div", "mul") and number is not None:
                divisor = number if step.operation == "div" else 1 / number
                if divisor > 1 and any(math.isclose(divisor, k, rel_tol=1e-6) for k in whole):
                    return "levels"  # the module scales by itself
            elif step.operation in ("_to_copy", "sub", "add", "clone", "view", "detach"):
                same.update(step.results)
        height, width, channels = self.canvas
        shape = program.slots[program.output].shape
        count = math.prod(shape) // (program.slots[program.image].shape[0] * height * width)
        mixture = self.head_kind in (None, "logistic", "logistic_mixture") and count != channels * n
        return "symmetric" if mixture and fits_mixture(count, channels, n) else "unit"

    def _fitting(self, head: Head, data: Any, source: Input) -> Input:
        """The input under which images are likeliest."""
        images, given = data if isinstance(data, tuple) else (data, None)
        pixels = as_levels(images, self.levels, self.canvas)[:16]
        levels = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        labels = None
        if self.classes:
            chosen = np.zeros(len(pixels), int) if given is None else np.asarray(given)[:16]
            labels = torch.from_numpy(chosen.astype(np.int64)).to(self.device)
        found: list[tuple[float, Input]] = []
        candidates: list[Input] = ["unit", "symmetric", "levels"]
        for candidate in candidates + ([source] if source not in candidates else []):
            image = self.encode(levels, candidate, False).to(self.device)
            output = trace.module_output(self.module, self.forward, image, labels, position=self.position, double=False)
            parameters = _as_parameters(head, head.arranged(output))
            found.append((float(bits_per_dim(head.kind, parameters, pixels, self.levels).mean()), candidate))
        best = min(found, key=lambda f: f[0])
        listed = ", ".join(f"{c if isinstance(c, str) else 'function'} {b:.3f}" for b, c in found)
        level = logging.INFO if best[1] == source else logging.WARNING
        log.log(level, "bits/dim of %d images by input: %s; %s fits best", len(pixels), listed, best[1])
        return best[1]

    def _finished(self, graph: Graph, node: int) -> int:
        node = graph.prune(node)
        place(graph, node)
        node = graph.prune(node)
        fuse(graph)
        return graph.prune(node)

    def _text(self, graph: Graph, head: Head, source: Input) -> str:
        height, width, channels = self.canvas
        taps = sum(len(layer.taps) for layer in graph.layers)
        products = sum(
            t.map.weight.value.size
            * graph.nodes[x.target].height
            * graph.nodes[x.target].width
            // (4 if t.phase else 1)
            for x in graph.layers
            for t in x.taps
            if not isinstance(t.map, Pick)
        )
        kind = f"{head.kind}, {self.levels} levels" + (", a channel a step" if head.steps else "")
        return (
            f"{height}x{width}x{channels}: {len(graph.nodes) - 1} nodes, {len(graph.layers)} layers, {taps} taps, "
            f"{kind}, input {source if isinstance(source, str) else 'by function'}, "
            f"{products / 1e6:.1f} M products an image"
        )


class _ForwardFailed(Exception):
    """The module's forward failed on one kind of input; it may not on another."""

    def __init__(self, reason: Refused):
        super().__init__(str(reason))
        self.reason = reason


def _as_parameters(head: Head, output: np.ndarray) -> np.ndarray:
    """Logits of an output that the module has normalised."""
    if head.normalised == "softmax":
        return np.log(np.maximum(output, 1e-300))
    if head.normalised == "sigmoid":
        return np.log(np.maximum(output, 1e-300)) - np.log(np.maximum(1 - output, 1e-300))
    return output


def _failed(error: Exception) -> Refused:
    """An exception of the module's own forward, in one sentence with the line that raised it."""
    ours = str(Path(__file__).parent)
    lines = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((ours, os.path.dirname(torch.__file__)))
    ]
    where = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno}: {lines[-1].line})" if lines else ""
    text = " ".join(str(error).split())
    return Refused(f"the module's forward failed: {type(error).__name__}: {text[:300]}{where}")
