"""A node's local door: a Unix socket in its state folder, for the owner's own tools.

One JSON object a line in, one out: `{"do": "status"}`. Only the owner can open it (mode 0700 folder). Requests
are bounded and answered in order; a bad one is answered with `{"error": …}`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from trio_typing import TaskStatus

REQUEST_BYTES_MAX = 256 * 1024
CONNECTIONS_MAX = 32

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlError(Exception):
    """The node did not answer as it should. The text is for the user."""


class ControlServer:
    """Serves until cancelled; the socket file is gone afterwards."""

    def __init__(self, path: Path, handlers: dict[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._limit = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._path.unlink(missing_ok=True)
        listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await listener.bind(os.fspath(self._path))
            os.chmod(self._path, 0o600)
            listener.listen(CONNECTIONS_MAX)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, [trio.SocketListener(listener)])
                task_status.started()
        finally:
            listener.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream, self._limit:
            try:
                await self._answer_lines(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def _answer_lines(self, stream: trio.SocketStream) -> None:
        pending = b""
        while True:
            part = await stream.receive_some(65_536)
            if not part:
                return
            pending += part
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                await stream.send_all(json.dumps(await self._answer(line)).encode() + b"\n")
            if len(pending) > REQUEST_BYTES_MAX:
                return

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            return {"error": "not a line of JSON"}
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            return {"error": 'expected {"do": "<command>", …}'}
        handler = self._handlers.get(request["do"])
        if handler is None:
            return {"error": f'no command "{request["do"]}"; there are: {", ".join(sorted(self._handlers))}'}
        try:
            return await handler(request)
        except (KeyError, TypeError, ValueError) as error:
            return {"error": f"{request['do']}: {error}"}


async def ask(path: Path, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """One request to a running node. Raises ControlError."""
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_unix_socket(os.fspath(path))
            async with stream:
                await stream.send_all(json.dumps(request).encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    part = await stream.receive_some(1 << 20)
                    if not part:
                        raise ControlError("the node closed the connection")
                    answer += part
    except (OSError, trio.BrokenResourceError) as error:
        raise ControlError(f"no node answers at {path}: {error}") from error
    except trio.TooSlowError:
        raise ControlError(f"the node at {path} did not answer within {timeout_s:g} s") from None
    reply: dict[str, Any] = json.loads(answer)
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply
