"""Fifty inputs of ``benchmarks.fuzz``, in this process."""

import warnings

import pytest

from benchmarks.fuzz import OUTCOMES, table, try_input
from benchmarks.fuzz_inputs import READERS


@pytest.mark.parametrize("name", READERS)
def test_broken_inputs_are_refused_by_one_clear_error(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, torch, ...; they are no outcome
        found = [try_input(READERS[name], name, number, seed=0) for number in range(17)]
    wrong = [each for each in found if each.outcome != "right"]
    assert not wrong, wrong
    assert any(each.message for each in found), "nothing was refused"
    assert all("\n" not in each.message for each in found)


def test_same_seed_makes_the_same_inputs() -> None:
    one, two = (try_input(READERS["facts"], "facts", 3, seed=1) for _ in range(2))
    assert one.input == two.input and one.outcome == two.outcome


def test_table_has_a_column_for_every_outcome() -> None:
    lines = table({"config": {"right": 3, "hang": 1}}).splitlines()
    assert all(outcome in lines[0] for outcome in OUTCOMES)
    assert lines[2] == "| config | 4 | 3 | 0 | 0 | 0 | 1 | 0 |"
