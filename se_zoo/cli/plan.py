"""Check what ``se-zoo explain`` is asked, and find the files, before torch is imported.

torch and timm take seconds to import. A misspelt name should not take as long.
"""

import glob
import os
import shlex
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, NamedTuple, Optional, Sequence, Union

from ..errors import InvalidInputError
from ..text import printable
from ..zoo_names import check_name
from .explain import CLIP_MODEL, DEFAULT_MODEL, OBJECTS_MODEL, Explain
from .sources import Source, find_sources
from .tables import check_table, part_of

if TYPE_CHECKING:
    from ..data.faces.find import FaceFinder

#: Photos of a contact sheet: it is in memory as a whole.
SHEET_LIMIT = 20


class Plan(NamedTuple):
    """What is explained, and where it goes.

    Attributes:
        sources: The photos and videos; none for the portrait.
        root: The deepest folder that holds them all.
        out: The picture, or the folder of the pictures.
        table: The table in the folder; None if one picture is written.
        face: What finds the face of a photo; None for none.
    """

    sources: Sequence[Source]
    root: Path
    out: Path
    table: Optional[Path]
    face: "Optional[FaceFinder]"


def make_plan(args: Explain) -> Plan:
    """Check options, names and paths, and find the files; torch is not imported.

    Says on stderr that the default model reads faces, where nobody chose a model.

    Args:
        args: The options.

    Raises:
        InvalidInputError: If a value is impossible, a file does not exist, or the results cannot go
            where they should.
        UnknownModelError: If the zoo has no such model.
    """
    _check_values(args)
    check_name(args.model_name)
    plan = _planned(args)
    if args.model is None and plan.sources and all(map(_is_video, plan.sources)):
        raise InvalidInputError(
            f"{plan.sources[0].path} is a video, and the default model takes photos: name a clip "
            f"model, such as --model {CLIP_MODEL}"
        )
    if plan.sources and not (args.model or args.finds_face or args.quiet):
        print(_reads_faces(args.sources), file=sys.stderr, flush=True)
    return plan


def _planned(args: Explain) -> Plan:
    """Find the files, and check where their pictures go."""
    folder = _out_folder(args)
    sources, root = find_sources(args.sources, folder) if args.sources else ([], Path())
    video = any(_is_video(source) for source in sources)
    if args.start is not None and not video:
        raise InvalidInputError("--start is for videos.")
    if folder is not None:
        table = _checked_table(args, folder, sources)
        _check_crop(args, None)
        return Plan(sources, root, folder, table, _face_finder(args))
    out = _out_picture(args, video)
    _check_count(args, sources, out)
    refuse_sources([out, out.with_suffix(".json")], sources)
    _check_crop(args, None if video or args.contact_sheet else _only_photo(sources))
    return Plan(sources, root, out, None, _face_finder(args))


def _reads_faces(words: Sequence[str]) -> str:
    """Return what is said where nobody chose a model: it would find a hat on a dog, too."""
    shown = printable(_quoted(words[0])) if len(words) == 1 else "..."
    return (
        f"note: the default model, {DEFAULT_MODEL}, reads faces only: one that fills the photo.\n"
        "  A face in a larger photo: add --face\n"
        f"  Objects, animals, scenes: se-zoo explain {shown} --model {OBJECTS_MODEL}"
    )


def _quoted(word: str) -> str:
    """Return a word as a shell takes it; those of Windows know double quotes alone."""
    return subprocess.list2cmdline([word]) if os.name == "nt" else shlex.quote(word)


def _check_values(args: Explain) -> None:
    """Check values that depend on nothing else."""
    for name in ("batch_size", "workers", "top"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidInputError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
    if args.alpha is not None and not 0 <= args.alpha <= 1:
        raise InvalidInputError(f"--alpha must be from 0 to 1, not {args.alpha}")
    if args.cmap is not None:
        import matplotlib

        if args.cmap not in matplotlib.colormaps:
            raise InvalidInputError(
                f"--cmap {args.cmap} is no colour map of matplotlib; try bwr, RdBu_r, turbo or "
                "viridis"
            )


def _check_crop(args: Explain, photo: Optional[Path]) -> None:
    """Check the crop; where one photo is explained, also that it shows something of it."""
    if args.crop is None:
        return
    from ..data.photos import check_box, cut_box, read_photo

    check_box(args.crop)
    if photo is not None:
        with large_photos():
            cut_box(read_photo(photo)[1], args.crop, photo)


def _only_photo(sources: Sequence[Source]) -> Path:
    """Return the photo that is explained alone: the user's, or the portrait."""
    if sources:
        return sources[0].path
    from ..inference.images import demo_photo

    return demo_photo()


def _face_finder(args: Explain) -> "Optional[FaceFinder]":
    """Return what finds faces; None where none are looked for."""
    if not args.finds_face:
        return None
    from ..data.faces.find import FaceFinder

    return FaceFinder(args.face_model)


@contextmanager
def large_photos() -> Iterator[None]:
    """Silence Pillow's warning of photos above 89 megapixels; it refuses those twice as large."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _is_video(source: Source) -> bool:
    from ..data.video.index import is_video

    return is_video(source.path)


def _out_folder(args: Explain) -> Optional[Path]:
    """Return the folder to write to, or None if one picture is written."""
    if args.contact_sheet or not args.sources:
        return None
    if args.out is None:
        word = args.sources[0]
        several = len(args.sources) > 1 or Path(word).is_dir()
        pattern = glob.has_magic(word) and not Path(word).is_file()
        return Path("explanations") if several or pattern else None
    path = Path(args.out)
    is_folder = path.is_dir() or args.out.endswith(("/", os.sep)) or not path.suffix
    return path if is_folder else None


def _checked_table(args: Explain, folder: Path, sources: Sequence[Source]) -> Path:
    """Return the table to write into a folder, after checking that it and the folder are free."""
    own = _identity(folder)
    if any(_identity(word) == own for word in args.sources):
        raise InvalidInputError(f"--out {folder} has the photos themselves; name another.")
    table = folder / (args.table or "explanations.csv")
    check_table(table)
    _check_place(table, folder)
    refuse_sources([table], sources)
    refuse_existing([table, part_of(table)], args.overwrite)
    return table


def _out_picture(args: Explain, video: bool) -> Path:
    """Return the picture to write; an existing one that was named is refused."""
    out = Path(args.out or ("explanation.mp4" if video else "explanation.png"))
    known = (".mp4", ".png") if video else (".png",)
    if out.suffix.lower() not in known:
        raise InvalidInputError(
            f"--out {out} must be a {' or '.join(known)} file; for several files a folder, "
            f"{_folder_like(out)}/"
        )
    if args.table is not None:
        raise InvalidInputError(f"--table needs a folder: --out {out.with_suffix('')}/")
    _check_place(out, out)
    if args.out is not None:
        refuse_existing([out, out.with_suffix(".json")], args.overwrite)
    return out


def _folder_like(out: Path) -> Path:
    """Return the name of a folder for a picture's; ``.`` has no name, and stays."""
    return out.with_suffix("") if out.name else out


def _check_place(path: Path, out: Path) -> None:
    """Refuse a path within something that is no folder."""
    nearest = next((place for place in path.parents if place.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise InvalidInputError(f"--out {out} cannot be written: {nearest} is no folder")


def _check_count(args: Explain, sources: Sequence[Source], out: Path) -> None:
    """Refuse more photos than go into one picture."""
    limit = SHEET_LIMIT if args.contact_sheet else 1
    if len(sources) > limit:
        fix = f"a folder has room: --out {out.with_suffix('')}/"
        raise InvalidInputError(
            f"a contact sheet takes at most {limit} photos, not {len(sources):,}; {fix}"
            if args.contact_sheet
            else f"{len(sources):,} files do not go into {out}; {fix}. Or add --contact-sheet."
        )


def refuse_sources(written: Sequence[Path], sources: Sequence[Source]) -> None:
    """Refuse to write over a photo that is explained.

    Raises:
        InvalidInputError: If one of the files to write is among the sources.
    """
    there = [path for path in written if os.path.exists(path)]
    read_from = {_identity(source.path) for source in sources} if there else set()
    for path in there:
        if _identity(path) in read_from:
            raise InvalidInputError(f"{path} is a photo to explain; name another --out")


def _identity(path: Union[str, Path]) -> object:
    """Return what is equal for all names of a file or folder: by links, and in other letter case.

    macOS and Windows take Photo.png and photo.png for the same file.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # it does not exist, and cannot
        return os.path.abspath(path)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.abspath(path)


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse to replace files.

    Raises:
        InvalidInputError: If one exists and ``overwrite`` is False.
    """
    taken = [] if overwrite else [path for path in paths if path.exists()]
    if taken:
        more = f" and {len(taken) - 1:,} more" if len(taken) > 1 else ""
        raise InvalidInputError(
            f"{taken[0]}{more} would be replaced: add --overwrite, or name another --out"
        )
