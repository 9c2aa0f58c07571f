"""Face detection."""

from typing import Any, List, Protocol, Sequence, Tuple

import numpy as np

from ...errors import InvalidInputError

#: x0, y0, x1, y1 in pixels.
Box = Tuple[float, float, float, float]

#: Width of the smallest face that is looked for, as a share of the picture's shorter side.
_SMALLEST = 1 / 12


class FaceDetector(Protocol):
    """Interface of a face detector: a function from a picture to boxes."""

    def __call__(self, picture: np.ndarray) -> List[Box]:
        """Find the faces in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            One box per face: x0, y0, x1, y1 in pixels.
        """
        ...


class HaarDetector:
    """Detect frontal faces with OpenCV's Haar cascade.

    The cascade (Viola and Jones, doi 10.1109/CVPR.2001.990517) is part of opencv-python-headless
    below version 5. It is fast and needs no download; it misses faces in profile.

    Args:
        neighbours: How many overlapping detections make a face. A lower number finds more faces
            and gives more false detections.

    Raises:
        InvalidInputError: If OpenCV is not installed, or has no Haar cascades.
    """

    neighbours: int

    def __init__(self, neighbours: int = 5):
        try:
            import cv2
        except ImportError as error:
            raise InvalidInputError(
                'OpenCV, which finds faces, is not installed: pip install "se_zoo[speaker]".'
            ) from error
        cv: Any = cv2
        if not hasattr(cv, "CascadeClassifier"):
            raise InvalidInputError(
                f"OpenCV {cv.__version__} has no Haar cascades, which find faces: "
                'pip install "opencv-python-headless<5".'
            )
        self._cv, self.neighbours = cv, neighbours
        self._cascade = cv.CascadeClassifier(
            cv.data.haarcascades + "haarcascade_frontalface_default.xml"
        )

    def __call__(self, picture: np.ndarray) -> List[Box]:
        """Find the faces in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            One box per face: x0, y0, x1, y1 in pixels.
        """
        grey = self._cv.cvtColor(np.ascontiguousarray(picture), self._cv.COLOR_RGB2GRAY)
        side = max(20, round(min(grey.shape) * _SMALLEST))
        found = self._cascade.detectMultiScale(grey, 1.1, self.neighbours, minSize=(side, side))
        return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in found]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    shared = _shared(one, other)
    return shared / (_area(one) + _area(other) - shared)


def without_nested(boxes: Sequence[Box]) -> List[Box]:
    """Return the boxes that do not lie mostly inside a larger one.

    A detector often finds parts of a face beside the face itself.
    """
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
