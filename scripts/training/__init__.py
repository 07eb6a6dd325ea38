"""What train.py is made of: data → network → likelihood → checkpoints and model file."""

import source_tree  # noqa: F401


class TrainingError(Exception):
    """What was wrong, where, what was expected and found, and what to do."""
