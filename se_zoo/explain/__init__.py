"""Explanations: maps from the gate and the head, their result object, and drawing."""

from .channels import channel_logits
from .explainer import METHODS, explain
from .graph import ExplainedModel
from .maps import select_channels
from .result import Explanation
from .speakers import SpeakerExplanation, explain_speaker

__all__ = [
    "METHODS",
    "ExplainedModel",
    "Explanation",
    "SpeakerExplanation",
    "channel_logits",
    "explain",
    "explain_speaker",
    "select_channels",
]
