"""Explain read photos and clips, and write their pictures: what all forms of the command share."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from PIL import Image
from tqdm import tqdm

from ..data.faces.detect import HaarDetector
from ..data.faces.find import FaceFinder, frame_of
from ..data.photos import cut_box, read_photo
from ..data.video.index import open_video
from ..errors import InvalidInputError
from ..explanations import Explanation
from ..explanations.draw.clips import side_by_side, write_video
from ..explanations.photo import Photo, bounded
from ..files import replacing
from ..inference.clips import clip_rate, explain_frames, read_clip, seen_box
from ..inference.images import Box
from ..models.clip.config import ClipConfig, resolve_clip_config
from ..models.photos import check_resized
from ..text import printable


class Question(NamedTuple):
    """What is asked about every photo.

    Attributes:
        targets: Class indices; None for what the model predicts.
        method: Which map.
        versus: The other class of a difference map.
        crop: Box to cut out first.
        start: Second at which a clip starts.
        face: What finds the face that is cut out of a photo, or of its crop; None for none.
        resizing: How the model resizes photos, as timm's ``resolve_data_config`` says it; None for
            clips.
    """

    targets: Optional[List[int]]
    method: str
    versus: Optional[int]
    crop: Optional[Box]
    start: Optional[float]
    face: Optional[FaceFinder] = None
    resizing: Optional[Dict[str, Any]] = None


class Cutout(NamedTuple):
    """A photo, and what is cut out of it.

    Attributes:
        name: Name of its file.
        image: What is explained: the whole photo, or what the box shows.
        whole: The photo, upright; where a box is cut out, with at most 2,048 pixels a side.
        size: Width and height of the photo, in pixels.
        box: The box, in the photo's pixels; None for the whole photo.
    """

    name: str
    image: Image.Image
    whole: Image.Image
    size: Tuple[int, int]
    box: Optional[Box]

    @property
    def pixels(self) -> int:
        """How many pixels are explained."""
        return self.image.width * self.image.height


class Clip(NamedTuple):
    """Frames of a video, (T, H, W, 3) uint8, their numbers and seconds, and the frame rate."""

    frames: Any
    numbers: List[int]
    seconds: List[float]
    fps: float

    @property
    def pixels(self) -> int:
        """How many pixels are explained."""
        return self.frames.size // 3


class Explained(NamedTuple):
    """The explanation of one photo or clip.

    Attributes:
        explanation: Of this photo alone.
        drawn: What is drawn on, as ``Explanation.save`` takes it; None for the photo itself.
        region: Box (x0, y0, x1, y1) of the whole photo or frame that the model saw, in pixels.
        fps: Frames a second of the picture of a clip.
        facts: Further entries of its JSON.
    """

    explanation: Any
    drawn: Any
    region: Box
    fps: float = 25.0
    facts: Dict[str, Any] = {}  # noqa: RUF012


def read(
    path: Path, question: Question, clip_config: Optional[ClipConfig] = None
) -> Union[Cutout, Clip]:
    """Read a photo, or the clip of a video.

    Args:
        path: The file.
        question: Says what is cut out.
        clip_config: What a clip model takes; None for models of images.

    Raises:
        InvalidInputError: If it is no such file, the crop or the start lies outside it, it has no
            face, or it is too thin to be resized.
        DataError: If a video cannot be read.
    """
    if clip_config is None:
        return cut_out(path, question)
    video = open_video(path)
    frames, numbers = read_clip(video, clip_config, question.start, question.crop)
    fps = clip_rate(video, clip_config, numbers)
    return Clip(frames, numbers, video.seconds[numbers].tolist(), fps)


def cut_out(path: Path, question: Question) -> Cutout:
    """Read a photo, and cut out its face or the crop; see :func:`read`."""
    _, whole = read_photo(path)
    box = question.crop
    if question.face is not None:
        searched = whole if box is None else cut_box(whole, box, path)
        box = _shifted(_face_box(question.face, searched, path), box)
    image = whole if box is None else cut_box(whole, box, path)
    if question.resizing is not None:  # here, where an error costs this photo alone
        try:
            check_resized(image.size, question.resizing)
        except ValueError as error:
            raise InvalidInputError(f"{path}: {error}") from None
    return Cutout(path.name, image, whole if box is None else bounded(whole), whole.size, box)


def _face_box(finder: FaceFinder, photo: Image.Image, path: Path) -> Box:
    """Return the frame of the largest face; of several, stderr says so."""
    faces = finder.find(photo)
    if not faces:
        better = ", or try --face-model" if isinstance(finder.detector, HaarDetector) else ""
        raise InvalidInputError(
            f"{path}: no face is found; cut it out with --crop, with hair and chin, and without "
            f"--face{better}"
        )
    if len(faces) > 1:
        text = f"{path} has {len(faces)} faces; the largest is explained: choose with --crop"
        tqdm.write(printable(text), file=sys.stderr)
    return frame_of(faces[0])


def _shifted(box: Any, outer: Optional[Box]) -> Any:
    """Return a box inside another one in the pixels of the whole photo."""
    x, y = outer[:2] if outer else (0, 0)
    x0, y0, x1, y1 = box
    return x0 + x, y0 + y, x1 + x, y1 + y


def explain_cutouts(model: Any, cutouts: Sequence[Cutout], question: Question) -> Explanation:
    """Explain photos; the explanation's photos are the whole ones, and regions in their pixels.

    Args:
        model: A model of images.
        cutouts: The photos.
        question: What is asked.
    """
    explanation: Explanation = model.explain(
        [one.image for one in cutouts], question.targets, question.method, versus=question.versus
    )
    photos = zip(explanation.photos or (), cutouts, strict=True)
    return replace(explanation, photos=tuple(_in_whole(found, one) for found, one in photos))


def _in_whole(found: Photo, cutout: Cutout) -> Photo:
    """Return the photo of a cutout: the whole one, with the cutout as its close-up."""
    if cutout.box is None:
        return replace(found, name=cutout.name)
    region = _shifted(found.region, cutout.box)
    return Photo(cutout.name, cutout.size, region, cutout.whole, cutout.box, found.picture)


def region_of(explanation: Explanation, image: int = 0) -> Box:
    """Return the box of a photo that the model saw, in whole pixels, as tables have it."""
    assert explanation.photos is not None, "only photos have regions"
    x0, y0, x1, y1 = map(round, explanation.photos[image].region)
    return x0, y0, x1, y1


def explain_read(model: Any, opened: Sequence[Any], question: Question) -> List[Explained]:
    """Explain photos together, or clips one by one.

    Args:
        model: The model.
        opened: Results of :func:`read`.
        question: What is asked.
    """
    if not opened:
        return []
    if not model.takes_clips:
        explanation = explain_cutouts(model, opened, question)
        return [
            Explained(explanation[i], None, region_of(explanation, i)) for i in range(len(opened))
        ]
    asked = question.targets, question.method, question.versus
    results = []
    for clip in opened:
        explanation, drawn = explain_frames(model, clip.frames, *asked)
        region = _shifted(seen_box(clip.frames, resolve_clip_config(model)), question.crop)
        facts = {"frames": clip.numbers, "region": list(region)}
        results.append(Explained(explanation, drawn, region, clip.fps, facts))
    return results


def write_picture(path: Path, explained: Explained, alpha: float, cmap: Optional[str]) -> None:
    """Write the picture or video of one explanation, whole or not at all, without a JSON.

    Args:
        path: The picture, ``.png``, or ``.mp4`` for clips; its folder is made.
        explained: The explanation.
        alpha: Opacity of the strongest spots, in [0, 1].
        cmap: Name of a matplotlib colour map.

    Raises:
        InvalidInputError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            if path.suffix.lower() == ".mp4":
                frames = side_by_side(
                    explained.explanation, explained.drawn, alpha=alpha, cmap=cmap
                )
                write_video(temporary, frames, explained.fps)
            else:
                picture: Image.Image = explained.explanation.grid(
                    explained.drawn, alpha=alpha, cmap=cmap
                )
                # Packing is most of the work on a picture. At zlib's level 6 it takes three times
                # as long as at level 1, which makes files an eighth larger.
                picture.save(temporary, "PNG", compress_level=1)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error}") from error
