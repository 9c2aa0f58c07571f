"""Explanations: maps from the gate and the head, their result object, and drawing."""

from .channels import channel_logits
from .explained_model import ExplainedModel
from .explainer import METHODS, explain
from .explanation import Explanation
from .maps import select_channels
from .speaker import SpeakerExplanation, explain_speaker

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
