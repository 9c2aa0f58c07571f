"""Metrics of benchmarks, computed as their official scripts do."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from .data.faces.ava import SPEAKING, Row, read_ava
from .errors import DataError


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the average precision as AVA-ActiveSpeaker's official script computes it.

    It is the area under the interpolated precision-recall curve, as in PASCAL VOC since 2010
    (Everingham et al., doi 10.1007/s11263-014-0733-5, section 3.3), at all points and row by row.
    Rows of equal score are not grouped; they keep the order of the script's sort. scikit-learn
    groups them and does not interpolate, and differs by 0.2 to 1.6 points.

    The script's sort is numpy's quicksort, whose order of equal scores differs between processors.
    With many equal scores, the figure therefore differs between processors, in the script as here.

    Args:
        positive: Whether each row is positive.
        scores: Score of each row, larger for more certain rows.

    Returns:
        Average precision in [0, 1].

    Raises:
        DataError: If there is no positive row, a score is NaN, or the two differ in length.
    """
    truth, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise DataError(
            f"{len(truth)} rows of truth and {len(values)} scores do not match; give one score "
            "per row."
        )
    if not truth.any():
        raise DataError("no row is positive, so average precision is undefined.")
    if np.isnan(values).any():
        raise DataError(f"row {int(np.isnan(values).argmax())} has no score (NaN).")
    right = truth[_descending(values)].cumsum()
    precision = right / np.arange(1, len(right) + 1)
    recall = right / right[-1]
    # The best precision at this recall or a higher one.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return float((steps * best).sum())


def _descending(scores: np.ndarray) -> np.ndarray:
    """Return the rows in the order of pandas' ``DataFrame.sort_values(ascending=False)``.

    pandas sorts the reversed rows in ascending order, with an unstable sort, and reverses the
    result.
    """
    backwards = np.arange(len(scores))[::-1]
    return backwards[scores[::-1].argsort(kind="quicksort")][::-1]


def ava_average_precision(truth: Path, predictions: Path) -> float:
    """Return the average precision of predictions in AVA's format.

    Rows are matched by entity and time. Unlike the official script, boxes are not compared.

    Args:
        truth: AVA's CSV file with labels.
        predictions: CSV file of the same rows, in any order, with a column ``score``.

    Returns:
        Average precision in [0, 1], see :func:`average_precision`.

    Raises:
        DataError: If the truth has a row without a label or no positive row, a row occurs twice, or
            the predictions are not for exactly the rows of the truth.
    """
    return average_precision(*_joined(truth, predictions))


def _joined(truth: Path, predictions: Path) -> Tuple[List[bool], List[float]]:
    """Return label and score of every row, joined on entity and time, in truth's order."""
    rows, scored = read_ava(truth, "label"), _by_key(read_ava(predictions, "score"), predictions)
    known = _by_key(rows, truth)
    unlabelled = [row.key for row in rows if not row.value]
    if unlabelled:
        raise DataError(f"{truth}: {len(unlabelled)} rows have no label, the first is "
                        f"{_named(unlabelled[0])}.")  # fmt: skip
    missing = [key for key in known if key not in scored]
    strange = [key for key in scored if key not in known]
    if missing or strange:
        first = _named((missing or strange)[0])
        raise DataError(
            f"{predictions} lacks {len(missing)} rows of {truth} and has {len(strange)} others, "
            f"the first is {first}."
        )
    scores = [_score(scored[row.key], predictions) for row in rows]
    return [row.value == SPEAKING for row in rows], scores


def _by_key(rows: List[Row], file: Path) -> Dict[Tuple[str, str], str]:
    found: Dict[Tuple[str, str], str] = {}
    for row in rows:
        if row.key in found:
            raise DataError(f"{file} has {_named(row.key)} twice.")
        found[row.key] = row.value
    return found


def _named(key: Tuple[str, str]) -> str:
    return f"{key[0]} at {key[1]}"


def _score(text: str, file: Path) -> float:
    value: Optional[float]
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or value != value:
        raise DataError(f"{file}: {text!r} is no score.")
    return value
