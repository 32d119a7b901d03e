"""`hearth doctor`, and what a node does where a layer is missing."""

import json
from collections.abc import Iterator

import pytest

from hearthmesh.node.cli.app import run
from hearthmesh.node.execution import bubblewrap
from hearthmesh.node.isolation import layers as looking
from hearthmesh.node.isolation import selftest
from hearthmesh.node.isolation.layers import Layer, detect, lacking, layers, layers_around_programs
from hearthmesh.node.isolation.selftest import Attempt, SelfTest

THERE = (Layer("bubblewrap", True, "0.8.0", needed_by=("native",)), Layer("Landlock", True, "ABI 7"))
NO_BUBBLEWRAP = (Layer("bubblewrap", False, "not installed", "apt install bubblewrap", ("native",)), THERE[1])
NO_LANDLOCK = (THERE[0], Layer("Landlock", False, "off", "lsm=landlock"))
HELD = SelfTest("wasm", (Attempt("reach the network", True, "EACCES"),))
BROKEN = SelfTest("wasm", (*HELD.attempts, Attempt("trace the node", False, "attached")))
UNTRIED = SelfTest("native", (), "no Python could run there")


@pytest.fixture
def without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (bubblewrap, looking):
        monkeypatch.setattr(module, "SEARCH_PATH", "/nowhere")
    detect.cache_clear()
    yield
    detect.cache_clear()


def diagnose(
    monkeypatch: pytest.MonkeyPatch, found: tuple[Layer, ...], *tests: SelfTest, words: tuple[str, ...] = ()
) -> int:
    async def answer(*_: object) -> SelfTest:
        return remaining.pop(0)

    remaining = list(tests)
    monkeypatch.setattr(looking, "layers", lambda: found)
    monkeypatch.setattr(selftest, "try_worker", answer)
    monkeypatch.setattr(selftest, "try_native", answer)
    return run(["doctor", *words])


@pytest.mark.parametrize(
    ("found", "tests", "code"),
    [
        pytest.param(THERE, (HELD, HELD), 0, id="all there, all refused"),
        pytest.param(NO_LANDLOCK, (HELD, HELD), 0, id="a layer that nothing insists on"),
        pytest.param(NO_BUBBLEWRAP, (HELD, UNTRIED), 2, id="a layer that native tasks need"),
        pytest.param(THERE, (BROKEN, HELD), 1, id="an attempt got through"),
        pytest.param(THERE, (HELD, UNTRIED), 1, id="attempts that could not be made"),
    ],
)
def test_the_exit_code_says_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: tuple[Layer, ...],
    tests: tuple[SelfTest, ...],
    code: int,
) -> None:
    assert diagnose(monkeypatch, found, *tests, words=("--json",)) == code
    report = json.loads(capsys.readouterr().out)
    assert report["exit"] == code
    assert [test["held"] for test in report["self_tests"]] == [test.held for test in tests]


def test_no_container_is_tried_as_a_node_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(looking, "try_container", lambda: tried.append("container") or "")
    monkeypatch.setattr(looking, "_program", lambda name: f"/usr/bin/{name}")
    assert "podman" not in [layer.name for layer in layers_around_programs()] and not tried
    assert "podman" in [layer.name for layer in layers()] and tried == ["container"]


def test_people_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    diagnose(monkeypatch, NO_BUBBLEWRAP, BROKEN, UNTRIED)
    assert capsys.readouterr().out.splitlines() == [
        "bubblewrap         MISSING: not installed",
        "                   to have it: apt install bubblewrap",
        "Landlock           ABI 7",
        "native tasks are refused here, for want of bubblewrap",
        "wasm sandbox: 1 of 2 attempts refused",
        "  GOT THROUGH: trace the node: attached",
        "native sandbox: not tried, no Python could run there",
    ]


def test_without_bubblewrap_native_is_refused_and_wasm_goes_on(
    without_bubblewrap: None, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [layer.name for layer in lacking(layers(), "native")]
    assert names[:2] == ["bubblewrap", "user namespaces"]
    confinement = detect()
    assert (confinement.bwrap, confinement.missing[0].split(":")[0]) == ("", "bubblewrap")
    assert run(["doctor", "--look-only", "--json"]) == 2
    assert "bubblewrap" in json.loads(capsys.readouterr().out)["native_refused"]
