"""`load`: a model by its name, its file, its bytes, or from a checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._pixelcnn import shipped_bytes, shipped_names
from .errors import ConversionError, ModelError
from .model import Model

# Last bytes of a TensorFlow checkpoint of one file.
_TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def builtin_models() -> list[str]:
    """Names of the models that come with the package.

    >>> import pixelcnn
    >>> "mnist" in pixelcnn.builtin_models()
    True
    """
    return shipped_names()


def load(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | None = None,
    *,
    state_dict: Mapping[str, Any] | None = None,
    name: str | None = None,
    **conversion: Any,
) -> Model:
    """Read a model.

    source: the name of a built-in model, the path of a model file (which wins over such a name), its bytes, or the path of
        a checkpoint of PixelCNN++: of TensorFlow, a .pth, or a safetensors file with the names of either.
    state_dict: instead, the tensors of a PixelCNN++ of PyTorch, `net.state_dict()`.
    name: its name; by default that of its file.
    conversion: for checkpoints and state dicts, the flags of `scripts/convert.py --help`: `height`, `width`, `classes`,
        `nonlinearity`, `dilations`, `raw`, `class_tensor`, `ignore`, `dtype`, and so on.

    Raises `pixelcnn.ModelError` for a file that is refused, `pixelcnn.ConversionError` for a checkpoint, and
    `FileNotFoundError` if there is none. Checkpoints need the extra `convert`.

    >>> import pixelcnn
    >>> pixelcnn.load("avatars")
    <pixelcnn.Model avatars: 16×16×3, 256 levels, 4 classes>
    """
    if (source is None) == (state_dict is None):
        raise TypeError("load: expected a model, or state_dict")
    if state_dict is not None:
        return Model(_converted(state_dict, conversion), name or "state_dict")
    if isinstance(source, (bytes, bytearray, memoryview)):
        _refuse(conversion)
        return Model(bytes(source), name or "model")
    assert source is not None
    path = Path(source)
    if isinstance(source, str) and not path.is_file():
        contents = shipped_bytes(source)
        if contents is not None:
            _refuse(conversion)
            return Model(contents, name or source)
    if _is_checkpoint(path):
        return Model(_converted(path, conversion), name or path.stem)
    _refuse(conversion)
    if not path.exists():
        known = ", ".join(shipped_names())
        raise FileNotFoundError(f"{path}: neither a file nor a built-in model: {known}")
    try:
        return Model(path.read_bytes(), name or path.stem)
    except ModelError as error:
        raise ModelError(f"{path}: {error}", tensor=error.tensor) from None


def _converted(checkpoint: Path | Mapping[str, Any], options: dict[str, Any]) -> bytes:
    try:
        from .convert.memory import convert
    except ModuleNotFoundError as error:
        if error.name != "safetensors":
            raise
        raise ConversionError(f"checkpoints need the package {error.name}: pip install 'pixelcnn[convert]'") from None
    return convert(checkpoint, **options)


def _refuse(conversion: dict[str, Any]) -> None:
    if conversion:
        raise TypeError(f"load: {', '.join(conversion)}: for checkpoints alone, and this is a model")


def _is_checkpoint(path: Path) -> bool:
    """True if the content of a file is a checkpoint to convert."""
    if os.path.isfile(f"{path}.index"):
        return True
    if not path.is_file():
        return False
    if path.suffix in (".index", ".meta") or path.suffix.startswith(".data-"):
        return True
    with path.open("rb") as file:
        head = file.read(9)
        if head[8:] == b"{":
            length = int.from_bytes(head[:8], "little")
            if length > 1 << 24:
                return False
            try:
                header = json.loads(b"{" + file.read(length - 1))
                ours = str(header.get("__metadata__", {}).get("format", ""))
            except (ValueError, AttributeError):
                return False
            return not ours.startswith("pixelcnn")
        if head.startswith((b"PK\x03\x04", b"\x80")):
            return True
        file.seek(max(0, path.stat().st_size - len(_TABLE_MAGIC)))
        return file.read() == _TABLE_MAGIC
