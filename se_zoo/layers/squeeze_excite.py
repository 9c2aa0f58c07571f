"""The Squeeze-and-Excitation block (Hu et al., arXiv 1709.01507, section 3).

arXiv 2412.05134 (section III) puts one such block right before the classifier and derives the
explanation from its gate.
"""

import math
import numbers
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

import torch
from torch import fx, nn

from ..errors import InvalidInputError

#: Factor of the sigmoid for each kind of gate.
_SCALES = {"sigmoid": 1.0, "identity": 2.0}
GATES = tuple(_SCALES)


def _scaled(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """Return features (B, C, *grid) times a gate (B, C)."""
    return x * gate.view(list(gate.shape) + [1] * (x.dim() - 2))


fx.wrap("_scaled")  # FX cannot follow it, because it does not know the number of axes


class SqueezeExcite(nn.Module):
    """Block that gates the channels of a feature map by its own channel means.

    ``s = sigmoid(W2 relu(W1 mean(x)))`` and ``y = s * x``, without biases, as in the paper.

    Args:
        channels: Number of channels C of the features.
        reduction: The hidden layer has ``max(1, channels // reduction)`` units (paper: 16).
        gate: ``"sigmoid"`` is the paper's block. ``"identity"`` is ``2 * sigmoid`` with a
            zero-initialised last layer. The gate is exactly 1 at the start, so inserting the block
            into a trained model does not change a bit of its logits.
        device: Where the parameters are created.
        dtype: Floating type of the parameters.

    Raises:
        InvalidInputError: If ``channels`` or ``reduction`` is not a positive whole number, or
            ``gate`` is unknown.
    """

    gate_scale: torch.Tensor
    __jit_unused_properties__: Tuple[str, ...] = ("trained",)

    if TYPE_CHECKING:  # TorchScript reads the annotations that are there at run time
        fc1: nn.Linear
        fc2: nn.Linear

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        gate: str = "sigmoid",
        device: "torch.device | str | None" = None,
        dtype: "torch.dtype | None" = None,
    ) -> None:
        super().__init__()
        for number in (channels, reduction):
            if not isinstance(number, numbers.Integral) or number < 1:
                raise InvalidInputError(
                    "SqueezeExcite needs positive whole channels and reduction, not "
                    f"{channels!r} and {reduction!r}."
                )
        if gate not in GATES:
            raise InvalidInputError(f"Unknown gate {gate!r}; the gates are {', '.join(GATES)}.")
        hidden = max(1, channels // reduction)
        self.fc1 = nn.Linear(channels, hidden, bias=False, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, channels, bias=False, device=device, dtype=dtype)
        self.channels = channels
        self.reduction = reduction
        self.gate_kind = gate
        # A factor instead of a branch, for TorchScript and FX. It is part of the state dict,
        # because the weights alone do not tell the kind of gate that they were trained with.
        scale = torch.tensor(_SCALES[gate], device=device, dtype=dtype)
        self.register_buffer("gate_scale", scale)
        if gate == "identity":
            nn.init.zeros_(self.fc2.weight)

    def excite(self, squeezed: torch.Tensor) -> torch.Tensor:
        """Return the gate of squeezed features.

        Args:
            squeezed: Channel means, (B, C).

        Returns:
            Gate (SE vector), (B, C), in (0, 1), or in (0, 2) for ``gate="identity"``.
        """
        return self.gate_scale * torch.sigmoid(self.fc2(torch.relu(self.fc1(squeezed))))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gate of features, without applying it.

        Args:
            x: Features, (B, C, *grid).

        Returns:
            Gate (SE vector), (B, C), as in :meth:`excite`.
        """
        return self.excite(x.flatten(2).mean(dim=2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the gated features.

        Args:
            x: Features, (B, C, *grid), with one or more grid axes.

        Returns:
            Gated features of the same shape.
        """
        return _scaled(x, self.gate(x))

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, metadata: Any, strict: bool,
        missing: List[str], unexpected: List[str], errors: List[str],
    ) -> None:  # fmt: skip
        """Load weights as torch does; weights of another kind of gate are an error."""
        scale = state_dict.get(f"{prefix}gate_scale")
        if scale is not None and not scale.is_meta:
            value = float(scale)
            # Not to the bit, because averages of weights are rounded.
            close = (g for g, s in _SCALES.items() if math.isclose(value, s, rel_tol=1e-3))
            trained = next(close, None)
            if trained is None:
                errors.append(
                    f"gate_scale is {value:g}, which is no gate; the weights are damaged."
                )
                return
            if trained != self.gate_kind:
                errors.append(
                    f"These weights were trained with gate={trained!r}, but the model has "
                    f"gate={self.gate_kind!r}; create it with gate={trained!r}."
                )
                return
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing, unexpected, errors
        )

    @property
    def trained(self) -> bool:
        """Whether the gate can say anything: False for an identity gate that was never trained.

        Such a gate is 1 for every channel. Of the weights of a sigmoid gate nobody can tell.
        """
        if self.gate_kind != "identity":
            return True
        last: Any = self.fc2
        weight: Any = last.weight
        if isinstance(weight, torch.Tensor) and not isinstance(last, nn.Linear):
            # A wrapper, such as PEFT's LoRA, computes more than what it calls its weight.
            units = torch.eye(weight.shape[-1], device=weight.device, dtype=weight.dtype)
            with torch.no_grad():
                return bool(last(units).any())
        weight = weight() if callable(weight) else weight  # torch's quantised layers have a method
        # MPS, XPU and meta cannot dequantize plain tensors.
        plain = type(weight) in (torch.Tensor, nn.Parameter) and not weight.is_quantized
        weight = weight.detach()
        return bool((weight.float() if plain else weight.dequantize()).any())

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        return f"channels={self.channels}, reduction={self.reduction}, gate={self.gate_kind!r}"
