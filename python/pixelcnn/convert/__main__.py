"""`python -m pixelcnn.convert`: see `command.py`."""

from __future__ import annotations

import sys

from . import console

console.prepare()

from .command import main  # noqa: E402

sys.exit(console.run(main))
