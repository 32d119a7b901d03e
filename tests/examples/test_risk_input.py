"""The CSV files: what is refused and how it is said; the shipped ones come from their seed."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from build import RECIPES, ROOT, ZIGLANG, check
from params import HEADER
from portfolio import InputError, read_history, read_portfolio

RISK = ROOT / "examples" / "risk"
DAYS = range(1, 9)
PRICES = "date,eq:A,rate:1\n" + "".join(f"2026-01-{day:02},{100 + day % 3},{2 + day % 2}\n" for day in DAYS)
BOOK = "id,kind,quantity,underlying,strike,expiry,implied_vol,face,maturity,frequency\n"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RISK / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(folder: Path, prices: str = PRICES, book: str = BOOK + "x,equity,5,A,,,,,,\n") -> None:
    (folder / "prices.csv").write_text(prices)
    (folder / "portfolio.csv").write_text(book)
    read_portfolio(folder / "portfolio.csv", read_history(folder / "prices.csv"))


def test_a_small_book_is_read(tmp_path: Path) -> None:
    read(tmp_path)


@pytest.mark.parametrize(
    ("prices", "complaint"),
    [
        ("", "prices.csv:1: the first column must be 'date'"),
        ("day,eq:A\n", "prices.csv:1: the first column must be 'date'"),
        ("date,A,rate:1\n", "'A': a column is eq:<name>, rate:<years> or vol:<name>"),
        ("date,eq:A,rate:x\n", "prices.csv:1: rate:x: 'x' is not a number"),
        ("date,eq:A\n", "at least one rate:"),
        ("date,eq:A,rate:1,vol:x,vol:y\n", "at most one vol:"),
        ("date,eq:A,eq:A,rate:1\n", "two columns have the same name"),
        (PRICES.replace("102,2\n", "-1,2\n", 1), "prices.csv:3: eq:A: '-1' is not a number from 1e-06"),
        (PRICES.replace("2026-01-04,101,2", "2026-01-04,101"), "prices.csv:5: 2 cells, the header has 3"),
        (
            PRICES.replace("2026-01-04", "2026-01-02"),
            "prices.csv:5: date: 2026-01-02 does not follow",
        ),
        (PRICES.replace("2026-01-04", "4 Jan"), "prices.csv:5: date: '4 Jan' is not a date such as"),
        (PRICES.replace("101,3", "nan,3"), "eq:A: 'nan' is not a number"),
        ("\n".join(PRICES.splitlines()[:4]), "3 days are too few for 2 factors; give 4"),
    ],
)
def test_wrong_prices_are_refused_with_their_place(tmp_path: Path, prices: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, prices=prices)
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("", "no positions"),
        ("x,swap,5,A,,,,,,\n", "portfolio.csv:2: kind: 'swap' is not one of bond, call, equity, put"),
        ("x,equity,5,B,,,,,,\n", "portfolio.csv:2: underlying: 'B' is not an eq: column"),
        ("x,equity,many,A,,,,,,\n", "portfolio.csv:2: quantity: 'many' is not a number"),
        ("x,equity,inf,A,,,,,,\n", "quantity: 'inf' is not a number"),
        ("x,call,1,A,0,2027-01-01,0.2,,,\n", "strike: '0' is not a number from 1e-06"),
        ("x,call,1,A,90,2025-01-01,0.2,,,\n", "expiry: '2025-01-01' is not a date after the valuation date"),
        ("x,put,1,A,90,2027-01-01,20,,,\n", "implied_vol: '20' is not a number from 0.001 to 10"),
        ("x,put,1,A,90,,0.2,,,\n", "expiry: '' is not a date"),
        ("x,bond,1,,,,,1000,2030-02-30,\n", "maturity: '2030-02-30' is not a date"),
        ("x,bond,1,,,,,1000,2030-02-28,3\n", "frequency: '3' is not 1, 2, 4 or 12 coupons a year"),
        ("x,bond,1,,,,,,2030-02-28,1\n", "face: '' is not a number"),
    ],
)
def test_wrong_positions_are_refused_with_their_place(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(InputError) as raised:
        read(tmp_path, book=BOOK + row)
    assert complaint in str(raised.value)


def test_unknown_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown column \['colour'\]"):
        read(tmp_path, book="id,kind,quantity,colour\n")


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_bytes(b"date,\xff\xfe")
    with pytest.raises(InputError, match=r"prices\.csv"):
        read_history(tmp_path / "prices.csv")
    with pytest.raises(InputError, match="No such file"):
        read_history(tmp_path / "nothing.csv")


def test_prepare_says_in_one_line_which_factor_is_of_no_use(tmp_path: Path) -> None:
    still = "date,eq:A,rate:1\n" + "".join(f"2026-01-{day:02},100,{2 + day % 2}\n" for day in range(1, 9))
    read(tmp_path, prices=still)
    files = ("--prices", str(tmp_path / "prices.csv"), "--portfolio", str(tmp_path / "portfolio.csv"))
    found = run("prepare.py", *files, "--out", str(tmp_path / "params.bin"))
    assert found.returncode == 2
    assert found.stderr == "prices: factor 1 never moves; leave the column out\n"


def test_prepare_refuses_options_out_of_range(tmp_path: Path) -> None:
    for option in ("--dof=2", "--tail=0.01", "--tasks=0", "--horizon-days=0", "--seed=-1"):
        found = run("prepare.py", option, "--out", str(tmp_path / "params.bin"))
        assert found.returncode == 2 and "Traceback" not in found.stderr
    assert not (tmp_path / "params.bin").exists()


def test_shipped_files_come_from_their_seed(tmp_path: Path) -> None:
    assert run("generate.py", "--folder", str(tmp_path)).returncode == 0
    for name in ("prices.csv", "portfolio.csv"):
        assert (tmp_path / name).read_text() == (RISK / name).read_text()


def test_shipped_book_is_as_large_as_documented() -> None:
    history = read_history(RISK / "prices.csv")
    book = read_portfolio(RISK / "portfolio.csv", history)
    assert (len(book.equities), len(book.options), len(book.bonds)) == (64, 128, 68)
    assert len(history.dates) == 504


def test_shipped_parameters_come_from_the_shipped_files(tmp_path: Path) -> None:
    target = tmp_path / "params.bin"
    assert run("prepare.py", "--out", str(target)).returncode == 0
    made, shipped = target.read_bytes(), (RISK / "params.bin").read_bytes()
    digest = hashlib.sha256(shipped).hexdigest()
    assert (RISK / "params.bin.sha256").read_text() == f"{digest}  params.bin\n"
    assert HEADER.unpack_from(made)[2:] == HEADER.unpack_from(shipped)[2:]
    columns = slice(HEADER.size, HEADER.size + (len(shipped) - HEADER.size) // 8 * 8)
    np.testing.assert_allclose(
        np.frombuffer(made[columns], "<f8"), np.frombuffer(shipped[columns], "<f8"), rtol=1e-9, atol=2e-12
    )


HAS_COMPILER = importlib.util.find_spec("ziglang") is not None


@pytest.mark.skipif(not HAS_COMPILER, reason=f"needs ziglang=={ZIGLANG} to rebuild")
def test_modules_are_what_their_sources_build() -> None:
    assert len(RECIPES) == 4
    assert check() == []


def test_build_without_the_compiler_says_what_to_install() -> None:
    command = [sys.executable, "-I", "-S", str(RISK / "build.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == f"needs ziglang {ZIGLANG}, found none: pip install ziglang=={ZIGLANG}\n"
