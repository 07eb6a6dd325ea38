"""What train.py is made of: data → network → likelihood → checkpoints and model file."""


class TrainingError(Exception):
    """What was wrong, where, what was expected and found, and what to do."""
