"""Score a CelebA model of the zoo on the official test part, for its card.

    SE_ZOO_DATA=/path/to/data python tools/score_celeba.py resnet18_slim_celeba
    SE_ZOO_DATA=/path/to/data python tools/score_celeba.py resnet18_slim_celeba \\
        --folder runs/zoo/resnet18_slim_celeba/export --write-thresholds

The first scores the weights in the package, the second those of a run. Either writes
`hub_cards/<name>/test.json`: accuracy, balanced accuracy, average precision and F1 with intervals
over people, every label with its threshold, groups by CelebA's own labels, and calibration. The
stored fp16 file is scored in fp32, preprocessed as evaluation in training does it. A model that
stores no thresholds is scored at those that `--write-thresholds` would store.

Run time: a few minutes for the smallest model, on two cores.
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
from se_zoo.explanations.targets import above_threshold
from se_zoo.files import write_json
from se_zoo.models.labels import CELEBA_ATTRIBUTES
from se_zoo.models.names import PREFIX
from se_zoo.models.pretrained.fetch import WEIGHTS_NAME
from se_zoo.models.pretrained.load import load_model
from se_zoo.models.pretrained.manifest import cards_folder, hub_folder, sha256_of
from se_zoo.provenance import provenance
from se_zoo.statistics import People, best_thresholds, describe
from se_zoo.train.loader import Plain, evaluation_transform
from se_zoo.train.metrics import Scores
from se_zoo.train.recipe import one_line_errors

DATA = "celeba46k"
#: Column of the person.
PERSON = "celeb_id"
#: CelebA's own labels that make groups of people, and the labels that are compared between them.
GROUPS = ("Male", "Young", "Pale_Skin")
SHOWN = ("Smiling", "Mouth_Slightly_Open", "Eyeglasses", "Wearing_Hat", "Bangs", "Black_Hair")
BATCH = 64
THREADS = 2


class Part(NamedTuple):
    """A part of the data with what the model says of it."""

    truth: torch.Tensor
    """bool (N, K)"""
    logits: torch.Tensor
    """float32 (N, K)"""
    people: Sequence[int]
    """Who is on each image."""


def data_config(root: Path, limit: Optional[int] = None) -> DataConfig:
    """Return the sample on CelebA's official split, or so many images of each part."""
    return DataConfig(
        str(root / DATA), attributes=CELEBA_ATTRIBUTES, ignore=(PERSON, "image_id"),
        limit_eval=limit,
    )  # fmt: skip


@torch.inference_mode()
def logits_of(model: Any, table: Table) -> torch.Tensor:
    """Return the model's logits of all images, float32 (N, K)."""
    samples = Plain(table, evaluation_transform(model), 0, 1)
    batches = tqdm(DataLoader(samples, batch_size=BATCH), table.name, leave=False, disable=None)
    logits = torch.cat([model(images) for images, _ in batches]).float()
    if not torch.isfinite(logits).all():
        raise InvalidInputError(f"the model answers NaN or infinity on {table.name}.")
    return logits


def read_part(model: Any, config: DataConfig, split: str) -> Part:
    """Run the model over a part."""
    table = open_table(config, split)
    people = list(load_rows(config, split)[PERSON])
    if table.rows is not None:  # of a limited one
        people = [people[row] for row in table.rows]
    return Part(table.targets > 0, logits_of(model, table), people)


def thresholds_of(part: Part) -> Tuple[Dict[str, float], Tuple[float, ...]]:
    """Return the plain figures of the part to validate on, and the thresholds that fit it best."""
    scores = Scores(CELEBA_ATTRIBUTES, True, len(part.truth), "cpu")
    scores.update(part.logits, part.truth)
    assert scores.tally is not None
    figures = {k: v for k, v in scores.compute().items() if isinstance(v, float)}
    return figures, best_thresholds(scores.tally.compute())


def check_model(model: Any, name: str) -> None:
    """Refuse a model of other labels.

    Raises:
        InvalidInputError: Saying which it has.
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
    """Return the content of ``test.json``.

    Args:
        folder: With the model's ``config.json`` and weights.
        name: Of the model.
        config: The data.
        store: Write the thresholds that fit the valid part best into the folder's config.json.

    Raises:
        InvalidInputError: If the model is of other labels, or answers NaN.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    made = provenance()  # now: the checkout may change meanwhile
    model = load_model(f"local-dir:{folder}")
    check_model(model, name)
    valid, test = (read_part(model, config, split) for split in config.splits[1:])
    valid_figures, best = thresholds_of(valid)
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
        **describe(
            test.truth, test.logits, above_threshold(test.logits, thresholds) > 0, thresholds,
            CELEBA_ATTRIBUTES, people, GROUPS, SHOWN,
        ),
    }  # fmt: skip


def table_of(found: Dict[str, Any]) -> str:
    """Return the most important figures, a line each, in %."""
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
    parser.add_argument("name", help="model of the zoo")
    parser.add_argument("--folder", type=Path, help="config.json and weights of a run")
    parser.add_argument("--out", type=Path, help="file to write; the card's test.json by default")
    parser.add_argument(
        "--write-thresholds", action="store_true",
        help="store the thresholds that fit the valid part best in the folder's config.json",
    )  # fmt: skip
    given = parser.parse_args()
    name = given.name.removeprefix(PREFIX)
    root, out = os.environ.get("SE_ZOO_DATA"), given.out or cards_folder() / name / "test.json"
    if not root:
        parser.error("set SE_ZOO_DATA to the folder of the sample data")
    if given.write_thresholds and given.folder is None:
        parser.error("--write-thresholds changes a config.json: name its --folder")
    if not out.parent.is_dir():
        parser.error(f"there is no folder {out.parent} for {out.name}; name a file with --out")
    torch.set_num_threads(THREADS)
    with one_line_errors():
        folder = given.folder or hub_folder(name)
        found = score(folder, name, data_config(Path(root)), given.write_thresholds)
    write_json(out, found)
    print(f"{table_of(found)}\n{out}")


if __name__ == "__main__":
    main()
