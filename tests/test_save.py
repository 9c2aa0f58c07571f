"""``se_zoo.save``: a folder that loads again, whatever the model, or nothing."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import timm
import torch
from safetensors.torch import load_file

import se_zoo
from se_zoo import InvalidInputError
from se_zoo.models import save_model as export

from .tester import randomise

LABELS = ("cat", "dog", "horse")
HEAD: Dict[str, Any] = {
    "gate": "sigmoid", "reduction": 8, "multi_label": True, "thresholds": (0.2, 0.3, 0.4),
    "map_offset": (1.5, -2.0), "map_method": "gate",
}  # fmt: skip


def small(**kwargs: Any) -> Any:
    """A squeezed model of any timm backbone, with random weights."""
    return randomise(
        timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3, **kwargs)
    )


MODELS: Dict[str, Callable[[], Any]] = {
    "registered": lambda: timm.create_model("resnet10t_sehead", num_classes=3, **HEAD),
    "described": lambda: small(**HEAD),
    "squeezed by name": lambda: se_zoo.squeeze("test_byobnet", num_classes=3, output_stride=16),
    "squeezed": lambda: se_zoo.squeeze(timm.create_model("test_convnext", num_classes=3)),
    "of the zoo": lambda: timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True),
    "another classifier": lambda: reset(
        timm.create_model("resnet10t_sehead", num_classes=9, thresholds=(0.1,) * 9,
                          multi_label=True)
    ),
    "one class": lambda: timm.create_model("resnet10t_sehead", num_classes=1),
    "frame by frame": lambda: timm.create_model(
        "framewise_sehead", backbone="test_resnet", num_classes=3, num_frames=3, fps=10.0,
        sampling="segments", **HEAD,
    ),
    "clip": lambda: timm.create_model("mc3_18_sehead", num_classes=3, num_frames=2, **HEAD),
    "speaker": lambda: timm.create_model("asd_tiny_sehead", gate="sigmoid", pool="clip"),
    "speaker with body": lambda: se_zoo.create_speaker_model("asd_tiny_sehead", body=True),
}  # fmt: skip


def reset(model: Any) -> Any:
    """The model with other classes and another pooling."""
    model.reset_classifier(3, "max")
    return model


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        output = model.eval()(*model.example_inputs().values())
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.mark.parametrize("kind", MODELS)
def test_model_of_every_kind_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    """With its head's arguments, through timm's own name of a folder."""
    model: Any = randomise(MODELS[kind]())
    expected = answers(model)
    assert se_zoo.save(model, tmp_path / "new" / "model") == tmp_path / "new" / "model"
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"model"}
    files = list((tmp_path / "new" / "model").iterdir())
    assert {p.name for p in files} == {"config.json", "model.safetensors"}
    back: Any = timm.create_model(f"local-dir:{tmp_path / 'new' / 'model'}", pretrained=True)
    assert type(back) is type(model) and torch.equal(answers(back), expected)
    assert back.se_args == model.se_args and back.class_labels() == model.class_labels()
    if not kind.startswith("speaker"):
        assert back.head_args() == model.head_args()
        assert (back.thresholds, back.map_offset, back.map_method) == (
            model.thresholds, model.map_offset, model.map_method
        )  # fmt: skip
    if model.takes_clips:
        assert back.clip_args == model.clip_args


def test_saving_changes_nothing_of_the_model_or_the_session(tmp_path: Path) -> None:
    model = small().train()
    before, rng = dict(model.pretrained_cfg), torch.get_rng_state()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    se_zoo.save(model, tmp_path / "a", labels=LABELS, dtype=torch.float16)
    assert model.training and model.pretrained_cfg == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_labels_are_written_and_those_of_other_classes_are_not(tmp_path: Path) -> None:
    model = small()
    se_zoo.save(model, tmp_path / "named", labels=LABELS)
    assert timm.create_model(f"local-dir:{tmp_path / 'named'}").class_labels() == LABELS  # type: ignore[operator]
    model.pretrained_cfg.update(label_names=["one", "two"])
    se_zoo.save(model, tmp_path / "plain")
    assert "label_names" not in (tmp_path / "plain" / "config.json").read_text()


def test_stored_type_is_the_models_own_or_the_one_asked_for(tmp_path: Path) -> None:
    model = small()
    for given, dtype, stored in (
        (model, None, torch.float32), (model, torch.float16, torch.float16),
        (small().bfloat16(), None, torch.bfloat16),
    ):  # fmt: skip
        folder = se_zoo.save(given, tmp_path / str(stored) / str(dtype), dtype=dtype)
        weights = load_file(folder / "model.safetensors")
        assert weights["se.fc1.weight"].dtype == stored
        counts = [v.dtype for k, v in weights.items() if "num_batches" in k]
        assert set(counts) == {torch.int64}
        assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


def test_transformers_answers_as_timm_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers (extra: dev)")
    import numpy as np
    from PIL import Image
    from timm.data.config import resolve_data_config
    from timm.data.transforms_factory import create_transform

    for name, model in (("several", small(**HEAD)), ("one", small())):
        folder = str(se_zoo.save(model, tmp_path / name, labels=LABELS))
        theirs = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        image = Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (60, 50, 3)).astype("uint8")
        )
        transform: Any = create_transform(**resolve_data_config(model=model))
        with torch.no_grad():
            ours = model.eval()(transform(image)[None])
            assert torch.equal(theirs(transform(image)[None]).logits, ours)
        found = transformers.pipeline("image-classification", model=folder, top_k=3)(image)
        chances = (ours.sigmoid() if name == "several" else ours.softmax(1))[0].tolist()
        scores = {row["label"]: row["score"] for row in found}
        assert scores == pytest.approx(dict(zip(LABELS, chances, strict=True)), abs=1e-6)


# What is refused


def nan(model: Any) -> Any:
    model.se.fc1.weight.data[0] = float("nan")
    return model


def pruned(model: Any) -> Any:
    model.prune_intermediate_layers(1)
    return model


def deeper(model: Any) -> Any:
    """A layer that config.json cannot know, with weights of the same names."""
    model.conv1[0].stride = (1, 1)
    return model


def large(model: Any) -> Any:
    model.fc.weight.data.fill_(1e6)
    return model


def having(model: Any, **options: Any) -> Any:
    """The model with options that were set after it was made."""
    vars(model).update(options)
    return model


def nameless(model: Any) -> Any:
    model.pretrained_cfg = model.default_cfg = {}
    return model


REFUSED: Dict[str, Any] = {
    "has no SE head": (lambda: timm.create_model("test_resnet"), {}),
    "NaN or infinite values": (lambda: nan(small()), {}),
    "as torch.float16": (lambda: large(small()), {"dtype": torch.float16}),
    "cannot hold weights": (small, {"dtype": torch.int8}),
    "2 labels for 3 classes": (small, {"labels": ["cat", "dog"]}),
    "labels must be texts": (small, {"labels": ["cat", "dog", 3]}),
    "a list of names, .* not the text 'cat'": (small, {"labels": "cat"}),
    "^2 thresholds for 3 labels": (lambda: having(small(**HEAD), thresholds=(0.2, 0.3)), {}),
    "^thresholds are for independent": (lambda: having(small(), thresholds=(0.2,) * 3), {}),
    "^thresholds must lie": (lambda: having(small(**HEAD), thresholds=(2.0,) * 3), {}),
    "^map_offset must be": (lambda: having(small(), map_offset=3), {}),
    "^map_method is 'foo'; a model": (lambda: having(small(), map_method="foo"), {}),
    "^map_method is 'foo'; the methods of speakers": (
        lambda: having(MODELS["speaker"](), map_method="foo"), {}
    ),
    "must differ; 'cat'": (small, {"labels": ["cat", "cat", "dog"]}),
    "labels must be .'speaking'": (lambda: MODELS["speaker"](), {"labels": ["talking"]}),
    "save its .module instead": (lambda: torch.nn.DataParallel(small()), {}),
    "was pruned": (lambda: pruned(MODELS["registered"]()), {}),
    "was not made by timm.create_model": (lambda: nameless(small()), {}),
    "outputs would change": (lambda: deeper(MODELS["registered"]()), {}),
    "fails on an input": (lambda: timm.create_model("s3d_sehead", num_frames=2), {}),
    "act_layer=": (lambda: small(act_layer=torch.nn.SiLU), {}),
}  # fmt: skip


@pytest.mark.parametrize("says", REFUSED)
def test_what_would_not_come_back_is_refused_and_nothing_is_written(
    says: str, tmp_path: Path
) -> None:
    make, options = REFUSED[says]
    with pytest.raises(InvalidInputError, match=says):
        se_zoo.save(make(), tmp_path / "new" / "model", **options)
    assert not list(tmp_path.iterdir())


def test_folder_with_files_is_refused_unless_they_may_be_replaced(tmp_path: Path) -> None:
    folder = se_zoo.save(small(), tmp_path / "model", labels=LABELS)
    (folder / "card").mkdir()
    (folder / "card" / "facts.yaml").write_text("mine")
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    with pytest.raises(InvalidInputError, match="overwrite=True"):
        se_zoo.save(small(), folder)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    (tmp_path / "empty").mkdir()
    assert "config.json" in os.listdir(se_zoo.save(small(), tmp_path / "empty"))
    other = small()
    se_zoo.save(other, folder, overwrite=True)
    back = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.equal(answers(back), answers(other))
    assert (folder / "card" / "facts.yaml").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInputError, match="is a file"):
        se_zoo.save(small(), tmp_path / "file", overwrite=True)


def test_folder_on_another_disk(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    with tempfile.TemporaryDirectory(dir=shared) as other:
        (tmp_path / "model").symlink_to(other)
        for overwrite in (False, True):
            se_zoo.save(small(), tmp_path / "model", overwrite=overwrite)
        assert sorted(os.listdir(other)) == ["config.json", "model.safetensors"]


def test_interrupted_replacement_never_mixes_two_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whichever step: the folder is the old one, the new one, or loads as nothing."""
    folder = se_zoo.save(small(), tmp_path / "model", labels=LABELS)
    moved = os.replace

    def break_off(source: Any, target: Any) -> None:
        if Path(target).name == "config.json":
            raise OSError("no space left")
        moved(source, target)

    monkeypatch.setattr(os, "replace", break_off)
    with pytest.raises(OSError, match="no space left"):
        se_zoo.save(small(), folder, overwrite=True)
    monkeypatch.undo()
    assert {p.name for p in folder.iterdir()} == {"model.safetensors"}
    assert {p.name for p in tmp_path.iterdir()} == {"model"}
    se_zoo.save(small(), folder, overwrite=True)


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "to_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        se_zoo.save(small(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


# What timm changes while it loads


def test_convolution_for_four_channels_comes_back(tmp_path: Path) -> None:
    """timm before 1.0.31 drops the stored one in silence, unless the config names none."""
    model = small(in_chans=4)
    folder = se_zoo.save(model, tmp_path / "model")
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["first_conv"] is None
    back = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.equal(answers(back), answers(model))


def test_weights_that_do_not_come_back_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = export.load_any

    def lossy(name: str) -> Any:
        model = load(name)
        model.conv1[0].weight.data += 1
        return model

    monkeypatch.setattr(export, "load_any", lossy)
    with pytest.raises(InvalidInputError, match=r"would not come back .* conv1\.0\.weight"):
        se_zoo.save(small(), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_compiled_model_is_saved_as_the_model_within(tmp_path: Path) -> None:
    model = small()
    folder = se_zoo.save(torch.compile(model, backend="eager"), tmp_path / "model")  # type: ignore[arg-type]
    assert load_file(folder / "model.safetensors").keys() == model.state_dict().keys()


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_other_labels_than_those_of_a_folder_drop_what_holds_for_these(
    kind: str, tmp_path: Path
) -> None:
    """As with the names of the zoo."""
    model: Any = small(**HEAD) if kind == "image" else MODELS["frame by frame"]()
    name = f"local-dir:{se_zoo.save(model, tmp_path / 'model')}"
    same: Any = timm.create_model(name, pretrained=True, num_classes=3)
    assert same.thresholds == model.thresholds and same.map_method == "gate"
    other: Any = timm.create_model(name, pretrained=True, num_classes=2)
    assert not other.is_multi_label() and other.thresholds is None and other.map_method is None
    assert other.se.gate_kind == "sigmoid" and other.map_offset == model.map_offset
    asked: Any = timm.create_model(name, pretrained=True, num_classes=2, multi_label=True)
    assert asked.is_multi_label() and asked.thresholds is None
    exclusive: Any = timm.create_model(name, pretrained=True, multi_label=False)
    assert not exclusive.is_multi_label() and exclusive.thresholds is None
