"""Convert weights of other projects: ``se-zoo convert``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class Convert:
    """Convert published weights of another project into a model that se_zoo loads."""

    kind: tyro.conf.Positional[Literal["lr-asd"]]
    """lr-asd: active speaker detection, converted to asd_small_sehead. Every tensor is used. The
    added SE block is the identity, so the scores are those of the published network."""
    weights: tyro.conf.Positional[Path]
    """File with its state dict: .safetensors, or written by torch.save."""
    out: Path = Path("lr_asd_sehead")
    """Folder for config.json, model.safetensors and the card's facts; it must not exist yet."""


def run_convert(args: Convert) -> None:
    """Run ``se-zoo convert``.

    Args:
        args: The options.

    Raises:
        WeightsNotFoundError: If the weights are not those of that project.
        InvalidInputError: If the folder exists already.
    """
    from ..models.speaker.lr_asd import write_converted

    write_converted(args.weights, args.out)
    print(
        f'{args.out}: se_zoo.create_speaker_model("local-dir:{args.out}"); its SE gate is the '
        "identity, untrained"
    )
