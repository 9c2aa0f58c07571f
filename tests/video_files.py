"""Videos whose frames show their numbers."""

from fractions import Fraction
from pathlib import Path
from typing import Sequence

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV (extra: video)")

SIZE = 64
#: A frame's number is drawn as so many black and white squares.
BITS = 8


def numbered(number: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """A picture that shows its number in squares, robust to what h264 does to pictures."""
    picture = np.full((height, width, 3), 128, dtype=np.uint8)
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        value = 235 if number >> bit & 1 else 20
        picture[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = value
    return picture


def write_lossless(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """A .mkv whose decoded frames are the pictures, (H, W, 3), to the bit."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def number_of(picture: np.ndarray) -> int:
    """The number that a picture shows."""
    found = 0
    for bit in range(BITS):
        row, column = divmod(bit, 4)
        centre = picture[16 * row + 4 : 16 * row + 12, 16 * column + 4 : 16 * column + 12]
        found |= int(centre.mean() > 128) << bit
    return found


def write(
    path: Path, frames: int, codec: str = "libx264", times: Sequence[int] = (), **options: str
) -> Path:
    """A file of numbered frames; ``times`` are presentation times in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.options = options
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(i))
            if times:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
