"""``se-zoo tracks``: face crops and sound for training, out of videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import tyro


@dataclass(frozen=True)
class Tracks:
    """Cut faces and their sound out of videos, as speaker models are trained on them.

    Writes <out>/csv/<split>.csv, clips_videos/ and clips_audios/ in the layout of
    AVA-ActiveSpeaker's usual preparation; `recipes/speaker.py --data.path <out>` trains on it.
    """

    videos: tyro.conf.Positional[Path]
    """Folder of the videos; a video's name without its ending is its id."""
    boxes: Path
    """AVA's table, with or without a header: video_id, frame_timestamp (seconds), entity_box_x1,
    y1, x2, y2 (fractions of width and height), label (SPEAKING_AUDIBLE, SPEAKING_NOT_AUDIBLE or
    NOT_SPEAKING), entity_id. `se-zoo speaker` writes such a table, but with the same label in every
    row: set them."""
    out: Path = Path("tracks")
    """Folder for the tracks; other splits in it stay."""
    split: str = "train"
    """What the split is called."""
    bodies: Optional[Path] = None
    """Table of the bodies' boxes, one for every row of the other."""


def run_tracks(args: Tracks) -> None:
    """Run ``se-zoo tracks``.

    Raises:
        DataError: For tables and videos that do not fit together.
    """
    from tqdm import tqdm

    from ..data import build_tracks
    from ..data.faces.ava import SPEAKING, read_ava

    bar: Any = tqdm(desc="cut faces", unit=" videos", disable=None)
    table = build_tracks(args.videos, args.boxes, args.out, args.split, args.bodies, bar.update)
    bar.close()
    rows = read_ava(table, "label")
    share = sum(row.value == SPEAKING for row in rows) / len(rows)
    splits = sorted(path.stem for path in table.parent.glob("*.csv"))
    print(
        f"{table}: {len(rows):,} crops, {share:.1%} of them speech; the folder has the splits "
        f"{', '.join(splits)}. recipes/speaker.py --data.path "
        f"{args.out} trains on train, valid and test, or on those that --data.splits names"
    )
