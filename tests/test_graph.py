"""Prediction and explanation as one graph: compiled, exported, and run by onnxruntime."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import pytest
import timm
import torch

import se_zoo  # registers the models
from se_zoo.cli import main
from se_zoo.errors import InvalidInputError, UnknownLabelError
from se_zoo.explanations import onnx_export
from se_zoo.explanations.explained_model import ExplainedModel
from se_zoo.explanations.explainer import raw_maps
from se_zoo.explanations.methods import SINGLE_CLASS_METHODS
from se_zoo.inference.batch import weights_sha256

#: NCHW without a norm, NHWC with one, tokens with one; BatchNorm; clips.
BACKBONES = {
    "resnet": dict(model_name="timm_sehead", backbone="test_resnet"),
    "convnext": dict(model_name="timm_sehead", backbone="test_convnext"),
    "vit": dict(model_name="timm_sehead", backbone="test_vit", global_pool="avg"),
    "clip": dict(model_name="framewise_sehead", backbone="test_resnet", num_frames=4),
}


def made(kind: str) -> Any:
    torch.manual_seed(0)
    model: Any = timm.create_model(**BACKBONES[kind]).eval()  # type: ignore[arg-type]
    # An untrained classifier's maps are next to nothing.
    torch.nn.init.normal_(model.get_classifier().weight, std=0.1)
    torch.nn.init.normal_(model.se.fc2.weight, std=0.1)  # an untrained gate is the identity
    return model


def inputs(model: Any, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, *model.input_shape(), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", SINGLE_CLASS_METHODS)
@pytest.mark.parametrize(
    "kind, normalize", [*((kind, "image") for kind in BACKBONES), ("resnet", 0.5)]
)
def test_it_answers_as_explain_does(kind: str, method: str, normalize: Any) -> None:
    model = made(kind)
    targets: Optional[Sequence[int]] = None if method in ("gate", "activation") else [5, 2]
    explained, images = ExplainedModel(model, method, targets, normalize), inputs(model)
    with torch.no_grad():
        logits, heatmap, gate = explained(images)
    wanted = se_zoo.explain(model, images, targets, method, normalize=normalize)
    assert torch.equal(logits, wanted.logits) and torch.equal(gate, wanted.gate)
    assert heatmap.shape == (3, len(targets or [0]), *images.shape[2:])
    torch.testing.assert_close(heatmap.flatten(0, 1), wanted.heatmap, rtol=0, atol=1e-5)
    assert float(heatmap.amax()) > 0.1


def test_module_that_is_created_within_autocast_keeps_its_precision() -> None:
    model = made("convnext")
    with torch.autocast("cpu", torch.bfloat16):
        explained = ExplainedModel(model, targets=[5, 2], raw=True)
    images = inputs(model)
    with torch.no_grad():
        found, wanted = (
            explained(images)[1],
            ExplainedModel(model, None, [5, 2], raw=True)(images)[1],
        )
    assert torch.equal(found, wanted)


def test_raw_maps_are_those_of_explain() -> None:
    model = made("convnext")
    explained, images = ExplainedModel(model, targets=[5, 2], raw=True), inputs(model)
    with torch.no_grad():
        _, raw, _ = explained(images)
    wanted = se_zoo.explain(model, images, [5, 2], "contribution")
    assert explained.outputs == ("logits", "raw", "gate") and bool((raw < 0).any())
    torch.testing.assert_close(raw.flatten(0, 1), wanted.raw, rtol=1e-4, atol=1e-5)


def test_targets() -> None:
    model = made("resnet")
    model.pretrained_cfg["label_names"] = [f"n{i}" for i in range(1000)]
    assert ExplainedModel(model, targets=["n7", 3]).targets == (7, 3)
    assert ExplainedModel(model).targets == tuple(range(1000))
    with pytest.raises(UnknownLabelError):
        ExplainedModel(model, targets=["nobody"])
    with pytest.raises(InvalidInputError, match="know no class"):
        ExplainedModel(model, "gate", targets=[1])
    with pytest.raises(InvalidInputError, match="contribution, affinity, rivals, support"):
        ExplainedModel(model, "difference")


def test_facts_have_the_thresholds_of_independent_labels() -> None:
    model = made("resnet")
    assert ExplainedModel(model).facts()["thresholds"] is None
    model.reset_classifier(3)
    model.multi_label, model.thresholds = True, (0.2, 0.3, 0.9)
    assert ExplainedModel(model).facts()["thresholds"] == [0.2, 0.3, 0.9]
    model.thresholds = np.array([0.25, 0.5, 0.75], np.float32)  # JSON knows no numbers of numpy
    explained = ExplainedModel(model)
    assert json.loads(json.dumps(explained.facts()["thresholds"])) == [0.25, 0.5, 0.75]
    found = model.explain(inputs(model), [0, 2])
    assert json.loads(json.dumps(found.to_dict()))["thresholds"] == [0.25, 0.5, 0.75]


def test_a_head_that_needs_a_gradient_is_refused() -> None:
    model = timm.create_model("timm_sehead", backbone="test_vit")  # reads the class token
    with pytest.raises(InvalidInputError, match="global_pool"):
        ExplainedModel(model, "class_gate")
    assert ExplainedModel(model, "activation").targets == ()


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_model_in_training_is_not_changed(kind: str) -> None:
    """Its batch statistics must not take up what it is shown to find out how its head works; and
    what is saved of it is the model's own, once."""
    model = made(kind).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    explained = ExplainedModel(model, targets=[1])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert {k.removeprefix("model.") for k in explained.state_dict()} == set(before)
    with pytest.raises(InvalidInputError, match=r"model.float\(\)"):
        ExplainedModel(made("resnet").half())


@pytest.mark.parametrize(
    "kind, method",
    [
        ("resnet", "class_gate"),
        pytest.param("convnext", "gate", marks=pytest.mark.slow),
        ("vit", "contribution"),
        pytest.param("clip", "support", marks=pytest.mark.slow),
        ("clip", "affinity"),
        pytest.param("convnext", "rivals", marks=pytest.mark.slow),
    ],
)
def test_torch_export_for_any_batch(kind: str, method: str) -> None:
    """Every layout, and every method but the plain mean of the channels, once."""
    model = made(kind)
    explained = ExplainedModel(model, method, None if method == "gate" else [1, 2])
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(explained, (inputs(model),), dynamic_shapes=shapes).module()
    for batch in (2, 5):
        images = inputs(model, batch)
        with torch.no_grad():
            for found, wanted in zip(program(images), explained(images), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["contribution", "gate"])
def test_torch_compile_takes_it_whole(method: str) -> None:
    model = made("resnet")
    explained = ExplainedModel(model, method, [4] if method == "contribution" else None)
    compiled = torch.compile(explained, fullgraph=True, backend="aot_eager")
    images = inputs(model)
    with torch.no_grad():
        for found, wanted in zip(compiled(images), explained(images), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_compiled_model_can_be_explained() -> None:
    model = made("resnet")
    compiled: Any = torch.compile(model, backend="aot_eager")
    images = inputs(model)
    logits = compiled(images)
    found = compiled.explain(images, 3)
    torch.testing.assert_close(found.logits, logits.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.heatmap, model.explain(images, 3).heatmap)


def onnx_parts() -> Any:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra export")
    from se_zoo.explanations import onnx_export as export

    return export


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.onnx and onnxscript, about themselves
@pytest.mark.parametrize(
    "kind, method",
    [
        ("resnet", "gate"),
        ("resnet", "class_gate"),
        ("convnext", "activation"),
        ("convnext", "rivals"),
        ("vit", "contribution"),
        ("clip", "support"),
    ],
)
def test_onnxruntime_agrees(kind: str, method: str, tmp_path: Path) -> None:
    """Every layout and every method once. An export takes seconds; the tests below have one of a
    ResNet each."""
    export = onnx_parts()
    explained = ExplainedModel(
        made(kind), method, None if method in ("gate", "activation") else [7, 1]
    )
    found = export.write_onnx(explained, tmp_path / "model.onnx")
    assert set(found) == {"logits", "heatmap", "gate"} and max(found.values()) < 1e-4
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_answers_differently_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = onnx_parts()
    import onnxruntime

    explained = ExplainedModel(made("resnet"), targets=[0])
    real, graphs, to_onnx = onnxruntime.InferenceSession, [], torch.onnx.export

    def export_once(*args: Any, **kwargs: Any) -> Any:
        graphs.extend([] if graphs else [to_onnx(*args, **kwargs)])
        return graphs[0]

    monkeypatch.setattr(torch.onnx, "export", export_once)
    for wrong in (lambda a: a + 0.01, lambda a: a * float("nan"), lambda a: a[:, :1]):

        class Session:
            def __init__(self, *args: Any, **kwargs: Any):
                self.session = real(*args, **kwargs)

            def run(self, *args: Any, wrong: Any = wrong) -> Any:
                logits, heatmap, gate = self.session.run(*args)
                return [logits, wrong(heatmap) if heatmap.shape[1] > 0 else heatmap, wrong(gate)]

        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        with pytest.raises(InvalidInputError, match="outputs differ from torch"):
            export.write_onnx(explained, tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())
    monkeypatch.setattr(onnxruntime, "InferenceSession", real)
    with monkeypatch.context() as small:
        small.setattr(export, "MOST_BYTES", 1000)
        with pytest.raises(InvalidInputError, match=r"one file of ONNX holds at most 1,000;"):
            export.write_onnx(explained, tmp_path / "model.onnx")
    with pytest.raises(InvalidInputError, match="folder that exists"):
        export.write_onnx(explained, tmp_path / "no" / "model.onnx")
    with pytest.raises(InvalidInputError, match=r"end in .onnx"):
        export.write_onnx(explained, tmp_path / "model.pt")


@pytest.mark.filterwarnings("ignore")
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_parts()
    import onnx
    import onnxruntime

    out = tmp_path / "faces.onnx"
    main(["export", "se_zoo/resnet18_slim_celeba", "--out", str(out), "--target", "Smiling", "15"])
    assert "2 heatmaps an image" in capsys.readouterr().out
    facts = {p.key: json.loads(p.value) for p in onnx.load(str(out)).metadata_props}
    assert facts["targets"] == [31, 15] and facts["labels"][31] == "Smiling"
    assert facts["multi_label"] is True and facts["method"] == "class_gate"
    assert facts["input_size"] == [3, 128, 104] and facts["interpolation"]
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True).eval()
    made_of = facts["se_zoo"], facts["weights_sha256"]
    assert made_of == (se_zoo.__version__, weights_sha256(model))
    images = inputs(model, 4)
    session = onnxruntime.InferenceSession(str(out))
    logits, heatmap, _ = session.run(None, {"images": images.numpy()})
    wanted = model.explain(images, ["Smiling", 15])
    torch.testing.assert_close(torch.from_numpy(logits), wanted.logits, rtol=1e-4, atol=1e-4)
    found = torch.from_numpy(heatmap).flatten(0, 1)
    torch.testing.assert_close(found, wanted.heatmap, rtol=0, atol=1e-4)
    with pytest.raises(SystemExit, match="Did you mean Smiling"):
        main(["export", "se_zoo/resnet18_slim_celeba", "--target", "Smilin"])


# What explain takes, too


@pytest.mark.parametrize(
    "targets",
    [3, "n3", ("n3",), np.int64(3), np.array([3]), np.array(["n3"]), torch.tensor(3),
     torch.tensor([3])],
    ids=repr,
)  # fmt: skip
def test_targets_in_every_form(targets: Any) -> None:
    model = made("resnet")
    model.pretrained_cfg["label_names"] = [f"n{i}" for i in range(1000)]
    assert ExplainedModel(model, targets=targets).targets == (3,)


def test_targets_that_are_no_list_of_classes_are_refused() -> None:
    model = made("resnet")
    with pytest.raises(UnknownLabelError, match="'37'"):  # not the classes 3 and 7
        ExplainedModel(model, targets="37")
    with pytest.raises(InvalidInputError, match="list of classes"):
        ExplainedModel(model, targets=torch.zeros(2, 2))
    with pytest.raises(InvalidInputError, match="at least one class"):
        ExplainedModel(model, targets=np.array([], int))


def test_a_compiled_transformer_has_the_map_of_its_attention() -> None:
    """The wrapper of torch.compile is no instance of timm's class."""
    model: Any = timm.create_model("timm_sehead", backbone="test_vit", img_size=64, num_classes=5)
    compiled: Any = torch.compile(model.eval(), backend="eager")
    images = inputs(model)
    found, wanted = se_zoo.explain(compiled, images, 3), model.explain(images, 3)
    assert found.weights == "attention" and torch.equal(found.raw, wanted.raw)
    assert raw_maps(compiled, images, 3).maps.source == "attention"
    assert ExplainedModel(compiled, targets=3).model is model
    kept = se_zoo.channel_logits(compiled, images, drop=[0])
    assert torch.equal(kept, model.channel_logits(images, drop=[0]))


def test_maps_that_are_empty_are_compared_on_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of noise, a label may have no evidence; then any graph would seem right."""
    runtime = pytest.importorskip("onnxruntime", reason="extra export")

    class Explained:
        inputs, outputs = ("images",), ("heatmap",)

        def sample_inputs(self, count: int) -> Tuple[torch.Tensor, ...]:
            return (torch.ones(count, 1),)

        def __call__(self, images: torch.Tensor) -> Tuple[torch.Tensor, ...]:
            return (images * (len(images) >= 8),)

    class Session:
        def __init__(self, *given: Any, **options: Any) -> None: ...

        def run(self, names: Any, inputs: Dict[str, Any]) -> List[Any]:
            return [0 * inputs["images"]]

    monkeypatch.setattr(runtime, "InferenceSession", Session)
    explained: Any = Explained()
    assert onnx_export.compare(explained, Path("none.onnx")) == {"heatmap": 1.0}
