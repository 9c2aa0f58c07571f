"""``se-zoo convert``: other projects' weights as ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class Convert:
    """Convert published weights of another project to a model that se_zoo loads."""

    kind: tyro.conf.Positional[Literal["lr-asd"]]
    """lr-asd: active speaker detection, to asd_small_sehead. Every tensor is used; the SE block
    that is added is the identity, so the scores are the published network's."""
    weights: tyro.conf.Positional[Path]
    """Its state dict: .safetensors, or what torch.save wrote."""
    out: Path = Path("lr_asd_sehead")
    """Folder for config.json, model.safetensors and the card's facts; it must not be there yet."""


def run_convert(args: Convert) -> None:
    """Run ``se-zoo convert``.

    Raises:
        WeightsNotFoundError: If the weights are not those of that project.
        InvalidInputError: If the folder is there already.
    """
    from ..models.speaker.lr_asd import write_converted

    write_converted(args.weights, args.out)
    print(
        f'{args.out}: se_zoo.create_speaker_model("local-dir:{args.out}"); its SE gate is the '
        "identity, untrained"
    )
