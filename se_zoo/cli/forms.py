"""The forms of ``se-zoo explain``: one picture, a contact sheet, a folder, and the portrait."""

import glob
import json
import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import matplotlib
from PIL import Image

from .. import __version__
from ..data.faces.find import FaceFinder
from ..data.video.index import is_video
from ..errors import InvalidInputError, SEZooError
from ..explanations.draw.colours import ALPHA
from ..explanations.methods import CLASSLESS_METHODS
from ..explanations.target_classes import target_of
from ..inference.images import DEMO_PHOTO, Box, demo_photo
from ..models.clip.config import resolve_clip_config
from ..text import printable
from .device import load_on
from .explain import DEFAULT_MODEL, Explain
from .explained import Clip, Question, cut_out, explain_cutouts, explain_read, read, region_of
from .many import Job, Settings, explain_many, name_failures, refuse_existing
from .portrait import DEMO_CROP, DEMO_TARGETS, OBJECTS_MODEL, explain_demo
from .printed import row_of, text_of, what_it_shows
from .sources import Source, find_sources, picture_names
from .tables import check_table, part_of

#: Photos of a contact sheet: it is in memory as a whole.
SHEET_LIMIT = 20


#: Said where nobody chose a model: it would find a hat on a dog, too.
_FACES_ONLY = (
    f"{DEFAULT_MODEL} reads faces that are framed as in CelebA: --face finds and frames them. For "
    f"other photos add --model {OBJECTS_MODEL}."
)


def run_explain(args: Explain) -> None:
    """Run ``se-zoo explain``; exits with status 2 if some of the files cannot be read.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If options, files and model do not fit together.
    """
    _check_options(args)
    with warnings.catch_warnings():
        # Pillow warns of photos above 89 megapixels, and refuses those above twice as many.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if args.sources:
            _explain_sources(args)
        else:
            _explain_portrait(args)


def _opacity(args: Explain) -> float:
    """Return the opacity of the strongest spots: as asked for, or the library's."""
    return ALPHA if args.alpha is None else args.alpha


def _check_options(args: Explain) -> None:
    """Check values before anything is read or loaded."""
    for name in ("batch_size", "workers", "top"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidInputError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
    if not 0 <= _opacity(args) <= 1:
        raise InvalidInputError(f"--alpha must be from 0 to 1, not {args.alpha}")
    if args.cmap is not None and args.cmap not in matplotlib.colormaps:
        raise InvalidInputError(
            f"--cmap {args.cmap} is no colour map of matplotlib; try bwr, RdBu_r, turbo or viridis"
        )


def _explain_sources(args: Explain) -> None:
    """Explain what the user named, in one picture or in a folder."""
    folder = _out_folder(args)
    sources, root = find_sources(args.sources, folder)
    if not (args.model or args.finds_face or args.quiet):
        print(_FACES_ONLY, file=sys.stderr)
    video = any(is_video(source.path) for source in sources)
    if args.start is not None and not video:
        raise InvalidInputError("--start is for videos.")
    if folder is not None:
        if any(os.path.abspath(word) == os.path.abspath(folder) for word in args.sources):
            raise InvalidInputError(f"--out {folder} has the photos themselves; name another.")
        table = folder / (args.table or "explanations.csv")
        check_table(table)
        _refuse_sources([table], sources)
        refuse_existing([table, part_of(table)], args.overwrite)
        _explain_into(args, folder, table, sources, root)
        return
    out = _out_picture(args, video)
    limit = SHEET_LIMIT if args.contact_sheet else 1
    if len(sources) > limit:
        fix = f"a folder has room: --out {out.with_suffix('')}/"
        raise InvalidInputError(
            f"a contact sheet takes at most {limit} photos, not {len(sources):,}; {fix}"
            if args.contact_sheet
            else f"{len(sources):,} files do not go into {out}; {fix}. Or add --contact-sheet."
        )
    _refuse_sources([out, out.with_suffix(".json")], sources)
    model = load_on(args.model_name, args.device)
    files = _of_kind(sources, model, args.model_name)
    question = _question(args, model, args.target, args.crop)
    if args.contact_sheet:
        _explain_sheet(args, model, files, question, out)
    else:
        _explain_one(args, model, files[0], str(files[0]), question, out)


def _explain_portrait(args: Explain) -> None:
    """Explain the portrait, with one model if an option names a model, labels or a crop."""
    if args.start is not None:
        raise InvalidInputError("--start is for videos.")
    out = _out_picture(args)
    if not (args.model or args.target or args.versus or args.crop or args.finds_face):
        with _writing(out):
            look = _opacity(args), args.cmap
            result = explain_demo(out, args.method, *look, args.top, args.device)
        _print(args, result.rows, result.text)
        return
    model = load_on(args.model_name, args.device)
    if model.takes_clips:
        raise InvalidInputError(f"{args.model_name} takes clips: name a video.")
    asks = args.model_name == DEFAULT_MODEL and args.method not in CLASSLESS_METHODS
    wanted = args.target or (DEMO_TARGETS if asks else ())
    crop = args.crop or (None if args.finds_face else DEMO_CROP)
    question = _question(args, model, wanted, crop)
    _explain_one(args, model, demo_photo(), DEMO_PHOTO, question, out)


def _out_folder(args: Explain) -> Optional[Path]:
    """Return the folder to write to, or None if one picture is written."""
    if args.contact_sheet:
        return None
    if args.out is None:
        word = args.sources[0]
        several = len(args.sources) > 1 or Path(word).is_dir()
        pattern = glob.has_magic(word) and not Path(word).is_file()
        return Path("explanations") if several or pattern else None
    path = Path(args.out)
    is_folder = path.is_dir() or args.out.endswith(("/", os.sep)) or not path.suffix
    return path if is_folder else None


def _out_picture(args: Explain, video: bool = False) -> Path:
    """Return the picture to write; an existing one that was named is refused."""
    out = Path(args.out or ("explanation.mp4" if video else "explanation.png"))
    known = (".mp4", ".png") if video else (".png",)
    if out.suffix.lower() not in known:
        raise InvalidInputError(
            f"--out {out} must be a {' or '.join(known)} file; for several files a folder, "
            f"{out.with_suffix('')}/"
        )
    if args.table is not None:
        raise InvalidInputError(f"--table needs a folder: --out {out.with_suffix('')}/")
    if args.out is not None:
        refuse_existing([out, out.with_suffix(".json")], args.overwrite)
    return out


def _refuse_sources(written: Sequence[Path], sources: Sequence[Source]) -> None:
    """Refuse to write over a photo that is explained."""
    read_from = {os.path.abspath(source.path) for source in sources}
    for path in written:
        if os.path.abspath(path) in read_from:
            raise InvalidInputError(f"{path} is a photo to explain; name another --out")


def _of_kind(sources: Sequence[Source], model: Any, name: str) -> List[Path]:
    """Return the files that the model takes; those of folders and patterns may be of both kinds."""
    clips = model.takes_clips
    files = [source.path for source in sources if is_video(source.path) == clips]
    wrong = [source.path for source in sources if is_video(source.path) != clips]
    if clips and (not files or any(s.named and s.path in wrong for s in sources)):
        raise InvalidInputError(f"{name} takes clips: name a video, not {wrong[0]}.")
    if not clips and (not files or any(s.named and s.path in wrong for s in sources)):
        raise InvalidInputError(
            f"{wrong[0]} is a video, and {name} takes images: name a clip model with --model."
        )
    if wrong:
        kind = "photos" if clips else "videos"
        print(f"{name} takes no {kind}: {len(wrong):,} left out", file=sys.stderr)
    return files


def _question(args: Explain, model: Any, wanted: Sequence[str], crop: Optional[Box]) -> Question:
    """Return what is asked, with class indices for labels."""
    labels, classes = model.class_labels(), model.num_classes
    targets = [target_of(text, labels, classes) for text in wanted] or None
    versus = None if args.versus is None else target_of(args.versus, labels, classes)
    if args.finds_face and model.takes_clips:
        raise InvalidInputError(f"--face is for photos, and {args.model_name} takes clips.")
    face = FaceFinder(args.face_model) if args.finds_face else None
    return Question(targets, args.method, versus, crop, args.start, face)


def _explain_one(
    args: Explain, model: Any, file: Path, name: str, question: Question, out: Path
) -> None:
    """Explain one photo or video, with a JSON beside the picture."""
    clip_config = resolve_clip_config(model) if model.takes_clips else None
    content = read(file, question, clip_config)
    (one,) = explain_read(model, [content], question)
    facts = {**_facts(args, [name], question.crop), **one.facts}
    with _writing(out):
        look = {"alpha": _opacity(args), "cmap": args.cmap}
        one.explanation.save(out, one.drawn, facts, fps=one.fps, **look)
    shown = f"{printable(str(out))}: {args.method} map"
    if isinstance(content, Clip):
        shown += f" of second {content.seconds[0]:.2f} to {content.seconds[-1]:.2f}"
    text = text_of(name, one.explanation, question.targets, args.top)
    row = row_of(one.explanation, name, str(out), one.region, args.top)
    _print(args, [row], f"{text}\n\n{shown}, {what_it_shows(one.explanation)}")


def _explain_sheet(
    args: Explain, model: Any, files: Sequence[Path], question: Question, out: Path
) -> None:
    """Explain photos in one picture; those that cannot be read are named, and left out."""
    if model.takes_clips:
        raise InvalidInputError("--contact-sheet is for photos.")
    photos, failed = [], []
    for file in files:
        try:
            photos.append((file, cut_out(file, question)))
        except SEZooError as error:
            failed.append((file, str(error).removeprefix(f"{file}: ")))
    name_failures(failed)
    if photos:
        explanation = explain_cutouts(model, [photo for _, photo in photos], question)
        with _writing(out):
            facts = _facts(args, [str(file) for file, _ in photos], question.crop)
            explanation.save(out, facts=facts, alpha=_opacity(args), cmap=args.cmap)
        rows, texts = [], []
        for i, (file, _) in enumerate(photos):
            region = region_of(explanation, i)
            rows.append(row_of(explanation[i], str(file), str(out), region, args.top))
            texts.append(text_of(str(file), explanation[i], question.targets, args.top))
        texts.append(f"\n{printable(str(out))}: {args.method} map, {what_it_shows(explanation)}")
        _print(args, rows, "\n".join(texts))
    if failed:
        sys.exit(2)


def _explain_into(
    args: Explain, folder: Path, table: Path, sources: Sequence[Source], root: Path
) -> None:
    """Explain files into a folder: a picture and a row for each."""
    model = load_on(args.model_name, args.device)
    files = _of_kind(sources, model, args.model_name)
    ending = ".mp4" if model.takes_clips else ".png"
    names = picture_names(files, root, ending)
    jobs = [Job(f, folder / name, name.as_posix()) for f, name in zip(files, names, strict=True)]
    pictures = [job.picture for job in jobs]
    _refuse_sources(pictures, sources)
    refuse_existing(pictures, args.overwrite)
    settings = Settings(
        model=model,
        question=_question(args, model, args.target, args.crop),
        clip_config=resolve_clip_config(model) if model.takes_clips else None,
        batch_size=args.batch_size,
        workers=args.workers,
        top=args.top,
        alpha=_opacity(args),
        cmap=args.cmap,
        as_json=args.json,
        quiet=args.quiet,
    )
    try:
        failed = explain_many(jobs, table, settings)
    except OSError as error:
        raise InvalidInputError(f"{table} cannot be written: {error}") from error
    done = len(jobs) - len(failed)
    if not (args.quiet or args.json):
        print(
            f"{printable(str(folder))}: {done:,} picture{'s'[: done != 1]}, {args.method} map; "
            f"{printable(str(table))}: {len(jobs):,} row{'s'[: len(jobs) != 1]}"
        )
    name_failures(failed)
    if failed:
        sys.exit(2)


def _print(args: Explain, rows: Sequence[Dict[str, Any]], text: str) -> None:
    """Print results as text or as JSON lines; nothing with ``--quiet``."""
    if args.json:
        print("\n".join(json.dumps(row) for row in rows))
    elif not args.quiet:
        print(text)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Make the folder of a picture, and name the picture in errors of writing it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InvalidInputError(f"--out {out} cannot be written: {error}") from error


def _facts(args: Explain, names: List[str], crop: Optional[Box]) -> Dict[str, Any]:
    """Return what the JSON needs so that the picture can be made again."""
    return {
        "se_zoo": __version__,
        "model": args.model_name,
        "photos": names,
        "crop": None if crop is None else list(crop),
    }
