"""Speaker models with their explanations as one graph: exported, and run by onnxruntime."""

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import torch

import se_zoo
from se_zoo.cli import main
from se_zoo.errors import InvalidInputError
from se_zoo.explanations.recurrent import gru_states
from se_zoo.models import SpeakerModel

from .test_graph import onnx_parts
from .test_speaker import KINDS, clip, speaker

METHODS = ("gate", "activation")


def clips(model: Any, count: int, frames: int, size: int) -> Dict[str, torch.Tensor]:
    """Clips of one length, smooth in space: maps of white noise are almost flat."""
    found = [clip(frames, seed, "body" in model.modalities, 4) for seed in range(count)]
    batch = {name: torch.cat([one[name] for one in found]) for name in found[0]}
    for name in model.modalities[1:]:
        batch[name] = torch.nn.functional.interpolate(batch[name], (size, size), mode="bilinear")
    return batch


def spread(model: SpeakerModel) -> SpeakerModel:
    """Make the gates of a model differ; saturated ones are selected by their rounding."""
    for block in (model.se, model.body_se):
        if block is not None:
            block.fc2.weight.data *= 0.01
    return model


def assert_equal(outputs: Any, wanted: se_zoo.SpeakerExplanation, tolerance: float) -> None:
    """Compare what a graph returns with what ``explain`` does."""
    theirs = (
        wanted.logits, wanted.heatmap, wanted.raw, wanted.shares["features"], wanted.visual_gate
    )  # fmt: skip
    for name, ours, other in zip(se_zoo.ExplainedSpeaker.outputs, outputs, theirs, strict=True):
        assert ours.shape == other.shape, name
        scale = max(1.0, float(other.abs().max()))
        assert float((ours - other).abs().max()) <= tolerance * scale, name
    assert float(wanted.heatmap.amax()) == 1  # the maps are not empty


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_it_answers_as_explain_does(kind: str, method: str) -> None:
    model = speaker(**KINDS[kind])
    inputs = clips(model, 2, 7, 32)
    with torch.no_grad():
        outputs = se_zoo.ExplainedSpeaker(model, method)(**inputs)
    assert_equal(outputs, model.explain(**inputs, method=method), 1e-5)


@pytest.mark.parametrize("rule", ["threshold", "rank"])
def test_gate_maps_take_the_channels_that_explain_selects(rule: str) -> None:
    """Where no gate stands out, those of the first rank; of equal gates the first channels."""
    model = spread(speaker())
    if rule == "rank":  # untrained
        model.se.fc2.weight.data.zero_()  # type: ignore[union-attr]
    inputs = clips(model, 1, 9, 32)
    wanted = model.explain(**inputs, method="gate")
    assert set(wanted.rule[0]) == {rule}
    with torch.no_grad():
        assert_equal(se_zoo.ExplainedSpeaker(model, "gate")(**inputs), wanted, 1e-5)


def test_method_is_that_of_the_config_and_needs_no_gradient() -> None:
    model = se_zoo.create_speaker_model("asd_tiny_sehead", map_method="activation")
    assert se_zoo.ExplainedSpeaker(model).method == "activation"
    assert se_zoo.ExplainedSpeaker(model, "gate").method == "gate"
    for method in (None, "contribution"):
        model.map_method = method
        with pytest.raises(InvalidInputError, match="gate or activation here, not 'contribution'"):
            se_zoo.ExplainedSpeaker(model)
    with pytest.raises(InvalidInputError, match="not 'support'"):
        se_zoo.ExplainedSpeaker(model, "support")


def test_models_that_do_not_fit_are_refused() -> None:
    plain = se_zoo.create_speaker_model("asd_tiny_sehead", se=False)
    with pytest.raises(InvalidInputError) as explained:
        plain.explain(**clip(3))
    with pytest.raises(InvalidInputError) as exported:
        se_zoo.ExplainedSpeaker(plain, "gate")
    assert str(exported.value) == str(explained.value)
    with pytest.raises(InvalidInputError, match=r"model.float\(\)"):
        se_zoo.ExplainedSpeaker(speaker().half(), "gate")
    image: Any = se_zoo.squeeze("test_resnet", num_classes=3)
    with pytest.raises(InvalidInputError, match=r"use se_zoo.ExplainedModel"):
        se_zoo.ExplainedSpeaker(image, "gate")
    with pytest.raises(InvalidInputError, match=r"se_zoo.ExplainedSpeaker"):
        se_zoo.ExplainedModel(speaker(), "gate")


def test_recurrent_operation_exports_for_any_length() -> None:
    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.GRU(6, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return gru_states(self.layer, x)

    module = States().eval()
    axes = ({0: torch.export.Dim("clips"), 1: torch.export.Dim("frames")},)
    program = torch.export.export(module, (torch.randn(2, 12, 6),), dynamic_shapes=axes).module()
    for shape in ((3, 5, 6), (1, 30, 6)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(program(x), module.layer(x)[0])


@pytest.mark.slow
def test_torch_export_for_any_number_of_clips_and_frames() -> None:
    model = spread(speaker(gate="sigmoid", pool="clip", body=True))
    explained = se_zoo.ExplainedSpeaker(model, "gate")
    program = torch.export.export(
        explained, explained.sample_inputs(2), dynamic_shapes=explained.free_axes()
    ).module()
    for count, frames in ((1, 6), (3, 11)):
        inputs = clips(model, count, frames, 112)
        with torch.no_grad():
            outputs = program(*inputs.values())
        assert_equal(outputs, model.explain(**inputs, method="gate"), 1e-4)


def in_onnxruntime(file: Path, inputs: Dict[str, torch.Tensor]) -> Tuple[torch.Tensor, ...]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    assert [output.name for output in session.get_outputs()] == list(
        se_zoo.ExplainedSpeaker.outputs
    )
    outputs: Any = session.run(None, {name: t.numpy() for name, t in inputs.items()})
    return tuple(torch.from_numpy(output) for output in outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch.onnx and onnxscript, about themselves
@pytest.mark.parametrize("method", METHODS)
def test_onnxruntime_agrees_for_another_kind_of_gate(method: str, tmp_path: Path) -> None:
    export, file = onnx_parts(), tmp_path / "model.onnx"
    model = spread(speaker(gate="sigmoid", pool="clip", body=True))
    found = export.write_onnx(se_zoo.ExplainedSpeaker(model, method), file)
    assert set(found) == set(se_zoo.ExplainedSpeaker.outputs) and max(found.values()) < 1e-4
    for count, frames in ((2, 9), (1, 4)):
        inputs = clips(model, count, frames, 112)
        assert_equal(in_onnxruntime(file, inputs), model.explain(**inputs, method=method), 1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_command(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_parts()
    import onnx

    file = tmp_path / "speaker.onnx"
    own = [] if method == "gate" else ["--method", method]  # gate is the model's own
    main(["export", "se_zoo/asd_tiny_grid", "--out", str(file), *own])
    assert "a heatmap a frame" in capsys.readouterr().out
    facts = {p.key: json.loads(p.value) for p in onnx.load(str(file)).metadata_props}
    assert facts["method"] == method and facts["labels"] == ["speaking"]
    assert facts["modalities"] == ["audio", "face"] and facts["gate_trained"] is True
    model = se_zoo.create_speaker_model("se_zoo/asd_tiny_grid", pretrained=True).eval()
    for count, frames in ((2, 9), (1, 1)):
        inputs = clips(model, count, frames, 112)
        assert_equal(in_onnxruntime(file, inputs), model.explain(**inputs, method=method), 1e-4)


def test_command_refuses_what_speaker_models_have_not(tmp_path: Path) -> None:
    command = ["export", "se_zoo/asd_tiny_grid", "--out", str(tmp_path / "model.onnx")]
    for more, says in (
        (["--target", "speaking"], "leave out --target"),
        (["--normalize", "0.5"], "leave out --target and --normalize"),
        (["--method", "contribution"], "method is gate or activation here"),
    ):
        with pytest.raises(SystemExit, match=says):
            main([*command, *more])
    assert not list(tmp_path.iterdir())
