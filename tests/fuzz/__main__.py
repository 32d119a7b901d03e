"""`python -m tests.fuzz`: feeds hostile bytes to every target, and says how many it tried. `make fuzz MINUTES=10`.

Coverage-guided where atheris is installed; else changed seeds. Each target, and each state machine, runs in a process
of its own, as many at once as there are cores, and each has the same share of the time; what it takes to start them,
some seconds each under atheris, comes on top.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.fuzz.mutate import changed

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

# The targets of targets.py, which is imported only where it is run: atheris has to see our code being imported.
MACHINE_NAMES = ("reopened", "siege")
NAMES = (
    *("archives", "codec", "files", "journal", "mesh", "mesh-bytes", "outputs", "reopened", "restore", "siege"),
    *("streams", "wasm"),
)

# A target that holds more than this has no bound somewhere; a process begins at about 120 MB, atheris adds its own.
RESIDENT_MB_MAX = 1_500
INPUT_BYTES_MAX = 4_096

# Of the processor, which one input may take: by the clock, a busy machine makes each of them slow.
INPUT_CPU_S_MAX = 20.0

# Which a process may take longer than its share: to begin, for the input that it is at, or to make a finding smaller.
OVERTIME_S = 480.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of all targets together (default: 10)")
    parser.add_argument("--target", choices=NAMES, action="append", help="only these")
    parser.add_argument("--engine", choices=("auto", "atheris", "random"), default="auto")
    parser.add_argument("--seed", type=int, default=None, help="of what is drawn (default: the time)")
    parser.add_argument("--out", type=Path, default=Path(".fuzz"), help="corpus and findings (default: .fuzz)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--replay", type=Path, help="play a finding's session again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at once (default: a core each)")
    parser.add_argument("--in-process", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.replay)
    engine = options.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "random"
    seed = int(time.time()) if options.seed is None else options.seed
    if options.in_process in MACHINE_NAMES:
        run_machine(options.in_process, options.seconds, seed, options.out)
        return 0
    if options.in_process:
        trio.run(run_one, options.in_process, engine, options.seconds, seed, options.out)
        return 0
    names, began_s = options.target or NAMES, time.monotonic()
    share_s = share_of(options.minutes * 60, options.jobs, len(names))
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda name: run_child(name, engine, share_s, seed, options.out), names))
    if options.json:
        print(json.dumps({"engine": engine, "seed": seed, "targets": results}))
    else:
        for each in results:
            rate = each["inputs"] / max(each["seconds"], 1e-9)
            print(
                f"{each['target']:<12} {each['inputs']:>9,} inputs  {rate:>7,.0f}/s  {each['resident_mb']:>5} MB  ",
                end="",
            )
            print(each["finding"] or "nothing found")
        took = time.monotonic() - began_s
        print(f"{sum(each['inputs'] for each in results):,} inputs in {took:.0f} s by {engine}, seed {seed}")
    return 1 if any(each["finding"] for each in results) else 0


def share_of(seconds: float, jobs: int, targets: int) -> float:
    """Of one target, if all of them are to take so long; there are never more at once than there are targets."""
    return seconds * min(jobs, targets) / targets


def run_child(name: str, engine: str, seconds: float, seed: int, out: Path) -> dict[str, Any]:
    """One target in a process of its own; whatever ends it is a finding, and so is that it tried nothing."""
    tally = out / f"{name}.tally.json"
    tally.parent.mkdir(parents=True, exist_ok=True)
    tally.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", "--in-process", name, "--engine", engine]
    command += ["--seconds", str(seconds), "--seed", str(seed), "--out", str(out)]
    told: dict[str, Any] = {"inputs": 0, "seconds": 0.0, "resident_mb": 0, "finding": ""}
    ended = ""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds + OVERTIME_S,
        )
        if done.returncode:
            ended = f"the process ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        ended = f"it went on for {OVERTIME_S:.0f} s more than it had"
    if tally.exists():
        told = json.loads(tally.read_text())
    told["finding"] = told["finding"] or ended or ("" if told["inputs"] else "nothing was tried")
    return {"target": name, **told}


class Tally:
    """Counts inputs, and writes down the session of a finding."""

    def __init__(self, name: str, seconds: float, out: Path) -> None:
        self.name, self.seconds, self.out = name, seconds, out
        self.inputs, self.began_s = 0, time.monotonic()
        self.wrote_s = 0.0

    @property
    def over(self) -> bool:
        return self.inputs > 0 and time.monotonic() - self.began_s >= self.seconds

    def run(self, target: Target, data: bytes) -> None:
        began_s = time.process_time()
        try:
            target.run(data[:INPUT_BYTES_MAX])
            if time.process_time() - began_s > INPUT_CPU_S_MAX:
                raise TimeoutError(f"more than {INPUT_CPU_S_MAX:g} s of processor")
            self.count()
        except BaseException as error:
            inputs = target.session or [data]
            path = self.out / f"{self.name}-{int(time.time())}.json"
            told = {"target": self.name, "error": repr(error)[:500], "inputs": [each.hex() for each in inputs]}
            path.write_text(json.dumps(told, indent=1))
            self.write(f"{type(error).__name__}: {error}; replay: python -m tests.fuzz --replay {path}")
            raise

    def count(self) -> None:
        self.inputs += 1
        if self.inputs % 256 == 0 and resident_mb() > RESIDENT_MB_MAX:
            raise MemoryError(f"{resident_mb()} MB resident")
        if time.monotonic() - self.wrote_s > 1.0:
            self.write("")

    def write(self, finding: str) -> None:
        self.wrote_s = time.monotonic()
        told = {
            "inputs": self.inputs,
            "seconds": round(time.monotonic() - self.began_s, 1),
            "resident_mb": resident_mb(),
            "finding": finding[:400],
        }
        (self.out / f"{self.name}.tally.json").write_text(json.dumps(told))


async def run_one(name: str, engine: str, seconds: float, seed: int, out: Path) -> None:
    """In a trio run, since what the transport's parts do at once they do on its clock."""
    target = load(name, guided=engine == "atheris")
    tally = Tally(name, seconds, out)
    if engine == "atheris":
        run_atheris(target, tally, seed, out)
    dice, pool = random.Random(seed), list(target.seeds())
    while not tally.over:
        data = changed(dice, pool)
        tally.run(target, data)
        if dice.random() < 0.02:
            pool[dice.randrange(len(pool))] = data
    tally.write("")


class TimeIsUp(BaseException):
    """No failure, for Hypothesis: it lets it pass."""


def run_machine(name: str, seconds: float, seed: int, out: Path) -> None:
    """Counts the steps of its runs."""
    from tests.fuzz.machines import MACHINES, Counted, play

    tally = Tally(name, seconds, out)

    def step() -> None:
        tally.count()
        if tally.over:
            raise TimeIsUp

    Counted.on_step = step
    try:
        while not tally.over:
            play(MACHINES[name], examples=200, steps=50, drawn_from=seed)
            seed += 1
    except TimeIsUp:
        tally.write("")
    except Exception as error:
        if isinstance(error.__context__, TimeIsUp):  # which came in a run that was a second one of the same
            tally.write("")
            return
        path = out / f"{name}-{int(time.time())}.txt"
        path.write_text("".join(traceback.format_exception(error)))
        tally.write(f"{type(error).__name__}: {error}; the steps: {path}")
        raise


def load(name: str, *, guided: bool) -> Target:
    """guided: our code is rewritten as it is imported, to tell which branches an input takes."""
    if not guided:
        from tests.fuzz.targets import TARGETS

        return TARGETS[name]
    import atheris

    with atheris.instrument_imports(include=["hearthmesh"]):
        from tests.fuzz.targets import TARGETS

    return TARGETS[name]


def run_atheris(target: Target, tally: Tally, seed: int, out: Path) -> None:
    """Ends the process: libFuzzer does not return."""
    import atheris

    corpus = out / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(data)

    def one(data: bytes) -> None:
        if tally.over:
            tally.write("")
            os._exit(0)
        tally.run(target, data)

    flags = [f"-seed={seed % (1 << 31) or 1}", f"-max_len={INPUT_BYTES_MAX}"]
    atheris.Setup(["fuzz", *flags, f"-artifact_prefix={out}/", "-rss_limit_mb=0", "-timeout=36000", str(corpus)], one)
    atheris.Fuzz()


def resident_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def replay(path: Path) -> int:
    told = json.loads(path.read_text())
    target = load(told["target"], guided=False)

    async def play() -> None:
        for each in told["inputs"]:
            target.run(bytes.fromhex(each))

    trio.run(play)
    print(f"{len(told['inputs'])} inputs did no harm")
    return 0


if __name__ == "__main__":
    sys.exit(main())
