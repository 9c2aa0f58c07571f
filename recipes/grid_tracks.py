"""Face tracks of the GRID corpus for recipes/grid_speaker.py, with copies in which nobody speaks.

Nobody of the test split is in another one. The man of ``s1_*`` trains and validates;
``multi_bbaf2n``, which trains, shows him too. ``multi_id2_vcd_swwp2s`` and ``multi_pwij3p`` show
another man, and both train.
"""

import io
import os
import shutil
import statistics
import tempfile
import wave
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import torch
from grid_clips import FPS, spoken_by_words
from PIL import Image

from se_zoo.data import TrackDataConfig, build_tracks
from se_zoo.data.faces.ava import LABELS, SPEAKING, Row, read_ava, write_ava
from se_zoo.data.faces.crops import cut_face
from se_zoo.data.faces.face_track import crop_name
from se_zoo.data.faces.sound import sound_features
from se_zoo.data.video.frames import each_frame
from se_zoo.data.video.index import open_video
from se_zoo.errors import DataError
from se_zoo.files import is_taken, read_json, write_json
from se_zoo.speaker import HaarDetector, find_tracks
from se_zoo.speaker.video_frames import Pictures

SPLITS = ("train", "valid", "test")
SILENT = LABELS[2]
#: Clips without word alignments that train: those of people of whom there are several clips, and
#: one more.
TRAINED = ("multi_bbaf2n", "multi_brbk7n", "multi_id2_vcd_swwp2s", "multi_pwij3p")
#: Copies of a track in which nobody speaks audibly: with another clip's sound, without sound, with
#: its own sound beside a face that stands still, and beside what is no face.
KINDS = ("swapped", "muted", "still", "other")
#: File that says what the tracks in a folder were made of.
MADE_OF = "made_of.json"
#: Raise it with every change of the code that changes the tracks.
LAYOUT = 1


def _spoken_by_sound(loudness: np.ndarray, file: Path) -> np.ndarray:
    """Return the frames of the longest stretch of sound with pauses of at most 5 frames.

    Args:
        loudness: Of every frame, (frames,).
        file: The video, for the message.

    Returns:
        (frames,) bool.

    Raises:
        DataError: If no frame is louder than others.
    """
    low, high = np.percentile(loudness, [5, 95])
    loud = np.flatnonzero(loudness > low + 0.35 * (high - low))
    if not len(loud):
        raise DataError(f"{file}: its sound is silent; remove the video.")
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 5) + 1)
    longest = max(stretches, key=len)
    spoken = np.zeros(len(loudness), bool)
    spoken[longest[0] : longest[-1] + 1] = True
    return spoken


def loudness(features: torch.Tensor, frames: int) -> np.ndarray:
    """Return the mean logarithm of the energy in every frame, (frames,).

    Args:
        features: MFCCs, (4 * frames, 13).
        frames: Number of frames.
    """
    energy = features[: 4 * frames, 0]
    energy = torch.nn.functional.pad(
        energy, (0, 4 * frames - len(energy)), value=float(energy.min())
    )
    return energy.view(-1, 4).mean(1).numpy()


def made_of(videos: Path, photos: Path) -> Dict[str, Any]:
    """Return what tracks are made of, as JSON stores it.

    Args:
        videos: Folder with video/ and align/.
        photos: Parquet file of photographs.

    Returns:
        Names and sizes in bytes of the files, and what the code decides.
    """
    files = sorted([*(videos / "video").glob("*.mpg"), *(videos / "align").glob("*.align")])
    return {
        "layout": LAYOUT,
        "files": {f"{file.parent.name}/{file.name}": file.stat().st_size for file in files},
        "photos": photos.stat().st_size if photos.is_file() else None,
        "trained": list(TRAINED),
        "kinds": list(KINDS),
    }


def _is_made(out: Path, now: Dict[str, Any]) -> bool:
    """Return whether a folder holds the tracks.

    Args:
        out: The folder.
        now: What the tracks are to be made of, see :func:`made_of`.

    Raises:
        DataError: If it holds anything else, or tracks of something else.
    """
    if all((out / "csv" / f"{split}.csv").is_file() for split in SPLITS):
        try:
            known = read_json(out / MADE_OF)
        except (OSError, ValueError) as error:
            raise DataError(
                f"what the tracks in {out} were made of is not known ({error}); delete the folder, "
                "and the same command makes them again."
            ) from error
        known = known if isinstance(known, dict) else {}
        other = [name for name, value in now.items() if known.get(name) != value]
        if other:
            raise DataError(
                f"the tracks in {out} are not those of this command: {', '.join(other)} differ "
                f"({MADE_OF}). Delete the folder to make them again, or name another folder."
            )
        return True
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DataError(f"{out} does not exist yet: run the command once with a single process.")
    if is_taken(out):
        raise DataError(f"{out} holds something else; give another --data.path for the tracks.")
    return False


def prepare(videos: Path, out: Path, photos: Path, dry_run: bool = False) -> bool:
    """Find the faces, and write crops, sound and labels in AVA's layout, unless done.

    Args:
        videos: Folder with video/ and align/.
        out: Folder for the tracks.
        photos: Parquet file of photographs, for what is no face.
        dry_run: Print what would be made instead.

    Returns:
        Whether `out` holds the tracks now.

    Raises:
        DataError: If a video has no face or no sound, files are missing, or `out` holds anything
            else, such as tracks of other videos.
    """
    files = sorted((videos / "video").glob("*.mpg"))
    if not files and (out / MADE_OF).is_file():
        print(f"{videos}/video has no videos: whether {out} is of the same ones is not checked.")
        return True
    if not files:
        raise DataError(f"no videos in {videos}/video: set SE_ZOO_DATA, or give --videos.")
    now = made_of(videos, photos)
    if _is_made(out, now):
        return True
    if not any((videos / "align" / f"{file.stem}.align").is_file() for file in files):
        raise DataError(f"{videos}/align has no .align file of any video in {videos}/video.")
    if not photos.is_file():
        raise DataError(f"{photos}: no such file; set SE_ZOO_DATA, or give --photos.")
    if dry_run:
        print(f"dry run: would make face tracks of {len(files)} videos in {out}, then train.")
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = _find_faces(videos, files)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        made = Path(folder) / "tracks"
        for split in SPLITS:
            boxes = Path(folder) / "boxes.csv"
            write_ava(boxes, rows[split])
            build_tracks(videos / "video", boxes, made, split)
            _add_silent(made, split, videos / "video", photos)
        write_json(made / MADE_OF, now)
        os.replace(made, out)
    return True


def _find_faces(videos: Path, files: List[Path]) -> Dict[str, List[Row]]:
    """Return where the face of each video is, and whether it speaks, by split.

    Args:
        videos: Folder with video/ and align/.
        files: The videos.

    Raises:
        DataError: If a video is silent or has no face.
    """
    aligned = [p for p in files if (videos / "align" / f"{p.stem}.align").is_file()]
    opened, heard = {file: Pictures(file) for file in files}, {}
    for file, pictures in opened.items():  # first, because finding faces takes minutes
        sound = sound_features(file, str(file), pictures.begins)
        heard[file] = _spoken_by_sound(loudness(sound, len(pictures)), file)
    rows: Dict[str, List[Row]] = {split: [] for split in SPLITS}
    agreements, detector = [], HaarDetector()
    for file, pictures in opened.items():
        found = find_tracks(pictures, detector)
        if not found:
            raise DataError(f"{file}: no face was found.")
        track, frames = max(found, key=len), len(pictures)
        spoken, split = heard[file], "test"
        if file.stem in TRAINED:
            split = "train"
        if file in aligned:
            by_words = spoken_by_words(videos / "align" / f"{file.stem}.align", frames)
            agreements.append(float((spoken == by_words).mean()))
            spoken, split = by_words, "valid" if aligned.index(file) % 6 == 5 else "train"
        height, width = next(iter(pictures)).shape[:2]
        for n, box in enumerate(track.boxes, track.first):
            x0, y0, x1, y1 = box / [width, height, width, height]
            label, key = SPEAKING if spoken[n] else SILENT, (f"{file.stem}_0", repr(n / FPS))
            rows[split].append(Row(key, file.stem, label, (x0, y0, x1, y1)))
    print(f"sound and words agree on {statistics.fmean(agreements):.2%} of the frames")
    return rows


def _add_silent(out: Path, split: str, videos: Path, photos: Path) -> None:
    """Add silent copies of the tracks of a split.

    In validation and test there is a copy of each kind of every track. In training, where the
    sound is replaced by chance, every second track has a copy beside what is no face.

    Args:
        out: Folder of the tracks.
        split: The split.
        videos: Folder of the videos.
        photos: Parquet file of photographs.
    """
    config, table = TrackDataConfig(str(out)), out / "csv" / f"{split}.csv"
    faces, sounds = out / config.faces / split, out / config.sounds / split
    rows: Dict[str, List[Row]] = {}
    for row in read_ava(table, "label", boxes=True):
        rows.setdefault(row.video, []).append(row)
    names, silent, scenery = sorted(rows), [], _photos(photos, SPLITS.index(split))
    for number, (video, other) in enumerate(zip(names, [*names[1:], names[0]], strict=True)):
        for kind in KINDS if split != "train" else KINDS[3:] if number % 2 else ():
            name = f"{video}-{kind}"
            source, made = faces / video / f"{video}_0", faces / name / f"{name}_0"
            if kind == "other":
                crops = _no_face(videos, rows[video], next(scenery) if number % 4 < 2 else None)
                _write_crops(made, rows[video], crops)
            else:
                shutil.copytree(source, made)
            if kind == "still":
                for file in sorted(made.iterdir()):
                    shutil.copyfile(source / crop_name(float(rows[video][0].key[1])), file)
            (sounds / name).mkdir()
            heard = other if kind == "swapped" else video
            _copy_sound(sounds / heard / f"{heard}_0.wav", sounds / name / f"{name}_0.wav", kind)
            key = f"{name}_0"
            silent += [Row((key, r.key[1]), name, SILENT, r.box) for r in rows[video]]
    write_ava(table, [*(row for found in rows.values() for row in found), *silent])


def _photos(file: Path, first: int) -> Iterator[Image.Image]:
    """Read photographs, of each split others: every third one from ``first`` on."""
    from pyarrow import parquet

    number = 0
    for batch in parquet.ParquetFile(file).iter_batches(64, columns=["image"]):
        for row in batch.column("image").to_pylist():
            if number % len(SPLITS) == first:
                yield Image.open(io.BytesIO(row["bytes"])).convert("RGB")
            number += 1


def _no_face(videos: Path, rows: List[Row], photo: Optional[Image.Image]) -> List[np.ndarray]:
    """Cut out something else than the face, at a place of its own for each video.

    It is a part of the video that the face hardly reaches into, such as the chest or the hair, or
    a part of a photograph over which the frame drifts.

    Args:
        videos: Folder of the videos.
        rows: The face's rows.
        photo: The photograph; None for the video itself.

    Returns:
        Grey crops, one a row.
    """
    video = rows[0].video
    random = np.random.default_rng(zlib.crc32(video.encode()))
    if photo is not None:
        picture = np.asarray(photo)
        side = random.uniform(0.4, 0.8) * min(picture.shape[:2])
        free = np.array(picture.shape[1::-1]) - side
        places = np.linspace(random.uniform(0, free), random.uniform(0, free), len(rows))
        return [cut_face(picture, (*place, *(place + side))) for place in places]
    opened = open_video(videos / f"{video}.mpg")
    size = np.array(next(each_frame(opened, [0])).shape[1::-1])
    x0, y0, x1, y1 = np.array(rows[0].box) * [*size, *size]
    while True:
        side = random.uniform(0.35, 0.8) * (x1 - x0)
        left, top = random.uniform(0, size - side)
        shared = max(0.0, min(x1, left + side) - max(x0, left)) * max(
            0.0, min(y1, top + side) - max(y0, top)
        )
        if shared < 0.15 * side**2:
            break
    numbers = [round(float(row.key[1]) * FPS) for row in rows]
    box = (left, top, left + side, top + side)
    return [cut_face(picture, box) for picture in each_frame(opened, numbers)]


def _write_crops(folder: Path, rows: List[Row], crops: List[np.ndarray]) -> None:
    """Write crops under the names that the rows' times give them."""
    folder.mkdir(parents=True)
    for row, crop in zip(rows, crops, strict=True):
        Image.fromarray(crop).save(folder / crop_name(float(row.key[1])), quality=95)


def _copy_sound(file: Path, to: Path, kind: str) -> None:
    """Copy a wave file; with its halves exchanged if "swapped", as silence if "muted"."""
    with wave.open(str(file), "rb") as opened:
        parameters = opened.getparams()
        samples = opened.readframes(parameters.nframes)
    half = len(samples) // 4 * 2  # of 16 bits each
    changed = samples[half:] + samples[:half] if kind == "swapped" else samples
    if kind == "muted":
        changed = bytes(len(samples))
    with wave.open(str(to), "wb") as opened:
        opened.setparams(parameters)
        opened.writeframes(changed)
