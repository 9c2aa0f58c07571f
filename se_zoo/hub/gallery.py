"""The picture of a card: a photo or a video explained by the model, with its numbers beside it."""

from pathlib import Path
from typing import Any

from ..data.video.index import is_video, open_video
from ..errors import InvalidInputError
from ..inference.clips import explain_frames, read_clip
from ..inference.images import DEMO_PHOTO, demo_photo, explain_photos, load_photo
from ..models import SpeakerModel, resolve_clip_config
from ..provenance import provenance
from .card import GALLERY
from .facts import Gallery

#: The same for every caller, so that the file depends on nothing but the model and the photo.
COMMAND = "se_zoo.hub.gallery.draw_gallery(model, facts.gallery, folder)"


def draw_gallery(model: Any, facts: Gallery, folder: Path, photos: Path = Path()) -> None:
    """Write ``gallery.png`` and ``gallery.json``.

    Args:
        model: The SE model, with its weights, in eval mode.
        facts: Photo or video, targets and crop.
        folder: Where to.
        photos: Folder of the photo or video, if it is not matplotlib's portrait.

    Raises:
        InvalidInputError: If the photo cannot be read, or the model is not for such a file.
        DataError: If the video cannot be read.
        UnknownLabelError: If the model has no such label.
    """
    if isinstance(model, SpeakerModel):
        raise InvalidInputError(
            "gallery: the card of a speaker model has no picture, as speakers are people; leave "
            "the key out."
        )
    if Path(facts.photo).name != facts.photo:
        raise InvalidInputError(f"gallery: put {facts.photo} beside the facts, and name it alone.")
    own = photos / facts.photo
    crop = list(facts.crop) if facts.crop else None
    if is_video(own) != model.takes_clips:
        needed = "a video" if model.takes_clips else "a photo"
        raise InvalidInputError(f"gallery: the model explains {needed}, not {facts.photo}.")
    if model.takes_clips:
        config = resolve_clip_config(model)
        pixels, numbers = read_clip(open_video(own), config, crop=facts.crop)
        explanation, drawn = explain_frames(model, pixels, list(facts.targets))
        more = {"photo": facts.photo, "crop": crop, "frames": numbers}
        explanation.save(folder / GALLERY, drawn, {**provenance(COMMAND), **more})
        return
    bundled = facts.photo == DEMO_PHOTO and not own.is_file()
    photo = load_photo(demo_photo() if bundled else own, facts.crop)
    explanation, drawn = explain_photos(model, [photo], list(facts.targets))
    explanation.save(
        folder / GALLERY, drawn, {**provenance(COMMAND), "photo": facts.photo, "crop": crop}
    )
