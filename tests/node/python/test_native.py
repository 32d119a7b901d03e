"""Python functions in a Python of the node's owner: what is shipped, what runs it, and both on a mesh."""

import os
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
from numpy.linalg import norm

from hearthmesh.node.client import Client
from hearthmesh.node.client.errors import ClientError, JobFailed
from hearthmesh.node.client.python_job import python_request, unpack_native
from hearthmesh.node.config import NativeCommandSettings, NativeSettings
from hearthmesh.node.execution.native_folders import is_reachable
from hearthmesh.node.python.guest import hearth_native
from hearthmesh.node.python.guest.hearth_values import pack, unpack
from hearthmesh.node.python.source import SourceRefused, source_of
from tests.end_to_end.inside import inside, until_linked

GUEST = Path(hearth_native.__file__).parent
PYTHON = Path("/usr/bin/python3")
PACKAGES = Path(sysconfig.get_paths()["purelib"])
WITHIN_S = 240


def run(folder: Path, source: str, argument: object = 2, entry: str = "f", index: int = 7) -> tuple[int, bytes, str]:
    """(exit, stdout, stderr) of the runner, outside of any sandbox."""
    for name in ("hearth_native.py", "hearth_values.py"):
        shutil.copy(GUEST / name, folder)
    (folder / "job.py").write_text(source)
    command = [sys.executable, "-s", "-P", str(folder / "hearth_native.py"), entry, str(index)]
    done = subprocess.run(command, input=pack(argument), capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


def test_a_result_is_on_stdout_and_what_is_printed_is_not(tmp_path: Path) -> None:
    source = "import os\ndef f(x):\n    print('hot')\n    os.write(1, b'raw ')\n    return (x, [x / 2], {'a': b'c'})\n"
    code, stdout, stderr = run(tmp_path, source)
    assert (code, unpack(stdout)) == (0, (2, [1.0], {"a": b"c"}))
    assert sorted(stderr.split()) == ["hot", "raw"]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("def f(x): return 1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("def f(x): raise SystemExit(0)", 1, "SystemExit"),
        ("def f(x): return object()", 3, "a builtins.object cannot travel"),
        ("def f(x): return {1, 2}", 3, "a builtins.set cannot travel"),
        ("def g(x): return x", 3, "the source has no function f"),
        ("import no_such_module", 3, "No module named 'no_such_module'"),
        ("def f(x): return hearth_values", 1, "NameError"),
    ],
)
def test_what_goes_wrong_has_its_exit_code_and_words(tmp_path: Path, source: str, code: int, words: str) -> None:
    found, stdout, stderr = run(tmp_path, source)
    assert (found, stdout) == (code, b"")
    assert words in stderr


def test_numpys_numbers_and_arrays_come_back_as_pythons(tmp_path: Path) -> None:
    source = (
        "import numpy as np\ndef f(x):\n    return [np.float64(x), (np.arange(3),), {'m': np.eye(2)}, np.int8(1)]\n"
    )
    assert unpack(run(tmp_path, source)[1]) == [2.0, ([0, 1, 2],), {"m": [[1.0, 0.0], [0.0, 1.0]]}, 1]
    assert run(tmp_path, "import numpy as np\ndef f(x): return np.array([object()])")[0] == 3


def test_randomness_follows_from_the_source_and_the_tasks_number(tmp_path: Path) -> None:
    source = "import random, numpy\ndef f(x): return [random.random(), numpy.random.random()]\n"
    first, again, other = (run(tmp_path, source, index=index)[1] for index in (1, 1, 2))
    assert first == again != other
    assert run(tmp_path, source + "# changed\n", index=1)[1] != first


def of_numpy(x: float) -> float:
    return float(np.exp(x) + norm([x, x]))


def of_its_own(x: float) -> float:
    return of_numpy(x) + os.getpid() * 0


def throws(count: int) -> float:
    return sum(random.random() for _ in range(count)) / count


def of_this_test(x: Path) -> Any:
    return hearth_native.main("f", 1)


def test_installed_packages_are_imported_and_ones_own_functions_shipped() -> None:
    source, entry = source_of(of_its_own, native=True)
    assert entry == "of_its_own"
    assert source.splitlines()[:3] == [
        "from numpy.linalg import norm as norm",
        "import numpy as np",
        "import os as os",
    ]
    assert "def of_numpy" in source and "def of_its_own" in source


def test_what_the_owner_cannot_have_is_refused_as_is_numpy_in_the_component() -> None:
    with pytest.raises(SourceRefused, match="uses the module hearthmesh.*which is your own"):
        source_of(of_this_test, native=True)
    with pytest.raises(SourceRefused, match="uses the module numpy; Python tasks have"):
        source_of(of_numpy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runtime": "wasm"}, 'runtime "python" or "native", not "wasm"'),
        ({"command": "python"}, 'command is for runtime="native"'),
        ({"runtime": "native", "files": {}}, "files cannot be chosen for a Python function"),
    ],
)
def test_what_cannot_be_chosen_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        python_request(throws, [1], **options)


@pytest.mark.parametrize("output", [b"", b"\x01", b"\x92\xc4\x00\x80", b"\x92\xc4\x02\xd3\x00\x80"])
def test_an_output_that_is_no_result_is_an_error_of_its_own(output: bytes) -> None:
    with pytest.raises(ClientError, match="a result that is no"):
        unpack_native(output)


def allowed() -> NativeSettings:
    """The system's Python, with this one's packages; skips where the sandbox's user could not use them."""
    if not PYTHON.exists() or shutil.which("bwrap") is None:
        pytest.skip("there is no system Python, or no bubblewrap")
    version = subprocess.run([PYTHON, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    if version.stdout.strip() != str(sys.version_info[:2]) or not is_reachable(PACKAGES, 64_100):
        pytest.skip("the system's Python cannot import this one's packages")
    command = NativeCommandSettings(
        path=PYTHON,
        arguments=("-s", "-P"),
        environment={"PYTHONPATH": str(PACKAGES), "OPENBLAS_NUM_THREADS": "1"},
        binds=(str(PACKAGES),),
    )
    return NativeSettings(enabled=True, commands={"numpy": command})


async def test_a_function_that_uses_numpy_is_mapped_and_compared_within_a_tolerance(tmp_path: Path) -> None:
    native = allowed()
    async with inside(tmp_path) as mesh:
        nodes = [await mesh.start(name, native=native) for name in ("one", "two")]
        await until_linked(nodes[1], 1)
        async with Client.connect(mesh.client()) as client:
            options = {"runtime": "native", "command": "numpy"}
            with trio.fail_after(WITHIN_S):
                found = await client.map(
                    of_its_own, [0.0, 1.0, 2.0], verification="quorum(2)", comparator="values(rel=1e-12)", **options
                )
                assert found == pytest.approx([of_numpy(x) for x in (0.0, 1.0, 2.0)], rel=1e-12)
                with pytest.raises(JobFailed, match=r"task 1 ended with exit code 1: ZeroDivisionError"):
                    await client.map(throws, [10, 0], **options)
                with pytest.raises(JobFailed, match='allows the command "python"; allowed are: '):
                    await client.map(throws, [1], runtime="native")
        assert all(node.native is not None and node.native.cpu_us > 0 for node in nodes)
