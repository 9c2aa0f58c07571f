"""Why a speaker model says that somebody speaks: where on the face, and by which modality."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Protocol, Tuple

import torch

from ..errors import InvalidInputError
from .eval_mode import evaluating
from .maps import normalise, select_channels, upsample

#: Maps of a face; see :func:`explain_speaker`.
SPEAKER_METHODS = ("contribution", "gate", "activation")


class SpeakerNet(Protocol):
    """What a speaker model offers; see :class:`se_zoo.models.SpeakerModel`."""

    @property
    def se(self) -> Any: ...
    @property
    def modalities(self) -> Tuple[str, ...]: ...
    @property
    def fusion(self) -> Any: ...
    @property
    def detector(self) -> Any: ...
    def lengths(self, audio: Any, face: Any, body: Any, mask: Any) -> torch.Tensor: ...
    def forward_features(self, audio: Any, face: Any, body: Any, mask: Any) -> Any: ...
    def gate(self, features: torch.Tensor, se: Any, mask: Any) -> torch.Tensor: ...
    def join(self, streams: Any, visual: torch.Tensor, mask: Any) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False, repr=False)
class SpeakerExplanation:
    """Scores and their reasons, frame by frame; of padding frames everything is zero.

    Attributes:
        logits: Log-odds of speaking, (B, T).
        heatmap: On the face crops, (B, T, H, W) in [0, 1]; the strongest spot of a clip is 1.
        raw: The map itself at its own grid, (B, T, h, w).
        visual_gate: SE vectors of the face, (B, T, C).
        fusion_gate: Gate of the modalities' channels side by side, (B, T, channels).
        shares: How much each modality (last axis, in the order of ``modalities``) has to do with a
            frame's score, (B, T, M), measured in three ways: ``"gate"``, its part of the fusion
            gate; ``"features"``, of gate times magnitude of the features; ``"drop"``, what the
            logit loses (log-odds, not a share) if the modality is taken away behind the gate. The
            gate alone barely tells modalities apart.
        modalities: Names.
        method: ``"contribution"``, ``"gate"`` or ``"activation"``.
        rule: Which rule selected the channels of the gate map, of each frame of each clip.
        gate_trained: Whether the face's SE gate can say anything: an identity gate that was never
            trained is 1 for every channel, and the gate map is then the mean of arbitrary
            channels. Of a ``"sigmoid"`` gate, which begins at random, it cannot be told.
        lengths: Frames of each clip, (B,).
    """

    logits: torch.Tensor
    heatmap: torch.Tensor
    raw: torch.Tensor
    visual_gate: torch.Tensor
    fusion_gate: torch.Tensor
    shares: Dict[str, torch.Tensor]
    modalities: Tuple[str, ...]
    method: str
    rule: Tuple[Tuple[str, ...], ...]
    gate_trained: bool
    lengths: torch.Tensor

    @property
    def scores(self) -> torch.Tensor:
        """Probability of speaking, (B, T); 0 of padding."""
        return self.logits.sigmoid() * self.mask

    @property
    def mask(self) -> torch.Tensor:
        """Which frames are the clips' own, (B, T) bool."""
        steps = torch.arange(self.logits.shape[1], device=self.logits.device)
        return steps < self.lengths[:, None]

    @property
    def native_grid(self) -> Tuple[int, ...]:
        """Time steps, rows and columns of the map."""
        return tuple(self.raw.shape[1:])

    def save(
        self,
        path: Any,
        face: torch.Tensor,
        clip: int = 0,
        truth: Optional[torch.Tensor] = None,
        fps: float = 25.0,
    ) -> None:
        """Draw a clip as PNG: faces with their heatmaps, the score over time, and the shares of
        the modalities.

        Args:
            path: Where to, ``.png``.
            face: The crops that were explained, 0 to 255, (B, T, H, W).
            clip: Which of the clips.
            truth: Whether it speaks, (T,) of 0 and 1.
            fps: Frames a second.

        Raises:
            InvalidInputError: If there is no such clip or folder, or the crops are others.
        """
        from .draw.speaker_clips import figure_of

        path = Path(path)
        if path.suffix.lower() != ".png" or not path.parent.is_dir():
            raise InvalidInputError(f"{path} must be a .png file in an existing folder.")
        figure_of(self, face, clip, truth, fps).savefig(path, dpi=100)

    def __repr__(self) -> str:
        gate = "" if self.gate_trained else ", its SE gate was never trained"
        return (
            f"SpeakerExplanation({len(self.logits)} clips, {self.method}{gate}, grid "
            f"{self.native_grid}, {' and '.join(self.modalities)})"
        )


def explain_speaker(
    model: SpeakerNet,
    audio: torch.Tensor,
    face: torch.Tensor,
    body: Optional[torch.Tensor] = None,
    mask: Optional[torch.Tensor] = None,
    method: str = "contribution",
) -> SpeakerExplanation:
    """Score clips and say why.

    Args:
        model: A speaker model with an SE block; its mode is left as it is.
        audio: MFCCs, (B, 4 T, 13).
        face: Grey face crops, 0 to 255, (B, T, H, W).
        body: The same of bodies, for models that have the stream.
        mask: Which frames are the clips' own, (B, T) bool.
        method: ``"contribution"``: the gated features weighed by the gradient of the clip's summed
            logits with respect to the pooled face vector of their frame (that of fusion and
            detector alone: the encoders see no gradient). ``"gate"``: mean of the gated features
            of the channels whose gate stands out in the frame, as arXiv 2412.05134 has it.
            ``"activation"``: plain mean of the channels, the control.

    Raises:
        InvalidInputError: For an unknown method, a model without an SE block, and shapes that do
            not belong together.
    """
    if method not in SPEAKER_METHODS:
        raise InvalidInputError(f"method is one of {', '.join(SPEAKER_METHODS)}, not {method!r}.")
    if getattr(model, "se", None) is None:
        raise InvalidInputError("this speaker model has no SE block, so there is no gate to read.")
    lengths = model.lengths(audio, face, body, mask)
    padded = mask if mask is not None and not bool(mask.all()) else None
    with evaluating(model):  # type: ignore[arg-type]
        with torch.no_grad():
            streams = model.forward_features(audio, face, body, padded)
            gate = model.gate(streams.visual, model.se, padded)
            gated = streams.visual * gate.transpose(1, 2)[..., None, None]
            joined = model.join(streams, gated.amax((3, 4)).transpose(1, 2), padded)
        logits, fusion, slope = _detect(model, joined, lengths, method == "contribution")
        with torch.no_grad():
            drops = _drops(model, joined * fusion, lengths, logits)
    own = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask
    weights, rule = _weights(method, gate, slope, model.modalities)
    raw = torch.einsum("btc,bcthw->bthw", weights, streams.visual if method == "activation" else
                       gated)  # fmt: skip
    valid = own[..., None]
    return SpeakerExplanation(
        logits=logits * own,
        heatmap=_heatmaps(raw, lengths, tuple(face.shape[2:]), method == "contribution"),
        raw=raw * valid[..., None],
        visual_gate=gate * valid,
        fusion_gate=fusion * valid,
        shares={k: v * valid for k, v in {**_shares(model, joined, fusion), "drop": drops}.items()},
        modalities=model.modalities,
        method=method,
        rule=rule,
        gate_trained=bool(model.se.fc2.weight.any()) or model.se.gate_kind != "identity",
        lengths=lengths,
    )


def _detect(
    model: SpeakerNet, joined: torch.Tensor, lengths: torch.Tensor, gradient: bool
) -> Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
    """Logits, fusion gate, and the slope of each clip's summed logits, (B, T, channels)."""
    if not gradient:
        with torch.no_grad():
            fusion = model.fusion(joined)
            return model.detector(joined * fusion, lengths), fusion, None
    # cuDNN's recurrent layers have no gradient in eval mode.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        leaf = joined.detach().requires_grad_(True)
        fusion = model.fusion(leaf)
        logits = model.detector(leaf * fusion, lengths)
        steps = torch.arange(logits.shape[1], device=logits.device)
        (slope,) = torch.autograd.grad((logits * (steps < lengths[:, None])).sum(), leaf)
    return logits.detach(), fusion.detach(), slope


def _weights(
    method: str, gate: torch.Tensor, slope: Optional[torch.Tensor], modalities: Tuple[str, ...]
) -> Tuple[torch.Tensor, Tuple[Tuple[str, ...], ...]]:
    """Channel weights of the face's map, (B, T, C), and the rule of every frame."""
    count, frames, channels = gate.shape
    selection = select_channels(gate.flatten(0, 1))
    rules = tuple(selection.rule[i * frames : (i + 1) * frames] for i in range(count))
    if slope is not None:
        place = modalities.index("face") * channels
        return slope[..., place : place + channels], rules
    chosen = selection.mask.unflatten(0, (count, frames)).to(gate.dtype)
    if method == "activation":
        chosen = torch.ones_like(chosen)
    return chosen / chosen.sum(2, keepdim=True), rules


def _heatmaps(
    raw: torch.Tensor, lengths: torch.Tensor, size: Tuple[int, ...], from_zero: bool
) -> torch.Tensor:
    """(B, T, H, W): each clip by itself, so that its neighbours in the batch change nothing."""
    found = raw.new_zeros(*raw.shape[:2], *size)
    for clip, length in enumerate(lengths.tolist()):
        large = upsample(raw[clip, :length], size)
        found[clip, :length] = normalise(large[None], from_zero)[0]
    return found


def _parts(model: SpeakerNet, features: torch.Tensor) -> Tuple[torch.Tensor, ...]:
    """(B, T, C) of each modality."""
    return features.chunk(len(model.modalities), 2)


def _shares(
    model: SpeakerNet, joined: torch.Tensor, fusion: torch.Tensor
) -> Dict[str, torch.Tensor]:
    found = {}
    for name, values in (("gate", fusion), ("features", (fusion * joined).abs())):
        sums = torch.stack([part.sum(2) for part in _parts(model, values)], 2)
        found[name] = sums / sums.sum(2, keepdim=True).clamp(min=1e-12)
    return found


def _drops(
    model: SpeakerNet, fused: torch.Tensor, lengths: torch.Tensor, logits: torch.Tensor
) -> torch.Tensor:
    """What every frame's logit loses without each modality, (B, T, M)."""
    parts, found = _parts(model, fused), []
    for gone in range(len(parts)):
        rest = [torch.zeros_like(p) if n == gone else p for n, p in enumerate(parts)]
        found.append(logits - model.detector(torch.cat(rest, 2), lengths))
    return torch.stack(found, 2)
