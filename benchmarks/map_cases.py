"""Hold the cases that `benchmarks/maps.py` explains, and load your own images.

The faces are in `face_cases.py`, the objects in `object_cases.py`.
"""

import contextlib
import csv
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import pyarrow.parquet as parquet
import torch
from PIL import Image
from torch import nn

import se_zoo  # noqa: F401  registers the models
from se_zoo.errors import DataError, InvalidInputError
from se_zoo.explanations import explain
from se_zoo.explanations.class_token import reads_class_token, reads_patches
from se_zoo.explanations.quality.cases import Cases
from se_zoo.explanations.target_classes import target_of
from se_zoo.inference.images import load_photo
from se_zoo.models.classifiers import classifiers_of
from se_zoo.models.input_size import data_config
from se_zoo.models.load_model import load_model
from se_zoo.transform import evaluation_transform

#: Columns of a box: its corners in pixels of the picture, the ends exclusive.
_CORNERS = ("x0", "y0", "x1", "y1")


@dataclass
class CaseSet:
    """A model and the cases that it explains.

    Means are taken over the cases of each group first, then over the groups.

    Attributes:
        name: Name of the set in tables.
        model: A model with an SE head, in eval mode.
        cases: The cases, in the order of their ids 0, 1, ...
        groups: The group of each case, such as its attribute.
        images: The image number of each case; cases of one image are resampled together.
    """

    name: str
    model: nn.Module
    cases: Cases
    groups: List[str]
    images: List[int]


class Case(NamedTuple):
    """An image, the class to explain, and the region in which the answer lies.

    Attributes:
        image: Normalised, (C, H, W).
        target: Index of the class to explain.
        region: Pixels of the answer, (H, W) bool; None if unknown.
        box: Box of the answer, x0 y0 x1 y1 in pixels; None if unknown.
        group: Group of the case, such as its attribute.
        number: Number of the image.
        known: Pixels for which the region is known, (H, W) bool; None for all.
    """

    image: torch.Tensor
    target: int
    region: Optional[torch.Tensor]
    box: Optional[Tuple[float, float, float, float]]
    group: str
    number: int
    known: Optional[torch.Tensor] = None


def case_set(name: str, model: nn.Module, found: Sequence[Case]) -> CaseSet:
    """Stack cases into a set; regions, boxes and known pixels are kept if all cases have them.

    Raises:
        DataError: If there is no case.
    """
    if not found:
        raise DataError(f"{name}: no case; the model predicts none of the labels of these images.")
    regions = [case.region for case in found if case.region is not None]
    boxes = [case.box for case in found if case.box is not None]
    known = [case.known for case in found if case.known is not None]
    cases = Cases(
        torch.stack([case.image for case in found]),
        torch.tensor([case.target for case in found]),
        torch.stack(regions) if len(regions) == len(found) else None,
        torch.tensor(boxes) if len(boxes) == len(found) else None,
        range(len(found)),
        torch.stack(known) if len(known) == len(found) else None,
    )
    groups, images = [case.group for case in found], [case.number for case in found]
    return CaseSet(name, model, cases, groups, images)


def data_folder() -> Path:
    """Return the folder of the sample data.

    Raises:
        DataError: If SE_ZOO_DATA is not set, or empty.
    """
    given = os.environ.get("SE_ZOO_DATA", "")
    if not given:
        raise DataError("set SE_ZOO_DATA to the folder of the sample data, or use the preset own.")
    return Path(given)


def sample(*names: str) -> Path:
    """Return the path of a file or folder of the sample data.

    Raises:
        DataError: If it does not exist.
    """
    path = data_folder().joinpath(*names)
    if not path.exists():
        raise DataError(
            f"SE_ZOO_DATA={data_folder()} has no {'/'.join(names)}; is this the right folder?"
        )
    return path


def load_to_explain(model_name: str) -> Any:
    """Load a model so that methods that need gradients are as cheap as they can be.

    Only classifiers ask for gradients: no method then takes a backward pass of the backbone,
    and all draw the same maps as without.

    Args:
        model_name: Name of the model, as for ``se-zoo explain``.
    """
    model = load_model(model_name)
    model.requires_grad_(False)
    for classifier in classifiers_of(model):  # two of a distilled model
        classifier.requires_grad_(True)
    return model


@contextlib.contextmanager
def remembered_features(model: Any) -> Iterator[None]:
    """Compute the features of the same images once, however many methods explain them.

    For a frozen backbone they are the same. Images that ask for a gradient, and transformers whose
    maps need the tokens of their blocks, take their usual way.

    Args:
        model: Result of :func:`load_to_explain`.
    """
    if reads_class_token(model) or reads_patches(model):
        yield
        return
    own: Any = model.forward_features
    known: List[Tuple[torch.Tensor, Any]] = []

    def forward_features(images: torch.Tensor, **options: Any) -> Any:
        # timm's ViTs give options that are None or False.
        given = [value for value in options.values() if value is not None and value is not False]
        if images.requires_grad or given:
            return own(images, **options)
        for seen, features in known:
            if seen.dtype == images.dtype and torch.equal(seen, images):
                return features
        # Tensors of inference mode could not be used where gradients are computed.
        with torch.inference_mode(False), torch.no_grad():
            kept = images.clone()
            known.insert(0, (kept, own(kept)))
        del known[2:]
        return known[0][1]

    model.forward_features = forward_features
    try:
        yield
    finally:
        del model.forward_features


def _uncropped_config(model: nn.Module) -> Dict[str, Any]:
    """Return the configuration of the model's preprocessing, without any crop."""
    return {**data_config(model), "crop_pct": 1.0, "crop_mode": "squash"}


def transform_of(model: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """Return the model's preprocessing, without any crop."""
    return evaluation_transform(_uncropped_config(model))  # type: ignore[no-any-return]


def mask_transform_of(model: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """Return the counterpart of :func:`transform_of` for masks of class numbers.

    It resizes as :func:`transform_of` does, with the nearest pixel's number, to (H, W) uint8.
    """
    config = {**_uncropped_config(model), "interpolation": "nearest"}
    transform = evaluation_transform(config, normalize=False)
    return lambda mask: transform(mask)[0]


def read_images(file: Path, rows: Optional[slice] = None) -> Tuple[List[Image.Image], Any]:
    """Read the images of a parquet file, as RGB, and its table."""
    table = parquet.read_table(file)
    table = table if rows is None else table.take(list(range(table.num_rows))[rows])
    cells = table["image"].to_pylist()
    return [Image.open(io.BytesIO(cell["bytes"])).convert("RGB") for cell in cells], table


@torch.no_grad()
def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute logits, 50 images at a time."""
    return torch.cat([model(part) for part in images.split(50)])


def fraction_region(
    box: Tuple[float, float, float, float], height: int, width: int
) -> Tuple[torch.Tensor, Tuple[float, float, float, float]]:
    """Return the pixels of a box given in fractions of the image.

    Returns:
        The pixels inside, (height, width) bool, and the corners x0 y0 x1 y1 in pixels.
    """
    x0, y0, x1, y1 = (
        round(f * n) for f, n in zip(box, (width, height, width, height), strict=True)
    )
    region = torch.zeros(height, width, dtype=torch.bool)
    region[y0:y1, x0:x1] = True
    return region, (x0, y0, x1, y1)


def own_cases(model_name: str, file: Path) -> CaseSet:
    """Read the images of a csv file.

    Columns are ``image`` (a file beside the csv), ``label``, and, for the box of the answer,
    ``x0``, ``y0``, ``x1``, ``y1`` in pixels of the upright image, the ends exclusive. Rows of the
    same image and label are one case, whose answer lies in any of their boxes; where these differ,
    the measure of boxes is left out of all cases. All images are held in memory, as the model reads
    them.

    Args:
        model_name: The model to explain.
        file: The csv file, in UTF-8.

    Raises:
        DataError: If the file is missing, or a column or value is missing or invalid.
    """
    rows = _rows_of(file)
    boxed = all(set(_CORNERS) <= set(row) for row in rows.values())
    model = load_to_explain(model_name)
    transform = transform_of(model)
    height, width = data_config(model)["input_size"][-2:]
    labels, classes = model.class_labels(), model.num_classes
    names = list(dict.fromkeys(row["image"] for row in rows.values()))
    found: Dict[Tuple[str, int], Case] = {}
    for line, row in rows.items():
        try:
            photo = load_photo(file.parent / row["image"])
            target = target_of(row["label"], labels, classes)
            region, box = _box_region(row, photo, height, width) if boxed else (None, None)
        except (ValueError, TypeError) as error:
            raise DataError(f"{file}, line {line}: {error}") from error
        known = found.get((row["image"], target))
        if known is not None:
            if region is not None and known.region is not None:
                region = region | known.region
            box = box if box == known.box else None
            found[row["image"], target] = known._replace(region=region, box=box)
            continue
        # One class may be written in several ways.
        group = labels[target] if labels else str(target)
        number = names.index(row["image"])
        found[row["image"], target] = Case(transform(photo), target, region, box, group, number)
    return case_set(file.stem, model, list(found.values()))


def _rows_of(file: Path) -> Dict[int, Dict[str, str]]:
    """Return the rows of a csv file with images and labels, by line; raise DataError."""
    if not file.is_file():
        raise DataError(f"--csv {file}: there is no such file.")
    try:
        # utf-8-sig: spreadsheets may write a byte-order mark.
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = [[cell.strip() for cell in line] for line in csv.reader(opened)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: {error}; save it as csv in UTF-8.") from error
    header = lines[0] if lines else []
    given = set(header)
    if not {"image", "label"} <= given or 0 < len(given & set(_CORNERS)) < 4:
        raise DataError(
            f"{file}: needs the columns image and label, and all of x0 y0 x1 y1 or none, separated "
            f"by commas; it has {', '.join(header) or 'none'}."
        )
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        if line and len(line) != len(header):
            raise DataError(
                f"{file}, line {number}: has {len(line)} values for {len(header)} columns."
            )
        if line:
            rows[number] = dict(zip(header, line, strict=True))
    if not rows:
        raise DataError(f"{file} has no rows.")
    return rows


def _box_region(
    row: Dict[str, Any], photo: Image.Image, height: int, width: int
) -> Tuple[torch.Tensor, Tuple[float, float, float, float]]:
    """Return the box of a row, as in :func:`fraction_region`, in an input of that size."""
    sizes = (photo.width, photo.height) * 2
    x0, y0, x1, y1 = (_number(row, c) / n for c, n in zip(_CORNERS, sizes, strict=True))
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise InvalidInputError(
            f"the box does not lie in the picture, which is {photo.width} x {photo.height} pixels, "
            "or its corners are not x0 < x1 and y0 < y1."
        )
    region, pixels = fraction_region((x0, y0, x1, y1), height, width)
    if not region.any():
        raise InvalidInputError(
            "the box holds no pixel of the model's input; boxes are in pixels of the picture."
        )
    return region, pixels


def _number(row: Dict[str, Any], column: str) -> float:
    """Return a cell as a number."""
    try:
        return float(row[column])
    except (ValueError, TypeError):
        raise InvalidInputError(
            f"{column} is {row[column]!r}, no number; give every row a box, or leave out the box "
            "columns."
        ) from None


def limited(found: CaseSet, count: int) -> CaseSet:
    """Return a set with the first `count` cases only, for ``--debug``."""
    rows = list(range(min(count, len(found.groups))))
    return replace(
        found, cases=found.cases.some(rows), groups=found.groups[: len(rows)],
        images=found.images[: len(rows)],
    )  # fmt: skip


def with_averages(found: CaseSet) -> CaseSet:
    """Return a set with the control map of each case: the mean of the default maps of others.

    These are the cases of the same group in other images. On aligned faces it shows how much of a
    score the usual place of a label gives, without the image. It is 0 where there is no other.
    """
    cases, numbers = found.cases, torch.tensor(found.images)
    rows = torch.arange(len(numbers))
    maps = torch.cat([
        explain(found.model, cases.images[some], cases.targets[some]).heatmap
        for some in rows.split(32)
    ])  # fmt: skip
    average = torch.zeros_like(maps)
    for group in dict.fromkeys(found.groups):
        members = torch.tensor([n for n in rows.tolist() if found.groups[n] == group])
        for row in members.tolist():
            others = members[numbers[members] != numbers[row]]
            if len(others):
                average[row] = maps[others].mean(0)
    return replace(found, cases=cases._replace(average=average))


def on_device(found: CaseSet, device: torch.device) -> CaseSet:
    """Move the model (in place) and the cases to a device."""
    return replace(found, model=found.model.to(device), cases=found.cases.to(device))
