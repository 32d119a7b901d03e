"""Renders the tiles on this machine, without a mesh but in the nodes' sandbox, and compares them with one piece.

python render_local.py [--slots 2] [--output room.png] [--no-compare]
"""

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import msgspec
import trio
from PIL import Image
from stitch import StitchError, differing_pixels, pixel_digest, stitch
from tiles import HERE, read_tiles

from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeCommand, NativeRuntimeConfig
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest, ExecutionError, Limits


class RenderFailed(Exception):
    """The text is one line for the user."""


def povray_command() -> NativeCommand:
    """POV-Ray as `povray.toml` offers it."""
    settings = tomllib.loads((HERE / "povray.toml").read_text())["native"]["commands"]["povray"]
    return NativeCommand(
        path=Path(settings["path"]),
        environment=settings["environment"],
        read_only=tuple(map(Path, settings["binds"])),
        memory_bytes=settings["memory_mb"] << 20,
    )


def request(folder: Path, arguments: tuple[str, ...], first: int = 0, wall_us: int = 120_000_000) -> BatchRequest:
    """One task of the job in `folder`, as a node would be asked for it."""
    return BatchRequest(
        job_id=b"render",
        runtime="native",
        abi="command",
        program=Path(),
        program_digest=b"",
        first=first,
        count=1,
        seed=bytes(32),
        entry="povray",
        arguments=arguments,
        files={name: folder / name for name in ("room.pov", "tiles.ini")},
        limits=Limits(memory_bytes=256 << 20, wall_us=wall_us, output_bytes=4 << 20, scratch_bytes=16 << 20),
    )


def output_files(outcome: BatchOutcome) -> dict[str, bytes]:
    """The files that a batch of one left. Raises RenderFailed."""
    if outcome.exits != [0]:
        lines = outcome.stderrs.get(0, b"").decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise RenderFailed(f"povray ended with {outcome.exits[0]}: {lines[-1]}")
    _, files = msgspec.msgpack.decode(outcome.outputs[0], type=tuple[bytes, dict[str, bytes]])
    return files


async def render_tiles(executor: NativeExecutor, folder: Path) -> tuple[Image.Image, int]:
    """(picture, CPU microseconds) of the job in `folder`. Raises RenderFailed, StitchError, ExecutionError."""
    width, height, tiles = read_tiles(folder / "tiles.ini")
    arguments = tuple(tomllib.loads((folder / "job.toml").read_text())["arguments"])
    images: dict[int, bytes] = {}
    cpu_us = 0

    async def render(index: int) -> None:
        nonlocal cpu_us
        outcome = await executor.run(request(folder, arguments, first=index))
        images[index] = output_files(outcome)[f"tile-{index}.png"]
        cpu_us += outcome.cpu_us[0]

    async with trio.open_nursery() as nursery:
        for index in range(len(tiles)):
            nursery.start_soon(render, index)
    return stitch(width, height, tiles, images), cpu_us


async def render_whole(executor: NativeExecutor, folder: Path) -> Image.Image:
    """The same picture in one piece. Raises RenderFailed, ExecutionError."""
    arguments = ("/in/tiles.ini[whole]", "+Owhole.png")
    outcome = await executor.run(request(folder, arguments, wall_us=600_000_000))
    path = folder / "whole.png"
    path.write_bytes(output_files(outcome)["whole.png"])
    with Image.open(path) as image:
        return image.convert("RGB")


async def run(options: argparse.Namespace) -> int:
    config = NativeRuntimeConfig(commands={"povray": povray_command()}, slots=options.slots)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)  # the sandbox runs as somebody else, where this is run by root
        for source in ("room.pov", "tiles.ini", "job.toml"):
            (folder / source).write_bytes((HERE / source).read_bytes())
        executor = NativeExecutor(config, folder / "state")
        try:
            began = time.monotonic()
            picture, cpu_us = await render_tiles(executor, folder)
            picture.save(options.output)
            took_s = time.monotonic() - began
            print(f"{options.output}: {took_s:.1f} s, {cpu_us / 1e6:.1f} s of CPU, pixels {pixel_digest(picture)[:16]}")
            if not options.compare:
                return 0
            count = differing_pixels(picture, await render_whole(executor, folder))
            print("one piece: identical" if count == 0 else f"one piece: {count} pixels differ")
            return 0 if count == 0 else 1
        finally:
            await executor.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slots", type=int, default=2, help="tiles at a time")
    parser.add_argument("--output", type=Path, default=Path("room.png"))
    parser.add_argument("--no-compare", dest="compare", action="store_false")
    code = 2
    try:
        code = trio.run(run, parser.parse_args())
    except* (RenderFailed, StitchError, ExecutionError) as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        print(f"render_local.py: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
