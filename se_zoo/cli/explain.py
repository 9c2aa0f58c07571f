"""The options of ``se-zoo explain``; :mod:`.plan` checks them, and :mod:`.forms` runs it."""

import itertools
import os
import re
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    List,
    Literal,
    Optional,
    Sequence,
    Tuple,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

from ..errors import InvalidInputError
from .words import is_option

DEFAULT_MODEL = "se_zoo/resnet18_slim_celeba"
OBJECTS_MODEL = "se_zoo/tf_efficientnet_lite0_in1k"
CLIP_MODEL = "se_zoo/framewise_grid"
#: Maps of image and clip models; `explanations/methods.py` would import torch.
MapMethod = Literal[
    "contribution",
    "affinity",
    "rivals",
    "support",
    "class_gate",
    "gate",
    "difference",
    "activation",
]


@dataclass(frozen=True)
class Explain:
    """Predict, explain and draw photos or videos.

    One file gives explanation.png and explanation.json with the numbers, or the files that --out
    names. Several files, a folder or a pattern give a folder: a picture for each file, in the same
    folders below --out, and a table with a row for each file. Files that cannot be read are named
    at the end, with exit status 2; all others are done.

    Existing files are not replaced without --overwrite. Only explanation.png (of a video
    explanation.mp4) and its numbers, written where --out names no file, always are. A killed run
    leaves whole pictures, and whole rows in explanations.csv.part; the same command with
    --overwrite starts again.

    Options go before or after the files.

    Without a file, a portrait that comes with matplotlib is explained by two models: what is in the
    photo, and what the face shows. With --model, --target, --versus, --crop or --face, one model
    explains the face.

    Models trained on CelebA expect a face framed as there: upright, eyes in the middle, hair and
    chin inside. --face finds the face of a photo and frames it so; --crop cuts out what you say.
    """

    sources: Annotated[
        Tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[SOURCES ...]")
    ] = ()
    """Photos; for a clip model videos. Files, folders with all folders below them, or quoted
    patterns such as "photos/**/*.jpg"."""
    model: Optional[str] = None
    """se_zoo/<name>, an architecture *_sehead, hf-hub:<repo> or local-dir:<folder>; by default
    se_zoo/resnet18_slim_celeba, which reads faces."""
    target: Annotated[Tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Label or class index; by default what the model predicts. For several give it again:
    --target Smiling --target Male. After the files, --target Smiling Male works too."""
    method: Optional[MapMethod] = None
    """Which map, by default the model's own; see docs/explain.md."""
    versus: Optional[str] = None
    """The other class of --method difference; by default the runner-up, if classes compete."""
    crop: Optional[Tuple[int, int, int, int]] = None
    """x0 y0 x1 y1 in pixels, applied to every photo or frame before the model's own resizing; what
    reaches outside is filled with the edge."""
    face: bool = False
    """Find the largest face of each photo, or of its crop, and explain it framed as in CelebA. A
    photo without a face is an error. Needs the extra face."""
    face_model: Optional[str] = None
    """Find faces with YuNet, in this ONNX file: it finds more than OpenCV's cascades. Turns --face
    on."""
    start: Optional[float] = None
    """Second of the video at which the explained clip starts; by default it is the middle one."""
    out: Optional[str] = None
    """A picture for one file: .png, for a video also .mp4 (a .png is a strip of frames). Or a
    folder, which is made: explanations/ by default."""
    table: Optional[str] = None
    """Name of the table in the folder: .csv, .jsonl or .parquet (which needs the extra predict); by
    default explanations.csv."""
    contact_sheet: bool = False
    """Draw all photos, at most 20, into one picture instead."""
    overwrite: bool = False
    """Replace existing files."""
    device: Optional[str] = None
    """Where the model runs, such as cpu, cuda:1 or mps; by default cuda where there is one."""
    batch_size: int = 8
    """Photos that the model takes at once."""
    workers: int = min(4, os.cpu_count() or 1)
    """Threads that read files and draw pictures."""
    top: Optional[int] = None
    """List so many of the most probable labels of each file; by default those that are predicted,
    and in the text five where classes compete. Which labels are explained does not change."""
    alpha: Optional[float] = None
    """Opacity of the strongest spots of the map, from 0 to 1; by default 0.75."""
    cmap: Optional[str] = None
    """Name of a matplotlib colour map; for signed maps one with zero in the middle."""
    json: bool = False
    """Print JSON instead of text: one line for each file, with the columns of the table."""
    quiet: bool = False
    """Print neither progress nor results; the lines of --json are printed all the same, and files
    that cannot be read are still named."""

    @property
    def model_name(self) -> str:
        """Name of the model to load."""
        return self.model or DEFAULT_MODEL

    @property
    def finds_face(self) -> bool:
        """Whether the faces of photos are looked for."""
        return self.face or self.face_model is not None


def sources_first(words: Sequence[str]) -> List[str]:
    """Move sources in front of the options, so that no option takes them for its values.

    An option has as many values as it takes. ``--target`` has one; where a source came before,
    all words up to the next option are targets. All words after ``--`` are sources, and stand last.

    Args:
        words: Words of the command line after ``explain``.

    Raises:
        InvalidInputError: If ``--crop`` is not followed by four whole numbers.
    """
    counts = {name: _value_count(kind) for name, kind in get_type_hints(Explain).items()}
    sources: List[str] = []
    options: List[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*options, "--", *sources, *rest]
        if not is_option(word):
            sources.append(word)
            continue
        name, equals, _ = word.partition("=")
        if name == "--crop":
            _check_crop_words([word] if equals else rest[:4])
        count = 0 if equals else counts.get(name[2:].replace("-", "_"), 0)
        if name == "--target" and not equals and rest:
            values = [rest.pop(0)]
            while sources and rest and not is_option(rest[0]):
                values.append(rest.pop(0))
            options += [f"--target={value}" for value in values]
        else:
            options += [word, *rest[:count]]
            del rest[:count]
    return [*sources, *options]


def _check_crop_words(words: Sequence[str]) -> None:
    """Refuse what is no box; the parser would answer with names of its own types."""
    given = list(itertools.takewhile(lambda word: not is_option(word), words))
    if len(given) < 4 or not all(re.fullmatch(r"[-+]?[0-9]+", word) for word in given):
        raise InvalidInputError(
            "--crop takes four whole numbers, x0 y0 x1 y1 in pixels, such as --crop 0 0 200 200, "
            f"not {' '.join(given or words[:1]) or 'nothing'}"
        )


def _value_count(kind: Any) -> int:
    """Return how many words follow an option of a type."""
    for one in (kind, *get_args(kind)):  # the second: within Optional
        if get_origin(one) is tuple and Ellipsis not in get_args(one):
            return len(get_args(one))
    return 0 if kind is bool else 1
