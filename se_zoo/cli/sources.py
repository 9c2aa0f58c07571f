"""Find the photos and videos that a command names, and a picture's name for each."""

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import InvalidInputError


class Source(NamedTuple):
    """A photo or a video.

    Attributes:
        path: The file, as it is reached from the working directory.
        named: Whether the user named this very file, and not a folder or a pattern.
    """

    path: Path
    named: bool


def find_sources(
    words: Sequence[str], leave_out: Optional[Path] = None
) -> Tuple[List[Source], Path]:
    """Find files by names, folders and patterns; a file that is found twice is taken once.

    Folders are searched with all folders below them. Hidden files, and in folders and patterns
    files of other kinds, are left out.

    Args:
        words: Files, folders, or patterns such as ``photos/**/*.jpg``.
        leave_out: A folder whose files are not taken from folders: where pictures are written.

    Returns:
        The files, those of a folder sorted, and the deepest folder that holds all that was named.

    Raises:
        InvalidInputError: If a file does not exist, or a folder or pattern has no photo or video.
    """
    found, roots = {}, []
    for word in words:
        path = Path(word)
        if path.is_dir():
            files, root = _files_below(path, leave_out), path
        elif path.is_file() or not glob.has_magic(word):
            if not path.is_file():
                raise InvalidInputError(f"no such file or folder: {word}")
            files, root = [path], path.parent
        else:
            matches = map(Path, sorted(glob.glob(word, recursive=True)))
            files = [match for match in matches if match.is_file() and _is_known(match)]
            root = _folder_of(word)
        if not files:
            raise InvalidInputError(f"no photo or video in {word}: name files or another folder")
        named = path.is_file()
        for file in files:
            found.setdefault(os.path.abspath(file), Source(file, named))
        roots.append(os.path.abspath(root))
    try:
        return list(found.values()), Path(os.path.commonpath(roots))
    except ValueError:
        raise InvalidInputError(
            "the files lie on several drives; explain those of one drive at a time"
        ) from None


def _is_known(path: Path) -> bool:
    """Return whether a file is a photo or a video by its ending, and not hidden."""
    from ..data.images import IMAGE_SUFFIXES
    from ..data.video.index import VIDEO_SUFFIXES

    known = path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return known and not path.name.startswith(".")


def _files_below(folder: Path, leave_out: Optional[Path]) -> List[Path]:
    """Return the photos and videos in a folder and below it, sorted."""
    return sorted(_walk(folder, os.path.abspath(leave_out) if leave_out else None))


def _walk(folder: Path, leave_out: Optional[str]) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.abspath(os.path.join(place, name)) != leave_out
        ]
        yield from (path for path in map(Path(place).joinpath, names) if _is_known(path))


def _folder_of(pattern: str) -> Path:
    """Return the part of a pattern before its first wildcard."""
    parts = Path(pattern).parts
    plain = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:plain])


def picture_names(files: Sequence[Path], root: Path, ending: str) -> List[Path]:
    """Return the name of each file's picture: that of the file, below the same folders.

    Args:
        files: The files, all below ``root``.
        root: Folder that becomes the folder of the pictures.
        ending: Ending of the pictures, such as ``.png``.

    Returns:
        Relative paths, all different: of ``a.jpg`` and ``a.gif`` in one folder they are
        ``a.jpg.png`` and ``a.gif.png``.
    """
    relative = [Path(os.path.relpath(file, root)) for file in files]
    short = [path.with_suffix(ending) for path in relative]
    full = [path.with_name(path.name + ending) for path in relative]
    # In lower case, because macOS and Windows take a.png and A.png for the same file.
    counts = Counter(str(path).casefold() for path in short)
    chosen = [s if counts[str(s).casefold()] == 1 else f for s, f in zip(short, full, strict=True)]
    return chosen if len({str(path).casefold() for path in chosen}) == len(chosen) else full
