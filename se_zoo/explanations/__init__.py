"""Explanations: maps from the gate and the head, their results, drawings and quality."""

from .channels import channel_logits
from .explained_model import ExplainedModel
from .explainer import explain
from .explanation import Explanation
from .maps import select_channels
from .methods import METHODS
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
