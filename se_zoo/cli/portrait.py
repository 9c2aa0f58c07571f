"""Explain the portrait that comes with matplotlib: ``se-zoo explain`` without a file."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .. import __version__
from ..explanations.draw.save import save_together
from ..explanations.methods import CLASSLESS_METHODS, default_method
from ..explanations.target_classes import target_of
from ..inference.images import DEMO_PHOTO, Box, demo_photo
from ..zoo_names import PREFIX
from .device import load_on
from .empty_maps import empty_notes
from .explain import DEFAULT_MODEL, OBJECTS_MODEL
from .explained import Question, cut_out, explain_cutouts, region_of
from .printed import row_of, text_of, what_it_shows

#: Face of matplotlib's portrait, framed as in CelebA as far as the photo reaches (x0, y0, x1, y1).
DEMO_CROP = (100, 0, 429, 403)
DEMO_TARGETS = ("Eyeglasses", "Wearing_Hat", "Smiling")
#: The photo at its full width, with the margin that the ImageNet model's preprocessing cuts off.
DEMO_WHOLE = (-37, 7, 549, 593)


class DemoPart(NamedTuple):
    """One row of the demo's picture: a question, and the model, box and labels that answer it."""

    question: str
    reads: str  # what the model reads, and its data set: the heading in the picture
    model: str
    crop: Box
    targets: Tuple[str, ...]


DEMO = (
    DemoPart(
        "what is in the photo", "objects (ImageNet)", OBJECTS_MODEL, DEMO_WHOLE,
        ("military uniform", "suit"),
    ),
    DemoPart("what the face shows", "face (CelebA)", DEFAULT_MODEL, DEMO_CROP, DEMO_TARGETS),
)  # fmt: skip


class DemoResult(NamedTuple):
    """What the demo prints: a text, and a row for each model."""

    text: str
    rows: List[Dict[str, Any]]


def cropped_to(box: Box) -> str:
    """Say which box of the portrait is explained: the whole photo gets other figures."""
    return f"cropped to {' '.join(map(str, box))}"


def explain_demo(
    out: Path,
    method: Optional[str],
    alpha: float,
    cmap: Optional[str],
    top: Optional[int] = None,
    device: Optional[str] = None,
) -> DemoResult:
    """Explain the portrait with both models, in one picture.

    Args:
        out: The picture, ``.png``; a JSON is written beside it.
        method: Which map; None: each model's own.
        alpha: Opacity of the strongest spots.
        cmap: Name of a matplotlib colour map.
        top: How many labels to list; see ``se-zoo explain``.
        device: Where the models run; see :func:`~se_zoo.cli.device.load_on`.
    """
    parts, headings, printed, rows = [], [], [DEMO_PHOTO], []
    for question, reads, name, crop, labels in DEMO:
        model = load_on(name, device)
        classes = [target_of(label, model.class_labels(), model.num_classes) for label in labels]
        drawn = method or default_method(model)
        asked = None if drawn in CLASSLESS_METHODS else classes
        one = Question(asked, drawn, None, crop, None)
        explanation = explain_cutouts(model, [cut_out(demo_photo(), one)], one)
        facts = {
            "se_zoo": __version__, "model": name, "photos": [DEMO_PHOTO], "crop": list(crop)
        }  # fmt: skip
        parts.append((explanation, None, facts))
        headings.append(f"{reads}: {name.removeprefix(PREFIX)}")
        heading = f"{question} ({name}), {cropped_to(crop)}"
        printed.append(text_of(heading, explanation[0], classes, top))
        printed.append(f"  {drawn} map, {what_it_shows(explanation)}{empty_notes(explanation)}\n")
        row = row_of(explanation[0], DEMO_PHOTO, str(out), region_of(explanation), top)
        rows.append({"model": name, **row})
    save_together(out, parts, alpha=alpha, cmap=cmap, headings=headings)
    return DemoResult("\n".join([*printed, str(out)]), rows)
