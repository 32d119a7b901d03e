"""`python -m hearthmesh.testnet.history FOLDER`: the checker as a program of its own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .check import Verdict, check_folder
from .lines import HistoryError


def main(arguments: Sequence[str]) -> int:
    """0: every check holds.  1: one does not.  2: there is no history to check."""
    parser = argparse.ArgumentParser(prog="history", description="Check what nodes and clients logged.")
    parser.add_argument("folder", type=Path, help="a test network's folder, or one with *.jsonl files")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        verdict = check_folder(options.folder)
    except HistoryError as error:
        sys.stderr.write(f"history: {error}\n")
        return 2
    text = json.dumps(verdict.to_value()) if options.json else describe(verdict)
    sys.stdout.write(text + "\n")
    return 1 if verdict.violations else 0


def describe(verdict: Verdict) -> str:
    """For people."""
    found = verdict.to_value()
    lines = [
        f"{found['lines']} lines of {found['lives']} lives of {found['nodes']} nodes and clients",
        f"{found['tasks_accepted']} of {found['tasks_submitted']} tasks accepted; {found['copies']} were run "
        f"once more to compare; {found['duplicates']} results came twice, {found['collisions']} grants collided",
        f"receipts {found['receipts_j']:.1f} J, meters {found['metered_j']:.1f} J",
    ]
    for each in verdict.violations:
        lines.append(f"VIOLATED {each.check}: {each.text}")
        lines.extend(f"  {line['file']}:{line['line']}: {line['text']}" for line in each.lines)
    if not verdict.violations:
        lines.append("every check holds")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
