"""How good heatmaps are: whether they lie where the answer is, whether the model needs what they
mark, and whether they depend on what they claim to explain.

Each measure is a function of batches, the same for every method that makes heatmaps. Where a
measure is published in several forms, its docstring says which it is.
"""

from .channel_deletion import Deleted, channel_contributions, channel_deletion, top_channels
from .controls import blurred, centre_gaussian
from .imputation import Road, impute, road
from .pixels import Curves, Kept, deletion_insertion, drop_increase_gain, softmax
from .regions import (
    box_ious,
    energy_in_region,
    max_box_accuracy,
    mosaic,
    pixel_average_precision,
    pointing_game,
)
from .sanity import randomised, rank_correlation, shift_stability

__all__ = [
    "Curves",
    "Deleted",
    "Kept",
    "Road",
    "blurred",
    "box_ious",
    "centre_gaussian",
    "channel_contributions",
    "channel_deletion",
    "deletion_insertion",
    "drop_increase_gain",
    "energy_in_region",
    "impute",
    "max_box_accuracy",
    "mosaic",
    "pixel_average_precision",
    "pointing_game",
    "randomised",
    "rank_correlation",
    "road",
    "shift_stability",
    "softmax",
    "top_channels",
]
