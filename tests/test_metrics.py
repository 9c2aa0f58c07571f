"""Average precision, against tables computed by hand."""

from pathlib import Path
from typing import List, Sequence

import numpy as np
import pytest

from se_zoo.errors import DataError
from se_zoo.metrics import (
    SPEAKING,
    _descending,
    ava_average_precision,
    average_precision,
)


def test_by_hand() -> None:
    """Right at ranks 1, 3 and 4 of 5: precisions 1, 2/3, 3/4, of which 2/3 is raised to 3/4."""
    scores = [0.9, 0.8, 0.7, 0.6, 0.5]
    found = average_precision([True, False, True, True, False], scores)
    assert found == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    assert average_precision([False, False, False, False, True], scores) == pytest.approx(1 / 5)
    assert average_precision([True] * 5, scores) == 1
    assert average_precision([True], [0.0]) == 1


def test_rows_of_equal_score_are_not_grouped() -> None:
    """All scores are equal: pandas' quicksort, turned round twice, leaves few rows as they are."""
    assert _descending(np.zeros(4)).tolist() == [0, 1, 2, 3]
    assert average_precision([True, False, True, False], [0.5] * 4) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision([False, True, False, True], [0.5] * 4) == pytest.approx(1 / 2)
    assert _descending(np.array([0.1, 0.5, 0.5, 0.9])).tolist() == [3, 1, 2, 0]


def test_order_is_that_of_pandas() -> None:
    pandas = pytest.importorskip("pandas", reason="compares with pandas")
    rng = np.random.default_rng(0)
    for rows in (3, 17, 100, 3000):
        scores = rng.integers(0, 9, rows) / 8
        frame = pandas.DataFrame({"score": scores}).sort_values(by="score", ascending=False)
        assert frame.index.tolist() == _descending(scores).tolist()


@pytest.mark.parametrize(
    "positive, scores, says",
    [
        ([False, False], [0.1, 0.2], "no row is positive"),
        ([], [], "no row is positive"),
        ([True], [float("nan")], "row 0 has no score"),
        ([True, False], [0.5], "2 rows of truth and 1 scores"),
    ],
)
def test_what_has_no_average_precision(
    positive: List[bool], scores: List[float], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        average_precision(positive, scores)


# Files

HEADER = (
    "video_id,frame_timestamp,entity_box_x1,entity_box_y1,entity_box_x2,entity_box_y2,label,"
    "entity_id"
)
LABELS = {True: SPEAKING, False: "NOT_SPEAKING"}


def rows(labels: Sequence[bool]) -> List[str]:
    return [
        f"v,{900 + i / 25:.2f},0.1,0.1,0.5,0.5,{LABELS[label]},v_1"
        for i, label in enumerate(labels)
    ]


def scored(lines: Sequence[str], scores: Sequence[float]) -> List[str]:
    return [f"{line},{score}" for line, score in zip(lines, scores, strict=True)]


def save(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_are_joined_on_entity_and_time(tmp_path: Path) -> None:
    labels, scores = [True, False, True, True, False], [0.9, 0.8, 0.7, 0.6, 0.5]
    truth = rows(labels)
    expected = average_precision(labels, scores)
    plain = save(tmp_path / "truth.csv", truth)
    guesses = scored([r.replace(SPEAKING, "SPEAKING_NOT_AUDIBLE") for r in truth], scores)
    shuffled = [guesses[i] for i in (3, 1, 4, 0, 2)]
    found = ava_average_precision(plain, save(tmp_path / "a.csv", shuffled))
    assert found == pytest.approx(expected)
    other = [g.replace(",900.0,", ",900.00,") for g in guesses]  # the same time, written otherwise
    headed = save(tmp_path / "b.csv", [f"{HEADER},score", *other])
    assert ava_average_precision(
        save(tmp_path / "headed.csv", [HEADER, *truth]), headed
    ) == pytest.approx(expected)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    truth = rows([True, False, True])
    file, good = save(tmp_path / "t.csv", truth), scored(truth, [0.3, 0.2, 0.1])
    cases = {
        "lacks 1 rows": good[:2],
        "has 1 others": [*good, *scored(rows([True] * 4)[3:], [0.1])],
        "v_1 at 900.0 twice": [*good, good[0]],
        "is no score": [*good[:2], good[2].replace("0.1,0.1,", "0.1,0.1,")[:-3] + "x"],
        "no column score": truth,
        "row 2: it has 10 cells": [good[0], good[1] + ",1"],
        "has no rows": [""],
    }
    for says, lines in cases.items():
        with pytest.raises(DataError, match=says):
            ava_average_precision(file, save(tmp_path / "p.csv", lines))
    unlabelled = [row.replace(SPEAKING, "").replace("NOT_SPEAKING", "") for row in truth]
    with pytest.raises(DataError, match="3 rows have no label"):
        ava_average_precision(save(tmp_path / "u.csv", unlabelled), save(tmp_path / "p.csv", good))
    with pytest.raises(DataError, match="cannot read"):
        ava_average_precision(tmp_path / "none.csv", file)
