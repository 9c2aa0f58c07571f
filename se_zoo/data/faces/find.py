"""Find the faces in photos, and frame each as the images of CelebA are framed."""

import math
import os
import warnings
from typing import Any, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from PIL import Image

from ...errors import InvalidInputError, SEZooWarning
from ..photos import cut_box
from .detect import Box, Face, FaceDetector, HaarDetector, Point, find_faces, open_detector

#: Longest side of the picture in which faces are looked for, in pixels.
_SEARCHED = 1280
#: Aligned images of CelebA: width and height, and where both eyes lie, in pixels
#: (Liu et al., arXiv 1411.7766; the eyes decide about place and size of a face).
_ALIGNED = (178.0, 218.0)
_EYES = ((69.5, 111.5), (108.5, 111.5))
#: Width and centre of the cascades' box in these images: medians of 100 images of CelebA's
#: validation split.
_BOX_WIDTH, _BOX_CENTRE = 106.5, (88.6, 124.1)


class FramedFace(NamedTuple):
    """A face cut out of a photo."""

    image: Image.Image
    """What the frame shows; outside of the photo, its edge pixels are repeated."""
    box: Tuple[int, int, int, int]
    """The frame, x0, y0, x1, y1 in pixels of the photo."""
    name: str
    """Name of the photo, with the face's number if there are several."""


class FaceFinder:
    """Find the face in a photo and frame it as in CelebA: upright, with hair and chin.

    The frame is placed by the eyes where the detector finds them, otherwise by the box of the face.
    A tilted head is not turned.

    Args:
        detector: The ONNX file of YuNet, which finds eyes and faces of all sides; or any detector
            (:class:`~se_zoo.speaker.FaceDetector`); by default OpenCV's cascades, frontal ones
            first, then profiles.
        each: Whether to explain every face of a photo, from left to right, instead of the largest.

    Raises:
        InvalidInputError: If OpenCV is not installed, or the file is no YuNet network.
    """

    detector: FaceDetector
    each: bool

    def __init__(
        self,
        detector: Union[str, "os.PathLike[str]", FaceDetector, None] = None,
        each: bool = False,
    ):
        self.detector, self.each = open_detector(detector), each

    def __call__(self, photo: Image.Image, name: str = "the photo") -> List[FramedFace]:
        """Find and frame the faces of a photo.

        Warns with :class:`~se_zoo.SEZooWarning` if there are several and only one is wanted.

        Args:
            photo: An upright RGB image.
            name: Its name, for messages.

        Returns:
            One framed face, or with ``each`` all of them.

        Raises:
            InvalidInputError: If no face is found.
        """
        faces = self.find(photo)
        if not faces:
            cascades = isinstance(self.detector, HaarDetector)
            better = ', or find it with YuNet: face="face_detection_yunet.onnx"' if cascades else ""
            raise InvalidInputError(
                f"{name}: no face is found. Cut the face out with hair and chin and leave face= "
                f"away{better}."
            )
        if not self.each and len(faces) > 1:
            warnings.warn(
                f"{name} has {len(faces)} faces; the largest is explained. "
                "face=se_zoo.FaceFinder(each=True) explains each.",
                SEZooWarning,
                stacklevel=2,
            )
        chosen = sorted(faces, key=lambda face: face.x0) if self.each else faces[:1]
        framed = []
        for n, face in enumerate(chosen):
            box = frame_of(face)
            label = f"{name}, face {n}" if len(chosen) > 1 else name
            framed.append(FramedFace(cut_box(photo, box, name), box, label))
        return framed

    def find(self, photo: Image.Image) -> List[Face]:
        """Find the faces of a photo without framing them.

        Args:
            photo: An upright RGB image.

        Returns:
            The faces, the largest first, in the photo's pixels.
        """
        zoom = max(1.0, max(photo.size) / _SEARCHED)
        width, height = (max(1, round(side / zoom)) for side in photo.size)
        small = photo if zoom == 1 else photo.resize((width, height), reducing_gap=2.0)
        x, y = photo.width / width, photo.height / height
        return [
            Face(
                face.x0 * x, face.y0 * y, face.x1 * x, face.y1 * y,
                _scaled(face.eyes, x, y), face.eye_distance and face.eye_distance * x,
                _scaled(face.mouth, x, y), face.score,
            )
            for face in find_faces(self.detector, np.asarray(small))
        ]  # fmt: skip


def _scaled(pair: Optional[Tuple[Point, Point]], x: float, y: float) -> Any:
    return pair and tuple((point[0] * x, point[1] * y) for point in pair)


def _middle(one: Tuple[float, float], other: Tuple[float, float]) -> Tuple[float, float]:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def frame_of(face: Face) -> Tuple[int, int, int, int]:
    """Return the box around a face that shows it as CelebA's aligned images do.

    Args:
        face: The face.

    Returns:
        x0, y0, x1, y1 in pixels; it may reach outside the picture.
    """
    anchor, unit, place = _anchor(face)
    x0, y0 = (a - p * unit for a, p in zip(anchor, place, strict=True))
    x1, y1 = x0 + _ALIGNED[0] * unit, y0 + _ALIGNED[1] * unit
    return round(x0), round(y0), max(round(x1), round(x0) + 1), max(round(y1), round(y0) + 1)


def square_of(face: Face) -> Box:
    """Return the square around a face that speaker models see: what the cascades would find.

    Args:
        face: The face; its own box is returned if the detector finds no eyes.

    Returns:
        x0, y0, x1, y1 in pixels; it may reach outside the picture.
    """
    if face.eyes is None:
        return face.box
    anchor, unit, place = _anchor(face)
    x, y = (a + (c - p) * unit for a, c, p in zip(anchor, _BOX_CENTRE, place, strict=True))
    half = _BOX_WIDTH / 2 * unit
    return x - half, y - half, x + half, y + half


def _anchor(face: Face) -> Tuple[Tuple[float, float], float, Tuple[float, float]]:
    """Return a point of the face, the size of a pixel of CelebA, and the point's place there."""
    apart = face.eye_distance or (math.dist(*face.eyes) if face.eyes else 0.0)
    if face.eyes is not None and apart > 0:
        return _middle(*face.eyes), apart / math.dist(*_EYES), _middle(*_EYES)
    centre = (face.x0 + face.x1) / 2, (face.y0 + face.y1) / 2
    return centre, (face.x1 - face.x0) / _BOX_WIDTH, _BOX_CENTRE
