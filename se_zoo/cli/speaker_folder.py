"""``se-zoo speaker`` on a folder: every video, with a row for each face and frame."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from ..data.video.index import is_video
from ..errors import DataError, InvalidInputError, SEZooError
from ..files import is_taken, read_json, replacing, write_json
from ..text import counted, printable
from .speaker_video import face_finder, score_video

if TYPE_CHECKING:
    from .speaker import Speaker

#: Options that decide about the rows; a folder holds the rows of one set of them.
_OPTIONS = ("model", "method", "audio", "every", "face_model", "faces", "smallest", "shortest")

#: File of the results that records them, the folder, and the weights.
_OPTIONS_FILE = "options.json"
#: Key of the rows' file under which the stamp of the video lies.
_SOURCE = b"source"


def run_folder(args: "Speaker") -> None:
    """Score all videos of a folder and its subfolders.

    A video whose rows lie in the folder of the results is done, unless its file has changed; rows
    are written last, whole or not at all. A video that cannot be scored is named, and the others
    go on.

    Raises:
        InvalidInputError: If the folder has no video, two have the same name, the results are of
            another folder or other options, or pyarrow is not installed.
        DataError: If some videos could not be scored.
    """
    out = args.out or Path("speakers")
    _parquet()
    videos = _videos(args.video, out)
    _check_options(args, out)
    from ..inference.batch import weights_sha256  # these import torch
    from ..models import create_speaker_model

    find = face_finder(args)
    model = create_speaker_model(args.model, pretrained=True)
    _check_weights(args, out, weights_sha256(model))
    coming = {n: v for n, v in videos.items() if not _is_done(v, out, n, args.draw)}
    if len(coming) < len(videos):
        print(f"{len(videos) - len(coming)} of {len(videos)} videos are done already")
    failed: List[str] = []
    for name, video in coming.items():
        print(f"{video}:", flush=True)
        made_of = stamp(video)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            scored, _ = score_video(args, video, model, find, _picture_of(out, name))
        except SEZooError as error:
            print(f"se-zoo: {error}", file=sys.stderr)
            failed.append(name)
            continue
        if not scored:
            print("no face was found")
        write_rows(_rows_of(out, name), name, scored, model.modalities, made_of)
    print(f"{out}: rows of {counted(len(videos) - len(failed), 'video')}")
    if failed:
        raise DataError(
            f"{len(failed)} of {len(videos)} videos could not be scored, such as {failed[0]}; the "
            "same command tries them again."
        )


def _videos(folder: Path, out: Path) -> Dict[str, Path]:
    """Return the videos of a folder by their names: the path in it, without its ending.

    Hidden files are left out: macOS writes a ``._`` file beside each video of some disks.
    """
    found: Dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not is_video(path) or not path.is_file() or out.absolute() in path.absolute().parents:
            continue
        inside = path.relative_to(folder)
        if any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise InvalidInputError(
                f"{path} and {found[name]} differ in their ending alone; rename one of them."
            )
        found[name] = path
    if not found:
        raise InvalidInputError(f"{folder} has no videos.")
    return found


def _check_options(args: "Speaker", out: Path) -> None:
    """Refuse a folder with results of other options; write down those of a new one."""
    options = {name: getattr(args, name) for name in _OPTIONS}
    options = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    folder = printable(args.video.resolve())
    file = out / _OPTIONS_FILE
    if file.is_file():
        known = read_json(file)
        if known.get("folder") != folder:
            raise InvalidInputError(
                f"{out} holds rows of the folder {known.get('folder')}; name another --out."
            )
        changed = [name for name in _OPTIONS if known.get(name) != options[name]]
        if changed:
            was = ", ".join(f"--{n.replace('_', '-')} {known.get(n)}" for n in changed)
            raise InvalidInputError(
                f"{out} holds rows that were made with {was}; name another --out."
            )
        return
    if is_taken(out):
        raise InvalidInputError(f"--out {out} must be a new or empty folder, or one of such a run.")
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, {"folder": folder, **options})


def _check_weights(args: "Speaker", out: Path, weights: str) -> None:
    """Refuse a folder with results of other weights, such as those of a later training."""
    file = out / _OPTIONS_FILE
    known = read_json(file)
    if known.setdefault("weights_sha256", weights) != weights:
        raise InvalidInputError(
            f"{out} holds rows of other weights of {args.model}; name another --out."
        )
    write_json(file, known)


def _rows_of(out: Path, name: str) -> Path:
    return out / f"{name}.parquet"


def _picture_of(out: Path, name: str) -> Path:
    return out / f"{name}.mp4"


def stamp(video: Path) -> str:
    """Return size and time of a video file, by which a changed one is noticed."""
    found = video.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


def _is_done(video: Path, out: Path, name: str, draw: bool) -> bool:
    """Return whether a video has its rows and, if wanted, its annotated video."""
    source, count = _source_of(_rows_of(out, name))
    drawn = not draw or not count or _picture_of(out, name).is_file()
    return source == stamp(video) and drawn


def _source_of(rows: Path) -> Tuple[Optional[str], int]:
    """Return the stamp of the video that rows were made of, and their number; None without any."""
    if not rows.is_file():
        return None, 0
    pa, parquet = _parquet()
    try:
        with rows.open("rb") as opened:
            footer = parquet.read_metadata(opened)
    except (OSError, pa.ArrowException):  # damaged: they are made again
        return None, 0
    return (footer.metadata or {}).get(_SOURCE, b"").decode(), footer.num_rows


def _parquet() -> Tuple[Any, Any]:
    """Return pyarrow and its module parquet.

    Raises:
        InvalidInputError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInputError(
            'pyarrow, which writes the rows, is not installed: pip install "se_zoo[predict]".'
        ) from error
    return pyarrow, parquet


def write_rows(
    path: Path, video: str, scored: Sequence[Any], modalities: Tuple[str, ...], source: str = ""
) -> None:
    """Write a row for each face and frame of a video to a parquet file, whole or not at all.

    Columns are video, face, frame and seconds (from the first picture, at 25 frames a second
    whatever the file's rate), the box in pixels, the probability of speaking, and the share of each
    modality in it.

    Args:
        path: The file.
        video: Name of the video.
        scored: The :class:`~se_zoo.speaker.ScoredTrack` of each face.
        modalities: Names of the modalities.
        source: :func:`stamp` of the video.

    Raises:
        InvalidInputError: If pyarrow is not installed.
    """
    pa, parquet = _parquet()
    from ..speaker.face_filter import FPS

    shares = [f"share_{name}" for name in modalities]
    floats = ("seconds", "x0", "y0", "x1", "y1", "score", *shares)
    schema = pa.schema(
        [("video", pa.string()), ("face", pa.int32()), ("frame", pa.int32())]
        + [(name, pa.float32()) for name in floats],
        metadata={_SOURCE: source.encode()},
    )
    # An opened file: pyarrow takes no names that are not UTF-8.
    with (
        replacing(path) as made,
        made.open("wb") as opened,
        parquet.ParquetWriter(opened, schema) as writer,
    ):
        for number, one in enumerate(scored):
            frames = range(one.track.first, one.track.after)
            columns: Dict[str, Any] = {
                "video": [printable(video)] * len(frames), "face": [number] * len(frames),
                "frame": frames,
                "seconds": [frame / FPS for frame in frames], "score": one.scores,
            }  # fmt: skip
            columns.update(zip(("x0", "y0", "x1", "y1"), one.track.boxes.T, strict=True))
            columns.update(zip(shares, one.shares.T, strict=True))
            writer.write_table(pa.table({name: columns[name] for name in schema.names}, schema))
