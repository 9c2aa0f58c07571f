"""Face detection: one interface for photos and videos."""

import math
import os
import threading
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Protocol, Sequence, Tuple, Union

import numpy as np

from ...errors import InvalidInputError

#: x0, y0, x1, y1 in pixels.
Box = Tuple[float, float, float, float]

#: Distance of the eyes over the root of the area of YuNet's box: the median of 114 images of
#: CelebA's validation split. Framed by it they overlap their own frame by 0.92 (median), framed by
#: the distance of the found eyes, which is small where a head is turned, by 0.84.
_EYES_PER_SIDE = 0.385

#: Width of the smallest face that is looked for, as a share of the picture's shorter side.
_SMALLEST = 1 / 12
#: Overlapping detections of a Haar cascade that make a face. A lower number finds more faces and
#: gives more false detections.
_NEIGHBOURS = 5


#: x, y in pixels.
Point = Tuple[float, float]


class Face(NamedTuple):
    """A found face, in pixels of its picture."""

    x0: float
    y0: float
    x1: float
    y1: float
    eyes: Optional[Tuple[Point, Point]] = None
    """The left and the right eye of the picture, if the detector finds eyes."""
    eye_distance: Optional[float] = None
    """Distance of the eyes if the face looked into the camera, if the detector can tell."""
    mouth: Optional[Tuple[Point, Point]] = None
    """The left and the right corner of the mouth, if the detector finds them."""
    score: Optional[float] = None
    """How sure the detector is, from 0 to 1, if it says so."""

    @property
    def box(self) -> Box:
        """The box alone."""
        return self[:4]


class FaceDetector(Protocol):
    """Interface of a face detector: a function from a picture to faces."""

    def __call__(self, picture: np.ndarray) -> Sequence[Union[Face, Box]]:
        """Find the faces in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            The faces; boxes x0, y0, x1, y1 in pixels will do.
        """
        ...


def find_faces(detector: FaceDetector, picture: np.ndarray) -> List[Face]:
    """Return what a detector finds, without boxes that lie mostly inside a larger one.

    Args:
        detector: The detector.
        picture: (H, W, 3) uint8, RGB.

    Returns:
        The faces, the largest first.
    """
    found = [one if isinstance(one, Face) else Face(*one) for one in detector(picture)]
    kept = without_nested([face.box for face in found])
    faces = {face.box: face for face in found}
    return [faces[box] for box in kept]


def _opencv() -> Any:
    """Return OpenCV.

    Raises:
        InvalidInputError: If it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InvalidInputError(
            'OpenCV, which finds faces, is not installed: pip install "se_zoo[face]".'
        ) from error
    return cv2


class HaarDetector:
    """Detect faces with OpenCV's Haar cascades.

    The cascades (Viola and Jones, doi 10.1109/CVPR.2001.990517) are part of opencv-python-headless
    below version 5. They are fast and need no download; they find no eyes.

    Args:
        profile: Whether to look for faces in profile where no frontal one is found.
        confirm: Whether to look at every box again with another cascade. Faces then have a score:
            1 if it finds a face there, too, otherwise 0. Many true faces are missed by one of both,
            so the score says more about a track than about a single picture.

    Raises:
        InvalidInputError: If OpenCV is not installed, or has no Haar cascades.
    """

    def __init__(self, profile: bool = False, confirm: bool = False):
        cv = _opencv()
        if not hasattr(cv, "CascadeClassifier"):
            raise InvalidInputError(
                f"OpenCV {cv.__version__} has no Haar cascades, which find faces: give YuNet's "
                'ONNX file as the detector, or pip install "opencv-python-headless<5".'
            )
        self._cv = cv
        names = ["frontalface_default", *(["profileface"] if profile else [])]
        self._cascades = [self._cascade(name) for name in names]
        self._second: Any = self._cascade("frontalface_alt2") if confirm else None
        self._lock = threading.Lock()  # a cascade keeps its picture while it searches

    def _cascade(self, name: str) -> Any:
        path = f"{self._cv.data.haarcascades}haarcascade_{name}.xml"
        if path.isascii():
            return self._cv.CascadeClassifier(path)
        # On Windows OpenCV opens no file whose path has other letters, such as a user's name.
        flags = self._cv.FILE_STORAGE_READ | self._cv.FILE_STORAGE_MEMORY
        stored = self._cv.FileStorage(Path(path).read_text("utf-8"), flags)
        cascade = self._cv.CascadeClassifier()
        cascade.read(stored.getFirstTopLevelNode())
        return cascade

    def __call__(self, picture: np.ndarray) -> Sequence[Union[Face, Box]]:
        """Find the faces in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            One box per face: x0, y0, x1, y1 in pixels. With ``confirm``, faces with scores.
        """
        grey = self._cv.cvtColor(np.ascontiguousarray(picture), self._cv.COLOR_RGB2GRAY)
        found = self._boxes(self._cascades[0], grey)
        for cascade in self._cascades[1:] if not found else ():  # it knows one side of the face
            mirrored = self._boxes(cascade, np.ascontiguousarray(grey[:, ::-1]))
            width = grey.shape[1]
            found = self._boxes(cascade, grey)
            found += [(width - x1, y0, width - x0, y1) for x0, y0, x1, y1 in mirrored]
        if self._second is None:
            return found
        return [Face(*box, score=float(self._confirms(grey, box))) for box in found]

    def _confirms(self, grey: np.ndarray, box: Box) -> bool:
        """Return whether the second cascade finds a face in a box and a little around it."""
        x0, y0, x1, y1 = box
        margin = round(0.2 * (x1 - x0))
        rows = np.arange(round(y0) - margin, round(y1) + margin).clip(0, grey.shape[0] - 1)
        columns = np.arange(round(x0) - margin, round(x1) + margin).clip(0, grey.shape[1] - 1)
        part = self._cv.resize(grey[rows[:, None], columns], (96, 96))
        with self._lock:
            return len(self._second.detectMultiScale(part, 1.1, 2, minSize=(40, 40))) > 0

    def _boxes(self, cascade: Any, grey: np.ndarray) -> List[Box]:
        side = max(20, round(min(grey.shape) * _SMALLEST))
        with self._lock:
            found = cascade.detectMultiScale(grey, 1.1, _NEIGHBOURS, minSize=(side, side))
        return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in found]


class YuNetDetector:
    """Detect faces and their eyes with YuNet, a small network that OpenCV runs.

    Wu et al., doi 10.1007/s11633-023-1423-y. Its ONNX file is not part of OpenCV; it is in
    github.com/opencv/opencv_zoo under models/face_detection_yunet (MIT licence).

    Args:
        path: The ONNX file.
        score: Score from 0 to 1 above which something is a face.

    Raises:
        InvalidInputError: If OpenCV is not installed, or cannot read the file.
    """

    score: float

    def __init__(self, path: Union[str, "os.PathLike[str]"], score: float = 0.7):
        cv = _opencv()
        if not Path(path).is_file():
            raise InvalidInputError(f"no such file: {path}; it should be YuNet's ONNX file.")
        self._cv, self.score = cv, score
        name = os.fspath(path)
        try:
            if name.isascii():
                self._net = cv.FaceDetectorYN.create(name, "", (320, 320), score)
            else:  # see HaarDetector
                content = np.fromfile(name, np.uint8), np.zeros(0, np.uint8)
                self._net = cv.FaceDetectorYN.create("onnx", *content, (320, 320), score)
        except cv.error as error:
            raise InvalidInputError(f"{path}: OpenCV reads no YuNet network: {error}") from error
        self._lock = threading.Lock()  # the network keeps the size of its input

    def __call__(self, picture: np.ndarray) -> List[Face]:
        """Find the faces in a picture.

        Args:
            picture: (H, W, 3) uint8, RGB.

        Returns:
            The faces, with their eyes.
        """
        pixels = np.ascontiguousarray(picture[..., ::-1])  # OpenCV's order is BGR
        with self._lock:
            self._net.setInputSize((picture.shape[1], picture.shape[0]))
            _, found = self._net.detect(pixels)
        faces = []
        for x, y, w, h, *points in [] if found is None else found.tolist():
            eyes = sorted(((points[0], points[1]), (points[2], points[3])))
            mouth = sorted(((points[6], points[7]), (points[8], points[9])))
            apart = _EYES_PER_SIDE * math.sqrt(w * h)
            face = Face(x, y, x + w, y + h, (eyes[0], eyes[1]), apart, (mouth[0], mouth[1]))
            faces.append(face._replace(score=points[-1]))
        return faces


def open_detector(
    detector: Union[str, "os.PathLike[str]", FaceDetector, None] = None,
) -> FaceDetector:
    """Return the detector that a user asks for, the same for photos and videos.

    Args:
        detector: YuNet's ONNX file, or any detector; None: OpenCV's cascades, frontal ones first,
            then profiles.

    Returns:
        The detector.

    Raises:
        InvalidInputError: If OpenCV is not installed or has no cascades, or the file is no YuNet
            network.
    """
    if detector is None:
        return HaarDetector(profile=True, confirm=True)
    return YuNetDetector(detector) if isinstance(detector, (str, os.PathLike)) else detector


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
