"""Measure SE heads that are trained on cached clips, beside a logistic regression.

    SE_ZOO_DATA=/path/to/data python -m benchmarks.clip_head --out clip_head.json

Run time: about 10 minutes on two cores, nearly all of it for computing the features.

Data: 60 GRID videos of one speaker, a third of them held out (`recipes/grid_clips.py`): which word,
and speech or silence. The backbone is the packaged face model, frame by frame, and is not trained.
Both sides read the same cached features. The logistic regression gets their mean over frames and
cells, standardised; its strength is chosen by 3-fold cross-validation on the training clips.

Time maps are measured on joined clips: a held-out window with speech and one of silence, of the
same video, in both orders. Pointing in time is the share of the joined clips whose evidence for
speech (`Explanation.frame_weights`) is larger in the half with speech. Chance is one half.
"""

import itertools
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Dict, List, Literal, Optional, Tuple

import numpy as np
import timm
import torch
import tyro

from recipes.grid_clips import task_options, write_table
from se_zoo import resolve_clip_config
from se_zoo.data import ClipDataConfig, open_table
from se_zoo.errors import InvalidInputError
from se_zoo.files import write_json
from se_zoo.provenance import provenance
from se_zoo.train import AugmentConfig, Config, OptimConfig, RunConfig, train
from se_zoo.train.clip_samples import ClipViews
from se_zoo.train.head_only import ClipHeadTrainer
from se_zoo.train.recipe import one_line_errors
from se_zoo.train.repeat import shown, spread

TASKS: Tuple[Literal["word", "speaking"], ...] = ("word", "speaking")
#: Strengths of the regularisation that the control chooses from.
STRENGTHS = tuple(10.0**power for power in range(-4, 3))


@dataclass(frozen=True)
class ClipHeadOptions:
    """Options of the benchmark."""

    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds of the SE heads."""
    work: Path = Path("runs/clip_head")
    """Folder of the runs and of their features."""
    out: Optional[Path] = None
    """JSON file for the figures."""


def _config(task: Literal["word", "speaking"], work: Path) -> Config:
    """Return the run of a task, of seed 0."""
    given = task_options(task)
    table = work / f"{task}.csv"
    write_table(given, table)
    assert isinstance(given.data, ClipDataConfig)
    return Config(
        replace(given.data, csv=table, clips=3 if task == "word" else 1),
        given.model,
        AugmentConfig(),
        OptimConfig(epochs=60, batch_size=16, lr=3e-3, ema_decay=0.95),
        replace(given.run, output=work / task, channels_last=False, best="accuracy"),
    )


def _control(config: Config) -> float:
    """Return the test accuracy of a logistic regression on the cached features.

    Raises:
        InvalidInputError: If scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise InvalidInputError(
            'the control needs scikit-learn: pip install ".[report]"'
        ) from error
    found: List[Tuple[Any, Any]] = []
    for split in ("train", "test"):
        features = np.load(config.run.output / "features" / f"{split}.npy", mmap_mode="r")
        # (N, views, frames, channels, rows, columns)
        pooled = features.astype(np.float32).mean((1, 2, 4, 5))
        found.append((pooled, np.asarray(open_table(config.data, split).targets)))
    (inputs, targets), (test_inputs, test_targets) = found
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    search: Any = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=3)
    return float(search.fit(inputs, targets).score(test_inputs, test_targets))


def _pointing_in_time(config: Config) -> float:
    """Return how often the evidence for speech lies in the half with speech."""
    model: Any = timm.create_model(f"local-dir:{config.run.output / 'export'}", pretrained=True)
    assert isinstance(config.data, ClipDataConfig)
    views = ClipViews(resolve_clip_config(model.eval()), replace(config.data, clips=1))
    windows: Dict[str, Dict[str, List[torch.Tensor]]] = {}
    table = open_table(config.data, "test")
    for i in range(len(table)):
        footage, target = table[i]
        of_video = windows.setdefault(str(footage.video.source), {"speaking": [], "silent": []})
        of_video[table.labels[int(target)]].append(views(footage))
    right: List[bool] = []
    for of_video in windows.values():
        for speech, silence in itertools.product(of_video["speaking"], of_video["silent"]):
            for first in (True, False):
                joined = torch.cat((speech, silence) if first else (silence, speech), 2)
                halves = model.explain(joined, "speaking").frame_weights[0].chunk(2)
                right.append(bool(halves[0].mean() > halves[1].mean()) == first)
    return fmean(right)


def _measure(task: Literal["word", "speaking"], given: ClipHeadOptions) -> Dict[str, Any]:
    """Train the heads of a task, and its control."""
    config = _config(task, given.work)
    accuracies: List[float] = []
    seconds: List[float] = []
    for seed in given.seeds:
        # All seeds share one folder's features: the first run computes them.
        output = given.work / f"{task}-{seed}"
        run: RunConfig = replace(config.run, seed=seed, output=output)
        if seed != given.seeds[0]:
            _share_features(given.work / f"{task}-{given.seeds[0]}", output)
        before = time.process_time()
        train(replace(config, run=run), trainer_class=ClipHeadTrainer, last=False)
        seconds.append(time.process_time() - before)
        summary = json.loads((output / "summary.json").read_text("utf-8"))
        accuracies.append(summary["test"]["accuracy"])
    first = replace(config, run=replace(config.run, output=given.work / f"{task}-{given.seeds[0]}"))
    found: Dict[str, Any] = {
        "samples": summary["samples"],
        "majority": summary["test"]["majority_accuracy"],
        "accuracy": accuracies,
        "logistic_regression": _control(first),
        "cpu_seconds_with_features": seconds[0],
        "cpu_seconds_after_caching": seconds[1:],
    }
    if task == "speaking":
        runs = [given.work / f"{task}-{seed}" for seed in given.seeds]
        made = [replace(config, run=replace(config.run, output=run)) for run in runs]
        found["pointing_in_time"] = [_pointing_in_time(run) for run in made]
    return found


def _share_features(made: Path, output: Path) -> None:
    """Link the features of one run into another's folder."""
    folder = output / "features"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (made / "features").iterdir():
        if not (folder / file.name).exists():
            os.link(file, folder / file.name)


def main() -> None:
    """Measure both tasks and print the figures."""
    given = tyro.cli(ClipHeadOptions, description=__doc__)
    with one_line_errors():
        found = {**provenance(), **{task: _measure(task, given) for task in TASKS}}
    for task in TASKS:
        row = found[task]
        percent = [100 * value for value in row["accuracy"]]
        after = row["cpu_seconds_after_caching"]
        print(
            f"{task}: SE head {shown(fmean(percent), spread(percent))} %, "
            f"logistic regression {100 * row['logistic_regression']:.2f} %, majority "
            f"{100 * row['majority']:.2f} %; CPU seconds after caching: "
            f"{', '.join(f'{s:.0f}' for s in after)}"
        )
    times = ", ".join(f"{value:.3f}" for value in found["speaking"]["pointing_in_time"])
    print(f"pointing in time on joined clips: {times} (chance is 0.5)")
    if given.out is not None:
        write_json(given.out, found)
    else:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
