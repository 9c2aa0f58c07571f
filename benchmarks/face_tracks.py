r"""Measure how many faces the detectors find, and how many false tracks they make in videos.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.face_tracks --out face_tracks.json

Run time: about five minutes on one core. Result: docs/speakers.md.

Turned heads: images of CelebA with part masks. The turn is the distance of the nose from the
middle of the eyes, over the distance of the eyes (centres of the masks, along the line of the
eyes). A face is found if a box contains the centre of the nose.

Videos: a head of a GRID clip of three seconds, pasted on a photo that drifts by a pixel a frame. A
track is false if its centre lies outside of the pasted head for most of its frames. Photos that
show a person's face are left out; they were looked at (``WITH_FACES``). "before" is the detector of
version 0.1, frontal cascades alone and all tracks of ten frames or more.
"""

import io
import json
import math
import os
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tyro
from PIL import Image
from pyarrow import parquet

from recipes.grid_clips import FACE_CROP
from se_zoo.data.faces.detect import HaarDetector, YuNetDetector, find_faces, open_detector
from se_zoo.provenance import provenance
from se_zoo.speaker import FaceFilter, Track, find_tracks
from se_zoo.speaker.video_frames import Pictures

#: Every so many photos of the sample one is taken; of those, these show a person's face.
STEP, WITH_FACES = 16, frozenset((240, 400, 416, 432, 560, 880))
#: Width and height of the videos, and the side of the pasted head, all in pixels.
SIZE, HEAD = (480, 360), (130, 160)
#: Borders of the bins of turn.
TURNS = (0.0, 0.05, 0.1, 1.0)
#: Mask values of the nose and both eyes.
NOSE, EYES = 2, (4, 5)
YUNET = "weights/face_detection_yunet_2026may.onnx"
#: Every track is kept; of a detector without scores, as before.
ALL = FaceFilter(score=0.0, found=0.0)


@dataclass(frozen=True)
class Measure:
    """Options of the measurement."""

    photos: int = 57
    """Largest number of videos, each of one photo; 0 looks at turned heads alone."""
    turned: bool = True
    """Look at turned heads."""
    out: Optional[Path] = None
    """Write the figures to this JSON file, too."""


def _turned_heads(folder: Path) -> List[Tuple[float, np.ndarray, np.ndarray]]:
    """Return turn, picture (H, W, 3) and centre of the nose (x, y) of each image."""
    table = parquet.read_table(folder / "celeba_parts/parts.parquet", columns=["image", "mask"])
    found = []
    for row in table.to_pylist():
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
        picture = np.asarray(image.resize(mask.shape[::-1]))  # some images are half as large
        parts = [np.argwhere(mask == part)[:, ::-1] for part in (NOSE, *EYES)]
        if min(map(len, parts)) < 5:  # an eye is hidden, by hair or glasses
            continue
        nose, left, right = (part.mean(0) for part in parts)
        line = (right - left) / np.linalg.norm(right - left)
        turn = abs(float((nose - (left + right) / 2) @ line)) / float(np.linalg.norm(right - left))
        found.append((turn, picture, nose))
    return found


def _detection_rates(detectors: Dict[str, Any], folder: Path) -> Dict[str, Any]:
    """Return by bin of turn: its borders, its images, and the share that each detector finds."""
    heads, bins = _turned_heads(folder), {}
    for low, high in pairwise(TURNS):
        part = [head for head in heads if low <= head[0] < high]
        rates: Dict[str, float] = {}
        for label, detector in detectors.items():
            hits = [
                any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1, *_ in detector(picture))
                for _, picture, (x, y) in part
            ]
            rates[label] = round(float(np.mean(hits)), 4)
        bins[f"{low} to {high}"] = {"images": len(part), **rates}
    return bins


def _photos(folder: Path, most: int) -> Iterator[Image.Image]:
    """Yield photos without a person's face, enlarged to cover a video and its drift."""
    rows = parquet.read_table(folder / "imagenet_sample/train.parquet", columns=["image"])["image"]
    chosen = [n for n in range(0, len(rows), STEP) if n not in WITH_FACES]
    for number in chosen[:: max(1, len(chosen) // most)][:most]:
        photo = Image.open(io.BytesIO(rows[number].as_py()["bytes"])).convert("RGB")
        scale = max((SIZE[0] + 75) / photo.width, SIZE[1] / photo.height)
        yield photo.resize((math.ceil(photo.width * scale), math.ceil(photo.height * scale)))


def _videos(folder: Path, most: int) -> Iterator[Tuple[List[np.ndarray], Tuple[int, int]]]:
    """Yield frames of videos, (H, W, 3), and where the head is pasted: its left top corner."""
    clips = sorted((folder / "grid/video").glob("*.mpg"))
    random = np.random.default_rng(0)
    for number, photo in enumerate(_photos(folder, most)):
        scene = np.asarray(photo)
        x, y = (int(random.integers(0, size - side)) for size, side in zip(SIZE, HEAD, strict=True))
        frames = []
        for n, picture in enumerate(Pictures(clips[number % len(clips)])):
            head = Image.fromarray(picture).crop(FACE_CROP).resize(HEAD)
            frame = scene[: SIZE[1], n : n + SIZE[0]].copy()
            frame[y : y + HEAD[1], x : x + HEAD[0]] = np.asarray(head)
            frames.append(frame)
        yield frames, (x, y)


def _is_head(track: Track, corner: Tuple[int, int]) -> bool:
    """Return whether a track's centre lies in the pasted head for most of its frames."""
    centres = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2 - np.array(corner)
    return bool(((centres > 0) & (centres < np.array(HEAD))).all(1).mean() > 0.5)


class _Once:
    """A detector that looks at each picture once, however many filters are measured."""

    def __init__(self, detector: Any):
        self.detector, self.known = detector, {}

    def __call__(self, picture: np.ndarray) -> Any:
        key = id(picture)
        if key not in self.known:
            self.known[key] = find_faces(self.detector, picture)
        return self.known[key]


def _track_figures(methods: Dict[str, Tuple[Any, FaceFilter]], options: Measure) -> Dict[str, Any]:
    """Return false tracks a minute, and the share of frames in which the pasted head is tracked."""
    folder = Path(os.environ["SE_ZOO_DATA"])
    false: Dict[str, int] = dict.fromkeys(methods, 0)
    tracked: Dict[str, List[float]] = {name: [] for name in methods}
    minutes = 0.0
    for frames, corner in _videos(folder, options.photos):
        minutes += len(frames) / 25 / 60
        once = {id(detector): _Once(detector) for detector, _ in methods.values()}
        for name, (detector, keep) in methods.items():
            tracks = find_tracks(frames, once[id(detector)], keep=keep)
            heads = [track for track in tracks if _is_head(track, corner)]
            false[name] += len(tracks) - len(heads)
            shown = np.zeros(len(frames), bool)
            for track in heads:
                shown[track.first : track.after] = True
            tracked[name].append(float(shown.mean()))
    return {
        name: {
            "false_tracks": count,
            "false_tracks_a_minute": round(count / minutes, 2),
            "head_tracked": round(float(np.mean(tracked[name])), 4),
        }
        for name, count in false.items()
    } | {"minutes": round(minutes, 2)}


def main(options: Measure) -> None:
    """Measure, print the figures, and write them if asked."""
    if "SE_ZOO_DATA" not in os.environ:
        sys.exit("Set SE_ZOO_DATA to the folder that holds celeba_parts, grid and imagenet_sample.")
    folder = Path(os.environ["SE_ZOO_DATA"])
    before, cascades = HaarDetector(), open_detector()
    yunet = YuNetDetector(folder / YUNET)
    detectors = {"before": before, "cascades": cascades, "yunet": yunet}
    usual = FaceFilter()
    methods = {
        "before": (before, ALL),
        "cascades, all tracks": (cascades, ALL),
        "cascades": (cascades, usual),
        "yunet, all tracks": (yunet, ALL),
        "yunet": (yunet, usual),
    }
    report: Dict[str, Any] = {}
    if options.turned:
        report["turned"] = _detection_rates(detectors, folder)
        print(json.dumps(report["turned"], indent=1), flush=True)
    if options.photos:
        report["tracks"] = _track_figures(methods, options)
        print(json.dumps(report["tracks"], indent=1))
    if options.out is not None:
        content = {**provenance(), "photos": options.photos, **report}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Measure, description=__doc__))
