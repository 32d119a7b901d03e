"""What can go wrong with a test network."""

from __future__ import annotations


class TestnetError(Exception):
    """One line: what is wrong, where, what to do."""

    __test__ = False
