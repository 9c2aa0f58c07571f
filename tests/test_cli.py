"""The command line, from real files to pictures, and every bad input in one line."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, List, Optional, Tuple, get_args, get_type_hints

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import se_zoo
from se_zoo import InvalidInputError, cli
from se_zoo.cli import portrait
from se_zoo.cli.explain import DEFAULT_MODEL as MODEL
from se_zoo.cli.explain import Explain
from se_zoo.cli.export import Export
from se_zoo.cli.portrait import DEMO, DEMO_TARGETS, OBJECTS_MODEL
from se_zoo.cli.speaker import Speaker
from se_zoo.explanations.methods import METHODS, SINGLE_CLASS_METHODS, SPEAKER_METHODS
from se_zoo.inference import images as photos
from se_zoo.models.label_lists import imagenet_labels
from se_zoo.models.load_model import load_model
from se_zoo.models.save_model import write_export

from .preloaded import run_python
from .tester import randomise

needs_objects_model = pytest.mark.skipif(
    OBJECTS_MODEL not in se_zoo.list_models(pretrained=True),
    reason=f"{OBJECTS_MODEL} has no weights yet",
)


def run(*args: object) -> None:
    cli.main([str(a) for a in args])


def fails(capsys: pytest.CaptureFixture, *args: object) -> str:
    """The one line that a failing call prints; its exit status is not zero."""
    with pytest.raises(SystemExit) as info:
        run(*args)
    message = str(info.value.code)
    assert info.value.code not in (0, None)
    assert "\n" not in message and message.startswith("se-zoo: ")
    return message


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "face.png"
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    # Smooth, as photographs are: timm before 1.0.31 resizes bilinearly whatever it is asked for.
    Image.fromarray(noise).resize((89, 109), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def untrained_objects_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An ImageNet model of the demo's architecture that knows nothing."""
    folder = tmp_path_factory.mktemp("objects")
    model: Any = timm.create_model("tf_efficientnet_lite0_sehead", gate="identity")
    model.pretrained_cfg.update(tag="in1k", label_names=imagenet_labels())
    write_export(randomise(model), folder, {"gate": "identity"}, model.state_dict())
    return f"local-dir:{folder}"


@pytest.fixture
def untrained_demo(untrained_objects_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, face = DEMO
    monkeypatch.setattr(portrait, "DEMO", (objects._replace(model=untrained_objects_model), face))


def lines_between(text: str, start: str, end: str) -> List[str]:
    """The first words of the lines between two texts."""
    part = text.split(start)[1].split(end)[0]
    return [line.split()[0] for line in part.splitlines() if "%" in line]


@pytest.mark.usefixtures("untrained_demo")
@pytest.mark.parametrize("method", ["contribution", "gate"])
def test_demo_draws_photo_and_face_in_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture, method: str
) -> None:
    run("explain", "--method", method, "--out", tmp_path / "demo.png")
    printed = capsys.readouterr().out
    objects, face = DEMO
    assert len(lines_between(printed, objects.question, face.question)) >= 5
    assert set(lines_between(printed, face.question, "map,")) == set(DEMO_TARGETS)
    for part in DEMO:
        box = " ".join(map(str, part.crop))
        assert f"{part.question} (" in printed and f"), cropped to {box}\n" in printed
    report = json.loads((tmp_path / "demo.json").read_text())
    tiles = [1 + len(part["rows"]) for part in report["parts"]]
    with Image.open(tmp_path / "demo.png") as picture:
        whole, faces = tiles[0] * (512 + 6), (344 + 6) + (tiles[1] - 1) * (329 + 6)
        assert picture.width == max(whole, faces) - 6
        # Each line has a heading and captions, and the legend stands below.
        assert picture.height == (600 + 2 * 26 + 6) + (403 + 2 * 26) + (6 + 26)
    assert [part["crop"] for part in report["parts"]] == [list(p.crop) for p in DEMO]
    assert {part["method"] for part in report["parts"]} == {method}
    if method == "contribution":
        assert [row["label"] for row in report["parts"][1]["rows"]] == list(DEMO_TARGETS)
        assert printed.count("*") == len(DEMO_TARGETS) + 2 + 2  # and what the star means, twice


def part_of(map_: List[List[float]], x0: float, y0: float, x1: float, y1: float) -> float:
    """Mean of a map over a box in fractions of its width and height."""
    array = np.array(map_)
    rows, columns = array.shape
    return array[
        round(y0 * rows) : round(y1 * rows), round(x0 * columns) : round(x1 * columns)
    ].mean()


@needs_objects_model
def test_demo_is_right_about_photo_and_face(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In prediction and map: the uniform is hat and jacket, the suit the jacket, both not the sky;
    the glasses are at eye level, the hat above them, and nothing speaks for a smile."""
    run("explain", "--out", tmp_path / "demo.png")
    printed = capsys.readouterr().out
    objects, face = DEMO
    assert lines_between(printed, objects.question, face.question)[0] == "military"
    assert "Male" not in printed
    parts = json.loads((tmp_path / "demo.json").read_text())["parts"]
    assert [(part["method"], part["exact"]) for part in parts] == [
        ("rivals", True), ("class_gate", False)
    ]  # fmt: skip
    uniform, suit = parts[0]["rows"]
    hat, jacket, sky = (0.3, 0, 0.7, 0.25), (0.15, 0.6, 0.85, 1), (0.85, 0, 1, 0.5)
    assert min(part_of(uniform["map"], *hat), part_of(uniform["map"], *jacket)) > 3 * abs(
        part_of(uniform["map"], *sky)
    )
    assert part_of(suit["map"], *jacket) > 2 * part_of(suit["map"], *hat)
    glasses, wears_hat, smiles = parts[1]["rows"]
    assert glasses["probability"] > 0.5 and wears_hat["probability"] > 0.5
    assert smiles["probability"] < 0.5
    rows = len(glasses["map"])
    assert 0.4 < (np.array(glasses["map"]).max(1).argmax() + 0.5) / rows < 0.6
    assert (np.array(wears_hat["map"]).max(1).argmax() + 0.5) / rows < 0.4
    assert (np.array(smiles["map"]) <= 0).all(), "nothing speaks for a smile"


def test_demo_with_a_model_is_of_that_model_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run("explain", "--model", MODEL, "--out", tmp_path / "demo.png")
    printed = capsys.readouterr().out
    for label in DEMO_TARGETS:
        assert label in printed
    assert "cropped to 100 0 429 403\n" in printed
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 4 * 329  # the photo and three maps of the crop
    report = json.loads((tmp_path / "demo.json").read_text())
    assert [row["label"] for row in report["rows"]] == list(DEMO_TARGETS)
    assert report["method"] == "class_gate"


def test_demo_with_a_target_is_of_the_face_alone(tmp_path: Path) -> None:
    run("explain", "--target", "Smiling", "--out", tmp_path / "demo.png")
    report = json.loads((tmp_path / "demo.json").read_text())
    assert (report["model"], [row["label"] for row in report["rows"]]) == (MODEL, ["Smiling"])


@pytest.mark.parametrize("model", [pytest.param((), marks=needs_objects_model), ("--model", MODEL)])
def test_demo_runs_as_a_command_without_network(tmp_path: Path, model: Tuple[str, ...]) -> None:
    """A new process, every proxy and endpoint pointing nowhere: nothing is asked for."""
    env = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = run_python("-m", "se_zoo.cli", "explain", *model, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "explanation.png").is_file()


def test_table_has_the_labels_that_were_asked_for(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run("explain", photo, "--target", "Smiling", "Bald", "--out", tmp_path / "out.png")
    printed = capsys.readouterr().out
    assert set(lines_between(printed, str(photo), "map,")) == {"Smiling", "Bald"}


def test_table_has_every_predicted_label_where_none_was_asked_for(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run("explain", photo, "--out", tmp_path / "out.png")
    report = json.loads((tmp_path / "out.json").read_text())
    printed = capsys.readouterr().out
    predicted = {row["label"] for row in report["rows"]}
    assert set(lines_between(printed, str(photo), "map,")) == predicted


@pytest.mark.parametrize("method", ["contribution", "gate", "difference", "activation"])
def test_contact_sheet_has_all_photos(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture, method: str
) -> None:
    out = tmp_path / "out.png"
    versus = ["--versus", "Male"] if method == "difference" else []
    copy = Path(shutil.copy(photo, tmp_path / "copy.png"))
    run("explain", photo, copy, "--target", "Smiling", "31", "--method", method, *versus,
        "--contact-sheet", "--out", out)  # fmt: skip
    assert ("against Male" in capsys.readouterr().out) == (method == "difference")
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["method"] == method
    assert [r["image"] for r in report["rows"]] == [0, 0, 1, 1]
    assert len({str(r["map"]) for r in report["rows"]}) == 1  # of equal photos; 31 is Smiling


def test_prediction_is_that_of_the_usual_preprocessing(photo: Path, tmp_path: Path) -> None:
    """What is drawn is what was predicted on: timm's own transform gives the same answer."""
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    model = load_model(MODEL)
    transform = create_transform(**resolve_data_config(model=model))
    with Image.open(photo) as image:
        expected = model(transform(image)[None]).sigmoid()[0]  # type: ignore[operator, index]
    run("explain", photo, "--out", tmp_path / "out.png")
    found = json.loads((tmp_path / "out.json").read_text())["images"][0]["probabilities"]
    assert torch.allclose(torch.tensor(found), expected, atol=0.02)


def test_crop_is_applied(photo: Path) -> None:
    assert photos.load_photo(photo, (10, 20, 40, 60)).size == (30, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (20, 30)).save(path)
    image = photos.load_photo(path)
    assert image.mode == "RGB" and image.size == (20, 30)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert photos.load_photo(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert photos.load_photo(tmp_path / "turned.jpg").size == (20, 40)


@pytest.mark.parametrize("mode", ["F", "I;16", "I"])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "deep.tif"
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(InvalidInputError, match="convert it to 8 bit"):
        photos.load_photo(path)


def test_nan_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(InvalidInputError, match="range is unknown"):
        photos.load_photo(tmp_path / "nan.tif")


def test_missing_file(capsys: pytest.CaptureFixture) -> None:
    assert "no such file or folder: nowhere.jpg" in fails(capsys, "explain", "nowhere.jpg")


def test_not_an_image(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    assert "not an image" in fails(capsys, "explain", tmp_path / "text.jpg")


def test_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "empty.png").touch()
    assert "not an image" in fails(capsys, "explain", tmp_path / "empty.png")


def test_truncated_image(photo: Path, capsys: pytest.CaptureFixture) -> None:
    photo.write_bytes(photo.read_bytes()[:2000])
    assert "cannot read" in fails(capsys, "explain", photo)


def test_folder_without_photos(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert "no photo or video" in fails(capsys, "explain", tmp_path)


def test_unknown_model_names_the_closest(capsys: pytest.CaptureFixture) -> None:
    assert MODEL in fails(capsys, "explain", "--model", "se_zoo/resnet18_slim_celbea")


def test_plain_timm_model_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert "resnet18_sehead" in fails(capsys, "explain", "--model", "resnet18")


def test_unknown_label_lists_the_labels(photo: Path, capsys: pytest.CaptureFixture) -> None:
    message = fails(capsys, "explain", photo, "--target", "Smilling")
    assert "Did you mean Smiling" in message and "Wearing_Necktie" in message


@pytest.mark.parametrize("label", ["40", "-1"])
def test_class_index_out_of_range(photo: Path, capsys: pytest.CaptureFixture, label: str) -> None:
    assert "0 to 39" in fails(capsys, "explain", photo, f"--target={label}")


@pytest.mark.parametrize("box", [(90, 5, 200, 20), (-9, 0, 0, 9), (5, 109, 9, 120)])
def test_crop_that_shows_nothing(photo: Path, capsys: pytest.CaptureFixture, box: tuple) -> None:
    assert "89 x 109" in fails(capsys, "explain", photo, "--crop", *box)


@pytest.mark.parametrize("box", [(0, 0, 0, 10), (10, 10, 5, 20), (0, 20, 9, 20)])
def test_empty_crop_is_refused_before_any_photo_is_read(
    photo: Path, capsys: pytest.CaptureFixture, box: tuple
) -> None:
    folder = ("--out", f"{photo.parent / 'many'}/")
    for form in ((), folder):
        assert "is empty" in fails(capsys, "explain", photo, *form, "--crop", *box)
    assert not (photo.parent / "many").exists()


def test_crop_beyond_the_photo_goes_on_with_its_edge(photo: Path) -> None:
    """A tightly cut face needs a margin: these models expect one."""
    inner, outer = photos.load_photo(photo), photos.load_photo(photo, (-20, -10, 99, 119))
    assert outer.size == (119, 129)
    assert outer.crop((20, 10, 109, 119)).tobytes() == inner.tobytes()
    assert outer.getpixel((0, 0)) == inner.getpixel((0, 0))
    assert outer.getpixel((118, 60)) == inner.getpixel((88, 50))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "contribution"), "adds up to the logit, the score behind the probability"),
        (("--method", "affinity"), "the map adds up to the logit, the score behind"),
        (("--method", "difference", "--versus", "Male"), "adds up to the difference of the two"),
        (("--method", "class_gate"), "the map does not add up to the logit"),
    ],
)
def test_text_says_what_the_map_adds_up_to(
    photo: Path, capsys: pytest.CaptureFixture, options: Tuple[str, ...], says: str
) -> None:
    """Not that it is exact, which reads as if the prediction were right."""
    run("explain", photo, "--target", "Smiling", *options, "--out", photo.parent / "out.png")
    printed = capsys.readouterr().out
    assert says in printed and "exact" not in printed


@needs_objects_model
@pytest.mark.filterwarnings("default")
def test_warning_of_the_library_is_one_note(photo: Path, capsys: pytest.CaptureFixture) -> None:
    options = ("--model", OBJECTS_MODEL, "--method", "gate", "--out")
    run("explain", photo, *options, photo.parent / "out.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: The model's gate was never trained")
    assert line.endswith("use --method contribution or activation.")


def test_json_says_what_was_explained(photo: Path, tmp_path: Path) -> None:
    run("explain", photo, "--crop", 5, 5, 80, 100, "--out", tmp_path / "out.png")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["model"] == MODEL and report["photos"] == [str(photo)]
    assert report["crop"] == [5, 5, 80, 100] and report["se_zoo"]


def test_bad_output_is_noticed_before_the_work(photo: Path, capsys: pytest.CaptureFixture) -> None:
    assert ".png" in fails(capsys, "explain", photo, "--out", photo.parent / "x.jpg")
    assert "needs a folder" in fails(capsys, "explain", photo, "--table", "x.csv")
    for out in ("x.png", "folder/"):
        message = fails(capsys, "explain", photo, "--out", f"{photo}/{out}")
        assert f"{photo} is no folder" in message


def test_folder_of_the_picture_is_made(photo: Path) -> None:
    out = photo.parent / "no" / "such" / "x.png"
    run("explain", photo, "--out", out)
    assert out.is_file() and out.with_suffix(".json").is_file()


def test_unknown_option_is_an_error(photo: Path) -> None:
    with pytest.raises(SystemExit) as info:
        run("explain", photo, "--colour", "red")
    assert info.value.code == 2


def test_list(capsys: pytest.CaptureFixture) -> None:
    run("list", "--architectures")
    assert "resnet50_sehead" in capsys.readouterr().out.splitlines()


def test_list_has_the_models_of_the_zoo(capsys: pytest.CaptureFixture) -> None:
    from se_zoo import list_models

    run("list")
    _, *lines, last = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines]
    assert sorted(row[0] for row in rows) == list_models(pretrained=True)
    assert [MODEL, "resnet18_slim_sehead.celeba", "40"] in rows
    name = "resnet50_sehead.a1_in1k"  # timm's weights stand apart
    assert name in last and 'timm.list_pretrained("*_sehead")' in last
    assert name in timm.list_pretrained("*_sehead")


class Exploit:
    """What a hostile pickle would run."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was loaded",)


def test_model_without_an_se_head_is_refused_before_its_weights_are_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    torch.save({"fc.weight": Exploit()}, tmp_path / "pytorch_model.bin")
    assert "squeeze" in fails(capsys, "explain", "--model", f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.json"),
        ("{", "is not JSON"),
        ("{}", "architecture"),
        ('{"architecture": "resnet10t_sehead"}', "safetensors"),
        ('{"architecture": "timm_sehead", "pretrained_cfg": {"num_classes": 5}}', "backbone"),
        (
            '{"architecture": "resnet10t_sehead", "pretrained_cfg": {"num_classes": 5}, '
            '"model_args": {"no_such": 1}}',
            "no_such",
        ),
    ],
)
def test_folder_that_describes_no_model(
    tmp_path: Path, capsys: pytest.CaptureFixture, config: Optional[str], message: str
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    if message != "safetensors":
        save_file({"fc.weight": torch.zeros(5, 2)}, tmp_path / "model.safetensors")
    assert message in fails(capsys, "explain", "--model", f"local-dir:{tmp_path}")


@pytest.mark.parametrize("name", ["hf-hub:org/none", "foo:bar", "local-dir:", "hf-hub:"])
def test_place_that_is_none(capsys: pytest.CaptureFixture, name: str) -> None:
    assert name in fails(capsys, "explain", "--model", name)


@pytest.mark.usefixtures("untrained_demo")
@pytest.mark.parametrize("demo", [True, False])
def test_output_that_cannot_be_written(
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    demo: bool,
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    given = () if demo else (photo,)
    assert "No space left" in fails(capsys, "explain", *given, "--out", tmp_path / "out.png")


@pytest.mark.parametrize(
    ("command", "methods"),
    [(Explain, METHODS), (Export, SINGLE_CLASS_METHODS), (Speaker, SPEAKER_METHODS)],
)
def test_commands_offer_the_methods_of_the_table(command: type, methods: Tuple[str, ...]) -> None:
    offered = get_args(get_type_hints(command)["method"])
    if type(None) in offered:  # by default the model's own
        offered = get_args(offered[0])
    assert offered == methods
