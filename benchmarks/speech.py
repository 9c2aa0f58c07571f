"""Measure how well a speaker model agrees with word alignments, and where its maps look.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.speech --model local-dir:lr_asd --out speech.json

Run time: a few minutes on one core for the 60 clips.
Results: hub_cards/asd_small_ava/speech.json, hub_cards/asd_tiny_grid/speech.json, docs/speakers.md.

The clips are 60 sentences of one speaker of the GRID corpus. Measured are the share of frames in
which the prediction (speech or not) equals the alignment, and the shares of frames predicted as
speech when the face stands still and when the sound is silence. On true-positive speech frames:
the share in which a map is visible; pointing, the share in which the map's maximum lies on the
mouth (arXiv 1608.00507); and energy, the map's share on the mouth over the mouth's share of the
face crop; chance is 1 (Score-CAM, arXiv 1910.01279, section 4.2). The mouth is a box around the
corners of the mouth that YuNet finds in each frame. With --others the clips are the eleven without
alignments, of the speaker and nine other people; their frames are those that the model
predicts as speech.
"""

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch

from benchmarks.weights import weights_of
from recipes.grid_clips import spoken_by_words
from se_zoo.data.faces.crops import CROP
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.data.faces.sound import WINDOW
from se_zoo.explanations.methods import SPEAKER_METHODS
from se_zoo.explanations.quality import energy_in_region, pointing_game
from se_zoo.models import create_speaker_model
from se_zoo.provenance import provenance
from se_zoo.speaker import SpeakerClip, Track, YuNetDetector, load_speakers
from se_zoo.speaker.video_frames import Pictures

#: A map is visible in a frame if its maximum there is this share of the clip's maximum.
VISIBLE = 0.1


def mouth_box(corners: np.ndarray) -> np.ndarray:
    """Return the box around a mouth: 1.8 times as wide as its corners are apart, 1.3 times as high.

    Args:
        corners: x, y of both corners, (2, 2).

    Returns:
        x0, y0, x1, y1.
    """
    centre, width = corners.mean(0), np.linalg.norm(corners[1] - corners[0])
    half = np.array([0.9, 0.65]) * width
    return np.concatenate([centre - half, centre + half])


def _mouths(video: Path, track: Track, detector: YuNetDetector) -> List[Optional[torch.Tensor]]:
    """Return where the mouth lies in each crop of a track, (112, 112) bool; None if not found."""
    found: List[Optional[torch.Tensor]] = []
    for frame, picture in enumerate(Pictures(video)):
        if not track.first <= frame < track.after:
            continue
        x0, y0, x1, y1 = track.boxes[frame - track.first]
        inside = [f for f in detector(picture) if x0 < (f.x0 + f.x1) / 2 < x1 and f.mouth]
        found.append(None)
        if inside:
            scale = CROP / np.array([x1 - x0, y1 - y0] * 2)
            box = (mouth_box(np.array(inside[0].mouth)) - [x0, y0, x0, y0]) * scale
            left, top, right, bottom = np.rint(box).astype(int).clip(0, CROP)
            found[-1] = torch.zeros(1, CROP, CROP, dtype=torch.bool)
            found[-1][:, top:bottom, left:right] = True
    return found


def _on_mouth(
    found: Any, mouths: List[Optional[torch.Tensor]], chosen: np.ndarray
) -> List[Tuple[float, float]]:
    """Return pointing, and energy over chance, in each chosen frame with a mouth.

    Args:
        found: The explanation of the clip.
        mouths: Where the mouth lies in each frame.
        chosen: Frames to measure, (T,) bool.
    """
    values = []
    for t in np.flatnonzero(chosen):
        if (region := mouths[t]) is not None:
            heatmap = found.heatmap[:, t]
            energy = float(energy_in_region(heatmap, region))
            # A map that marks nothing misses.
            empty = math.isnan(energy)
            points = 0.0 if empty else float(pointing_game(heatmap, region))
            values.append((points, 0.0 if empty else energy))
    return values


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


def _measure(
    model: Any, folder: Path, clips: int, which: str, finder: Optional[str] = None
) -> Dict[str, Any]:
    """Measure a model.

    Args:
        model: The speaker model.
        folder: The folder of the data, with grid/ and weights/.
        clips: Largest number of clips.
        which: ``"all"`` clips with alignments, every sixth of them (``"held-out"``), or the
            ``"others"``, without alignments.
        finder: YuNet's ONNX file, if it should find the faces; None: the cascades.
    """
    detector = YuNetDetector(folder / "weights" / "face_detection_yunet_2026may.onnx")
    figures: Dict[str, List[float]] = {"accuracy": [], "speech": [], "frozen": [], "silence": []}
    on_mouth: Dict[str, List[Tuple[float, float]]] = {name: [] for name in SPEAKER_METHODS}
    visible: Dict[str, List[float]] = {name: [] for name in SPEAKER_METHODS}
    aligned = sorted((folder / "grid" / "align").glob("*.align"))
    names = [align.stem for align in (aligned[5::6] if which == "held-out" else aligned)]
    if which == "others":
        names = sorted(file.stem for file in (folder / "grid" / "video").glob("multi_*.mpg"))
    for name in names[:clips]:
        video = folder / "grid" / "video" / f"{name}.mpg"
        clip = max(load_speakers(video, finder), key=lambda face: len(face.track))
        said, frozen, quiet = answers(model, clip)
        chosen = said
        if which != "others":
            align = folder / "grid" / "align" / f"{name}.align"
            spoken = spoken_by_words(align, clip.track.after)[clip.track.first :]
            chosen = said & spoken
            figures["accuracy"].append(float((said == spoken).mean()))
            figures["speech"].append(float(spoken.mean()))
        figures["frozen"].append(float(frozen.mean()))
        figures["silence"].append(float(quiet.mean()))
        mouths = _mouths(video, clip.track, detector)
        for method in SPEAKER_METHODS:
            found = model.explain(clip.audio, clip.face, method=method)
            on_mouth[method] += _on_mouth(found, mouths, chosen)
            strongest = found.heatmap[0, chosen].flatten(1).amax(1)
            visible[method] += (strongest >= VISIBLE).float().tolist()
    means = {name: round(statistics.fmean(v), 4) for name, v in figures.items() if v}
    points, energies = (
        {
            name: round(statistics.fmean(v[n] for v in values), 3)
            for name, values in on_mouth.items()
        }
        for n in range(2)
    )
    seen = {name: round(statistics.fmean(values), 3) for name, values in visible.items()}
    return {
        **means, "mouth_pointing": points, "mouth_energy": energies, "visible": seen,
        "frames": len(on_mouth["gate"]), "clips": len(figures["frozen"]),
    }  # fmt: skip


def main() -> None:
    """Read the command line, measure, print the figures, and write them if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a speaker model, such as local-dir:lr_asd")
    parser.add_argument("--clips", type=int, default=60, help="largest number of clips")
    which = parser.add_mutually_exclusive_group()
    for name, text in (
        ("held-out", "only the clips on which recipes/grid_speaker.py validates"),
        ("others", "the clips without alignments, of other people"),
    ):
        which.add_argument(
            f"--{name}", dest="which", action="store_const", const=name, default="all", help=text
        )
    parser.add_argument("--face-model", help="YuNet's ONNX file, to find faces instead of cascades")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    if "SE_ZOO_DATA" not in os.environ:
        sys.exit("Set SE_ZOO_DATA to the folder that holds grid/ and weights/.")
    model = create_speaker_model(args.model, pretrained=True)
    folder = Path(os.environ["SE_ZOO_DATA"])
    found = _measure(model, folder, args.clips, args.which, args.face_model)
    print(json.dumps(found, indent=1))
    if args.out is not None:
        made = {**provenance(), **weights_of(args.model)}
        args.out.write_text(json.dumps({**made, **found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
