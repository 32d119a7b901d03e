"""Lines, areas and words, drawn once and written as SVG or as PNG. The PNG needs Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

# A PNG has so many pixels a unit.
SCALE = 2

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Line:
    points: Points
    colour: str
    width: float

    def svg(self) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)
        return f'<polyline points="{points}" fill="none" stroke="{self.colour}" stroke-width="{self.width}"/>'

    def paint(self, draw: Any, font: Any) -> None:
        draw.line([(x * SCALE, y * SCALE) for x, y in self.points], self.colour, round(self.width * SCALE), "curve")


@dataclass(frozen=True, slots=True)
class _Area:
    points: Points
    colour: str

    def svg(self) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)
        return f'<polygon points="{points}" fill="{self.colour}"/>'

    def paint(self, draw: Any, font: Any) -> None:
        draw.polygon([(x * SCALE, y * SCALE) for x, y in self.points], fill=self.colour)


@dataclass(frozen=True, slots=True)
class _Text:
    """anchor: start, middle or end."""

    at: tuple[float, float]
    text: str
    size: float
    colour: str
    anchor: str

    def svg(self) -> str:
        x, y = self.at
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{self.size:g}" fill="{self.colour}" '
            f'text-anchor="{self.anchor}">{escape(self.text)}</text>'
        )

    def paint(self, draw: Any, font: Any) -> None:
        place = {"start": "ls", "middle": "ms", "end": "rs"}[self.anchor]
        x, y = self.at
        draw.text((x * SCALE, y * SCALE), self.text, self.colour, font(self.size * SCALE), place)


class Drawing:
    """White, width by height; y goes down. Colours are #rrggbb."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[_Line | _Area | _Text] = []

    def line(self, points: Points, colour: str, width: float = 1.0) -> None:
        if len(points) > 1:
            self._parts.append(_Line(points, colour, width))

    def area(self, points: Points, colour: str) -> None:
        if len(points) > 2:
            self._parts.append(_Area(points, colour))

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.area([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour)

    def text(
        self, x: float, y: float, text: str, *, size: float = 12.0, colour: str = "#1d1d1f", anchor: str = "start"
    ) -> None:
        self._parts.append(_Text((x, y), text, size, colour, anchor))

    def svg(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'font-family="sans-serif"><rect width="{self.width:g}" height="{self.height:g}" fill="#ffffff"/>'
        )
        return "\n".join([head, *(part.svg() for part in self._parts), "</svg>"]) + "\n"

    def write_png(self, path: Path) -> None:
        """Raises OSError."""
        from functools import lru_cache

        from PIL import Image, ImageDraw, ImageFont

        font = lru_cache(maxsize=16)(lambda size: ImageFont.load_default(size))
        image = Image.new("RGB", (round(self.width * SCALE), round(self.height * SCALE)), "#ffffff")
        draw = ImageDraw.Draw(image)
        for part in self._parts:
            part.paint(draw, font)
        image.save(path, format="PNG", optimize=True)
