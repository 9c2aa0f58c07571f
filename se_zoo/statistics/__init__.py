"""Figures of multi-label models with what they are worth: intervals over people, groups,
calibration, and a threshold a label.

Everything here takes tensors of answers and knows neither models nor files.
"""

from .bootstrap import FEWEST_PEOPLE, Estimate, People
from .calibration import calibration_error
from .groups import FEWEST_CASES, group_rows
from .precision import weighted_average_precision
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
