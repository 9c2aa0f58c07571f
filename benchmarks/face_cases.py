"""Load the faces that `benchmarks/maps.py` explains.

CelebA test images with boxes, CelebA images with part masks, and frontal faces with part masks.
"""

import io
import json
from typing import Dict, Sequence, Tuple

import numpy as np
import torch
from PIL import Image

from benchmarks.map_cases import (
    Case,
    CaseSet,
    case_set,
    fraction_region,
    load_to_explain,
    logits_of,
    mask_transform_of,
    read_images,
    sample,
    transform_of,
)
from se_zoo.data.photos import cut_box
from se_zoo.errors import DataError

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
#: The part of a FASSEG mask that belongs to each attribute.
FACE_PARTS = {
    "Eyeglasses": "eyes", "Narrow_Eyes": "eyes", "Bags_Under_Eyes": "eyes", "Big_Nose": "nose",
    "Pointy_Nose": "nose", "Smiling": "mouth", "Mouth_Slightly_Open": "mouth",
    "Wearing_Lipstick": "mouth", "Big_Lips": "mouth", "Bangs": "hair", "Black_Hair": "hair",
    "Blond_Hair": "hair", "Gray_Hair": "hair", "Brown_Hair": "hair",
}  # fmt: skip

_BROWS, _EYES, _HAIR = ("l_brow", "r_brow"), ("l_eye", "r_eye"), ("hair",)
_LIPS = ("u_lip", "l_lip")
_MOUTH = ("mouth", *_LIPS)  # CelebAMask-HQ's "mouth" is the area between the lips
#: The parts of CelebAMask-HQ's masks that together belong to each attribute. Attributes of the skin
#: (beards, bags under the eyes, cheeks, receding hairlines) are left out: the masks do not show
#: where in the face they are.
CELEBA_PARTS: Dict[str, Tuple[str, ...]] = {
    "Eyeglasses": ("eye_glasses",), "Wearing_Hat": ("hat",), "Wearing_Earrings": ("ear_ring",),
    "Wearing_Necklace": ("necklace",), "Narrow_Eyes": _EYES, "Bushy_Eyebrows": _BROWS,
    "Arched_Eyebrows": _BROWS, "Big_Nose": ("nose",), "Pointy_Nose": ("nose",), "Smiling": _MOUTH,
    "Mouth_Slightly_Open": _MOUTH, "Wearing_Lipstick": _LIPS, "Big_Lips": _LIPS, "Bangs": _HAIR,
    "Black_Hair": _HAIR, "Blond_Hair": _HAIR, "Brown_Hair": _HAIR, "Gray_Hair": _HAIR,
    "Straight_Hair": _HAIR, "Wavy_Hair": _HAIR,
}  # fmt: skip
#: Value of these masks outside the crop that was annotated.
UNKNOWN = 255


def celeba_cases(model_name: str, images: int, most: int, split: str = "test") -> CaseSet:
    """Return CelebA images with an attribute of known place that the model finds too.

    Args:
        model_name: A model that was trained on CelebA.
        images: Number of images that are read, from the first on.
        most: Largest number of cases of each attribute.
        split: ``"test"``, or ``"valid"`` to choose settings on.
    """
    model = load_to_explain(model_name)
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
            found.append(Case(batch[n], target, region, pixels, name, n))
    return case_set("celeba", model, found)


def celeba_part_cases(model_name: str, splits: Sequence[str]) -> CaseSet:
    """Return CelebA images with part masks and attributes that are labelled and predicted.

    An attribute whose part is missing in the mask, such as earrings under hair, is left out.

    Args:
        model_name: A model that was trained on CelebA.
        splits: The official splits whose images are used.

    Raises:
        DataError: If these splits have no images.
    """
    model = load_to_explain(model_name)
    transform, geometry = transform_of(model), mask_transform_of(model)
    pictures, table = read_images(sample("celeba_parts", "parts.parquet"))
    names = json.loads(sample("celeba_parts", "classes.json").read_text("utf-8"))
    rows = [n for n, split in enumerate(table["split"].to_pylist()) if split in splits]
    if not rows:
        raise DataError(f"celeba_parts has no images of the splits {' '.join(splits) or '(none)'}.")
    batch = torch.stack([transform(pictures[n]) for n in rows])
    stored = [table["mask"][n].as_py()["bytes"] for n in rows]
    masks = torch.stack([geometry(Image.open(io.BytesIO(content))) for content in stored])
    said = logits_of(model, batch) > 0
    labels = list(model.class_labels())
    found = []
    for name, parts in CELEBA_PARTS.items():
        target, has = labels.index(name), table[name].to_pylist()
        regions = torch.isin(masks, torch.tensor([names.index(part) for part in parts]))
        for n, row in enumerate(rows):
            if has[row] and said[n, target] and regions[n].any():
                known = masks[n] != UNKNOWN
                found.append(Case(batch[n], target, regions[n], None, name, row, known))
    return case_set("celeba_parts", model, found)


def face_part_cases(model_name: str, images: int) -> CaseSet:
    """Return frontal faces with part masks, cropped as CelebA, for the attributes predicted.

    There are no labels, so whether the model is right is unknown.

    Args:
        model_name: A model that was trained on CelebA.
        images: Largest number of images.
    """
    model = load_to_explain(model_name)
    transform, geometry = transform_of(model), mask_transform_of(model)
    folder = sample("face_parts")
    named = json.loads((folder / "classes.json").read_text("utf-8"))
    classes = {name: number for number, name in named.items()}
    labels = list(model.class_labels())
    found = []
    for n, file in enumerate(sorted((folder / "images").glob("*.jpg"))[:images]):
        mask = np.asarray(Image.open(folder / "masks" / f"{file.stem}.png"))
        box = _celeba_frame(mask, classes)
        image = transform(cut_box(Image.open(file).convert("RGB"), box, file))
        said = model(image[None])[0].detach() > 0
        # Pixels outside the photo become 0, which is skin; no attribute belongs to skin.
        parts = geometry(Image.fromarray(mask).crop(box))
        for name, part in FACE_PARTS.items():
            region = parts == int(classes[part])
            target = labels.index(name)
            if said[target] and region.any():
                found.append(Case(image, target, region, None, name, n))
    return case_set("face_parts", model, found)


def _celeba_frame(mask: np.ndarray, classes: Dict[str, str]) -> Tuple[int, int, int, int]:
    """Return the crop in which eyes and mouth lie where they lie in CelebA.

    The eyes are at 0.505 of the height, the mouth at 0.71, and the aspect is 89 to 109.
    """
    places = [np.argwhere(mask == int(classes[part])).mean(0) for part in ("eyes", "mouth")]
    (eyes, middle), (mouth, _) = places
    height = (mouth - eyes) / (0.71 - 0.505)
    width = height * 89 / 109
    left, top = middle - width / 2, eyes - 0.505 * height
    return round(left), round(top), round(left + width), round(top + height)
