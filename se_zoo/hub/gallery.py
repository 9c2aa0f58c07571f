"""Draw the picture of a card: a photo or a video explained by the model, with its numbers."""

from pathlib import Path
from typing import Any

from ..data.video.index import is_video, open_video
from ..errors import InvalidInputError
from ..inference.clips import explain_frames, read_clip
from ..inference.images import DEMO_PHOTO, demo_photo, load_photo
from ..models import resolve_clip_config
from ..provenance import provenance
from .card import GALLERY
from .facts import Gallery

#: The same for every caller, so that the file depends on nothing but the model and the photo.
_COMMAND = "se_zoo.hub.gallery.draw_gallery(model, facts.gallery, folder)"


def draw_gallery(model: Any, facts: Gallery, folder: Path, photos: Path = Path()) -> None:
    """Write ``gallery.png`` and ``gallery.json``.

    Args:
        model: The SE model, with its weights, in eval mode.
        facts: Photo or video, targets and crop.
        folder: Folder to write to.
        photos: Folder of the photo or video, unless it is matplotlib's portrait.

    Raises:
        InvalidInputError: If the photo cannot be read, or the model does not take such a file.
        DataError: If the video cannot be read.
        UnknownLabelError: If the model has no such label.
    """
    draw = {"image": _draw_photo, "video": _draw_video}.get(model.noun)
    if draw is None:
        raise InvalidInputError(
            "gallery: the card of a speaker model has no picture, as speakers are people; leave "
            "the key out."
        )
    if Path(facts.photo).name != facts.photo:
        raise InvalidInputError(
            f"gallery: photo is {facts.photo!r}; put the file beside the facts and give its name "
            "alone."
        )
    file = photos / facts.photo
    if model.noun != ("video" if is_video(file) else "image"):
        raise InvalidInputError(
            f"gallery: the model explains {model.noun}s, and {facts.photo} is none; name one."
        )
    draw(model, facts, file, folder)


def _draw_photo(model: Any, facts: Gallery, file: Path, folder: Path) -> None:
    """Explain a photo; a file that is missing may be matplotlib's portrait."""
    bundled = facts.photo == DEMO_PHOTO and not file.is_file()
    photo = load_photo(demo_photo() if bundled else file, facts.crop)
    explanation = model.explain(photo, list(facts.targets))
    explanation.save(folder / GALLERY, facts=_origin(facts), names=[facts.photo])


def _draw_video(model: Any, facts: Gallery, file: Path, folder: Path) -> None:
    """Explain the middle clip of a video."""
    config = resolve_clip_config(model)
    pixels, numbers = read_clip(open_video(file), config, crop=facts.crop)
    explanation, drawn = explain_frames(model, pixels, list(facts.targets))
    explanation.save(folder / GALLERY, drawn, {**_origin(facts), "frames": numbers})


def _origin(facts: Gallery) -> "dict[str, Any]":
    """Return what gallery.json says of how the picture was made."""
    crop = list(facts.crop) if facts.crop else None
    return {**provenance(_COMMAND), "photo": facts.photo, "crop": crop}
