"""Explanations: maps from the gate and the head, their result object, and drawing."""

from .explainer import METHODS, channel_logits, explain
from .maps import select_channels
from .result import Explanation

__all__ = ["METHODS", "Explanation", "channel_logits", "explain", "select_channels"]
