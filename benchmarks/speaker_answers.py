"""Measure a speaker model on the test tracks of recipes/grid_speaker.py: other people, other sound.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.speaker_answers --model se_zoo/asd_tiny_grid

Run time: three minutes of one core a model, and as long for the tracks the first time. Result:
docs/speakers.md.

Each test track is scored with its own sound, another clip's and none, with a face that stands
still, and beside what is no face. Printed are the average precision on each set, how often silent
rows of each kind are said to speak, and the copies in which 5 % of them or more are. Of several
models, such as the seeds of one training, the figures of all are written, the first one's first.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, Tuple

import torch

from benchmarks.weights import weights_of
from se_zoo.data import TrackDataConfig, open_tracks
from se_zoo.files import write_text
from se_zoo.models import create_speaker_model
from se_zoo.provenance import provenance
from se_zoo.train.speaker.batches import Whole

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))  # recipes import each other so
from grid_speaker import figures_by_kind  # type: ignore[import-not-found]
from grid_tracks import prepare  # type: ignore[import-not-found]


def measure(name: str, tracks: str) -> Dict[str, Any]:
    """Return the figures of a model on the test tracks.

    Args:
        name: Name of the model.
        tracks: Folder of the recipe's tracks.
    """
    model = create_speaker_model(name, pretrained=True)
    table = open_tracks(TrackDataConfig(tracks), "test")
    scores: Dict[Tuple[str, str], float] = {}
    for piece, inputs in (Whole(table, False)[n] for n in range(len(table))):
        track = table.sample(piece.index)
        with torch.no_grad():
            found = model(inputs["audio"][None], inputs["face"][None]).logits[0].sigmoid()
        for stamp, frame in zip(track.stamps, track.frame_of_row, strict=True):
            scores[track.sound.stem, repr(float(stamp))] = float(found[frame])
    return figures_by_kind(table, scores)


def main() -> None:
    """Read the command line, measure, print the figures, and write them if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, nargs="+",
        help="a speaker model, such as local-dir:lr_asd, or the runs of several seeds",
    )  # fmt: skip
    parser.add_argument(
        "--tracks", default="runs/grid_tracks", help="folder of the recipe's tracks"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if "SE_ZOO_DATA" not in os.environ:
        sys.exit("Set SE_ZOO_DATA to the folder that holds grid/ and imagenet_sample/.")
    data = Path(os.environ["SE_ZOO_DATA"])
    prepare(data / "grid", Path(args.tracks), data / "imagenet_sample" / "train.parquet")
    kinds = [measure(name, args.tracks) for name in args.model]
    figures = kinds[0] if len(kinds) == 1 else {"models": args.model, "kinds": kinds}
    print(json.dumps(figures, indent=1))
    if args.out is not None:
        made = {**provenance(), **weights_of(args.model[0])}
        write_text(args.out, json.dumps({**made, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
