"""Make the pictures of objects that `benchmarks/maps.py` explains from photos and their classes.

All photos are such that the model classifies them correctly at their size in the picture.
"""

from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from timm.data.config import resolve_data_config

from benchmarks.map_cases import (
    Case,
    CaseSet,
    case_set,
    load_to_explain,
    logits_of,
    read_images,
)
from se_zoo.errors import DataError
from se_zoo.explanations.quality import mosaic
from se_zoo.transform import evaluation_transform

#: Side of a pasted photo, as a share of the picture's side.
SHARE = 0.4
#: Standard deviation of the blur of the photo behind it, as a share of its shorter side.
BLUR = 0.1


class Photos(NamedTuple):
    """Photos that a model classifies correctly, one of each class, the most confident first.

    Attributes:
        model: The model, in eval mode, its backbone frozen.
        pictures: The photos.
        cells: The photos at the size of a cell, normalised, (N, C, cell, cell).
        classes: The class of each photo, (N,).
    """

    model: Any
    pictures: List[Image.Image]
    cells: torch.Tensor
    classes: torch.Tensor


def _transform(model: Any, side: int) -> Callable[[Image.Image], torch.Tensor]:
    """Return the model's preprocessing to a square of that side."""
    config = {**resolve_data_config(model=model), "input_size": (3, side, side), "crop_pct": 1.0}
    return evaluation_transform(config)  # type: ignore[no-any-return]


def right_photos(model_name: str, file: Path, cell: int, pool: int) -> Photos:
    """Load a model, and the photos that it classifies correctly.

    Args:
        model_name: Name of the model to explain.
        file: Parquet file with the columns ``image`` and ``label``.
        cell: Side of a photo in pixels, at which the model has to be right.
        pool: Number of photos to choose from.

    Returns:
        The most confident photo of each class.
    """
    model = load_to_explain(model_name)
    pictures, table = read_images(file, slice(pool))
    transform = _transform(model, cell)
    cells = torch.stack([transform(picture) for picture in pictures])
    classes = torch.tensor(table["label"].to_pylist())
    confidence, said = logits_of(model, cells).softmax(1).max(1)
    order = confidence.argsort(descending=True, stable=True).tolist()
    order = [n for n in order if said[n] == classes[n]]
    best = {int(classes[n]): n for n in reversed(order)}  # the first of each class
    order = [n for n in order if best[int(classes[n])] == n]
    return Photos(model, [pictures[n] for n in order], cells[order], classes[order])


def mosaic_cases(name: str, photos: Photos, mosaics: int) -> CaseSet:
    """Make mosaics of nine photos, each explained for three of its classes.

    Three, because photos of other mosaics say more about a method than more photos of one.

    Args:
        name: Name of the set.
        photos: The photos to choose from; the most confident ones come first.
        mosaics: Largest number of mosaics.

    Raises:
        DataError: If there are fewer than nine photos.
    """
    order = list(range(len(photos.classes)))
    nines = [order[n : n + 9] for n in range(0, len(order) - 8, 9)]
    return _mosaic_set(name, photos, nines[:mosaics], 3, (0, 4, 8))


def like_class_cases(name: str, photos: Photos, mosaics: int) -> CaseSet:
    """Make mosaics of four photos of like classes, each explained for all four classes.

    Args:
        name: Name of the set.
        photos: The photos to choose from.
        mosaics: Largest number of mosaics; those of the most similar classes come first.

    Raises:
        DataError: If there are fewer than four photos.
    """
    weight = photos.model.get_classifier().weight.detach().cpu()
    return _mosaic_set(name, photos, alike(weight[photos.classes], 4)[:mosaics], 2, range(4))


def alike(weights: torch.Tensor, size: int) -> List[List[int]]:
    """Divide classes into groups of like ones by the cosine of the classifier's weights.

    A group is a class and those nearest to it. The first group is the one whose members are nearest
    to its class, and so on among the classes that are left.

    Args:
        weights: The classifier's weights of each class, (N, C).
        size: Number of classes in a group.

    Returns:
        Rows of the classes of each group.
    """
    rows = F.normalize(weights, dim=1)
    cosines = (rows @ rows.T).fill_diagonal_(2)  # a class is nearest to itself
    groups: List[List[int]] = []
    left = torch.arange(len(rows))
    while len(left) >= size:
        nearest = cosines[left][:, left].topk(size)
        chosen = nearest.indices[nearest.values.sum(1).argmax()]
        groups.append(left[chosen].tolist())
        left = left[~torch.isin(torch.arange(len(left)), chosen)]
    return groups


def _mosaic_set(
    name: str,
    photos: Photos,
    groups: Sequence[Sequence[int]],
    columns: int,
    explained: Sequence[int],
) -> CaseSet:
    """Make a mosaic of each group of photos, and cases of the explained cells of the first.

    In each further mosaic the explained cells are moved by two, so that evenly spaced cases are of
    all cells.
    """
    cells = columns**2
    if not groups:
        raise DataError(
            f"{name}: the model classifies fewer than {cells} photos of different classes "
            "correctly."
        )
    picks = [n for group in groups for n in group]
    whole, regions = mosaic(photos.cells[picks], columns)
    found = []
    for number in range(len(groups)):
        for cell in explained:
            n = number * cells + (2 * number + cell) % cells
            target = int(photos.classes[picks[n]])
            found.append(Case(whole[number], target, regions[n], None, "", number))
    return case_set(name, photos.model, found)


def single_cases(name: str, photos: Photos, count: int) -> CaseSet:
    """Paste each photo somewhere on a blurred other photo; the region is its rectangle.

    Args:
        name: Name of the set.
        photos: The photos to choose from; the most confident ones come first.
        count: Largest number of cases.

    Raises:
        DataError: If there are fewer than two photos.
    """
    total, cell = len(photos.classes), photos.cells.shape[-1]
    if total < 2:
        raise DataError(f"{name}: the model classifies fewer than two photos correctly.")
    side = round(cell / SHARE)
    transform = _transform(photos.model, side)
    found = []
    for n in range(min(count, total)):
        random = np.random.default_rng(n)
        other = (n + int(random.integers(1, total))) % total
        top, left = random.integers(0, side - cell, 2, endpoint=True).tolist()
        behind = photos.pictures[other]
        radius = BLUR * min(behind.size)
        image = transform(behind.filter(ImageFilter.GaussianBlur(radius)))
        image[:, top : top + cell, left : left + cell] = photos.cells[n]
        region = torch.zeros(side, side, dtype=torch.bool)
        region[top : top + cell, left : left + cell] = True
        found.append(Case(image, int(photos.classes[n]), region, None, "", n))
    return case_set(name, photos.model, found)
