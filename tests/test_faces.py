"""Faces in photos: found by any detector, framed as in CelebA, drawn in the whole photo."""

import io
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from PIL import Image

from se_zoo import FaceFinder, InvalidInputError, SEZooWarning
from se_zoo.data.faces.detect import Face, HaarDetector, YuNetDetector, find_faces
from se_zoo.data.faces.find import frame_of
from se_zoo.inference.images import demo_photo

from .brightness import brightness_model, red_centre, spotted

NO_CV = "finds faces: needs se_zoo[face]"
#: Hopper's eyes in matplotlib's portrait, and the crop that its own demo uses.
HOPPER_EYES, HOPPER_CROP = ((227, 193), (308, 195)), (100, 0, 429, 403)


def at(*faces: Any) -> Any:
    """A detector that finds these faces in every picture."""
    return lambda picture: list(faces)


def overlap(one: Any, other: Any) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


# Framing


def test_a_frame_by_the_eyes_is_that_of_aligned_celeba() -> None:
    eyes = ((69.5, 111.5), (108.5, 111.5))
    assert frame_of(Face(40, 60, 140, 190, eyes)) == (0, 0, 178, 218)
    larger = tuple((3 * x + 500, 3 * y + 40) for x, y in eyes)
    assert frame_of(Face(0, 0, 1, 1, larger)) == (500, 40, 500 + 534, 40 + 654)  # type: ignore[arg-type]


def test_a_turned_head_is_framed_by_the_distance_that_its_eyes_would_have() -> None:
    near = Face(0, 0, 1, 1, ((79.0, 111.5), (99.0, 111.5)), eye_distance=39)
    assert frame_of(near) == (0, 0, 178, 218)


def test_a_frame_by_the_box_lies_around_it() -> None:
    x0, y0, x1, y1 = frame_of(Face(100, 100, 200, 200))
    assert x0 < 70 and y0 < 60 and x1 > 230 and y1 > 230
    assert (x1 - x0) / (y1 - y0) == pytest.approx(178 / 218, abs=0.01)


def test_faces_of_a_huge_photo_are_in_its_own_pixels() -> None:
    finder = FaceFinder(at(Face(400, 300, 500, 420, ((430, 340), (470, 340)))))
    (framed,) = finder(Image.new("RGB", (5120, 2560)))  # searched at a quarter of its size
    assert framed.box[0] == pytest.approx(450 * 4 - 89 * 160 / 39, abs=2)
    assert framed.image.size == (framed.box[2] - framed.box[0], framed.box[3] - framed.box[1])
    assert framed.image.width == pytest.approx(178 * 160 / 39, abs=2)


# Explaining


def test_the_map_of_a_face_lies_in_the_whole_photo() -> None:
    photo = spotted(600, 400, 0.7, 0.5, share=0.1)  # a face around it, at (420, 200)
    found = Face(370, 140, 470, 260, ((400, 190), (440, 190)))
    explanation = brightness_model((128, 104)).explain(photo, 0, face=FaceFinder(at(found)))
    (seen,) = explanation.photos
    assert seen.size == (600, 400)
    x0, y0, x1, _y1 = seen.region
    assert x1 - x0 == pytest.approx(178 * 40 / 39, abs=3) and x0 < 370 < 470 < x1 and y0 < 120
    drawn: Any = explanation.overlay()
    assert drawn.shape == (1, 400, 600, 3)
    assert red_centre(drawn[0]) == pytest.approx((0.7, 0.5), abs=0.02)
    assert drawn[0, 10, 10, 0] > 120, "what the model did not see is pale"
    grid = explanation.grid()
    assert grid.height < 290, "the overlays show the face alone"
    assert explanation.to_dict()["images"][0]["photo"]["frame"] == list(seen.frame)


def test_a_face_at_the_edge_is_framed_beyond_it() -> None:
    found = Face(0, 0, 60, 80, ((20, 30), (50, 30)))
    explanation = brightness_model().explain(spotted(200, 200, 0.2, 0.2), 0, face=at(found))
    x0, y0, _, _ = explanation.photos[0].region
    assert x0 < -20 and y0 < -20
    drawn: Any = explanation.overlay()
    assert red_centre(drawn[0]) == pytest.approx((0.2, 0.2), abs=0.04)


def test_a_photo_without_a_face_is_refused_with_its_name(tmp_path: Path) -> None:
    spotted(60, 60, 0.5, 0.5).save(tmp_path / "lake.png")
    with pytest.raises(InvalidInputError, match=r"lake\.png: no face"):
        brightness_model().explain(tmp_path / "lake.png", face=at())


def test_of_several_faces_the_largest_is_explained_with_a_warning() -> None:
    small, large = Face(10, 10, 40, 50), Face(100, 60, 180, 160)
    with pytest.warns(SEZooWarning, match="2 faces.*each=True"):
        explanation = brightness_model().explain(
            spotted(300, 200, 0.5, 0.5), 0, face=at(small, large)
        )
    assert len(explanation) == 1 and explanation.photos[0].region[0] > 40


def test_each_face_is_explained_on_request() -> None:
    right, left = Face(100, 60, 180, 160), Face(10, 10, 40, 50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explanation = brightness_model().explain(
            [spotted(300, 200, 0.5, 0.5), spotted(100, 300, 0.5, 0.5)], [0, 1],
            face=FaceFinder(at(right, left), each=True),
        )  # fmt: skip
    assert len(explanation) == 4 and len(explanation.target) == 8
    assert [photo.name for photo in explanation.photos] == [
        "image 0, face 0", "image 0, face 1", "image 1, face 0", "image 1, face 1",
    ]  # fmt: skip
    assert explanation.photos[0].region[0] < explanation.photos[1].region[0]
    assert explanation.grid().height > 0


def test_a_face_found_twice_counts_once() -> None:
    boxes: List[Any] = [(10, 10, 110, 130), (30, 40, 90, 100)]
    (face,) = find_faces(at(*boxes), np.zeros((200, 200, 3), np.uint8))
    assert face == Face(10, 10, 110, 130)


def test_a_face_that_fills_the_photo_is_drawn_in_the_photo() -> None:
    photo = spotted(178, 218, 0.5, 0.5)
    shown = {}
    for name, width in (("filling", 1.0), ("small", 0.3)):
        eyes = ((89 - 19.5 * width, 111), (89 + 19.5 * width, 111))
        found = FaceFinder(at(Face(0, 0, 1, 1, eyes)))
        shown[name] = brightness_model((218, 178)).explain(photo, 0, face=found).grid()
    plain = brightness_model((218, 178)).explain(photo, 0).grid()
    assert shown["filling"].size == plain.size != shown["small"].size


# OpenCV's detectors


def test_missing_and_foreign_networks_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    model = brightness_model()
    with pytest.raises(InvalidInputError, match="no such file"):
        model.explain(spotted(60, 60, 0.5, 0.5), face=tmp_path / "yunet.onnx")
    (tmp_path / "yunet.onnx").write_bytes(b"no network")
    with pytest.raises(InvalidInputError, match="no YuNet"):
        model.explain(spotted(60, 60, 0.5, 0.5), face=str(tmp_path / "yunet.onnx"))


def test_cascades_frame_the_portrait() -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    explanation = brightness_model().explain(demo_photo(), face=True)
    frame = explanation.photos[0].frame
    assert frame is not None and overlap(frame, HOPPER_CROP) > 0.6


def test_cascades_find_profiles_where_asked_for() -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    calls: List[str] = []

    class Cascade:
        def __init__(self, name: str, found: Any):
            self.name, self.found = name, found

        def detectMultiScale(self, grey: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(self.name)
            return self.found(grey)

    detector = HaarDetector(profile=True)
    mirrored = Cascade("profile", lambda grey: [(0, 5, 30, 30)] if grey[0, 0] == 9 else [])
    detector._cascades = [Cascade("frontal", lambda grey: []), mirrored]
    picture = np.zeros((50, 100, 3), np.uint8)
    picture[0, -1] = 9
    assert detector(picture) == [(70, 5, 100, 35)]
    detector._cascades[0].found = lambda grey: [(1, 2, 30, 30)]
    calls.clear()
    assert detector(picture) == [(1, 2, 31, 32)] and calls == ["frontal"]


def test_threads_share_cascades() -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    inside: List[int] = []

    class Cascade:
        def detectMultiScale(self, *args: Any, **kwargs: Any) -> Any:
            inside.append(1)
            time.sleep(0.02)
            assert inside.pop() and not inside, "two searches at once"
            return []

    detector = HaarDetector()
    detector._cascades = [Cascade()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(detector, [np.zeros((50, 60, 3), np.uint8)] * 8))


@pytest.mark.data
def test_yunet_finds_the_eyes_of_the_portrait(data_dir: Path) -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    weights = data_dir / "weights" / "face_detection_yunet_2026may.onnx"
    with Image.open(demo_photo()) as photo:
        (face,) = find_faces(YuNetDetector(weights), np.asarray(photo))
    assert face.eyes is not None
    assert np.abs(np.array(face.eyes) - HOPPER_EYES).max() < 8
    explanation = brightness_model().explain(demo_photo(), face=weights)
    frame = explanation.photos[0].frame
    assert frame is not None and overlap(frame, HOPPER_CROP) > 0.7


@pytest.mark.data
def test_faces_are_framed_as_in_celeba(data_dir: Path) -> None:
    """Aligned images, pasted into larger pictures, are cut out again as they were."""
    pytest.importorskip("cv2", reason=NO_CV)
    parquet = pytest.importorskip("pyarrow.parquet")
    file = parquet.ParquetFile(data_dir / "celeba46k" / "valid.parquet")
    rows = next(file.iter_batches(batch_size=12, columns=["image"])).column("image").to_pylist()
    finders = {
        "yunet": FaceFinder(data_dir / "weights" / "face_detection_yunet_2026may.onnx"),
        "cascades": FaceFinder(),
    }
    overlaps: dict = {name: [] for name in finders}
    for row in rows:
        with Image.open(io.BytesIO(row["bytes"])) as image:
            aligned = image.convert("RGB").resize((208, 256))
        photo = Image.new("RGB", (640, 480), (90, 110, 100))
        photo.paste(aligned, (200, 120))
        for name, finder in finders.items():
            try:
                (framed,) = finder(photo)
            except InvalidInputError:  # cascades miss some
                continue
            overlaps[name].append(overlap(framed.box, (200, 120, 408, 376)))
    assert len(overlaps["yunet"]) == 12 and np.median(overlaps["yunet"]) > 0.86
    assert len(overlaps["cascades"]) >= 8 and np.median(overlaps["cascades"]) > 0.75
