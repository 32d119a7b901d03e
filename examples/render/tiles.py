"""Cuts the picture into tiles: writes `tiles.ini`, one section a tile, and `job.toml`, one task a tile.

python tiles.py [--width 640] [--height 480] [--columns 4] [--rows 6]

POV-Ray reads a section of a settings file by name, `tiles.ini[tile7]`, so a task needs nothing but its index.
"""

import argparse
import configparser
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
MAX_TASKS = 10_000

# Whatever depends on more than the pixel is off: no jitter, and method 2 looks at one pixel at a time.
SETTINGS = """\
; Written by tiles.py.
Input_File_Name=/in/room.pov
Width={width}
Height={height}
Antialias=On
Sampling_Method=2
Antialias_Threshold=0.3
Antialias_Depth=2
Jitter=Off
Output_File_Type=N8
Work_Threads=1
Display=Off
Verbose=Off
All_Console=Off
Fatal_Console=On

[whole]
Start_Column=1
"""

JOB = """\
# hearth submit examples/render/job.toml        Written by tiles.py.
name = "render"
runtime = "native"
program = "povray"        # the name in the nodes' [native.commands]
arguments = ["/in/tiles.ini[tile{{index}}]", "+Otile-{{index}}.png"]
tasks = {count}
estimate_ms = 700

[files]
"room.pov" = "room.pov"
"tiles.ini" = "tiles.ini"

[limits]
memory_mb = 256
wall_s = 120
output_kb = 4096
scratch_mb = 16
"""


class Tile(NamedTuple):
    """A rectangle of pixels, counted from 0; right and bottom lie outside."""

    left: int
    top: int
    right: int
    bottom: int


def cut(width: int, height: int, columns: int, rows: int) -> list[Tile]:
    """The tiles, row by row, of sizes that differ by a pixel at most. Raises ValueError."""
    if not (1 <= columns <= width and 1 <= rows <= height) or columns * rows > MAX_TASKS:
        raise ValueError(f"{columns} columns and {rows} rows don't fit {width} by {height} pixels")
    xs = [width * column // columns for column in range(columns + 1)]
    ys = [height * row // rows for row in range(rows + 1)]
    return [Tile(xs[column], ys[row], xs[column + 1], ys[row + 1]) for row in range(rows) for column in range(columns)]


def settings(width: int, height: int, tiles: list[Tile]) -> str:
    """The text of tiles.ini. POV-Ray counts pixels from 1 and includes the last."""
    sections = [SETTINGS.format(width=width, height=height)]
    for index, tile in enumerate(tiles):
        sections.append(
            f"[tile{index}]\nStart_Column={tile.left + 1}\nEnd_Column={tile.right}\n"
            f"Start_Row={tile.top + 1}\nEnd_Row={tile.bottom}\n"
        )
    return "\n".join(sections)


def read_tiles(path: Path) -> tuple[int, int, list[Tile]]:
    """(width, height, tiles) of a tiles.ini. Raises ValueError or OSError."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string("[picture]\n" + path.read_text())
        count = sum(name.startswith("tile") for name in parser.sections())
        tiles = [
            Tile(
                int(section["Start_Column"]) - 1,
                int(section["Start_Row"]) - 1,
                int(section["End_Column"]),
                int(section["End_Row"]),
            )
            for section in (parser[f"tile{index}"] for index in range(count))
        ]
        return int(parser["picture"]["Width"]), int(parser["picture"]["Height"]), tiles
    except (configparser.Error, KeyError) as error:
        raise ValueError(f"{path} is not a tiles.ini: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in {"width": 640, "height": 480, "columns": 4, "rows": 6}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write")
    options = parser.parse_args()
    try:
        tiles = cut(options.width, options.height, options.columns, options.rows)
    except ValueError as error:
        parser.error(str(error))
    (options.folder / "tiles.ini").write_text(settings(options.width, options.height, tiles))
    (options.folder / "job.toml").write_text(JOB.format(count=len(tiles)))


if __name__ == "__main__":
    main()
