"""Turn the features of all modalities into one logit a frame."""

from typing import Callable

import torch
from torch import nn


def _states(layer: nn.GRU, x: torch.Tensor) -> torch.Tensor:
    """Return the states of a recurrent layer, (B, T, units)."""
    states: torch.Tensor = layer(x)[0]
    return states


class Gate(nn.Module):
    """Gate every channel of every frame by a sigmoid, as LR-ASD's fusion does.

    Args:
        channels: Channels of the features.
    """

    conv: nn.Conv1d
    norm: nn.BatchNorm1d

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gate of features (B, T, C), of the same shape, in (0, 1)."""
        gate: torch.Tensor = torch.sigmoid(self.norm(self.conv(x.transpose(1, 2))))
        return gate.transpose(1, 2)


class Detector(nn.Module):
    """Detect speech with a recurrent layer in each direction, a gate and a linear layer.

    Args:
        inputs: Channels of the features.
        hidden: Units of each direction.
    """

    forward_gru: nn.GRU
    backward_gru: nn.GRU
    dropout: nn.Dropout
    gate: Gate
    classifier: nn.Linear

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.forward_gru = nn.GRU(inputs, hidden, batch_first=True)
        self.backward_gru = nn.GRU(inputs, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.gate = Gate(2 * hidden)
        self.classifier = nn.Linear(2 * hidden, 1)

    def forward(
        self,
        x: torch.Tensor,
        lengths: torch.Tensor,
        run: Callable[[nn.GRU, torch.Tensor], torch.Tensor] = _states,
    ) -> torch.Tensor:
        """Return the logits (B, T) of features (B, T, C) of clips of these lengths, (B,).

        An export has its own way to ``run`` a recurrent layer.
        """
        ahead = run(self.forward_gru, self.dropout(x))
        behind = run(self.backward_gru, reverse(self.dropout(x), lengths))
        both = torch.cat([ahead, reverse(behind, lengths)], 2)
        logits: torch.Tensor = self.classifier(both * self.gate(both)).squeeze(2)
        return logits


def reverse(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return x (B, T, C) with each clip's own frames reversed; padding keeps its place."""
    steps = torch.arange(x.shape[1], device=x.device)
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, places[:, :, None].expand_as(x))
