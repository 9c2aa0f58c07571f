"""Statistics of multi-label models: rates with intervals, groups, calibration and thresholds.

All functions take tensors of labels and predictions; none uses models or files.
"""

from .bootstrap import FEWEST_PEOPLE, Estimate, People
from .calibration import calibration_error
from .groups import FEWEST_CASES, group_rows
from .precision import average_precisions, weighted_average_precision
from .rates import accuracy_of, balanced_accuracy_of, confusion, f1_of
from .report import describe
from .thresholds import THRESHOLDS, best_thresholds, counts_at, tally

__all__ = [
    "FEWEST_CASES",
    "FEWEST_PEOPLE",
    "THRESHOLDS",
    "Estimate",
    "People",
    "accuracy_of",
    "average_precisions",
    "balanced_accuracy_of",
    "best_thresholds",
    "calibration_error",
    "confusion",
    "counts_at",
    "describe",
    "f1_of",
    "group_rows",
    "tally",
    "weighted_average_precision",
]
