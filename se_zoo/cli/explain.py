"""Predict, explain and draw photos or a video: ``se-zoo explain``."""

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Literal, NamedTuple, Optional, Sequence, Tuple

import tyro
from PIL import Image

from ..data.video.index import is_video, open_video
from ..errors import InvalidInputError
from ..explanations.methods import CLASSLESS_METHODS
from ..explanations.target_classes import target_of
from ..inference.clips import explain_frames, read_clip
from ..inference.images import DEMO_PHOTO, Box, demo_photo, explain_photos, load_photo
from ..models.clip.config import resolve_clip_config
from ..models.pretrained.load import load_model

DEFAULT_MODEL = "se_zoo/resnet18_slim_celeba"
OBJECTS_MODEL = "se_zoo/tf_efficientnet_lite0_in1k"
#: Face of matplotlib's portrait, framed as in CelebA as far as the photo reaches (x0, y0, x1, y1).
DEMO_CROP = (100, 0, 429, 403)
DEMO_TARGETS = ("Eyeglasses", "No_Beard", "Mouth_Slightly_Open")
#: The photo at its full width, with the margin that the ImageNet model's preprocessing cuts off.
DEMO_WHOLE = (-37, 7, 549, 593)


class DemoPart(NamedTuple):
    """One row of the demo's picture: a question, and the model, box and labels that answer it."""

    question: str
    model: str
    crop: Box
    targets: Tuple[str, ...]


DEMO = (
    DemoPart("what is in the photo", OBJECTS_MODEL, DEMO_WHOLE, ("military uniform", "suit")),
    DemoPart("what the face shows", DEFAULT_MODEL, DEMO_CROP, DEMO_TARGETS),
)


@dataclass(frozen=True)
class Explain:
    """Predict, explain and draw photos or a video.

    Without a file, a portrait that comes with matplotlib is explained by two models: what is in the
    photo, and what the face shows. With --model, --target, --versus or --crop, one model explains
    the face.

    Models trained on CelebA expect a face framed as there: upright, eyes in the middle, hair and
    chin inside. Cut other photos with --crop.
    """

    photos: tyro.conf.Positional[Tuple[Path, ...]] = ()
    """Image files; or one video, for a clip model."""
    model: Optional[str] = None
    """se_zoo/<name>, an architecture *_sehead, hf-hub:<repo> or local-dir:<folder>; by default
    se_zoo/resnet18_slim_celeba, which reads faces."""
    target: Tuple[str, ...] = ()
    """Labels or class indices; by default what the model predicts. Photos go before it."""
    method: Literal["contribution", "support", "class_gate", "gate", "difference", "activation"] = (
        "contribution"
    )
    """Which map; see the README."""
    versus: Optional[str] = None
    """The other class of --method difference; by default the runner-up, if classes compete."""
    crop: Optional[Box] = None
    """x0 y0 x1 y1 in pixels, applied to every photo or frame before the model's own resizing; what
    reaches outside is filled with the edge."""
    start: Optional[float] = None
    """Second of the video at which the explained clip starts; by default it is the middle one."""
    out: Optional[Path] = None
    """Where the picture goes, explanation.png by default; of a video, explanation.mp4 (a .png is a
    strip of frames). A .json with the numbers is written beside it."""

    @property
    def model_name(self) -> str:
        """Name of the model to load."""
        return self.model or DEFAULT_MODEL


def _photos_and_targets(args: Explain) -> Tuple[List[Tuple[str, Image.Image]], Tuple[str, ...]]:
    """Return photos by name, and the targets; without a photo, those of the demo."""
    if args.photos:
        return [(str(p), load_photo(p, args.crop)) for p in args.photos], args.target
    photo = load_photo(demo_photo(), args.crop or DEMO_CROP)
    demo_model = args.model_name == DEFAULT_MODEL
    asks = demo_model and args.method not in CLASSLESS_METHODS
    return [(DEMO_PHOTO, photo)], args.target or (DEMO_TARGETS if asks else ())


def run_explain(args: Explain) -> None:
    """Run ``se-zoo explain``.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If options, files and model do not fit together.
    """
    video = any(is_video(path) for path in args.photos)
    out = args.out or Path("explanation.mp4" if video else "explanation.png")
    known = (".mp4", ".png") if video else (".png",)
    if out.suffix.lower() not in known or not out.parent.is_dir():
        raise InvalidInputError(
            f"--out {out} must be a {' or '.join(known)} file in an existing folder"
        )
    if video:
        return _explain_video(args, out)
    if args.start is not None:
        raise InvalidInputError("--start is for videos.")
    if not (args.photos or args.model or args.target or args.versus or args.crop):
        return _explain_demo(args, out)
    photos, wanted = _photos_and_targets(args)
    model = load_model(args.model_name)
    if model.takes_clips:
        raise InvalidInputError(f"{args.model_name} takes clips: name a video.")
    targets, versus = _classes(args, model, wanted)
    opened = [photo for _, photo in photos]
    explanation, drawn = explain_photos(model, opened, targets, args.method, versus)
    with _writing(out):
        explanation.save(out, drawn, _facts(args, [name for name, _ in photos]))
    for i, (name, _) in enumerate(photos):
        print(_table(name, explanation[i], targets))
    print(f"\n{out}: {args.method} map, {_what_it_shows(explanation)}")


def _explain_demo(args: Explain, out: Path) -> None:
    """Explain the portrait with both models, in one picture."""
    from ..explanations.draw.save import save_together

    parts, printed = [], []
    for question, name, crop, labels in DEMO:
        model = load_model(name)
        classes = [target_of(label, model.class_labels(), model.num_classes) for label in labels]
        asked = None if args.method in CLASSLESS_METHODS else classes
        photo = load_photo(demo_photo(), crop)
        explanation, drawn = explain_photos(model, [photo], asked, args.method)
        facts = _facts(replace(args, model=name, crop=crop), [DEMO_PHOTO])
        parts.append((explanation, drawn, facts))
        printed.append(_table(f"{question} ({name})", explanation[0], classes))
        printed.append(f"  {args.method} map, {_what_it_shows(explanation)}\n")
    with _writing(out):
        save_together(out, parts)
    print("\n".join([DEMO_PHOTO, *printed, str(out)]))


def _classes(
    args: Explain, model: Any, wanted: Sequence[str]
) -> Tuple[Optional[List[int]], Optional[int]]:
    """Return the class indices of the targets and of ``--versus``."""
    labels, classes = model.class_labels(), model.num_classes
    targets = [target_of(t, labels, classes) for t in wanted] or None
    return targets, None if args.versus is None else target_of(args.versus, labels, classes)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Name the file in errors of writing it."""
    try:
        yield
    except OSError as error:
        raise InvalidInputError(f"--out {out} cannot be written: {error}") from error


def _explain_video(args: Explain, out: Path) -> None:
    """Explain one clip of a video."""
    if len(args.photos) != 1:
        raise InvalidInputError("Name one video, and no photos beside it.")
    video = open_video(args.photos[0])
    model = load_model(args.model_name)
    if not model.takes_clips:
        raise InvalidInputError(
            f"{args.photos[0]} is a video, and {args.model_name} takes images: name a clip model "
            "with --model."
        )
    config = resolve_clip_config(model)
    frames, indices = read_clip(video, config, args.start, args.crop)
    targets, versus = _classes(args, model, args.target)
    explanation, drawn = explain_frames(model, frames, targets, args.method, versus)
    facts = {**_facts(args, [video.name]), "frames": indices}
    fps = max(1.0, (config.fps or video.fps) / config.frame_stride)
    with _writing(out):
        explanation.save(out, drawn, facts, fps)
    print(_table(video.name, explanation[0], targets))
    first, last = video.seconds[[indices[0], indices[-1]]]
    print(
        f"\n{out}: {args.method} map of second {first:.2f} to {last:.2f}, "
        f"{_what_it_shows(explanation)}"
    )


def _facts(args: Explain, names: List[str]) -> Dict[str, Any]:
    """Return what the JSON needs so that the picture can be made again."""
    from .. import __version__

    crop = args.crop or (None if args.photos else DEMO_CROP)
    return {
        "se_zoo": __version__,
        "model": args.model_name,
        "photos": names,
        "crop": None if crop is None else list(crop),
    }


def _table(name: str, explanation: Any, asked: Optional[Sequence[int]]) -> str:
    """Return the predictions of one photo as text; explained targets carry a star.

    For independent labels, it lists those that were asked for, or else all predicted ones.
    """
    probabilities = explanation.probabilities[0]
    names = explanation.label_names or [str(i) for i in range(len(probabilities))]
    order = probabilities.argsort(descending=True).tolist()
    if explanation.multi_label and asked:
        shown = [i for i in order if i in asked]
    elif explanation.multi_label:
        holds = explanation.predicted[0]
        shown = [i for i in order if holds[i] or i in explanation.target]
    else:
        shown = [i for n, i in enumerate(order) if n < 5 or i in explanation.target]
    lines = [f"{name}", f"  {'label':<32}probability"]
    for i in shown:
        explained = i in explanation.target and explanation.method not in CLASSLESS_METHODS
        star = "  *" if explained else ""
        lines.append(f"  {names[i][:30]:<32}{probabilities[i]:>10.1%}{star}")
    return "\n".join(lines)


def _what_it_shows(explanation: Any) -> str:
    """Describe the map in one line: its cells, and whether it is exact."""
    *steps, rows, columns = explanation.native_grid
    parts = [f"{rows} x {columns} cells"]
    if steps:
        parts.append(f"{steps[0]} time step{'' if steps[0] == 1 else 's'}")
    if explanation.method not in CLASSLESS_METHODS:
        parts.append("* = explained")
    if explanation.versus:
        parts.append(f"against {', '.join(sorted(set(explanation.versus_labels)))}")
    if explanation.method in CLASSLESS_METHODS:
        parts.append("the same for every label")
        if explanation.method == "gate" and float(explanation.gate.std(1).amax()) < 1e-6:
            parts.append("the gate is the same for every channel, so it selects none: train it")
    elif explanation.method == "support":
        parts.append("what speaks against the label counts by half")
    elif explanation.exact:
        what = "difference of the two logits" if explanation.versus else "logit"
        parts.append(f"exact: its mean plus a constant is the {what}")
    else:
        parts.append(f"not exact ({explanation.weights})")
    return "; ".join(parts)
