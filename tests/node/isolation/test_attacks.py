"""The page's table of attacks is that of the tests, and each test that it names is there."""

import re

import pytest

from tests.node.isolation.attacks import ATTACKS, PAGE, Try, page, tries
from tests.node.isolation.test_attempts import ATTEMPTS

TRIES = [one for attack in ATTACKS for one in tries(attack) if one is not None]


@pytest.mark.parametrize("one", TRIES, ids=[one.test.rpartition("/")[2] for one in TRIES])
def test_each_attack_names_a_test_that_is_there(one: Try) -> None:
    text = one.file.read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {one.function}\(", text, re.MULTILINE), one.test
    if one.case:
        assert one.case in ATTEMPTS or f'id="{one.case}"' in text or f'"{one.case}"' in text, one.test


def test_the_page_has_the_tests_table() -> None:
    assert page() == PAGE.read_text(encoding="utf-8"), "run python -m tests.node.isolation.attacks"


def test_every_attempt_of_the_doctor_is_in_the_table() -> None:
    named = {one.case for one in TRIES}
    assert [attempt for attempt in ATTEMPTS if attempt not in named] == []


def test_a_slash_in_a_tests_parameters_is_kept() -> None:
    found = re.findall(r"`([^`|]+)`(?=<br>| \|)", page())
    assert "test_wasm_command.py::test_an_attack_gets_its_code_and_the_next_task_runs[writing to /in]" in found
