"""Annotated videos with boxes, scores and maps, and tables of scores."""

from pathlib import Path
from typing import Any, Callable, Iterable, List, Sequence, Tuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.faces.ava import SPEAKING, write_rows
from ..data.faces.sound import aligned_sound
from ..data.video.index import open_container, pixel_aspect, pyav, video_stream
from ..errors import DataError
from ..files import replacing
from ..text import printable
from .face_filter import FPS
from .scores import ScoredTrack

_SPEAKS, _SILENT = (60, 200, 80), (210, 70, 60)
#: Sample rates that AAC supports, in Hz.
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000,
              11_025, 8_000)  # fmt: skip
#: A picture of fewer rows has no room for a legend.
_LEAST_HEIGHT = 160
#: Names and colours of the bar, by modality.
_BAR = {
    "audio": ("sound", (70, 130, 220)),
    "face": ("face", (240, 170, 40)),
    "body": ("body", (150, 90, 200)),
}


def draw_scores(picture: np.ndarray, frame: int, scored: Sequence[ScoredTrack]) -> np.ndarray:
    """Draw the boxes, maps and scores of a frame into a copy of its picture.

    A bar below each box shows the shares of sound (blue), face (yellow) and body (violet); while a
    face is seen, a legend in the corner says so, unless the picture is tiny. Of a face that reaches
    beyond the picture, score and bar are drawn at the picture's edge.

    Args:
        picture: (H, W, 3) uint8, RGB.
        frame: Number of the frame at 25 frames per second.
        scored: The tracks.

    Returns:
        The drawn picture, (H, W, 3) uint8.
    """
    drawn = picture.copy()
    here = [s for s in scored if s.track.first <= frame < s.track.after]
    for one in here:
        _heat(drawn, one.track.boxes[frame - one.track.first], one.maps[frame - one.track.first])
    image = Image.fromarray(drawn)
    draw = ImageDraw.Draw(image)
    width = max(2, min(image.size) // 200)
    font = ImageFont.load_default(size=max(11, min(image.size) // 28))
    for one in here:
        place = frame - one.track.first
        x0, y0, x1, y1 = (float(v) for v in one.track.boxes[place])
        score = float(one.scores[place])
        colour = _SPEAKS if score > 0.5 else _SILENT
        draw.rectangle((x0, y0, x1, y1), outline=colour, width=width)
        text = f"{score:.0%}"
        _, above, wide, _ = draw.textbbox((0, 0), text, font=font, anchor="lb")
        at = max(0, min(x0, image.width - wide)), max(y0, -above)
        left, top, right, bottom = draw.textbbox(at, text, font=font, anchor="lb")
        draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=colour)
        draw.text(at, text, font=font, anchor="lb", fill="white")
        begin, height = x0, 3 * width
        bar = min(y1 + width, image.height - 1 - height)
        for share, name in zip(one.shares[place], one.modalities, strict=True):
            end = begin + float(share) * (x1 - x0)
            draw.rectangle((begin, bar, end, bar + height), fill=_BAR[name][1])
            begin = end
    if here and image.height >= _LEAST_HEIGHT:
        _legend(draw, image.height, here[0].modalities, font)
    return np.asarray(image)


def _legend(draw: Any, bottom: int, modalities: Sequence[str], font: Any) -> None:
    """Say in the left bottom corner which colour of the bar is which share of the score."""
    size = int(font.size)
    parts = [("share of", None), *(_BAR[name] for name in modalities)]
    widths = [draw.textlength(text, font=font) + (0 if c is None else 1.3 * size)
              for text, c in parts]  # fmt: skip
    total = sum(widths) + size * (len(parts) + 0.2)
    y = bottom - 0.9 * size
    draw.rectangle((0, bottom - 1.8 * size, total, bottom), fill=(25, 25, 25))
    x = 0.6 * size
    for (text, colour), width in zip(parts, widths, strict=True):
        if colour is not None:
            draw.rectangle((x, y - size / 2, x + size, y + size / 2), fill=colour)
        draw.text((x if colour is None else x + 1.3 * size, y), text, font=font, anchor="lm",
                  fill="white")  # fmt: skip
        x += width + size


def _heat(picture: np.ndarray, box: Sequence[float], strength: np.ndarray) -> None:
    """Draw a map over its box, in place; the opacity grows with the map's value."""
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    if x1 <= x0 or y1 <= y0:
        return
    large = Image.fromarray(strength).resize((x1 - x0, y1 - y0), Image.Resampling.BICUBIC)
    left, top = max(0, -x0), max(0, -y0)
    region = picture[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
    heat = np.asarray(large)[top : top + region.shape[0], left : left + region.shape[1]] / 255
    opacity = 0.5 * heat[..., None] ** 0.75
    colours = matplotlib.colormaps["turbo"](heat)[..., :3] * 255
    region[:] = ((1 - opacity) * region + opacity * colours).round().astype(np.uint8)


def write_annotated(
    path: Path,
    source: Path,
    pictures: Iterable[np.ndarray],
    scored: Sequence[ScoredTrack],
    begins: float = 0.0,
    seen: Callable[[], Any] = lambda: None,
    audio: int = 0,
) -> None:
    """Write the annotated video, with the sound of the original; whole or not at all.

    Args:
        path: The file, .mp4.
        source: The video whose sound it gets.
        pictures: Its frames at 25 a second.
        scored: The tracks to draw.
        begins: Time at which the first picture is shown, in seconds of the source.
        seen: Called after every frame.
        audio: Number of the source's sound track, from 0.

    Raises:
        DataError: If it cannot be encoded.
    """
    av, coming = pyav(), sorted(scored, key=lambda one: one.track.first, reverse=True)
    here: List[ScoredTrack] = []
    try:
        with replacing(path) as made:
            with (
                av.open(str(made), "w", format="mp4") as out,
                open_container(source) as original,
            ):
                encoder = _Encoder(out, original, begins, audio)
                for frame, picture in enumerate(pictures):
                    here = [one for one in here if frame < one.track.after]
                    while coming and coming[-1].track.first <= frame:
                        here.append(coming.pop())
                    encoder.add(draw_scores(picture, frame, here))
                    seen()
                encoder.end()
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be written: {error}") from error


class _Encoder:
    """Encodes pictures as h264, and the original's sound as AAC up to the last picture."""

    def __init__(self, out: Any, original: Any, begins: float, audio: int):
        self.out = out
        self.video: Any = out.add_stream("libx264", FPS)
        self.video.pix_fmt = "yuv420p"
        self.video.options = {"crf": "20", "preset": "veryfast"}
        self.original = original
        self.audio: Any = None
        self.frames = self.samples = 0
        if original.streams.audio:
            rate = original.streams.audio[audio].rate
            self.rate = rate if rate in _AAC_RATES else 48_000
            self.audio = out.add_stream("aac", self.rate)
            self.sound = aligned_sound(original, begins, "fltp", "stereo", self.rate, audio)

    def add(self, picture: np.ndarray) -> None:
        height, width = (size - size % 2 for size in picture.shape[:2])  # yuv420p needs even sizes
        if not self.frames:
            self.video.width, self.video.height = width, height
            self._keep_aspect(picture)
        frame = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]))
        self.out.mux(self.video.encode(frame))
        self.frames += 1
        self._sound_until(self.frames / FPS)

    def _keep_aspect(self, picture: np.ndarray) -> None:
        """Have pixels that are not square shown as wide as those of the original."""
        stored = video_stream(self.original)
        aspect = pixel_aspect(stored)
        if picture.shape[:2] == (stored.width, stored.height) != (stored.height, stored.width):
            aspect = 1 / aspect  # the picture is turned upright
        if aspect != 1:
            self.video.codec_context.sample_aspect_ratio = aspect

    def _sound_until(self, seconds: float) -> None:
        """Encode sound up to a time; packets of the other stream then do not pile up in memory."""
        while self.audio is not None and self.samples < seconds * self.rate:
            part = next(self.sound, None)
            if part is None:
                return
            made = pyav().AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", "stereo")
            made.sample_rate, made.pts = self.rate, self.samples
            self.samples += part.shape[1]
            self.out.mux(self.audio.encode(made))

    def end(self) -> None:
        self.out.mux(self.video.encode())
        if self.audio is not None:
            self.out.mux(self.audio.encode())


def write_table(
    path: Path, video: str, scored: Sequence[ScoredTrack], size: Tuple[int, int]
) -> None:
    """Write the scores in the layout that AVA-ActiveSpeaker's evaluation script reads.

    The csv has no header. Each row has AVA's columns and the score; its label is SPEAKING_AUDIBLE,
    the class that the score is for.

    Args:
        path: The csv.
        video: Id of the video in the csv; bytes that are no UTF-8 are escaped.
        scored: The tracks.
        size: Width and height of a picture; boxes are in fractions of them.
    """
    rows: List[List[Any]] = []
    video = printable(video)
    for number, one in enumerate(scored):
        for place, score in enumerate(one.scores.tolist()):
            stamp = (one.track.first + place) / FPS
            box = one.track.boxes[place] / np.array([*size, *size])
            rows.append([video, f"{stamp:.2f}", *(f"{v:.6f}" for v in box), SPEAKING,
                         f"{video}_{number}", repr(float(score))])  # fmt: skip
    write_rows(path, rows)
