"""Each story ends as it should, and is told word for word as it is written down, whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.protocol.stories import STORIES, TRANSCRIPTS, transcript

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", STORIES)
def test_story_is_told_as_it_is_written_down(name: str) -> None:
    written = (TRANSCRIPTS / f"{name}.txt").read_text(encoding="utf-8")
    assert transcript(name) == written, "if this is meant: python -m tests.protocol.stories --write"


def test_every_transcript_has_its_story() -> None:
    assert sorted(path.stem for path in TRANSCRIPTS.iterdir()) == sorted(STORIES)


def test_stories_do_not_depend_on_the_hash_seed() -> None:
    told = []
    for seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "tests.protocol.stories", *STORIES]
        told.append(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    assert told[0] == told[1] and told[0]
