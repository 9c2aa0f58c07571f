"""Explanations: maps from the gate and the head, their results, drawings and quality."""

from .channel_logits import channel_logits
from .channel_selection import select_channels
from .explained_model import ExplainedModel
from .explainer import explain
from .explanation import Explanation
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
