"""What must hold, by name, watched at every step where that is cheap, and at the end where it is not."""

from .watch import ALL, Checkers, Violation

__all__ = ["ALL", "Checkers", "Violation"]
