r"""Score a CelebA model of the zoo on the official test split, for its card.

    SE_ZOO_DATA=/path/to/data python -m tools.score_celeba resnet18_slim_celeba
    SE_ZOO_DATA=/path/to/data python -m tools.score_celeba resnet18_slim_celeba \
        --folder runs/zoo/resnet18_slim_celeba/export --write-thresholds

Run time: a few minutes for the smallest model, on two cores.
Result: `hub_cards/<name>/test.json`.

The first command scores the weights in the package, the second those of a run. The figures are
accuracy, balanced accuracy, average precision and F1 with intervals over people, every label with
its threshold, groups by CelebA's own labels, and calibration. The stored fp16 weights are scored in
fp32, with the preprocessing of evaluation in training. A model without stored thresholds is scored
at those that `--write-thresholds` would store.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from se_zoo.data import DataConfig, Table, open_table
from se_zoo.data.tables.parquet import load_rows
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.target_classes import above_threshold
from se_zoo.files import write_json
from se_zoo.models.input_size import data_config
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES
from se_zoo.models.load_model import load_model
from se_zoo.models.names import PREFIX
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, sha256_of
from se_zoo.provenance import provenance
from se_zoo.statistics import People, best_thresholds, describe
from se_zoo.train.loader import Plain
from se_zoo.train.metrics import Scores
from se_zoo.train.recipe import one_line_errors
from se_zoo.transform import evaluation_transform

DATA = "celeba46k"
#: Column with the number of the person.
PERSON = "celeb_id"
#: CelebA's labels that define groups of people, and the labels that are compared between them.
GROUPS = ("Male", "Young", "Pale_Skin")
SHOWN = ("Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat", "Bangs", "Black_Hair")
BATCH = 64
THREADS = 2
#: Number of the first test images whose accuracy is recorded too: a test computes it again.
FIRST = 200


class Split(NamedTuple):
    """A split with the model's logits."""

    truth: torch.Tensor
    """Labels, (N, K) bool."""
    logits: torch.Tensor
    """Logits, (N, K) float32."""
    people: Sequence[int]
    """Number of the person on each image."""


def sample_config(root: Path, limit: Optional[int] = None) -> DataConfig:
    """Return the configuration of the sample on CelebA's official split.

    Args:
        root: Folder of the sample data.
        limit: Largest number of images of each split; None for all.
    """
    return DataConfig(
        str(root / DATA), attributes=CELEBA_ATTRIBUTES, ignore=(PERSON, "image_id"),
        limit_eval=limit,
    )  # fmt: skip


@torch.inference_mode()
def _logits_of(model: Any, table: Table) -> torch.Tensor:
    """Return the model's logits of all images, (N, K) float32.

    Raises:
        InvalidInputError: If a logit is NaN or infinite.
    """
    samples = Plain(table, evaluation_transform(data_config(model)), 0, 1)
    batches = tqdm(DataLoader(samples, batch_size=BATCH), table.name, leave=False, disable=None)
    logits = torch.cat([model(images) for images, _ in batches]).float()
    if not torch.isfinite(logits).all():
        raise InvalidInputError(f"the model answers NaN or infinity on {table.name}.")
    return logits


def _read_split(model: Any, config: DataConfig, split: str) -> Split:
    """Run the model over a split."""
    table = open_table(config, split)
    people = list(load_rows(config, split)[PERSON])
    if table.rows is not None:  # the number of images is limited
        people = [people[row] for row in table.rows]
    return Split(table.targets > 0, _logits_of(model, table), people)


def _figures_and_thresholds(part: Split) -> Tuple[Dict[str, float], Tuple[float, ...]]:
    """Return a split's figures at one half, and the thresholds with the best F1 on it."""
    scores = Scores(CELEBA_ATTRIBUTES, True, len(part.truth), "cpu")
    scores.update(part.logits, part.truth)
    assert scores.tally is not None
    figures = {k: v for k, v in scores.compute().items() if isinstance(v, float)}
    return figures, best_thresholds(scores.tally.compute())


def _accuracy_of_first(part: Split) -> Dict[str, Any]:
    """Return the share of right answers, at one half, on the first images of a split."""
    right = (part.logits[:FIRST] > 0) == part.truth[:FIRST]
    return {"images": len(right), "accuracy": right.double().mean().item()}


def check_model(model: Any, name: str) -> None:
    """Refuse a model with other labels than CelebA's.

    Raises:
        InvalidInputError: Naming its labels.
    """
    labels = model.class_labels()
    if list(labels or ()) != list(CELEBA_ATTRIBUTES) or not model.is_multi_label():
        raise InvalidInputError(
            f"{name} does not answer CelebA's {len(CELEBA_ATTRIBUTES)} attributes but "
            f"{', '.join((labels or ())[:3]) or 'classes without names'} and so on."
        )


def write_thresholds(folder: Path, thresholds: Sequence[float]) -> None:
    """Write thresholds into a model folder's config.json, whole or not at all."""
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8"))
    config["model_args"] = {**config["model_args"], "thresholds": list(thresholds)}
    write_json(file, config)


def score(folder: Path, name: str, config: DataConfig, store: bool = False) -> Dict[str, Any]:
    """Score the weights of a folder and return the content of ``test.json``.

    Args:
        folder: Folder with the model's ``config.json`` and weights.
        name: Name of the model.
        config: The data.
        store: Write the thresholds with the best F1 on the validation split into config.json.

    Raises:
        InvalidInputError: If the model has other labels, or its logits are NaN or infinite.
        WeightsNotFoundError: If the weights are missing or do not fit.
    """
    made = provenance()  # before scoring: the checkout may change meanwhile
    model = load_model(f"local-dir:{folder}")
    check_model(model, name)
    valid, test = (_read_split(model, config, split) for split in config.splits[1:])
    valid_figures, best = _figures_and_thresholds(valid)
    if store:
        write_thresholds(folder, best)
        model.thresholds = best
    thresholds = model.thresholds or best
    people = People(test.people)
    return {
        **made,
        "model": name,
        "weights_sha256": sha256_of(folder / WEIGHTS_NAME),
        "data": "the test part of CelebA's official split",
        "samples": {"valid": len(valid.truth), "test": len(test.truth)},
        "people": {"valid": len(set(valid.people)), "test": people.count},
        "thresholds_stored": model.thresholds is not None,
        "valid": valid_figures,
        "first": _accuracy_of_first(test),
        **describe(
            test.truth, test.logits, above_threshold(test.logits, thresholds) > 0, thresholds,
            CELEBA_ATTRIBUTES, people, GROUPS, SHOWN,
        ),
    }  # fmt: skip


def _summary_text(found: Dict[str, Any]) -> str:
    """Return the most important figures as lines of text, in %."""
    images, people = found["samples"]["test"], found["people"]["test"]
    lines = [f"{found['model']}, {images} images of {people} people, %:"]
    for title, key in (("at one half", "figures"), ("at the thresholds", "at_thresholds")):
        for metric, row in found[key].items():
            values = " ".join(f"{100 * row[end]:6.2f}" for end in ("value", "low", "high"))
            lines.append(f"{title:18}{metric:20}{values}")
    error = found["reliability"]
    lines.append(
        f"calibration error {100 * error['error']:.2f}, of {error['worst_label']} "
        f"{100 * error['worst_error']:.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, score, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="name of a model of the zoo")
    parser.add_argument("--folder", type=Path, help="folder with a run's config.json and weights")
    parser.add_argument(
        "--out", type=Path, help="file to write; by default test.json of the model's card"
    )
    parser.add_argument(
        "--write-thresholds", action="store_true",
        help="write the thresholds with the best F1 on the validation split into config.json",
    )  # fmt: skip
    given = parser.parse_args()
    name = given.name.removeprefix(PREFIX)
    root, out = os.environ.get("SE_ZOO_DATA"), given.out or cards_folder() / name / "test.json"
    if not root:
        parser.error("set SE_ZOO_DATA to the folder of the sample data")
    if given.write_thresholds and given.folder is None:
        parser.error("--write-thresholds changes a config.json: give its --folder")
    if not out.parent.is_dir():
        parser.error(
            f"there is no folder {out.parent} for {out.name}; give another file with --out"
        )
    torch.set_num_threads(THREADS)
    with one_line_errors():
        folder = given.folder or hub_folder(name)
        found = score(folder, name, sample_config(Path(root)), given.write_thresholds)
    write_json(out, found)
    print(f"{_summary_text(found)}\n{out}")


if __name__ == "__main__":
    main()
