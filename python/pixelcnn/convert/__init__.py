"""From checkpoints to model files: readers → names → network → weights → model file. Needs nothing compiled.

`memory.convert` gives the bytes of a model file; `python -m pixelcnn.convert` and `scripts/convert.py` write one.
"""

from ..errors import ConversionError

__all__ = ["COMPILE", "ConversionError", "listing"]

# Advice for a network of PyTorch whose file does not tell what it computes.
COMPILE = "pixelcnn.compile(net, …) takes any causal network as a live module (docs/compile.md)"


def listing(names: list[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
