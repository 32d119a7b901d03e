"""Changes to inputs, for where no coverage guides: bits, bytes, pieces cut, doubled, swapped with another's."""

from __future__ import annotations

import random
from collections.abc import Sequence

INTERESTING = (0, 1, 0x7F, 0x80, 0x90, 0x9F, 0xC0, 0xC4, 0xC6, 0xCF, 0xDC, 0xDD, 0xDF, 0xFF)


def changed(dice: random.Random, pool: Sequence[bytes]) -> bytes:
    """One of the pool, with a few changes."""
    data = bytearray(dice.choice(pool))
    for _ in range(1 + dice.randrange(8)):
        at, kind = dice.randrange(len(data) + 1), dice.randrange(7)
        if kind == 0:
            data[at:at] = dice.randbytes(1 + dice.randrange(16))
        elif kind == 1:
            del data[at : at + 1 + dice.randrange(32)]
        elif kind == 2:
            other = dice.choice(pool)
            begin = dice.randrange(len(other) + 1)
            data[at : at + dice.randrange(64)] = other[begin : begin + dice.randrange(64)]
        elif kind == 3:
            data[at:at] = data[at : at + dice.randrange(64)]
        elif at < len(data):
            data[at] = (data[at] ^ 1 << dice.randrange(8)) if kind == 4 else dice.choice(INTERESTING)
    return bytes(data)
