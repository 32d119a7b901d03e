"""`hearth why`: one sentence why a heater is idle, or why a task waits, by the node that decides it."""

from __future__ import annotations

import os
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...crypto.identity import node_id_from_text
from ..client import Client
from ..config import load_client_config, load_node_config
from ..control import ask
from ..logs import configure_logs
from ..naming import PART_CHARS_MIN, whole_id
from ..storage.folder import StateFolder
from .errors import SUCCESS, UserError
from .ledger import Ledger
from .names import Names
from .output import connecting, print_json, printable, say
from .session import client_path

# Of a job's id, for people: as much as tells their jobs apart.
ID_DIGITS = 12
_TASK = re.compile(r"([0-9a-fA-F]{4,64}):([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class WhyTask:
    """job: its id, or the beginning of it."""

    job: str
    index: int


def task_of(text: str) -> WhyTask | None:
    """JOB:NUMBER, or None: then it is a node."""
    found = _TASK.fullmatch(text.strip())
    return WhyTask(found[1].lower(), int(found[2])) if found else None


def task_of_the_last(number: str | None, client: Path | None) -> str:
    """JOB:NUMBER of the job that was submitted last from here. Raises UserError, ConfigError."""
    if number is not None and not re.fullmatch("[0-9]{1,12}", number):
        raise UserError(f'--last "{number}": the number of a task, or nothing for the first')
    job_id = Ledger(load_client_config(client_path(client)).client.state).resolve(None, last=True)
    return f"{job_id}:{number or 0}"


async def why_here(what: str | None, config: Path, as_json: bool) -> int:
    """Ask a node on this machine. Raises UserError, ControlError, ConfigError."""
    question: dict[str, Any] = {"do": "why"}
    if what is not None:
        task = task_of(what)
        if task is None:
            raise UserError(f'"{what}" is no task: give JOB:NUMBER, or nothing, and the node of {config} answers')
        question |= {"job": task.job, "index": task.index}
    answer = await ask(StateFolder(load_node_config(config).node.state).control_socket, question)
    _show({"about": what or answer["name"], "by": answer["name"], "why": answer["why"]}, as_json)
    return SUCCESS


async def why(what: str, client: Path | None, as_json: bool) -> int:
    """Ask over the mesh, as a client. Raises UserError, ClientError, ConfigError."""
    configure_logs("debug" if os.environ.get("HEARTH_DEBUG") else "error", json_lines=False)
    config = load_client_config(client_path(client))
    task = task_of(what)
    said = ""
    async with AsyncExitStack() as stack:
        with connecting(len(config.client.bootstrap), mdns=config.client.mdns):
            mesh = await stack.enter_async_context(Client.connect(config))
        if task is None:
            names = Names(config.client.state)
            names.learn(mesh.members())
            node, name = _resolve(what, mesh.members(), names)
            answer = {"about": name, "by": name, "why": await mesh.why_idle(node)}
        else:
            job = await mesh.job(task.job)
            by, text = await mesh.why_waits(job.job_id, task.index)
            answer = {"about": f"{job.id}:{task.index}", "by": by, "why": text}
            said = f"{job.id[:ID_DIGITS]}…:{task.index}"
    _show(answer, as_json, said)
    return SUCCESS


def _resolve(text: str, members: list[dict[str, Any]], names: Names) -> tuple[bytes, str]:
    """A node by its name, its peer id or a part of that. Raises UserError."""
    found = _matching(text, members)
    if not found and (gone := _matching(text, names.absent(members))):
        raise UserError(
            f"{gone[0]['name']}: was in the mesh and is not now, so it cannot say; hearth peers lists who is"
        )
    if len(found) != 1:
        what = f"{len(found)} nodes are called so" if found else "no node of that name or peer id is known"
        raise UserError(f'"{text}": {what}; hearth peers lists them, and a task is JOB:NUMBER')
    return node_id_from_text(found[0]["peer_id"]), found[0]["name"] or found[0]["peer_id"]


def _matching(text: str, members: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As `find_node`: names are the nodes' own word."""
    if whole_id(text) is not None:
        return [member for member in members if member["peer_id"] == text]
    named = [member for member in members if member["name"] == text]
    return named or [member for member in members if len(text) >= PART_CHARS_MIN and text in member["peer_id"]]


def _show(answer: dict[str, Any], as_json: bool, said: str = "") -> None:
    """said: what it is about, for people, if they need less of it."""
    if as_json:
        print_json(answer)
    else:
        say(printable(f"{said or answer['about']}: {answer['why']}"))
