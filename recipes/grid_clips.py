"""Train a small clip model on real videos of a talking face (GRID corpus), and measure its maps.

    SE_ZOO_DATA=/path/to/data python recipes/grid_clips.py word  # which word: bin, lay, place...
    SE_ZOO_DATA=/path/to/data python recipes/grid_clips.py speaking  # does the face speak
    SE_ZOO_DATA=/path/to/data python recipes/grid_clips.py word --debug

Run time and score to expect, on the held-out third, mean ± deviation over seeds 0 to 2, on one core
(AMD EPYC):
  speaking: 195 s a run; accuracy 95.16 ± 0.49 % (most frequent answer: 54.70 %). Energy on the
  mouth (1 is chance): contribution map 5.00 ± 0.59, gate map 3.55 ± 0.47, activation 3.73 ± 0.23.
  word: 140 s a run; accuracy 75.00 ± 5.00 % (most frequent answer: 35.00 %). The settings were
  chosen on this third. With the others held out, --fold 0 and 1, it is 78.33 ± 2.89 % and 71.67 ±
  2.89 % (30.00 %). A third is 20 clips, so one clip is five points.
Data: `$SE_ZOO_DATA/grid` with 60 sentences of one speaker (Cooke et al., doi 10.1121/1.2229005):
`video/*.mpg` and `align/*.align` (`start end word`, 1,000 units a frame). Every third sentence is
held out. The model is the bundled face model, frame by frame, and starts from its weights.
The same command continues an interrupted run; finished runs are not trained again.
"""

import csv
import math
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Literal, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import timm
import torch
import tyro

from se_zoo import resolve_clip_config
from se_zoo.console import without_debug
from se_zoo.data import ClipDataConfig, open_table
from se_zoo.errors import DataError, InvalidInputError
from se_zoo.explanations.quality import energy_in_region
from se_zoo.files import replacing, write_json
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import hub_folder, sha256_of
from se_zoo.provenance import provenance
from se_zoo.train import AugmentConfig, ClipModelConfig, Config, OptimConfig, RunConfig
from se_zoo.train.clip_samples import ClipViews
from se_zoo.train.recipe import Options, one_line_errors
from se_zoo.train.repeat import check_same_data, check_seeds, shown, spread, summary_of

#: Frames a second of the videos, and units of the alignments in a frame.
FPS, UNITS = 25, 1000
#: Boxes x0 y0 x1 y1 in the videos' pixels: this speaker's head, framed as in CelebA; a crop around
#: the mouth; the mouth itself.
FACE_CROP = (42, 7, 270, 288)
MOUTH_CROP, MOUTH = (100, 170, 212, 254), (118, 184, 206, 242)


class Word(NamedTuple):
    """A word of an alignment, or a silence."""

    start: float
    """First frame, as a fraction."""
    end: float
    """End, in frames."""
    text: str
    """The word; "sil" is silence."""


@dataclass(frozen=True)
class GridOptions(Options):
    """Options of the recipe."""

    task: tyro.conf.Suppress[Literal["word", "speaking"]] = "word"
    seeds: Tuple[int, ...] = (0, 1, 2)
    """Seeds; each is trained once."""
    fold: Literal[0, 1, 2] = 2
    """The third of the clips that is held out."""


def task_options(task: Literal["word", "speaking"]) -> GridOptions:
    """Return the default options of a task."""
    word = task == "word"
    folder = Path(os.environ.get("SE_ZOO_DATA", "data")) / "grid"
    return GridOptions(
        data=ClipDataConfig(
            str(folder),
            label="label",
            splits=("train", "test", "test"),
            crop=MOUTH_CROP if word else FACE_CROP,
        ),
        model=ClipModelConfig(
            backbone="resnet18_slim",
            input_size=(48, 64) if word else (128, 104),
            num_frames=8 if word else 5,
            sampling="segments",
        ),
        augment=AugmentConfig(
            scale=(0.8, 1.0), ratio=(1.2, 1.48) if word else (0.72, 0.92), color_jitter=0.2
        ),
        optim=OptimConfig(
            epochs=40 if word else 4, batch_size=8 if word else 16, lr=2e-3 if word else 1e-3
        ),
        run=RunConfig(
            output=Path("runs/grid"), init=hub_folder("resnet18_slim_celeba"),
            best="accuracy", log_every=1,
        ),
        task=task,
    )  # fmt: skip


def read_words(file: Path) -> List[Word]:
    """Read the words of an alignment file."""
    lines = [line.split() for line in file.read_text("utf-8").splitlines()]
    return [Word(int(a) / UNITS, int(b) / UNITS, text) for a, b, text in lines]


def spoken_by_words(align: Path, frames: int) -> np.ndarray:
    """Return whether each frame lies in a word, (frames,) bool.

    Args:
        align: The alignment file.
        frames: Number of frames of the video.
    """
    spoken = np.zeros(frames, bool)
    for word in read_words(align):
        if word.text != "sil":
            spoken[round(word.start) : round(word.end)] = True
    return spoken


def word_window(words: Sequence[Word]) -> List[Tuple[int, int, str]]:
    """Return the window of the command, which is the first word.

    It begins before the word is heard, because the lips move earlier, and ends in the next word.

    Returns:
        One window: first frame, end, label.
    """
    first = next(word for word in words if word.text != "sil")
    return [(max(0, round(first.end - 9)), round(first.end + 3), first.text)]


def speaking_windows(words: Sequence[Word], length: int = 10) -> List[Tuple[int, int, str]]:
    """Return the windows that lie wholly in the sentence or wholly in the silence around it.

    Returns:
        Windows of `length` frames: first frame, end, label.
    """
    spoken = [word for word in words if word.text != "sil"]
    begin, end, last = spoken[0].start, spoken[-1].end, words[-1].end
    found = []
    for low, high, label in (
        (0.0, begin, "silent"),
        (begin, end, "speaking"),
        (end, last, "silent"),
    ):
        start = math.ceil(low)
        while start + length <= high:
            found.append((start, start + length, label))
            start += length
    return found


def write_table(given: GridOptions, file: Path) -> None:
    """Write the windows as a csv that the engine reads."""
    windows_of = word_window if given.task == "word" else speaking_windows
    alignments = sorted((Path(given.data.path) / "align").glob("*.align"))
    if not alignments:
        raise DataError(
            f"no alignments in {given.data.path}/align: set SE_ZOO_DATA, or give --data.path."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as made, made.open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow(["video", "label", "start", "end", "split"])
        for n, path in enumerate(alignments):
            split = "test" if n % 3 == given.fold else "train"
            for start, end, label in windows_of(read_words(path)):
                table.writerow([f"video/{path.stem}.mpg", label, start / FPS, end / FPS, split])


def exported_weights(run: Path) -> Dict[str, str]:
    """Return the SHA-256 of a run's weights, by which a card knows the figures.

    Args:
        run: The run's folder.

    Returns:
        ``weights_sha256``; nothing if the run has no export any more.
    """
    file = run / "export" / WEIGHTS_NAME
    return {"weights_sha256": sha256_of(file)} if file.is_file() else {}


def _mouth_slices(crop: Sequence[int], views: ClipViews) -> Tuple[slice, slice]:
    """Return rows and columns of the mouth in the model's input."""
    x0, y0, x1, y1 = crop
    ((top, left, down, across),) = views.views.boxes(x1 - x0, y1 - y0)
    height, width = views.config.size
    rows = [round((y - y0 - top) / down * height) for y in (MOUTH[1], MOUTH[3])]
    columns = [round((x - x0 - left) / across * width) for x in (MOUTH[0], MOUTH[2])]
    return slice(max(0, rows[0]), rows[1]), slice(max(0, columns[0]), columns[1])


def _mouth_energy(config: Config) -> Dict[str, Optional[float]]:
    """Return the energy on the mouth over chance, by method.

    This is the share of the heatmap on the mouth over the mouth's share of the picture; chance is 1
    (Score-CAM, arXiv 1910.01279, section 4.2). Means are over the held-out windows with speech that
    the model classifies correctly; None if there are none.
    """
    assert isinstance(config.data, ClipDataConfig) and config.data.crop is not None
    model: Any = timm.create_model(f"local-dir:{config.run.output / 'export'}", pretrained=True)
    data = replace(config.data, clips=1, crops=1)
    views = ClipViews(resolve_clip_config(model.eval()), data)
    rows, columns = _mouth_slices(config.data.crop, views)
    found: Dict[str, List[float]] = {"contribution": [], "gate": [], "activation": []}
    table = open_table(config.data, "test")
    for i in range(len(table)):
        footage, target = table[i]
        if table.labels[int(target)] == "silent":
            continue
        for method, energies in found.items():
            explanation = model.explain(views(footage), [target], method=method)
            if explanation.logits.argmax(1).item() == target:
                region = torch.zeros_like(explanation.heatmap, dtype=torch.bool)
                region[:, :, rows, columns] = True
                energies.append(float(energy_in_region(explanation.heatmap, region).nan_to_num()))
    return {k: statistics.fmean(energies) if energies else None for k, energies in found.items()}


def main(given: GridOptions) -> None:
    """Write the table of windows, train all seeds and report.

    Raises:
        SEZooError: If options or data cannot be used.
    """
    default = task_options(given.task)
    check_seeds(given.seeds, given.run, default.run.seed)
    if given.data.csv is not None:
        raise InvalidInputError(
            "--data.csv: remove it; the recipe makes its own table from the alignments."
        )
    cropped = not isinstance(given.data, ClipDataConfig) or given.data.crop is not None
    if given.task == "speaking" and given.model.se and not cropped:
        raise InvalidInputError(
            "--data.crop None: leave the option out, or give a crop; without one the maps cannot "
            "be measured on the mouth."
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if given.run.dry_run else given.run.output
        if given.debug and folder == default.run.output:
            folder = folder.with_name(f"{folder.name}-debug")
        table = folder / f"{given.task}-{given.fold}.csv"
        write_table(given, table)
        _run_seeds(given, replace(given, data=replace(given.data, csv=table)).config(default))


def _run_seeds(given: GridOptions, config: Config) -> None:
    """Train every seed that is not finished, then report."""
    output = config.run.output
    runs = []
    for seed in given.seeds[:1] if given.debug else given.seeds:
        folder = output / f"{given.task}-{given.fold}-{seed}"
        run = replace(config, run=replace(config.run, seed=seed, output=folder))
        runs.append((run, summary_of(run, "grid" if given.task == "speaking" else "")))
    check_same_data([summary for _, summary in runs])
    if os.environ.get("RANK", "0") == "0" and not config.run.dry_run:
        _report(given, output, runs)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _report(given: GridOptions, output: Path, runs: List[Tuple[Config, Dict[str, Any]]]) -> None:
    """Write the figures of all seeds, and print their means."""
    tests = [summary["test"] for _, summary in runs]
    # For the task word the mouth fills most of the picture, so its share says nothing.
    measured = given.task == "speaking"
    energies = [_mouth_energy(run) for run, _ in runs if run.model.se and measured]
    content: Dict[str, Any] = {
        **provenance(), **exported_weights(runs[0][0].run.output), "task": given.task,
        "fold": given.fold, "seeds": [run.run.seed for run, _ in runs],
        "samples": runs[0][1]["samples"], "majority": tests[0]["majority_accuracy"],
        "accuracy": [test["accuracy"] for test in tests], "mouth_energy": energies,
        "seconds": [summary["seconds"] for _, summary in runs],
    }  # fmt: skip
    write_json(output / f"{given.task}-{given.fold}.json", content)
    percent = [100 * value for value in content["accuracy"]]
    print(
        f"\n{given.task}: test accuracy {shown(statistics.fmean(percent), spread(percent))} % over "
        f"{len(runs)} seeds; always the most frequent answer: {100 * content['majority']:.2f} %"
    )
    for method in energies[0] if energies else ():
        known = [energy[method] for energy in energies]
        values = [value for value in known if value is not None]
        if values:
            mean = shown(statistics.fmean(values), spread(values))
            print(f"energy on the mouth, {method} map: {mean} (1 is chance)")


if __name__ == "__main__":
    tasks = {name: (f"The task {name}.", task_options(name)) for name in ("word", "speaking")}
    words, _ = without_debug(sys.argv[1:])
    given = tyro.extras.overridable_config_cli(tasks, description=__doc__ or "", args=words)
    with one_line_errors():
        main(given)
