"""Train a small speaker model on real talking faces (GRID corpus), and test it on other people.

    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py
    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py --debug

Run time: 16 to 24 minutes a run on a busy core (AMD EPYC).
Score to expect, on the other people, mean ± deviation over seeds 0 to 2: average precision 86.15 ±
8.07 % (share of speech 17.98 %, loudness as the score 51.02 %). With their own sound alone 97.95 ±
1.72 % (share of speech 53.94 %, loudness 99.34 %). The settings were chosen on the validation
clips. One run from LR-ASD's weights (`--model.name asd_small_sehead --run.init
lr_asd/model.safetensors --optim.epochs 12 --optim.lr 5e-4`): 99.44 %.
Data: `$SE_ZOO_DATA/grid` (Cooke et al., doi 10.1121/1.2229005). 60 sentences of one speaker have
word alignments; every sixth validates, the others train. 11 clips of other people (`multi_*`) test.
Faces are found and cut out first, into --data.path, in AVA's layout.
The 11 test clips have no alignments: speech is the longest stretch of sound there. On the first
speaker's clips this agrees with the alignments on 95.53 % of the frames.
A face also counts as silent when its sound is another clip's or is muted: by chance in training,
and once for each track in validation and test. There the other clip's halves are exchanged;
otherwise loudness alone would give the answer.
The same command continues an interrupted run; finished runs are not trained again.
"""

import os
import shutil
import statistics
import tempfile
import wave
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from grid_clips import FPS, spoken_by_words

from se_zoo.data import TrackDataConfig, build_tracks, open_tracks
from se_zoo.data.faces.ava import LABELS, SPEAKING, Row, read_ava, write_ava
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.data.faces.sound import sound_features
from se_zoo.errors import DataError
from se_zoo.files import write_json
from se_zoo.metrics import average_precision
from se_zoo.provenance import provenance
from se_zoo.speaker import HaarDetector, find_tracks
from se_zoo.speaker.video_frames import Pictures
from se_zoo.train import (
    OptimConfig,
    RunConfig,
    SpeakerAugmentConfig,
    SpeakerConfig,
    SpeakerModelConfig,
)
from se_zoo.train.recipe import one_line_errors, read_options
from se_zoo.train.repeat import check_same_data, check_seeds, shown, spread, summary_of
from se_zoo.train.speaker_recipe import SpeakerOptions

SPLITS = ("train", "valid", "test")
SILENT = LABELS[2]
#: Changes of the sound after which a face counts as silent.
KINDS = ("swapped", "muted")


@dataclass(frozen=True)
class GridSpeakerOptions(SpeakerOptions):
    """Options of the recipe."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds; each is trained once."""
    videos: Path = Path(os.environ.get("SE_ZOO_DATA", "data")) / "grid"
    """Folder with video/ and align/; the face tracks are written to --data.path."""


DEFAULT = GridSpeakerOptions(
    data=TrackDataConfig("runs/grid_tracks"),
    # Far fewer updates than on AVA: the running statistics of the norms must adapt faster.
    model=SpeakerModelConfig(norm_momentum=0.1),
    augment=SpeakerAugmentConfig(
        swap=0.25, mute=0.1, noise=0.25, frames=32, rotate=5.0, scale=(0.8, 1.0)
    ),
    optim=OptimConfig(
        epochs=40, batch_size=320, lr=2e-3, weight_decay=0.01, warmup_epochs=3, ema_decay=0.95
    ),
    run=RunConfig(
        output=Path("runs/grid_speaker"), best="average_precision", channels_last=False,
        log_every=1,
    ),
)  # fmt: skip


# Labels


def _spoken_by_sound(loudness: np.ndarray) -> np.ndarray:
    """Return the frames of the longest stretch of sound with pauses of at most 5 frames.

    Args:
        loudness: Of every frame, (frames,).

    Returns:
        (frames,) bool.
    """
    low, high = np.percentile(loudness, [5, 95])
    loud = np.flatnonzero(loudness > low + 0.35 * (high - low))
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 5) + 1)
    longest = max(stretches, key=len)
    spoken = np.zeros(len(loudness), bool)
    spoken[longest[0] : longest[-1] + 1] = True
    return spoken


def _loudness(features: torch.Tensor, frames: int) -> np.ndarray:
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


# Tracks


def prepare(videos: Path, out: Path) -> None:
    """Find the faces, and write crops, sound and labels in AVA's layout, unless done.

    Args:
        videos: Folder with video/ and align/.
        out: Folder for the tracks.

    Raises:
        DataError: If a video has no face, or `out` cannot be used.
    """
    if all((out / "csv" / f"{split}.csv").is_file() for split in SPLITS):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DataError(f"{out} does not exist yet: run the command once with a single process.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} holds something else; give another --data.path for the tracks.")
    files = sorted((videos / "video").glob("*.mpg"))
    if not files:
        raise DataError(f"no videos in {videos}/video: set SE_ZOO_DATA, or give --videos.")
    out.parent.mkdir(parents=True, exist_ok=True)
    aligned = [p for p in files if (videos / "align" / f"{p.stem}.align").is_file()]
    rows: Dict[str, List[Row]] = {split: [] for split in SPLITS}
    agreements, detector = [], HaarDetector()
    for file in files:
        pictures = Pictures(file)
        found = find_tracks(pictures, detector)
        if not found:
            raise DataError(f"{file}: no face was found.")
        track, frames = max(found, key=len), len(pictures)
        sound = sound_features(file, str(file), pictures.begins)
        spoken, split = _spoken_by_sound(_loudness(sound, frames)), "test"
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
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        made = Path(folder) / "tracks"
        for split in SPLITS:
            boxes = Path(folder) / "boxes.csv"
            write_ava(boxes, rows[split])
            build_tracks(videos / "video", boxes, made, split)
            if split != "train":
                _add_silent(made, split)
        os.replace(made, out)


def _add_silent(out: Path, split: str) -> None:
    """Add two silent copies of every track of a split.

    One has the sound of the next track with its halves exchanged, the other has no sound.

    Args:
        out: Folder of the tracks.
        split: The split.
    """
    config, table = TrackDataConfig(str(out)), out / "csv" / f"{split}.csv"
    rows = read_ava(table, "label", boxes=True)
    silent: List[Row] = []
    videos = sorted({row.video for row in rows})
    for video, other in zip(videos, [*videos[1:], videos[0]], strict=True):
        for how in KINDS:
            name = f"{video}-{how}"
            faces, sounds = out / config.faces / split, out / config.sounds / split
            shutil.copytree(faces / video / f"{video}_0", faces / name / f"{name}_0")
            (sounds / name).mkdir()
            _copy_sound(sounds / other / f"{other}_0.wav", sounds / name / f"{name}_0.wav", how)
            silent += [
                Row((f"{name}_0", row.key[1]), name, SILENT, row.box)
                for row in rows
                if row.video == video
            ]
    write_ava(table, [*rows, *silent])


def _copy_sound(file: Path, to: Path, how: str) -> None:
    """Copy a wave file with its halves exchanged ("swapped") or as silence ("muted")."""
    with wave.open(str(file), "rb") as opened:
        parameters = opened.getparams()
        samples = opened.readframes(parameters.nframes)
    half = len(samples) // 4 * 2  # of 16 bits each
    changed = samples[half:] + samples[:half] if how == "swapped" else bytes(len(samples))
    with wave.open(str(to), "wb") as opened:
        opened.setparams(parameters)
        opened.writeframes(changed)


# Figures


def _measure(config: SpeakerConfig) -> Dict[str, float]:
    """Measure average precision on the test rows, by the kind of sound.

    Kinds are the own sound alone, own and swapped, own and muted, and all rows. For each there is
    the average precision of the model, that of loudness as the score, and the share of speech.
    """
    table = open_tracks(replace(config.data, limit_eval=None), config.data.splits[-1])
    scores = {
        row.key: float(row.value)
        for row in read_ava(config.run.output / "predictions.csv", "score")
    }
    found: Dict[str, Tuple[List[bool], List[float], List[float]]] = {}
    for index in range(len(table)):
        track = table.sample(index)
        loud = _loudness(mfcc(track.wave(0, len(track))), len(track))
        entity = track.sound.stem
        kind = next((k for k in KINDS if k in entity), "own")
        for name in (*KINDS, "own", "all") if kind == "own" else (kind, "all"):
            truth, said, heard = found.setdefault(name, ([], [], []))
            truth += track.speaking.tolist()
            said += [scores[entity, repr(float(t))] for t in track.stamps]
            heard += loud[track.frame_of_row].tolist()
    result = {}
    for name, (truth, said, heard) in found.items():
        result[f"{name}_positive"] = statistics.fmean(truth)
        result[f"{name}_ap"] = average_precision(truth, said)
        result[f"{name}_loudness_ap"] = average_precision(truth, heard)
    return result


def main(given: GridSpeakerOptions) -> None:
    """Prepare the tracks, train all seeds that are not finished, and report.

    Raises:
        SEZooError: If options or data cannot be used.
    """
    check_seeds(given.seeds, given.run, DEFAULT.run.seed)
    prepare(given.videos, Path(given.data.path))
    config = given.config(DEFAULT)
    output = config.run.output
    runs = []
    for seed in given.seeds[:1] if given.debug else given.seeds:
        run = replace(config, run=replace(config.run, seed=seed, output=output / f"seed-{seed}"))
        runs.append((run, summary_of(run, "grid")))
    check_same_data([summary for _, summary in runs])
    if os.environ.get("RANK", "0") == "0" and not config.run.dry_run:
        _report(output, runs)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _report(output: Path, runs: List[Tuple[SpeakerConfig, Dict[str, Any]]]) -> None:
    """Write the figures of all seeds, and print their means."""
    tests = [summary["test"] for _, summary in runs]
    kinds = [_measure(run) for run, _ in runs if run.data.limit_eval is None]
    content: Dict[str, Any] = {
        **provenance(), "seeds": [run.run.seed for run, _ in runs],
        "samples": runs[0][1]["samples"], "test": tests, "kinds": kinds,
        "seconds": [summary["seconds"] for _, summary in runs],
    }  # fmt: skip
    write_json(output / "figures.json", content)
    for name in ("average_precision", "accuracy"):
        values = [100 * test[name] for test in tests]
        print(f"{name}: {shown(statistics.fmean(values), spread(values))} %")
    print(f"share of speech: {tests[0]['positive']:.2%}")
    for kind in ("own", "swapped", "muted", "all") if kinds else ():
        values = [100 * found[f"{kind}_ap"] for found in kinds]
        loud, share = (kinds[0][f"{kind}_{what}"] for what in ("loudness_ap", "positive"))
        print(
            f"average precision, {kind}: {shown(statistics.fmean(values), spread(values))} %, by "
            f"loudness {loud:.2%}, share {share:.2%}"
        )


if __name__ == "__main__":
    with one_line_errors():
        main(read_options(DEFAULT, __doc__ or ""))
