"""Which tracks of a video are faces: filters, tables of boxes, and what detectors say."""

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

from se_zoo.data.faces.detect import Face, HaarDetector, YuNetDetector, open_detector
from se_zoo.data.faces.find import square_of
from se_zoo.errors import DataError, InvalidInputError
from se_zoo.speaker import FaceFilter, Track, Tracker, find_tracks, read_boxes, tracks_of_boxes

NO_CV = "finds faces: needs se_zoo[face]"
BOX = (10.0, 12.0, 40.0, 42.0)
BLANK = np.zeros((60, 80, 3), np.uint8)


def tracks_of(faces: List[List[Any]], **options: Any) -> List[Track]:
    """Tracks of detections, one list a frame, each frame being searched."""
    coming = iter(faces)
    return find_tracks([BLANK] * len(faces), lambda _: next(coming), every=1, **options)


def track(first: int = 0, count: int = 20, side: float = 30, **more: Any) -> Track:
    return Track(first, np.tile([5.0, 5.0, 5 + side, 5 + side], (count, 1)), **more)


# Filters


def test_a_track_has_the_mean_score_of_its_detections() -> None:
    found = [[Face(*BOX, score=0.9 if n % 2 else 0.5)] for n in range(20)]
    (one,) = tracks_of(found)
    assert one.score == pytest.approx(0.7) and one.found == 1
    assert tracks_of([[BOX]] * 20)[0].score is None
    low = [[Face(*BOX, score=float(n % 3 == 0))] for n in range(30)]
    assert tracks_of(low) == [] and len(tracks_of(low, keep=FaceFilter(score=0.3))) == 1


def test_a_flickering_detection_is_no_face() -> None:
    flicker = [[BOX] if n % 4 == 0 else [] for n in range(40)]
    assert tracks_of(flicker) == []
    (one,) = tracks_of(flicker, keep=FaceFilter(found=0.1))
    assert one.found == pytest.approx(10 / 37)
    often = [[BOX] if n % 2 == 0 else [] for n in range(40)]
    assert len(tracks_of(often)) == 1


def test_small_and_short_tracks_are_left_out() -> None:
    tracks = [track(), track(side=4), track(count=12)]
    assert FaceFilter().kept(tracks, 100) == tracks
    assert FaceFilter(smallest=0.1).kept(tracks, 100) == [tracks[0], tracks[2]]
    assert FaceFilter(shortest=15).kept(tracks, 100) == tracks[:2]
    assert FaceFilter(shortest=3).kept([track(count=4)], 100)
    assert len(tracks_of([[BOX]] * 4, keep=FaceFilter(shortest=4))) == 1


def test_the_largest_faces_of_each_time_are_kept() -> None:
    large, small, later = track(side=40), track(side=20), track(first=20, side=10)
    kept = FaceFilter(most=1).kept([small, large, later], 100)
    assert sorted(one.first for one in kept) == [0, 20] and small not in kept
    _, rest = FaceFilter(most=1).kept([large, track(first=18, side=10)], 100)
    assert (rest.first, len(rest)) == (20, 18), "tracks of the same face may touch"
    assert len(FaceFilter(most=2).kept([small, large, later], 100)) == 3


def test_the_free_parts_of_a_track_are_kept() -> None:
    """Neither is the whole track dropped, nor are more faces kept at a time."""
    before = track(first=30, count=20, side=40)
    small = track(count=60, side=20, score=0.8)
    small.boxes = small.boxes + np.arange(60)[:, None]
    _, first, second = FaceFilter(most=1).kept([small, before], 100)
    assert [(one.first, one.after) for one in (first, second)] == [(0, 30), (50, 60)]
    assert np.array_equal(second.boxes, small.boxes[50:]) and second.score == 0.8
    _, only = FaceFilter(most=1, shortest=12).kept([small, before], 100)
    assert (only.first, only.after) == (0, 30)


# Detectors


def test_a_face_with_eyes_gets_the_square_of_the_cascades() -> None:
    """In an aligned image of CelebA this is the box that the cascades find, whatever YuNet's."""
    eyes = ((69.5, 111.5), (108.5, 111.5))
    x0, y0, x1, y1 = square_of(Face(50, 70, 130, 180, eyes))
    assert x1 - x0 == y1 - y0 == pytest.approx(106.5)
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((88.6, 124.1))
    assert square_of(Face(*BOX)) == BOX
    tracker = Tracker(shortest=1)
    tracker.add(0, [Face(50, 70, 130, 180, eyes)])
    assert tracker.end()[0].boxes[0] == pytest.approx([x0, y0, x1, y1])


def test_the_second_cascade_scores_what_the_first_finds() -> None:
    pytest.importorskip("cv2", reason=NO_CV)

    class Cascade:
        def __init__(self, found: List[Tuple[int, ...]]):
            self.found, self.seen = found, []  # type: Tuple[Any, List[Any]]

        def detectMultiScale(self, grey: Any, *_: Any, **__: Any) -> Any:
            self.seen.append(grey)
            return self.found if grey.mean() > 100 else []

    detector = HaarDetector(confirm=True)
    second = Cascade([(1, 1, 50, 50)])
    detector._cascades = [type("First", (), {"detectMultiScale": staticmethod(
        lambda *_, **__: [(0, 0, 20, 20), (40, 20, 20, 20)])})()]  # fmt: skip
    detector._second = second
    picture = BLANK.copy()
    picture[:30, :30] = 200
    (bright, dark) = detector(picture)
    assert (bright.score, dark.score) == (1, 0) and bright.box == (0, 0, 20, 20)
    assert [part.shape for part in second.seen] == [(96, 96)] * 2


def test_without_cascades_the_message_names_yunet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in OpenCV 5."""
    cv = pytest.importorskip("cv2", reason=NO_CV)
    monkeypatch.delattr(cv, "CascadeClassifier")
    with pytest.raises(InvalidInputError, match="YuNet's ONNX file"):
        open_detector()


@pytest.mark.data
def test_yunet_frames_a_face_as_the_cascades_do(data_dir: Path) -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    from se_zoo.speaker.video_frames import Pictures

    picture = next(iter(Pictures(data_dir / "grid" / "video" / "multi_brbk7n.mpg")))
    yunet = open_detector(data_dir / "weights" / "face_detection_yunet_2026may.onnx")
    assert isinstance(yunet, YuNetDetector)
    (face,), (box,) = yunet(picture), open_detector()(picture)
    assert isinstance(face, Face) and face.score is not None and face.score > 0.9
    assert face.mouth is not None and face.eyes is not None
    assert face.mouth[0][1] > face.eyes[0][1] + 20 and face.mouth[1][0] > face.mouth[0][0] + 10
    assert np.abs(np.array(square_of(face)) - np.array(box[:4])).max() < 15
    assert isinstance(box, Face) and box.score == 1


# Tables of boxes


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "boxes.csv"
    path.write_text(text, "utf-8")
    return path


def test_boxes_of_a_table_become_tracks(tmp_path: Path) -> None:
    """In frames of a file of 50 per second; between rows, boxes are interpolated."""
    path = table(
        tmp_path,
        "track,frame,x0,y0,x1,y1,note\nann,0,0,0,10,10,hello\nann,20,20,0,30,10,\nbob,10,5,5,9,9,"
        "\nbob,12,5,5,9,9,\nann,90,1,1,9,9,\n",
    )
    numbers = list(range(0, 100, 2))
    ann, bob, again = tracks_of_boxes(read_boxes(path), numbers, (80, 60), "boxes")
    assert (ann.first, len(ann)) == (0, 11) and (bob.first, len(bob)) == (5, 2)
    np.testing.assert_allclose(ann.boxes[:, 0], np.arange(0, 22, 2))
    assert (again.first, len(again)) == (45, 1), "more than a second without a row"


def test_the_last_frame_of_a_fast_video_may_have_a_box(tmp_path: Path) -> None:
    """At 25 a second the last frame of the file is not shown."""
    rows = read_boxes(table(tmp_path, "\n".join(f"{n},5,5,25,25" for n in range(100))))
    numbers = list(range(0, 100, 2))
    (one,) = tracks_of_boxes(rows, numbers, (80, 60), "boxes", 100)
    assert (one.first, len(one)) == (0, 50)
    with pytest.raises(DataError, match="frames 0 to 98"):
        tracks_of_boxes(rows, numbers, (80, 60), "boxes", 99)


def test_boxes_without_names_are_joined_by_place(tmp_path: Path) -> None:
    rows = [f"{n},{5 + n},5,{25 + n},25\n{n},50,30,70,50" for n in range(0, 20, 4)]
    path = table(tmp_path, "\n".join(rows))
    left, right = tracks_of_boxes(read_boxes(path), list(range(30)), (80, 60), "boxes")
    assert (left.first, len(left)) == (right.first, len(right)) == (0, 17)
    np.testing.assert_allclose(left.boxes[:, 0], 5 + np.arange(17))
    assert (right.boxes == [50, 30, 70, 50]).all()


def test_a_video_of_few_frames_repeats_their_boxes() -> None:
    from se_zoo.speaker import BoxRow

    rows = [BoxRow(n, BOX, "") for n in range(3)]
    (one,) = tracks_of_boxes(rows, [0, 0, 1, 1, 2, 2], (80, 60), "boxes")
    assert (one.first, len(one)) == (0, 6)


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "has no rows"),
        ("frame,x0,y0,x1\n0,1,1,2\n", "lacks the columns y1"),
        ("frame,x0,y0,x1,y1\n0,1,1,two,2\n", "line 2.*must be numbers"),
        ("0,1,1,2\n", "lacks the columns y1"),
        ("frame,x0,y0,x1,y1\n0,1,1\n", "line 2.*must be numbers"),
        ("0.5,1,1,2,2\n", "line 1: the frame is 0.5"),
        ("-1,1,1,2,2\n", "line 1: the frame is -1"),
        ("0,9,1,2,2\n", "the box is 9, 1, 2, 2"),
        ("99,1,1,2,2\n", "lies outside the video, which has frames 0 to 9 of 80 x 60"),
        ("0,100,1,120,20\n", "lies outside"),
        ("0,0.2,0.1,0.5,0.6\n4,0.3,0.1,0.6,0.6\n", "multiply fractions"),
        ("0,1,1,2,2,a\n0,1,1,2,2,a\n", "track a has two boxes in frame 0"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(DataError, match=says):
        tracks_of_boxes(read_boxes(path), list(range(10)), (80, 60), str(path))


# The benchmarks


def test_a_track_is_false_if_it_lies_beside_the_pasted_head() -> None:
    pytest.importorskip("pyarrow", reason="the benchmark reads parquet (extra: predict)")
    from benchmarks.face_tracks import HEAD, _is_head

    assert _is_head(track(side=40), (0, 0)) and not _is_head(track(side=40), (60, 60))
    leaves = Track(0, np.tile([5.0, 5.0, 45.0, 45.0], (20, 1)) + np.arange(20)[:, None] * 12)
    assert not _is_head(leaves, (0, 0)) and HEAD == (130, 160)


def test_the_mouth_is_a_box_around_its_corners() -> None:
    from benchmarks.speech import mouth_box

    assert mouth_box(np.array([[40.0, 80.0], [60.0, 80.0]])).tolist() == [32, 67, 68, 93]
