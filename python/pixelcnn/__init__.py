"""Fast exact sampling from causal convolutional image models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compile import Sampler, compile
    from .lowering.errors import Refused

__all__ = ["Refused", "Sampler", "compile"]


def __getattr__(name: str) -> Any:
    """Import `compile` and its types on first use: they need PyTorch, the rest does not."""
    if name in ("compile", "Sampler"):
        from importlib import import_module

        # A plain `from .compile import compile` would leave the submodule under the function's name.
        room = import_module(".compile", __name__)
        globals()["compile"], globals()["Sampler"] = room.compile, room.Sampler
        return globals()[name]
    if name == "Refused":
        from .lowering.errors import Refused

        return Refused
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
