"""Data sets of videos: which frames make a clip, what is left out, and what training sees."""

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Sequence

import numpy as np
import pytest
import timm
import torch

import se_zoo
from se_zoo.data import ClipDataConfig, Footage, check, open_table
from se_zoo.data.video.sampling import (
    at_rate,
    evaluation_indices,
    segment_indices,
    training_indices,
)
from se_zoo.errors import DataError, InvalidInputError

from .video_files import number_of, write, write_lossless

SPLITS = ("train", "test", "test")


def folder_of(root: Path, lengths: Dict[str, Sequence[int]], splits: Sequence[str]) -> Path:
    """``<split>/<class>/<n>.mp4``, of so many numbered frames each."""
    for split in splits:
        for name, counts in lengths.items():
            (root / split / name).mkdir(parents=True)
            for n, count in enumerate(counts):
                write(root / split / name / f"{n}.mp4", count, bf="2")
    return root


@pytest.fixture(scope="module")
def actions(tmp_path_factory: Any) -> Path:
    """Two classes in two splits, three videos each of 10, 20 and 30 frames."""
    lengths = {"jump": (10, 20, 30), "run": (10, 20, 30)}
    return folder_of(tmp_path_factory.mktemp("actions"), lengths, ("train", "test"))


# Which frames


@pytest.mark.parametrize(
    "seconds, fps, expected",
    [
        ([i / 25 for i in range(6)], 25, [0, 1, 2, 3, 4, 5]),
        ([i / 50 for i in range(6)], 25, [0, 2, 4]),
        ([i / 10 for i in range(3)], 20, [0, 0, 1, 1, 2, 2]),
        ([round(i / 30, 3) for i in range(7)], 30, [0, 1, 2, 3, 4, 5, 6]),  # rounded to 1/1000 s
        ([0, 0.1, 0.9, 1.0], 5, [0, 1, 1, 2, 2, 3, 3]),
        ([5.0, 5.5], 2, [0, 1]),
        ([3.0], 25, [0]),
        ([0.0, 0.1, 0.7], None, [0, 1, 2]),
    ],
)
def test_frames_at_a_rate(seconds: List[float], fps: Any, expected: List[int]) -> None:
    assert at_rate(seconds, fps) == expected


def test_a_wrong_time_stamp_does_not_fill_the_memory_with_frames() -> None:
    seconds = np.array([i / 25 for i in range(10**5)] + [3.6e9])
    with pytest.raises(DataError, match="time stamps of a video span 1,000,0"):
        at_rate(seconds, 25)
    named: Any = SimpleNamespace(name="a.mp4", seconds=seconds)
    with pytest.raises(DataError, match=r"time stamps of a\.mp4 span"):
        Footage(named, 0, len(seconds)).at_rate(25)


def test_segments_cover_the_video() -> None:
    assert segment_indices(8, [0.5] * 4) == [1, 3, 5, 7]
    assert segment_indices(8, [0.0, 0.99, 0.0, 0.99]) == [0, 3, 4, 7]
    assert segment_indices(2, [0.5] * 4) == [0, 0, 1, 1]
    assert segment_indices(1, [0.9] * 3) == [0, 0, 0]


@pytest.mark.parametrize("frames", [1, 3, 16, 61])
def test_training_clips_lie_inside_and_differ(frames: int) -> None:
    for sampling in ("dense", "segments"):
        torch.manual_seed(0)
        clips = [training_indices(frames, 8, 2, sampling) for _ in range(40)]  # type: ignore[arg-type]
        assert all(len(c) == 8 and 0 <= min(c) and max(c) < frames for c in clips)
        assert all(c == sorted(c) for c in clips)
        assert (len({tuple(c) for c in clips}) > 5) == (frames > 16 or (sampling, frames) == (
            "segments", 16))  # fmt: skip
        torch.manual_seed(0)
        assert clips[0] == training_indices(frames, 8, 2, sampling)  # type: ignore[arg-type]
    before = torch.get_rng_state()
    assert training_indices(frames, 8, 2, "uniform") == segment_indices(frames, [0.5] * 8)
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_clips_are_spread_over_the_video() -> None:
    assert evaluation_indices(21, 3, 2) == [[8, 10, 12]]
    assert evaluation_indices(21, 3, 2, clips=3) == [[0, 2, 4], [8, 10, 12], [16, 18, 20]]
    assert evaluation_indices(12, 3, 9, "segments") == [[2, 6, 10]]
    assert evaluation_indices(12, 3, 9, "uniform", 2) == [[1, 5, 9], [3, 7, 11]]


# Tables


def numbers(table: Any, row: int, wanted: Sequence[int] = ()) -> List[int]:
    """The numbers that a sample's frames show."""
    footage = table[row][0]
    return [number_of(p) for p in footage.read(wanted or footage.at_rate(None))]


def test_folder_per_class(actions: Path) -> None:
    config = ClipDataConfig(str(actions), splits=SPLITS)
    table = open_table(config, "train")
    assert table.labels == ("jump", "run") and table.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert numbers(table, 1) == list(range(20)) and table[4][1] == 1
    assert len(open_table(replace(config, limit=2), "train")) == 2
    with pytest.raises(DataError, match=r"has no images\. It has videos"):
        from se_zoo.data import DataConfig

        open_table(DataConfig(str(actions), splits=SPLITS), "train")


def listing(root: Path, *rows: str, header: str = "video,label,start,end") -> ClipDataConfig:
    (root / "clips.csv").write_text("\n".join([header, *rows]) + "\n")
    return ClipDataConfig(str(root), csv=root / "clips.csv", label="label", splits=("train",) * 3)


def test_parts_of_videos(tmp_path: Path) -> None:
    """A row of a csv is exactly the frames that are shown from start to end."""
    write(tmp_path / "n.mp4", 50, bf="2")  # 25 frames a second
    table = open_table(
        listing(tmp_path, "n.mp4,a,0.4,0.8", "n.mp4,b,0,0.04", "n.mp4,b,1.9,99"), "train"
    )
    assert numbers(table, 0) == list(range(10, 20))
    assert numbers(table, 1) == [0] and numbers(table, 2) == [48, 49]
    assert [table[i][0].at_rate(12.5) for i in (0, 1)] == [[10, 12, 14, 16, 18], [0]]
    late = open_table(listing(tmp_path, "n.mp4,a,2,3"), "train")
    with pytest.raises(DataError, match=r"row 0 \(n.mp4\) is 1.96 seconds long"):
        late[0]
    report = check(listing(tmp_path, "n.mp4,a,0,1", "n.mp4,b,1,2"), workers=0)
    assert report.ok and report.counts["train"].frames == (25, 25)


def test_a_clip_of_a_short_video_plays_as_fast_as_the_video(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo import resolve_clip_config
    from se_zoo.data.video.index import open_video
    from se_zoo.inference.clips import clip_of, clip_rate

    write(tmp_path / "n.mp4", 10)
    video, config = open_video(tmp_path / "n.mp4"), resolve_clip_config(clip_model(fps=12.5))
    numbers = clip_of(video, config)
    seconds = video.seconds[numbers[-1]] - video.seconds[numbers[0]]
    assert len(numbers) / clip_rate(video, config, numbers) == pytest.approx(seconds, rel=0.5)
    assert clip_rate(video, config, numbers) > 6.25


@pytest.mark.parametrize("seconds", [1e-5, 1e9])
def test_wrong_times_give_no_rate_that_a_video_cannot_have(tmp_path: Path, seconds: float) -> None:
    """One such file would end a run over a folder when its picture is written."""
    pytest.importorskip("av", reason="needs PyAV (extra: video)")
    from se_zoo.data.video.index import Video
    from se_zoo.explanations.draw.clips import write_video
    from se_zoo.inference.clips import clip_rate
    from se_zoo.models.clip.config import ClipConfig

    times, base = np.array([0, round(seconds * 1e6)]), Fraction(1, 1_000_000)
    video = Video("v", b"", times, times[:1], base)
    config = ClipConfig((64, 64), 4, 1, None, "segments", (0.5,) * 3, (0.5,) * 3, 1.0, "bilinear")
    rate = clip_rate(video, config, [0, 0, 1, 1])
    write_video(tmp_path / "v.mp4", np.zeros((4, 64, 64, 3), np.uint8), rate)
    assert (tmp_path / "v.mp4").is_file()


def test_parts_that_are_ignored_are_whole_videos(tmp_path: Path) -> None:
    write(tmp_path / "n.mp4", 50)
    config = replace(listing(tmp_path, "n.mp4,a,0.4,0.8"), ignore=("start", "end"))
    assert len(numbers(open_table(config, "train"), 0)) == 50


@pytest.mark.parametrize(
    "header, row, says",
    [
        ("video,label,start,end", "n.mp4,a,1,1", "line 2: start is '1' and end '1'"),
        ("video,label,start,end", "n.mp4,a,x,1", "start is 'x'"),
        ("video,label,start,end", "n.mp4,a,-1,1", "start is '-1'"),
        ("video,label,start,end", "n.mp4,a,nan,1", "start is 'nan'"),
        ("video,label,start", "n.mp4,a,1", "a column start but no column end"),
        ("video,label,begin,end", "n.mp4,a,1,2", "a column end but no column start"),
        ("file,label", "n.mp4,a", r"missing: \[video\]"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, header: str, row: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        open_table(listing(tmp_path, row, header=header), "train")


def test_crop(tmp_path: Path) -> None:
    write(tmp_path / "n.mp4", 9, bf="2")
    config = replace(listing(tmp_path, "n.mp4,a,0,9"), crop=(16, 0, 48, 32))
    whole = open_table(replace(config, crop=None), "train")[0][0].read([3])
    assert np.array_equal(open_table(config, "train")[0][0].read([3]), whole[:, 0:32, 16:48])
    with pytest.raises(DataError, match=r"the crop 0 0 65 9 reaches outside .*64 x 64 pixels"):
        open_table(replace(config, crop=(0, 0, 65, 9)), "train")[0][0].read([3])
    with pytest.raises(DataError, match="x0 y0 x1 y1"):
        open_table(replace(config, crop=(9, 9, 9, 19)), "train")


def test_broken_missing_and_short_videos(tmp_path: Path) -> None:
    """Named, and fatal or left out by option."""
    write(tmp_path / "good.mp4", 20)
    write(tmp_path / "short.mp4", 4)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:300])
    rows = [f"{name}.mp4,{c}" for c in "ab" for name in ("good", "short", "broken", "gone")]
    config = replace(listing(tmp_path, *rows, header="video,label"), min_frames=5)
    table = open_table(config, "train")
    assert len(table) == 8
    for row, says in ((1, "4 frames, fewer than"), (2, "cannot be read"), (3, "no such file")):
        with pytest.raises(DataError, match=rf"row {row} \(.*{says}"):
            table[row]
    report = check(config, workers=0)
    assert len(report.errors) == 6 and not report.ok and "gone.mp4" in str(report)
    left = open_table(replace(config, broken="skip"), "train")
    assert len(left) == 2 and left.targets.tolist() == [0, 1] and numbers(left, 1)[:3] == [0, 1, 2]
    assert [r.partition(".mp4")[0].rpartition("(")[2] for r in left.skipped] == [
        "short", "broken", "gone"] * 2  # fmt: skip
    few = open_table(replace(config, broken="skip", limit=4), "train")  # of every second row
    assert len(few) == 2 and few.skipped == (left.skipped[1], left.skipped[4])
    report = check(replace(config, broken="skip"), workers=0)
    assert report.ok and sum(w.startswith("skipped: ") for w in report.warnings) == 6
    with pytest.raises(DataError, match="no usable videos"):
        open_table(replace(config, broken="skip", min_frames=99), "train")


def test_columns_of_videos(tmp_path: Path) -> None:
    """As a Hub data set has them: bytes in parquet, or paths."""
    datasets = pytest.importorskip("datasets", reason="needs se_zoo[train]")
    (tmp_path / "data").mkdir()
    files = [write(tmp_path / "data" / f"{n}.mp4", 10 + n) for n in range(2)]
    cells = [{"bytes": files[0].read_bytes(), "path": None}, {"bytes": None, "path": str(files[1])}]
    rows = datasets.Dataset.from_dict({"video": cells, "label": ["a", "b"]})
    rows.to_parquet(tmp_path / "data" / "all.parquet")
    config = ClipDataConfig(str(tmp_path / "data"), label="label", splits=("all",) * 3)
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    table = open_table(config, "all")
    assert numbers(table, 0) == list(range(10)) and numbers(table, 1) == list(range(11))
    assert check(config, workers=0).ok


# Official lists


def ucf101(root: Path) -> ClipDataConfig:
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    names = ["Archery", "Biking"]
    (lists / "classInd.txt").write_text("\r\n".join(f"{i} {n}" for i, n in enumerate(names, 1)))
    for fold in (1, 2, 3):
        files = {n: f"{n}/v_{n}_g0{g}_c01.avi" for g in (fold,) for n in names}
        others = [f"{n}/v_{n}_g0{g}_c01.avi" for g in (1, 2, 3) if g != fold for n in names]
        lines = [f"{file} {1 + names.index(file.split('/')[0])}" for file in others]
        (lists / f"trainlist0{fold}.txt").write_text("\n".join(lines) + "\n")
        (lists / f"testlist0{fold}.txt").write_text("\r\n".join(files.values()) + "\r\n")
    for name in names:
        (root / "UCF-101" / name).mkdir(parents=True)
        for group in (1, 2, 3):
            path = root / "UCF-101" / name / f"v_{name}_g0{group}_c01.avi"
            write(path, 5 + group, codec="mpeg4")
    return ClipDataConfig(str(root), splits=SPLITS)


def test_ucf101_and_its_three_folds(tmp_path: Path) -> None:
    config = ucf101(tmp_path)
    for fold in (1, 2, 3):
        of_fold = replace(config, fold=fold)
        train, test = open_table(of_fold, "train"), open_table(of_fold, "test")
        assert train.labels == test.labels == ("Archery", "Biking")
        assert len(train) == 4 and test.targets.tolist() == [0, 1]
        assert numbers(test, 1) == list(range(5 + fold))
    assert check(config, workers=0).ok
    with pytest.raises(DataError, match="no split valid, only train and test"):
        open_table(replace(config, splits=("train", "valid", "test")), "valid")
    with pytest.raises(DataError, match=r"elsewhere holds no classInd\.txt"):
        open_table(replace(config, layout="ucf101", lists=tmp_path / "elsewhere"), "train")
    with pytest.raises(DataError, match="leave out csv, label"):
        open_table(replace(config, layout="ucf101", label="x"), "train")
    (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").unlink()
    with pytest.raises(DataError, match=r"cannot read .*trainlist01\.txt"):
        open_table(config, "train")


def test_kinetics_by_its_csv(tmp_path: Path) -> None:
    """Flat or in a folder per class; what was not downloaded is an error of its own."""
    (tmp_path / "annotations").mkdir()
    head = "label,youtube_id,time_start,time_end,split,is_cc"
    for split in ("train", "val"):
        rows = [f"riding a bike,-a_{split},7,17,{split},0", f"archery,b{split},0,10,{split},0"]
        (tmp_path / "annotations" / f"{split}.csv").write_text("\n".join([head, *rows]))
        (tmp_path / split / "archery").mkdir(parents=True)
        write(tmp_path / split / f"-a_{split}_000007_000017.mp4", 6)
        write(tmp_path / split / "archery" / f"b{split}_000000_000010.mkv", 7)
    config = ClipDataConfig(str(tmp_path), splits=("train", "val", "val"))
    table = open_table(config, "val")
    assert table.labels == ("archery", "riding a bike") and table.targets.tolist() == [1, 0]
    assert numbers(table, 0) == list(range(6)) and numbers(table, 1) == list(range(7))
    (tmp_path / "val" / "-a_val_000007_000017.mp4").unlink()
    with pytest.raises(DataError, match=r"-a_val_000007_000017\.mp4\): no such file"):
        open_table(config, "val")[0]
    assert len(open_table(replace(config, broken="skip"), "val")) == 1
    (tmp_path / "annotations" / "val.csv").write_text(f"{head}\narchery,,0,10,val,0\n")
    with pytest.raises(DataError, match="a row without"):
        open_table(config, "val")


# What training and evaluation see


def clip_model(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    args = {"backbone": "test_resnet", "num_classes": 2, "num_frames": 4, "frame_stride": 2}
    model: Any = timm.create_model("framewise_sehead", **{**args, **kwargs})
    model.pretrained_cfg["input_size"] = (3, 32, 48)
    return model.eval()


@pytest.fixture(scope="module")
def still(tmp_path_factory: Any) -> ClipDataConfig:
    """A video that shows one picture all the time."""
    root = tmp_path_factory.mktemp("still")
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    write_lossless(root / "n.mkv", [picture] * 12)
    return listing(root, "n.mkv,a", header="video,label")


@pytest.mark.parametrize("policy", [None, "rand-m9-n2"])
def test_all_frames_are_augmented_alike(still: ClipDataConfig, policy: Any) -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo.train import AugmentConfig
    from se_zoo.train.clip_samples import clip_transforms

    augment = AugmentConfig(auto_augment=policy, reprob=0.5)
    training, _ = clip_transforms(clip_model(), still, augment)
    footage, clips = open_table(still, "train")[0][0], []
    for seed in range(6):
        torch.manual_seed(seed)
        clips.append(training(footage))
    assert clips[0].shape == (3, 4, 32, 48)
    for clip in clips:
        assert torch.equal(clip, clip[:, :1].expand_as(clip))
    assert len({clip.sum().item() for clip in clips}) == 6
    torch.manual_seed(5)
    assert torch.equal(training(footage), clips[5])
    for wrong in ("rand-m9-mstd0.5", "rand-m31", "rand-m9-n0"):
        with pytest.raises(InvalidInputError, match=wrong):
            clip_transforms(clip_model(), still, replace(augment, auto_augment=wrong))


def test_views(still: ClipDataConfig) -> None:
    """Three crops are the two ends and the middle of the longer side; one is the middle."""
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo.train.clip_samples import ClipViews

    model = clip_model()
    config = replace(model_config(model), crop_pct=1.0)
    assert ClipViews(config, replace(still, crops=3)).views.boxes(128, 64) == [
        (0, 0, 64, 96), (0, 16, 64, 96), (0, 32, 64, 96)]  # fmt: skip
    assert ClipViews(config, replace(still, crops=3)).views.boxes(48, 64) == [
        (0, 0, 32, 48), (16, 0, 32, 48), (32, 0, 32, 48)]  # fmt: skip
    footage = open_table(still, "train")[0][0]
    middle = ClipViews(config, still)(footage)
    several = ClipViews(config, replace(still, crops=3, clips=2))(footage)
    assert middle.shape == (1, 3, 4, 32, 48) and several.shape == (6, 3, 4, 32, 48)
    assert torch.equal(several[1], middle[0]) and torch.equal(several[4], middle[0])
    assert not torch.equal(several[0], several[2])


def test_cached_features_of_another_crop_are_not_used_again(still: ClipDataConfig) -> None:
    """They are named by the text of the views."""
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo.train.clip_samples import ClipViews

    config = model_config(clip_model())
    crops: Any = (None, (0, 0, 64, 64), (0, 0, 64, 32))
    assert len({repr(ClipViews(config, replace(still, crop=crop))) for crop in crops}) == 3


def model_config(model: Any) -> Any:
    """What the model takes, in a form that `replace` knows."""
    from dataclasses import make_dataclass

    from se_zoo import resolve_clip_config

    found = resolve_clip_config(model)._asdict()
    return make_dataclass("Config", found)(**found)


@pytest.mark.parametrize("sampling", ["dense", "segments", "uniform"])
def test_command_line_sees_what_evaluation_sees(actions: Path, sampling: str) -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo import resolve_clip_config
    from se_zoo.inference.clips import clip_of, clip_rate, explain_frames
    from se_zoo.train.clip_samples import ClipViews

    model = clip_model(fps=12.5, sampling=sampling)
    data = ClipDataConfig(str(actions), splits=SPLITS)
    footage = open_table(data, "test")[2][0]
    views = ClipViews(resolve_clip_config(model), data)(footage)
    picked = clip_of(footage.video, resolve_clip_config(model))
    assert picked == ([8, 12, 16, 20] if sampling == "dense" else [2, 10, 18, 26])
    rate = clip_rate(footage.video, resolve_clip_config(model), picked)
    assert rate == pytest.approx(6.25 if sampling == "dense" else 25 / 8)
    explanation, _ = explain_frames(model, footage.read(picked))
    assert torch.equal(explanation.images, views)
    assert torch.equal(se_zoo.load_clip(model, str(footage.video.source)), views)


def test_mean_of_views_is_of_probabilities() -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo.train.clip_samples import mean_logits

    views = torch.randn(5, 3, 7) * 4
    found = mean_logits(views, multi_label=False)
    torch.testing.assert_close(found.softmax(1), views.softmax(2).mean(1))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(5))
    found = mean_logits(views, multi_label=True)
    torch.testing.assert_close(found.sigmoid(), views.sigmoid().mean(1))
    assert torch.isfinite(mean_logits(torch.full((1, 2, 3), 200.0), True)).all()


def test_mixup_treats_a_clip_as_one_sample() -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from timm.data.mixup import Mixup

    from se_zoo.train.loss import apply_mixup

    clips = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 3, 5, 16, 16).contiguous()
    np.random.seed(0)
    mix = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, label_smoothing=0.0, num_classes=2)
    cut, targets = apply_mixup(mix, clips.clone(), torch.tensor([0, 1]))
    assert cut.shape == clips.shape and torch.equal(cut, cut[:, :1, :1].expand_as(cut))
    assert 0 < cut[0].mean() < 1 and targets[0, 1].item() == pytest.approx(cut[0].mean().item())


@pytest.fixture(scope="module")
def run_config(actions: Path) -> Any:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from se_zoo.train import AugmentConfig, ClipModelConfig, Config, OptimConfig, RunConfig

    return Config(
        ClipDataConfig(str(actions), splits=SPLITS, clips=2, crops=3),
        ClipModelConfig(backbone="test_resnet", input_size=(32, 32), num_frames=4, fps=12.5),
        AugmentConfig(mixup=0.2, cutmix=0.2),
        OptimConfig(epochs=2, batch_size=2, warmup_epochs=0),
        RunConfig(workers=0, best="accuracy"),
    )


def test_a_run(run_config: Any, tmp_path: Path) -> None:
    """Trained, scored over all views, exported, and loaded again with the same clips."""
    import json

    from se_zoo.train import train

    output = tmp_path / "run"
    train(replace(run_config, run=replace(run_config.run, output=output)))
    summary = json.loads((output / "summary.json").read_text())
    assert summary["samples"] == {"train": 6, "test": 6} and "skipped" not in summary
    model: Any = timm.create_model(f"local-dir:{output / 'export'}", pretrained=True).eval()
    assert (model.num_frames, model.frame_stride, model.fps) == (4, 4, 12.5)
    from se_zoo import resolve_clip_config
    from se_zoo.train.clip_samples import ClipViews

    table = open_table(run_config.data, "test")
    views = ClipViews(resolve_clip_config(model), run_config.data)
    with torch.no_grad():
        chances = torch.stack([model(views(table[i][0])).softmax(1).mean(0) for i in range(6)])
    loss = -chances.log()[torch.arange(6), table.targets].mean()
    assert summary["test"]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    accuracy = (chances.argmax(1) == table.targets).float().mean().item()
    assert summary["test"]["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    assert (output / "samples.png").is_file()
    from se_zoo import cli

    from .publishing import FACTS

    (output / "card").mkdir()
    shutil.copyfile(run_config.data.path + "/test/run/2.mp4", output / "card" / "seen.mp4")
    gallery = "gallery: {photo: seen.mp4, targets: [run], caption: Numbers.}\n"
    (output / "card" / "facts.yaml").write_text(FACTS + gallery)
    cli.main(["publish", str(output), "--repo", "me/actions", "--dry-run"])
    card = (output / "upload" / "README.md").read_text()
    assert "clip classifier" in card and "train 6 videos" in card
    assert "6 videos, 2 clips x 3 crops of each, probabilities averaged" in card
    numbers = json.loads((output / "upload" / "gallery.json").read_text())
    assert numbers["frames"] == [2, 10, 18, 26] and (output / "upload" / "gallery.png").is_file()


def test_head_alone_is_scored_as_its_export(run_config: Any, tmp_path: Path) -> None:
    """Trained on the cached features of all views; the backbone does not change."""
    import json

    from se_zoo import resolve_clip_config
    from se_zoo.train import AugmentConfig, train
    from se_zoo.train.clip_samples import ClipViews
    from se_zoo.train.head_only import ClipHeadTrainer

    run = replace(run_config.run, output=tmp_path / "run", channels_last=False)
    optim = replace(run_config.optim, epochs=8, lr=0.01)
    config = replace(run_config, augment=AugmentConfig(), optim=optim, run=run)
    train(config, trainer_class=ClipHeadTrainer)
    assert np.load(tmp_path / "run" / "features" / "train.npy").shape[:3] == (6, 6, 4)
    model: Any = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True)
    views = ClipViews(resolve_clip_config(model.eval()), config.data)
    table = open_table(config.data, "test")
    with torch.no_grad():
        chances = torch.stack([model(views(table[i][0])).softmax(1).mean(0) for i in range(6)])
    loss = -chances.log()[torch.arange(6), table.targets].mean()
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    assert test["loss"] == pytest.approx(loss.item(), abs=2e-3)  # the features are fp16
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(row) for row in rows]
    losses = [row["train_loss"] for row in logged if "train_loss" in row]
    assert losses[-1] < losses[0]


def test_a_run_of_a_3d_model(run_config: Any, tmp_path: Path) -> None:
    """torchvision's, with the options as they are by default, channels_last among them."""
    from se_zoo.train import train

    model = replace(run_config.model, name="mc3_18_sehead", backbone=None, fps=None)  # the smallest
    assert run_config.run.channels_last
    run = replace(run_config.run, output=tmp_path / "run")
    config = replace(run_config, model=model, optim=replace(run_config.optim, epochs=1), run=run)
    train(replace(config, data=replace(config.data, clips=1, crops=1)))
    again: Any = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True)
    assert (again.num_frames, again.fps, again.sampling) == (4, 15, "dense")


def test_options_that_would_do_nothing_are_refused(run_config: Any, tmp_path: Path) -> None:
    from se_zoo.train import train

    run = replace(run_config.run, output=tmp_path / "run", dry_run=True)
    stride = replace(run_config.model, frame_stride=2, sampling="segments")
    fixed = replace(run_config.model, name="mvit_v2_s_sehead", backbone=None)
    for model, says in ((stride, "--model.frame-stride is for"), (fixed, "exactly 16 frames")):
        with pytest.raises(InvalidInputError, match=says):
            train(replace(run_config, model=model, run=run))
    with pytest.raises(DataError, match="only ucf101 has folds"):
        open_table(replace(run_config.data, fold=2), "train")


def test_one_process_looks_the_others_follow(tmp_path: Path) -> None:
    """What the first process leaves out is left out on all, of a table that is limited too."""
    write(tmp_path / "good.mp4", 9)
    rows = [f"{'gone' if n % 3 == 1 else 'good'}.mp4,{'ab'[n % 2]}" for n in range(12)]
    config = replace(listing(tmp_path, *rows, header="video,label"), broken="skip", limit=7)
    first = open_table(config, "train")
    other: Any = open_table(replace(config, broken="error"), "train")
    assert len(other) == 7 and len(first) < 7
    followed = other.restored(first.rows, first.skipped)
    assert followed.rows == first.rows and followed.skipped == first.skipped
    assert torch.equal(followed.targets, first.targets)


def test_class_that_is_left_out_altogether(run_config: Any, tmp_path: Path) -> None:
    from se_zoo.train.preflight import open_splits

    write(tmp_path / "good.mp4", 9)
    rows = ["good.mp4,a,train", "gone.mp4,b,train", "good.mp4,a,test", "good.mp4,b,test"]
    config = listing(tmp_path, *rows, header="video,label,split")
    config = replace(config, broken="skip", splits=SPLITS)
    with pytest.raises(
        DataError, match=r"no usable video left|without any in the training split: \[b\]"
    ):
        open_splits(config, True)
    assert not check(config, workers=0).ok


def test_workers_and_processes_see_the_same_clips(run_config: Any) -> None:
    """A clip depends on seed, epoch and sample alone; shares of an evaluation are disjoint."""
    from se_zoo.train import loader
    from se_zoo.train.clip_samples import clip_transforms
    from se_zoo.train.resume.order import Plan

    model = clip_model(num_frames=4)
    table = open_table(run_config.data, "train")
    training, evaluation = clip_transforms(model, run_config.data, run_config.augment)

    def batches(workers: int, processes: int) -> torch.Tensor:
        run = replace(run_config.run, workers=workers)
        config = replace(run_config, run=run, optim=replace(run_config.optim, batch_size=1))
        plan = Plan(6, 1, processes, 1, 1, 0)
        found = [
            list(loader.training_batches(table, training, config, plan, process, 0))
            for process in range(processes)
        ]
        return torch.cat([step[0] for steps in zip(*found, strict=True) for step in steps])

    alone = batches(0, 1)
    assert torch.equal(alone, batches(2, 1)) and torch.equal(alone, batches(0, 2))
    shares = [
        torch.cat([x for x, _ in loader.evaluation_batches(table, evaluation, run_config, p, 2)])
        for p in range(2)
    ]
    whole = torch.stack([evaluation(table[i][0]) for i in range(6)])
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), whole)


def test_models_of_the_other_kind_are_refused(run_config: Any, tmp_path: Path) -> None:
    from se_zoo.train import train

    run = replace(run_config.run, output=tmp_path / "run")
    for name, says in (("resnet18_sehead", "does not take clips"), ("r3d_18", "no SE head")):
        model = replace(run_config.model, name=name, backbone=None)
        with pytest.raises(InvalidInputError, match=says):
            train(replace(run_config, model=model, run=run))


def test_check_on_the_command_line(actions: Path, capsys: pytest.CaptureFixture) -> None:
    from se_zoo import cli

    cli.main(["check", str(actions), "--videos", "--splits", *SPLITS, "--workers", "0"])
    said = capsys.readouterr().out
    assert "12 videos, 2 classes" in said and "10 to 30" in said
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", str(actions), "--min-frames", "9"])
    assert "need --videos" in str(stop.value.code)


# The recipe on the GRID corpus

ALIGNMENT = "0 12500 sil\n12500 18400 bin\n18400 40900 blue\n40900 75000 sil\n"


def test_windows_of_an_alignment(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from recipes.grid_clips import read_words, speaking_windows, word_window

    (tmp_path / "a.align").write_text(ALIGNMENT)
    words = read_words(tmp_path / "a.align")
    assert word_window(words) == [(9, 21, "bin")]
    assert speaking_windows(words) == [
        (0, 10, "silent"), (13, 23, "speaking"), (23, 33, "speaking"),
        (41, 51, "silent"), (51, 61, "silent"), (61, 71, "silent"),
    ]  # fmt: skip


def test_grid_recipe_needs_a_crop_to_measure_the_mouth() -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from recipes.grid_clips import main, task_options

    given = task_options("speaking")
    with pytest.raises(InvalidInputError, match=r"--data\.crop None"):
        main(replace(given, data=replace(given.data, crop=None)))


def test_figures_name_their_weights(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    from recipes.grid_clips import exported_weights

    assert exported_weights(tmp_path) == {}
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.safetensors").write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert exported_weights(tmp_path) == {"weights_sha256": expected}


@pytest.mark.slow
@pytest.mark.data
def test_grid_recipe_on_real_clips(data_dir: Path, tmp_path: Path) -> None:
    import json
    import subprocess

    pytest.importorskip("accelerate", reason="needs se_zoo[train]")
    done = subprocess.run(
        [
            sys.executable, "recipes/grid_clips.py", "speaking", "--debug",
            "--run.output", str(tmp_path),
        ],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300,
        env={**os.environ, "SE_ZOO_DATA": str(data_dir), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "speaking-2.json").read_text())
    assert found["samples"] == {"train": 64, "test": 64} and found["seeds"] == [0]
    assert set(found["mouth_energy"][0]) == {"contribution", "gate", "activation"}
    weights = (tmp_path / "speaking-2-0" / "export" / "model.safetensors").read_bytes()
    assert found["weights_sha256"] == hashlib.sha256(weights).hexdigest()
