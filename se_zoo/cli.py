"""The command line: ``se-zoo explain``, ``se-zoo check`` and ``se-zoo list``."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import numpy as np
import torch
import tyro
from PIL import Image

from .data.config import DataConfig
from .data.images import read_rgb
from .errors import (
    DataError,
    InvalidInputError,
    SEZooError,
    UnknownModelError,
    WeightsNotFoundError,
)
from .explain.targets import label_index

DEFAULT_MODEL = "se_zoo/resnet18_slim_celeba"
#: Without a photo, matplotlib's portrait of Grace Hopper is explained (public domain, US Navy).
DEMO_PHOTO = "grace_hopper.jpg"
#: The demo's face, framed as in CelebA as far as the photo reaches (x0, y0, x1, y1 in pixels).
DEMO_CROP = (100, 0, 429, 403)
DEMO_TARGETS = ("Smiling", "Wearing_Hat", "Eyeglasses")
#: Pictures are drawn at least this wide, whatever the model's input size is.
DRAWN_WIDTH = 260
#: CelebA on the Hub: the configuration that has the attributes.
CELEBA_HUB, CELEBA_CONFIG = "flwrlabs/celeba", "img_align+identity+attr"

Box = Tuple[int, int, int, int]


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


@dataclass(frozen=True)
class ListModels:
    """List the models that timm.create_model takes after `import se_zoo`."""

    pretrained: bool = False
    """The zoo's own trained models, and where their weights are."""


@dataclass(frozen=True)
class Check:
    """Decode a data set's every image and report what would fail or mislead in training.

    Exit status 1 on errors: corrupt or missing files, splits, columns and classes that are not as
    declared. A folder per class needs no option, tables need --label, --attributes or --celeba.
    """

    data: tyro.conf.Positional[str]
    """Hub id; or a folder: with <split>.parquet, with <split>/<class>/*.jpg, or with the images
    that --csv lists."""
    celeba: bool = False
    """The 40 attributes of CelebA, by the names and types of flwrlabs/celeba."""
    name: Optional[str] = None
    """Configuration (subset) of a Hub data set that has several."""
    csv: Optional[Path] = None
    """Table of the images in the folder: file names in the column --image, the label or the
    attributes (true/false or 1/0), and, for more than one split, a column "split"."""
    splits: Tuple[str, str, str] = ("train", "valid", "test")
    """Names of the splits to train, validate and test on; one may stand twice."""
    image: str = "image"
    """Column of the images; in a csv, of their file names relative to the folder."""
    label: Optional[str] = None
    """Column of the class, for one class an image."""
    attributes: Tuple[str, ...] = ()
    """Boolean columns, for several labels an image."""
    ignore: Tuple[str, ...] = ()
    """Columns that may be there and are not used; any other column is an error."""
    workers: Optional[int] = None
    """Processes that decode; by default one a CPU."""
    fast: bool = False
    """Decode 64 images of every split instead of all."""
    every: bool = False
    """Print every error and warning, not the first 20."""


def load_photo(path: Path, crop: Optional[Box] = None) -> Image.Image:
    """An upright RGB image, cut to the box.

    Grey, palette, transparent and CMYK images are converted; a transparent one lies on white.

    Raises:
        InvalidInputError: If the file is missing, is not an image, is empty, holds NaN, or the
            box does not meet it.
    """
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name the photos in it")
    if not path.is_file():
        raise InvalidInputError(f"no such file: {path}")
    try:
        image = read_rgb(path)
    except ValueError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    if crop is None:
        return image
    x0, y0, x1, y1 = crop
    if not (x0 < x1 and y0 < y1 and max(0, x0) < min(x1, image.width)
            and max(0, y0) < min(y1, image.height)):  # fmt: skip
        raise InvalidInputError(
            f"--crop {x0} {y0} {x1} {y1} shows nothing of {path} ({image.width} x {image.height}); "
            "give x0 y0 x1 y1 with x0 < x1 and y0 < y1."
        )
    return _cut(image, crop)


def _cut(image: Image.Image, box: Box) -> Image.Image:
    """The box of an image; where it reaches outside, the nearest pixels go on."""
    x0, y0, x1, y1 = box
    columns = np.clip(np.arange(x0, x1), 0, image.width - 1)
    rows = np.clip(np.arange(y0, y1), 0, image.height - 1)
    return Image.fromarray(np.asarray(image)[rows[:, None], columns])


def visible_region(
    image: Image.Image, size: Tuple[int, int], crop_pct: float, crop_mode: str
) -> Image.Image:
    """What the model's preprocessing sees of a photo: its centre, of the input's aspect unless the
    model squashes photos.

    Cut before resizing, so that the picture shows the photo's own resolution.

    Raises:
        InvalidInputError: For a crop mode that shows the model more than the photo (a border).
    """
    if crop_mode not in ("center", "squash"):
        raise InvalidInputError(
            f"the model's crop mode {crop_mode!r} is not supported here; transform the photo with "
            "timm and call model.explain"
        )
    height, width = size
    across, down = image.width / width, image.height / height
    if crop_mode == "center":
        across = down = min(across, down)
    cut = (max(1, round(width * across * crop_pct)), max(1, round(height * down * crop_pct)))
    left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
    return image.crop((left, top, left + cut[0], top + cut[1]))


def load_model(name: str) -> Any:
    """The model in eval mode, with weights.

    Raises:
        UnknownModelError: With the closest names.
        WeightsNotFoundError: If the weights cannot be had or do not fit.
    """
    import timm

    from .models.names import registry_name
    from .models.pull import described_model

    # Whatever has no SE head never reaches timm's own loader, which may unpickle.
    architecture = described_model(name)[0] if ":" in name else registry_name(name)
    if "_sehead" not in architecture:
        raise UnknownModelError(
            f"{name} is a {architecture} without an SE head; in Python, se_zoo.squeeze gives it one"
        )
    try:
        model = timm.create_model(name if ":" in name else architecture, pretrained=True)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        if isinstance(error, SEZooError):
            raise
        raise WeightsNotFoundError(f"{name}: {type(error).__name__}: {error}") from error
    return model.eval()


def _photos_and_targets(args: Explain) -> Tuple[List[Tuple[str, Image.Image]], Tuple[str, ...]]:
    """Named photos and the targets, with the demo's where no photo is given."""
    if args.photos:
        return [(str(p), load_photo(p, args.crop)) for p in args.photos], args.target
    from matplotlib.cbook import get_sample_data

    path = Path(str(get_sample_data(DEMO_PHOTO, asfileobj=False)))
    photo = load_photo(path, args.crop or DEMO_CROP)
    demo_model = args.model == DEFAULT_MODEL
    return [(DEMO_PHOTO, photo)], args.target or (DEMO_TARGETS if demo_model else ())


def _as_target(text: str, labels: Optional[Sequence[str]], classes: int) -> int:
    """A label name wins over a number, so that a class called "7" can be named."""
    value: Union[int, str] = text
    if text.lstrip("-").isdigit() and text not in (labels or ()):
        value = int(text)
    return label_index(value, labels, classes)


def explain(args: Explain) -> None:
    """Run ``se-zoo explain``."""
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    if args.out.suffix.lower() != ".png" or not args.out.parent.is_dir():
        raise InvalidInputError(f"--out {args.out} must be a .png file in an existing folder")
    photos, wanted = _photos_and_targets(args)
    model = load_model(args.model)
    labels, classes = model.class_labels(), model.num_classes
    targets = [_as_target(t, labels, classes) for t in wanted] or None
    versus = None if args.versus is None else _as_target(args.versus, labels, classes)
    config: Dict[str, Any] = resolve_data_config(model=model)
    size: Tuple[int, int] = config["input_size"][-2:]
    crop = config["crop_pct"], config.get("crop_mode") or "center"
    seen = [visible_region(photo, size, *crop) for _, photo in photos]
    transform: Any = create_transform(**{**config, "crop_pct": 1.0, "crop_mode": "squash"})
    batch = torch.stack([transform(image) for image in seen])
    explanation = model.explain(batch, targets, args.method, versus=versus)
    zoom = max(1, -(-DRAWN_WIDTH // size[1]))
    drawn = [i.resize((size[1] * zoom, size[0] * zoom), Image.Resampling.LANCZOS) for i in seen]
    try:
        explanation.save(args.out, drawn, _facts(args, photos))
    except OSError as error:
        raise InvalidInputError(f"--out {args.out} cannot be written: {error}") from error
    for i, (name, _) in enumerate(photos):
        print(_table(name, explanation[i]))
    print(f"\n{args.out}: {args.method} map, {_what_it_shows(explanation)}")


def _facts(args: Explain, photos: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    """What the JSON needs for the picture to be made again."""
    from . import __version__

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


def list_models(args: ListModels) -> None:
    """Run ``se-zoo list``."""
    from .models import list_models as names
    from .models.names import ALIASES, PREFIX
    from .models.pull import BUNDLED

    if not args.pretrained:
        print("\n".join(names()))
        return
    width = max(map(len, ALIASES)) + len(PREFIX) + 2
    print(f"{'name':<{width}}{'architecture.tag':<40}weights")
    for name in names(declared=True):
        registry = ALIASES[name[len(PREFIX) :]]
        where = "in this package" if name in BUNDLED else "not published yet"
        print(f"{name:<{width}}{registry:<40}{where}")


def data_config(args: Check) -> DataConfig:
    """The declaration that the options amount to.

    Raises:
        DataError: If --celeba meets an option that says otherwise.
    """
    config = DataConfig(
        args.data, args.name, args.csv, args.splits, args.image, args.label, args.attributes,
        args.ignore,
    )  # fmt: skip
    if not args.celeba:
        return config
    from .models.labels import CELEBA_ATTRIBUTES

    if args.label is not None or args.attributes:
        raise DataError("--celeba names the attributes; leave out --label and --attributes.")
    name = CELEBA_CONFIG if args.data == CELEBA_HUB and args.name is None else args.name
    # The Hub's table has the person as well.
    ignore = (*args.ignore, "celeb_id")
    return replace(config, name=name, attributes=CELEBA_ATTRIBUTES, ignore=ignore)


def check(args: Check) -> None:
    """Run ``se-zoo check``.

    Raises:
        DataError: If the report has errors, after it was printed.
    """
    from .data.check import check as check_data

    report = check_data(data_config(args), args.workers, args.fast)
    print(report.text(None) if args.every else report)
    if not report.ok:
        count = len(report.errors)
        raise DataError(f"{count:,} error{'' if count == 1 else 's'} in {args.data}")


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Entry point of ``se-zoo``; errors take one line and exit status 1."""
    command = tyro.cli(
        Union[  # type: ignore[arg-type]
            Annotated[Explain, tyro.conf.subcommand("explain")],
            Annotated[Check, tyro.conf.subcommand("check")],
            Annotated[ListModels, tyro.conf.subcommand("list")],
        ],
        prog="se-zoo",
        description="Classifiers with a Squeeze-and-Excitation head that explain themselves.",
        args=argv,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        if isinstance(command, Explain):
            explain(command)
        elif isinstance(command, Check):
            check(command)
        else:
            list_models(command)
    except SEZooError as error:
        sys.exit(f"se-zoo: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
