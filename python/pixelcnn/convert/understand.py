"""The convention of a checkpoint's names, and its tensors: those of layers, those beside them, ignored ones."""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from . import COMPILE, ConversionError, listing
from .names import AVERAGE, TENSORFLOW, TORCH, TORCH_PARTS, Checkpoint, Convention
from .network import TORCH_STREAMS
from .readers import Source, another_network

log = logging.getLogger("pixelcnn")

TENSORFLOW_NAME = re.compile(rf"model/(\w+)/(V|g|b|hw)({AVERAGE})?")
# Tensors that training leaves beside the weights: the slots and counters of TensorFlow's Adam, and those of the
# reference code's own, whose slots are variables without a name.
TENSORFLOW_IGNORED = re.compile(
    r"(.+/)?(Adam(_\d+)?|adam_t(_\d+)?|Variable(_\d+)?|beta[12]_power(_\d+)?|global_step)"
)
# Names that wrappers put before a network's names; the rest of a prefix is found with them.
WRAPPERS = r"((module|_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.)"
TORCH_WRAPPERS = re.compile(rf"(?<![^.]){WRAPPERS}+")
TORCH_LAYER = re.compile(
    r"(u_init|ul_init\.\d+|(down|up)size_ul?_stream\.\d+)\.(de)?conv|nin_out\.lin_a"
    r"|(up|down)_layers\.\d+\.ul?_stream\.\d+\.(conv_(input|out)\.conv|nin_skip\.lin_a)"
)
TORCH_BLOCK = re.compile(r"(up|down)_layers\.(\d+)\.(ul?)_stream\.(\d+)\.(.+)")
TORCH_START = re.compile(rf"(.*?)u_init\.{WRAPPERS}*conv\.{WRAPPERS}*(weight_v|parametrizations\.weight\.original1)")
# Tensors that training keeps beside the weights: the state of optimizers, and, as single numbers, counters and losses.
TORCH_OPTIMIZER = re.compile(r"(.+\.)?(optim\w*|state\.\d+)\..+")
TORCH_COUNTER = re.compile(
    r"(.+\.)?(epochs?|(global_)?steps?|iterations?|n_averaged|num_batches_tracked|(\w+_)?(loss|bpd)|best_\w+)"
)


def understand(source: Source, flags: argparse.Namespace) -> Checkpoint:
    """The convention of these names, and the place of every tensor that is not ignored."""
    if any(TENSORFLOW_NAME.fullmatch(name) for name in source.shapes):
        for flag, given in (("--class-tensor", flags.class_tensor), ("--state-dict", flags.state_dict)):
            if given:
                raise ConversionError(
                    f"{flag} is for checkpoints with the names of {TORCH.title}; these are those of "
                    f"{TENSORFLOW.title}, which leave no choice"
                )
        return understand_tensorflow(source, flags.raw, flags.ignore)
    if any("u_init" in name.split(".") for name in source.shapes):
        return understand_torch(source, flags.state_dict, flags.ignore)
    other = another_network(source.shapes)
    raise ConversionError(
        "not a PixelCNN++ checkpoint that this script knows"
        + (f" (its names are those of {other})" if other else "")
        + (f" ({left_out(source)})" if source.left_out else "")
        + "\n"
        f"  expected: model/conv2d_0/V and so on, as in {TENSORFLOW.title},\n"
        f"            or u_init.conv.weight_v and so on, as in {TORCH.title}\n"
        f"  found: {listing(sorted(source.shapes)) or 'no tensors'}\n"
        f"  {COMPILE}"
    )


def understand_tensorflow(source: Source, raw: bool, ignored: list[str]) -> Checkpoint:
    left = without({name: name for name in source.shapes}, ignored)
    matches = {name: TENSORFLOW_NAME.fullmatch(name) for name in left}
    foreign = [n for n, match in matches.items() if not match and not TENSORFLOW_IGNORED.fullmatch(n)]
    refuse_foreign(foreign, TENSORFLOW)
    kinds = {bool(match[3]) for match in matches.values() if match}
    if kinds == {True, False}:
        averaged = not raw
        values = "the raw values, as --raw asks" if raw else "the exponential moving averages"
    else:
        (averaged,) = kinds
        values = "the exponential moving averages" if averaged else "the values, which are not averaged"
        if averaged and raw:
            raise ConversionError("--raw: the file holds nothing but exponential moving averages")
    checkpoint = Checkpoint(source, TENSORFLOW, values, AVERAGE if averaged else "")
    for name, match in matches.items():
        if match and bool(match[3]) == averaged:
            checkpoint.add((match[1], match[2]), name)
    return checkpoint


def understand_torch(source: Source, wanted: str | None, ignored: list[str]) -> Checkpoint:
    networks = networks_in(source)
    if source.left_out:
        log.warning("%s", left_out(source))
    if wanted is None and len(networks) < 2:
        chosen = next(iter(networks), ".")
    elif wanted in networks:
        chosen = wanted
    else:
        asked = "" if wanted is None else f"--state-dict {wanted}: there is no such network; "
        flags = " or ".join(f"--state-dict {key}" for key in networks) or "no --state-dict"
        raise ConversionError(
            f"{asked}it holds {len(networks)} networks: choose with {flags}"
            + (f" ({left_out(source)})" if source.left_out else "")
        )
    prefix = networks.get(chosen, "")
    outer = prefix.split(".")[:-1]
    shown = {}
    for name in source.shapes:
        if owner(name, networks) in (chosen, None):
            parts = name.split(".")
            shared = len(os.path.commonprefix([outer, parts[:-1]]))
            short = TORCH_WRAPPERS.sub("", ".".join(parts[shared:]))
            counter = math.prod(source.shapes[name]) == 1 and TORCH_COUNTER.fullmatch(short)
            if not counter and not TORCH_OPTIMIZER.fullmatch(short):
                shown[name] = short
    checkpoint = Checkpoint(source, TORCH, "the values, which are not averaged")
    for name, short in without(shown, ignored).items():
        scope, part = split_part(short)
        if TORCH_LAYER.fullmatch(scope):
            checkpoint.add((scope, part), name)
        elif is_weight(source, name):
            checkpoint.add_foreign(name, short)
        else:
            log.warning("left out: %s, whose type or size no weights have", name)
    return checkpoint


def is_weight(source: Source, name: str) -> bool:
    """A tensor may be a weight unless it is empty or holds whole numbers or bits, as counts and generators' states do.
    Masks are not left out, for they change weights."""
    if "mask" in name.lower():
        return True
    values = source.read(name)
    return values.dtype.kind not in "biu" and values.size > 0


def left_out(source: Source) -> str:
    return (
        f"left out: {'; '.join(source.left_out)}; to have averages of the weights that are kept so, copy them into "
        f"the module where it was trained, and save its state_dict()"
    )


def networks_in(source: Source) -> dict[str, str]:
    """The prefix of each network's names, by the part that tells it from the others: of model.module. and ema.module.,
    model and ema; a dot if that part is empty."""
    prefixes = sorted({match[1] for name in source.shapes if (match := TORCH_START.fullmatch(name))})
    reversed_ = [prefix.split(".")[::-1] for prefix in prefixes]
    common = len(os.path.commonprefix(reversed_)) if len(prefixes) > 1 else 1
    return {".".join(parts[common:][::-1]) or ".": prefix for parts, prefix in zip(reversed_, prefixes)}


def owner(name: str, networks: dict[str, str]) -> str | None:
    """The network, of several, to which a tensor belongs, if any."""
    if len(networks) < 2:
        return None
    inside = [key for key in networks if name.startswith(f"{key}.")]
    return max(inside, key=len, default="." if "." in networks else None)


def split_part(name: str) -> tuple[str, str]:
    """The layer or module, and the part of it; a tensor without such a name is a weight."""
    for part, ours in TORCH_PARTS.items():
        if name.endswith(f".{part}"):
            return name.removesuffix(f".{part}"), ours
    return name.removesuffix(".weight"), "V"


def block_of(scope: str, levels: int) -> tuple[str, str]:
    """Our name of the block that a module is in, and the module's name in it."""
    match = TORCH_BLOCK.fullmatch(scope)
    if not match:
        return "", scope
    direction, layer, stream, i, inner = match.groups()
    level = int(layer) if direction == "up" else levels - 1 - int(layer)
    stream = next(ours for ours, torch in TORCH_STREAMS.items() if torch == stream)
    return f"{direction}.{level}.block.{i}.{stream}", inner


def matching(pattern: str, shown: dict[str, str]) -> list[str]:
    """The file's names of the tensors that a user means: by a tensor's name, with all of its prefix or less, else by a
    module's, else by either within its block, else by a pattern in which * matches anything."""

    def names(name: str, short: str) -> list[str]:
        prefix = name.removesuffix(short).split(".")
        return [".".join(prefix[i:]) + short for i in range(len(prefix))] + [short]

    def modules(name: str, short: str) -> list[str]:
        return [split_part(each)[0] for each in names(name, short)]

    def within(name: str, short: str) -> list[str]:
        inner = match[5] if (match := TORCH_BLOCK.fullmatch(short)) else short
        return [inner, split_part(inner)[0]]

    for way in (names, modules, within):
        if found := [name for name, short in shown.items() if pattern in way(name, short)]:
            return found
    return [
        name
        for name, short in shown.items()
        if any(fnmatchcase(each, pattern) for each in names(name, short))
    ]


def without(shown: dict[str, str], ignored: list[str]) -> dict[str, str]:
    """All tensors but those that are to be ignored, which must be there."""
    left = dict(shown)
    for pattern in ignored:
        names = matching(pattern, shown)
        if not names:
            raise ConversionError(f"--ignore {pattern}: there is no such tensor")
        for name in names:
            left.pop(name, None)
    return left


def refuse_foreign(names: Iterable[str], convention: Convention) -> None:
    if names := sorted(names):
        raise ConversionError(
            f"{len(names)} tensors have names that {convention.title} does not use: {listing(names)}"
        )
