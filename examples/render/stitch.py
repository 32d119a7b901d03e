"""Puts the tiles together, and compares pictures pixel by pixel.

python stitch.py FOLDER [--output room.png] [--compare whole.png]

FOLDER: the job's results; each `tile-N.png` in it, at whatever depth, is tile N. Exit code 1: pixels differ.
"""

import argparse
import hashlib
import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageChops
from tiles import HERE, Tile, read_tiles

_NAME = re.compile(r"tile-(\d{1,6})\.png\Z")


class StitchError(Exception):
    """The text is one line for the user."""


def stitch(width: int, height: int, tiles: list[Tile], images: Mapping[int, bytes]) -> Image.Image:
    """The whole picture. images: by tile, each a PNG of the whole size with only its tile drawn. Raises StitchError."""
    missing = [index for index in range(len(tiles)) if index not in images]
    if missing:
        raise StitchError(f"{len(missing)} of {len(tiles)} tiles are missing, the first is {missing[0]}")
    whole = Image.new("RGB", (width, height))
    for index, tile in enumerate(tiles):
        try:
            image = Image.open(io.BytesIO(images[index]), formats=["PNG"])
            if image.size != (width, height):
                raise StitchError(f"tile {index} is of a picture of {image.size}, not {(width, height)}")
            whole.paste(image.convert("RGB").crop(tile), (tile.left, tile.top))
        except (OSError, SyntaxError) as error:
            raise StitchError(f"tile {index} is not a readable PNG: {error}") from error
    return whole


def find_tiles(folder: Path) -> dict[int, bytes]:
    """The contents of every tile-N.png below a folder. Raises OSError."""
    found = {}
    for path in sorted(folder.rglob("tile-*.png")):
        match = _NAME.match(path.name)
        if match:
            found[int(match[1])] = path.read_bytes()
    return found


def pixel_digest(image: Image.Image) -> str:
    """Of size and pixels; the files themselves carry the date."""
    return hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).hexdigest()


def differing_pixels(first: Image.Image, second: Image.Image) -> int:
    """How many pixels are not the same. Raises StitchError if the sizes differ."""
    if first.size != second.size:
        raise StitchError(f"the pictures are of different sizes: {first.size} and {second.size}")
    bands = ImageChops.difference(first.convert("RGB"), second.convert("RGB")).split()
    worst = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return first.width * first.height - worst.histogram()[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiles", type=Path, default=HERE / "tiles.ini")
    parser.add_argument("--output", type=Path, default=Path("room.png"))
    parser.add_argument("--compare", type=Path, help="a one-piece render")
    options = parser.parse_args()
    try:
        picture = stitch(*read_tiles(options.tiles), find_tiles(options.folder))
        picture.save(options.output)
        print(f"{options.output}: {picture.width} by {picture.height}, pixels {pixel_digest(picture)[:16]}")
        if options.compare is None:
            return 0
        with Image.open(options.compare) as other:
            count = differing_pixels(picture, other)
    except (StitchError, ValueError, OSError) as error:
        print(f"stitch.py: {error}", file=sys.stderr)
        return 2
    print(f"{options.compare}: {'identical' if count == 0 else f'{count} pixels differ'}")
    return 0 if count == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
