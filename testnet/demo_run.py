"""One run of the demo, from an empty folder to a verdict, with nothing left behind."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import trio

from ..node.config import load_client_config
from ..node.jobfile import JobFile, load_job_file
from ..node.membership_files import load_membership
from ..node.storage.folder import StateFolder
from ..node.storage.lock import FileLock
from .demo_report import Outcome
from .demo_results import Audit, ResultFolder, audit, write_outputs
from .demo_rooms import TIME_SCALE, demo_rooms
from .demo_scene import Condition, Scene
from .demo_view import View
from .demo_watch import Watcher
from .errors import TestnetError
from .network import Testnet
from .registry import Registry

if TYPE_CHECKING:
    from .demo_story import Course

RISK = Path(__file__).resolve().parent.parent / "examples" / "risk"
# A run that takes this long hangs; what it then has is judged, and found wanting.
STORY_TIMEOUT_S = 150.0
LEAVE_PATIENCE_S = 4.0
LOCK_NAME = "demo.lock"
AGGREGATE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Example:
    """The job, and what a single node gives for it."""

    folder: Path
    job: JobFile
    expected_digest: str

    @classmethod
    def load(cls, folder: Path) -> Example:
        """Raises TestnetError, ConfigError."""
        try:
            expected = json.loads((folder / "answer.json").read_bytes())
        except FileNotFoundError:
            raise TestnetError(f"{folder}: not there; the demo runs from a clone of the repository") from None
        return cls(folder, load_job_file(folder / "job.toml"), str(expected["digest"]))

    async def aggregate(self, outputs: Path) -> tuple[dict[str, Any] | None, str]:
        """The answer as the example's own aggregator gives it, or None and what it says."""
        command = [sys.executable, str(self.folder / "aggregate.py"), str(outputs), "--json"]
        command += ["--params", str(self.folder / "params.bin")]
        with trio.fail_after(AGGREGATE_TIMEOUT_S):
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode:
            return None, " ".join(done.stderr.decode(errors="replace").split()[-40:])
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer, ""


class Demo:
    """One run in one folder; nobody else's files in it are touched."""

    def __init__(self, folder: Path, nodes: int, view: View) -> None:
        """Raises TestnetError, StorageError, ConfigError, before anything is started."""
        self._started_s = trio.current_time()
        self._folder = folder
        self._view = view
        self._rooms = demo_rooms(nodes)
        self._example = Example.load(RISK)
        _claim(folder)
        self._lock = FileLock(folder / LOCK_NAME)
        self._net_folder = folder / "net"
        self._results = folder / "results"
        self._outputs = folder / "outputs"
        self._client_log = folder / "client.log"
        self.remove()

    def now_s(self) -> float:
        """Since the start."""
        return trio.current_time() - self._started_s

    async def run(self) -> Outcome:
        """Start, play, end, judge. Raises TestnetError, ClientError; nothing runs any more in any case."""
        with _logs_in(self._client_log):
            return await self._run()

    async def _run(self) -> Outcome:
        net = Testnet.create(self._net_folder, rooms=self._rooms)
        scene = Scene(self._rooms, {name: node.peer_id for name, node in net.nodes.items()})
        watcher = Watcher(net, scene, self.now_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._view.run, scene, self.now_s)
            try:
                linked_s = await self._start(net, scene)
                nursery.start_soon(watcher.run)
                course = await self._play(net, scene, watcher)
                watcher.stop()
                # The heaters leave in order while what they computed is checked.
                async with trio.open_nursery() as ending:
                    ending.start_soon(_end, net, scene, LEAVE_PATIENCE_S)
                    found, answer, fault = await self._judge(net, course)
            finally:
                with trio.CancelScope(shield=True):
                    await _end(net, scene, 0.0)
            scene.take_end()
            scene.tell(self.now_s(), "the heaters have left")
            nursery.cancel_scope.cancel()
        self._view.finish(scene, self.now_s())
        return Outcome(
            scene=scene,
            course=course,
            audit=found,
            answer=answer,
            answer_fault=fault,
            expected_digest=self._example.expected_digest,
            left_behind=watcher.left_behind(),
            started_s=linked_s,
            seconds=self.now_s(),
        )

    async def _start(self, net: Testnet, scene: Scene) -> float:
        """Returns when the heaters are linked, and the time that it then was."""
        scene.tell(self.now_s(), f"{len(self._rooms)} heaters start, one process each; {_clock()}")
        async with trio.open_nursery() as nursery:
            # The client's libraries take a second or two to load: meanwhile, and off the view's thread.
            nursery.start_soon(trio.to_thread.run_sync, import_module, f"{__package__}.demo_story")
            await net.start(with_parent=True)
        scene.tell(self.now_s(), f"{len(self._rooms)} heaters have found each other")
        return self.now_s()

    async def _play(self, net: Testnet, scene: Scene, watcher: Watcher) -> Course:
        from .demo_story import Story

        story = Story(net, scene, watcher, self._example.job, ResultFolder(self._results), self.now_s)
        with trio.move_on_after(STORY_TIMEOUT_S) as limit:
            await story.play()
        if limit.cancelled_caught:
            scene.tell(self.now_s(), f"given up: not done within {STORY_TIMEOUT_S:g} s")
        return story.course

    async def _judge(self, net: Testnet, course: Course) -> tuple[Audit, Mapping[str, Any] | None, str]:
        """What lies on disk, checked anew; the answer from it, or why there is none."""
        found = await trio.to_thread.run_sync(self._audit, net, course)
        if not found.complete:
            return found, None, "the results are not complete"
        answer, fault = await self._example.aggregate(self._outputs)
        return found, answer, fault

    def _audit(self, net: Testnet, course: Course) -> Audit:
        config = load_client_config(net.client_config)
        policy = load_membership(config.mesh, StateFolder(config.client.state)).policy
        tasks = self._example.job.tasks
        assert tasks is not None, "a loaded job file says how many"
        found = audit(ResultFolder(self._results).batches(), course.job_id, tasks, policy)
        write_outputs(found.outputs, self._outputs)
        return found

    # -- files -----------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Let another run have the folder."""
        self._lock.release()

    def remove(self) -> None:
        """All that a run of the demo makes in its folder. Raises TestnetError, also while a node of it runs."""
        try:
            if Registry(self._net_folder).exists():
                Testnet(self._net_folder).wipe()
            for folder in (self._results, self._outputs, self._net_folder):
                if folder.is_dir():
                    shutil.rmtree(folder)
            self._client_log.unlink(missing_ok=True)
        except OSError as error:
            raise TestnetError(f"{error.filename}: cannot be removed: {error.strerror}") from error

    def remove_all(self) -> None:
        """And the folder itself, if nothing of others is in it."""
        self.remove()
        self.release()
        (self._folder / LOCK_NAME).unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()


@contextmanager
def _logs_in(path: Path) -> Iterator[None]:
    """What this process's client and its libraries log goes into a file: the screen is the view's."""
    with path.open("w", encoding="utf-8") as file:
        # Libraries' loggers have no handler of their own, and libp2p's hand nothing on to the root.
        before, logging.lastResort = logging.lastResort, logging.StreamHandler(file)
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file), cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.reset_defaults()
            logging.lastResort = before


def _claim(folder: Path) -> None:
    """Make the folder, or take one that an earlier run left. Raises TestnetError for anybody else's."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = not (folder / LOCK_NAME).exists() and any(folder.iterdir())
    except OSError as error:
        raise TestnetError(f"{folder}: cannot be used: {error.strerror}") from error
    if foreign:
        raise TestnetError(f"{folder}: holds other files; choose another --folder, or an empty one")


async def _end(net: Testnet, scene: Scene, patience_s: float) -> None:
    """Nothing of it runs any more. Who is frozen is not woken: it was frozen for good."""
    for name, room in scene.rooms.items():
        if room.condition is Condition.FROZEN and net.nodes[name].pid is not None:
            net.nodes[name].kill()
    await net.down(patience_s=patience_s)


def _clock() -> str:
    return f"a second here is {TIME_SCALE / 60:g} minutes in their rooms"
