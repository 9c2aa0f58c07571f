"""A photo as an explanation remembers it."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from PIL import Image

#: x0, y0, x1, y1 in pixels, from the upper left corner.
Region = Tuple[float, float, float, float]

#: Largest side of the pictures that explanations keep, in pixels: a batch of 32 phone photos takes
#: 300 MB at this size, and 1.2 GB at its own.
LARGEST_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo and the part of it that the model saw.

    Attributes:
        name: Name of its file, or its number.
        size: Width and height, upright, in pixels.
        region: What the model saw, in the photo's pixels; outside of the photo lies padding.
        picture: The photo, of its own size, but at most 2,048 pixels on the longer side; None if
            the explanation was loaded from a file.
        frame: Box that was cut out, such as that around the face that ``face=...`` found, in the
            photo's pixels.
        close_up: What the frame shows, with repeated edge pixels outside of the photo.
    """

    name: str
    size: Tuple[int, int]
    region: Region
    picture: Optional[Image.Image] = None
    frame: Optional[Region] = None
    close_up: Optional[Image.Image] = None

    def to_dict(self) -> Dict[str, Any]:
        """Return everything but pixels, ready for JSON."""
        box = [round(v, 3) for v in self.region]
        found: Dict[str, Any] = {"name": self.name, "size": list(self.size), "region": box}
        frame = self.frame
        return found if frame is None else {**found, "frame": [round(v, 3) for v in frame]}


def bounded(image: Image.Image, largest: int = LARGEST_SIDE) -> Image.Image:
    """Return an image, reduced if its longer side has more than ``largest`` pixels."""
    zoom = largest / max(image.size)
    if zoom >= 1:
        return image
    width, height = (max(1, round(side * zoom)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
