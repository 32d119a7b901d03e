"""Who runs what, by each policy; `POLICIES` names them."""

from __future__ import annotations

from collections.abc import Callable

from ..scene import Policy, Scene
from .central import Central
from .ours import Ours
from .qarnot import Qarnot
from .random_stealing import RandomStealing

# By name: what makes one for a scene and a seed. The optimum is no policy that acts: it is solved (`optimum.py`).
POLICIES: dict[str, Callable[[Scene, int], Policy]] = {
    "ours": Ours,
    "central": Central,
    "random": RandomStealing,
    "qarnot": Qarnot,
}
