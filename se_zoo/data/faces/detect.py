"""Where faces are in a picture."""

from typing import Any, List, Protocol, Sequence, Tuple

import numpy as np

from ...errors import InvalidInputError

#: x0, y0, x1, y1 in pixels.
Box = Tuple[float, float, float, float]

#: Faces narrower than this share of a picture's shorter side are not looked for.
SMALLEST = 1 / 12


class FaceDetector(Protocol):
    """Anything that finds faces; a better one than OpenCV's cascade may be given."""

    def __call__(self, picture: np.ndarray) -> List[Box]:
        """Boxes of the faces in a picture (H, W, 3) uint8, RGB."""
        ...


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces (Viola and Jones, doi 10.1109/CVPR.2001.990517),
    which comes with opencv-python-headless below 5: fast, no download, and blind to profiles.

    Args:
        neighbours: How many overlapping finds make a face; fewer find more faces, and more that
            are none.

    Raises:
        InvalidInputError: If OpenCV is not installed, or has no cascades.
    """

    def __init__(self, neighbours: int = 5):
        try:
            import cv2
        except ImportError as error:
            raise InvalidInputError(
                'Finding faces needs OpenCV: pip install "se_zoo[speaker]".'
            ) from error
        cv: Any = cv2
        if not hasattr(cv, "CascadeClassifier"):
            raise InvalidInputError(
                f"OpenCV {cv.__version__} has no Haar cascades; "
                'pip install "opencv-python-headless<5".'
            )
        self._cv, self.neighbours = cv, neighbours
        self._cascade = cv.CascadeClassifier(
            cv.data.haarcascades + "haarcascade_frontalface_default.xml"
        )

    def __call__(self, picture: np.ndarray) -> List[Box]:
        grey = self._cv.cvtColor(np.ascontiguousarray(picture), self._cv.COLOR_RGB2GRAY)
        side = max(20, round(min(grey.shape) * SMALLEST))
        found = self._cascade.detectMultiScale(grey, 1.1, self.neighbours, minSize=(side, side))
        return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in found]


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    shared = _shared(one, other)
    return shared / (_area(one) + _area(other) - shared)


def without_nested(boxes: Sequence[Box]) -> List[Box]:
    """Boxes without those that lie mostly inside a larger one: parts of the same face."""
    kept: List[Box] = []
    for box in sorted(boxes, key=_area, reverse=True):
        if not any(_shared(box, other) > 0.6 * _area(box) for other in kept):
            kept.append(box)
    return kept


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _shared(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
