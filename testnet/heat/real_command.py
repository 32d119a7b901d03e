"""`hearth testnet heat`: stealing by heat against stealing at random, by real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...node.cli.errors import JOB_FAILED, UserError
from ...node.cli.options import Json
from ...node.cli.output import note, print_json, print_table
from ...node.cli.running import run_async
from ...node.cli.tables import Column, Columns

COLUMNS: Columns = (
    *("stealing", ">K·h in all", Column(">K·h p50", drop=1), Column(">K·h most", drop=2), Column(">outside %", drop=3)),
    *(Column(">kJ of work", drop=4), Column(">useful %", drop=5), ">tasks", ">all done after s"),
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Stealing by heat</title></head><body>{}</body></html>
"""


def heat(
    nodes: Annotated[int, typer.Option("-n", min=5, max=16, help="Heaters, as in the demo's house.")] = 8,
    tasks: Annotated[int, typer.Option("--tasks", min=1, max=100_000, help="Of all jobs.")] = 300,
    seconds: Annotated[float, typer.Option("--seconds", help="How long each street is watched.")] = 40.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write the temperatures and who worked: .svg, .html or .png (Pillow).")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the streets are while they run.")] = Path(".hearth-heat"),
    as_json: Json = False,
) -> None:
    """The same rooms and the same job by real processes, twice: our stealing, and stealing that knows nothing of heat.

    The rooms' clock runs 600 times faster than the wall's. The second street has `node.stealing = "random"`.

    \b
    Examples:
      hearth testnet heat
      hearth testnet heat -n 8 --seconds 60 --plot heat.png --json
    """
    if not 5 <= seconds <= 3600:
        raise UserError(f"--seconds {seconds:g}: from 5 to 3600")
    if plot is not None and plot.suffix not in (".svg", ".html", ".png"):
        raise UserError(f"--plot {plot}: a name that ends in .svg, .html or .png")
    if plot is not None and not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: no such folder")
    from .real import compare_streets, figure

    streets = run_async(lambda: compare_streets(folder, nodes, tasks, seconds, note))
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if plot is not None:
        drawing = figure(streets)
        try:
            if plot.suffix == ".png":
                drawing.write_png(plot)
            elif plot.suffix == ".svg":
                plot.write_text(drawing.svg(), encoding="utf-8")
            else:
                head = (
                    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Stealing by heat</title></head>'
                )
                plot.write_text(f"{head}<body>{drawing.svg()}</body></html>\n", encoding="utf-8")
        except ModuleNotFoundError as error:
            raise UserError(f"--plot {plot} needs {error.name}: pip install '.[compare]' in the clone") from error
        except OSError as error:
            raise UserError(f"--plot {plot}: {error.strerror}", JOB_FAILED) from error
    rows = [street.row() for street in streets]
    if as_json:
        for row in rows:
            print_json(row)
        return
    shown = [
        (
            row["stealing"],
            f"{row['discomfort_kh_sum']:.2f}",
            f"{row['discomfort_kh_p50']:.2f}",
            f"{row['discomfort_kh_most']:.2f}",
            f"{row['outside_band_percent']:.1f}",
            f"{row['work_kj']:.1f}",
            f"{row['useful_percent']:.1f}",
            f"{row['tasks_done']} of {row['tasks']}",
            row["finished_s"],
        )
        for row in rows
    ]
    print_table(COLUMNS, shown, empty="")
