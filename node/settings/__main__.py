"""`python -m hearthmesh.node.settings docs`: write the tables of keys into the reference pages."""

from __future__ import annotations

import sys
from pathlib import Path

from .describe import replace_block
from .pages import PAGES


def main(docs: Path) -> None:
    for page, blocks in PAGES.items():
        text = (docs / page).read_text(encoding="utf-8")
        for name, block in blocks.items():
            text = replace_block(text, name, block())
        (docs / page).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
