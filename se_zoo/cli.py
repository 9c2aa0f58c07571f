"""The command line: ``se-zoo explain`` and ``se-zoo list``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional, Sequence, Tuple, Union

import torch
import tyro
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InvalidInputError, SEZooError, UnknownModelError, WeightsNotFoundError
from .explain.targets import label_index

DEFAULT_MODEL = "se_zoo/resnet18_slim_celeba"
#: Without a photo, matplotlib's portrait of Grace Hopper is explained (public domain, US Navy).
DEMO_PHOTO = "grace_hopper.jpg"
#: The demo's face, framed as in CelebA as far as the photo reaches (x0, y0, x1, y1 in pixels).
DEMO_CROP = (100, 0, 429, 403)
DEMO_TARGETS = ("Smiling", "Wearing_Hat", "Eyeglasses")
#: Pictures are drawn at least this wide, whatever the model's input size is.
DRAWN_WIDTH = 260

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
    """Labels or class indices; by default what the model predicts."""
    method: Literal["contribution", "gate", "difference", "activation"] = "contribution"
    """Which map; see the README."""
    versus: Optional[str] = None
    """The other class of --method difference; by default the runner-up, if classes compete."""
    crop: Optional[Box] = None
    """x0 y0 x1 y1 in pixels, applied to every photo before the model's own resizing."""
    out: Path = Path("explanation.png")
    """Where the picture goes; a .json with the numbers is written beside it."""


@dataclass(frozen=True)
class ListModels:
    """List the models that timm.create_model takes after `import se_zoo`."""

    pretrained: bool = False
    """The zoo's own trained models, and where their weights are."""


def load_photo(path: Path, crop: Optional[Box] = None) -> Image.Image:
    """An upright RGB image, cut to the box.

    Grey, palette, transparent and CMYK images are converted; a transparent one lies on white.

    Raises:
        InvalidInputError: If the file is missing, is not an image, is empty, holds NaN, or the
            box lies outside of it.
    """
    if not path.is_file():
        raise InvalidInputError(f"no such file: {path}")
    try:
        with Image.open(path) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError:
        raise InvalidInputError(f"not an image: {path}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from None
    image = _to_rgb(image, path)
    if crop is None:
        return image
    x0, y0, x1, y1 = crop
    if not (0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height):
        raise InvalidInputError(
            f"--crop {x0} {y0} {x1} {y1} is no box inside {path} ({image.width} x {image.height}); "
            "give x0 y0 x1 y1 with x0 < x1 and y0 < y1."
        )
    return image.crop(crop)


def _to_rgb(image: Image.Image, path: Path) -> Image.Image:
    if 0 in image.size:
        raise InvalidInputError(f"{path} is empty ({image.width} x {image.height} pixels)")
    if image.mode == "F" or image.mode.startswith("I"):
        # PIL clips these to 0..255 without a word, which is rarely what their range means.
        raise InvalidInputError(
            f"{path} has {image.mode} pixels (float or 16/32 bit), whose range is unknown; convert "
            "it to 8 bit first."
        )
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


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
        explanation.save(args.out, drawn)
    except OSError as error:
        raise InvalidInputError(f"--out {args.out} cannot be written: {error}") from error
    for i, (name, _) in enumerate(photos):
        print(_table(name, explanation[i]))
    print(f"\n{args.out}: {args.method} map, {_what_it_shows(explanation)}")


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
        star = "  *" if i in explanation.target else ""
        lines.append(f"  {names[i][:30]:<32}{probabilities[i]:>10.1%}{star}")
    return "\n".join(lines)


def _what_it_shows(explanation: Any) -> str:
    rows, columns = explanation.native_grid
    parts = [f"{rows} x {columns} cells", "* = explained"]
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


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Entry point of ``se-zoo``; errors take one line and exit status 1."""
    command = tyro.cli(
        Union[  # type: ignore[arg-type]
            Annotated[Explain, tyro.conf.subcommand("explain")],
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
        else:
            list_models(command)
    except SEZooError as error:
        sys.exit(f"se-zoo: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
