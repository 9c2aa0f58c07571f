"""Measure how well a speaker model agrees with word alignments, and where its maps look.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.speech --model local-dir:lr_asd --out speech.json

Run time: a few minutes on one core for the 60 clips.
Results: hub_cards/asd_small_ava/speech.json, hub_cards/asd_tiny_grid/speech.json, docs/speakers.md.

The clips are 60 sentences of one speaker of the GRID corpus. Measured are the share of frames in
which the prediction (speech or not) equals the alignment, and the shares of frames predicted as
speech when the face stands still and when the sound is silence. On true-positive speech frames:
the share in which a map is visible, and the map's share on the mouth over the mouth's share of
the face crop; chance is 1 (Score-CAM, arXiv 1910.01279, section 4.2).
"""

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch

from recipes.grid_clips import MOUTH, spoken_by_words
from se_zoo.data.faces.crops import CROP
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.data.faces.sound import WINDOW
from se_zoo.explanations.methods import SPEAKER_METHODS
from se_zoo.explanations.quality import energy_in_region
from se_zoo.models import create_speaker_model
from se_zoo.provenance import provenance
from se_zoo.speaker import HaarDetector, SpeakerClip, Track, load_speakers

#: A map is visible in a frame if its maximum there is this share of the clip's maximum.
VISIBLE = 0.1


def _energies(found: Any, track: Track, chosen: np.ndarray) -> List[float]:
    """Return the energy on the mouth over chance in each chosen frame.

    Args:
        found: The explanation of the clip.
        track: The face's boxes.
        chosen: Frames to measure, (T,) bool.
    """
    values = []
    for t in np.flatnonzero(chosen):
        x0, y0, x1, y1 = track.boxes[t]
        across, down = CROP / (x1 - x0), CROP / (y1 - y0)
        columns = slice(round((MOUTH[0] - x0) * across), round((MOUTH[2] - x0) * across))
        rows = slice(round((MOUTH[1] - y0) * down), round((MOUTH[3] - y0) * down))
        region = torch.zeros_like(found.heatmap[:, t], dtype=torch.bool)
        region[:, rows, columns] = True
        values.append(float(energy_in_region(found.heatmap[:, t], region)))
    return [value for value in values if not math.isnan(value)]


@torch.no_grad()
def answers(model: Any, clip: SpeakerClip) -> List[np.ndarray]:
    """Return the frames predicted as speech: as recorded, with a still face, and muted.

    Returns:
        Three arrays, (T,) bool.
    """
    still = clip.face[:, :1].expand_as(clip.face)
    silence = mfcc(torch.zeros(WINDOW)).expand_as(clip.audio[0])[None]
    inputs = ((clip.audio, clip.face), (clip.audio, still), (silence, clip.face))
    return [(model(*given).logits[0] > 0).numpy() for given in inputs]


def _measure(model: Any, folder: Path, clips: int, held_out: bool = False) -> Dict[str, Any]:
    """Measure a model on clips with word alignments.

    Args:
        model: The speaker model.
        folder: Folder with video/ and align/.
        clips: Largest number of clips.
        held_out: Take every sixth clip only.
    """
    detector = HaarDetector()
    figures: Dict[str, List[float]] = {"accuracy": [], "speech": [], "frozen": [], "silence": []}
    energy: Dict[str, List[float]] = {name: [] for name in SPEAKER_METHODS}
    visible: Dict[str, List[float]] = {name: [] for name in SPEAKER_METHODS}
    aligned = sorted((folder / "align").glob("*.align"))
    for align in (aligned[5::6] if held_out else aligned)[:clips]:
        faces = load_speakers(folder / "video" / f"{align.stem}.mpg", detector)
        clip = max(faces, key=lambda face: len(face.track))
        spoken = spoken_by_words(align, clip.face.shape[1])
        said, frozen, quiet = answers(model, clip)
        figures["accuracy"].append(float((said == spoken).mean()))
        figures["speech"].append(float(spoken.mean()))
        figures["frozen"].append(float(frozen.mean()))
        figures["silence"].append(float(quiet.mean()))
        for method, values in energy.items():
            found = model.explain(clip.audio, clip.face, method=method)
            values += _energies(found, clip.track, said & spoken)
            strongest = found.heatmap[0, said & spoken].flatten(1).amax(1)
            visible[method] += (strongest >= VISIBLE).float().tolist()
    means = {name: round(statistics.fmean(values), 4) for name, values in figures.items()}
    on_mouth = {name: round(statistics.fmean(values), 3) for name, values in energy.items()}
    seen = {name: round(statistics.fmean(values), 3) for name, values in visible.items()}
    clips = len(figures["accuracy"])
    return {**means, "mouth_energy": on_mouth, "visible": seen, "clips": clips}


def main() -> None:
    """Read the command line, measure, print the figures, and write them if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a speaker model, such as local-dir:lr_asd")
    parser.add_argument("--clips", type=int, default=60, help="largest number of clips")
    parser.add_argument(
        "--held-out", action="store_true",
        help="only the clips on which recipes/grid_speaker.py validates",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if "SE_ZOO_DATA" not in os.environ:
        sys.exit("Set SE_ZOO_DATA to the folder that holds grid/.")
    model = create_speaker_model(args.model, pretrained=True)
    found = _measure(model, Path(os.environ["SE_ZOO_DATA"]) / "grid", args.clips, args.held_out)
    print(json.dumps(found, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps({**provenance(), **found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
