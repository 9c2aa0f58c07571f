"""Drawing of an explained speaker clip: faces, score and shares of the modalities over time."""

from typing import TYPE_CHECKING, Any, Optional

import matplotlib
import numpy as np
import torch

from ...errors import InvalidInputError
from ..maps import upsample
from ..methods import FROM_ZERO_METHODS
from .frame_scale import visible_frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..speaker import SpeakerExplanation

#: Largest number of faces shown, evenly spaced.
_FACES = 10
#: Colours of the modalities, the same as in the videos of `se-zoo speaker`.
_COLOURS = {"audio": "#4682dc", "face": "#f0aa28", "body": "#965ac8"}


def figure_of(
    explanation: "SpeakerExplanation",
    face: torch.Tensor,
    clip: int = 0,
    truth: Optional[torch.Tensor] = None,
    fps: float = 25.0,
    begin: float = 0.0,
) -> "Figure":
    """Draw one clip.

    The figure shows faces with their heatmaps (on a scale that
    :func:`~se_zoo.explanations.draw.frame_scale.visible_frames` describes), and below them, over
    the seconds, the score and the share of each modality (gate times magnitude of the features).

    Args:
        explanation: Explanation of one or more clips.
        face: The crops that were explained, 0 to 255, (B, T, H, W).
        clip: Number of the clip.
        truth: Whether the face speaks, (T,) of 0 and 1; drawn as shaded stretches.
        fps: Frames per second.
        begin: Second of the video at which the clip begins.

    Raises:
        InvalidInputError: If there is no such clip, or the crops do not fit the explanation.
    """
    from matplotlib.figure import Figure

    if not 0 <= clip < len(explanation.logits):
        raise InvalidInputError(f"There is no clip {clip}; there are {len(explanation.logits)}.")
    if face.shape[:2] != explanation.logits.shape:
        raise InvalidInputError(
            f"face is {tuple(face.shape)}, but the explanation has clips and frames "
            f"{tuple(explanation.logits.shape)}; give the crops that were explained."
        )
    length = int(explanation.lengths[clip])
    seconds = begin + np.arange(length) / fps
    visible = visible_frames(
        explanation.raw[clip, :length].cpu(), explanation.method in FROM_ZERO_METHODS
    )
    heatmaps = upsample(visible, tuple(face.shape[2:])).clamp(0, 1).numpy()
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    shown = [i * length // _FACES for i in range(_FACES)] if length >= _FACES else range(length)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 2.4))
    top, bottom = parts
    for axes, frame in zip(top.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        crop, heat = face[clip, frame].cpu().numpy(), heatmaps[frame]
        opacity = 0.55 * heat[..., None] ** 0.75
        colours = matplotlib.colormaps["turbo"](heat)[..., :3]
        axes.imshow((1 - opacity) * crop[..., None] / 255 + opacity * colours, vmin=0, vmax=1)
        axes.set_title(f"{seconds[frame]:.2f} s", fontsize=8)
        axes.axis("off")
    above, below = bottom.subplots(2, 1, sharex=True)
    above.plot(seconds, explanation.scores[clip, :length].cpu(), color="black")
    above.set(ylim=(0, 1), ylabel="speaks")
    if truth is not None:
        above.fill_between(seconds, truth[:length].cpu(), step="mid", alpha=0.2, label="truth")
        above.legend(loc="upper right")
    shares = explanation.shares["features"][clip, :length].cpu().T
    below.stackplot(
        seconds, *shares, labels=explanation.modalities,
        colors=[_COLOURS.get(name, "grey") for name in explanation.modalities],
    )  # fmt: skip
    below.set(
        ylim=(0, 1), ylabel="share", xlabel="seconds",
        xlim=(begin, begin + max(length - 1, 1) / fps),
    )  # fmt: skip
    below.legend(loc="upper right")
    note = "" if explanation.gate_trained else "; the SE gate was never trained"
    top.suptitle(f"{explanation.method} map{note}", fontsize=9)
    return figure
