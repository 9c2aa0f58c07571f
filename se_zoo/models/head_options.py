"""Check the options of an SE head: thresholds, the offset of its maps, and their method."""

import math
from typing import Optional, Sequence, Tuple

from ..errors import InvalidInputError
from ..explanations.methods import offered_methods


def check_head_options(
    num_classes: Optional[int],
    multi_label: bool,
    thresholds: Optional[Sequence[float]],
    map_offset: Sequence[float],
    map_method: Optional[str],
) -> Tuple[Optional[Tuple[float, ...]], Tuple[float, float]]:
    """Check the options of an SE head, and return thresholds and offset as tuples.

    Args:
        num_classes: Number of classes; None if the model does not tell.
        multi_label: Whether the classes are independent yes/no labels.
        thresholds: One probability for each label of a multi-label model, or None.
        map_offset: Offset (x, y) of the maps, in pixels.
        map_method: Default method of ``explain``, or None.

    Returns:
        Thresholds, or None, and the offset.

    Raises:
        InvalidInputError: If the thresholds are not one number in (0, 1) for each label, the offset
            is not a pair of numbers, or the method is not one for these classes.
    """
    kept = _check_thresholds(thresholds, num_classes, multi_label)
    offset = _check_offset(map_offset)
    offered = offered_methods(multi_label, num_classes or 0)
    if map_method is not None and map_method not in offered:
        kind = "multi-label model" if multi_label else "model of these classes"
        raise InvalidInputError(
            f"map_method is {map_method!r}; a {kind} may draw {', '.join(offered)}."
        )
    return kept, offset


def _check_thresholds(
    thresholds: Optional[Sequence[float]], num_classes: Optional[int], multi_label: bool
) -> Optional[Tuple[float, ...]]:
    """Check thresholds and return them as a tuple.

    Args:
        thresholds: Probabilities, or None.
        num_classes: Number of labels; None if the model does not tell.
        multi_label: Whether the labels are independent.

    Returns:
        One threshold for each label, or None.

    Raises:
        InvalidInputError: If they are not one number in (0, 1) for each label of a multi-label
            model.
    """
    if thresholds is None:
        return None
    if not multi_label:
        raise InvalidInputError("thresholds are for independent labels: set multi_label=True.")
    try:
        kept = tuple(float(t) for t in thresholds)
    except (TypeError, ValueError):
        raise InvalidInputError(f"thresholds must be numbers, not {thresholds!r}.") from None
    if num_classes is not None and len(kept) != num_classes:
        raise InvalidInputError(f"{len(kept)} thresholds for {num_classes} labels; give one each.")
    if not all(0 < t < 1 for t in kept):
        raise InvalidInputError(f"thresholds must lie between 0 and 1: {list(kept)}.")
    return kept


def _check_offset(offset: Sequence[float]) -> Tuple[float, float]:
    """Check an offset of maps and return it as (x, y), in pixels.

    Args:
        offset: Two numbers.

    Returns:
        The offset.

    Raises:
        InvalidInputError: If it is not a pair of finite numbers.
    """
    try:
        x, y = (float(v) for v in offset)
    except (TypeError, ValueError):
        raise InvalidInputError(f"map_offset must be two numbers (x, y), not {offset!r}.") from None
    if not (math.isfinite(x) and math.isfinite(y)):
        raise InvalidInputError(f"map_offset must be finite, not {offset!r}.")
    return x, y
