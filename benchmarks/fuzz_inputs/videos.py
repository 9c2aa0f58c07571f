"""Broken videos, and files that are none, for the frames and ``se-zoo explain``."""

import functools
import random
import struct
import wave
from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np
import timm
import torch

import se_zoo
from se_zoo.data.video.frames import inspect_frames, read_frames
from se_zoo.data.video.index import open_video

from .case import SPECIAL, Case, break_bytes, kept_folder, make_special
from .commands import run_command

#: Endings and codecs of valid videos.
_FORMS: Tuple[Tuple[str, str], ...] = (
    (".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "ffv1"), (".avi", "mpeg4"),
    (".mpg", "mpeg1video"), (".avi", "rawvideo"), (".webm", "libvpx"), (".flv", "flv1"),
)  # fmt: skip
#: Contents that are no video, whatever the file is called.
_NO_VIDEO = {
    "empty": b"",
    "text": b"no video",
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    "list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "session": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "manifest": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "zeros": b"\0" * 65_536,
}


@functools.lru_cache(maxsize=1)
def _clip_model() -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = timm.create_model(
            "framewise_sehead", backbone="test_resnet", num_classes=2, num_frames=4
        )
    model.pretrained_cfg.update(input_size=(3, 32, 32))
    return f"local-dir:{se_zoo.save(model, kept_folder() / 'clips', labels=['a', 'b'])}"


@functools.cache
def _encoded(ending: str, codec: str) -> bytes:
    """Return a video of twelve frames."""
    import av

    file = kept_folder() / f"video{ending}"
    noise = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(codec, 25)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        for small in noise:
            picture = small.repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file.read_bytes()


def _wide(rng: random.Random, data: bytes) -> bytes:
    """Return a video whose headers claim another size."""
    width, height = rng.choice([(60_000, 60_000), (16_000, 16_000), (0, 0), (2**31 - 1, 1)])
    for form in ("<II", ">II", "<HH", ">HH"):
        most = 2**31 - 1 if "I" in form else 65_535
        size = struct.pack(form, min(width, most), min(height, most))
        data = data.replace(struct.pack(form, 64, 48), size)
    return data


def _write_sound(file: Path) -> None:
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"\0\1" * 4000)


def make_video(rng: random.Random, folder: Path) -> Case:
    """Write a video that is damaged, of another size than it says, no video at all, or valid."""
    place = folder / rng.choice(["python", "python", "command"])
    place.mkdir()
    ending, codec = rng.choice(_FORMS)
    file = place / f"video{rng.choice(['.mp4', ending])}"
    kind = rng.choice(["damaged"] * 7 + ["no video"] * 3 + ["wide"] * 2 + ["valid"] * 2
                      + ["special", "sound"])  # fmt: skip
    valid: Optional[bool] = False
    change = kind
    if kind == "special":
        change = rng.choice(SPECIAL)
        make_special(change, file)
    elif kind == "sound":
        _write_sound(file)
    elif kind == "no video":
        change = rng.choice(sorted(_NO_VIDEO))
        file.write_bytes(_NO_VIDEO[change])
    else:
        data, valid, change = _encoded(ending, codec), None, f"{codec}{ending}: {kind}"
        if kind == "damaged":
            data, done = break_bytes(rng, data)
            change = f"{codec}{ending}: {done}"
        elif kind == "wide":
            data = _wide(rng, data)
        else:
            valid = True
        file.write_bytes(data)
    return Case(file, valid, f"{place.name}: {change}")


def read_video(file: Path) -> Any:
    """Read frames in Python, or explain by the command line; the folder's name says which."""
    if file.parent.name == "python":
        video = open_video(file)
        frames = read_frames(video, [0, len(video) // 2, len(video) - 1])
        return frames, inspect_frames(video, 0, len(video))
    out = file.parent.parent / "why.png"
    options = ["--model", _clip_model(), "--device", "cpu", "--out", str(out)]
    return run_command(["explain", str(file), *options])
