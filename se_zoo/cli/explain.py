"""``se-zoo explain``: predict, explain and draw photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import tyro
from PIL import Image

from ..errors import InvalidInputError
from ..explain.targets import label_index
from ..models.load import load_model
from ..models.photos import DEMO_PHOTO, Box, demo_photo, explain_photos, load_photo

DEFAULT_MODEL = "se_zoo/resnet18_slim_celeba"
#: Without a photo, the portrait that comes with matplotlib is explained.
#: The demo's face, framed as in CelebA as far as the photo reaches (x0, y0, x1, y1 in pixels).
DEMO_CROP = (100, 0, 429, 403)
DEMO_TARGETS = ("Smiling", "Wearing_Hat", "Eyeglasses")


@dataclass(frozen=True)
class Explain:
    """Predict, explain and draw photos. Without a photo: a portrait that comes with matplotlib.

    Models trained on CelebA expect a face framed as there: upright, eyes in the middle, hair and
    chin inside. Cut other photos with --crop.
    """

    photos: tyro.conf.Positional[Tuple[Path, ...]] = ()
    """Image files."""
    model: str = DEFAULT_MODEL
    """se_zoo/<name>, an architecture *_sehead, hf-hub:<repo> or local-dir:<folder>."""
    target: Tuple[str, ...] = ()
    """Labels or class indices; by default what the model predicts. Photos go before it."""
    method: Literal["contribution", "gate", "difference", "activation"] = "contribution"
    """Which map; see the README."""
    versus: Optional[str] = None
    """The other class of --method difference; by default the runner-up, if classes compete."""
    crop: Optional[Box] = None
    """x0 y0 x1 y1 in pixels, applied to every photo before the model's own resizing; what reaches
    outside the photo is filled with its edge."""
    out: Path = Path("explanation.png")
    """Where the picture goes; a .json with the numbers is written beside it."""


def _photos_and_targets(args: Explain) -> Tuple[List[Tuple[str, Image.Image]], Tuple[str, ...]]:
    """Named photos and the targets, with the demo's where no photo is given."""
    if args.photos:
        return [(str(p), load_photo(p, args.crop)) for p in args.photos], args.target
    photo = load_photo(demo_photo(), args.crop or DEMO_CROP)
    demo_model = args.model == DEFAULT_MODEL
    return [(DEMO_PHOTO, photo)], args.target or (DEMO_TARGETS if demo_model else ())


def _as_target(text: str, labels: Optional[Sequence[str]], classes: int) -> int:
    """A label name wins over a number, so that a class called "7" can be named."""
    value: Union[int, str] = text
    if text.lstrip("-").isdigit() and text not in (labels or ()):
        value = int(text)
    return label_index(value, labels, classes)


def run_explain(args: Explain) -> None:
    """Run ``se-zoo explain``."""
    if args.out.suffix.lower() != ".png" or not args.out.parent.is_dir():
        raise InvalidInputError(f"--out {args.out} must be a .png file in an existing folder")
    photos, wanted = _photos_and_targets(args)
    model = load_model(args.model)
    labels, classes = model.class_labels(), model.num_classes
    targets = [_as_target(t, labels, classes) for t in wanted] or None
    versus = None if args.versus is None else _as_target(args.versus, labels, classes)
    opened = [photo for _, photo in photos]
    explanation, drawn = explain_photos(model, opened, targets, args.method, versus)
    try:
        explanation.save(args.out, drawn, _facts(args, photos))
    except OSError as error:
        raise InvalidInputError(f"--out {args.out} cannot be written: {error}") from error
    for i, (name, _) in enumerate(photos):
        print(_table(name, explanation[i]))
    print(f"\n{args.out}: {args.method} map, {_what_it_shows(explanation)}")


def _facts(args: Explain, photos: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    """What the JSON needs for the picture to be made again."""
    from .. import __version__

    crop = args.crop or (None if args.photos else DEMO_CROP)
    return {
        "se_zoo": __version__,
        "model": args.model,
        "photos": [name for name, _ in photos],
        "crop": None if crop is None else list(crop),
    }


def _table(name: str, explanation: Any) -> str:
    """The predictions of one photo; explained targets carry a star."""
    probabilities = explanation.probabilities[0]
    names = explanation.label_names or [str(i) for i in range(len(probabilities))]
    order = probabilities.argsort(descending=True).tolist()
    if explanation.multi_label:
        shown = [i for i in order if probabilities[i] > 0.5 or i in explanation.target]
    else:
        shown = [i for n, i in enumerate(order) if n < 5 or i in explanation.target]
    lines = [f"{name}", f"  {'label':<32}probability"]
    for i in shown:
        star = "  *" if i in explanation.target and explanation.signed else ""
        lines.append(f"  {names[i][:30]:<32}{probabilities[i]:>10.1%}{star}")
    return "\n".join(lines)


def _what_it_shows(explanation: Any) -> str:
    rows, columns = explanation.native_grid
    parts = [f"{rows} x {columns} cells"]
    if explanation.signed:
        parts.append("* = explained")
    if explanation.versus:
        parts.append(f"against {', '.join(sorted(set(explanation.versus_labels)))}")
    if explanation.method in ("gate", "activation"):
        parts.append("the same for every label")
    elif explanation.exact:
        what = "difference of the two logits" if explanation.versus else "logit"
        parts.append(f"exact: its mean plus a constant is the {what}")
    else:
        parts.append(f"not exact ({explanation.weights})")
    return "; ".join(parts)
