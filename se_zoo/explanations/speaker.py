"""Explanations of speaker models: where on the face, and from which modality, a score comes."""

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Protocol, Tuple, Union, cast

import torch

from ..errors import InvalidInputError
from ..text import counted
from .channel_selection import select_channels
from .eval_mode import in_eval_mode
from .head_gradient import OutOfInferenceMode
from .maps import to_unit_range, upsample
from .methods import FROM_ZERO_METHODS, SPEAKER_METHODS, default_method

_LOCK = threading.Lock()
#: Of each running block of :func:`without_cudnn`, whether cuDNN was enabled before the first one.
_WITHOUT_CUDNN: List[bool] = []


class SpeakerNet(Protocol):
    """The interface of a speaker model; see :class:`se_zoo.models.SpeakerModel`."""

    @property
    def se(self) -> Any:
        """SE block of the face stream, or None."""
        ...

    @property
    def modalities(self) -> Tuple[str, ...]:
        """Names of the streams, in the order of their channels."""
        ...

    @property
    def fusion(self) -> Any:
        """Module that gives the gate of the joined features."""
        ...

    @property
    def detector(self) -> Any:
        """Module that gives the logits of the gated joined features."""
        ...

    def lengths(self, audio: Any, face: Any, body: Any, mask: Any) -> torch.Tensor:
        """Check the inputs, and return the number of frames of each clip, (B,)."""
        ...

    def forward_features(self, audio: Any, face: Any, body: Any, mask: Any) -> Any:
        """Return the features of every stream."""
        ...

    def gate(self, features: torch.Tensor, se: Any, mask: Any) -> torch.Tensor:
        """Return the SE vectors of a stream, (B, T, C)."""
        ...

    def join(self, streams: Any, visual: torch.Tensor, mask: Any) -> torch.Tensor:
        """Return the channels of all streams side by side, (B, T, channels)."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class SpeakerExplanation:
    """Scores of clips and their explanation, frame by frame; padding frames are zero.

    Attributes:
        logits: Log-odds of speaking, (B, T).
        heatmap: Map on the face crops, (B, T, H, W) in [0, 1]; the strongest spot of a clip is 1.
        raw: The map before it is normalised, at its own grid, (B, T, h, w).
        visual_gate: SE vectors of the face, (B, T, C).
        fusion_gate: Gate of the modalities' channels side by side, (B, T, channels).
        shares: Share of each modality (last axis, in the order of ``modalities``) in a frame's
            score, (B, T, M), measured in three ways. ``"gate"``: its part of the fusion gate.
            ``"features"``: its part of gate times magnitude of the features. ``"drop"``: what the
            logit loses (log-odds, not a share) without the modality's gated features. The fusion
            gate alone hardly differs between modalities.
        modalities: Names of the modalities.
        method: ``"contribution"``, ``"gate"`` or ``"activation"``.
        rule: The rule that selected the channels of the gate map, of each frame of each clip.
        gate_trained: False for an identity gate that was never trained. Such a gate is 1 for every
            channel, so the gate map is the mean of arbitrary channels. Always True for a
            ``"sigmoid"`` gate: it starts at random, so training cannot be detected.
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
        """Probability of speaking, (B, T); 0 for padding frames."""
        return self.logits.sigmoid() * self.mask

    @property
    def mask(self) -> torch.Tensor:
        """Frames that are not padding, (B, T) bool."""
        steps = torch.arange(self.logits.shape[1], device=self.logits.device)
        return steps < self.lengths[:, None]

    @property
    def native_grid(self) -> Tuple[int, ...]:
        """Time steps, rows and columns of the raw map."""
        return tuple(self.raw.shape[1:])

    def save(
        self,
        path: Union[str, "os.PathLike[str]"],
        face: torch.Tensor,
        clip: int = 0,
        truth: Optional[torch.Tensor] = None,
        fps: float = 25.0,
        begin: float = 0.0,
    ) -> None:
        """Write a picture of a clip as PNG.

        It shows faces with their heatmaps, the score over time, and the shares of the modalities.

        Args:
            path: File to write, ``.png``.
            face: The crops that were explained, 0 to 255, (B, T, H, W).
            clip: Number of the clip.
            truth: Whether the face speaks, (T,) of 0 and 1; drawn beside the score.
            fps: Frames per second.
            begin: Second of the video at which the clip begins.

        Raises:
            InvalidInputError: If there is no such clip or folder, or the shape of the crops does
                not fit the explanation.
        """
        from .draw.speaker_clips import figure_of

        path = Path(path)
        if path.suffix.lower() != ".png" or not path.parent.is_dir():
            raise InvalidInputError(f"{path} must be a .png file in an existing folder.")
        figure_of(self, face, clip, truth, fps, begin).savefig(path, dpi=100)

    def __repr__(self) -> str:
        gate = "" if self.gate_trained else ", its SE gate was never trained"
        return (
            f"SpeakerExplanation({counted(len(self.logits), 'clip')}, {self.method}{gate}, grid "
            f"{self.native_grid}, {' and '.join(self.modalities)})"
        )


def explain_speaker(
    model: SpeakerNet,
    audio: torch.Tensor,
    face: torch.Tensor,
    body: Optional[torch.Tensor] = None,
    mask: Optional[torch.Tensor] = None,
    method: Optional[str] = None,
) -> SpeakerExplanation:
    """Score clips and explain the scores.

    Args:
        model: A speaker model with an SE block; its mode is as before afterwards.
        audio: MFCCs, (B, 4 T, 13).
        face: Grey face crops, 0 to 255, (B, T, H, W).
        body: Grey body crops of the same form, for models that have this stream.
        mask: Frames that are not padding, (B, T) bool; by default all.
        method: ``"contribution"``: the gated features, weighted by the gradient of the clip's
            summed logits with respect to the pooled face vector of their frame, through fusion and
            detector only. ``"gate"``: mean of the gated features of the channels whose gate stands
            out in the frame (arXiv 2412.05134). ``"activation"``: plain mean of the channels.
            By default the model's ``map_method``, or else ``"contribution"``.

    Returns:
        A :class:`SpeakerExplanation` of all clips.

    Raises:
        InvalidInputError: For an unknown method, no SE block, or shapes that do not fit.
    """
    method = method or default_method(model)
    if method not in SPEAKER_METHODS:
        raise InvalidInputError(f"method is one of {', '.join(SPEAKER_METHODS)}, not {method!r}.")
    check_block(model)
    lengths = model.lengths(audio, face, body, mask)
    padded = mask if mask is not None and not bool(mask.all()) else None
    with in_eval_mode(model) as still:  # type: ignore[arg-type]
        model = cast(SpeakerNet, still)
        with torch.no_grad():
            streams = model.forward_features(audio, face, body, padded)
        return explain_features(model, streams, lengths, tuple(face.shape[2:]), method, mask)


def explain_features(
    model: SpeakerNet,
    streams: Any,
    lengths: torch.Tensor,
    size: Tuple[int, ...],
    method: str,
    mask: Optional[torch.Tensor] = None,
) -> SpeakerExplanation:
    """Score and explain clips of which the features are known.

    Args:
        model: A speaker model with an SE block, in eval mode.
        streams: Features of each modality before its gate; see
            :class:`se_zoo.models.speaker.tensors.Streams`.
        lengths: Frames of each clip, (B,).
        size: Height and width of the heatmaps.
        method: ``"contribution"``, ``"gate"`` or ``"activation"``.
        mask: Frames that are not padding, (B, T) bool; by default all.

    Returns:
        A :class:`SpeakerExplanation` of all clips.
    """
    padded = mask if mask is not None and not bool(mask.all()) else None
    with torch.no_grad():
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
        heatmap=_heatmaps(raw, lengths, size, method in FROM_ZERO_METHODS),
        raw=raw * valid[..., None],
        visual_gate=gate * valid,
        fusion_gate=fusion * valid,
        shares={
            "gate": modality_shares(model, fusion) * valid,
            "features": modality_shares(model, joined * fusion) * valid,
            "drop": drops * valid,
        },
        modalities=model.modalities,
        method=method,
        rule=rule,
        gate_trained=model.se.trained,
        lengths=lengths,
    )


def check_block(model: object) -> None:
    """Check that a speaker model has an SE block.

    Raises:
        InvalidInputError: If it has none.
    """
    if getattr(model, "se", None) is None:
        raise InvalidInputError("This speaker model has no SE block; create it with se=True.")


def _detect(
    model: SpeakerNet, joined: torch.Tensor, lengths: torch.Tensor, gradient: bool
) -> Tuple[torch.Tensor, torch.Tensor, Optional[torch.Tensor]]:
    """Return logits, fusion gate, and the gradient of each clip's summed logits.

    The gradient is None unless it is asked for; its shape is (B, T, channels).
    """
    if not gradient:
        with torch.no_grad():
            fusion = model.fusion(joined)
            return model.detector(joined * fusion, lengths), fusion, None
    with torch.inference_mode(False), torch.enable_grad(), without_cudnn():
        leaf = joined.detach().clone().requires_grad_(True)
        with OutOfInferenceMode():
            fusion = model.fusion(leaf)
            logits = model.detector(leaf * fusion, lengths)
        steps = torch.arange(logits.shape[1], device=logits.device)
        (slope,) = torch.autograd.grad((logits * (steps < lengths[:, None])).sum(), leaf)
    return logits.detach(), fusion.detach(), slope


@contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN off, whose recurrent layers have no backward pass in eval mode.

    The switch is the process's. Of several threads the first one switches cuDNN off, and the last
    one puts it back: each by itself would switch it on while another one runs, and then leave it
    off for good.
    """
    with _LOCK:
        _WITHOUT_CUDNN.append(_WITHOUT_CUDNN[0] if _WITHOUT_CUDNN else torch.backends.cudnn.enabled)
        torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        with _LOCK:
            before = _WITHOUT_CUDNN.pop()
            if not _WITHOUT_CUDNN:
                torch.backends.cudnn.enabled = before


def _weights(
    method: str, gate: torch.Tensor, slope: Optional[torch.Tensor], modalities: Tuple[str, ...]
) -> Tuple[torch.Tensor, Tuple[Tuple[str, ...], ...]]:
    """Return the channel weights of the face's map, (B, T, C), and the rule of every frame."""
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
    """Return heatmaps (B, T, H, W); each clip is scaled by itself, without its padding."""
    found = raw.new_zeros(*raw.shape[:2], *size)
    for clip, length in enumerate(lengths.tolist()):
        large = upsample(raw[clip, :length], size)
        found[clip, :length] = to_unit_range(large[None], from_zero)[0]
    return found


def _parts(model: SpeakerNet, features: torch.Tensor) -> Tuple[torch.Tensor, ...]:
    """Split joined features into those of each modality, (B, T, C)."""
    return features.chunk(len(model.modalities), 2)


def modality_shares(model: SpeakerNet, values: torch.Tensor) -> torch.Tensor:
    """Return each modality's share in the magnitude of joined values.

    Args:
        model: Model of whose modalities the channels are.
        values: Values of all channels side by side, (B, T, channels).

    Returns:
        (B, T, M); the sum of a frame is 1.
    """
    sums = torch.stack([part.abs().sum(2) for part in _parts(model, values)], 2)
    return sums / sums.sum(2, keepdim=True).clamp(min=1e-12)


def _drops(
    model: SpeakerNet, fused: torch.Tensor, lengths: torch.Tensor, logits: torch.Tensor
) -> torch.Tensor:
    """Return what every frame's logit loses without each modality, (B, T, M)."""
    parts, found = _parts(model, fused), []
    for gone in range(len(parts)):
        rest = [torch.zeros_like(p) if n == gone else p for n, p in enumerate(parts)]
        found.append(logits - model.detector(torch.cat(rest, 2), lengths))
    return torch.stack(found, 2)
