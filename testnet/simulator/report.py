from pathlib import Path

from .run import Outcome


def write_report(outcome: Outcome, path: Path) -> None:
    raise NotImplementedError
