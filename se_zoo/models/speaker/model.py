"""Active speaker detection: sound and face crops in, one score a frame out, with SE gates.

The architecture is that of LR-ASD, from its description (two small encoders whose convolutions take
space and time apart, a gate on the concatenated features, a recurrent detector), with an SE block
behind the last visual map. The block squeezes over space alone, so every frame has its own gate:
what lies beside a clip in its batch, or pads it, changes nothing (published code pools over batch
and time). arXiv 2412.05134 (section IV) explains active speaker detection with SE blocks.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import nn

from ...data.faces.mfcc import COEFFICIENTS, WINDOWS
from ...errors import InvalidInputError
from ...explanations import SpeakerExplanation, explain_speaker
from ...layers import SqueezeExcite
from ..labels import SPEAKER_LABELS

#: Grey levels of face crops, of values in [0, 1] (LR-ASD, and TalkNet before it).
MEAN, STD = 0.4161, 0.1688


class SpeakerOutput(NamedTuple):
    """What a speaker model says.

    Attributes:
        logits: Log-odds of speaking, by face and sound, (B, T).
        visual_logits: By the face alone, (B, T); an aid to training.
    """

    logits: torch.Tensor
    visual_logits: torch.Tensor


class Streams(NamedTuple):
    """Features of the modalities before their gates.

    Attributes:
        audio: (B, T, C).
        visual: Map of the face before its SE gate, (B, C, T, H, W).
        body: Map of the body, likewise; None of models without one.
    """

    audio: torch.Tensor
    visual: torch.Tensor
    body: Optional[torch.Tensor] = None


class Unit(nn.Module):
    """Convolution that keeps the size, BatchNorm, ReLU; padding frames stay zero."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Sequence[int], stride: Sequence[int] = ()
    ):
        super().__init__()
        conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[len(kernel)]
        padding = tuple(size // 2 for size in kernel)
        self.conv = conv(
            inputs, outputs, tuple(kernel), tuple(stride) or 1, padding, bias=False  # type: ignore[arg-type]
        )  # fmt: skip
        self.norm = norm(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        x = torch.relu(self.norm(self._convolved(x)))
        # Zero, as the convolution's own padding is: a clip's end must not see what comes behind.
        return x if mask is None else x * mask

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        conv = self.conv
        if tuple(conv.kernel_size[1:]) != (1, 1):
            return conv(x)
        # Over time alone: as one of two dimensions, two to three times faster on a CPU in training.
        flat = torch.nn.functional.conv2d(
            x.flatten(3),
            conv.weight[..., 0],
            None,
            1,
            (conv.padding[0], 0),  # type: ignore[arg-type]
        )
        return flat.unflatten(3, x.shape[3:])


def _visual_block(inputs: int, outputs: int, stride: int) -> nn.ModuleList:
    """Two convolutions in space, two in time."""
    half = outputs // 2
    return nn.ModuleList(
        [
            Unit(inputs, half, (1, 5, 5), (1, stride, stride)),
            Unit(half, outputs, (1, 3, 3)),
            Unit(outputs, outputs, (5, 1, 1)),
            Unit(outputs, outputs, (3, 1, 1)),
        ]
    )


def _audio_block(inputs: int, outputs: int) -> nn.ModuleList:
    """Two convolutions over the coefficients, two in time."""
    half = outputs // 2
    return nn.ModuleList(
        [
            Unit(inputs, half, (5, 1)),
            Unit(half, outputs, (3, 1)),
            Unit(outputs, outputs, (1, 5)),
            Unit(outputs, outputs, (1, 3)),
        ]
    )


class VisualEncoder(nn.Module):
    """(B, T, H, W) grey crops -> (B, C, T, H / 8, W / 8)."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        inputs = (1, *channels[:-1])
        self.blocks = nn.ModuleList(
            _visual_block(i, o, 2 if n == 0 else 1)
            for n, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )

    def forward(self, crops: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        x = (crops[:, None].to(self.blocks[0][0].conv.weight.dtype) / 255 - MEAN) / STD  # type: ignore[index]
        valid = None if mask is None else mask[:, None, :, None, None]
        x = x if valid is None else x * valid
        for n, block in enumerate(self.blocks):
            for unit in block:  # type: ignore[attr-defined]
                x = unit(x, valid)
            if n < len(self.blocks) - 1:
                # In two dimensions: torch's gradient in three is not reproducible on CUDA.
                pooled = nn.functional.max_pool2d(x.flatten(1, 2), 3, 2, 1)
                x = pooled.unflatten(1, x.shape[1:3])
        return x


class AudioEncoder(nn.Module):
    """(B, 4 T, 13) coefficients -> (B, T, C)."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.blocks = nn.ModuleList(
            _audio_block(i, o) for i, o in zip((1, *channels[:-1]), channels, strict=True)
        )

    def forward(self, audio: torch.Tensor, mask: Optional[torch.Tensor]) -> torch.Tensor:
        x = audio.transpose(1, 2)[:, None]
        repeat = WINDOWS
        for n, block in enumerate(self.blocks):
            valid = None
            if mask is not None:
                valid = mask.repeat_interleave(repeat, 1)[:, None, None]
                x = x * valid
            for unit in block:  # type: ignore[attr-defined]
                x = unit(x, valid)
            if n < len(self.blocks) - 1:
                x = nn.functional.max_pool2d(x, (1, 3), (1, 2), (0, 1))
                repeat //= 2
        return x.mean(2).transpose(1, 2)


class Gate(nn.Module):
    """A sigmoid gate of its own for every channel of every frame (LR-ASD's fusion)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The gate of features (B, T, C), in (0, 1), same shape."""
        gate: torch.Tensor = torch.sigmoid(self.norm(self.conv(x.transpose(1, 2))))
        return gate.transpose(1, 2)


class Detector(nn.Module):
    """Recurrent both ways, gated, one logit a frame: (B, T, C) -> (B, T)."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.forward_gru = nn.GRU(inputs, hidden, batch_first=True)
        self.backward_gru = nn.GRU(inputs, hidden, batch_first=True)
        self.dropout = nn.Dropout(0.5)
        self.gate = Gate(2 * hidden)
        self.classifier = nn.Linear(2 * hidden, 1)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ahead, _ = self.forward_gru(self.dropout(x))
        behind, _ = self.backward_gru(reverse(self.dropout(x), lengths))
        both = torch.cat([ahead, reverse(behind, lengths)], 2)
        logits: torch.Tensor = self.classifier(both * self.gate(both)).squeeze(2)
        return logits


def reverse(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Each clip's own frames backwards, padding where it is; (B, T, C)."""
    steps = torch.arange(x.shape[1], device=x.device)
    places = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    return x.gather(1, places[:, :, None].expand_as(x))


class SpeakerModel(nn.Module):
    """Who speaks, frame by frame.

    Args:
        channels: Of the three blocks of each encoder.
        hidden: Of each direction of the recurrent detector.
        gate: Of the SE block; see :class:`~se_zoo.layers.SqueezeExcite`.
        reduction: Likewise.
        pool: What the SE block squeezes over: ``"frame"`` over space, one gate a frame; ``"clip"``
            over all valid frames too, one gate for the clip, the paper's form.
        body: Whether a third stream sees the body (BIAS's variant).
        se: Whether there is an SE block at all.

    Raises:
        ValueError: For another ``pool``.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int = 64,
        gate: str = "identity",
        reduction: int = 16,
        pool: str = "frame",
        body: bool = False,
        se: bool = True,
    ):
        super().__init__()
        if pool not in ("frame", "clip"):
            raise ValueError(f"pool is 'frame' or 'clip', not {pool!r}.")
        width = channels[-1]
        self.audio_encoder = AudioEncoder(channels)
        self.visual_encoder = VisualEncoder(channels)
        self.body_encoder = VisualEncoder(channels) if body else None
        self.se = SqueezeExcite(width, reduction, gate) if se else None
        self.body_se = SqueezeExcite(width, reduction, gate) if se and body else None
        self.fusion = Gate(width * (3 if body else 2))
        self.detector = Detector(width * (3 if body else 2), hidden)
        self.visual_classifier = nn.Linear(width, 1)
        self.pool, self.num_features, self.num_classes = pool, width, 1

    takes_clips = False  # a clip is three colours without sound
    noun = "track"
    map_input = "face"

    def class_labels(self) -> Tuple[str, ...]:
        """Names of the answers: one, ``speaking``."""
        return SPEAKER_LABELS

    def is_multi_label(self) -> bool:
        """Whether an answer is a yes or no of its own: it is."""
        return True

    @property
    def se_args(self) -> Dict[str, Any]:
        """Arguments of the SE block; empty where there is none."""
        if self.se is None:
            return {}
        return {"gate": self.se.gate_kind, "reduction": self.se.reduction, "pool": self.pool}

    def head_args(self) -> Dict[str, Any]:
        """Return the arguments that make this SE block again."""
        return self.se_args

    def get_classifier(self) -> nn.Module:
        """As in timm: the layer that gives the logits."""
        return self.detector.classifier

    @property
    def modalities(self) -> Tuple[str, ...]:
        """Names of the streams, in the order of their channels behind the fusion."""
        return ("audio", "face") if self.body_encoder is None else ("audio", "face", "body")

    def forward(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
    ) -> SpeakerOutput:
        """Score every frame.

        Args:
            audio: MFCCs, four windows a frame, (B, 4 T, 13).
            face: Grey face crops, 0 to 255, (B, T, 112, 112).
            body: The same of the body, for models that have the stream.
            mask: Which frames are the clip's own, (B, T) bool: its first ones; the others pad it,
                and their logits are zero. None: all. In training, padding is in the statistics of
                the BatchNorms: cut a batch to clips of one length.

        Raises:
            InvalidInputError: For shapes that do not belong together.
        """
        lengths = self.lengths(audio, face, body, mask)
        padded = mask if mask is not None and not bool(mask.all()) else None
        streams = self.forward_features(audio, face, body, padded)
        visual = self.gated(streams.visual, self.se, padded).amax((3, 4)).transpose(1, 2)
        logits = self.detect(self.join(streams, visual, padded), lengths)
        alone = self.visual_classifier(visual).squeeze(2)
        if padded is not None:
            logits, alone = logits * padded, alone * padded
        return SpeakerOutput(logits, alone)

    def explain(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
        method: str = "contribution",
    ) -> SpeakerExplanation:
        """Scores with their reasons; see :func:`se_zoo.explanations.explain_speaker`."""
        return explain_speaker(self, audio, face, body, mask, method)

    def lengths(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Number of frames of every clip, (B,).

        Raises:
            InvalidInputError: For shapes that do not belong together, and masks with gaps.
        """
        if face.dim() != 4 or min(face.shape) < 1:
            raise InvalidInputError(f"face is (B, T, H, W), got {tuple(face.shape)}.")
        count, frames = face.shape[:2]
        if tuple(audio.shape) != (count, WINDOWS * frames, COEFFICIENTS):
            raise InvalidInputError(
                f"audio of {count} clips of {frames} frames is ({count}, {WINDOWS * frames}, "
                f"{COEFFICIENTS}): {WINDOWS} windows a frame; got {tuple(audio.shape)}."
            )
        if (body is None) != (self.body_encoder is None):
            raise InvalidInputError(
                "this model has a body stream: give body."
                if body is None
                else "this model has no body stream; create it with body=True."
            )
        if body is not None and body.shape[:2] != face.shape[:2]:
            raise InvalidInputError(
                f"body has {tuple(body.shape[:2])} clips and frames, face {tuple(face.shape[:2])}."
            )
        if mask is None:
            return torch.full((count,), frames, device=face.device)
        if mask.shape != face.shape[:2] or mask.dtype != torch.bool:
            raise InvalidInputError(
                f"mask is bool, {tuple(face.shape[:2])}; got {mask.dtype}, {tuple(mask.shape)}."
            )
        lengths = mask.sum(1)
        first = torch.arange(frames, device=mask.device) < lengths[:, None]
        if not bool(lengths.min()) or not torch.equal(first, mask):
            raise InvalidInputError("mask must be True for the first frames of every clip alone.")
        return lengths

    def forward_features(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
    ) -> Streams:
        """Features of each modality, ungated."""
        return Streams(
            self.audio_encoder(audio, mask),
            self.visual_encoder(face, mask),
            None if self.body_encoder is None else self.body_encoder(body, mask),
        )

    def feature_grid(
        self, features: Streams, image_size: Optional[Tuple[int, int]] = None
    ) -> torch.Tensor:
        """Return the map of the face, (B, C, T, H, W), whatever the ``image_size``."""
        return features.visual

    def has_exact_maps(self) -> bool:
        """Return False: maps of speakers need a gradient and do not add up to the logits."""
        return False

    def output_differences(self, other: "SpeakerModel", inputs: Dict[str, Any]) -> List[str]:
        """Compare the outputs of two models, bit by bit.

        Args:
            other: A model that takes the same inputs; both models are in eval mode.
            inputs: What :func:`se_zoo.models.examples.example_inputs` returns.

        Returns:
            Those of "logits", "heatmap", "gate" and "shares" that differ.
        """
        mine, theirs = self.explain(**inputs), other.explain(**inputs)
        equal = {
            "logits": torch.equal(mine.logits, theirs.logits),
            "heatmap": torch.equal(mine.heatmap, theirs.heatmap),
            "gate": torch.equal(mine.visual_gate, theirs.visual_gate),
            "shares": all(torch.equal(v, theirs.shares[name]) for name, v in mine.shares.items()),
        }
        return [name for name, same in equal.items() if not same]

    def gate(
        self, features: torch.Tensor, se: SqueezeExcite, mask: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """SE vectors of a map (B, C, T, H, W), one a frame: (B, T, C)."""
        squeezed = features.mean((3, 4)).transpose(1, 2)
        if self.pool == "clip":
            if mask is None:
                squeezed = squeezed.mean(1, keepdim=True).expand_as(squeezed)
            else:  # the map is zero where it pads
                means = squeezed.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
                squeezed = means.expand_as(squeezed)
        return se.excite(squeezed)

    def gated(
        self,
        features: torch.Tensor,
        se: Optional[SqueezeExcite],
        mask: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """The map behind its SE gate, same shape."""
        if se is None:
            return features
        return features * self.gate(features, se, mask).transpose(1, 2)[..., None, None]

    def join(
        self, streams: Streams, visual: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """The modalities side by side, ungated, (B, T, channels)."""
        parts: List[torch.Tensor] = [streams.audio, visual]
        if streams.body is not None:
            body = self.gated(streams.body, self.body_se, mask)
            parts.append(body.amax((3, 4)).transpose(1, 2))
        return torch.cat(parts, 2)

    def detect(self, joined: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits, (B, T), of the modalities side by side."""
        return self.detector(joined * self.fusion(joined), lengths)
