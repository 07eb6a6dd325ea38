"""`compile`: from a live PyTorch module to its cached sampler."""

from __future__ import annotations

import logging
import math
import os
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ._pixelcnn import noise
from .arrays import as_classes, as_images
from .convert.files import put_whole
from .errors import ModelError, Refused
from .lowering import check as checks
from .lowering import export as graph_file
from .lowering import rules as _rules  # noqa: F401  (registers the rules)
from .lowering import trace
from .lowering.draws import words_of
from .lowering.export import export, to_bytes
from .lowering.fuse import fuse
from .lowering.graph import Graph, Pick
from .lowering.head import Head, fits_mixture, read_head
from .lowering.likelihood import bits_per_dim
from .lowering.lower import CodesWanted, Lowering, double_by_default, in_double
from .lowering.place import place
from .lowering.report import call_of, describe
from .lowering.trace import Program
from .model import Model

log = logging.getLogger("pixelcnn")
Forward = Callable[..., Any]
Input = str | Callable[[torch.Tensor], torch.Tensor]
INPUTS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "unit": lambda v, n: v.double() / (n - 1),
    "symmetric": lambda v, n: 2 * v.double() / (n - 1) - 1,
    "levels": lambda v, n: v.double(),
    "codes": lambda v, n: v,
}
_FIRST = 2  # drawn images that are compared


class Sampler(Model):
    """A compiled module: a model that can take new weights. `pixelcnn.compile` makes one.

    input: the module's input for a level: its name, or a function.
    summary: the result of the checks, in a line.

    Pickled, it is the `Model` of its present weights.
    """

    def __init__(self, graph: Graph, head_node: int, head: Head, names: list[str], source: Input, name: str):
        self._graph, self._head_node, self._head, self._names = graph, head_node, head, names
        self.input = source
        self.summary = ""
        super().__init__(self._file(), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Model, (self.to_bytes(), self.name)

    def _file(self) -> bytes:
        """The model file of the graph's present weights."""
        source = self.input if isinstance(self.input, str) else "a function"
        return to_bytes(self._model(), {"source": "pixelcnn.compile", "input": source})

    def _model(self) -> graph_file.Model:
        """The graph of the file, and its tensors in 64 bits."""
        return export(self._graph, self._head_node, self._head, self._names)

    def update(self, module: nn.Module) -> None:
        """Fold the module's present weights into the same graph.

        Raises `pixelcnn.Refused` if anything else has changed: a shape, or zeros that the graph leaves out. Then the sampler
        stays as it was.
        """
        tensors = trace.tensors_of(trace.unwrap(module))

        def present(name: str) -> torch.Tensor:
            if name not in tensors:
                raise Refused(f"the module has no tensor {name} any more: compile again")
            return in_double(tensors[name])

        with double_by_default(), trace.one_thread():
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
        before = self._graph.tape.commit(new)
        try:
            super().__init__(self._file(), self.name)
        except BaseException:
            self._graph.tape.commit(before)
            raise


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
    input: the module's input for level v: "unit" v/(L-1), "symmetric" 2v/(L-1)-1, "levels" v, "codes" v as a whole
        number, or a function of a tensor of levels. Default: codes if they go into an embedding or one-hot,
        symmetric before a mixture of logistics, levels if the module scales them itself, else unit; the choice is logged.
    head: "softmax", "logistic" or "bernoulli", if the output's shape leaves more than one reading.
    output_axes: the output's axes, such as "NKCHW": K levels, C channels.
    forward: `forward(module, image[, labels])`, for modules with other arguments.
    check: compare with the module itself before anything is returned: its output for random levels, in 64 bits, and the
        levels that its own distributions and the same noise give at each pixel of the first drawn images.
    data: whole-number images, or (images, labels), on which the possible inputs are compared.

    Raises `pixelcnn.Refused`, in one sentence, for a module that cannot be compiled.
    """
    start = time.perf_counter()
    job = _Job(trace.unwrap(module), shape, levels, classes, output_axes, head, forward)
    with trace.one_thread():
        sampler = job.compile(input, data)
        if check:
            sampler.summary += f"; {job.compared(sampler)}"
    log.info("compiled %s in %.1f s", sampler.summary, time.perf_counter() - start)
    return sampler


def report(
    module: nn.Module,
    shape: Sequence[int],
    path: str | os.PathLike[str],
    *,
    levels: int,
    classes: int | Sequence[str] | None = None,
    input: Input | None = None,
    head: str | None = None,
    output_axes: str | None = None,
    forward: Forward | None = None,
) -> None:
    """Write a text file about a module, to report one that does not compile as it should.

    It has the message of `compile`, the module's operations with their shapes, names of its parts, and the lines of its source
    that they come from; no weights and no images. Read it before you send it.

    path: of the file, which appears whole or not at all. For the other arguments, see `compile`.
    """
    told = {"levels": levels, "classes": classes, "input": input, "head": head}
    told |= {"output_axes": output_axes, "forward": forward}
    inner = trace.unwrap(module)
    job = _Job(inner, shape, levels, classes, output_axes, head, forward)
    try:
        with trace.one_thread():
            sampler = job.compile(input, None)
            outcome = f"compiled: {sampler.summary}; {job.compared(sampler)}"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
        if not isinstance(error, Refused):
            frames = traceback.extract_tb(error.__traceback__)
            lines = [f"{Path(frame.filename).name}:{frame.lineno}, in {frame.name}" for frame in frames]
            outcome = "\n  ".join([outcome, *lines])
    text = describe(inner, call_of(type(inner).__name__, shape, told), outcome, job.traced)
    put_whole(Path(path), lambda file: file.write(text.encode()))


class _Job:
    """The compilation of one module."""

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
        # Neither Apple's GPUs nor modules compiled by TorchScript can compute in 64 bits.
        self.exact = self.device.type != "mps" and not any(
            isinstance(m, torch.jit.ScriptModule) for m in module.modules()
        )
        self.programs: dict[bool, Program] = {}
        # The longest recording, even if the module failed afterwards.
        self.traced = Program()
        self.position = 0

    def table(self, source: Input) -> torch.Tensor:
        """The numbers [L] that the module takes for the levels."""
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

    def encode(self, levels: np.ndarray, source: Input, double: bool) -> torch.Tensor:
        """Levels [N, H, W, C] as the module takes them."""
        table = self.table(source)
        x = table[torch.from_numpy(levels.astype(np.int64)).permute(0, 3, 1, 2)]
        x = x.to(torch.float64 if double else self.dtype) if table.is_floating_point() else x
        return (x[:, 0] if self.flat else x).to(self.device)

    def output(self, source: Input, levels: np.ndarray, labels: np.ndarray | None, double: bool) -> torch.Tensor:
        """The module's own output."""
        image = self.encode(levels, source, double)
        given = None if labels is None else torch.as_tensor(labels, dtype=torch.int64, device=self.device)
        try:
            return trace.module_output(self.module, self.forward, image, given, position=self.position, double=double)
        except Refused:
            raise
        except Exception as error:
            raise _failed(error) from error

    def compared(self, sampler: Sampler) -> str:
        """Compare a sampler with the module itself; returns the result in words."""
        exact = self.exact
        run = partial(self.output, sampler.input)
        head = sampler._head
        difference = checks.compared(run, sampler._model(), head, self.classes, exact=exact)
        labels = np.arange(_FIRST) % self.classes if self.classes else None
        images = sampler.sample(_FIRST, labels=labels, device="cpu")
        height, width, channels = self.canvas
        parameters = sampler._graph.nodes[sampler._head_node].channels
        count = words_of(head.kind, parameters, channels, self.levels)
        words = [np.frombuffer(noise(0, k, height * width, count), np.uint32) for k in range(_FIRST)]
        grid = np.stack(words).reshape(_FIRST, height, width, count)
        distance = checks.drawn_alike(run, head, images.astype(np.int64), labels, grid, exact=exact)
        return (
            f"within {difference:.0e} of the module for random levels; {_FIRST} drawn images have the levels that its own "
            f"distributions give" + (f" (noise within {distance:.0e} of another level)" if distance else "")
        )

    def compile(self, told: Input | None, data: Any) -> Sampler:
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
        name = type(self.module).__name__
        try:
            sampler = Sampler(graph, node, head, self.class_names, source, name)
        except ModelError as error:
            raise Refused(f"the engine refuses the module's graph: {error}") from error
        sampler.summary = self._summary(sampler)
        return sampler

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
        drawn = np.random.default_rng(1).integers(self.levels, size=(batch, *self.canvas))
        image = self.encode(drawn, source, False)
        labels = torch.arange(batch).clamp(max=self.classes - 1).to(self.device) if self.classes else None
        program = Program()
        try:
            return trace.record(self.module, self.forward, image, labels, program)
        except Refused:
            raise
        except Exception as error:
            hint = ""
            if self.classes and isinstance(error, (RuntimeError, TypeError)):
                hint = "; a module that takes classes as one-hot: forward=lambda m, x, y: m(x, F.one_hot(y, K).float())"
            raise _ForwardFailed(_failed(error, hint)) from error
        finally:
            self.traced = max(self.traced, program, key=lambda made: len(made.steps))

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
        pixels = as_images(images, self.canvas, self.levels)[:16].astype(np.int64)
        if pixels.shape[1:] != self.canvas:
            raise ValueError(f"data: expected images of shape {list(self.canvas)}, found {list(pixels.shape[1:])}")
        labels = None
        if self.classes:
            if given is None:
                raise ValueError("data: the module takes labels: expected (images, labels)")
            labels = np.array(as_classes(given, len(images), self.class_names)[:16])
        found: list[tuple[float, Input]] = []
        candidates: list[Input] = ["unit", "symmetric", "levels"]
        for candidate in candidates + ([source] if source not in candidates else []):
            parameters = head.parameters(self.output(candidate, pixels, labels, False))
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

    def _summary(self, sampler: Sampler) -> str:
        graph, head, source = sampler._graph, sampler._head, sampler.input
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
        passes = height * width * (channels if head.steps else 1)
        each = "subpixel" if head.steps else "pixel"
        kind = f"{head.kind}, {self.levels} levels" + (", a channel a step" if head.steps else "")
        program = self.recorded(source)
        return (
            f"{sampler.name}, {height}x{width}x{channels}: {len(graph.nodes) - 1} nodes, {len(graph.layers)} layers, "
            f"{taps} taps, {kind}, input {source if isinstance(source, str) else 'by function'}, "
            f"{products / 1e6:.1f} M products an image, {program.products() * passes / max(products, 1):.0f} times less than "
            f"by a pass of the module a {each}"
        )


class _ForwardFailed(Exception):
    """The module's forward failed on one kind of input; another kind may succeed."""

    def __init__(self, reason: Refused):
        super().__init__(str(reason))
        self.reason = reason


def _failed(error: Exception, hint: str = "") -> Refused:
    """An exception of the module's own forward, in one sentence with the line that raised it."""
    ours = str(Path(__file__).parent)
    lines = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((ours, os.path.dirname(torch.__file__)))
    ]
    where = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno}: {lines[-1].line})" if lines else ""
    text = " ".join(str(error).split())
    return Refused(f"the module's forward failed: {type(error).__name__}: {text[:300]}{where}{hint}")
