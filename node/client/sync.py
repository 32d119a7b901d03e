"""The client for programs without trio: the same calls, blocking."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import trio

from ...protocol.messages import JobStatus
from ..config import ClientConfig
from ..jobfile import JobFile
from .errors import ClientError, single_error
from .job import Job
from .request import JobRequest
from .result import Result
from .session import Client

T = TypeVar("T")
_END = object()
# Results that may wait for a slow consumer; the rest stays at the replica.
QUEUE_MAX = 1024


class SyncJob:
    """A job, with blocking calls."""

    def __init__(self, owner: SyncClient, job: Job) -> None:
        self._owner = owner
        self._job = job
        self.id = job.id
        self.spec = job.spec

    def status(self) -> JobStatus:
        return self._owner.call(self._job.status)

    def cancel(self) -> None:
        self._owner.call(self._job.cancel)

    def results(self) -> Iterator[Result]:
        """Each task's verified result once, as they come."""
        return self._owner.iterate(self._job)


class SyncClient:
    """Runs a `Client` in a thread of its own. Use it with `with`."""

    def __init__(self, config: ClientConfig | Path | str | None = None) -> None:
        self._config = config
        self._token: trio.lowlevel.TrioToken | None = None
        self._client: Client | None = None
        self._stop: trio.Event | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hearth-client", daemon=True)

    def __enter__(self) -> SyncClient:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None and self._stop is not None:
            self._token.run_sync_soon(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            # The boundary of the thread: whatever ended the session is raised where the user waits.
            self._failure = single_error(error)
        finally:
            self._ready.set()

    async def _main(self) -> None:
        async with Client.connect(self._config) as client:
            self._client, self._stop = client, trio.Event()
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await self._stop.wait()

    def call(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a coroutine function in the session's thread and wait. Raises what it raises."""
        if self._token is None or not self._thread.is_alive():
            raise ClientError("the session has ended; open another with SyncClient")
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def _require(self) -> Client:
        if self._client is None:
            raise ClientError("use the client inside `with SyncClient(…) as mesh:`")
        return self._client

    def submit(self, request: JobRequest | JobFile) -> SyncJob:
        return SyncJob(self, self.call(self._require().submit, request))

    @overload
    def map(self, program: bytes | Path | str, inputs: Sequence[bytes], **options: Any) -> list[bytes]: ...

    @overload
    def map(self, program: Callable[[Any], T], inputs: Iterable[Any], **options: Any) -> list[T]: ...

    def map(self, program: Any, inputs: Any, **options: Any) -> list[Any]:
        """Outputs of one task an input, in order: of a module, or of a pure Python function (docs/python.md)."""

        async def run() -> list[Any]:
            found: list[Any] = await self._require().map(program, inputs, **options)
            return found

        return self.call(run)

    def job(self, prefix: str) -> SyncJob:
        return SyncJob(self, self.call(self._require().job, prefix))

    def jobs(self) -> list[SyncJob]:
        return [SyncJob(self, job) for job in self.call(self._require().jobs)]

    def members(self) -> list[dict[str, Any]]:
        async def read() -> list[dict[str, Any]]:
            return self._require().members()

        return self.call(read)

    def iterate(self, job: Job) -> Iterator[Result]:
        """Results through a bounded queue; leaving the loop early stops the transfer."""
        items: queue.Queue[object] = queue.Queue(QUEUE_MAX)
        closed = threading.Event()

        def put(item: object) -> None:
            while not closed.is_set():
                try:
                    items.put(item, timeout=0.2)
                except queue.Full:
                    continue
                return

        async def pump() -> None:
            try:
                async for result in job.results():
                    await trio.to_thread.run_sync(put, result)
                    if closed.is_set():
                        return
            except ClientError as error:
                await trio.to_thread.run_sync(put, error)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(put, _END)

        worker = threading.Thread(target=self.call, args=(pump,), daemon=True)
        worker.start()
        try:
            while (item := items.get()) is not _END:
                if isinstance(item, ClientError):
                    raise item
                assert isinstance(item, Result)
                yield item
        finally:
            closed.set()
            worker.join()
