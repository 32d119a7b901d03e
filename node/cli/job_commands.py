"""`hearth submit`, `status`, `watch`, `results`, `logs`, `cancel`, `jobs`, `peers`: the client's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import ClientPath, JobName, Json, Last
from .running import run_client

ResultsPath = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Where results go. Default: the job file's, otherwise NAME-ID here.", show_default=False
    ),
]


def submit(
    file: Annotated[Path, typer.Argument(help="The job file.")],
    again: Annotated[bool, typer.Option("--again", help="As a new job, although it was submitted before.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and fetch the results as they come.")] = False,
    folder: ResultsPath = None,
    client: ClientPath = None,
    as_json: Json = False,
) -> None:
    """Submit a job; returns when most of its replicas have it on disk. Then you may go.

    The same file submitted twice is one job, unless --again.

    \b
    Examples:
      hearth submit job.toml
      hearth submit job.toml --follow --folder out
      hearth submit job.toml --again --json
    """
    from . import jobs

    _end(run_client(lambda: jobs.submit(file, again, follow, folder, client, as_json)))


def status(job: JobName = None, last: Last = False, client: ClientPath = None, as_json: Json = False) -> None:
    """Progress of a job now.

    \b
    Examples:
      hearth status 3f2a
      hearth status --last --json
    """
    from . import jobs

    _end(run_client(lambda: jobs.status(job, last, client, as_json)))


def watch(job: JobName = None, last: Last = False, client: ClientPath = None, as_json: Json = False) -> None:
    """Progress of a job until its end: rate, time left, nodes with their rooms, energy. --json: one object a line.

    \b
    Examples:
      hearth watch --last
      hearth watch 3f2a --json | jq .done
    """
    from . import jobs

    _end(run_client(lambda: jobs.watch(job, last, client, as_json)))


def results(
    job: JobName = None,
    last: Last = False,
    folder: ResultsPath = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for all, or fetch what is there.")] = True,
    client: ClientPath = None,
    as_json: Json = False,
) -> None:
    """Fetch a job's results, each verified here, into a folder. Run it again to fetch what is missing.

    \b
    Examples:
      hearth results --last
      hearth results 3f2a --folder out --no-follow
    """
    from . import jobs

    _end(run_client(lambda: jobs.results(job, last, folder, follow, client, as_json)))


def logs(
    job: JobName = None,
    last: Last = False,
    task: Annotated[int | None, typer.Option(min=0, help="One task only.", show_default=False)] = None,
    client: ClientPath = None,
    as_json: Json = False,
) -> None:
    """The end of what tasks wrote to standard error, of those that did or failed. --json: one object a line.

    \b
    Examples:
      hearth logs --last
      hearth logs 3f2a --task 7
    """
    from . import jobs

    _end(run_client(lambda: jobs.logs(job, last, task, client, as_json)))


def cancel(job: JobName = None, last: Last = False, client: ClientPath = None, as_json: Json = False) -> None:
    """Cancel a job: tasks that run are stopped, the rest is not started.

    \b
    Examples:
      hearth cancel 3f2a
    """
    from . import jobs

    _end(run_client(lambda: jobs.cancel(job, last, client, as_json)))


def list_jobs(client: ClientPath = None, as_json: Json = False) -> None:
    """Your jobs that the mesh still knows.

    \b
    Examples:
      hearth jobs
      hearth jobs --json
    """
    from . import jobs

    _end(run_client(lambda: jobs.list_jobs(client, as_json)))


def peers(client: ClientPath = None, as_json: Json = False) -> None:
    """The nodes of the mesh, as far as they are known here: rooms, capacity, addresses.

    \b
    Examples:
      hearth peers
      hearth peers --client laptop/client.toml --json
    """
    from . import jobs

    _end(run_client(lambda: jobs.peers(client, as_json)))


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that hearth results has filled.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check a folder of results from its files alone, as anybody can: signatures, admission, digests, the workers that
    agreed, what the submitter accepted, what it cost. No network. Exit code 1 names what was forged or edited.

    \b
    Examples:
      hearth verify hello-3f2a91c0
      hearth verify out --json | jq .faults
    """
    from . import verifying

    _end(verifying.verify(folder, as_json))


def trust(
    node: Annotated[
        str, typer.Argument(help="Peer id, or for a client a name or a part of the id.", show_default=False)
    ],
    client: ClientPath = None,
    config: Annotated[
        Path | None, typer.Option("--node", help="Ask this running node, by its settings.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain what is thought of a node: how often its results were compared and right, and what follows from it.

    Only what this client compared itself counts. With --node: what that node has proved against it.

    \b
    Examples:
      hearth trust kitchen
      hearth trust 12D3KooWQdErqYDsLkW4G8D5Cs1xCUnp5xZ5LCnFJNJEtYuoS7ff
      hearth trust YuoS7ff --json
      hearth trust bath --node kitchen/node.toml
    """
    from . import trust as trusting

    if config is None:
        _end(trusting.trust(node, client, as_json))
        return
    from ..config import load_node_config
    from ..storage.folder import StateFolder
    from .running import run_async

    control = StateFolder(load_node_config(config).node.state).control_socket
    _end(run_async(lambda: trusting.node_trust(node, control, as_json)))


def why(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[NODE|TASK]", help="A node's name or peer id, or JOB:NUMBER.", show_default=False),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="A task of the job that was submitted last from here: NUMBER, or 0.")
    ] = False,
    client: ClientPath = None,
    config: Annotated[
        Path | None, typer.Option("--node", help="Ask this running node, by its settings.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Say in one sentence why a heater is idle, or why a task waits, by what was decided there.

    A task is asked for at the nodes that keep its job. With --node and nothing else: why that node is idle.

    \b
    Examples:
      hearth why kitchen
      hearth why 3f2a91c0:12 --json
      hearth why --last 12
      hearth why --node kitchen/node.toml
    """
    from . import why as asking
    from .errors import UserError
    from .running import run_async

    if last:
        if config is not None:
            raise UserError("--last is of what was submitted from here, not of a node: leave out --node")
        _end(run_client(lambda: asking.why(asking.task_of_the_last(what, client), client, as_json)))
        return
    if config is not None:
        chosen = config
        _end(run_async(lambda: asking.why_here(what, chosen, as_json)))
        return
    if what is None:
        raise UserError("say what: a node (hearth peers lists them), a task as JOB:NUMBER, --last, or --node node.toml")
    _end(run_client(lambda: asking.why(what, client, as_json)))


def register(app: typer.Typer) -> None:
    """Add them to the program's commands, in the order of a job's life."""
    for name, command in (
        ("submit", submit),
        ("status", status),
        ("watch", watch),
        ("results", results),
        ("logs", logs),
        ("cancel", cancel),
        ("jobs", list_jobs),
        ("peers", peers),
        ("verify", verify),
        ("trust", trust),
        ("why", why),
    ):
        app.command(name)(command)


def _end(code: int) -> None:
    if code:
        raise typer.Exit(code)
