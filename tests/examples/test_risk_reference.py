"""The NumPy reference is right on cases that can be worked out by hand, and agrees with the tasks."""

import math
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from aggregate import aggregate
from local import run_tasks
from portfolio import Bond, Equity, History, Option, Portfolio, cash_flows, read_history, read_portfolio
from prepare import parameters, tail_threshold_cents
from reference import World, base_value, daily_moves, differences, measures, profits

RISK = Path(__file__).resolve().parents[2] / "examples" / "risk"
TODAY = date(2026, 1, 2)
RATES = (0.02, 0.04)


def history(price: float = 100.0) -> History:
    """One equity, two key rates at 1 and 3 years, a volatility index; three days."""
    rows = tuple((price * (1 + day / 100), *RATES, 20.0 + day) for day in (2, 1, 0))
    return History(tuple(TODAY - timedelta(days) for days in (2, 1, 0)), ("A",), (1.0, 3.0), True, rows)


def today(elapsed_years: float = 0.0, shock: tuple[float, ...] = (0.0,) * 4) -> World:
    return World.shocked(history(), np.array([shock]), elapsed_years)


def in_days(days: int) -> date:
    return TODAY + timedelta(days)


def bond(days: int, coupon: float = 0.0, spread: float = 0.0) -> Bond:
    return Bond("b", 1, 1000.0, coupon, 2, in_days(days), spread)


def option(sign: int, strike: float = 95.0, days: int = 730, vol: float = 0.25) -> Option:
    return Option("o", sign, 1, "A", strike, in_days(days), vol, 0.03)


def test_zero_bond_is_discounted_at_the_interpolated_rate_and_its_spread() -> None:
    value = float(today().bond(bond(730, spread=0.01))[0])
    assert value == pytest.approx(1000 * math.exp(-(0.03 + 0.01) * 2))


@pytest.mark.parametrize(("days", "rate"), [(73, 0.02), (365, 0.02), (1095, 0.04), (3650, 0.04)])
def test_curve_is_flat_outside_its_key_rates(days: int, rate: float) -> None:
    assert float(today().rate(days / 365)[0]) == pytest.approx(rate)


def test_coupon_dates_run_back_from_maturity_and_keep_to_the_month() -> None:
    flows = cash_flows(Bond("b", 1, 1000, 0.04, 4, date(2026, 8, 31), 0), TODAY)
    assert flows == [(date(2026, 2, 28), 10), (date(2026, 5, 31), 10), (date(2026, 8, 31), 1010)]


def test_payment_within_the_horizon_counts_as_cash() -> None:
    assert float(today(elapsed_years=0.5).bond(bond(30))[0]) == 1000.0


def test_put_and_call_differ_by_the_forward() -> None:
    world = today(shock=(0.1, 0.002, -0.001, 0.3))
    tau = 2.0
    forward = world.prices[0, 0] * math.exp(-0.03 * tau) - 95.0 * math.exp(-float(world.rate(tau)[0]) * tau)
    assert float(world.option(option(1))[0] - world.option(option(-1))[0]) == pytest.approx(forward)


def test_call_has_the_textbook_price() -> None:
    """Hull, Options, Futures and Other Derivatives, example 15.6: S 42, K 40, r 10 %, vol 20 %, 6 months."""
    flat = replace(history(42.0), values=((42.0, 0.1, 0.1, 20.0),) * 3)
    half = Option("o", 1, 1, "A", 40.0, in_days(1), 0.2, 0.0)
    world = World.shocked(flat, np.zeros((1, 4)), 1 / 365 - 0.5)
    assert float(world.option(half)[0]) == pytest.approx(4.76, abs=0.005)
    assert float(world.option(replace(half, sign=-1))[0]) == pytest.approx(0.81, abs=0.005)


def test_expired_option_is_worth_its_payoff() -> None:
    world = today(elapsed_years=0.5, shock=(math.log(1.1), 0, 0, 0))
    assert float(world.option(option(1, days=30))[0]) == pytest.approx(15.0)
    assert float(world.option(option(-1, days=30))[0]) == 0.0


def test_equity_risk_of_one_share_is_the_lognormal_quantile() -> None:
    """Alone and with normal shocks, the answer is a formula."""
    shipped = read_history(RISK / "prices.csv")
    share = Portfolio((Equity("e", 1000, shipped.equities[0]),), (), ())
    deviation = daily_moves(shipped)[:, 0].std(ddof=1) * math.sqrt(10)
    exact = -1000 * shipped.values[-1][0] * (math.exp(-2.3263478740408408 * deviation) - 1)
    model = replace(parameters(share, shipped, dof=0), threshold_cents=0)
    level = aggregate(run_tasks(model.pack(40, 512), range(40))).measures()["levels"]["0.99"]
    assert abs(level["var"] - exact) < 4 * level["var_se"]
    reference = measures(profits(share, shipped, 20_000, 10.0, 0, seed=3))["var_0.99"]
    assert abs(reference[0] - exact) < 4 * reference[1]


@cache
def shipped() -> tuple[Portfolio, History]:
    rows = read_history(RISK / "prices.csv")
    return read_portfolio(RISK / "portfolio.csv", rows), rows


def test_tasks_agree_with_the_reference_within_four_standard_errors() -> None:
    threshold = tail_threshold_cents(*shipped(), horizon_days=10.0, dof=6, tail=0.3)
    model = replace(parameters(*shipped()), threshold_cents=threshold)
    ours = aggregate(run_tasks(model.pack(60, 512), range(60))).measures()
    theirs = measures(profits(*shipped(), paths=20_000, horizon_days=10.0, dof=6, seed=11))
    found = differences(ours, theirs)
    assert [name for name, *_ in found] == list(theirs)
    assert max(abs(errors) for *_, errors in found) < 4, found


def test_reference_notices_a_book_that_is_not_the_same() -> None:
    portfolio, rows = shipped()
    model = replace(parameters(replace(portfolio, options=()), rows), threshold_cents=0)
    ours = aggregate(run_tasks(model.pack(60, 512), range(60))).measures()
    theirs = measures(profits(portfolio, rows, paths=20_000, horizon_days=10.0, dof=6, seed=11))
    assert max(abs(errors) for *_, errors in differences(ours, theirs)) > 4


def test_base_value_adds_up_the_positions() -> None:
    book = Portfolio((Equity("e", 3, "A"),), (), (bond(365),))
    assert base_value(book, history()) == pytest.approx(300 + 1000 * math.exp(-0.02))
