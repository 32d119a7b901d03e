"""The render example: cutting, stitching, and POV-Ray in the sandbox where both are installed."""

import io
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_config import NativeRuntimeConfig

RENDER = Path(__file__).resolve().parents[2] / "examples" / "render"
sys.path.insert(0, str(RENDER))

from render_local import output_files, povray_command, render_tiles, render_whole, request  # noqa: E402
from stitch import StitchError, differing_pixels, find_tiles, pixel_digest, stitch  # noqa: E402
from tiles import JOB, Tile, cut, read_tiles, settings  # noqa: E402


def png(size: tuple[int, int], tile: Tile, colour: tuple[int, int, int]) -> bytes:
    image = Image.new("RGB", size)
    image.paste(colour, tile)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@given(data=st.data(), width=st.integers(1, 60), height=st.integers(1, 60))
def test_tiles_cover_each_pixel_once(data: st.DataObject, width: int, height: int) -> None:
    columns, rows = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    tiles = cut(width, height, columns, rows)
    pixels = [(x, y) for t in tiles for x in range(t.left, t.right) for y in range(t.top, t.bottom)]
    assert sorted(pixels) == [(x, y) for x in range(width) for y in range(height)]


@pytest.mark.parametrize("shape", [(10, 10, 11, 1), (10, 10, 0, 1), (1000, 1000, 200, 51)])
def test_more_tiles_than_pixels_or_tasks_are_refused(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="don't fit"):
        cut(*shape)


def test_the_shipped_files_are_what_tiles_py_writes() -> None:
    width, height, tiles = read_tiles(RENDER / "tiles.ini")
    assert (width, height, tiles) == (640, 480, cut(640, 480, 4, 6))
    assert (RENDER / "tiles.ini").read_text() == settings(width, height, tiles)
    assert (RENDER / "job.toml").read_text() == JOB.format(count=len(tiles))
    job = tomllib.loads((RENDER / "job.toml").read_text())
    assert (job["runtime"], job["program"], job["tasks"]) == ("native", "povray", 24)
    assert all((RENDER / path).is_file() for path in job["files"].values())


def test_stitching_takes_from_each_picture_its_tile_only() -> None:
    tiles = cut(6, 4, 2, 2)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)]
    images = {index: png((6, 4), tile, colours[index]) for index, tile in enumerate(tiles)}
    picture = stitch(6, 4, tiles, images)
    assert [picture.getpixel(at) for at in ((0, 0), (5, 0), (0, 3), (3, 2))] == colours


def test_a_missing_a_broken_and_a_foreign_tile_are_named() -> None:
    tiles = cut(6, 4, 1, 2)
    good = png((6, 4), tiles[0], (1, 2, 3))
    for images, words in {
        (("0", good),): "1 of 2 tiles are missing, the first is 1",
        (("0", good), ("1", b"no picture")): "tile 1 is not a readable PNG",
        (("0", good), ("1", good[:-30])): "tile 1 is not a readable PNG",
        (("0", good), ("1", png((5, 4), tiles[1], (0, 0, 0)))): r"tile 1 is of a picture of \(5, 4\)",
    }.items():
        with pytest.raises(StitchError, match=words):
            stitch(6, 4, tiles, {int(index): content for index, content in images})


def test_tiles_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "tile-7.png").write_bytes(b"seven")
    (tmp_path / "tile-0.png").write_bytes(b"zero")
    (tmp_path / "tile-x.png").write_bytes(b"no")
    assert find_tiles(tmp_path) == {0: b"zero", 7: b"seven"}


def test_one_pixel_of_one_shade_is_a_difference() -> None:
    first, second = Image.new("RGB", (5, 5)), Image.new("RGB", (5, 5))
    assert differing_pixels(first, second) == 0 and pixel_digest(first) == pixel_digest(second)
    second.putpixel((4, 4), (0, 1, 0))
    assert differing_pixels(first, second) == 1 and pixel_digest(first) != pixel_digest(second)


async def test_tiles_from_the_sandbox_equal_one_piece() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        tiles = cut(96, 72, 3, 2)
        (folder / "room.pov").write_bytes((RENDER / "room.pov").read_bytes())
        (folder / "job.toml").write_bytes((RENDER / "job.toml").read_bytes())
        (folder / "tiles.ini").write_text(settings(96, 72, tiles))
        executor = NativeExecutor(NativeRuntimeConfig(commands={"povray": povray_command()}), folder / "state")
        is_available, reason = await executor.available()
        if not is_available or not executor.commands():
            pytest.skip(reason or "povray is not installed")
        try:
            with trio.fail_after(300):
                picture, _ = await render_tiles(executor, folder)
                assert differing_pixels(picture, await render_whole(executor, folder)) == 0
                assert len(picture.getcolors(96 * 72) or []) > 1000  # something is to be seen
                (folder / "room.pov").write_text('#fopen leak "/etc/passwd" read\n#read (leak, line)\n')
                outcome = await executor.run(request(folder, ("/in/tiles.ini[whole]", "+Owhole.png")))
                assert outcome.exits[0] > 0  # a scene cannot read what is not its own
                with pytest.raises(Exception, match="povray ended with 1"):
                    output_files(outcome)
        finally:
            await executor.aclose()
