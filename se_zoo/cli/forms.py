"""The forms of ``se-zoo explain``: one picture, a contact sheet, a folder, and the portrait."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from .. import __version__
from ..data.video.index import is_video
from ..errors import InvalidInputError, SEZooError
from ..explanations.draw.colours import ALPHA
from ..explanations.methods import CLASSLESS_METHODS, default_method
from ..explanations.target_classes import target_of
from ..inference.images import DEMO_PHOTO, Box, demo_photo
from ..models.clip.config import resolve_clip_config
from ..models.input_size import data_config
from ..text import counted, printable
from .device import load_on
from .empty_maps import empty_notes, summary_of_empty
from .explain import CLIP_MODEL, DEFAULT_MODEL, Explain
from .explained import Clip, Question, cut_out, explain_cutouts, explain_read, read, region_of
from .many import Job, Settings, explain_many, name_failures
from .plan import Plan, large_photos, refuse_existing, refuse_sources
from .portrait import DEMO_CROP, DEMO_TARGETS, cropped_to, explain_demo
from .printed import row_of, text_of, what_it_shows
from .sources import Source, picture_names


def explain_plan(args: Explain, plan: Plan) -> None:
    """Explain what was planned, in one picture or in a folder.

    Exits with status 2 if some of the files cannot be read.

    Args:
        args: The options.
        plan: The files, and where the results go.

    Raises:
        InvalidInputError: If options, files and model do not fit together.
    """
    with large_photos():
        if not plan.sources:
            _explain_portrait(args, plan)
        elif plan.table is not None:
            _explain_into(args, plan, plan.table)
        else:
            _explain_picture(args, plan)


def _opacity(args: Explain) -> float:
    """Return the opacity of the strongest spots: as asked for, or the library's."""
    return ALPHA if args.alpha is None else args.alpha


def _explain_picture(args: Explain, plan: Plan) -> None:
    """Explain what the user named in one picture."""
    model = load_on(args.model_name, args.device)
    files = _of_kind(plan.sources, model, args.model_name)
    question = _question(args, plan, model, args.target, args.crop)
    if args.contact_sheet:
        _explain_sheet(args, model, files, question, plan.out)
    else:
        _explain_one(args, model, files[0], str(files[0]), question, plan.out)


def _explain_portrait(args: Explain, plan: Plan) -> None:
    """Explain the portrait, with one model if an option names a model, labels or a crop."""
    if not (args.model or args.target or args.versus or args.crop or args.finds_face):
        with _writing(plan.out):
            look = _opacity(args), args.cmap
            result = explain_demo(plan.out, args.method, *look, args.top, args.device)
        _print(args, result.rows, result.text)
        return
    model = load_on(args.model_name, args.device)
    if model.takes_clips:
        raise InvalidInputError(f"{args.model_name} takes clips: name a video.")
    drawn = args.method or default_method(model)
    asks = args.model_name == DEFAULT_MODEL and drawn not in CLASSLESS_METHODS
    wanted = args.target or (DEMO_TARGETS if asks else ())
    crop = args.crop or (None if args.finds_face else DEMO_CROP)
    question = _question(args, plan, model, wanted, crop)
    _explain_one(args, model, demo_photo(), DEMO_PHOTO, question, plan.out)


def _of_kind(sources: Sequence[Source], model: Any, name: str) -> List[Path]:
    """Return the files that the model takes; those of folders and patterns may be of both kinds."""
    clips = model.takes_clips
    files = [source.path for source in sources if is_video(source.path) == clips]
    wrong = [source.path for source in sources if is_video(source.path) != clips]
    if clips and (not files or any(s.named and s.path in wrong for s in sources)):
        raise InvalidInputError(f"{name} takes clips: name a video, not {wrong[0]}.")
    if not clips and (not files or any(s.named and s.path in wrong for s in sources)):
        raise InvalidInputError(
            f"{wrong[0]} is a video, and {name} takes images: name a clip model, such as --model "
            f"{CLIP_MODEL}"
        )
    if wrong:
        kind = "photos" if clips else "videos"
        print(f"{name} takes no {kind}: {len(wrong):,} left out", file=sys.stderr)
    return files


def _question(
    args: Explain, plan: Plan, model: Any, wanted: Sequence[str], crop: Optional[Box]
) -> Question:
    """Return what is asked, with class indices for labels."""
    labels, classes = model.class_labels(), model.num_classes
    targets = [target_of(text, labels, classes) for text in wanted] or None
    versus = None if args.versus is None else target_of(args.versus, labels, classes)
    if args.finds_face and model.takes_clips:
        raise InvalidInputError(f"--face is for photos, and {args.model_name} takes clips.")
    method = args.method or default_method(model)
    resizing = None if model.takes_clips else data_config(model)
    return Question(targets, method, versus, crop, args.start, plan.face, resizing)


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
    shown = f"{printable(str(out))}: {question.method} map"
    if isinstance(content, Clip):
        shown += f" of second {content.seconds[0]:.2f} to {content.seconds[-1]:.2f}"
    heading = name
    if question.crop is not None and args.crop is None:  # the portrait's own
        heading = f"{name}, {cropped_to(question.crop)}"
    text = text_of(heading, one.explanation, question.targets, args.top)
    row = row_of(one.explanation, name, str(out), one.region, args.top)
    shown += f", {what_it_shows(one.explanation)}{empty_notes(one.explanation)}"
    _print(args, [row], f"{text}\n\n{shown}")


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
        texts.append(
            f"\n{printable(str(out))}: {question.method} map, {what_it_shows(explanation)}"
            f"{empty_notes(explanation)}"
        )
        _print(args, rows, "\n".join(texts))
    if failed:
        sys.exit(2)


def _explain_into(args: Explain, plan: Plan, table: Path) -> None:
    """Explain files into a folder: a picture and a row for each."""
    folder = plan.out
    model = load_on(args.model_name, args.device)
    files = _of_kind(plan.sources, model, args.model_name)
    ending = ".mp4" if model.takes_clips else ".png"
    names = picture_names(files, plan.root, ending)
    jobs = [Job(f, folder / name, name.as_posix()) for f, name in zip(files, names, strict=True)]
    pictures = [job.picture for job in jobs]
    refuse_sources(pictures, plan.sources)
    refuse_existing(pictures, args.overwrite)
    settings = Settings(
        model=model,
        question=_question(args, plan, model, args.target, args.crop),
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
        failed, with_empty, empty = explain_many(jobs, table, settings)
    except OSError as error:
        raise InvalidInputError(f"{table} cannot be written: {error}") from error
    done = len(jobs) - len(failed)
    if not (args.quiet or args.json):
        method = settings.question.method
        print(
            f"{printable(str(folder))}: {counted(done, 'picture')}, {method} map; "
            f"{printable(str(table))}: {counted(len(jobs), 'row')}"
            f"{summary_of_empty(empty, with_empty, method, str(table))}"
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
