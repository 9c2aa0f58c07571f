"""Draw the pictures of the docs, and take the screenshots.

    python -m tools.draw_docs pictures    # methods, clips, speakers, peers: three minutes
    python -m tools.draw_docs screens     # the page and the server's demo, in Chromium

They show matplotlib's portrait (US Navy, public domain) and the two photos that scikit-learn ships
(danielbuechele and vultilion, CC BY 2.0). The peers are CAM methods of other libraries (extra
`compare`). The screenshots need the extras `demo` and `export`, and playwright with Chromium.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Literal, Sequence, Tuple

import numpy as np
import timm
import tyro
from PIL import Image, ImageDraw

from benchmarks.demo_load import served_demo
from benchmarks.map_margins import MEASURE
from benchmarks.page_time import WAIT, chromium, served_folder
from se_zoo.demo.runtime import fetch_runtime
from se_zoo.demo.space import write_space
from se_zoo.demo.tabs import VIDEO
from se_zoo.explanations.draw.clips import strip_lines
from se_zoo.explanations.draw.tiles import Legend, Tile, draw_tiles, legend_of
from se_zoo.explanations.explanation import Explanation
from se_zoo.explanations.methods import TABLE
from se_zoo.explanations.quality.peers import check_libraries, peer_explain
from se_zoo.inference.clips import explain_frames
from se_zoo.inference.images import demo_photo
from se_zoo.models.load_model import load_model

ROOT = Path(__file__).resolve().parents[1]
PICTURES, RESULTS = ROOT / "docs" / "pictures", ROOT / "benchmarks" / "results"
FACES, OBJECTS = "se_zoo/resnet18_slim_celeba", "se_zoo/tf_efficientnet_lite0_in1k"
SPEAKER = "se_zoo/asd_tiny_grid"
#: Box of the head in the portrait, as the face model's card has it.
HEAD = (100, 0, 429, 403)
FACE_MODELS = (
    FACES, "se_zoo/resnet50_celeba", "se_zoo/tf_efficientnet_lite0_celeba",
    "se_zoo/vit_tiny_patch16_224_celeba", "se_zoo/convnext_atto_celeba",
)  # fmt: skip
#: Models, photos and labels of the pictures of the peers: every image model of the zoo, and labels
#: that hold of the photo. No row was chosen for its maps.
COMPARED: Dict[str, Sequence[Tuple[str, str, str]]] = {
    "peers": (
        *((name, "head", "Eyeglasses") for name in FACE_MODELS),
        (OBJECTS, "portrait", "military uniform"),
        (OBJECTS, "both", "palace"),
    ),
    "peers_hat": tuple((name, "head", "Wearing_Hat") for name in FACE_MODELS),
}
GRAD_CAM = "grad-cam/GradCAM"
#: Methods whose maps equal Grad-CAM's on heads of pooling and a linear layer.
LIKE_GRAD_CAM = ("GradCAM", "HiResCAM", "XGradCAM", "ShapleyCAM", "LayerGradCam", "CAM")
#: Width and height of a tile, in pixels.
TILE = (160, 197)
ALPHA = 0.75
#: Of the JPEGs: no committed picture has more than 150 kB.
QUALITY = 72
#: Of the pictures of the peers, which have the most tiles.
PEERS_QUALITY = 35


def two_photos() -> Image.Image:
    """Return scikit-learn's temple and flower side by side: one photo with two subjects."""
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    both = Image.new("RGB", (427, 427))
    for left, name in ((0, "china.jpg"), (214, "flower.jpg")):
        photo = Image.open(folder / name)
        middle = photo.width // 2
        both.paste(photo.crop((middle - 107, 0, middle + 107, 427)), (left, 0))
    return both


def portrait_video(path: Path, frames: int = 50) -> Path:
    """Write a video of the portrait, whose painted mouth opens every other half second, with noise.

    Args:
        path: The video, .mp4.
        frames: Number of frames, 25 a second.

    Returns:
        The path.
    """
    import av

    rate = 16_000
    portrait = Image.open(demo_photo()).convert("RGB").resize((256, 300))
    loud = (np.arange(frames) // 12 % 2 == 1).repeat(rate // 25)
    noise = np.random.default_rng(0).normal(0, 0.1, len(loud)) * np.where(loud, 1, 0.01)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 256, 300, "yuv420p"
        voice: Any = container.add_stream("aac", rate)
        voice.layout = "mono"
        for number in range(frames):
            picture = portrait.copy()
            if loud[number * rate // 25]:
                height = 1 + round(5 * abs(np.sin(number * 1.1)))
                box = (122, 131 - height, 143, 131 + height)
                ImageDraw.Draw(picture).ellipse(box, fill=(60, 20, 20))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture))))
        container.mux(stream.encode())
        for begin in range(0, len(noise), 1024):
            part = np.ascontiguousarray(noise[None, begin : begin + 1024].astype(np.float32))
            sound = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            sound.sample_rate, sound.pts = rate, begin
            container.mux(voice.encode(sound))
        container.mux(voice.encode())
    return path


def _save(picture: Image.Image, name: str, quality: int = QUALITY) -> None:
    file = PICTURES / f"{name}.jpg"
    picture.save(file, quality=quality, optimize=True)
    print(f"{file}: {picture.width} x {picture.height}, {file.stat().st_size / 1000:.0f} kB")


def draw_methods() -> None:
    """Draw the maps of all methods side by side: a face, and two labels of one photo."""
    face, both = Image.open(demo_photo()).convert("RGB").crop(HEAD), two_photos()
    cases = [
        (FACES, face, "Eyeglasses", "Smiling"),
        (OBJECTS, both, "palace", "daisy"),
        (OBJECTS, both, "daisy", "palace"),
    ]
    lines: List[List[Tile]] = []
    for name, photo, label, versus in cases:
        model = load_model(name)
        size = (TILE[0], round(TILE[0] * photo.height / photo.width))
        line = [Tile(np.asarray(photo.resize(size, Image.Resampling.LANCZOS)), label)]
        for method in TABLE:
            if method.competing and model.is_multi_label():
                line.append(Tile(np.full((size[1], size[0], 3), 255, np.uint8), "no rivals"))
                continue
            other = versus if method.pairwise else None
            found = model.explain(photo, label, method.name, versus=other)
            drawn = Image.fromarray(found.overlay()[0]).resize(size, Image.Resampling.LANCZOS)
            caption = f"difference to {versus}" if method.pairwise else method.name
            line.append(Tile(np.asarray(drawn), caption))
        lines.append(line)
    signed = load_model(FACES).explain(face, "Eyeglasses", "contribution")
    _save(draw_tiles(lines, [legend_of(signed, ALPHA, None)]), "methods")


def strongest_peer(name: str) -> str:
    """Return the CAM method of others, not Grad-CAM, with the best pixel AP on a model's first set.

    Args:
        name: The model; its figures are in ``benchmarks/results``.
    """
    contents = [json.loads(file.read_text("utf-8")) for file in sorted(RESULTS.glob("*.json"))]
    (content,) = [c for c in contents if "margins" in c and c["options"]["model"] == name]
    first, cases = next((key, count["cases"]) for key, count in content["sets"].items())
    peers = {
        row["peer"] for row in content["margins"] if (row["set"], row["cases"]) == (first, cases)
    }
    means: Dict[str, float] = {
        row["method"]: row["mean"] for row in content["rows"]
        if (row["set"], row["measure"]) == (first, MEASURE)
    }  # fmt: skip
    others = [peer for peer in peers if peer.split("/")[1] not in LIKE_GRAD_CAM]
    return max(others, key=lambda peer: (means[peer], peer))


def _peer_line(name: str, photo: Image.Image, label: str) -> Dict[str, Explanation]:
    """Return the explanations of a line by their captions; the model's default comes first."""
    model = load_model(name)
    found = model.explain(photo, label)
    line = {f"default: {found.method}": found}
    for method in (GRAD_CAM, strongest_peer(name)):
        peer = peer_explain(model, found.images, label, method)
        line[method] = replace(peer, photos=found.photos)
    return {**line, "plain mean": model.explain(photo, label, "activation")}


def draw_peers(name: str) -> None:
    """Draw default maps beside Grad-CAM, the strongest other CAM method and the plain mean.

    Args:
        name: The picture, a key of :data:`COMPARED`.
    """
    check_libraries((GRAD_CAM, "torch-cam/CAM"))
    portrait = Image.open(demo_photo()).convert("RGB")
    photos = {"head": portrait.crop(HEAD), "portrait": portrait, "both": two_photos()}
    lines: List[List[Tile]] = []
    headings: Dict[int, str] = {}
    legends: Dict[bool, Legend] = {}
    for number, (model, which, label) in enumerate(COMPARED[name]):
        photo = photos[which]
        if model not in headings.values():
            headings[number] = model
        size = (TILE[0], round(TILE[0] * photo.height / photo.width))
        found = _peer_line(model, photo, label)
        caption = next(iter(found.values())).captions()[0]
        line = [Tile(np.asarray(photo.resize(size, Image.Resampling.LANCZOS)), *caption)]
        for method, one in found.items():
            drawn = Image.fromarray(one.overlay()[0]).resize(size, Image.Resampling.LANCZOS)
            line.append(Tile(np.asarray(drawn), method))
            legends.setdefault(one.signed, legend_of(one, ALPHA, None, pale=True))
        lines.append(line)
    first, *others = legends.values()  # the notes are the same
    shown = [first._replace(notes=()), *others] if others else [first]
    _save(draw_tiles(lines, shown, headings), name, PEERS_QUALITY)


def draw_clip() -> None:
    """Draw the face model, frame by frame, on a clip: a window that moves over the portrait."""
    faces = load_model(FACES)
    model: Any = timm.create_model(
        "framewise_sehead", backbone="resnet18_slim", num_classes=40, num_frames=6,
        gate="sigmoid", multi_label=True, map_offset=faces.map_offset,
    )  # fmt: skip
    model.load_state_dict(faces.state_dict())
    model.eval().pretrained_cfg.update(faces.pretrained_cfg)
    portrait = Image.open(demo_photo()).convert("RGB")
    x0, y0, x1, y1 = HEAD
    steps = [(60, 150), (36, 105), (12, 60), (-12, 30), (-36, 10), (-60, 0)]
    windows = [portrait.crop((x0 + x, y0 + y, x1 + x, y1 + y)) for x, y in steps]
    frames = np.stack([np.asarray(window) for window in windows])
    explanation, drawn = explain_frames(model, frames, ["Eyeglasses"], "contribution")
    small = [np.asarray(Image.fromarray(frame).resize(TILE)) for frame in drawn[0]]
    lines = strip_lines(explanation, np.stack(small)[None], ALPHA, None)
    _save(draw_tiles(lines, [legend_of(explanation, ALPHA, None)]), "clip")


def draw_speaker() -> None:
    """Draw two frames of a video as `se-zoo speaker` does."""
    from se_zoo.data.faces.detect import HaarDetector
    from se_zoo.models import create_speaker_model
    from se_zoo.speaker import find_tracks, score_tracks, sound_features
    from se_zoo.speaker.annotate import draw_scores
    from se_zoo.speaker.video_frames import Pictures

    with tempfile.TemporaryDirectory() as folder:
        video = portrait_video(Path(folder) / "portrait.mp4", 75)
        pictures = Pictures(video)
        tracks = find_tracks(pictures, HaarDetector())
        model = create_speaker_model(SPEAKER, pretrained=True)
        scored = score_tracks(model, pictures, tracks, sound_features(video, "portrait"), "gate")
        first, scores = scored[0].track.first, scored[0].scores
        # Scores are counted from the track's first frame, pictures from the video's.
        shown = [first + int(scores.argmax()), first + int(scores.argmin())]
        frames = [np.asarray(draw_scores(p, n, scored)) for n, p in enumerate(pictures)]
    _save(draw_tiles([[Tile(frames[n], f"second {n / 25:.2f}") for n in shown]]), "speaker")


def _screens() -> None:
    """Take screenshots of the page, on a desktop's and a phone's size, and of the server's demo."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        _page_screens(browser, Path(folder))
        _server_screens(browser, Path(folder))


def _page_screens(browser: Any, folder: Path) -> None:
    write_space(load_model(FACES), FACES, folder / "space", fetch_runtime())
    with served_folder(folder / "space") as address:
        for name, width, height in (("page_desktop", 1000, 1000), ("page_phone", 390, 844)):
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            page.wait_for_selector("body[data-ready]", timeout=WAIT)
            page.click("#example")
            page.wait_for_selector("#result:not([hidden])", timeout=WAIT)
            _screenshot(page, name, folder, whole=False)
            page.close()


def _screenshot(page: Any, name: str, folder: Path, whole: bool = True) -> None:
    page.screenshot(path=folder / "screen.png", full_page=whole)
    _save(Image.open(folder / "screen.png").convert("RGB"), name)


def _server_screens(browser: Any, folder: Path) -> None:
    video = portrait_video(folder / "portrait.mp4", 75)
    with served_demo(FACES, SPEAKER) as address:
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        page.goto(address)
        page.click("button[role=tab]:has-text('Videos')", timeout=WAIT)
        page.set_input_files(f"#{VIDEO} input[type=file]", str(video), timeout=WAIT)
        page.wait_for_selector(f"#{VIDEO} video", timeout=WAIT)
        page.locator("button:has-text('Explain'):visible").click()
        page.wait_for_selector("text=/face 0: second/", timeout=WAIT)
        page.wait_for_timeout(2000)  # the drawn video begins to play
        _screenshot(page, "demo_videos", folder)
        page.close()


def main(which: tyro.conf.Positional[Literal["pictures", "screens"]]) -> None:
    """Draw the pictures, or take the screenshots."""
    if which == "screens":
        _screens()
    else:
        draw_methods()
        draw_clip()
        draw_speaker()
        for name in COMPARED:
            draw_peers(name)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
