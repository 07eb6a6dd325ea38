"""`python -m pixelcnn.train`: see `command.py`."""

from __future__ import annotations

import sys

from ..convert import console

console.prepare()

from .command import main  # noqa: E402

sys.exit(console.run(main))
