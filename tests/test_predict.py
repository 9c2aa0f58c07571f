"""Predicting data sets: every layout, any number of processes, and going on where a run stopped."""

import io
import json
import os
import pickle
import shutil
import tarfile
import time
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import pytest
import torch
from PIL import Image

pa = pytest.importorskip("pyarrow", reason="needs pyarrow (extra: predict)")
import pyarrow.parquet as pq  # noqa: E402

import se_zoo  # noqa: E402
from se_zoo import InvalidInputError, cli  # noqa: E402
from se_zoo.cli import predict as predict_command  # noqa: E402
from se_zoo.inference.part_files import length_in  # noqa: E402
from se_zoo.inference.predict.open import open_source  # noqa: E402
from se_zoo.inference.predict.run import Run, predict  # noqa: E402
from se_zoo.inference.predict.sources import SourceOptions  # noqa: E402
from se_zoo.models.load_model import load_model  # noqa: E402

from .predicting import LABELS, encoded, tiny_model, write_folder, write_parquet, write_tars  # noqa: E402

COUNT, BAD = 23, 7
SMALL: Any = {"batch_size": 3, "rows_per_file": 8}


@pytest.fixture(scope="module")
def name(tmp_path_factory: Any) -> str:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def explainer(name: str) -> Any:
    return se_zoo.BatchExplainer(name, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    return write_folder(tmp_path_factory.mktemp("photos"), encoded(COUNT, BAD))


@pytest.fixture(scope="module")
def done(folder: Path, explainer: Any, tmp_path_factory: Any) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "done"
    summary = predict(open_source(str(folder)), out, explainer, **SMALL, info=where(folder))
    assert summary == (COUNT, 1, 3)
    return out


def where(source: Path) -> Dict[str, Any]:
    return {"source": str(source), "source_options": SourceOptions()._asdict()}


def content(out: Path) -> Dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(out.glob("part-*"))}


def rows(out: Path) -> Any:
    return [
        row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def test_rows_are_what_the_model_says_of_each_photo(done: Path, folder: Path, name: str) -> None:
    found, model = rows(done), load_model(name)
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png"))
    assert [row["id"] for row in found] == names
    bad = [row for row in found if row["error"]]
    assert [row["id"] for row in bad] == [f"{BAD % 3}/{BAD:04d}.png"]
    assert bad[0]["error"].startswith("not an image")
    assert bad[0]["map"] is bad[0]["top"] is bad[0]["region"] is None
    row = found[0]
    with Image.open(folder / row["id"]) as photo:
        seen = photo.crop(row["region"])
    explanation = model.explain(folder / row["id"])
    assert seen.width == seen.height < photo.width
    assert row["target"] == list(explanation.target) and row["label"] == list(explanation.labels)
    assert row["grid"] == list(explanation.native_grid) == [2, 2]
    assert row["map"][0] == pytest.approx(explanation.raw.flatten().tolist(), rel=2e-3, abs=2e-3)
    assert row["constant"] == pytest.approx(explanation.constant.tolist(), abs=1e-4)
    best = explanation.probabilities[0].sort(descending=True)
    assert [t["class"] for t in row["top"]] == best.indices[:5].tolist()
    assert [t["label"] for t in row["top"]] == [LABELS[i] for i in best.indices[:5]]
    kept = [t["probability"] for t in row["top"]]
    assert kept == pytest.approx(best.values[:5].tolist(), abs=1e-5)


def test_rows_are_read_by_datasets(done: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets (extra: predict)")
    found = datasets.load_dataset(
        "parquet", data_files=f"{done}/*.parquet", split="train", cache_dir=str(tmp_path)
    )
    assert len(found) == COUNT and found.to_list() == rows(done)


@pytest.mark.parametrize(
    ("missing", "workers"), [((0,), 0), ((0,), 1), ((1, 2), 0), ((0, 1, 2), 0)]
)
def test_missing_files_are_made_again_equal_to_the_bit(
    done: Path, folder: Path, explainer: Any, tmp_path: Path, missing: Any, workers: int
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "complete.json").unlink()
    for unit in missing:
        (out / f"part-00000-{unit:06d}.parquet").unlink()
    (out / "part-00000-000001.parquet.77.tmp").write_bytes(b"of a killed process")
    kept = {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    summary = predict(open_source(str(folder)), out, explainer, **SMALL, workers=workers)
    assert summary == (COUNT, 1, 3) and content(out) == content(done)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept, "finished files are not made again"
    assert json.loads((out / "complete.json").read_text())["rows"] == COUNT


def test_damaged_file_is_made_again(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "part-00000-000001.parquet").write_bytes(b"PAR1")
    predict(open_source(str(folder)), out, explainer, **SMALL)
    assert content(out) == content(done)


def test_damage_of_a_page_is_found_when_it_is_read(done: Path, tmp_path: Path) -> None:
    """Parquet checksums are written: a changed bit does not pass for another prediction."""
    out = Path(shutil.copytree(done, tmp_path / "run"))
    file = sorted(out.glob("part-*"))[0]
    columns = pq.read_metadata(file).row_group(0)
    chunk = next(c for c in map(columns.column, range(99)) if c.path_in_schema.startswith("map"))
    data = bytearray(file.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 9] ^= 1
    file.write_bytes(data)
    with pytest.raises(InvalidInputError, match=rf"{file.name} is damaged.*Remove it"):
        list(se_zoo.load_predictions(out))


@pytest.mark.parametrize("kind", ["pipe", "folder", "columns", "types"])
def test_file_that_predict_did_not_write_is_made_again_or_refused(
    kind: str, done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    file = sorted(out.glob("part-*"))[1]
    table = pq.read_table(file)
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "columns":
        pq.write_table(table.drop_columns(["map"]), file)
    else:
        pq.write_table(pa.table({name: table["id"] for name in table.column_names}), file)
    with pytest.raises(InvalidInputError, match=rf"{file.name} is damaged"):
        list(se_zoo.load_predictions(out))
    again: Any = lambda: predict(open_source(str(folder)), out, explainer, **SMALL)  # noqa: E731
    if kind == "folder":
        with pytest.raises(InvalidInputError, match="cannot be written"):
            again()
    else:
        assert again() == (COUNT, 1, 3) and content(out) == content(done)


def test_files_of_other_predictions_are_not_counted(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    (out / "part-x-y.parquet").write_text("no part")
    assert len(se_zoo.load_predictions(out)) == COUNT
    shutil.copy(sorted(done.glob("part-*"))[0], out / "part-00009-000000.parquet")
    with pytest.raises(InvalidInputError, match=r"part-00009-000000\.parquet is of other"):
        predict(open_source(str(folder)), out, explainer, **SMALL)


@pytest.mark.parametrize(
    "content", ["[]", '{"facts": [], "info": {}}', '{"facts": {"rows": 3}, "info": {}}',
                "[" * 10**5,
                '{"facts": {"model": {}, "source": {}, "rows": {"rows_per_file": 0}}, "info": {}}']
)  # fmt: skip
def test_manifest_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "predict.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"predict\.json cannot be read"):
        se_zoo.load_predictions(tmp_path)


class Deadly:
    """A source that kills its reader at a photo, as soon as a file is there, if one is given."""

    def __init__(self, source: Any, photo: int, file: Optional[Path] = None) -> None:
        self.source, self.photo, self.file = source, photo, file
        self.counts, self.left_out, self.facts = source.counts, {}, source.facts

    def read(self, part: int, start: int, stop: int) -> Any:
        if start <= self.photo < stop:
            end = time.monotonic() + 60
            while self.file is not None and not self.file.exists() and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(os.getpid(), 9)
        return self.source.read(part, start, stop)


def test_killed_loader_process_is_named_with_its_place(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out, real = tmp_path / "out", open_source(str(folder))
    early: Any = Deadly(real, 0)
    late: Any = Deadly(real, 8, out / "part-00000-000000.parquet")
    advice = r"fewer --workers.*smaller --batch-size.*--out a new folder"
    with pytest.raises(
        InvalidInputError, match=rf"one of the first 6 photos of this run\..*{advice}"
    ):
        predict(early, out, explainer, **SMALL, workers=1)
    with pytest.raises(InvalidInputError, match=r"one of the 6 photos after '0/0021\.png'\."):
        predict(late, out, explainer, **SMALL, workers=1)
    predict(real, out, explainer, **SMALL)
    assert content(out) == content(done)


def test_another_process_that_ends_at_the_same_time_keeps_its_record(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    (out / "complete.json.7.tmp").write_text("{}")
    (out / "part-00000-000001.parquet.7.tmp").write_text("of a killed process")
    predict(open_source(str(folder)), out, explainer, **SMALL)
    assert [file.name for file in out.glob("*.tmp")] == ["complete.json.7.tmp"]


def test_photos_of_a_disk_that_is_gone_do_not_become_errors(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    """Their file would be finished. The record of an earlier end goes, too: rows are missing."""
    data, out = tmp_path / "photos", Path(shutil.copytree(done, tmp_path / "run"))
    shutil.copytree(folder, data)
    source = open_source(str(data))
    (out / "part-00000-000001.parquet").unlink()
    data.rename(tmp_path / "away")
    with pytest.raises(InvalidInputError, match=r"0000\.png is gone, and 8 of the last 8 photos"):
        predict(source, out, explainer, **SMALL)
    assert len(content(out)) == 2 and not (out / "complete.json").exists()
    (tmp_path / "away").rename(data)
    assert predict(source, out, explainer, **SMALL) == (COUNT, 1, 3)
    assert content(out) == content(done)


def test_row_group_that_ends_early_is_an_error_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no end of the whole run, as StopIteration would be."""
    write_parquet(tmp_path, encoded(3), files=1)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *args, **options: iter(()))
    found = open_source(str(tmp_path)).read(0, 0, 2)
    assert [name for name, _ in found] == ["0.parquet#0", "0.parquet#1"]
    assert all("rows 0 to 2 of the file are damaged" in str(error) for _, error in found)


def test_going_on_with_another_version_warns(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    manifest = json.loads((out / "predict.json").read_text())
    manifest["info"]["se_zoo"] = "0.0.1"
    (out / "predict.json").write_text(json.dumps(manifest))
    with pytest.warns(se_zoo.SEZooWarning, match=r"begun with se_zoo 0\.0\.1, and goes on with"):
        assert predict(open_source(str(folder)), out, explainer, **SMALL) == (COUNT, 1, 3)


def test_files_say_what_made_them(done: Path, tmp_path: Path) -> None:
    """A folder may be begun with one version and end with another."""
    info = json.loads((done / "predict.json").read_text())["info"]
    predictions = se_zoo.load_predictions(done)
    for row in (predictions[0], predictions[-1]):
        made = predictions.made_with(row)
        assert set(made) == {"se_zoo", "torch", "timm", "pillow", "device"}
        assert all(info[name] == value for name, value in made.items())
        assert made["se_zoo"] == se_zoo.__version__ and made["device"] == "cpu"
    out = Path(shutil.copytree(done, tmp_path / "run"))
    file = sorted(out.glob("*.parquet"))[0]
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)  # an earlier version's
    earlier = se_zoo.load_predictions(out)
    assert earlier.made_with(earlier[0]) == {} and earlier.made_with(earlier[-1])


def test_rows_of_another_format_are_not_taken_for_damaged(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    manifest = json.loads((out / "predict.json").read_text())
    manifest["facts"]["format"], manifest["info"]["se_zoo"] = 2, "9.1"
    (out / "predict.json").write_text(json.dumps(manifest))
    before = content(out)
    for call in (lambda: se_zoo.load_predictions(out),
                 lambda: predict(open_source(str(folder)), out, explainer, **SMALL)):  # fmt: skip
        with pytest.raises(InvalidInputError, match=r"has format 2, .* reads format 1; .* 9\.1"):
            call()
    assert content(out) == before
    del manifest["facts"]["format"]  # as if it were the first
    (out / "predict.json").write_text(json.dumps(manifest))
    assert len(se_zoo.load_predictions(out)) == COUNT


@pytest.mark.parametrize("content", [b"", b"x", b"-1", b"1.5", b"[3]", b"\xff", b"[" * 10**5])
def test_damaged_end_of_a_streamed_part_is_as_good_as_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "part-00000.end").write_bytes(content)
    assert length_in(tmp_path / "part-00000.end") is None
    (tmp_path / "part-00000.end").write_text("7\n")
    assert length_in(tmp_path / "part-00000.end") == 7


def test_manifest_that_does_not_describe_the_rows_is_refused(done: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    manifest = json.loads((out / "predict.json").read_text())
    for name, value in (("map_offset", None), ("num_classes", 10**12), ("method", ["a"])):
        changed = json.loads(json.dumps(manifest))
        changed["facts"]["model"][name] = value
        (out / "predict.json").write_text(json.dumps(changed))
        predictions = se_zoo.load_predictions(out)
        with pytest.raises(ValueError, match="manifest of"):
            predictions.explanation(predictions[0])
    del manifest["info"]["source_options"]
    (out / "predict.json").write_text(json.dumps(manifest))
    predictions = se_zoo.load_predictions(out)
    with pytest.raises(InvalidInputError, match="manifest of"):
        predictions.photo(predictions[0])


def test_processes_share_the_files_and_the_last_one_completes(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    source, out = open_source(str(folder)), tmp_path / "out"
    assert predict(source, out, explainer, **SMALL, process=(1, 2)) is None
    assert list(content(out)) == ["part-00000-000001.parquet"]
    assert not (out / "complete.json").exists()
    assert predict(source, out, explainer, **SMALL, process=(0, 2)) == (COUNT, 1, 3)
    assert content(out) == content(done)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 4}, r"rows.batch_size 3, and this command has 4"),
        ({"rows_per_file": 9}, r"rows.rows_per_file 8"),
        ({"target": "cat"}, r"model.target null, and this command has \[2\]"),
        ({"gate": True}, "model.gate false"),
        ({"method": "gate"}, 'model.method "contribution", and this command has "gate"'),
        ({"photo": b"more"}, "source.photos 23, and this command has 24"),
    ],
)
def test_another_command_does_not_go_on(
    done: Path, folder: Path, name: str, tmp_path: Path, change: Dict[str, Any], message: str
) -> None:
    before, source = content(done), folder
    if "photo" in change:
        source = tmp_path / "more"
        shutil.copytree(folder, source)
        (source / "0" / "x.png").write_bytes(change["photo"])
    options = {k: change[k] for k in ("target", "gate", "method") if k in change}
    other = se_zoo.BatchExplainer(name, **options)
    sizes = {**SMALL, **{k: v for k, v in change.items() if k in SMALL}}
    with pytest.raises(InvalidInputError, match=message):
        predict(open_source(str(source)), done, other, **sizes)
    assert content(done) == before


def test_changed_photos_and_other_weights_are_noticed(
    done: Path, folder: Path, name: str, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    (changed / "0" / "0000.png").write_bytes(encoded(1)[0] + b"+")
    with pytest.raises(InvalidInputError, match=r"source\.sha256"):
        predict(open_source(str(changed)), done, se_zoo.BatchExplainer(name), **SMALL)
    model = load_model(name)
    with torch.no_grad():
        next(model.parameters()).add_(1e-6)
    with pytest.raises(InvalidInputError, match=r"weights_sha256"):
        other = se_zoo.BatchExplainer(model, name=name)
        predict(open_source(str(folder)), done, other, **SMALL)


def test_folder_with_foreign_files_is_not_touched(
    folder: Path, explainer: Any, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"holds thesis\.txt"):
        predict(open_source(str(folder)), tmp_path, explainer)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("layout", ["parquet", "tars", "file", "glob"])
def test_layouts_give_the_rows_of_the_folder(
    done: Path, explainer: Any, tmp_path: Path, layout: str
) -> None:
    photos, data, out = encoded(COUNT, BAD), tmp_path / "data", tmp_path / "out"
    options, expected = None, {row["id"]: row for row in rows(done)}
    if layout == "tars":
        given = str(write_tars(data, photos))
        ids = [f"{i // 11 if i < 11 else 1}.tar/{i:06d}.png" for i in range(COUNT)]
    elif layout == "parquet":
        given, options = str(write_parquet(data, photos)), SourceOptions(id="name")
        ids = [f"{int(i >= 11)}/{i if i < 11 else i - 11}" for i in range(COUNT)]
    elif layout == "file":
        write_parquet(data, photos, files=1)
        given, ids = str(data / "0.parquet"), [f"0.parquet#{i}" for i in range(COUNT)]
    else:
        write_folder(data, photos)
        given = f"{data}/*/*.png"
        ids = sorted(f"{i % 3}/{i:04d}.png" for i in range(COUNT))
    source = open_source(given, options)
    assert pickle.loads(pickle.dumps(source)).facts() == source.facts()
    summary = predict(source, out, explainer, **SMALL, workers=int(layout == "parquet"))
    assert summary is not None and summary[:2] == (COUNT, 1)
    found = rows(out)
    assert [row["id"] for row in found] == ids
    numbers = range(COUNT) if layout != "glob" else [int(name[2:6]) for name in ids]
    for i, row in zip(numbers, found, strict=True):
        same = expected[f"{i % 3}/{i:04d}.png"]
        assert (row["error"], row["region"], row["target"]) == (
            same["error"], same["region"], same["target"]
        )  # fmt: skip
        for a, b in zip(row["map"] or [], same["map"] or [], strict=True):
            assert a == pytest.approx(b, rel=2e-3, abs=2e-3)  # other batches, other rounding


def test_hub_that_cannot_be_reached_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    from se_zoo.inference.predict.hub import latest_revision
    from se_zoo.models.pretrained.hub_errors import CONNECTION_ERROR

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise CONNECTION_ERROR("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    with pytest.raises(InvalidInputError, match=r"some/photos .*no route.*HF_ENDPOINT"):
        latest_revision("some/photos")


def test_hub_data_set_is_streamed_and_goes_on(
    explainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second file has as many rows as two files of results, the end of which is not known."""
    datasets = pytest.importorskip("datasets", reason="needs datasets (extra: predict)")
    from se_zoo.inference.predict import hub

    data, asked = write_parquet(tmp_path / "data", encoded(32, BAD)), []
    load = datasets.load_dataset

    def fake(name: str, subset: Optional[str], **options: Any) -> Any:
        asked.append((name, subset, options.pop("revision")))
        features = datasets.Features(image=datasets.Image(), name=datasets.Value("string"))
        files = sorted(map(str, data.glob("*.parquet")))
        return load("parquet", data_files=files, features=features, **options)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    monkeypatch.setattr(hub, "latest_revision", lambda name: "c0ffee")
    whole, out = tmp_path / "whole", tmp_path / "out"
    source = open_source("hf-hub:some/photos")
    assert source.facts()["revision"] == "c0ffee" and source.counts == [None, None]
    assert predict(source, whole, explainer, **SMALL) == (32, 1, 4)
    assert [row["id"] for row in rows(whole)[15:17]] == ["train/0#15", "train/1#0"]
    assert asked == [("some/photos", None, "c0ffee")]
    made = content(whole)
    assert made["part-00000.end"] == b"16\n"
    files = [n for n in made if n.endswith("parquet")]
    for left in (
        [],
        files[:1],
        files[2:],
        files,
    ):  # what a killed run left, without records of ends
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        for name in [*left, "predict.json"]:
            shutil.copy(whole / name, out)
        again = open_source("hf-hub:some/photos")
        assert predict(again, out, explainer, **SMALL, process=(1, 2)) in (None, (32, 1, 4))
        assert predict(again, out, explainer, **SMALL, process=(0, 2)) == (32, 1, 4)
        assert content(out) == made


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: None, "no photos, parquet files or tars in"),
        (lambda d: (write_tars(d, encoded(2)), write_folder(d, encoded(2))), "quoted glob"),
        (lambda d: (d / "a.tar").write_bytes(b"x" * 2000), "not an uncompressed tar"),
        (lambda d: (d / "a.parquet").write_bytes(b"x" * 2000), "is not a parquet file"),
        (lambda d: pq.write_table(pa.table({"a": [1]}), d / "a.parquet"), "no column 'image'"),
    ],
)
def test_source_that_cannot_be_used_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path)
    with pytest.raises(InvalidInputError, match=message):
        open_source(str(tmp_path))


def test_folder_may_be_named_relative_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tars(tmp_path / "tars", encoded(2))
    write_parquet(tmp_path / "tables", encoded(2))
    monkeypatch.chdir(tmp_path)
    for given in ("tars", "tables"):
        here, whole = open_source(given), open_source(str(tmp_path / given))
        assert here.read(0, 0, 1) == whole.read(0, 0, 1) and here.facts() == whole.facts()


def test_missing_file_and_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        open_source(str(tmp_path / "none"))
    write_parquet(tmp_path, encoded(2))
    with pytest.raises(InvalidInputError, match="no column 'nr'; it has image, name"):
        open_source(str(tmp_path), SourceOptions(id="nr"))


def test_paths_in_parquet_are_relative_to_its_folder(tmp_path: Path) -> None:
    data, absolute = tmp_path / "data", str(tmp_path / "a.png")
    data.mkdir()
    pq.write_table(pa.table({"image": ["b/c.png", absolute, "", None]}), data / "list.parquet")
    options = SourceOptions(outside=True)
    found = [image for _, image in open_source(str(data), options).read(0, 0, 4)]
    assert found[:2] == [data / "b" / "c.png", Path(absolute)]
    assert [str(error) for error in found[2:]] == ["the row has no image"] * 2
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    named = pa.array([{"bytes": None, "path": "b/c.png"}], kind)
    pq.write_table(pa.table({"image": named}), data / "list.parquet")
    assert open_source(str(data)).read(0, 0, 1)[0][1] == found[0]


def test_parquet_names_no_photo_outside_its_data_unless_allowed(tmp_path: Path) -> None:
    """A stranger's table would bring private photos into a report that is given away."""
    data = tmp_path / "data"
    (data / "tables").mkdir(parents=True)
    inside = [str(data / "a.png"), "../a.png", "b.png"]
    outside = [str(tmp_path / "a.png"), "../../a.png", str(tmp_path / "data2" / "a.png")]
    cells = pa.table({"image": inside + outside})
    pq.write_table(cells, data / "tables" / "list.parquet")
    found = [image for _, image in open_source(str(data)).read(0, 0, 6)]
    assert all(isinstance(image, Path) for image in found[:3])
    assert all("outside the data's folder" in str(error) for error in found[3:])
    allowed = open_source(str(data), SourceOptions(outside=True)).read(0, 0, 6)
    assert all(isinstance(image, Path) for _, image in allowed)


def test_data_that_name_photos_outside_only_are_refused(tmp_path: Path) -> None:
    """They would become a folder of errors."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "list.parquet"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    structs = pa.array([{"bytes": None, "path": "../a.png"}] * 20, kind)
    for cells in (["../a.png"] * 20, structs):
        pq.write_table(pa.table({"image": cells}), file)
        with pytest.raises(InvalidInputError, match=r"such as \.\./a\.png; add --outside if"):
            open_source(str(file))
        assert open_source(str(file), SourceOptions(outside=True)).counts == [20]
    for cells in (["../a.png", "b.png"], ["../a.png", ""], []):
        pq.write_table(pa.table({"image": pa.array(cells, pa.string())}), file)
        assert open_source(str(file)).counts == [len(cells)]
    stored = pa.array([{"bytes": b"a photo", "path": "../a.png"}], kind)
    pq.write_table(pa.table({"image": stored}), file)
    assert open_source(str(file)).counts == [1]


def test_photos_outside_cannot_be_allowed_in_the_middle(explainer: Any, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    write_folder(data, encoded(1))
    (tmp_path / "b.png").write_bytes(encoded(1)[0])
    pq.write_table(pa.table({"image": ["0/0000.png", "../b.png"]}), data / "list.parquet")
    given = str(data / "*.parquet")
    assert predict(open_source(given), out, explainer, **SMALL) == (2, 1, 1)
    assert "outside" not in open_source(given).facts()
    allowed = open_source(given, SourceOptions(outside=True))
    with pytest.raises(InvalidInputError, match=r"outside null, and this command has true"):
        predict(allowed, out, explainer, **SMALL)
    assert predict(allowed, tmp_path / "other", explainer, **SMALL) == (2, 0, 1)


def test_tar_with_a_damaged_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    """tarfile takes it for the end."""
    file = write_tars(tmp_path, encoded(3), files=1) / "0.tar"
    with tarfile.open(file) as tar:
        offset = tar.getmembers()[2].offset
    content = bytearray(file.read_bytes())
    assert open_source(str(file)).counts == [3]
    for damaged in (b"damaged", bytes(512)):  # a wrong checksum; a single block of zeros
        changed = content[:]
        changed[offset : offset + len(damaged)] = damaged
        file.write_bytes(changed)
        with pytest.raises(
            InvalidInputError, match=f"is damaged: there is no header at .*{offset:,}"
        ):
            open_source(str(file))


def header_of(size: int) -> bytes:
    """The header of a photo of this size in a tar."""
    member = tarfile.TarInfo("a.png")
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [-512, -1024])
def test_tar_with_a_negative_size_is_refused(size: int, tmp_path: Path) -> None:
    """Older Pythons would read the same header for ever."""
    (tmp_path / "a.tar").write_bytes(header_of(0) + header_of(size) + bytes(1024))
    with pytest.raises(InvalidInputError, match="is not an uncompressed tar, or is damaged"):
        open_source(str(tmp_path))


def test_huge_photo_in_a_tar_is_an_error_of_its_row(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(header_of(2**32))
    os.truncate(file, 512 + 2**32 + 1024)  # takes no place on the disk
    [(name, error)] = open_source(str(tmp_path)).read(0, 0, 1)
    assert name == "a.tar/a.png" and "4,294,967,296 bytes" in str(error)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_tar_may_end_without_blocks_of_zeros(blocks: int, tmp_path: Path) -> None:
    file = write_tars(tmp_path, encoded(3), files=1) / "0.tar"
    with tarfile.open(file) as tar:
        end = tar.getmembers()[-1].offset_data + 512  # of a text
    file.write_bytes(file.read_bytes()[: end + 512 * blocks])
    assert open_source(str(file)).counts == [3]


def test_hard_links_of_a_tar_are_rows(tmp_path: Path) -> None:
    first, second = encoded(2)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, content in (("./a.png", first), ("b.png", "./a.png"), ("./a.png", second),
                              ("c.png", "a.png"), ("d.png", "c.png"), ("e.png", "z.png"),
                              ("f.cls", "a.png")):  # fmt: skip
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = tarfile.LNKTYPE, content
                tar.addfile(member)
    source = open_source(str(tmp_path))
    *found, (_, broken) = source.read(0, 0, source.counts[0])
    assert [(name[6:], image) for name, image in found] == [
        ("./a.png", first), ("b.png", first), ("./a.png", second), ("c.png", second),
        ("d.png", second),
    ]  # fmt: skip
    assert "a link to z.png" in str(broken)
    assert source.facts()["newer"] == 4, "rows of earlier versions have other numbers"


def test_other_files_are_counted_and_are_no_fact(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, encoded(3))
    shutil.copy(folder / "0" / "0000.png", folder / "x.jfif")
    shutil.copy(folder / "0" / "0000.png", folder / "y.JPE")
    facts = open_source(str(folder)).facts()
    for name in ("b.tar.gz", "README", "notes.txt"):
        (folder / name).touch()
    source = open_source(str(folder))
    assert source.facts() == facts and facts["photos"] == 5
    assert source.left_out == {".txt": 2, ".gz": 1, "": 1}
    said = predict_command._left_out(source.left_out)
    assert said == "; 4 other files were left out (.txt, no ending, .gz)"
    assert predict_command._left_out({".a": 2, ".b": 1, ".c": 1, ".d": 1}).endswith(
        "(.a, .b, .c, ...)"
    )
    assert predict_command._left_out({}) == ""


def test_rows_of_damaged_parquet_pages_are_errors(explainer: Any, tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "data", encoded(10), files=1, group=5) / "0.parquet"
    chunk = pq.read_metadata(file).row_group(1).column(0)
    damaged = bytearray(file.read_bytes())
    damaged[chunk.data_page_offset : chunk.data_page_offset + 40] = b"\xff" * 40
    file.write_bytes(damaged)
    predict(open_source(str(file)), tmp_path / "out", explainer, batch_size=5)
    errors = [row["error"] for row in rows(tmp_path / "out")]
    assert errors[:5] == [None] * 5 and all("damaged" in error for error in errors[5:])


def test_own_results_are_no_data(explainer: Any, tmp_path: Path) -> None:
    data = write_parquet(tmp_path / "data", encoded(4))
    for given in (str(data), f"{data}/**/*.parquet"):
        out = data / "predictions"
        for _ in range(2):
            assert predict(open_source(given), out, explainer, **SMALL).rows == 4
        shutil.rmtree(out)


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    for name, content in zip(("a[1].png", "a1.png"), encoded(2), strict=True):
        (tmp_path / name).write_bytes(content)
    ((name, _),) = open_source(str(tmp_path / "a[1].png")).read(0, 0, 1)
    assert name == "a[1].png"


def test_every_parquet_file_needs_the_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path, encoded(4))
    pq.write_table(pq.read_table(tmp_path / "1.parquet").drop(["image"]), tmp_path / "1.parquet")
    with pytest.raises(InvalidInputError, match=r"1\.parquet has no column 'image'"):
        open_source(str(tmp_path))


def test_a_row_without_an_id_is_named_by_its_place(tmp_path: Path) -> None:
    file = write_parquet(tmp_path, encoded(3), files=1) / "0.parquet"
    rows = pq.read_table(file)
    rows = rows.set_column(rows.schema.get_field_index("name"), "name", pa.array(["x", None, "z"]))
    pq.write_table(rows, file)
    found = open_source(str(tmp_path), SourceOptions(id="name")).read(0, 0, 3)
    assert [name for name, _ in found] == ["x", "0.parquet#1", "z"]


def test_files_of_a_hub_data_set_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell names a file, in an archive or not; no file of this machine is read."""
    pytest.importorskip("datasets", reason="needs datasets (extra: predict)")
    import fsspec

    from se_zoo.inference.predict.hub import HubSource

    def opened(address: str, mode: str) -> Any:
        if "gone" in address:
            raise FileNotFoundError(address)
        if "busy" in address:
            raise ConnectionError("503")
        return io.BytesIO(address.encode())

    monkeypatch.setattr(fsspec, "open", opened)
    source: Any = HubSource.__new__(HubSource)
    source.name = "some/photos"
    (tmp_path / "secret").write_bytes(b"secret")
    read = lambda path: source._content({"bytes": None, "path": path}, 0, 3)  # noqa: E731
    own = "hf://datasets/some/photos@c0ffee/x.zip"
    assert read(f"zip://a.jpg::{own}") == f"zip://a.jpg::{own}".encode()
    assert source._content({"bytes": b"x", "path": None}, 0, 3) == b"x"
    for path in (f"zip://gone::{own}", "hf://datasets/other/photos@1/a.jpg", "a.jpg",
                 str(tmp_path / "secret")):  # fmt: skip
        assert isinstance(read(path), ValueError), path
    with pytest.raises(InvalidInputError, match=r"stopped at row 3 .*The same command goes on"):
        read(f"zip://busy::{own}")


def test_linked_folders_are_followed_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(folder / "0")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    shutil.copy(folder / "0" / "0000.png", tmp_path / ".hidden")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    source = open_source(str(tmp_path))
    assert source.counts == [9]
    assert [name for name, _ in source.read(0, 7, 9)] == ["a/0021.png", "gone.png"]


def test_command_predicts_and_says_what_is_there(
    done: Path, folder: Path, name: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(folder), "--out", str(out), "--model", name, "--workers", "0",
               "--batch-size", "3", "--rows-per-file", "8", "--device", "cpu"]  # fmt: skip
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    cli.main([*command, "--quiet"])
    assert "process 1 of 2 is done" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    cli.main(command)
    printed = capsys.readouterr()
    assert "23 photos in 3 files, 1 of them could not be read (column error)" in printed.out
    assert "; 1 other file was left out (.txt)" in printed.out and "note:" not in printed.err
    assert "15/15" in printed.err, "the bar counts what is left to do"
    assert content(out) == content(done)
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(SystemExit, match="RANK is 2 and WORLD_SIZE 2"):
        cli.main(command)


def test_device_that_cannot_be_used_is_refused(folder: Path, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="--device banana cannot be used"):
        cli.main(["predict", str(folder), "--out", str(out), "--model", name,
                  "--device", "banana"])  # fmt: skip
    assert not out.exists()


def test_processes_without_local_ranks_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert predict_command._process() == (3, 8, 3, 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert predict_command._process() == (3, 8, 1, 1)


def test_default_model_is_said_to_read_faces(
    folder: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    out = tmp_path / "out"
    words = ["predict", str(folder / "2"), "--out", str(out), "--workers", "0", "--device", "cpu"]
    cli.main(words)
    assert json.loads((out / "predict.json").read_text())["facts"]["model"]["model"] == (
        predict_command.DEFAULT_MODEL
    )
    note = capsys.readouterr().err
    assert f"note: the default model, {predict_command.DEFAULT_MODEL}, reads faces" in note
    assert f"--model {predict_command.OBJECTS_MODEL}" in note
    cli.main([*words, "--model", predict_command.DEFAULT_MODEL])  # the same run
    assert "note:" not in capsys.readouterr().err
    cli.main([*words, "--quiet"])
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    cli.main(words)
    assert "note:" not in capsys.readouterr().err


def test_every_file_is_made_by_one_process(folder: Path, explainer: Any, tmp_path: Path) -> None:
    source = open_source(str(folder))
    runs = [Run(source, tmp_path, explainer, 3, 2, (rank, 5)) for rank in range(5)]
    shares = [[unit for _, unit, _ in run.missing()] for run in runs]
    assert sorted(unit for share in shares for unit in share) == list(range(12))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_predictions_load_as_explanations(done: Path, folder: Path, explainer: Any) -> None:
    predictions = se_zoo.load_predictions(done)
    assert len(predictions) == COUNT and predictions.facts["model"]["method"] == "contribution"
    row = predictions[-1]
    assert row.id == [r.id for r in predictions][-1] == predictions.at((0, COUNT - 1)).id
    assert predictions[0].map.shape == (1, 2, 2)
    explanation = predictions.explanation(row)
    with Image.open(folder / row.id) as photo:
        same = predictions.explanation(row, photo)
    assert torch.equal(explanation.heatmap, same.heatmap)
    assert explanation.heatmap.shape == (1, 64, 64) and explanation.images.shape == (1, 3, 64, 64)
    assert explanation.row_probability.tolist() == pytest.approx(row.probability, abs=1e-4)
    assert explanation.labels == row.label and explanation.grid().width > 64
    expected = explainer.model.explain(explanation.images)
    assert torch.allclose(explanation.heatmap, expected.heatmap, atol=5e-3)
    bad = next(r for r in predictions if r.error)
    with pytest.raises(InvalidInputError, match="has no explanation: not an image"):
        predictions.explanation(bad)
    with pytest.raises(IndexError):
        predictions[COUNT]
    with pytest.raises(InvalidInputError, match=f"no row {COUNT} of part 0"):
        predictions.at((0, COUNT))
    with pytest.raises(InvalidInputError, match=r"no predict\.json"):
        se_zoo.load_predictions(folder)


def test_independent_labels_that_were_not_kept_are_not_predicted(
    done: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    manifest = json.loads((out / "predict.json").read_text())
    manifest["facts"]["model"].update(multi_label=True, thresholds=[1e-4] * len(LABELS))
    (out / "predict.json").write_text(json.dumps(manifest))
    predictions = se_zoo.load_predictions(out)
    row = predictions[0]
    explanation = predictions.explanation(row)
    kept = {index: probability for index, _, probability in row.top}
    (unknown,) = set(range(len(LABELS))) - set(kept)
    assert explanation.probabilities[0, unknown] == 0 and not explanation.predicted[0, unknown]
    for index, probability in kept.items():
        assert float(explanation.probabilities[0, index]) == pytest.approx(probability, abs=1e-5)
        assert bool(explanation.predicted[0, index]) == (probability > 1e-4)


def test_explanations_of_rows_lie_on_their_photos(
    done: Path, folder: Path, explainer: Any, tmp_path: Path
) -> None:
    predictions = se_zoo.load_predictions(done)
    row = predictions[0]
    explanation = predictions.explanation(row)
    with Image.open(folder / row.id) as photo:
        size = photo.size
    (found,), (expected,) = explanation.photos, explainer.model.explain(folder / row.id).photos
    assert (found.name, found.size, found.region) == (row.id, size, expected.region)
    assert found.region == pytest.approx(row.region, abs=1e-3) and size[0] != size[1]
    assert explanation.overlay().shape == (1, size[1], size[0], 3)
    assert explanation.to_masks().shape == (1, size[1], size[0])
    explanation.save(tmp_path / "why.png")
    again = se_zoo.Explanation.load(tmp_path / "why.json")
    np.testing.assert_allclose(again.boxes().xyxy, explanation.boxes().xyxy, atol=0.01)


def test_maps_lie_where_those_of_the_model_lie(tmp_path: Path) -> None:
    """72 px make 3 x 3 cells of 32: they do not tile the input."""
    model: Any = load_model(tiny_model(tmp_path / "model"))
    model.pretrained_cfg.update(input_size=(3, 72, 72))
    model.map_offset = (5.0, -3.0)
    photos = write_folder(tmp_path / "photos", encoded(3))
    explainer = se_zoo.BatchExplainer(model, device="cpu")
    predict(open_source(str(photos)), tmp_path / "out", explainer, info=where(photos))
    predictions = se_zoo.load_predictions(tmp_path / "out")
    assert predictions.facts["model"]["cells"] == [32.0, 32.0]
    explanation = predictions.explanation(predictions[0])
    expected = model.explain(explanation.images)
    assert explanation.raw.shape[1:] == (3, 3)
    assert torch.allclose(explanation.heatmap, expected.heatmap, atol=5e-3)


@pytest.mark.parametrize("gate", [False, True])
def test_class_gate_maps_are_saved_without_their_channels(
    folder: Path, name: str, tmp_path: Path, gate: bool
) -> None:
    """A row keeps no class gate, so the channels that it selects are unknown, and not "none"."""
    explainer = se_zoo.BatchExplainer(name, device="cpu", method="class_gate", gate=gate)
    out = tmp_path / "out"
    predict(open_source(str(folder / "1")), out, explainer, **SMALL, info=where(folder / "1"))
    predictions = se_zoo.load_predictions(out)
    row = next(row for row in predictions if not row.error)
    explanation = predictions.explanation(row)
    explanation.save(tmp_path / "why.png")
    assert "selected_channels" not in explanation.to_dict()["rows"][0]
    again = se_zoo.Explanation.load(tmp_path / "why.json")
    assert again.method == "class_gate" and again.selected.shape[1] == 0
    assert torch.allclose(again.heatmap, explanation.heatmap, atol=1e-4)


def test_photos_come_from_the_data_set_unless_it_has_changed(
    done: Path, folder: Path, tmp_path: Path
) -> None:
    predictions = se_zoo.load_predictions(done)
    row = predictions[3]
    with Image.open(folder / row.id) as expected:
        assert np.array_equal(np.asarray(predictions.photo(row)), np.asarray(expected))
    moved = tmp_path / "out"
    shutil.copytree(done, moved)
    manifest = json.loads((moved / "predict.json").read_text())
    manifest["info"]["source"] = str(folder / "1")
    (moved / "predict.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInputError, match="has changed since"):
        se_zoo.load_predictions(moved).photo(row)
    manifest["info"]["source"] = str(folder / "gone")
    (moved / "predict.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInputError, match=r"no such file.* new place into predict\.json of"):
        se_zoo.load_predictions(moved).photo(row)
