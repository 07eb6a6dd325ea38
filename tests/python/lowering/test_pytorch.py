"""Says so where the tests of the lowering cannot run."""

from __future__ import annotations

import pytest


def test_pytorch_is_new_enough():
    torch = pytest.importorskip(
        "torch", minversion="2.4", reason="the lowering needs PyTorch 2.4: its tests were left out"
    )
    assert torch.__version__
