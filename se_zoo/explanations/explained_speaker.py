"""Scores of a speaker model and their explanation as one module, which can be exported."""

from typing import Any, Dict, Optional, Tuple, cast

import torch
from torch import nn

from ..errors import InvalidInputError
from . import maps
from .explained_model import smooth_images
from .methods import CLASSLESS_METHODS, FROM_ZERO_METHODS, SPEAKER_METHODS, default_method
from .recurrent import gru_states
from .se_model import check_float32
from .speaker import SpeakerNet, check_block, modality_shares

#: Methods that need no gradient: that of a contribution map goes back through recurrent layers.
_EXPORTABLE = tuple(method for method in SPEAKER_METHODS if method in CLASSLESS_METHODS)


class ExplainedSpeaker(nn.Module):
    """A module that returns scores, maps, shares and gate of clips in one forward pass.

    It computes what the model's ``explain`` does, with tensor operations only, so that
    ``torch.export`` and ONNX take the whole module, for any number of clips and frames. There is no
    mask for padding: all frames are the clip's own, so the clips of a batch have one length.

    Args:
        model: Speaker model with an SE block, in float32; it is put into eval mode.
        method: ``"gate"`` or ``"activation"``; by default the model's ``map_method``. Contribution
            maps need a gradient, which cannot be exported.

    Attributes:
        inputs: Names of the inputs: audio, face, and body of models with that stream.
        outputs: Names of the five tensors that it returns.

    Raises:
        InvalidInputError: For a method that cannot be exported, a model without an SE block, and
            weights that are not float32.
    """

    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...] = ("logits", "heatmap", "raw", "shares", "gate")

    def __init__(self, model: nn.Module, method: Optional[str] = None):
        super().__init__()
        if not hasattr(model, "modalities"):
            raise InvalidInputError(
                f"{type(model).__name__} is no speaker model; use se_zoo.ExplainedModel for images."
            )
        check_block(model)
        method = method or default_method(model)
        if method not in _EXPORTABLE:
            raise InvalidInputError(
                f"method is {' or '.join(_EXPORTABLE)} here, not {method!r}: contribution maps of "
                "speaker models need a gradient through recurrent layers."
            )
        check_float32(model)
        self.model = model
        self.eval()
        self.method = method
        self.inputs = self.net.modalities

    @property
    def net(self) -> SpeakerNet:
        """The model, typed by its interface."""
        return cast(SpeakerNet, self.model)

    def forward(
        self, audio: torch.Tensor, face: torch.Tensor, body: Optional[torch.Tensor] = None
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score clips and explain the scores.

        Args:
            audio: MFCCs, (B, 4 T, 13).
            face: Grey face crops, 0 to 255, (B, T, H, W).
            body: Grey body crops of the same form, for models that have this stream.

        Returns:
            Log-odds of speaking, (B, T); heatmaps in [0, 1], (B, T, H, W), of which the strongest
            spot of a clip is 1; raw maps, (B, T, h, w); shares of the modalities in gate times
            magnitude of the features, (B, T, M); SE vectors of the face, (B, T, C).
        """
        model = self.net
        streams = model.forward_features(audio, face, body, None)
        gate = model.gate(streams.visual, model.se, None)
        gated = streams.visual * gate.transpose(1, 2)[..., None, None]
        joined = model.join(streams, gated.amax((3, 4)).transpose(1, 2), None)
        fused = joined * model.fusion(joined)
        lengths = torch.full((face.shape[0],), face.shape[1], device=face.device)
        logits = model.detector(fused, lengths, gru_states)
        raw = torch.einsum("btc,bcthw->bthw", self._weights(gate), streams.visual)
        large = maps.upsample(raw.flatten(0, 1), (face.shape[2], face.shape[3]))
        heatmap = maps.to_unit_range(
            large.unflatten(0, raw.shape[:2]), self.method in FROM_ZERO_METHODS
        )
        return logits, heatmap, raw, modality_shares(model, fused), gate

    def _weights(self, gate: torch.Tensor) -> torch.Tensor:
        """Return the channel weights of the map, gate included, (B, T, C)."""
        if self.method == "activation":
            return torch.full_like(gate, 1 / gate.shape[2])
        return maps.gate_weights(gate.flatten(0, 1)).unflatten(0, gate.shape[:2])

    def sample_inputs(self, count: int) -> Tuple[torch.Tensor, ...]:
        """Return smooth random clips; their number of frames grows with their number, ``count``."""
        example, frames = self.model.example_inputs(), 5 * count + 2  # type: ignore[operator]
        windows = example["audio"].shape[1] // example["face"].shape[1]
        shape = (count, windows * frames, example["audio"].shape[2])
        generator = torch.Generator().manual_seed(count)
        found = [5 * torch.randn(shape, generator=generator)]
        for name in self.inputs[1:]:
            size = tuple(example[name].shape[2:])
            found.append(128 + 64 * smooth_images((count, frames, *size), generator))
        return tuple(found)

    def free_axes(self) -> Tuple[Dict[int, Any], ...]:
        """Return the axes of each input that may have any length."""
        # torch 2.6 wants limits: those below which a clip's features can be counted in 32 bits.
        clips = torch.export.Dim("clips", min=1, max=10_000)
        frames = torch.export.Dim("frames", min=1, max=20_000)
        audio, face = self.sample_inputs(1)[:2]
        windows = audio.shape[1] // face.shape[1]
        others = [{0: clips, 1: frames} for _ in self.inputs[1:]]
        return ({0: clips, 1: windows * frames}, *others)

    def facts(self) -> Dict[str, Any]:
        """Return what a user of the graph needs to know, for the metadata of its file."""
        return {
            "method": self.method,
            "modalities": self.inputs,
            "labels": self.model.class_labels(),  # type: ignore[operator]
            "multi_label": True,
            "gate_trained": self.net.se.trained,
        }
