"""Checks of what a user gives: TypeError for what is no such thing, ValueError for one out of bounds. ``noun`` starts the message."""

__all__ = ["check_int", "check_power_of_two"]


def check_int(noun, value, low=None, high=None):
    """An integer, of at least ``low``, or from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{noun} must be an integer, not {value!r}")
    if high is not None and not low <= value <= high:
        raise ValueError(f"{noun} must be {low} to {high}, not {value}")
    if low is not None and value < low:
        raise ValueError(f"{noun} must be at least {low}, not {value}")


def check_power_of_two(noun, value):
    check_int(noun, value)
    if value < 1 or value & (value - 1):
        raise ValueError(f"{noun} must be a power of two, at least 1, not {value}")
