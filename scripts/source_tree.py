"""Lets scripts import the Python package of this source tree; what they need of it needs no compiled part."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
