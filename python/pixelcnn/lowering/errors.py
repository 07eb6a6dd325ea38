"""The refusal of the lowering, in one sentence."""

from __future__ import annotations


class Refused(ValueError):
    """The module cannot be compiled. The message names the operation and the module's source line."""
