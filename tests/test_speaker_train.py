"""Training of speaker models: the loss, a run that is interrupted, what it leaves, its options."""

import csv
import hashlib
import importlib
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from se_zoo.data import TrackDataConfig, open_tracks
from se_zoo.data.faces.ava import read_ava
from se_zoo.errors import DataError, InvalidInputError
from se_zoo.metrics import ava_average_precision
from se_zoo.models import SpeakerOutput, create_speaker_model
from se_zoo.train import (
    OptimConfig,
    RunConfig,
    SpeakerAugmentConfig,
    SpeakerConfig,
    SpeakerModelConfig,
    train,
)
from se_zoo.train.speaker.batches import Whole
from se_zoo.train.speaker.scores import speaker_loss
from tests.preloaded import ROOT, run_python
from tests.test_tracks import write_splits
from tests.train_run import forget_accelerator, losses, undrawn

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
pytest.importorskip("av", reason="needs PyAV (extra: video)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("data"), bodies=True)


def config_of(folder: Path, output: Path, **parts: Dict[str, Any]) -> SpeakerConfig:
    """An epoch of four updates, and a checkpoint after the last one."""
    optim = {"epochs": 1, "batch_size": 18, "warmup_epochs": 0.5, "ema_decay": 0.5}
    run = {"output": output, "best": "average_precision", "log_every": 1, "save_every": None}
    return SpeakerConfig(
        TrackDataConfig(str(folder), **parts.get("data", {})),
        SpeakerModelConfig(**parts.get("model", {})),
        SpeakerAugmentConfig(**{"swap": 0.2, "mute": 0.2, **parts.get("augment", {})}),
        OptimConfig(**{**optim, **parts.get("optim", {})}),
        RunConfig(**{**run, "channels_last": False, **parts.get("run", {})}),
    )


def run(config: SpeakerConfig) -> Path:
    """Train without drawing, which takes longer than the updates."""
    with undrawn(), mock.patch("se_zoo.train.speaker.trainer.SpeakerTrainer._draw_sample"):
        return train(config)


def test_loss_by_hand() -> None:
    output = SpeakerOutput(torch.tensor([[0.0, 2.0, 50.0]]), torch.tensor([[1.0, 0.0, -50.0]]))
    labels, mask = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[True, True, False]])
    both = (math.log(2) + math.log(1 + math.exp(2))) / 2
    alone = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(speaker_loss(output, labels, mask=mask)) == pytest.approx(both + 0.5 * alone)
    assert float(speaker_loss(output, labels)) == pytest.approx(
        2 / 3 * (both + 0.5 * alone) + 25 / 3
    )
    heavier = (3 * math.log(2) + math.log(1 + math.exp(2))) / 2
    alone = (3 * math.log(1 + math.exp(-1)) + math.log(2)) / 2
    found = speaker_loss(output, labels, mask=mask, weight=torch.tensor(3.0))
    assert float(found) == pytest.approx(heavier + 0.5 * alone)


@pytest.fixture(scope="module")
def usual(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end."""
    output = train(config_of(folder, tmp_path_factory.mktemp("runs") / "usual"))
    forget_accelerator()
    return output


def test_what_a_run_leaves(usual: Path, folder: Path) -> None:
    """An export that loads, whose scores, made anew one track at a time, are those in the csv; and
    of these AVA's figure is the summary's."""
    summary = json.loads((usual / "summary.json").read_text())
    assert len(losses(usual)) == 4 == summary["updates"]
    predictions, truth = usual / "predictions.csv", folder / "csv" / "test.csv"
    found = ava_average_precision(truth, predictions)
    assert summary["test"]["average_precision"] == pytest.approx(found, abs=1e-5)
    assert summary["test"]["positive"] == pytest.approx(
        sum(r.value == "SPEAKING_AUDIBLE" for r in read_ava(truth, "label")) / 27, abs=1e-5
    )
    with predictions.open(newline="") as opened:
        assert [row[:6] for row in csv.reader(opened)] == _cells(truth), "its rows, in its order"
    model = create_speaker_model(f"local-dir:{usual / 'export'}")
    table = open_tracks(TrackDataConfig(str(folder)), "test")
    scores = {row.key: float(row.value) for row in read_ava(predictions, "score")}
    whole = Whole(table, False)
    for index in range(len(table)):
        _, inputs = whole[index]
        with torch.no_grad():
            logits = model(inputs["audio"][None], inputs["face"][None]).logits[0]
        entity = table.where(index).partition(": ")[2]
        wanted = [scores[entity, repr(float(stamp))] for stamp in table.sample(index).stamps]
        torch.testing.assert_close(logits, torch.tensor(wanted), atol=1e-5, rtol=1e-4)
    assert (usual / "samples.png").stat().st_size > 10_000
    assert (usual / "curves.png").is_file() and summary["labels"] == ["speaking"]


def _cells(file: Path) -> List[List[str]]:
    with file.open(newline="") as opened:
        return [row[:6] for row in list(csv.reader(opened))[1:]]


def test_an_interrupted_run_goes_on_as_if_nothing_were(
    usual: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from se_zoo.train.resume.stop import Stop

    asked = iter([None, 15])
    monkeypatch.setattr(Stop, "asked", lambda self, update: next(asked, None))
    config = config_of(folder, tmp_path / "run")
    with pytest.raises(SystemExit):
        run(config)
    assert len(losses(tmp_path / "run")) == 2
    run(config)
    assert losses(tmp_path / "run") == losses(usual)
    left, right = (load_file(p / "export" / "model.safetensors") for p in (tmp_path / "run", usual))
    assert all(torch.equal(left[name], right[name]) for name in right)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [s["update"] for s in summary["sessions"]] == [0, 2]


def test_killed_while_it_finishes(
    usual: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the training, between export and summary; predictions were being written."""
    from se_zoo.train.speaker.trainer import SpeakerTrainer

    def killed(self: Any, model: Any) -> None:
        (self.folder.path / "predictions.csv.tmp").write_text("half")
        raise KeyboardInterrupt

    config = config_of(folder, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SpeakerTrainer, "write_extra_files", killed)
        run(config)
    assert (tmp_path / "run" / "export").is_dir()
    assert not (tmp_path / "run" / "summary.json").exists()
    run(config)
    left, right = ((p / "predictions.csv").read_text() for p in (tmp_path / "run", usual))
    assert left == right


def test_a_run_that_goes_on_with_other_tracks_is_refused(folder: Path, tmp_path: Path) -> None:
    """Other lengths make other batches, and so do other processes."""
    from se_zoo.train.resume.state import StateError

    data = tmp_path / "data"
    shutil.copytree(folder, data)
    config = config_of(data, tmp_path / "run")
    run(config)
    (tmp_path / "run" / "summary.json").unlink()
    table = data / "csv" / "train.csv"
    table.write_text("\n".join(table.read_text("utf-8").splitlines()[:-1]) + "\n", "utf-8")
    with pytest.raises(StateError, match="--track-lengths"):
        run(config)


def test_long_tracks_are_scored_in_pieces(
    folder: Path, tmp_path: Path, usual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With enough beside each, hardly otherwise than in one."""
    from se_zoo.train.speaker import batches as tracks

    monkeypatch.setattr(tracks, "LONGEST", 3)
    assert len(tracks.pieces_of(0, 8)) == 3
    assert [p.end - p.begin for p in tracks.pieces_of(0, 8)] == [3, 3, 2]
    run(config_of(folder, tmp_path / "run"))
    left, right = (
        {row.key: float(row.value) for row in read_ava(p / "predictions.csv", "score")}
        for p in (tmp_path / "run", usual)
    )
    assert left.keys() == right.keys()
    for key, value in right.items():
        assert left[key] == pytest.approx(value, abs=1e-5), "all frames are beside each piece"


@pytest.mark.slow  # images and streams have it, too
def test_workers_give_the_same_losses(usual: Path, folder: Path, tmp_path: Path) -> None:
    run(config_of(folder, tmp_path / "run", run={"workers": 2}))
    assert losses(tmp_path / "run") == losses(usual)


def test_body_clip_gate_and_broken_tracks(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Variants of the model; what is left out is said and in the summary."""
    file = folder / "clips_bodies" / "valid" / "film" / "valid_1" / "2.04.jpg"
    content = file.read_bytes()
    file.unlink()
    try:
        run(
            config_of(
                folder, tmp_path / "run", model={"body": True, "pool": "clip", "gate": "identity"},
                data={"bodies": "clips_bodies", "broken": "skip"},
                optim={"class_balance": True},
            )
        )  # fmt: skip
    finally:
        file.write_bytes(content)
    model = create_speaker_model(f"local-dir:{tmp_path / 'run' / 'export'}")
    assert model.modalities == ("audio", "face", "body") and model.pool == "clip"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert "lacks 1 crops" in summary["skipped"]["valid"][0] and summary["samples"]["valid"] == 2
    assert "left out of the valid split: 1 of 3" in capsys.readouterr().err


def test_tracks_are_cut(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To --augment.frames; more of them then fit into a batch."""
    from se_zoo.train.speaker.trainer import SpeakerTrainer

    seen: List[Any] = []
    count = SpeakerTrainer.count
    monkeypatch.setattr(
        SpeakerTrainer,
        "count",
        lambda self, batch: seen.append(tuple(batch["labels"].shape)) or count(self, batch),
    )
    run(config_of(folder, tmp_path / "run", augment={"frames": 3}))
    assert seen == [(6, 3)]


def test_without_the_block(folder: Path, tmp_path: Path) -> None:
    run(config_of(folder, tmp_path / "run", model={"se": False}))
    weights = load_file(tmp_path / "run" / "export" / "model.safetensors")
    assert not any(name.startswith("se.") for name in weights)
    assert not (tmp_path / "run" / "export" / "config.json").exists()


def test_start_from_weights(usual: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Of a run, or of a folder as timm and `se-zoo convert` write it."""
    start = {"init": usual / "export"}
    run(config_of(folder, tmp_path / "run", run=start, optim={"lr": 1e-9}))
    assert "updates in all, from random weights" not in capsys.readouterr().err
    left, right = (load_file(p / "export" / "model.safetensors") for p in (tmp_path / "run", usual))
    assert torch.equal(left["detector.classifier.weight"], right["detector.classifier.weight"])


@pytest.mark.parametrize(
    "parts, says",
    [
        ({"model": {"name": "resnet18_sehead"}}, "is no speaker model; these are: asd_tiny"),
        ({"model": {"body": True}}, "--model.body and --data.bodies go together"),
        ({"run": {"best": "top5_accuracy"}}, "--run.best top5_accuracy is not a metric"),
        ({"augment": {"swap": 0.7, "mute": 0.4}}, "swap plus mute are probabilities"),
        ({"data": {"limit": 1}}, "need two tracks or more"),
        ({"augment": {"rotate": -5.0}}, "--augment.rotate is -5.0"),
        ({"augment": {"snr": (5.0, -5.0)}}, "the first number must not be above the second"),
        ({"augment": {"scale": (2.0, 3.0)}}, "--augment.scale is 2.0 3.0"),
        ({"optim": {"batch_size": 1}}, "a batch of a single frame has no statistics"),
        ({"model": {"norm_momentum": 0.0}}, "--model.norm-momentum is 0.0"),
        ({"augment": {"frames": 0}}, "--augment.frames is 0"),
        ({"optim": {"lr": -1.0}}, "--optim.lr is -1.0"),
    ],
)
def test_options_that_cannot_be(folder: Path, tmp_path: Path, parts: Any, says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        run(config_of(folder, tmp_path / "run", **parts))
    assert not (tmp_path / "run").exists(), "nothing is half-written"


def test_damage_is_found_before_the_training(tmp_path: Path) -> None:
    data = write_splits(tmp_path / "data", tracks=2)
    (data / "clips_audios" / "test" / "film" / "test_1.wav").unlink()
    with pytest.raises(DataError, match=r"test: test_1: .*test_1\.wav: no such file"):
        run(config_of(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_recipe(folder: Path, tmp_path: Path, golden: Callable[[str, Any], Any]) -> None:
    """The command line, with --debug; every loss is what it was when the golden file was written
    (``--write-golden``)."""
    done = run_python(
        ROOT / "recipes" / "speaker.py", "--debug", "--data.path", folder, cwd=tmp_path,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "test: average precision" in done.stdout
    output = tmp_path / "runs" / "speaker-debug"
    assert (output / "export" / "config.json").is_file()
    known = golden("speaker", {"timm": timm.__version__, "losses": losses(output)})
    if timm.__version__ == known["timm"]:  # other versions draw other random numbers
        assert losses(output) == pytest.approx(known["losses"], rel=2e-3)


# The recipe on the GRID corpus


def grid_files(folder: Path) -> Tuple[Path, Path]:
    """A folder of a video and its words, and photographs, all without content."""
    videos, photos = folder / "videos", folder / "photos.parquet"
    for name in ("video/s1_a.mpg", "align/s1_a.align"):
        (videos / name).parent.mkdir(parents=True)
        (videos / name).touch()
    photos.touch()
    return videos, photos


@pytest.fixture
def grid_tracks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of that name; recipes import each other without a package."""
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("grid_tracks")


def test_tracks_of_something_else_are_refused(grid_tracks: Any, tmp_path: Path) -> None:
    (videos, photos), out = grid_files(tmp_path), tmp_path / "tracks"
    (out / "csv").mkdir(parents=True)
    for split in grid_tracks.SPLITS:
        (out / "csv" / f"{split}.csv").touch()
    with pytest.raises(DataError, match=r"is not known .*made_of\.json.* delete the folder"):
        grid_tracks.prepare(videos, out, photos)
    made = out / "made_of.json"
    made.write_text(json.dumps(grid_tracks.made_of(videos, photos)))
    assert grid_tracks.prepare(videos, out, photos)
    made.write_text(json.dumps({**grid_tracks.made_of(videos, photos), "kinds": ["muted"]}))
    with pytest.raises(DataError, match=r"kinds differ .*Delete the folder"):
        grid_tracks.prepare(videos, out, photos)
    made.write_text(json.dumps(grid_tracks.made_of(videos, photos)))
    (videos / "video" / "s1_b.mpg").touch()
    photos.write_bytes(b"others")
    with pytest.raises(DataError, match="files, photos differ"):
        grid_tracks.prepare(videos, out, photos)


def test_what_tracks_lack_is_said_before_faces_are_found(grid_tracks: Any, tmp_path: Path) -> None:
    from tests.test_speaker_video import write_video

    (videos, photos), out = grid_files(tmp_path), tmp_path / "tracks"
    silent = write_video(tmp_path / "silent.mkv", 10, np.zeros(6400, np.int16))
    silent.replace(videos / "video" / "s1_a.mpg")
    with pytest.raises(DataError, match=r"s1_a\.mpg: its sound is silent"):
        grid_tracks.prepare(videos, out, photos)
    photos.unlink()
    with pytest.raises(DataError, match=r"photos\.parquet: no such file"):
        grid_tracks.prepare(videos, out, photos)
    (videos / "align" / "s1_a.align").unlink()
    with pytest.raises(DataError, match=r"has no \.align file"):
        grid_tracks.prepare(videos, out, photos)
    assert not out.exists()


@pytest.mark.usefixtures("grid_tracks")
def test_dry_run_makes_no_tracks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, (videos, photos) = importlib.import_module("grid_speaker"), grid_files(tmp_path)
    given, out = recipe.DEFAULT, tmp_path / "runs" / "tracks"
    recipe.main(
        replace(
            given, videos=videos, photos=photos, data=TrackDataConfig(str(out)),
            run=replace(given.run, dry_run=True, output=tmp_path / "runs" / "speaker"),
        )
    )  # fmt: skip
    assert f"would make face tracks of 1 videos in {out}" in capsys.readouterr().out
    assert not out.parent.exists()


@pytest.mark.slow
@pytest.mark.data
def test_recipe_on_real_faces(data_dir: Path, tmp_path: Path, grid_tracks: Any) -> None:
    """--debug, on a few of the clips: faces are found, truth is laid out, figures are reported."""
    pytest.importorskip("cv2", reason="finds faces: needs se_zoo[speaker]")
    videos = tmp_path / "videos"
    for kind, names in (("video", ("s1_*", "multi_*")), ("align", ("s1_*",))):
        (videos / kind).mkdir(parents=True)
        for name in names:
            files = sorted((data_dir / "grid" / kind).glob(name))
            for file in files[:6] if "s1" in name else files[-1:]:
                (videos / kind / file.name).symlink_to(file)
    root = Path(__file__).parents[1]
    command = [sys.executable, str(root / "recipes" / "grid_speaker.py"), "--debug"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    options = ["--videos", str(videos), "--data.path", str(tmp_path / "tracks")]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, text=True, capture_output=True, check=False,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sound and words agree on" in done.stdout and "share of speech" in done.stdout
    table = open_tracks(TrackDataConfig(str(tmp_path / "tracks")), "test")
    tracks = {t.sound.stem.partition("-")[2] or "own": t for t in map(table.sample, range(5))}
    assert set(tracks) == {"own", "muted_0", "swapped_0", "still_0", "other_0"} and len(table) == 5
    own, muted, still, other = (tracks[k] for k in ("own", "muted_0", "still_0", "other_0"))
    assert own.speaking.any() and not any(t.speaking.any() for k, t in tracks.items() if k != "own")
    assert not muted.wave(0, 10).any() and own.wave(0, 10).equal(other.wave(0, 10))
    assert (still.pictures(0, 9) == own.pictures(0, 1)).all()
    assert not (other.pictures(0, 9) == own.pictures(0, 9)).flatten(1).all(1).any()
    output = tmp_path / "runs" / "grid_speaker-debug"
    weights = (output / "seed-0" / "export" / "model.safetensors").read_bytes()
    figures = json.loads((output / "figures.json").read_text())
    assert figures["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    photos = data_dir / "imagenet_sample" / "train.parquet"
    assert grid_tracks.prepare(videos, tmp_path / "tracks", photos)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="holds something else"):
        grid_tracks.prepare(videos, tmp_path / "other", videos)
    assert (tmp_path / "other" / "mine.txt").is_file()


@pytest.mark.slow
def test_two_processes(folder: Path, tmp_path: Path) -> None:
    """Every test track is scored once, by the weights that are exported."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(root / "recipes" / "speaker.py"), "--data.path", str(folder), "--optim.epochs", "2",
            "--optim.batch-size", "18", "--run.output", str(tmp_path / "run"),
        ],
        cwd=tmp_path, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = ava_average_precision(folder / "csv" / "test.csv", tmp_path / "run" / "predictions.csv")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["test"]["average_precision"] == pytest.approx(found, abs=1e-5)
    assert summary["environment"]["processes"] == 2
    model = create_speaker_model(f"local-dir:{tmp_path / 'run' / 'export'}")
    table = open_tracks(TrackDataConfig(str(folder)), "test")
    _, inputs = Whole(table, False)[1]
    with torch.no_grad():
        logits = model(inputs["audio"][None], inputs["face"][None]).logits[0]
    scores = read_ava(tmp_path / "run" / "predictions.csv", "score")
    wanted = [float(row.value) for row in scores if row.key[0] == "test_1"]
    torch.testing.assert_close(logits, torch.tensor(wanted), atol=1e-5, rtol=1e-4)
