"""A run does not go on over changed data, nor beside another run, unless it is told to."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from PIL import Image

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from filelock import FileLock

from se_zoo import InvalidInputError
from se_zoo.data import DataConfig, open_table
from se_zoo.data.tables import fingerprint
from se_zoo.train import run_folder
from se_zoo.train.repeat import check_same_data
from se_zoo.train.resume.state import StateError

from .test_train import run
from .train_run import cat_or_dog, forget_accelerator, write_images

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def images(tmp_path_factory: Any) -> Path:
    """Images without compression: a file that is overwritten keeps its size."""
    counts = {"train": 16, "valid": 4, "test": 4}
    return write_images(tmp_path_factory.mktemp("images"), counts, cat_or_dog, name="{}.bmp")


@pytest.fixture(scope="module")
def interrupted(images: Path, tmp_path_factory: Any) -> Path:
    """The folder of a run that was killed right before its end, with its data beside it."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(images, home / "data")
    output = run(home / "data", home / "run")
    (output / "summary.json").unlink()
    forget_accelerator()
    return home


@pytest.fixture
def home(interrupted: Path) -> Any:
    """The same, to be changed: it is restored afterwards."""
    saved = interrupted.with_name("saved")
    shutil.copytree(interrupted, saved, symlinks=True)
    yield interrupted
    shutil.rmtree(interrupted)
    saved.rename(interrupted)


def overwrite(data: Path, split: str = "train") -> None:
    file = data / split / "cat" / "0.bmp"
    size = file.stat().st_size
    Image.new("RGB", (32, 32), "red").save(file)
    assert file.stat().st_size == size


def swap_labels(data: Path) -> None:
    cat, dog = data / "train" / "cat", data / "train" / "dog"
    (cat / "0.bmp").rename(dog / "0.bmp")
    (dog / "1.bmp").rename(cat / "1.bmp")


def rename_class(data: Path) -> None:
    for split in ("train", "valid", "test"):
        (data / split / "cat").rename(data / split / "bird")


CHANGES: Dict[str, Callable[[Path], None]] = {
    "labels or files of train": swap_labels,
    "files of train": overwrite,
    "files of valid": lambda data: overwrite(data, "valid"),
    "files of test": lambda data: (data / "test" / "dog" / "1.bmp").unlink(),
    "class names of train": rename_class,
    "16 training samples have become 15": lambda data: (data / "train" / "dog" / "1.bmp").unlink(),
}


@pytest.mark.parametrize("names", CHANGES)
def test_changed_data_stop_an_interrupted_run_unless_accepted(
    home: Path, names: str, capsys: pytest.CaptureFixture
) -> None:
    CHANGES[names](home / "data")
    with pytest.raises(StateError, match="the data were changed") as info:
        run(home / "data", home / "run")
    found = names.split(" or ")[-1]
    assert found in str(info.value) and "--run.accept-changed-data" in str(info.value)
    assert not (home / "run" / "summary.json").exists()
    run(home / "data", home / "run", run={"accept_changed_data": True})
    printed = capsys.readouterr().out
    assert "continues with changed data: " in printed and found in printed


def test_touched_and_copied_files_are_no_change(home: Path) -> None:
    for file in (home / "data").rglob("*.bmp"):
        os.utime(file, (1, 1))
    assert (run(home / "data", home / "run") / "summary.json").is_file()


def test_older_checkpoint_without_fingerprint_continues_and_says_so(
    home: Path, capsys: pytest.CaptureFixture
) -> None:
    from se_zoo.train.resume import state

    for step in (home / "run" / "state").glob("step_*"):
        progress = json.loads((step / "progress.json").read_text())
        del progress["data"]
        (step / "progress.json").write_text(json.dumps(progress))
        (step / "manifest.json").unlink()
        listed = {
            str(p.relative_to(step)): {"bytes": p.stat().st_size, "sha256": state.sha256_of(p)}
            for p in state._files(step)
        }
        (step / "manifest.json").write_text(json.dumps(listed))
    run(home / "data", home / "run")
    assert "does not say on which data" in capsys.readouterr().out


def test_large_data_are_compared_by_size_and_time(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "_HASHED_BYTES", 10)
    shutil.copytree(images, tmp_path / "data")
    table = open_table(DataConfig(str(tmp_path / "data")), "train")
    before = table.fingerprint("train")
    assert table.fingerprint("train") == before
    os.utime(tmp_path / "data" / "train" / "cat" / "0.bmp", (1, 1))
    after = table.fingerprint("train")
    assert after["files"] != before["files"] and after["labels"] == before["labels"]


def test_rows_of_a_csv_that_swap_their_labels_are_noticed(tmp_path: Path) -> None:
    from .data_sets import edit, make_csv_single

    config = make_csv_single(tmp_path / "data")
    before = open_table(config, "train").fingerprint("train")
    edit(tmp_path / "data" / "table.csv", "train/0.png,train,bird", "train/0.png,train,cat")
    after = open_table(config, "train").fingerprint("train")
    assert after["labels"] != before["labels"] and after["files"] == before["files"]


def test_overwritten_parquet_is_noticed(tmp_path: Path) -> None:
    from .data_sets import make_class_labels

    config = make_class_labels(tmp_path / "data")
    before = open_table(config, "train").fingerprint("train")
    file = tmp_path / "data" / "train.parquet"
    shutil.copy(tmp_path / "data" / "test.parquet", file)
    assert open_table(config, "train").fingerprint("train")["files"] != before["files"]


def test_second_run_in_the_same_folder_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "_PATIENCE", 0.1)
    log = (home / "run" / "metrics.jsonl").read_bytes()
    with FileLock(home / "run" / "lock"):
        for options in ({}, {"overwrite": True}):
            with pytest.raises(InvalidInputError, match="another run trains in"):
                run(home / "data", home / "run", run=options)
    assert (home / "run" / "metrics.jsonl").read_bytes() == log
    run(home / "data", home / "run")


def test_lock_is_freed_at_the_end_of_a_run_and_after_an_error(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="loss"):
        run(images, tmp_path / "run", optim={"lr": 1000.0, "weight_decay": 1000.0, "epochs": 50})
    with FileLock(tmp_path / "run" / "lock", timeout=0):
        pass


def test_runs_on_different_data_are_not_compared() -> None:
    one = {"config": {"run": {"output": "a"}}, "data": {"train": {"files": "1"}}}
    other = {"config": {"run": {"output": "b"}}, "data": {"train": {"files": "2"}}}
    check_same_data([one, one, {}])
    with pytest.raises(InvalidInputError, match="between the runs a and b"):
        check_same_data([one, other])
