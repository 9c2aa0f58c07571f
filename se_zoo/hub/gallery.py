"""The picture of a card: a photo explained by the model, with all its numbers beside it."""

from pathlib import Path
from typing import Any

from ..errors import InvalidInputError
from ..models.photos import DEMO_PHOTO, demo_photo, explain_photos, load_photo
from ..provenance import provenance
from .card import GALLERY
from .facts import Gallery

#: The same for every caller, so that the file depends on nothing but the model and the photo.
COMMAND = "se_zoo.hub.gallery.draw_gallery(model, facts.gallery, folder)"


def draw_gallery(model: Any, facts: Gallery, folder: Path, photos: Path = Path()) -> None:
    """Write ``gallery.png`` and ``gallery.json``.

    Args:
        model: The SE model, with its weights, in eval mode.
        facts: Photo, targets and crop.
        folder: Where to.
        photos: Folder of the photo, if it is not matplotlib's portrait.

    Raises:
        InvalidInputError: If the photo cannot be read.
        UnknownLabelError: If the model has no such label.
    """
    if Path(facts.photo).name != facts.photo:
        raise InvalidInputError(f"gallery: put {facts.photo} beside the facts, and name it alone.")
    own = photos / facts.photo
    bundled = facts.photo == DEMO_PHOTO and not own.is_file()
    photo = load_photo(demo_photo() if bundled else own, facts.crop)
    explanation, drawn = explain_photos(model, [photo], list(facts.targets))
    crop = list(facts.crop) if facts.crop else None
    explanation.save(
        folder / GALLERY, drawn, {**provenance(COMMAND), "photo": facts.photo, "crop": crop}
    )
