"""Where things are, and what to do without PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "python"), str(Path(__file__).parent)]

OLDEST = (2, 4)
try:
    import torch

    PRESENT = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= OLDEST
except ImportError:
    PRESENT = False
if not PRESENT:  # test_pytorch.py stays and is skipped, visibly
    collect_ignore_glob = [p.name for p in Path(__file__).parent.glob("test_*.py") if p.name != "test_pytorch.py"]
else:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(0)
    if PRESENT:
        torch.manual_seed(0)
