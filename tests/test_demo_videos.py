"""Videos on the demo's server: drawn as the commands draw them, within limits."""

import json
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import se_zoo
from se_zoo.demo import explainers, videos
from se_zoo.errors import InvalidInputError, SEZooError, UnknownModelError
from se_zoo.explanations.methods import SINGLE_CLASS_METHODS, SPEAKER_METHODS
from se_zoo.inference.images import demo_photo
from tools.draw_docs import portrait_video

from .page_server import (
    browser,  # noqa: F401
    other_hosts,
    served_demo,
)
from .video_files import av, numbered, write

pytest.importorskip("cv2", reason="finding faces needs OpenCV (extra: speaker)")
SPEAKER = "se_zoo/asd_tiny_grid"


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait_video(tmp_path_factory.mktemp("portrait") / "talk.mp4")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a clip model that somebody trained."""
    folder = tmp_path_factory.mktemp("own") / "export"
    torch.manual_seed(0)
    model: Any = timm.create_model(
        "framewise_sehead", backbone="test_resnet", num_frames=4, num_classes=3, gate="sigmoid"
    )
    se_zoo.save(model.eval(), folder, labels=["run", "jump", "sit"])
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def offered(own: str) -> videos.VideoExplainers:
    return explainers.Explainers([own, SPEAKER], any_model=False).videos


def streams(path: Path) -> List[int]:
    """Return the number of decoded pictures, and that of sound tracks."""
    with av.open(str(path)) as container:
        return [sum(1 for _ in container.decode(video=0)), len(container.streams.audio)]


def test_a_speaker_model_draws_the_video_and_keeps_its_sound(
    offered: Any, portrait: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    answer = offered.answer(portrait, SPEAKER, None, "gate", out)
    assert answer.probabilities is None
    assert "face 0: second 0.00 to 2.00, speaks in " in answer.notes
    assert streams(out) == [50, 1]
    with av.open(str(out)) as container:
        drawn = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    plain = np.asarray(Image.open(demo_photo()).convert("RGB").resize((256, 300))).astype(int)
    changed = np.abs(drawn - plain).max(2) > 60
    assert changed[30:150, 60:200].sum() > 200  # the face
    assert not changed[200:270].any()  # not the uniform; below it lies the legend


def test_a_clip_model_of_a_folder_answers_as_in_python(
    own: str, offered: Any, portrait: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    answer = offered.answer(portrait, own, "jump", "contribution", out)
    model = explainers.load_any(own)
    wanted = model.explain(se_zoo.load_clip(model, portrait), "jump").probabilities[0]
    assert answer.probabilities is not None and set(answer.probabilities) == {"run", "jump", "sit"}
    for name, share in zip(["run", "jump", "sit"], wanted.tolist(), strict=True):
        assert answer.probabilities[name] == pytest.approx(share, abs=1e-4)
    assert answer.notes.startswith("**jump ") and "4 frames from second" in answer.notes
    assert streams(out) == [4, 0]
    likeliest = max(answer.probabilities, key=lambda name: answer.probabilities[name])
    second = offered.answer(portrait, own, None, "gate", out)
    assert second.notes.startswith(f"**{likeliest} ")


def test_models_of_photos_and_videos_are_kept_apart(own: str, offered: Any) -> None:
    both = explainers.Explainers([own, "se_zoo/resnet18_slim_celeba"], any_model=False)
    assert both.names == ("se_zoo/resnet18_slim_celeba",) and both.videos.names == (own,)
    with pytest.raises(UnknownModelError, match="offers se_zoo/resnet18_slim_celeba"):
        both.model(own)
    with pytest.raises(UnknownModelError, match="for videos this demo offers"):
        offered.model("local-dir:/etc")
    assert offered.labels(own) == ["run", "jump", "sit"] and offered.labels(SPEAKER) == []
    assert offered.methods(own) == list(SINGLE_CLASS_METHODS)
    assert offered.methods(SPEAKER)[0] == offered.model(SPEAKER).map_method == "gate"
    assert sorted(offered.methods(SPEAKER)) == sorted(SPEAKER_METHODS)


def test_users_cannot_load_a_clip_model_for_photos(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = explainers.Explainers([], any_model=True)
    monkeypatch.setattr(explainers, "_load", lambda name: explainers.load_any(own))
    with pytest.raises(InvalidInputError, match="takes videos"):
        demo.model("framewise_sehead")


def slow_video(path: Path, frames: int, fps: int, width: int = 64, height: int = 64) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(number % 256, height, width))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_videos_beyond_the_limits_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos.check_video(slow_video(tmp_path / "fits.mp4", frames=31, fps=1))
    long = slow_video(tmp_path / "long.mp4", frames=34, fps=1)
    many = slow_video(tmp_path / "many.mp4", frames=1801, fps=100)
    large = slow_video(tmp_path / "large.mp4", frames=1, fps=25, width=1936, height=1096)
    for path, message in (
        (long, "longer than 30 seconds"),
        (many, "more than 1800 frames; cut it"),
        (large, "1936 x 1096 pixels, more than 1920 x 1080"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            videos.check_video(path)
    monkeypatch.setattr(videos, "MAX_PACKETS", 20)
    with pytest.raises(InvalidInputError, match="cut it"):
        videos.check_video(tmp_path / "fits.mp4")


def test_a_crowd_is_refused(
    offered: Any, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(videos, "MAX_FACE_FRAMES", 49)
    with pytest.raises(InvalidInputError, match="shows 1 faces, too many"):
        offered.answer(portrait, SPEAKER, None, "gate", tmp_path / "out.mp4")
    assert not list(tmp_path.iterdir())


def test_wrong_videos_and_names_give_a_sentence_without_a_path(
    own: str, offered: Any, portrait: Path, tmp_path: Path
) -> None:
    out = tmp_path / "drawn" / "out.mp4"
    out.parent.mkdir()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n")
    silent = write(tmp_path / "silent.mp4", 12)
    cases: List[Any] = [
        (None, SPEAKER, None, "gate", "Choose a video first"),
        (tmp_path / "text.mp4", SPEAKER, None, "gate", "not a video that can be read"),
        (tmp_path / "list.mp4", own, None, "gate", "not a video that can be read"),
        (demo_photo(), own, None, "gate", "not a video that can be read"),
        (silent, SPEAKER, None, "gate", "the video has no sound"),
        (portrait, SPEAKER, None, "support", "Unknown map 'support'"),
        (portrait, own, None, "difference", "Unknown map 'difference'"),
        (portrait, own, "walk", "gate", "Unknown label 'walk'"),
    ]
    for video, model, label, method, message in cases:
        with pytest.raises(SEZooError, match=message) as refused:
            offered.answer(video, model, label, method, out)
        assert str(tmp_path) not in explainers.sentence(refused.value)
        assert not list(out.parent.iterdir())


# On the server


@pytest.fixture(scope="module")
def address(own: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not find_spec("gradio"):  # importing it takes seconds
        pytest.skip("gradio is not installed: extra demo")
    with served_demo(tmp_path_factory.mktemp("server"), SPEAKER, own) as served:
        yield served


def ask_raw(address: str, path: str) -> str:
    """Ask as an attacker would, without Gradio's client; return the stream of events."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    content = json.dumps({"data": [file, SPEAKER, None, "gate"]}).encode()
    call = f"{address}gradio_api/call/explain_video"
    request = urllib.request.Request(call, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=60) as answer:
        return answer.read().decode()


@pytest.mark.filterwarnings("default")  # Gradio and its parts warn about each other
def test_the_server_takes_uploads_alone(
    address: str, own: str, portrait: Path, tmp_path: Path
) -> None:
    import gradio_client

    client = gradio_client.Client(address, verbose=False, download_files=str(tmp_path))
    label, method, shown = client.predict(own, api_name="/maps")
    assert [name for name, _ in label["choices"]] == ["run", "jump", "sit"]
    assert [name for name, _ in method["choices"]] == list(SINGLE_CLASS_METHODS)
    assert shown["visible"] is True
    file = gradio_client.handle_file(str(portrait))
    drawn, shares, notes = client.predict(file, own, "sit", "support", api_name="/explain_video")
    assert streams(Path(drawn)) == [4, 0]
    assert len(shares["confidences"]) == 3 and notes.startswith("**sit")
    (tmp_path / "text.mp4").write_text("not a video")
    wrong = gradio_client.handle_file(str(tmp_path / "text.mp4"))
    with pytest.raises(Exception, match="This file is not a video that can be read"):
        client.predict(wrong, SPEAKER, None, "gate", api_name="/explain_video")
    client.close()
    for path in (str(portrait), "/etc/hostname", f"{address}theme.css"):
        events = ask_raw(address, path)
        assert "event: error" in events and "event: complete" not in events, path


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_page_plays_the_drawn_video_and_asks_no_other_host(
    address: str, portrait: Path, browser: Any, tmp_path: Path
) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    asked: List[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.set_input_files("input[type=file]", str(portrait), timeout=120_000)
    page.wait_for_selector("video", timeout=120_000)
    page.click("button:has-text('Explain')")
    page.wait_for_selector("text=/face 0: second 0.00 to 2.00/", timeout=120_000)
    page.wait_for_function(
        "[...document.querySelectorAll('video')].filter((v) => v.duration > 1.9).length == 2",
        timeout=120_000,
    )
    scissors = page.locator("button[aria-label^='Trim']")  # they load from another host
    assert scissors.count() == 1 and not scissors.is_visible()
    page.screenshot(path=tmp_path / "videos.png", full_page=True)
    page.close()
    assert not other_hosts(asked, address)
