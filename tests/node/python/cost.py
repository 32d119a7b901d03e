"""What a Python task costs beside its own work: `python -m tests.node.python.cost`, after `make python-runtime`."""

from __future__ import annotations

import trio

from tests.node.python.test_component import run

TASKS = 100


async def main() -> None:
    outcome = await run("def f(i): return i", [], count=TASKS)
    print(f"{sum(outcome.cpu_us) / TASKS / 1e3:.1f} ms of processor a task that does nothing, of {TASKS}")


if __name__ == "__main__":
    trio.run(main)
