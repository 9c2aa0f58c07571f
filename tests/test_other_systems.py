"""What Windows and macOS do otherwise than Linux, played here: files, shells, Apple's GPUs."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

import se_zoo
from se_zoo import InvalidInputError, files
from se_zoo.cli import plan
from se_zoo.cli.sources import Source
from se_zoo.data import check
from se_zoo.data.faces import face_track
from se_zoo.data.faces.detect import HaarDetector, YuNetDetector
from se_zoo.explanations.channel_selection import in_double
from se_zoo.inference.images import demo_photo
from se_zoo.train import batch_norm
from se_zoo.train.gate_alone import measure_gate_alone
from se_zoo.train.head_only import _CachedFeatures
from se_zoo.train.loader import Decoded
from se_zoo.train.metrics import Scores
from se_zoo.train.options import plain as as_plain
from se_zoo.train.resume import state

from .data_sets import make_csv_single
from .explain_models import images, plain  # noqa: F401  plain is a fixture
from .test_batch_norm import model  # noqa: F401  a fixture
from .test_gate_alone import OneLabel, labelled
from .train_run import make_state

NO_CV = "needs OpenCV (extra: face)"


# Files


def test_checkpoints_are_synced_through_files_that_are_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to sync others: "Bad file descriptor"."""
    fcntl = pytest.importorskip("fcntl", reason="how a file was opened is known on Unix alone")
    modes: List[int] = []
    sync = os.fsync

    def noted(number: int) -> None:
        modes.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)
        sync(number)

    monkeypatch.setattr(os, "fsync", noted)
    step = make_state(tmp_path, 1)
    assert modes == [os.O_RDWR] * 3  # weights, progress and manifest
    assert state.latest(tmp_path) == (step, [])


def test_renaming_waits_for_a_virus_scanner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, refused = os.replace, [1, 1]

    def scanned(old: Path, new: Path) -> None:
        if refused:
            refused.pop()
            raise PermissionError("[WinError 5] Access is denied")
        replace(old, new)

    monkeypatch.setattr(os, "replace", scanned)
    monkeypatch.setattr(files, "_PATIENCE", 5.0)
    files.write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new" and not refused


def test_renaming_gives_up_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(old: Path, new: Path) -> None:
        raise PermissionError("[WinError 5] Access is denied")

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "replace", locked)
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    with pytest.raises(PermissionError, match="denied"):
        files.write_text(tmp_path / "a.txt", "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "old"}


def test_a_file_that_cannot_be_removed_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is still mapped where the error occurs."""

    def held(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError("[WinError 32] used by another process")

    monkeypatch.setattr(Path, "unlink", held)
    with pytest.raises(ValueError, match="the cause"), files.replacing(tmp_path / "a") as made:
        made.write_bytes(b"half")
        raise ValueError("the cause")


def test_text_files_have_the_same_bytes_on_every_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_windows(self: Path, text: str, encoding: str = "cp1252", newline: Any = None) -> None:
        ends = "\r\n" if newline is None else newline
        self.write_bytes(text.replace("\n", ends).encode(encoding))

    monkeypatch.setattr(Path, "write_text", on_windows)
    files.write_json(tmp_path / "a", {"name": "Jürgen"})
    files.write_text(tmp_path / "b", "Jürgen\n")
    assert (tmp_path / "a").read_bytes() == b'{\n  "name": "J\\u00fcrgen"\n}\n'
    assert (tmp_path / "b").read_bytes() == "Jürgen\n".encode()


def test_a_table_on_another_drive_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_csv_single(tmp_path / "data")
    relative = os.path.relpath

    def of_drives(path: Any, start: Any = os.curdir) -> str:
        if path == config.csv:
            raise ValueError("path is on mount 'D:', start on mount 'C:'")
        return relative(path, start)

    monkeypatch.setattr(os.path, "relpath", of_drives)
    assert check(config, workers=0, progress=False).ok


def test_folders_of_entities_have_no_colon_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert face_track.folder_name("talk:0") == ("talk_0" if os.name == "nt" else "talk:0")
    monkeypatch.setattr(face_track, "_COLONS", False)
    assert face_track.folder_name("talk:0") == "talk_0" and face_track.folder_name("a_1") == "a_1"


def test_paths_of_a_run_have_slashes() -> None:
    from pathlib import PureWindowsPath

    config = {"run": {"output": PureWindowsPath(r"runs\pets")}, "csv": Path("a/b.csv")}
    assert as_plain(config) == {"run": {"output": "runs/pets"}, "csv": "a/b.csv"}


def test_a_photo_under_another_name_is_not_written_over(tmp_path: Path) -> None:
    """By a link, as on macOS and Windows in other letter case."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "link").symlink_to("photos", target_is_directory=True)
    sources = [Source(tmp_path / "photos" / "a.png", named=False)]
    with pytest.raises(InvalidInputError, match="is a photo to explain"):
        plan.refuse_sources([tmp_path / "link" / "a.png"], sources)
    plan.refuse_sources([tmp_path / "link" / "b.png", tmp_path / "none" / "a.png"], sources)


def test_faces_are_found_below_a_folder_beyond_ascii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV opens no such file on Windows; user names are often in the path."""
    cv = pytest.importorskip("cv2", reason=NO_CV)
    with Image.open(demo_photo()) as opened:
        picture = np.asarray(opened.convert("RGB"))
    expected = sorted(HaarDetector(profile=True, confirm=True)(picture))
    folder = tmp_path / "Jürgen"
    folder.mkdir()
    for name in ("frontalface_default", "profileface", "frontalface_alt2"):
        file = f"haarcascade_{name}.xml"
        (folder / file).write_bytes(Path(cv.data.haarcascades, file).read_bytes())
    monkeypatch.setattr(cv.data, "haarcascades", f"{folder}{os.sep}")
    assert sorted(HaarDetector(profile=True, confirm=True)(picture)) == expected != []
    (folder / "yunet.onnx").write_bytes(b"no network")
    with pytest.raises(InvalidInputError, match="no YuNet"):
        YuNetDetector(folder / "yunet.onnx")


@pytest.mark.data
def test_yunet_is_read_below_a_folder_beyond_ascii(data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason=NO_CV)
    weights = data_dir / "weights" / "face_detection_yunet_2026may.onnx"
    with Image.open(demo_photo()) as opened:
        picture = np.asarray(opened.convert("RGB"))
    copy = tmp_path / "Jürgen.onnx"
    copy.write_bytes(weights.read_bytes())
    assert YuNetDetector(copy)(picture) == YuNetDetector(weights)(picture) != []


# Shells


@pytest.mark.parametrize(
    "system, word, shown",
    [
        ("nt", r"C:\my photos\a.jpg", r'"C:\my photos\a.jpg"'),
        ("nt", r"photos\a.jpg", r"photos\a.jpg"),
        ("posix", "my photos/a.jpg", "'my photos/a.jpg'"),
    ],
)
def test_a_suggested_command_is_quoted_as_the_shell_takes_it(
    system: str, word: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        quoted = plan._quoted(word)
    assert quoted == shown


# Processes that are spawned


def test_spawned_workers_get_no_copy_of_decoded_images() -> None:
    table: Any = [(Image.new("RGB", (300, 200), (n, 0, 0)), n) for n in range(4)]
    decoded = Decoded(table)
    assert len(decoded.kept) == 4
    again = pickle.loads(pickle.dumps(decoded))
    assert again.kept is None and len(again) == 4 and again[3][1] == 3
    assert again[3][0].getpixel((0, 0)) == (3, 0, 0) and decoded.kept is not None


def test_spawned_workers_map_the_cached_features_again(tmp_path: Path) -> None:
    features = np.random.default_rng(0).random((6, 8, 40, 40)).astype(np.float16)
    np.save(tmp_path / "train.npy", features)
    table: Any = SimpleNamespace(targets=torch.arange(6) % 2, multi_label=False)
    cached = _CachedFeatures(tmp_path / "train.npy", table)
    packed = pickle.dumps(cached)
    assert len(packed) < features.nbytes / 10
    again = pickle.loads(packed)
    assert isinstance(again.features, np.memmap) and isinstance(cached.features, np.memmap)
    for index in (0, 5):
        found, target = again[index]
        assert np.array_equal(found, features[index]) and target == index % 2


# Apple's GPUs have no double


class WithoutDouble(TorchFunctionMode):
    """Play a device without double: only what ``Tensor.cpu`` returned may become double.

    Tensors that exist already are the device's, and so is all that is computed from one of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.host: Dict[int, torch.Tensor] = {}  # by id; kept alive, so that no id is given again

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        result = func(*args, **kwargs)
        made = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        on_device = any(id(t) not in self.host for t in given)
        if func is torch.Tensor.cpu or not on_device:
            self.host.update({id(t): t for t in made})
        elif any(t.dtype == torch.float64 for t in made):
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype: {func}")
        return result


def test_the_device_that_is_played_has_no_double() -> None:
    values = torch.rand(3)
    with WithoutDouble():
        assert values.clone().cpu().double().mean().dtype == torch.float64
        assert torch.zeros(2, dtype=torch.float64).sum() == 0
        with pytest.raises(TypeError, match="float64"):
            (values + 1).double()


def test_numbers_become_double_on_the_cpu_where_the_device_has_none() -> None:
    device = SimpleNamespace(type="mps")
    values: Any = SimpleNamespace(device=device, cpu=lambda: torch.ones(2))  # it has no `double`
    found = in_double(values)
    assert found.dtype == torch.float64 and found.tolist() == [1, 1]
    assert in_double(torch.ones(2)).dtype == torch.float64


@pytest.mark.parametrize("method", ["contribution", "affinity", "support"])
def test_maps_need_no_double(plain: Any, method: str) -> None:
    inputs = images()
    with WithoutDouble():
        found = se_zoo.explain(plain, inputs, 0, method)
    expected = se_zoo.explain(plain, inputs, 0, method)
    assert found.weights == expected.weights == "folded"
    torch.testing.assert_close(found.heatmap, expected.heatmap)


@pytest.mark.parametrize("labels, multi_label", [(1, True), (3, True), (3, False), (7, False)])
def test_figures_of_a_split_need_no_double(labels: int, multi_label: bool) -> None:
    logits = torch.randn(40, labels)
    targets = torch.arange(40 * labels).view(40, labels) % 3 == 0
    truth = targets.float() if multi_label else torch.arange(40) % labels
    names = [f"label {n}" for n in range(labels)]
    played, real = (Scores(names, multi_label, 40, torch.device("cpu")) for _ in range(2))
    with WithoutDouble():
        played.update(logits, truth)
        found = played.compute()
    real.update(logits, truth)
    assert found == real.compute()


def test_the_gate_alone_needs_no_double() -> None:
    pictures, truth = labelled(96)
    gated = OneLabel(reads=0, by_gate=True)
    with WithoutDouble():
        found = measure_gate_alone(gated, pictures, truth)
    assert found == measure_gate_alone(gated, pictures, truth)


def test_folded_norms_need_no_double(
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their statistics are summed up in double, on the CPU."""
    monkeypatch.setattr(batch_norm, "in_double", lambda values: values.clone().cpu().double())
    norms = batch_norm.folded_norms(model)
    inputs = [3 + 2 * torch.randn(4, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        before = model(inputs[0])
    with WithoutDouble():
        batch_norm.unfold_norms(model, norms, inputs)
    assert not batch_norm.folded_norms(model)
    with torch.no_grad():
        assert (model(inputs[0]) - before).abs().max() < 1e-3 * before.abs().max()
