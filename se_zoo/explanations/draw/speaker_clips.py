"""A clip's scores and reasons as one picture: the face over time, when it speaks, and by what."""

from typing import Any, Optional

import matplotlib
import numpy as np
import torch

from ...errors import InvalidInputError
from ..speaker import SpeakerExplanation

#: Faces that are shown, evenly spaced.
_FACES = 10
#: Of sound, face and body, as `se-zoo speaker` draws them.
_COLOURS = {"audio": "#4682dc", "face": "#f0aa28", "body": "#965ac8"}


def figure_of(
    explanation: SpeakerExplanation,
    face: torch.Tensor,
    clip: int = 0,
    truth: Optional[torch.Tensor] = None,
    fps: float = 25.0,
) -> Any:
    """A matplotlib figure: faces with their heatmaps; below, over the seconds, the score; and the
    share of each modality by gate times magnitude.

    Args:
        explanation: Of one or more clips.
        face: The crops that were explained, 0 to 255, (B, T, H, W).
        clip: Which of the clips.
        truth: Whether it speaks, (T,) of 0 and 1; drawn as shaded stretches.
        fps: Frames a second.

    Raises:
        InvalidInputError: If there is no such clip, or the crops are not those of the explanation.
    """
    from matplotlib.figure import Figure

    if not 0 <= clip < len(explanation.logits):
        raise InvalidInputError(f"there are {len(explanation.logits)} clips, no clip {clip}.")
    if face.shape[:2] != explanation.logits.shape:
        raise InvalidInputError(
            f"face is {tuple(face.shape)}, the explanation of clips and frames "
            f"{tuple(explanation.logits.shape)}."
        )
    length = int(explanation.lengths[clip])
    seconds = np.arange(length) / fps
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    shown = [i * length // _FACES for i in range(_FACES)] if length >= _FACES else range(length)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 2.4))
    top, bottom = parts
    for axes, frame in zip(top.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        crop, heat = face[clip, frame].cpu().numpy(), explanation.heatmap[clip, frame].cpu().numpy()
        opacity = 0.55 * heat[..., None] ** 0.75
        colours = matplotlib.colormaps["turbo"](heat)[..., :3]
        axes.imshow((1 - opacity) * crop[..., None] / 255 + opacity * colours, vmin=0, vmax=1)
        axes.set_title(f"{frame / fps:.2f} s", fontsize=8)
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
    below.set(ylim=(0, 1), ylabel="share", xlabel="seconds", xlim=(0, max(length - 1, 1) / fps))
    below.legend(loc="upper right")
    note = "" if explanation.gate_trained else "; the SE gate was never trained"
    top.suptitle(f"{explanation.method} map{note}", fontsize=9)
    return figure
