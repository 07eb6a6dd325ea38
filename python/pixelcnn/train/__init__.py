"""Training on images of one's own: data → network → likelihood → checkpoints and model file. Needs nothing compiled.

`python -m pixelcnn train` and `scripts/train.py` run `command.py`.
"""


class TrainingError(Exception):
    """A refused input or setting: the message says what, where, expected, found, and what to do."""
