"""Score who speaks, frame by frame, from sound and face crops.

The architecture is LR-ASD's, rebuilt from its description: two small encoders whose convolutions
take space and time apart, a gate on the concatenated features, and a recurrent detector. An SE
block follows the last visual map. It squeezes over space alone, so every frame has its own gate,
and neither padding nor the other clips of a batch change it (published code pools over batch and
time). arXiv 2412.05134 (section IV) explains active speaker detection with SE blocks.

The file is long because a user's one class lies here with all its documentation.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import nn

from ...errors import InvalidInputError
from ...explanations import SpeakerExplanation, explain_speaker
from ...explanations.methods import SPEAKER_METHODS
from ...layers import SqueezeExcite
from ..label_lists import SPEAKER_LABELS
from .detector import Detector, Gate
from .encoders import AudioEncoder, VisualEncoder
from .tensors import SpeakerOutput, Streams, clip_lengths, random_second


class SpeakerModel(nn.Module):
    """Detect, frame by frame, whether a person speaks.

    Args:
        channels: Channels of the three blocks of each encoder.
        hidden: Units of each direction of the recurrent detector.
        gate: Kind of the SE block; see :class:`~se_zoo.layers.SqueezeExcite`.
        reduction: Reduction of the SE block.
        pool: What the SE block squeezes over: ``"frame"``: over space, one gate a frame;
            ``"clip"``: over all valid frames too, one gate for the clip, as in the paper.
        body: Whether a third stream sees the body (BIAS's variant).
        se: Whether there is an SE block.
        map_method: Method of :meth:`explain` if none is given: the one that was measured to point
            best; None: contribution maps.

    Attributes:
        takes_clips: Whether inputs are clips (B, C, T, H, W); False, as a speaker model takes sound
            and crops.
        noun: What one sample is called.
        map_input: Name of the input that heatmaps lie on; see :meth:`example_inputs`.
        fixed_labels: The labels, which cannot be others.

    Raises:
        InvalidInputError: If ``pool`` or ``map_method`` is unknown.
    """

    takes_clips = False
    noun = "track"
    map_input = "face"
    fixed_labels: Tuple[str, ...] = SPEAKER_LABELS

    audio_encoder: AudioEncoder
    visual_encoder: VisualEncoder
    body_encoder: Optional[VisualEncoder]
    se: Optional[SqueezeExcite]
    body_se: Optional[SqueezeExcite]
    fusion: Gate
    detector: Detector
    visual_classifier: nn.Linear
    num_features: int
    num_classes: int
    map_method: Optional[str]

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int = 64,
        gate: str = "identity",
        reduction: int = 16,
        pool: str = "frame",
        body: bool = False,
        se: bool = True,
        map_method: Optional[str] = None,
    ) -> None:
        super().__init__()
        if pool not in ("frame", "clip"):
            raise InvalidInputError(f"pool must be 'frame' or 'clip', not {pool!r}.")
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
        self.map_method = map_method
        self.check_options()

    def check_options(self) -> None:
        """Check the options that may have been set since the model was made.

        Raises:
            InvalidInputError: If ``map_method`` is unknown.
        """
        if self.map_method not in (None, *SPEAKER_METHODS):
            known = ", ".join(SPEAKER_METHODS)
            raise InvalidInputError(
                f"map_method is {self.map_method!r}; the methods of speakers are {known}."
            )

    def class_labels(self) -> Tuple[str, ...]:
        """Return the label names: one, ``speaking``."""
        return SPEAKER_LABELS

    def is_multi_label(self) -> bool:
        """Return True: each label is answered with yes or no."""
        return True

    @property
    def explains(self) -> bool:
        """Whether the model has an SE block, so that it can be explained and saved."""
        return self.se is not None

    @property
    def gate_trained(self) -> bool:
        """Whether the gate can say anything: False for an identity gate that was never trained."""
        return self.se is not None and self.se.trained

    def save_args(self) -> Dict[str, Any]:
        """Return the arguments of the architecture that make the model again."""
        made_with = dict(getattr(self, "_model_args", {}))
        made_with.pop("map_method", None)  # it may have been set since
        own = {} if self.map_method is None else {"map_method": self.map_method}
        return {**made_with, **own}

    def example_inputs(self, count: int = 1, seed: int = 0) -> Dict[str, torch.Tensor]:
        """Return random inputs of one second.

        Args:
            count: Number of clips, B.
            seed: Seed of the random numbers.

        Returns:
            ``audio`` (B, 100, 13), ``face`` (B, 25, 112, 112) and, of a model with that stream,
            ``body`` like ``face``; float32, on the CPU.
        """
        return random_second(self.modalities, count, seed)

    @property
    def se_args(self) -> Dict[str, Any]:
        """Arguments of the SE block; empty if there is none."""
        if self.se is None:
            return {}
        return {"gate": self.se.gate_kind, "reduction": self.se.reduction, "pool": self.pool}

    def head_args(self) -> Dict[str, Any]:
        """Return the arguments that make this SE block and its maps again."""
        own = {} if self.map_method is None else {"map_method": self.map_method}
        return {**self.se_args, **own}

    def get_classifier(self) -> nn.Module:
        """Return the layer that computes the logits, as in timm."""
        return self.detector.classifier

    @property
    def modalities(self) -> Tuple[str, ...]:
        """Names of the streams, in the order of their channels in the joined features."""
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
            body: Grey body crops, likewise; only for models that have the stream.
            mask: Which frames are the clip's own, (B, T) bool: its first ones. The others are
                padding, and their logits are zero. None: all are the clip's own. In training,
                padding enters the statistics of the BatchNorms: cut a batch to one length.

        Returns:
            Logits from face and sound, and from the face alone, (B, T) each.

        Raises:
            InvalidInputError: If the shapes do not fit together.
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
        method: Optional[str] = None,
    ) -> SpeakerExplanation:
        """Score clips and explain the scores; see :func:`se_zoo.explanations.explain_speaker`.

        Args:
            audio: As :meth:`forward`.
            face: As :meth:`forward`.
            body: As :meth:`forward`.
            mask: As :meth:`forward`.
            method: ``"contribution"``, ``"gate"`` or ``"activation"``; by default the model's
                ``map_method``, or else ``"contribution"``.

        Returns:
            The explanation.

        Raises:
            InvalidInputError: If the method is unknown, the model has no SE block, or the shapes do
                not fit together.
        """
        return explain_speaker(self, audio, face, body, mask, method)

    def lengths(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Check the inputs and return the number of frames of each clip.

        Args:
            audio: As :meth:`forward`.
            face: As :meth:`forward`.
            body: As :meth:`forward`.
            mask: As :meth:`forward`.

        Returns:
            Frames of each clip that are its own, (B,) int64.

        Raises:
            InvalidInputError: If the shapes do not fit together, or the mask has gaps.
        """
        return clip_lengths(audio, face, body, mask, self.body_encoder is not None)

    def forward_features(
        self,
        audio: torch.Tensor,
        face: torch.Tensor,
        body: Optional[torch.Tensor] = None,
        mask: Optional[torch.Tensor] = None,
    ) -> Streams:
        """Return the features of each modality before its gate.

        Args:
            audio: As :meth:`forward`.
            face: As :meth:`forward`.
            body: As :meth:`forward`.
            mask: As :meth:`forward`.

        Returns:
            The features; zero in padding frames.
        """
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
            inputs: What :meth:`example_inputs` returns.

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
        """Return the SE vectors of a map, one a frame.

        Args:
            features: Map, (B, C, T, H, W).
            se: The SE block.
            mask: Which frames are the clip's own, (B, T) bool; None: all.

        Returns:
            SE vectors, (B, T, C).
        """
        squeezed = features.mean((3, 4)).transpose(1, 2)
        if self.pool == "clip":
            if mask is None:
                squeezed = squeezed.mean(1, keepdim=True).expand_as(squeezed)
            else:  # the map is zero in padding frames
                means = squeezed.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
                squeezed = means.expand_as(squeezed)
        return se.excite(squeezed)

    def gated(
        self,
        features: torch.Tensor,
        se: Optional[SqueezeExcite],
        mask: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """Return a map multiplied by its SE gate.

        Args:
            features: Map, (B, C, T, H, W).
            se: The SE block; None returns the map unchanged.
            mask: Which frames are the clip's own, (B, T) bool; None: all.

        Returns:
            The gated map, of the same shape.
        """
        if se is None:
            return features
        return features * self.gate(features, se, mask).transpose(1, 2)[..., None, None]

    def join(
        self, streams: Streams, visual: torch.Tensor, mask: Optional[torch.Tensor]
    ) -> torch.Tensor:
        """Concatenate the features of the modalities.

        Args:
            streams: Features before their gates.
            visual: Pooled gated features of the face, (B, T, C).
            mask: Which frames are the clip's own, (B, T) bool; None: all.

        Returns:
            Joined features before the fusion gate, (B, T, channels).
        """
        parts: List[torch.Tensor] = [streams.audio, visual]
        if streams.body is not None:
            body = self.gated(streams.body, self.body_se, mask)
            parts.append(body.amax((3, 4)).transpose(1, 2))
        return torch.cat(parts, 2)

    def detect(self, joined: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the logits of joined features.

        Args:
            joined: Result of :meth:`join`, (B, T, channels).
            lengths: Frames of each clip, (B,).

        Returns:
            Log-odds of speaking, (B, T).
        """
        return self.detector(joined * self.fusion(joined), lengths)
