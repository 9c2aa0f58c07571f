"""Explanations: maps from the gate and the head, their result object, and drawing."""

from .channels import channel_logits
from .explainer import METHODS, explain
from .maps import select_channels
from .result import Explanation

__all__ = ["METHODS", "Explanation", "channel_logits", "explain", "select_channels"]
