"""``check`` and ``se-zoo check`` report everything that is wrong with a data set."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
import torch
from PIL import Image

from se_zoo import cli
from se_zoo.cli.check import Check, data_config
from se_zoo.data import DataConfig, ImageTable, check
from se_zoo.data.celeba import CELEBA_IGNORE
from se_zoo.data.tables.content import Content
from se_zoo.errors import DataError
from se_zoo.models.label_lists import CELEBA_ATTRIBUTES

from .data_sets import (
    SPLITS,
    columns,
    datasets,  # noqa: F401  (a fixture)
    edit,
    encoded,
    make_csv_single,
    make_folders,
    make_multi,
    multi_columns,
    pixels,
    write_parquet,
)


@pytest.mark.parametrize("workers", [0, 2])
def test_check_names_every_bad_file(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "data"
    config = make_csv_single(folder)
    (folder / "train" / "0.png").write_bytes(b"hello")
    whole = (folder / "test" / "3.png").read_bytes()
    (folder / "test" / "3.png").write_bytes(whole[:-30])
    (folder / "valid" / "2.png").unlink()
    (folder / "valid" / "extra.JPG").write_bytes(b"")
    (folder / "valid" / "extra.txt").write_bytes(b"")
    state = torch.get_rng_state()
    report = check(config, workers=workers, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert not report.ok and len(report.errors) == 3
    for file, reason in (
        ("row 0 (train/0.png)", "not an image"),
        ("row 2 (valid/2.png)", "no such file"),
        ("row 3 (test/3.png)", "cannot read the image"),
    ):
        assert [e for e in report.errors if file in e and reason in e], report.errors
    unused = [w for w in report.warnings if "belong to no row" in w]
    assert len(unused) == 1 and "valid/extra.JPG" in unused[0] and ".txt" not in unused[0]
    assert [n.decoded for n in report.counts.values()] == [5, 2, 3]
    assert [n.labels for n in report.counts.values()] == [(2, 2, 2), (1, 1, 1), (2, 1, 1)]
    assert all(e in str(report) for e in report.errors)


def test_check_reports_sizes(tmp_path: Path) -> None:
    config = make_folders(tmp_path / "data")
    Image.new("RGB", (30, 5)).save(tmp_path / "data" / "train" / "cat" / "1.png")
    counts = check(config, workers=0).counts
    assert counts["train"].width == (7, 30) and counts["train"].height == (5, 9)
    assert counts["test"].width == (7, 7) and counts["test"].height == (9, 9)


def test_check_finds_labels_that_never_or_always_occur(tmp_path: Path, datasets: Any) -> None:
    config = make_multi(tmp_path / "data")
    for split, old in (("valid", True), ("test", False)):
        content = {**multi_columns(split, 4), "Old": [old] * 4}
        write_parquet(tmp_path / "data", split, content)
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 2
    assert "valid split" in report.warnings[0] and "always occur: [Old]" in report.warnings[0]
    assert "test split" in report.warnings[1] and "never occur: [Old]" in report.warnings[1]


def test_check_finds_classes_that_training_never_sees(tmp_path: Path) -> None:
    """An empty class folder satisfies the layout, not the training."""
    config = make_folders(tmp_path / "data")
    for file in (tmp_path / "data" / "train" / "dog").iterdir():
        file.unlink()
    report = check(config, workers=0)
    assert len(report.errors) == 2  # of valid and test
    assert "valid split" in report.errors[0] and "[dog]" in report.errors[0]
    for split in ("valid", "test"):
        for file in (tmp_path / "data" / split / "dog").iterdir():
            file.unlink()
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 3


def test_check_finds_doubles_between_splits(tmp_path: Path) -> None:
    config, folder = make_folders(tmp_path / "data"), tmp_path / "data"
    train = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "test" / "dog" / "8.png").write_bytes(train)
    (folder / "test" / "dog" / "9.png").write_bytes(train)
    (folder / "train" / "cat" / "again.png").write_bytes(train)  # within a split: no leak
    report = check(config, workers=0)
    assert report.ok and len(report.warnings) == 1
    assert "2 images of the test split" in report.warnings[0]
    assert "in train too" in report.warnings[0]


def test_fast_check_decodes_a_sample(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "all" / "cat"
    folder.mkdir(parents=True)
    good = encoded(pixels("train", 0))
    for i in range(200):
        (folder / f"{i:03}.png").write_bytes(b"bad" if i in (0, 1, 199) else good)
    config = DataConfig(str(tmp_path / "data"), splits=("all", "all", "all"))
    fast, full = check(config, fast=True), check(config, workers=2)
    assert fast.fast and fast.counts["all"].decoded == 62 and "sample" in str(fast)
    assert len(fast.errors) == 2 and "000.png" in fast.errors[0] and "199.png" in fast.errors[1]
    assert len(full.errors) == 3 and full.counts["all"].decoded == 197
    assert fast.counts["all"].labels == full.counts["all"].labels == (200,)


class _Deadly:
    """An image that takes its process along."""

    names: Sequence[str] = ()

    def name(self, row: int) -> str:
        return str(row)

    def read(self, row: int) -> bytes:
        if row == 20:
            os._exit(1)
        return encoded(pixels("train", row))


def test_decoding_process_that_dies_is_an_error() -> None:
    from se_zoo.data.tables.parallel_check import decode

    table = ImageTable("faces", Content(_Deadly(), ("a",), torch.zeros(64).long()))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"decoded faces died after .* of 64 samples"):
        list(decode(table, range(64), workers=1))


def test_check_refuses_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="limit is 0"):
        check(replace(make_csv_single(tmp_path / "listed"), limit=0))
    with pytest.raises(DataError, match="workers is -1"):
        check(make_folders(tmp_path / "data"), workers=-1)


def test_long_reports_are_cut(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "train"
    for name in range(70):
        (folder / f"c{name:02}").mkdir(parents=True)
        (folder / f"c{name:02}" / "a.png").write_bytes(b"bad")
    report = check(DataConfig(str(tmp_path / "data"), splits=("train",) * 3), workers=0)
    assert "70 errors" in str(report) and "and 50 more" in str(report)
    assert str(report).count("not an image") == 20
    assert report.text(None).count("not an image") == 70
    assert "fewest" in str(report) and report.counts["train"].width is None


# ------------------------------------------------------------------------------ command line


def run(*args: object) -> None:
    cli.main([str(a) for a in args])


def failing(*args: object) -> str:
    with pytest.raises(SystemExit) as info:
        run(*args)
    message = str(info.value.code)
    assert message.startswith("se-zoo: ") and "\n" not in message
    return message


def test_command_prints_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_folders(tmp_path / "data")
    run("check", tmp_path / "data", "--workers", "0")
    printed = capsys.readouterr().out
    assert "13 images, 3 classes" in printed and "no errors" in printed
    assert ["train", "6", "6", "7", "9"] in [line.split() for line in printed.splitlines()]
    assert ["bird", "2", "33.3%", "1", "33.3%", "2", "50.0%"] in [
        line.split() for line in printed.splitlines()
    ]


def test_command_fails_on_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_folders(tmp_path / "data")
    for file in (tmp_path / "data" / "train" / "cat").iterdir():
        file.write_bytes(b"")
    assert "2 errors" in failing("check", tmp_path / "data", "--workers", "0")
    assert "train/cat/1.png" in capsys.readouterr().out
    assert "2 errors" in failing("check", tmp_path / "data", "--fast")


def test_command_refuses_bad_input_in_one_line(tmp_path: Path) -> None:
    assert "no such folder" in failing("check", tmp_path / "none")
    assert "a folder per class" in failing("check", make_listing(tmp_path), "--label", "label")
    assert "--celeba" in failing("check", tmp_path, "--celeba", "--label", "label")


def make_listing(tmp_path: Path) -> Path:
    make_csv_single(tmp_path / "listed")
    return tmp_path / "listed"


def test_command_takes_every_option(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_listing(tmp_path)
    edit(folder / "table.csv", "image,split,label", "file,split,kind")
    edit(folder / "table.csv", ",valid,", ",val,")
    run("check", folder, "--csv", folder / "table.csv", "--image", "file", "--label", "kind",
        "--splits", "train", "val", "test", "--workers", "0")  # fmt: skip
    assert "13 images, 3 classes" in capsys.readouterr().out


def test_command_checks_celeba_in_a_folder(
    tmp_path: Path, datasets: Any, capsys: pytest.CaptureFixture
) -> None:
    for split, count in SPLITS.items():
        content: Dict[str, List[Any]] = columns(split, count)
        content.update(celeb_id=[1] * count, image_id=list(range(count)))
        for i, name in enumerate(CELEBA_ATTRIBUTES):
            content[name] = [(i + row) % 2 == 0 for row in range(count)]
        write_parquet(tmp_path / "data", split, content)
    run("check", tmp_path / "data", "--celeba", "--workers", "0")
    printed = capsys.readouterr().out
    assert "13 images, 40 attributes" in printed and "no errors" in printed
    content["Smiling"] = [-1, 1, 1, -1]
    write_parquet(tmp_path / "data", "test", content)
    assert "1 error" in failing("check", tmp_path / "data", "--celeba", "--workers", "0")
    assert "Smiling (int64)" in capsys.readouterr().out


def test_celeba_option_names_the_config_on_the_hub() -> None:
    config = data_config(Check("flwrlabs/celeba", celeba=True))
    assert config.name == "img_align+identity+attr" and config.ignore == CELEBA_IGNORE
    assert config.attributes == CELEBA_ATTRIBUTES
    assert data_config(Check("folder", celeba=True)).name is None


# ------------------------------------------------------------------------------ blind spots


def test_check_names_the_endings_of_files_that_are_not_used(tmp_path: Path) -> None:
    make_folders(tmp_path / "data")
    folder = tmp_path / "data" / "train" / "cat"
    for name in ("a.pgx", "b.PGX", "c.jxl", "d.pcx", "e.jp2", "f", "g.mat", "notes.txt", ".h"):
        (folder / name).write_bytes(b"x")
    (warning,) = check(DataConfig(str(tmp_path / "data")), workers=0, progress=False).warnings
    assert "7 files" in warning and "because of their endings" in warning
    for part in (".pgx (2)", ".jxl (1)", ".pcx (1)", ".jp2 (1)", "no ending (1)", ".mat (1)"):
        assert part in warning
    assert "txt" not in warning


def test_check_finds_an_image_under_two_labels(tmp_path: Path) -> None:
    config, folder = make_folders(tmp_path / "data"), tmp_path / "data" / "train"
    image = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "again.png").write_bytes(image)  # the same label: no contradiction
    (folder / "dog" / "again.png").write_bytes(image)
    (warning,) = check(config, workers=0, progress=False).warnings
    assert "1 images of the train split" in warning and "under another label" in warning
    assert "dog and cat" in warning


def test_check_says_that_a_double_in_another_split_has_another_label(tmp_path: Path) -> None:
    config, folder = make_folders(tmp_path / "data"), tmp_path / "data"
    image = (folder / "train" / "cat" / "1.png").read_bytes()
    (folder / "test" / "cat" / "8.png").write_bytes(image)
    (folder / "test" / "dog" / "9.png").write_bytes(image)
    (warning, other) = check(config, workers=0, progress=False).warnings
    assert "2 images" in warning and "1 of them under other labels" in warning
    assert "in it under another label" in other


def test_check_finds_attributes_that_contradict_each_other(tmp_path: Path, datasets: Any) -> None:
    config = make_multi(tmp_path / "data")
    content = multi_columns("train", 6)
    content["image"][1] = content["image"][0]
    write_parquet(tmp_path / "data", "train", content)
    (warning,) = check(config, workers=0, progress=False).warnings
    assert "row 1 = row 0, other labels" in warning


def test_check_refuses_more_processes_than_the_machine_takes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="workers is 100000; it must be 0 or more, and at most"):
        check(make_folders(tmp_path / "data"), workers=100_000)
