"""Read the tensors of a PyTorch .pth without PyTorch, and without executing anything in it.

A .pth is a pickle, and a pickle is a program. This unpickler knows the few names that a dictionary
of tensors is made of; objects of all others are opaque: nothing is imported, called or kept.
"""

from __future__ import annotations

import builtins
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from . import ConversionError, listing

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
# Depth of nested dictionaries: a pickle can put one in itself.
DEEPEST = 8
ADVICE = "save the weights alone: torch.save(model.state_dict(), …)"


# Named tuples, because a pickle can change the fields of any object that has a __dict__.
class Storage(NamedTuple):
    type: str
    bytes: Callable[[], bytes]

    def read(self) -> np.ndarray:
        array = np.frombuffer(self.bytes(), STORAGES[self.type])
        if self.type == "BFloat16Storage":  # the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        return array


class Tensor(NamedTuple):
    """A strided view of a storage, whose bytes are read on demand."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        array = self.storage.read()
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides))
        if math.prod(self.shape) > 0 and last >= array.size:
            raise ConversionError(
                f"truncated: a tensor of shape {list(self.shape)} ends at element {last} of a "
                f"storage that has {array.size}"
            )
        strides = [s * array.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(array[self.offset :], self.shape, strides)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor | Opaque:
    if isinstance(storage, Opaque):
        return storage
    if (
        not isinstance(storage, Storage)
        or len(shape) != len(strides)
        or not all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    ):
        raise ConversionError("it holds a tensor that torch.save does not write")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class Opaque:
    """An object of unknown kind beside the weights. It can be built from anything, and only knows if it was built from
    tensors."""

    __slots__ = ()
    kind = ""
    # By kind, true if any object of it holds tensors; of the unpickler.
    kinds: dict[str, bool] = {}

    def __new__(cls, *parts: Any) -> Opaque:
        cls.take(*parts)
        return object.__new__(cls)

    def __init__(self, *_: Any):
        pass

    @classmethod
    def take(cls, *parts: Any) -> None:
        cls.kinds[cls.kind] = cls.kinds.get(cls.kind, False) or holds_tensors(parts)

    def __setstate__(self, state: Any) -> None:
        self.take(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.take(value)

    def append(self, value: Any) -> None:
        self.take(value)

    def extend(self, values: Any) -> None:
        self.take(values)

    def add(self, value: Any) -> None:
        self.take(value)


def holds_tensors(value: Any, depth: int = 0) -> bool:
    if depth > DEEPEST or isinstance(value, Tensor):
        return isinstance(value, Tensor)
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, (list, tuple)) and any(holds_tensors(part, depth + 1) for part in value)


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
    **{("torch", name): name for name in STORAGES},
}


class Unpickler(pickle._Unpickler):
    """Based on the one in Python: the one in C allocates all memory that a damaged file asks for."""

    def __init__(self, file: BinaryIO, storage_bytes: Callable[[str], bytes]):
        super().__init__(file, encoding="utf-8")
        self.storage_bytes = storage_bytes
        self.storages: dict[str, Storage] = {}
        self.classes: dict[str, type[Opaque]] = {}
        self.opaque: dict[str, bool] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        kind = f"{module}.{name}"
        if kind not in self.classes:
            self.classes[kind] = type("Opaque", (Opaque,), {"__slots__": (), "kind": kind, "kinds": self.opaque})
            self.opaque[kind] = False
        return self.classes[kind]

    def persistent_load(self, identity: Any) -> Storage | Opaque:
        # ("storage", type, key, device, elements); legacy files add a view, which is always None.
        kind, type, key, *_ = identity
        if kind == "module":  # legacy files hold the source of a module's class
            return type
        if kind == "storage" and isinstance(type, builtins.type) and issubclass(type, Opaque):
            return type()
        if kind != "storage" or type not in STORAGES or any(identity[5:]):
            raise ConversionError("it holds a storage that torch.save does not write")
        return self.storages.setdefault(key, Storage(type, lambda: self.storage_bytes(key)))


def read_pth(path: Path, left_out: list[str] | None = None) -> dict[str, Tensor]:
    """The tensors by their names. Objects that hold tensors without names are added to `left_out`, in words."""
    left_out = [] if left_out is None else left_out
    with path.open("rb") as file:
        state, opaque = read_zip(path) if file.read(2) == b"PK" else read_legacy(path)
    left_out += (f"objects of {kind}, which hold tensors" for kind, holds in opaque.items() if holds)
    tensors = flattened(state, left_out) if isinstance(state, dict) else {}
    if not tensors:
        found = "an object" if isinstance(state, Opaque) else f"a {type(state).__name__}"
        if isinstance(state, dict):
            found = "a dictionary of " + (listing([str(key) for key in state]) or "nothing")
        if opaque:
            found += f", with {listing(sorted(opaque))}, of which nothing is read or executed"
        raise ConversionError(f"expected a dictionary of tensors, found {found}; {ADVICE}")
    return tensors


def flattened(state: dict[Any, Any], left_out: list[str], prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """The tensors in nested dictionaries, under their keys joined by dots. Other entries of a training state, numbers
    and text, do not belong to the network. Lists of tensors, and numbered ones, may be its averages, but have no
    names."""
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            found = {f"{prefix}{key}": value}
        elif isinstance(value, dict) and is_numbered(value):
            left_out.append(f"{prefix}{key}, {len(value)} tensors without names")
            continue
        elif isinstance(value, dict) and depth < DEEPEST:
            found = flattened(value, left_out, f"{prefix}{key}.", depth + 1)
        else:
            if isinstance(value, (list, tuple)) and holds_tensors(value):
                left_out.append(f"{prefix}{key}, {len(value)} tensors without names")
            continue
        if both := tensors.keys() & found.keys():
            raise ConversionError(f"it holds two tensors named {listing(sorted(both))}")
        tensors |= found
    return tensors


def is_numbered(state: dict[Any, Any]) -> bool:
    """Tells a list of tensors by its keys, whole numbers: averages are kept so, in the order of the parameters."""
    return bool(state) and all(isinstance(k, int) and isinstance(v, Tensor) for k, v in state.items())


def read_zip(path: Path) -> tuple[Any, dict[str, bool]]:
    archive = zipfile.ZipFile(path)
    names = archive.namelist()
    root = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
    if root is None:
        raise ConversionError(
            f"a zip archive, but not one that torch.save writes (found: {listing(names)}); "
            f"if it holds a checkpoint, unpack it first"
        )
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ConversionError("written on a big-endian machine; save it on a little-endian one")
    with archive.open(f"{root}data.pkl") as file:
        unpickler = Unpickler(file, lambda key: archive.read(f"{root}data/{key}"))
        return unpickler.load(), unpickler.opaque


def read_legacy(path: Path) -> tuple[Any, dict[str, bool]]:
    """Pickles of a magic number, the protocol, the system, the object and the keys of its storages;
    then these, each after its number of elements."""
    spans: dict[str, tuple[int, int]] = {}

    def storage_bytes(key: str) -> bytes:
        with path.open("rb") as file:
            offset, size = spans[key]
            file.seek(offset)
            return file.read(size)

    with path.open("rb") as file:
        unpickler = lambda: Unpickler(file, storage_bytes)
        if unpickler().load() != LEGACY_MAGIC:
            raise ConversionError(f"a pickle, but not one that torch.save writes; {ADVICE}")
        unpickler().load()
        if not unpickler().load()["little_endian"]:
            raise ConversionError("written on a big-endian machine; save it on a little-endian one")
        state_unpickler = unpickler()
        state = state_unpickler.load()
        for key in unpickler().load():
            elements = int.from_bytes(file.read(8), "little")
            size = elements * np.dtype(STORAGES[state_unpickler.storages[key].type]).itemsize
            spans[key] = file.tell(), size
            if file.seek(size, 1) > path.stat().st_size:
                raise ConversionError(f"truncated: storage {key} should have {size} bytes")
    return state, state_unpickler.opaque
