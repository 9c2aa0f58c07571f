"""One face over time: its crops, its labels and its sound, read from disk when asked for."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Optional

import numpy as np
import torch

from ...errors import DataError
from ..images import open_image
from .crops import as_crop
from .mfcc import RATE, WINDOWS, mfcc, window_step
from .sound import read_sound

#: Seconds by which the sound of a track may be shorter or longer than its crops: published
#: preparations cut it at the time of the last row.
_SLACK = 1.0
#: Longest time between two rows of a track, in seconds.
_LONGEST_GAP = 0.5
#: Whether names of files may have a colon, as AVA's entities do. On Windows what stands behind it
#: would be a hidden stream of another file.
_COLONS = os.name != "nt"


@dataclass(frozen=True, eq=False)
class FaceTrack:
    """One face over time, on disk.

    A row is a line of the table, with one crop. A frame is what a model sees; frames are evenly
    spaced in time.

    Attributes:
        name: The track's name in messages.
        stamps: Time of each row in seconds, ascending, (rows,).
        speaking: Whether the person speaks audibly in each row, (rows,) bool.
        row_of_frame: The row whose crop each frame shows, (T,).
        fps: Frames per second.
        own_rate: Whether the frames are the rows, one to one.
        faces: Folder of the face crops, <time stamp>.jpg.
        bodies: Folder of the body crops; None for data without bodies.
        sound: The wav file.
    """

    name: str
    stamps: np.ndarray
    speaking: np.ndarray
    row_of_frame: np.ndarray
    fps: float
    own_rate: bool
    faces: Path
    bodies: Optional[Path]
    sound: Path

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.row_of_frame)

    @property
    def labels(self) -> torch.Tensor:
        """Return whether the person speaks in each frame, float32 (T,) of 0 and 1."""
        return torch.from_numpy(self.speaking[self.row_of_frame].astype(np.float32))

    @property
    def frame_of_row(self) -> np.ndarray:
        """Return the frame nearest in time to each row, (rows,)."""
        if self.own_rate:
            return np.arange(len(self.stamps))
        frames = np.rint((self.stamps - self.stamps[0]) * self.fps).astype(np.int64)
        return frames.clip(max=len(self) - 1)

    def pictures(self, first: int, count: int, bodies: bool = False) -> torch.Tensor:
        """Read the grey crops of consecutive frames.

        Args:
            first: The first frame.
            count: Number of frames.
            bodies: Read the body crops instead of the face crops.

        Returns:
            (count, 112, 112) uint8.

        Raises:
            DataError: If a crop is missing or cannot be read as an image.
        """
        folder = self.bodies if bodies else self.faces
        assert folder is not None
        rows = self.row_of_frame[first : first + count].tolist()
        crops = {row: self._crop(folder, float(self.stamps[row])) for row in sorted(set(rows))}
        return torch.from_numpy(np.stack([crops[row] for row in rows]))

    def _crop(self, folder: Path, stamp: float) -> np.ndarray:
        file = folder / crop_name(stamp)
        if not file.is_file():
            raise DataError(f"{self.name}: no such file: {file}")
        try:
            with open_image(file) as image:
                return as_crop(image)
        except ValueError as error:
            raise DataError(f"{self.name}: cannot read {file} as an image: {error}") from error

    def wave(self, first: int, count: int) -> torch.Tensor:
        """Read the sound of consecutive frames, and as much after it as the last window needs.

        Args:
            first: The first frame.
            count: Number of frames.

        Returns:
            Samples at 16 kHz in the range of 16-bit integers, float32; zeros where the sound ends
            earlier.

        Raises:
            DataError: If the sound is missing, empty or unreadable, or its length differs from the
                track's by more than a second.
        """
        samples = read_sound(self.sound, f"{self.name}: {self.sound}")
        self._check_length(len(samples) / RATE)
        length, step = window_step(self.fps)
        # Not a multiple of the rounded step, which drifts by 0.3 s a minute at 60 frames a second.
        begin, needed = round(first * RATE / self.fps), (count * WINDOWS - 1) * step + length
        part = torch.from_numpy(samples[begin : begin + needed].astype(np.float32))
        return torch.nn.functional.pad(part, (0, needed - len(part)))

    def _check_length(self, seconds: float) -> None:
        expected = len(self) / self.fps
        if abs(seconds - expected) > _SLACK:
            raise DataError(
                f"{self.name}: {self.sound} is {seconds:.2f} seconds long, the track "
                f"{expected:.2f}. Cut the sound from the track's first row to its last."
            )

    def features(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the MFCCs of samples that :meth:`wave` read.

        Args:
            wave: Samples of ``count`` frames at 16 kHz.

        Returns:
            Four windows a frame, (4 count, 13) float32.
        """
        return mfcc(wave, self.fps)

    def files(self) -> Iterator[Path]:
        """Yield all files of the track: its sound and its crops, which may be missing."""
        yield self.sound
        for folder in (self.faces, *([] if self.bodies is None else [self.bodies])):
            yield from (folder / crop_name(float(stamp)) for stamp in self.stamps)

    def gap(self) -> str:
        """Return a message if the track is interrupted for more than half a second, else "".

        In such a gap the frames would repeat one crop, or the sound would not match them.
        """
        steps = np.diff(self.stamps)
        if not len(steps) or steps.max() <= _LONGEST_GAP:
            return ""
        place = int(steps.argmax())
        return (
            f"{self.name} has no row between second {self.stamps[place]:.2f} and "
            f"{self.stamps[place + 1]:.2f}; give the face after the gap another entity id"
        )

    def problem(self) -> str:
        """Return the first gap, missing file or problem with the sound, or "" if there is none.

        The crops are looked for, but not decoded.
        """
        if gap := self.gap():
            return gap
        needed = {crop_name(stamp) for stamp in self.stamps}
        for folder in (self.faces, *([] if self.bodies is None else [self.bodies])):
            if not folder.is_dir():
                return f"{self.name}: no such folder: {folder}"
            missing = sorted(needed.difference(os.listdir(folder)))
            if missing:
                return f"{self.name}: {folder} lacks {len(missing)} crops, such as {missing[0]}"
        try:
            self.wave(0, 1)
        except DataError as error:
            return str(error)
        return ""


def folder_name(entity: str) -> str:
    """Return the name of the folder that an entity's crops are written to."""
    return entity if _COLONS else entity.replace(":", "_")


def crop_name(stamp: float) -> str:
    """Return a crop's file name for a time in seconds, as in AVA's published preparations."""
    return f"{stamp:.2f}.jpg"
