"""Measures of the quality of heatmaps.

They measure whether heatmaps lie on the object, whether the model needs the pixels that they mark,
and whether they depend on the model and the image. Each measure is a function of batches and takes
the heatmaps of any method. Where several variants of a measure are published, its docstring names
the one that is used.
"""

from .channel_deletion import Deleted, channel_contributions, channel_deletion, top_channels
from .controls import blurred, centre_gaussian, smooth_noise, squared
from .imputation import Road, impute, road
from .masks import mask_regions
from .pixels import Curves, Kept, deletion_insertion, drop_increase_gain, softmax
from .regions import (
    best_mask_iou,
    box_ious,
    energy_in_region,
    mask_ious,
    max_box_accuracy,
    mosaic,
    pixel_average_precision,
    pointing_game,
)
from .sanity import randomised, rank_correlation, shift_stability
from .summary import adcc

__all__ = [
    "Curves",
    "Deleted",
    "Kept",
    "Road",
    "adcc",
    "best_mask_iou",
    "blurred",
    "box_ious",
    "centre_gaussian",
    "channel_contributions",
    "channel_deletion",
    "deletion_insertion",
    "drop_increase_gain",
    "energy_in_region",
    "impute",
    "mask_ious",
    "mask_regions",
    "max_box_accuracy",
    "mosaic",
    "pixel_average_precision",
    "pointing_game",
    "randomised",
    "rank_correlation",
    "road",
    "shift_stability",
    "smooth_noise",
    "softmax",
    "squared",
    "top_channels",
]
