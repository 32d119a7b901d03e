"""The two CSV files of the example, read and checked. The format is documented in README.md."""

import csv
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path

DAYS_PER_YEAR = 365.0
MAX_ROWS = 200_000
MAX_FACTORS = 512
KINDS = {"equity", "call", "put", "bond"}
COLUMNS = (
    "id,kind,quantity,underlying,strike,expiry,implied_vol,dividend_yield,face,coupon,frequency,maturity,spread"
).split(",")


class InputError(Exception):
    """The user's file is wrong. The text names file, line and column, and says what is allowed."""


@dataclass(frozen=True, slots=True)
class Equity:
    """quantity shares of underlying; negative is short."""

    name: str
    quantity: float
    underlying: str


@dataclass(frozen=True, slots=True)
class Option:
    """quantity European options on one share each. sign: +1 call, -1 put. Vol and yield: fractions a year."""

    name: str
    sign: int
    quantity: float
    underlying: str
    strike: float
    expiry: date
    implied_vol: float
    dividend_yield: float


@dataclass(frozen=True, slots=True)
class Bond:
    """quantity bonds of a face value; coupon: fraction a year, in frequency parts; spread over the curve."""

    name: str
    quantity: float
    face: float
    coupon: float
    frequency: int
    maturity: date
    spread: float


@dataclass(frozen=True, slots=True)
class Portfolio:
    equities: tuple[Equity, ...]
    options: tuple[Option, ...]
    bonds: tuple[Bond, ...]


@dataclass(frozen=True, slots=True)
class History:
    """Daily values of the risk factors, oldest first.

    Columns are sorted by kind: equities (prices), key rates (fractions a year, continuous), at most one
    volatility index. values[row][column].
    """

    dates: tuple[date, ...]
    equities: tuple[str, ...]
    tenors_years: tuple[float, ...]
    has_vol: bool
    values: tuple[tuple[float, ...], ...]

    @property
    def valuation_date(self) -> date:
        return self.dates[-1]


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell and where it stands, so that every complaint can say so."""

    path: Path
    line: int
    column: str
    text: str

    def error(self, wanted: str) -> InputError:
        return InputError(f"{self.path}:{self.line}: {self.column}: {self.text!r} is not {wanted}")

    def number(self, low: float = -1e15, high: float = 1e15, default: float | None = None) -> float:
        if not self.text and default is not None:
            return default
        try:
            value = float(self.text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise self.error(f"a number from {low:g} to {high:g}")
        return value

    def day(self) -> date:
        try:
            return date.fromisoformat(self.text)
        except ValueError:
            raise self.error("a date such as 2026-03-20") from None


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line number, cells) of each row; every row has as many cells as the header."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = [cell.strip() for cell in next(reader, [])]
            rows = []
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells, the header has {len(header)}")
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
                if len(rows) > MAX_ROWS:
                    raise InputError(f"{path}: more than {MAX_ROWS} rows")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}") from None
    if len(set(header)) != len(header):
        raise InputError(f"{path}:1: two columns have the same name")
    return header, rows


def read_history(path: Path) -> History:
    """Reads prices.csv. Raises InputError."""
    header, rows = _rows(path)
    if not header or header[0] != "date":
        raise InputError(f"{path}:1: the first column must be 'date'")
    order: list[tuple[int, float, int]] = []
    for index, name in enumerate(header[1:], start=1):
        kind, _, rest = name.partition(":")
        cell = _Cell(path, 1, name, rest)
        if kind == "eq" and rest:
            order.append((0, float(index), index))
        elif kind == "rate":
            order.append((1, cell.number(1e-3, 100), index))
        elif kind == "vol" and rest:
            order.append((2, 0.0, index))
        else:
            raise InputError(f"{path}:1: {name!r}: a column is eq:<name>, rate:<years> or vol:<name>")
    order.sort()
    kinds = [kind for kind, _, _ in order]
    if len(order) > MAX_FACTORS or kinds.count(2) > 1 or 1 not in kinds:
        raise InputError(f"{path}:1: at most {MAX_FACTORS} factors, at most one vol:, at least one rate:")
    values = [tuple(_factor(path, line, header, cells, kind, i) for kind, _, i in order) for line, cells in rows]
    dates = tuple(_Cell(path, line, "date", cells[0]).day() for line, cells in rows)
    if len(rows) < len(order) + 2:
        raise InputError(f"{path}: {len(rows)} days are too few for {len(order)} factors; give {len(order) + 2}")
    for (line, _), earlier, later in zip(rows[1:], dates, dates[1:], strict=False):
        if later <= earlier:
            raise InputError(f"{path}:{line}: date: {later} does not follow {earlier}; oldest first")
    return History(
        dates=dates,
        equities=tuple(header[i].partition(":")[2] for kind, _, i in order if kind == 0),
        tenors_years=tuple(tenor for kind, tenor, _ in order if kind == 1),
        has_vol=2 in kinds,
        values=tuple(values),
    )


def _factor(path: Path, line: int, header: list[str], cells: list[str], kind: int, index: int) -> float:
    cell = _Cell(path, line, header[index], cells[index])
    return cell.number(-50, 100) / 100.0 if kind == 1 else cell.number(1e-6, 1e9)


def read_portfolio(path: Path, history: History) -> Portfolio:
    """Reads portfolio.csv; its underlyings must be columns of the history. Raises InputError."""
    header, rows = _rows(path)
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in COLUMNS[:3] if name not in header]
    if unknown or missing:
        raise InputError(f"{path}:1: unknown column {unknown}, missing {missing}; allowed: {', '.join(COLUMNS)}")
    equities: list[Equity] = []
    options: list[Option] = []
    bonds: list[Bond] = []
    for line, cells in rows:
        texts = dict.fromkeys(COLUMNS, "") | dict(zip(header, cells, strict=True))
        row = {name: _Cell(path, line, name, text) for name, text in texts.items()}
        kind = row["kind"].text
        if kind == "equity":
            equities.append(_equity(row, history))
        elif kind in ("call", "put"):
            options.append(_option(row, history))
        elif kind == "bond":
            bonds.append(_bond(row, history))
        else:
            raise row["kind"].error(f"one of {', '.join(sorted(KINDS))}")
    if not rows:
        raise InputError(f"{path}: no positions")
    return Portfolio(tuple(equities), tuple(options), tuple(bonds))


def _underlying(cell: _Cell, history: History) -> str:
    if cell.text not in history.equities:
        raise cell.error("an eq: column of the price file")
    return cell.text


def _future(cell: _Cell, history: History) -> date:
    day = cell.day()
    if not history.valuation_date < day <= history.valuation_date.replace(year=2199, day=1):
        raise cell.error(f"a date after the valuation date {history.valuation_date}, before 2199")
    return day


def _equity(row: dict[str, _Cell], history: History) -> Equity:
    return Equity(row["id"].text, row["quantity"].number(), _underlying(row["underlying"], history))


def _option(row: dict[str, _Cell], history: History) -> Option:
    return Option(
        name=row["id"].text,
        sign=1 if row["kind"].text == "call" else -1,
        quantity=row["quantity"].number(),
        underlying=_underlying(row["underlying"], history),
        strike=row["strike"].number(1e-6, 1e9),
        expiry=_future(row["expiry"], history),
        implied_vol=row["implied_vol"].number(0.001, 10),
        dividend_yield=row["dividend_yield"].number(-1, 1, default=0.0),
    )


def _bond(row: dict[str, _Cell], history: History) -> Bond:
    coupon = row["coupon"].number(0, 1, default=0.0)
    frequency = row["frequency"].number(1, 12, default=1)
    if frequency not in (1, 2, 4, 12):
        raise row["frequency"].error("1, 2, 4 or 12 coupons a year")
    return Bond(
        name=row["id"].text,
        quantity=row["quantity"].number(),
        face=row["face"].number(1e-6, 1e12),
        coupon=coupon,
        frequency=int(frequency),
        maturity=_future(row["maturity"], history),
        spread=row["spread"].number(-0.5, 1, default=0.0),
    )


def years_between(earlier: date, later: date) -> float:
    """ACT/365."""
    return (later - earlier).days / DAYS_PER_YEAR


def cash_flows(bond: Bond, after: date) -> list[tuple[date, float]]:
    """(day, amount) of each payment after a day, earliest first; coupon dates run back from maturity."""
    step = 12 // bond.frequency
    coupon = bond.face * bond.coupon / bond.frequency
    flows = [(bond.maturity, bond.face + coupon)]
    month = bond.maturity.year * 12 + bond.maturity.month - 1
    while coupon:
        month -= step
        day = _clamped(month, bond.maturity.day)
        if day <= after:
            break
        flows.append((day, coupon))
    return flows[::-1]


def _clamped(month: int, day: int) -> date:
    for candidate in (day, 30, 29, 28):
        if candidate <= day:
            try:
                return date(month // 12, month % 12 + 1, candidate)
            except ValueError:
                continue
    raise AssertionError("every month has a 28th")
