"""Make training data of face crops and sound from videos: ``se-zoo tracks``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import tyro


@dataclass(frozen=True)
class Tracks:
    """Cut faces and their sound out of videos, to train speaker models on them.

    Writes <out>/csv/<split>.csv, clips_videos/ and clips_audios/, in the usual layout of
    AVA-ActiveSpeaker. `recipes/speaker.py --data.path <out>` trains on this folder.
    """

    videos: tyro.conf.Positional[Path]
    """Folder of the videos; the file name without its ending is the id of a video."""
    boxes: Path
    """AVA's table, with or without a header: video_id, frame_timestamp (seconds), entity_box_x1,
    y1, x2, y2 (fractions of width and height), label (SPEAKING_AUDIBLE, SPEAKING_NOT_AUDIBLE or
    NOT_SPEAKING), entity_id. `se-zoo speaker` writes such a table with the same label in every row:
    correct the labels first."""
    out: Path = Path("tracks")
    """Folder for the tracks; other splits in it are kept."""
    split: str = "train"
    """Name of the split."""
    audio: int = 0
    """Number of the videos' sound track, from 0, if they have several."""
    bodies: Optional[Path] = None
    """Table of the boxes of the bodies, with one row for every row of --boxes."""


def run_tracks(args: Tracks) -> None:
    """Run ``se-zoo tracks``.

    Args:
        args: The options.

    Raises:
        DataError: If tables and videos do not fit together.
    """
    from tqdm import tqdm

    from ..data import build_tracks
    from ..data.faces.ava import SPEAKING, read_ava

    bar: Any = tqdm(desc="cut faces", unit=" videos", disable=None)
    table = build_tracks(
        args.videos, args.boxes, args.out, args.split, args.bodies, bar.update, args.audio
    )
    bar.close()
    rows = read_ava(table, "label")
    share = sum(row.value == SPEAKING for row in rows) / len(rows)
    splits = sorted(path.stem for path in table.parent.glob("*.csv"))
    print(
        f"{table}: {len(rows):,} crops, {share:.1%} of them speech; the folder has the splits "
        f"{', '.join(splits)}. recipes/speaker.py --data.path "
        f"{args.out} trains on train, valid and test, or on the splits that --data.splits names"
    )
