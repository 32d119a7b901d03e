"""The page lists the modules that tasks have, and the example is a job."""

from pathlib import Path

from hearthmesh.node.jobfile import load_job_file
from hearthmesh.node.python.guest.hearth_modules import MODULES

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_lists_the_modules() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert f"Modules: {', '.join(f'`{name}`' for name in MODULES)}." in page


def test_the_example_is_a_job() -> None:
    job = load_job_file(ROOT / "examples" / "python" / "job.toml")
    assert (job.runtime, job.entry, job.tasks, job.module) == ("python", "throws_in", 100, None)
