"""The exceptions of the package, with the facts as attributes."""

from __future__ import annotations


class Error(Exception):
    """Anything that the library refuses or fails at."""


class ModelError(Error):
    """A model file is refused. `tensor` is the name of the tensor that it is about, or None."""

    def __init__(self, message: str = "", *, tensor: str | None = None):
        super().__init__(message)
        self.tensor = tensor


class ConversionError(Error):
    """A refused checkpoint: the message says what, where, expected, found, and what to do."""


class Refused(Error, ValueError):
    """A module cannot be compiled. The message names the operation and the module's source line."""


class RequestError(Error, ValueError):
    """A request does not fit its model."""


class EngineError(Error):
    """An engine gave up, and returns no image."""


class NotFinite(EngineError):
    """The network gave NaN or infinity for `image`, an index, at `row` and `column`, which may be None."""

    def __init__(self, message: str = "", *, image: int = 0, row: int | None = None, column: int | None = None):
        super().__init__(message)
        self.image, self.row, self.column = image, row, column


class BatchTooLarge(EngineError):
    """`batch` images do not fit at once; `largest` do, or it is None where that is not known."""

    def __init__(self, message: str = "", *, batch: int = 0, largest: int | None = None):
        super().__init__(message)
        self.batch, self.largest = batch, largest


class DeviceError(EngineError):
    """There is no such device, or it failed, or it cannot run the model."""
