"""Fifty inputs of ``benchmarks.fuzz``, in this process."""

import warnings
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="the inputs need se_zoo[train]")
pytest.importorskip("datasets", reason="the inputs need se_zoo[train]")
pytest.importorskip("av", reason="the inputs need se_zoo[video]")

from benchmarks.fuzz import OUTCOMES, Found, table, try_input
from benchmarks.fuzz_coverage import summary
from benchmarks.fuzz_inputs.case import Case, Reader, WrongAnswerError
from benchmarks.fuzz_inputs.readers import READERS
from se_zoo import InvalidInputError


def test_there_are_ten_readers() -> None:
    assert len(READERS) == 10


@pytest.mark.parametrize("name", READERS)
def test_broken_inputs_are_refused_by_one_clear_error(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, torch, ...; they are no outcome
        found = [try_input(name, number, seed=0) for number in range(5)]
    # This process has the memory of all tests before.
    wrong = [each for each in found if each.outcome not in ("right", "memory")]
    assert not wrong, wrong


def test_same_seed_makes_the_same_inputs() -> None:
    one, two = (try_input("facts", 3, seed=1) for _ in range(2))
    assert one.input == two.input and one.outcome == two.outcome


@pytest.mark.parametrize(
    "error, valid, outcome",
    [
        (None, None, "right"), (None, True, "right"), (None, False, "wrongly accepted"),
        (InvalidInputError("no"), False, "right"),
        (InvalidInputError("no"), True, "wrongly refused"), (KeyError("no"), None, "traceback"),
        (MemoryError(), None, "memory"),
        (WrongAnswerError("other rows"), None, "wrongly accepted"),
    ],
)  # fmt: skip
def test_outcomes_are_judged(
    error: Exception, valid: bool, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process has the memory of all tests before.
    monkeypatch.setattr("benchmarks.fuzz._peak", lambda: 0)

    def read(path: Path) -> None:
        if error is not None:
            raise error

    reader = Reader(lambda rng, folder: Case(folder, valid, "nothing"), read)
    assert try_input("made up", 0, 0, reader).outcome == outcome


def test_table_has_a_column_for_every_outcome() -> None:
    found = [Found("right", "", "no", 0.26, 3_000_000), Found("hang", "", "", 30.0, 9_000_000)]
    lines = table({"config": found}).splitlines()
    assert all(outcome in lines[0] for outcome in OUTCOMES)
    assert lines[2] == "| config | 2 | 1 | 0 | 0 | 0 | 1 | 0 | 0.3 s | 3 MB |"


def test_log_of_the_guided_search_is_counted() -> None:
    log = (
        "\n#2\tINITED cov: 30 ft: 31 corp: 1/9b exec/s: 0 rss: 90Mb\nFOREIGN KeyError: a (x)\n"
        "#99\tDONE   cov: 45 ft: 60 corp: 7/90b exec/s: 9 rss: 91Mb\n"
    )
    assert list(summary(log).values()) == [99, 30, 45, 7, 1]
    crashed = log + "==123== ERROR: libFuzzer: out-of-memory (used: 1501Mb)\n"
    assert list(summary(crashed).values())[-1] == 2
