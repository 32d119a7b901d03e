"""How much work something is, in steps and not in time: lines of Python, each turn of a loop among them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def steps(act: Callable[[], object]) -> int:
    """Lines that run while `act` does, of whatever module."""
    count = 0

    def follow(_frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal count
        count += 1
        return follow

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        act()
    finally:
        sys.settrace(before)
    return count
