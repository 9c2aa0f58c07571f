"""Explain read photos and clips, and write their pictures: what all forms of the command share."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from PIL import Image
from timm.data.config import resolve_data_config

from ..data.images import seen_size
from ..data.video.index import open_video
from ..errors import InvalidInputError
from ..explanations.draw.clips import side_by_side, write_video
from ..files import replacing
from ..inference.clips import explain_frames, read_clip
from ..inference.images import Box, explain_photos, load_photo
from ..models.clip.config import resolve_clip_config


class Question(NamedTuple):
    """What is asked about every photo.

    Attributes:
        targets: Class indices; None for what the model predicts.
        method: Which map.
        versus: The other class of a difference map.
        crop: Box to cut out first.
        start: Second at which a clip starts.
    """

    targets: Optional[List[int]]
    method: str
    versus: Optional[int]
    crop: Optional[Box]
    start: Optional[float]


class Clip(NamedTuple):
    """Frames of a video, (T, H, W, 3) uint8, their numbers and seconds, and the frame rate."""

    frames: Any
    numbers: List[int]
    seconds: List[float]
    fps: float


class Explained(NamedTuple):
    """The explanation of one photo or clip.

    Attributes:
        explanation: Of this photo alone.
        drawn: What is drawn on, as ``Explanation.save`` takes it.
        region: Box (x0, y0, x1, y1) of the photo or frame that the model saw, in pixels.
        fps: Frames a second of the picture of a clip.
        facts: Further entries of its JSON.
    """

    explanation: Any
    drawn: Any
    region: Box
    fps: float = 25.0
    facts: Dict[str, Any] = {}  # noqa: RUF012


def read(path: Path, question: Question, clip_config: Any = None) -> Any:
    """Read a photo, or the clip of a video.

    Args:
        path: The file.
        question: Says what is cut out.
        clip_config: What a clip model takes; None for models of images.

    Returns:
        An upright RGB image, or a :class:`Clip`.

    Raises:
        InvalidInputError: If it is no such file, or the crop or the start lies outside it.
        DataError: If a video cannot be read.
    """
    if clip_config is None:
        return load_photo(path, question.crop)
    video = open_video(path)
    frames, numbers = read_clip(video, clip_config, question.start, question.crop)
    fps = max(1.0, (clip_config.fps or video.fps) / clip_config.frame_stride)
    return Clip(frames, numbers, video.seconds[numbers].tolist(), fps)


def explain_read(model: Any, opened: Sequence[Any], question: Question) -> List[Explained]:
    """Explain photos together, or clips one by one.

    Args:
        model: The model.
        opened: Results of :func:`read`.
        question: What is asked.
    """
    if not opened:
        return []
    asked = question.targets, question.method, question.versus
    if not model.takes_clips:
        explanation, drawn = explain_photos(model, opened, *asked)
        regions = [seen_region(model, photo.size, question.crop) for photo in opened]
        return [
            Explained(explanation[i], [drawn[i]], regions[i], facts={"region": list(regions[i])})
            for i in range(len(opened))
        ]
    results = []
    for clip in opened:
        explanation, drawn = explain_frames(model, clip.frames, *asked)
        region = seen_region(model, clip.frames.shape[2:0:-1], question.crop)
        facts = {"frames": clip.numbers, "region": list(region)}
        results.append(Explained(explanation, drawn, region, clip.fps, facts))
    return results


def seen_region(model: Any, size: Tuple[int, int], crop: Optional[Box]) -> Box:
    """Return the box of a whole photo that the model saw: the centre of the crop.

    Args:
        model: The model.
        size: Width and height of the photo or of its crop.
        crop: The crop; None for none.
    """
    if model.takes_clips:
        clip = resolve_clip_config(model)
        width, height = seen_size(size, clip.size, clip.crop_pct)
    else:
        config: Dict[str, Any] = resolve_data_config(model=model)
        width, height = seen_size(size, config["input_size"][-2:], config["crop_pct"])
        if config.get("crop_mode") == "squash":
            width, height = (max(1, round(side * config["crop_pct"])) for side in size)
    x0, y0 = crop[:2] if crop else (0, 0)
    left, top = x0 + (size[0] - width) // 2, y0 + (size[1] - height) // 2
    return left, top, left + width, top + height


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
                picture.save(temporary, "PNG")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error}") from error
