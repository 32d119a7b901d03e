"""Runs one call of a shipped function in the Python of a node's owner, natively, in the sandbox of native tasks.

    python hearth_native.py ENTRY INDEX <packed-argument >packed-result

Beside it lie the job's source, job.py, and hearth_values.py. What is printed goes to stderr. `random`, and NumPy's own
where the source imports it, are seeded by the source and the task's index.
"""

import hashlib
import importlib
import os
import random
import sys
import traceback
from typing import Any

SUCCESS, FAILED, BAD_RESULT = 0, 1, 3
FOLDER = os.path.dirname(os.path.abspath(__file__))
DEPTH_MAX = 64


def main(entry: str, index: int) -> int:
    """The process's exit code: 0, 1 for an exception, 3 for a result that cannot travel or a source without `entry`."""
    sys.path.insert(0, FOLDER)
    import hearth_values

    sys.path.pop(0)
    packed = sys.stdin.buffer.read()
    result_fd = os.dup(1)
    os.dup2(2, 1)
    path = os.path.join(FOLDER, "job.py")
    with open(path, encoding="utf-8") as file:
        source = file.read()
    names: dict[str, object] = {"__name__": "job"}
    try:
        exec(compile(source, path, "exec"), names)
        function = names.get(entry)
    except BaseException:  # boundary: whatever a stranger's source raises is the task's failure
        traceback.print_exc()
        return BAD_RESULT
    if not callable(function):
        print(f"the source has no function {entry}")
        return BAD_RESULT
    _seed(source, index)
    try:
        result = function(hearth_values.unpack(packed) if packed else index)
    except BaseException:  # boundary: as above; SystemExit too
        traceback.print_exc()
        return FAILED
    try:
        answer = hearth_values.pack(_plain(result, 0))
    except hearth_values.ValueRefused as error:
        print(error)
        return BAD_RESULT
    sys.stdout.flush()
    with open(result_fd, "wb") as out:
        out.write(answer)
    return SUCCESS


def _seed(source: str, index: int) -> None:
    seed = hashlib.sha256(source.encode() + index.to_bytes(8, "little")).digest()
    random.seed(seed)
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random").seed(int.from_bytes(seed[:4], "little"))


def _plain(value: Any, depth: int) -> object:
    """NumPy's numbers and arrays as Python's own, also within lists, tuples and dicts."""
    if depth > DEPTH_MAX:  # what packs it refuses it by name
        return value
    kind = type(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if kind is list:
        return [_plain(item, depth + 1) for item in value]
    if kind is tuple:
        return tuple(_plain(item, depth + 1) for item in value)
    if kind is dict:
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
