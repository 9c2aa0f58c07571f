"""The images that `recipes/explain_bench.py` explains: faces with boxes and part masks, mosaics of
objects, or a table of your own."""

import csv
import io
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pyarrow.parquet as parquet
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn

import se_zoo  # noqa: F401  registers the models
from se_zoo.errors import DataError, InvalidInputError
from se_zoo.explain.compare import Cases
from se_zoo.explain.quality import mosaic
from se_zoo.explain.targets import target_of
from se_zoo.models.load import load_model
from se_zoo.models.photos import cut_box, load_photo

#: CelebA is aligned, so face parts lie at known places: x0 y0 x1 y1 in fractions of the image.
EYES, NOSE = (0.28, 0.44, 0.72, 0.57), (0.40, 0.53, 0.58, 0.67)
MOUTH, LOWER_FACE = (0.35, 0.65, 0.64, 0.78), (0.25, 0.64, 0.75, 0.87)
HAIR = (0.17, 0.09, 0.83, 0.37)
FACE_BOXES: Dict[str, Tuple[float, float, float, float]] = {
    "Eyeglasses": EYES, "Narrow_Eyes": EYES, "Bags_Under_Eyes": EYES, "Bushy_Eyebrows": EYES,
    "Arched_Eyebrows": EYES, "Big_Nose": NOSE, "Pointy_Nose": NOSE, "Smiling": MOUTH,
    "Mouth_Slightly_Open": MOUTH, "Wearing_Lipstick": MOUTH, "Big_Lips": MOUTH,
    "Mustache": LOWER_FACE, "Goatee": LOWER_FACE, "No_Beard": LOWER_FACE,
    "5_o_Clock_Shadow": LOWER_FACE, "Double_Chin": LOWER_FACE, "Bangs": HAIR, "Bald": HAIR,
    "Wearing_Hat": HAIR, "Receding_Hairline": HAIR, "Black_Hair": HAIR, "Blond_Hair": HAIR,
    "Gray_Hair": HAIR, "Brown_Hair": HAIR,
}  # fmt: skip
#: Which part of a FASSEG mask an attribute is about.
FACE_PARTS = {
    "Eyeglasses": "eyes", "Narrow_Eyes": "eyes", "Bags_Under_Eyes": "eyes", "Big_Nose": "nose",
    "Pointy_Nose": "nose", "Smiling": "mouth", "Mouth_Slightly_Open": "mouth",
    "Wearing_Lipstick": "mouth", "Big_Lips": "mouth", "Bangs": "hair", "Black_Hair": "hair",
    "Blond_Hair": "hair", "Gray_Hair": "hair", "Brown_Hair": "hair",
}  # fmt: skip


@dataclass
class CaseSet:
    """One model and what it is to explain; cases of one group are averaged before the groups are.

    Attributes:
        name: In tables.
        model: With an SE head, in eval mode.
        cases: In the order of their ids, which are 0, 1, ...
        groups: Of each case, such as its attribute.
        images: Number of the image that each case is of: cases of one image hang together.
    """

    name: str
    model: nn.Module
    cases: Cases
    groups: List[str]
    images: List[int]


class _Case(NamedTuple):
    image: torch.Tensor
    target: int
    region: Optional[torch.Tensor]
    box: Optional[Tuple[float, float, float, float]]
    group: str
    number: int


def _set(name: str, model: nn.Module, found: Sequence[_Case]) -> CaseSet:
    if not found:
        raise DataError(f"{name}: no image of which the model says what is true.")
    regions = [case.region for case in found if case.region is not None]
    boxes = [case.box for case in found if case.box is not None]
    cases = Cases(
        torch.stack([case.image for case in found]),
        torch.tensor([case.target for case in found]),
        torch.stack(regions) if len(regions) == len(found) else None,
        torch.tensor(boxes) if len(boxes) == len(found) else None,
        range(len(found)),
    )
    groups, images = [case.group for case in found], [case.number for case in found]
    return CaseSet(name, model, cases, groups, images)


def data_folder() -> Path:
    """The sample data.

    Raises:
        DataError: If SE_ZOO_DATA is not set, or empty.
    """
    given = os.environ.get("SE_ZOO_DATA", "")
    if not given:
        raise DataError("set SE_ZOO_DATA to the folder of the sample data, or use the preset own.")
    return Path(given)


def sample(*names: str) -> Path:
    """A file or folder of the sample data.

    Raises:
        DataError: If it is not there.
    """
    path = data_folder().joinpath(*names)
    if not path.exists():
        raise DataError(f"SE_ZOO_DATA={data_folder()} has no {'/'.join(names)}; is it the folder?")
    return path


def transform_of(model: nn.Module) -> Callable[[Image.Image], torch.Tensor]:
    """The model's preprocessing of whole pictures."""
    config = {**resolve_data_config(model=model), "crop_pct": 1.0, "crop_mode": "squash"}
    return create_transform(**config)  # type: ignore[return-value]


def read_images(file: Path, rows: Optional[slice] = None) -> Tuple[List[Image.Image], Any]:
    """The pictures of a parquet file, and its table."""
    table = parquet.read_table(file)
    table = table if rows is None else table.take(list(range(table.num_rows))[rows])
    cells = table["image"].to_pylist()
    return [Image.open(io.BytesIO(cell["bytes"])).convert("RGB") for cell in cells], table


@torch.no_grad()
def logits_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits, 50 images at a time."""
    return torch.cat([model(part) for part in images.split(50)])


def fraction_region(
    box: Tuple[float, float, float, float], height: int, width: int
) -> Tuple[torch.Tensor, Tuple[float, float, float, float]]:
    """The pixels of a box that is given in fractions of the image, (height, width) bool, and its
    corners in pixels."""
    x0, y0, x1, y1 = (
        round(f * n) for f, n in zip(box, (width, height, width, height), strict=True)
    )
    region = torch.zeros(height, width, dtype=torch.bool)
    region[y0:y1, x0:x1] = True
    return region, (x0, y0, x1, y1)


def celeba_cases(model_name: str, images: int, most: int, split: str = "test") -> CaseSet:
    """Images with an attribute of known place, where the model says so.

    Args:
        model_name: Trained on CelebA.
        images: So many of the split.
        most: Cases of each attribute.
        split: ``"valid"`` for images to choose settings on.
    """
    model = load_model(model_name)
    transform = transform_of(model)
    pictures, table = read_images(sample("celeba46k", f"{split}.parquet"), slice(images))
    batch = torch.stack([transform(p) for p in pictures])
    said = logits_of(model, batch) > 0
    labels = list(model.class_labels())
    found = []
    for name, box in FACE_BOXES.items():
        truth = torch.tensor(table[name].to_pylist(), dtype=torch.bool)
        target = labels.index(name)
        region, pixels = fraction_region(box, *batch.shape[2:])
        for n in (truth & said[:, target]).nonzero()[:most, 0].tolist():
            found.append(_Case(batch[n], target, region, pixels, name, n))
    return _set("celeba", model, found)


def face_part_cases(model_name: str, images: int) -> CaseSet:
    """Frontal faces with part masks, cut as CelebA is; attributes that the model says. Whether it
    is right is not known here."""
    model = load_model(model_name)
    transform = transform_of(model)
    folder = sample("face_parts")
    height, width = resolve_data_config(model=model)["input_size"][-2:]
    named = json.loads((folder / "classes.json").read_text("utf-8"))
    classes = {name: number for number, name in named.items()}
    labels = list(model.class_labels())
    found = []
    for n, file in enumerate(sorted((folder / "images").glob("*.jpg"))[:images]):
        mask = np.asarray(Image.open(folder / "masks" / f"{file.stem}.png"))
        box = _celeba_frame(mask, classes)
        image = transform(cut_box(Image.open(file).convert("RGB"), box, file))
        said = model(image[None])[0].detach() > 0
        cut = Image.fromarray(mask).crop(box).resize((width, height), Image.Resampling.NEAREST)
        # What lies outside the photo is 0, skin, which no attribute is about.
        parts = torch.from_numpy(np.asarray(cut).copy())
        for name, part in FACE_PARTS.items():
            region = parts == int(classes[part])
            target = labels.index(name)
            if said[target] and region.any():
                found.append(_Case(image, target, region, None, name, n))
    return _set("face_parts", model, found)


def _celeba_frame(mask: np.ndarray, classes: Dict[str, str]) -> Tuple[int, int, int, int]:
    """The box in which eyes and mouth lie where CelebA's lie: the eyes at 0.505 of the height, the
    mouth at 0.71, and 89 x 109 pixels wide and high."""
    places = [np.argwhere(mask == int(classes[part])).mean(0) for part in ("eyes", "mouth")]
    (eyes, middle), (mouth, _) = places
    height = (mouth - eyes) / (0.71 - 0.505)
    width = height * 89 / 109
    left, top = middle - width / 2, eyes - 0.505 * height
    return round(left), round(top), round(left + width), round(top + height)


def sample_mobilenet() -> nn.Module:
    """ImageNet's MobileNetV2 of the sample data under an untrained identity gate."""
    from safetensors.torch import load_file

    model: Any = timm.create_model(
        "timm_sehead", backbone="mobilenetv2_100", pad_type="same", gate="identity"
    )
    weights = load_file(sample("weights", "mobilenetv2_100_in1k.safetensors"))
    missing, unknown = model.load_state_dict(
        {k: v.float() for k, v in weights.items()}, strict=False
    )
    if unknown or any(not name.startswith("se.") for name in missing):
        raise DataError(f"the sample's weights do not fit: {(missing + unknown)[:3]}.")
    half = (0.5, 0.5, 0.5)
    model.pretrained_cfg.update(mean=half, std=half)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def mosaic_cases(
    name: str, model: nn.Module, file: Path, mosaics: int, cell: int, pool: int
) -> CaseSet:
    """Mosaics of four images of different classes, each explained for each of the four.

    Args:
        name: Of the set.
        model: Says which images are taken: the surest of those it gets right alone, one of each
            class in a mosaic.
        file: Parquet file with ``image`` and ``label``.
        mosaics: So many.
        cell: Side of an image in pixels.
        pool: Images that are looked at.
    """
    config = {**resolve_data_config(model=model), "input_size": (3, cell, cell), "crop_pct": 1.0}
    transform: Any = create_transform(**config)
    pictures, table = read_images(file, slice(pool))
    batch = torch.stack([transform(p) for p in pictures])
    truth = torch.tensor(table["label"].to_pylist())
    surety = logits_of(model, batch).softmax(1)
    right = surety.argmax(1) == truth
    order = (surety.amax(1) * right).argsort(descending=True, stable=True)
    order = order[: int(right.sum())].tolist()
    picks: List[int] = []
    for four in _fours(order, truth.tolist()):
        picks += four
        if len(picks) == 4 * mosaics:
            break
    picks = picks[: len(picks) - len(picks) % 4]
    if not picks:
        raise DataError(f"{name}: the model gets no four images of different classes right.")
    whole, regions = mosaic(batch[picks])
    found = [
        _Case(whole[n // 4], int(truth[pick]), regions[n], None, "", n // 4)
        for n, pick in enumerate(picks)
    ]
    return _set(name, model, found)


def _fours(order: Sequence[int], classes: Sequence[int]) -> Iterator[List[int]]:
    """Groups of four different classes, the surest images first."""
    waiting = list(order)
    while True:
        four: List[int] = []
        for pick in waiting:
            if len(four) < 4 and classes[pick] not in [classes[n] for n in four]:
                four.append(pick)
        if len(four) < 4:
            return
        waiting = [pick for pick in waiting if pick not in four]
        yield four


def own_cases(model_name: str, file: Path) -> CaseSet:
    """Images of a table: ``image`` (a file beside the table), ``label``, and, where the answer
    lies, ``x0``, ``y0``, ``x1``, ``y1`` in the picture's pixels, the ends exclusive.

    Raises:
        DataError: If a column or value is not as it must be.
    """
    if not file.is_file():
        raise DataError(f"--csv {file}: there is no such file.")
    model = load_model(model_name)
    transform = transform_of(model)
    height, width = resolve_data_config(model=model)["input_size"][-2:]
    labels, classes = model.class_labels(), model.num_classes
    with file.open(newline="", encoding="utf-8-sig") as opened:  # spreadsheets write a mark first
        reader = csv.DictReader(opened)
        given, rows = set(reader.fieldnames or ()), list(reader)
    corners = ("x0", "y0", "x1", "y1")
    if not {"image", "label"} <= given or 0 < len(given & set(corners)) < 4:
        raise DataError(
            f"{file}: needs the columns image and label, and all of x0 y0 x1 y1 or none, separated "
            f"by commas; it has {', '.join(reader.fieldnames or ()) or 'none'}."
        )
    names = list(dict.fromkeys(row["image"] for row in rows))
    found = []
    for line, row in enumerate(rows, 2):
        try:
            photo = load_photo(file.parent / row["image"])
            target = target_of(row["label"], labels, classes)
            region, pixels = None, None
            if set(corners) <= given:
                sizes = (photo.width, photo.height) * 2
                box = [_number(row, c) / n for c, n in zip(corners, sizes, strict=True)]
                if not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                    raise InvalidInputError(
                        f"the box does not lie in the picture, which is {photo.width} x "
                        f"{photo.height} pixels, or its corners are not x0 < x1 and y0 < y1."
                    )
                region, pixels = fraction_region((box[0], box[1], box[2], box[3]), height, width)
                if not region.any():
                    raise InvalidInputError(
                        "the box, which is in the picture's pixels, holds no pixel of the model's "
                        "input."
                    )
        except (ValueError, TypeError) as error:
            raise DataError(f"{file}, line {line}: {error}") from error
        number = names.index(row["image"])
        found.append(_Case(transform(photo), target, region, pixels, row["label"], number))
    if not found:
        raise DataError(f"{file} has no rows.")
    return _set(file.stem, model, found)


def _number(row: Dict[str, Any], column: str) -> float:
    try:
        return float(row[column])
    except (ValueError, TypeError):
        raise InvalidInputError(
            f"{column} is {row[column]!r}, no number; either all rows have a box or the columns "
            "are left out."
        ) from None


def limited(found: CaseSet, count: int) -> CaseSet:
    """The first cases, for ``--debug``."""
    rows = list(range(min(count, len(found.groups))))
    return replace(
        found, cases=found.cases.some(rows), groups=found.groups[: len(rows)],
        images=found.images[: len(rows)],
    )  # fmt: skip


def on_device(found: CaseSet, device: torch.device) -> CaseSet:
    """The model, in place, and the cases on a device."""
    return replace(found, model=found.model.to(device), cases=found.cases.to(device))
