"""The customer of a run, as a process of its own: submits its jobs, keeps each result on disk, and may be killed.

    python -m hearthmesh.testnet.chaos.client CLIENT_TOML FOLDER JOBS TASKS ROUNDS NONCE PARENT

Started again it submits the same jobs, which are the ones that the mesh has, and fetches what is missing. When a
replica has heard that all is accepted it writes the jobs' ids to `done.json` and ends with 0; with 3 if the mesh could
not be had.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from ...node.bench.modules import SPIN, module_path
from ...node.cli.fetching import fetch_results
from ...node.cli.node_commands import die_with
from ...node.cli.results_folder import ResultsFolder
from ...node.client import Client, ClientError, JobFailed, JobRequest
from ...node.client.errors import single_error
from ...node.logs import configure_logs

NO_MESH = 3
DONE = "done.json"


def results_folder(folder: Path, number: int) -> Path:
    return folder / f"results-{number}"


def results_of(folder: Path, jobs: int) -> int:
    """Tasks whose results the customer has on its disk, over all jobs."""
    count = 0
    for number in range(jobs):
        try:
            count += (results_folder(folder, number) / "results.jsonl").read_bytes().count(b"\n")
        except FileNotFoundError:
            continue
    return count


def request(number: int, tasks: int, rounds: int, nonce: str) -> JobRequest:
    """The same each time, so that it is the same job."""
    inputs = [rounds.to_bytes(4, "little")] * tasks
    return JobRequest(
        program=module_path(SPIN), name=f"chaos-{number}", inputs=inputs, nonce=f"{nonce}-{number}".encode()[:32]
    )


async def _serve(config: Path, folder: Path, requests: Sequence[JobRequest]) -> None:
    done: list[str] = []

    async def one(client: Client, number: int, wanted: JobRequest) -> None:
        job = await client.submit(wanted)
        kept = ResultsFolder(results_folder(folder, number), job.job_id, job.spec)
        await fetch_results(job, kept, follow=True, on_status=lambda status, received: None)
        while not await job.confirm(kept.signed(), kept.batch):
            # All replicas may be away; whoever comes back is told, as long as this process lives.
            pass
        done.append(job.id)

    async with Client.connect(config) as client:
        async with trio.open_nursery() as nursery:
            for number, wanted in enumerate(requests):
                nursery.start_soon(one, client, number, wanted)
    fresh = folder / f".{DONE}.new"
    fresh.write_text(json.dumps(done), encoding="utf-8")
    fresh.replace(folder / DONE)


def main(arguments: Sequence[str]) -> int:
    config, folder, jobs, tasks, rounds, nonce, parent = arguments
    die_with(int(parent))
    configure_logs("warning", json_lines=False)
    requests = [request(number, int(tasks), int(rounds), nonce) for number in range(int(jobs))]
    try:
        trio.run(_serve, Path(config), Path(folder), requests)
    except BaseException as error:  # boundary: of the process; who runs it wants one line, and whose fault it is
        single = single_error(error) if isinstance(error, BaseExceptionGroup) else error
        sys.stderr.write(f"{type(single).__name__}: {single}\n")
        if isinstance(single, ClientError) and not isinstance(single, JobFailed):
            return NO_MESH
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
