r"""Train a small speaker model on real talking faces (GRID corpus), and test it on other people.

    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py
    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py --debug
    se-zoo convert lr-asd $SE_ZOO_DATA/weights/lr_asd_ava.safetensors --out lr_asd
    SE_ZOO_DATA=/path/to/data python recipes/grid_speaker.py --model.name asd_small_sehead \
        --run.init lr_asd --optim.lr 3e-4 --optim.epochs 6 --optim.warmup-epochs 1

Run time and score to expect of the last command, for a seed on one core: 20 minutes; average
precision on all test rows 99.1 % (11.2 % of them are speech), LR-ASD as converted 97.9 %.
Data: `$SE_ZOO_DATA/grid` (Cooke et al., doi 10.1121/1.2229005). 60 sentences of one speaker have
word alignments; every sixth validates, the others train. Of 11 clips without alignments (`multi_*`)
four train, one of them of the same speaker, and seven other people test (`grid_tracks.py`).
Parts of photographs (`$SE_ZOO_DATA/imagenet_sample`) stand for what is no face.
Faces are found and cut out first, into --data.path, in AVA's layout.
Without alignment, speech is the longest stretch of sound. On the first speaker's clips this agrees
with the alignments on 95.53 % of the frames.
A face also counts as silent when its sound is another clip's or muted, and when it stands still;
what is no face is always silent. In validation and test each track has one silent copy of each of
these four kinds. The other clip's halves are exchanged there; otherwise loudness alone would give
the answer. In training the sound is changed and the face stands still by chance, the sound may also
be the track's own from another time, and every second track has a copy beside what is no face.
The same command continues an interrupted run; finished runs are not trained again.
"""

import math
import os
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from grid_clips import exported_weights
from grid_tracks import KINDS, loudness, prepare

from se_zoo.data import TrackDataConfig, TrackTable, open_tracks
from se_zoo.data.faces.ava import read_ava
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.files import write_json
from se_zoo.metrics import average_precision
from se_zoo.provenance import provenance
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

#: Sets of test rows: the own sound alone, with each kind of silent copies, with those of other
#: sound, and all.
SETS: Dict[str, Tuple[str, ...]] = {
    "own": ("own",),
    **{kind: ("own", kind) for kind in KINDS},
    "sound": ("own", "swapped", "muted"),
    "all": ("own", *KINDS),
}


@dataclass(frozen=True)
class GridSpeakerOptions(SpeakerOptions):
    """Options of the recipe."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds; each is trained once."""
    videos: Path = Path(os.environ.get("SE_ZOO_DATA", "data")) / "grid"
    """Folder with video/ and align/; the face tracks are written to --data.path."""
    photos: Path = Path(os.environ.get("SE_ZOO_DATA", "data")) / "imagenet_sample/train.parquet"
    """Photographs, of which parts stand for what is no face."""


DEFAULT = GridSpeakerOptions(
    data=TrackDataConfig("runs/grid_tracks"),
    # Far fewer updates than on AVA: the running statistics of the norms must adapt faster.
    model=SpeakerModelConfig(norm_momentum=0.1),
    augment=SpeakerAugmentConfig(
        swap=0.2, mute=0.1, shift=0.1, still=0.1, noise=0.25, frames=32, rotate=10.0,
        scale=(0.6, 1.0), light=0.4,
    ),
    optim=OptimConfig(
        epochs=40, batch_size=320, lr=2e-3, weight_decay=0.01, warmup_epochs=3, ema_decay=0.95
    ),
    run=RunConfig(
        output=Path("runs/grid_speaker"), best="average_precision", channels_last=False,
        log_every=1,
    ),
)  # fmt: skip


# Figures


def _measure(config: SpeakerConfig) -> Dict[str, Any]:
    """Return the figures of a run's predictions."""
    table = open_tracks(replace(config.data, limit_eval=None), config.data.splits[-1])
    rows = read_ava(config.run.output / "predictions.csv", "score")
    # The csv has log-odds.
    chances = {row.key: 1 / (1 + math.exp(-float(row.value))) for row in rows}
    return figures_by_kind(table, chances)


def figures_by_kind(table: TrackTable, scores: Dict[Tuple[str, str], float]) -> Dict[str, Any]:
    """Measure average precision on sets of test rows, and how often each kind is said to speak.

    Args:
        table: The test split, from :func:`prepare`.
        scores: Probability of speaking of every row, by entity and time stamp.

    Returns:
        Of every set of ``SETS`` the average precision of the model, that of loudness as the score,
        and the share of speech. ``speaks`` is the share of rows with a score above 0.5, of silent
        rows by kind and of speech ("spoken"); ``misses`` are the silent copies in which it is 0.05
        or more.
    """
    found: Dict[str, List[Tuple[bool, float, float]]] = {kind: [] for kind in ("own", *KINDS)}
    misses: Dict[str, float] = {}
    for index in range(len(table)):
        track = table.sample(index)
        heard = loudness(mfcc(track.wave(0, len(track))), len(track))[track.frame_of_row]
        entity = track.sound.stem
        kind = next((k for k in KINDS if f"-{k}_" in entity), "own")
        said = [scores[entity, repr(float(t))] for t in track.stamps]
        found[kind] += zip(track.speaking.tolist(), said, heard.tolist(), strict=True)
        share = statistics.fmean(score > 0.5 for score in said)
        if kind != "own" and share >= 0.05:
            misses[entity] = round(share, 3)
    result: Dict[str, Any] = {"misses": misses}
    for name, kinds in SETS.items():
        truth, said, heard = zip(*(row for kind in kinds for row in found[kind]), strict=True)
        result[f"{name}_positive"] = statistics.fmean(truth)
        result[f"{name}_ap"] = average_precision(truth, said)
        result[f"{name}_loudness_ap"] = average_precision(truth, heard)
    shares = {kind: [said > 0.5 for truth, said, _ in found[kind] if not truth] for kind in found}
    shares["spoken"] = [said > 0.5 for truth, said, _ in found["own"] if truth]
    result["speaks"] = {name: statistics.fmean(values) for name, values in shares.items()}
    return result


def main(given: GridSpeakerOptions) -> None:
    """Prepare the tracks, train all seeds that are not finished, and report.

    A dry run without tracks ends with what would be made.

    Raises:
        SEZooError: If options or data cannot be used.
    """
    check_seeds(given.seeds, given.run, DEFAULT.run.seed)
    if not prepare(given.videos, Path(given.data.path), given.photos, given.run.dry_run):
        return
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
        **provenance(), **exported_weights(runs[0][0].run.output),
        "seeds": [run.run.seed for run, _ in runs],
        "samples": runs[0][1]["samples"], "test": tests, "kinds": kinds,
        "seconds": [summary["seconds"] for _, summary in runs],
    }  # fmt: skip
    write_json(output / "figures.json", content)
    for name in ("average_precision", "accuracy"):
        values = [100 * test[name] for test in tests]
        print(f"{name}: {shown(statistics.fmean(values), spread(values))} %")
    print(f"share of speech: {tests[0]['positive']:.2%}")
    for kind in SETS if kinds else ():
        values = [100 * found[f"{kind}_ap"] for found in kinds]
        loud, share = (kinds[0][f"{kind}_{what}"] for what in ("loudness_ap", "positive"))
        print(
            f"average precision, {kind}: {shown(statistics.fmean(values), spread(values))} %, by "
            f"loudness {loud:.2%}, share {share:.2%}"
        )
    for name in kinds[0]["speaks"] if kinds else ():
        shares = ", ".join(f"{found['speaks'][name]:.1%}" for found in kinds)
        print(f"said to speak, {name}: {shares}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_options(DEFAULT, __doc__ or ""))
