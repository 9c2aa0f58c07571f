"""Train a small model on who speaks, from real talking faces (GRID corpus), and try it on others.

    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py
    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py --debug

Data: `$SE_ZOO_DATA/grid` (Cooke et al., doi 10.1121/1.2229005): 60 sentences of one speaker with
word alignments, every sixth of which validates, and 11 clips of other speakers (`multi_*`), which
test. Faces are found and cut out first, into --data.path, in AVA's layout. Those 11 have no
alignments: there, speech is the longest stretch of sound, which agrees with the alignments of the
first speaker's clips on 95.53 % of the frames. A face also counts as silent, in training by chance
and in validation and test once for each track, when its sound is another clip's (there with its
halves exchanged, or loudness alone would tell) or is muted.
Result, on the other speakers, mean ± deviation over seeds 0 to 2, 16 to 24 minutes a run on a busy
core (AMD EPYC): average precision 86.15 ± 8.07 % (share of speech 17.98 %, loudness as the score
51.02 %); with their own sound alone 97.95 ± 1.72 % (53.94 %, 99.34 %). The settings were chosen on
the validation clips. One run from LR-ASD's weights (`--model.name asd_small_sehead --run.init
lr_asd/model.safetensors --optim.epochs 12 --optim.lr 5e-4`): 99.44 %.
An interrupted run goes on when the same command is given again; finished ones are not trained
again.
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
from grid import FPS, spoken_by_words

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
from se_zoo.train.repeat import check_seeds, shown, spread, summary_of
from se_zoo.train.speaker.speaker_recipe import SpeakerOptions

SPLITS = ("train", "valid", "test")
SILENT = LABELS[2]
#: What is done to the sound of a face that then counts as silent.
KINDS = ("swapped", "muted")


@dataclass(frozen=True)
class GridSpeakerOptions(SpeakerOptions):
    """Every option of the recipe."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """One training each."""
    videos: Path = Path(os.environ.get("SE_ZOO_DATA", "data")) / "grid"
    """Folder with video/ and align/; --data.path is where the tracks go."""


DEFAULT = GridSpeakerOptions(
    data=TrackDataConfig("runs/grid_tracks"),
    # Far fewer updates than on AVA: the batch statistics have to follow faster.
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


# Truth


def spoken_by_sound(loudness: np.ndarray) -> np.ndarray:
    """Which frames belong to the longest stretch of sound that pauses for 5 frames at most."""
    low, high = np.percentile(loudness, [5, 95])
    loud = np.flatnonzero(loudness > low + 0.35 * (high - low))
    stretches = np.split(loud, np.flatnonzero(np.diff(loud) > 5) + 1)
    longest = max(stretches, key=len)
    spoken = np.zeros(len(loudness), bool)
    spoken[longest[0] : longest[-1] + 1] = True
    return spoken


def loudness_of(features: torch.Tensor, frames: int) -> np.ndarray:
    """Mean logarithm of the energy in every frame, (frames,)."""
    energy = features[: 4 * frames, 0]
    energy = torch.nn.functional.pad(
        energy, (0, 4 * frames - len(energy)), value=float(energy.min())
    )
    return energy.view(-1, 4).mean(1).numpy()


# Tracks


def prepare(videos: Path, out: Path) -> None:
    """Find the faces, and lay crops, sound and truth as AVA does; nothing if that is done."""
    if all((out / "csv" / f"{split}.csv").is_file() for split in SPLITS):
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DataError(f"{out} is not there yet: give the command once with a single process.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} holds something else; name another --data.path for the tracks.")
    files = sorted((videos / "video").glob("*.mpg"))
    if not files:
        raise DataError(f"no videos in {videos}/video: set SE_ZOO_DATA, or --videos.")
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
        spoken, split = spoken_by_sound(loudness_of(sound, frames)), "test"
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
                add_silent(made, split)
        os.replace(made, out)


def add_silent(out: Path, split: str) -> None:
    """Every track once more with the sound of the next one, whose second half comes first, and once
    without sound: nobody speaks."""
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
            copy_sound(sounds / other / f"{other}_0.wav", sounds / name / f"{name}_0.wav", how)
            silent += [
                Row((f"{name}_0", row.key[1]), name, SILENT, row.box)
                for row in rows
                if row.video == video
            ]
    write_ava(table, [*rows, *silent])


def copy_sound(file: Path, to: Path, how: str) -> None:
    with wave.open(str(file), "rb") as opened:
        parameters = opened.getparams()
        samples = opened.readframes(parameters.nframes)
    half = len(samples) // 4 * 2  # of 16 bits each
    changed = samples[half:] + samples[:half] if how == "swapped" else bytes(len(samples))
    with wave.open(str(to), "wb") as opened:
        opened.setparams(parameters)
        opened.writeframes(changed)


# Figures


def measured(config: SpeakerConfig) -> Dict[str, float]:
    """Average precision on the test rows with their own sound alone, and with each kind of silence;
    and of loudness as the score."""
    table = open_tracks(replace(config.data, limit_eval=None), config.data.splits[-1])
    scores = {
        row.key: float(row.value)
        for row in read_ava(config.run.output / "predictions.csv", "score")
    }
    found: Dict[str, Tuple[List[bool], List[float], List[float]]] = {}
    for index in range(len(table)):
        track = table.sample(index)
        loud = loudness_of(mfcc(track.wave(0, len(track))), len(track))
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
    check_seeds(given.seeds, given.run, DEFAULT.run.seed)
    prepare(given.videos, Path(given.data.path))
    config = given.config(DEFAULT)
    output = config.run.output
    runs = []
    for seed in given.seeds[:1] if given.debug else given.seeds:
        run = replace(config, run=replace(config.run, seed=seed, output=output / f"seed-{seed}"))
        runs.append((run, summary_of(run, "grid")))
    if os.environ.get("RANK", "0") == "0" and not config.run.dry_run:
        report(output, runs)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def report(output: Path, runs: List[Tuple[SpeakerConfig, Dict[str, Any]]]) -> None:
    tests = [summary["test"] for _, summary in runs]
    kinds = [measured(run) for run, _ in runs if run.data.limit_eval is None]
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
