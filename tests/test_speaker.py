"""Speaker models: two inputs, one score a frame, and why."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from se_zoo import InvalidInputError, UnknownModelError, WeightsNotFoundError
from se_zoo.data.faces.mfcc import mfcc
from se_zoo.errors import DataError
from se_zoo.explanations import explain_speaker, select_channels
from se_zoo.explanations.draw.frame_scale import visible_frames
from se_zoo.explanations.speaker import without_cudnn
from se_zoo.models import SpeakerModel, create_speaker_model
from se_zoo.models.save_model import write_export
from se_zoo.models.speaker.lr_asd import convert_lr_asd, write_converted

SIZE = 32  # of a face crop: a quarter of the real one


def speaker(name: str = "asd_tiny_sehead", **kwargs: Any) -> SpeakerModel:
    """A model whose norms and gates say something."""
    torch.manual_seed(0)
    model = create_speaker_model(name, **kwargs)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, std=0.5)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            torch.nn.init.normal_(module.bias, std=0.3)
        if type(module).__name__ == "SqueezeExcite":
            torch.nn.init.normal_(module.fc1.weight, std=4)  # type: ignore[union-attr, arg-type]
            torch.nn.init.normal_(module.fc2.weight, std=4)  # type: ignore[union-attr, arg-type]
    return model.eval()


def clip(
    frames: int, seed: int = 0, body: bool = False, size: int = SIZE
) -> Dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {
        "audio": torch.randn(1, 4 * frames, 13, generator=generator) * 5,
        "face": torch.rand(1, frames, size, size, generator=generator) * 255,
    }
    if body:
        found["body"] = torch.rand(1, frames, size, size, generator=generator) * 255
    return found


def batch(*clips: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
    """Clips of any length, padded with noise."""
    longest = max(c["face"].shape[1] for c in clips)
    found = {}
    for key in clips[0]:
        windows = longest * (4 if key == "audio" else 1)
        rows = [
            torch.cat([c[key], torch.rand(1, windows - c[key].shape[1], *c[key].shape[2:]) * 99], 1)
            for c in clips
        ]
        found[key] = torch.cat(rows)
    lengths = torch.tensor([c["face"].shape[1] for c in clips])
    return {**found, "mask": torch.arange(longest) < lengths[:, None]}


KINDS: Dict[str, Dict[str, Any]] = {
    "frame": {}, "clip": {"pool": "clip"}, "body": {"body": True}, "sigmoid": {"gate": "sigmoid"}
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["contribution", "gate", "activation"])
def test_neighbours_and_padding_change_nothing(kind: str, method: str) -> None:
    model = speaker(**KINDS[kind])
    clips = [clip(frames, seed, kind == "body") for seed, frames in enumerate((9, 5, 12, 1))]
    both = batch(*clips)
    together, reasons = model(**both), model.explain(**both, method=method)
    assert torch.equal(reasons.mask, both["mask"])
    for n, one in enumerate(clips):
        frames = one["face"].shape[1]
        alone, reason = model(**one), model.explain(**one, method=method)
        torch.testing.assert_close(reason.logits, alone.logits)
        for ours, theirs in (
            (together.logits, alone.logits), (together.visual_logits, alone.visual_logits),
            (reasons.logits, reason.logits), (reasons.scores, reason.scores),
            (reasons.raw, reason.raw),
            (reasons.visual_gate, reason.visual_gate), (reasons.fusion_gate, reason.fusion_gate),
            *((reasons.shares[k], reason.shares[k]) for k in reason.shares),
        ):  # fmt: skip
            scale = max(1.0, theirs.abs().max().item())
            assert (ours[n, :frames] - theirs[0]).abs().max() <= 1e-5 * scale
            assert not ours[n, frames:].any()
        # Random features are nearly the same everywhere, and stretching them stretches rounding.
        assert (reasons.heatmap[n, :frames] - reason.heatmap[0]).abs().max() <= 1e-4
        assert not reasons.heatmap[n, frames:].any()
        assert reasons.rule[n][:frames] == reason.rule[0]


def test_pooling_over_the_clip_is_one_gate() -> None:
    """The paper's form; per frame, each has its own, and neither looks at padding."""
    for pool in ("frame", "clip"):
        gate = speaker(pool=pool).explain(**clip(6)).visual_gate[0]
        assert torch.allclose(gate, gate[:1].expand_as(gate)) == (pool == "clip")
    with pytest.raises(InvalidInputError, match="'frame' or 'clip'"):
        create_speaker_model("asd_tiny_sehead", pool="batch")


def test_maps_are_what_they_are_said_to_be() -> None:
    model, one = speaker(gate="sigmoid"), clip(5)
    with torch.no_grad():
        features = model.forward_features(**one).visual
        gated = model.gated(features, model.se, None)
    gate = model.gate(features, model.se, None)
    explanation = model.explain(**one, method="gate")
    for t in range(5):
        chosen = select_channels(gate[0, t][None]).mask[0]
        expected = gated[0, chosen, t].mean(0)
        torch.testing.assert_close(explanation.raw[0, t], expected)
    activation = model.explain(**one, method="activation").raw
    torch.testing.assert_close(activation[0], features[0].mean(0))
    contribution = model.explain(**one)
    assert contribution.native_grid == (5, 4, 4) and contribution.heatmap.shape == (1, 5, 32, 32)
    assert contribution.heatmap.max() == 1 and contribution.heatmap.min() >= 0
    # The slope of the summed logits: a small step along it changes them as it says.
    pooled = gated.amax((3, 4)).transpose(1, 2)
    leaf = pooled.clone().requires_grad_(True)
    lengths = torch.tensor([5])
    streams = model.forward_features(**one)
    model.detect(model.join(streams, leaf, None), lengths).sum().backward()
    assert leaf.grad is not None
    weighed = torch.einsum("tc,cthw->thw", leaf.grad[0], gated[0])
    torch.testing.assert_close(contribution.raw[0], weighed)


def test_shares_of_the_modalities() -> None:
    model, one = speaker(body=True), clip(4, body=True)
    explanation = model.explain(**one)
    assert explanation.modalities == ("audio", "face", "body")
    for kind in ("gate", "features"):
        torch.testing.assert_close(explanation.shares[kind].sum(2), torch.ones(1, 4))
    with torch.no_grad():
        streams = model.forward_features(**one)
        visual = model.gated(streams.visual, model.se, None).amax((3, 4)).transpose(1, 2)
        joined = model.join(streams, visual, None)
        fused = joined * model.fusion(joined)
        width = fused.shape[2] // 3
        for n in range(3):
            without = fused.clone()
            without[..., n * width : (n + 1) * width] = 0
            lost = explanation.logits - model.detector(without, torch.tensor([4]))
            torch.testing.assert_close(explanation.shares["drop"][..., n], lost)


def test_gate_that_was_never_trained_says_so() -> None:
    fresh = create_speaker_model("asd_tiny_sehead")
    explanation = fresh.explain(**clip(3), method="gate")
    assert not explanation.gate_trained and "never trained" in repr(explanation)
    assert set(explanation.rule[0]) == {"rank"}
    assert speaker().explain(**clip(3)).gate_trained
    assert create_speaker_model("asd_tiny_sehead", gate="sigmoid").explain(**clip(3)).gate_trained


def test_mode_gradients_and_model_stay_as_they_are() -> None:
    model = speaker().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    explanation = model.explain(**clip(3))
    assert model.training and all(m.training for m in model.modules())
    assert not explanation.raw.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    torch.testing.assert_close(explanation.logits, model.eval()(**clip(3)).logits)
    model(**clip(3)).logits.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "visual_class" not in n)


def test_cudnn_is_put_back_by_the_last_of_several_threads() -> None:
    """The switch is the process's: the first one to end may neither use it nor lose it."""
    assert torch.backends.cudnn.enabled
    with contextlib.ExitStack() as later:
        with without_cudnn():
            later.enter_context(without_cudnn())
        assert not torch.backends.cudnn.enabled, "the second one still runs"
    assert torch.backends.cudnn.enabled
    with pytest.raises(InvalidInputError), without_cudnn():
        raise InvalidInputError("a clip that cannot be explained")
    assert torch.backends.cudnn.enabled
    model, one = speaker(), clip(5)
    expected = model.explain(**one).raw
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: model.explain(**one).raw, range(8)))
    assert all(torch.allclose(raw, expected, atol=1e-6) for raw in found)
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    "change, says",
    [
        ({"audio": torch.zeros(1, 12, 13)}, r"shape \(1, 16, 13\), 4 windows a frame"),
        ({"face": torch.zeros(1, 4, 3, 32, 32)}, r"shape \(B, T, H, W\)"),
        ({"body": torch.zeros(1, 4, 32, 32)}, "no body stream; create it with body=True"),
        ({"mask": torch.tensor([[True, False, True, True]])}, "the first frames of each clip"),
        ({"mask": torch.zeros(1, 4, dtype=torch.bool)}, "the first frames of each clip"),
        ({"mask": torch.ones(1, 4)}, "mask must be bool"),
        ({"mask": torch.ones(1, 5, dtype=torch.bool)}, "mask must be bool"),
    ],
)
def test_inputs_that_do_not_fit(change: Dict[str, torch.Tensor], says: str) -> None:
    model = create_speaker_model("asd_tiny_sehead")
    for call in (model, model.explain):
        with pytest.raises(InvalidInputError, match=says):
            call(**{**clip(4), **change})
    with pytest.raises(InvalidInputError, match="has a body stream: give body"):
        create_speaker_model("asd_tiny_sehead", body=True)(**clip(4))
    with pytest.raises(InvalidInputError, match="method is one of"):
        model.explain(**clip(4), method="cam")
    plain = SpeakerModel((4, 4, 4), 4, se=False).eval()
    assert plain(**clip(4)).logits.shape == (1, 4)
    with pytest.raises(InvalidInputError, match="no SE block"):
        explain_speaker(plain, **clip(4))


def test_names_and_round_trip(tmp_path: Path) -> None:
    assert sum(p.numel() for p in create_speaker_model("asd_tiny_sehead").parameters()) == 251_074
    timms: Any = timm.create_model("asd_small_sehead", pool="clip", gate="sigmoid")
    assert isinstance(timms, SpeakerModel) and timms.pool == "clip"
    write_export(timms, tmp_path, timms._model_args, timms.state_dict())
    again = create_speaker_model(f"local-dir:{tmp_path}")
    assert again.pool == "clip" and again.se.gate_kind == "sigmoid"  # type: ignore[union-attr]
    torch.testing.assert_close(again(**clip(3)).logits, timms.eval()(**clip(3)).logits)
    with pytest.raises(UnknownModelError, match="not a speaker model; these are: asd_tiny"):
        create_speaker_model("resnet18_sehead")
    control = create_speaker_model("asd_small_sehead", se=False)
    assert control.se is None and control._model_args["se"] is False
    packaged = create_speaker_model("asd_small_sehead", pretrained=True)
    assert packaged.pretrained_cfg["tag"] == "grid" and packaged.map_method == "gate"
    with pytest.raises(InvalidInputError, match="pool, body, map_method and se, not depth"):
        create_speaker_model("asd_tiny_sehead", depth=3)
    with pytest.raises(InvalidInputError, match="not num_classes"):
        timm.create_model("asd_tiny_sehead", num_classes=4)
    with pytest.raises(InvalidInputError, match="not num_classes, drop_rate"):
        timm.create_model("asd_tiny_sehead", num_classes=0, drop_rate=1.0)
    timm.create_model("asd_tiny_sehead", num_classes=1)


def test_the_config_says_which_map_is_the_default(tmp_path: Path) -> None:
    model = speaker(map_method="activation")
    assert model.explain(**clip(3)).method == "activation"
    assert model.explain(**clip(3), method="gate").method == "gate"
    assert speaker().explain(**clip(3)).method == "contribution"
    write_export(model, tmp_path, model._model_args, model.state_dict())
    again = create_speaker_model(f"local-dir:{tmp_path}")
    assert again.map_method == "activation" and again.save_args() == model.save_args()
    assert "map_method" not in speaker().save_args(), "configs of other models stay as they are"
    with pytest.raises(InvalidInputError, match=r"'support'.*contribution, gate, activation"):
        create_speaker_model("asd_tiny_sehead", map_method="support")


@pytest.mark.parametrize("from_zero", [True, False])
def test_drawn_maps_are_visible_in_half_of_the_frames(from_zero: bool) -> None:
    """A single strong frame does not decide; a frame with hardly any evidence stays faint."""
    peaks = torch.tensor([100.0, 2.0, 1.0, 0.5, 0.01])
    raw = torch.zeros(5, 3, 3)
    raw[:, 1, 1] = peaks
    raw[:, 0, 0] = -peaks if from_zero else 0
    drawn = visible_frames(raw, from_zero)
    torch.testing.assert_close(drawn[:, 1, 1], torch.tensor([1.0, 1.0, 1.0, 0.5, 0.01]))
    assert not drawn[:, 0, 0].any() and drawn.min() == 0
    raised = visible_frames(raw + torch.arange(5.0)[:, None, None], False)
    assert from_zero or torch.allclose(raised, drawn, atol=1e-5), "each frame has its own zero"
    assert not visible_frames(torch.full((4, 2, 2), -1.0), True).any()


# LR-ASD's weights


@pytest.fixture
def lr_asd(data_dir: Path) -> Tuple[Path, Dict[str, torch.Tensor]]:
    weights = data_dir / "weights"
    return weights / "lr_asd_ava.safetensors", load_file(
        weights / "lr_asd_ava_reference.safetensors"
    )


@pytest.mark.data
def test_converted_weights_answer_as_the_published_network(
    lr_asd: Tuple[Path, Dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    """Every key is used, and the log-odds are those of the published two logits."""
    file, known = lr_asd
    write_converted(file, tmp_path / "new" / "lr_asd")
    model = create_speaker_model(f"local-dir:{tmp_path / 'new' / 'lr_asd'}")
    with torch.no_grad():
        output = model(known["audio"], known["face"])
    for ours, theirs in ((output.logits, "logits_av"), (output.visual_logits, "logits_v")):
        torch.testing.assert_close(ours[0], known[theirs][:, 1] - known[theirs][:, 0],
                                   atol=1e-5, rtol=1e-5)  # fmt: skip
    one = {"audio": known["audio"], "face": known["face"].float()}
    for method in ("contribution", "gate", "activation"):
        alone = model.explain(**one, method=method)
        beside = model.explain(**batch(one, clip(15, size=112)), method=method)
        assert alone.gate_trained is False
        assert (beside.heatmap[:1, :12] - alone.heatmap).abs().max() <= 1e-5
        assert (beside.logits[:1, :12] - alone.logits).abs().max() <= 1e-5
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"lr_asd"}
    with pytest.raises(InvalidInputError, match="exists already"):
        write_converted(file, tmp_path / "new" / "lr_asd")


@pytest.mark.data
def test_weights_that_are_not_lr_asd(
    lr_asd: Tuple[Path, Dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    weights = load_file(lr_asd[0])
    name = "model.visualEncoder.block1.s_1.weight"
    changes: Dict[str, Dict[str, torch.Tensor]] = {
        "missing are 1 tensors": {k: v for k, v in weights.items() if k != name},
        "extra.weight": {**weights, "extra.weight": torch.zeros(1)},
        "of other shapes": {**weights, name: torch.zeros(16, 3, 1, 5, 5)},
    }
    for says, changed in changes.items():
        save_file(changed, tmp_path / "w.safetensors")
        with pytest.raises(WeightsNotFoundError, match=says):
            write_converted(tmp_path / "w.safetensors", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    torch.save(weights, tmp_path / "w.model")  # as it is published
    assert isinstance(convert_lr_asd(tmp_path / "w.model"), SpeakerModel)
    (tmp_path / "w.model").write_text("hello")
    with pytest.raises(WeightsNotFoundError, match="cannot be read as weights"):
        convert_lr_asd(tmp_path / "w.model")


# Sound


def test_coefficients_are_those_of_python_speech_features() -> None:
    """Computed with python_speech_features 0.6: 13 coefficients of a rising tone."""
    t = torch.arange(4000, dtype=torch.float64)
    tone = (8000 * torch.sin(2 * torch.pi * (200 + 0.2 * t) * t / 16000)).round().short()
    found = mfcc(tone)
    assert found.shape == (24, 13)
    expected = {
        0: [18.2243, 24.2587, 13.2716, 3.3395, -7.1351, -17.0989, -23.2475, -26.0932, -24.4063,
            -19.8973, -13.102, -6.8074, -1.7291],
        11: [20.6402, 22.1556, -21.7675, -35.8811, -12.8909, 20.1354, 27.882, 3.2974, -23.8384,
             -25.741, -3.951, 13.9527, 11.3373],
        23: [21.5183, 1.6032, -35.9216, -2.3818, 31.9813, 1.1614, -31.2334, -3.054, 26.6877,
             0.9728, -24.1061, -2.7323, 17.685],
    }  # fmt: skip
    for row, values in expected.items():
        torch.testing.assert_close(found[row], torch.tensor(values), atol=1e-4, rtol=0)
    faster = mfcc(tone, fps=30)
    assert faster.shape == (29, 13)
    expected_row = [19.6207, 23.8135, -2.9703, -25.6101, -32.4714, -20.3358, 2.8865, 20.4324,
                    23.0102, 10.7747, -5.3806, -15.6504, -14.7926]  # fmt: skip
    torch.testing.assert_close(faster[7], torch.tensor(expected_row), atol=1e-4, rtol=0)
    assert torch.isfinite(mfcc(torch.zeros(500))).all() and mfcc(torch.ones(1)).shape == (1, 13)
    for signal, fps in ((torch.zeros(0), 25), (torch.zeros(2, 9), 25), (torch.zeros(9), 0)):
        with pytest.raises(DataError):
            mfcc(signal, fps)


def test_convert_on_the_command_line(tmp_path: Path) -> None:
    from se_zoo import cli

    with pytest.raises(SystemExit) as stop:
        cli.main(["convert", "lr-asd", str(tmp_path / "no.safetensors"), "--out", str(tmp_path)])
    assert "no.safetensors cannot be read" in str(stop.value.code)


@pytest.mark.data
def test_convert_writes_a_model(
    lr_asd: Tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from se_zoo import cli

    cli.main(["convert", "lr-asd", str(lr_asd[0]), "--out", str(tmp_path / "asd")])
    assert "untrained" in capsys.readouterr().out
    cli.main(["card", str(tmp_path / "asd")])  # its facts and figures are there
    card = capsys.readouterr().out
    assert "license: mit" in card and "are answered as the word" in card
    config = json.loads((tmp_path / "asd" / "config.json").read_text())
    assert config["architecture"] == "asd_small_sehead"
    assert config["model_args"]["map_method"] == "activation", "the one that points best"


def test_where_images_are_wanted_a_speaker_model_is_refused(tmp_path: Path) -> None:
    from se_zoo import cli

    model: Any = create_speaker_model("asd_tiny_sehead")
    write_export(model, tmp_path, model._model_args, model.state_dict())
    for args in (
        ["explain", "--model", f"local-dir:{tmp_path}"],
        ["explain", "--model", "se_zoo/asd_tiny_grid"],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(args)
        assert "sound and faces" in str(stop.value.code)


def test_seconds_of_a_figure_are_those_of_the_video() -> None:
    from se_zoo.explanations.draw.speaker_clips import figure_of

    one = clip(12)
    explanation = speaker().explain(**one)
    for begin in (0.0, 12.0):
        top, bottom = figure_of(explanation, one["face"], begin=begin).subfigs
        assert top.axes[0].get_title() == f"{begin:.2f} s"
        assert bottom.axes[1].get_xlim() == pytest.approx((begin, begin + 11 / 25))
