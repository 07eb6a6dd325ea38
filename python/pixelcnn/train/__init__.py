"""Training on images of one's own: data → network → likelihood → checkpoints and model file. Needs nothing compiled.

`python -m pixelcnn train` and `scripts/train.py` run `command.py`.
"""


class TrainingError(Exception):
    """An error that says what was wrong, where, what was expected and found, and what to do."""
