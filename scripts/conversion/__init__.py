"""What convert.py is made of: readers → names → network → weights → model file."""


class ConversionError(Exception):
    """What was wrong, where, what was expected and found, and what to do."""


def listing(names: list[str], limit: int = 5) -> str:
    """The first few names, for a message."""
    more = f", and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
