"""Clip models: torchvision's and framewise ones, on reduced sizes and with few blocks."""

import copy
import dataclasses
import functools
import pickle
from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import pytest
import timm
import torch
import torchvision
from timm.models import save_for_hf
from timm.models._hub import save_config_for_hf
from torchvision.models.video import mvit, resnet, swin_transformer

import se_zoo
from se_zoo import InvalidInputError
from se_zoo.explanations.draw.canvases import to_pixels
from se_zoo.explanations.draw.clips import strip_lines
from se_zoo.models.zoo_video import CLIPS

from .copies import Mould
from .draws import cheap_draws  # noqa: F401  (a fixture)
from .tester import randomise, spread_gate

pytestmark = pytest.mark.usefixtures("cheap_draws")
CLASSES = 5


class Case(NamedTuple):
    """A clip model: its arguments, a reduced clip, its grid there, and whether maps are exact."""

    name: str
    clip: Tuple[int, int, int]
    grid: Tuple[int, int, int]
    exact: bool = True
    kwargs: Dict[str, Any] = {}

    def model(self, **kwargs: Any) -> Any:
        arguments = {"num_classes": CLASSES, "gate": "sigmoid", **self.kwargs, **kwargs}
        return timm.create_model(f"{self.name}_sehead", **arguments)

    def clips(self, count: int = 2) -> torch.Tensor:
        return torch.randn(count, 3, *self.clip)


CASES = [
    Case("mc3_18", (4, 32, 48), (4, 2, 3)),
    Case("r2plus1d_18", (8, 32, 48), (1, 2, 3)),
    Case("swin3d_t", (4, 64, 96), (2, 2, 3)),
    Case("framewise", (3, 64, 96), (3, 2, 3), kwargs={"backbone": "test_resnet"}),
    Case("framewise", (3, 64, 96), (3, 2, 3), kwargs={"backbone": "test_convnext"}),
    Case("framewise", (3, 64, 64), (3, 4, 4), kwargs={"backbone": "vit_tiny_patch16_224",
         "img_size": 64, "depth": 2, "global_pool": "avg"}),
    Case("framewise", (2, 64, 64), (2, 4, 4), False, {"backbone": "vit_tiny_patch16_224",
         "img_size": 64, "depth": 2}),
    Case("framewise", (2, 64, 64), (2, 2, 2), kwargs={"backbone": "swin_tiny_patch4_window7_224",
         "img_size": 64, "window_size": 2, "embed_dim": 24, "depths": (1, 1, 2, 1)}),
]  # fmt: skip
#: Of classes that are tested above, or too slow for all of it.
OTHERS = [
    Case("r3d_18", (8, 32, 48), (1, 2, 3)),
    Case("s3d", (13, 209, 209), (2, 7, 7)),
    Case("mvit_v2_s", (4, 64, 64), (2, 2, 2), False),
    Case("swin3d_s", (2, 32, 32), (1, 1, 1)),
    Case("swin3d_b", (2, 32, 32), (1, 1, 1)),
]
each = pytest.mark.parametrize("case", CASES, ids=lambda c: c.kwargs.get("backbone", c.name))


@pytest.fixture(autouse=True)
def cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out blocks that repeat another one, three quarters of Swin's width, and most of what
    MViT takes, which torchvision's functions fix; ``test_full_size`` takes them as they are."""
    video_resnet, swin, vision = (
        resnet._video_resnet, swin_transformer._swin_transformer3d, mvit._mvit,
    )  # fmt: skip

    def one_block(block: Any, makers: Any, layers: Any, *args: Any, **kwargs: Any) -> Any:
        return video_resnet(block, makers, [1] * 4, *args, **kwargs)

    def narrow(embed_dim: int, depths: Any, **kwargs: Any) -> Any:
        return swin(embed_dim=embed_dim // 4, depths=[1, 1, 2, 1], **kwargs)

    def small(block_setting: Any, **kwargs: Any) -> Any:
        blocks = [b for i, b in enumerate(block_setting) if b not in block_setting[:i]]
        return vision(blocks, **{**kwargs, "spatial_size": (64, 64), "temporal_size": 4})

    monkeypatch.setattr(resnet, "_video_resnet", one_block)
    monkeypatch.setattr(swin_transformer, "_swin_transformer3d", narrow)
    monkeypatch.setattr(mvit, "_mvit", small)


def trained_looking(case: Case, **kwargs: Any) -> Any:
    """A model of one's own whose gate and norms are not those of a new one."""
    return _made(CASES.index(case), **kwargs).cast()


@functools.cache
def _made(number: int, **kwargs: Any) -> Mould:
    """Made once for all tests, which draw the same random numbers whether it was made before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomise(CASES[number].model(**kwargs)).eval()
        return Mould(spread_gate(model, CASES[number].clips(1)))


@each
def test_explains_in_space_and_time(case: Case) -> None:
    model, clips = trained_looking(case), case.clips()
    explanation = model.explain(clips, list(range(CLASSES)))
    assert explanation.heatmap.shape == (2 * CLASSES, *case.clip)
    assert explanation.native_grid == case.grid and explanation.exact == case.exact
    assert 0 <= float(explanation.heatmap.min()) and float(explanation.heatmap.max()) <= 1
    assert torch.equal(explanation.logits, model(clips).detach())
    if case.exact:
        total = explanation.raw.flatten(1).mean(1) + explanation.constant
        assert (total - explanation.logits.flatten()).abs().max() < 1e-4
    for method in ("gate", "activation", "difference"):
        other = model.explain(clips, method=method)
        assert other.heatmap.shape == (2, *case.clip)


@each
def test_gate_map_is_the_transcription(case: Case) -> None:
    """Mean of the gated features of the selected channels, written by hand."""
    model, clips = trained_looking(case), case.clips(1)
    explanation = model.explain(clips, method="gate")
    with torch.no_grad():
        features = model.forward_features(clips)
        grid = model.feature_grid(features, clips.shape[-2:])
        gate = model.gate(features)
    chosen = explanation.selected[0]
    expected = (gate[0, chosen].view(-1, 1, 1, 1) * grid[0, chosen]).mean(0)
    assert torch.allclose(explanation.raw[0], expected, atol=1e-4 * float(expected.abs().max()))


@each
def test_a_clip_is_explained_alike_alone_and_in_a_batch(case: Case) -> None:
    model, clips = trained_looking(case), case.clips(3)
    together = model.explain(clips, target=1)
    for i in range(3):
        alone = model.explain(clips[i : i + 1], target=1)
        assert torch.allclose(alone.heatmap[0], together.heatmap[i], atol=1e-4)
        assert torch.allclose(alone.logits[0], together.logits[i], atol=1e-4)


@each
def test_trains(case: Case) -> None:
    """Every parameter gets a gradient, the gate's too; checkpointing changes none."""
    model, clips = trained_looking(case).train(), case.clips()
    state = copy.deepcopy(model.state_dict())
    gradients = []
    for checkpointing in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(0)
        model(clips).square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
    assert all(g.abs().sum() > 0 for n, g in gradients[0].items() if n.startswith("se."))
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-3, atol=1e-4), name


@each
def test_comes_back_from_its_folder(case: Case, tmp_path: Path) -> None:
    model = trained_looking(case, num_frames=6, frame_stride=3)
    model.pretrained_cfg.update(num_classes=CLASSES, label_names=list("abcde"))
    save_for_hf(model, str(tmp_path), model_args=model._model_args, safe_serialization=True)
    back: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    clips = case.clips(1)
    assert torch.equal(back(clips), model(clips))
    assert (back.num_frames, back.frame_stride) == (6, 3)
    assert torch.equal(back.explain(clips, "c").heatmap, model.explain(clips, "c").heatmap)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(clips), model(clips)) and type(again) is type(model)


@each
def test_timms_interface(case: Case) -> None:
    model, clips = trained_looking(case), case.clips(1)
    assert model(clips).shape == (1, CLASSES) and model.num_classes == CLASSES
    features = model.forward_features(clips)
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.num_features) and model.head_hidden_size == pooled.shape[1]
    assert torch.equal(model.forward_head(features), model(clips))
    model.reset_classifier(3)
    assert model(clips).shape == (1, 3) and model.get_classifier().weight.shape[0] == 3
    model.reset_classifier(0)
    assert model(clips).shape == pooled.shape
    assert model.pretrained_cfg["classifier"] in {n for n, _ in model.named_modules()}
    assert isinstance(model.group_matcher(), dict)
    config = se_zoo.resolve_clip_config(model)
    assert (config.num_frames, config.frame_stride) == (model.num_frames, model.frame_stride)
    assert config.size == tuple(model.input_shape()[-2:])


@pytest.mark.parametrize(
    "case",
    # S3D takes no small clips.
    [pytest.param(c, marks=pytest.mark.slow) if c.name == "s3d" else c for c in OTHERS],
    ids=lambda c: c.name,
)
def test_the_others(case: Case, tmp_path: Path) -> None:
    """Forward, backward, explain, and once more from config.json."""
    model, clips = case.model(), case.clips(1)
    if case.name == "s3d":  # takes no smaller clips: the head's gradient alone
        model.requires_grad_(False).se.requires_grad_(True)
    model.train()(clips).sum().backward()
    assert model.se.fc2.weight.grad.abs().sum() > 0
    explanation = model.eval().explain(clips, target=0)
    assert explanation.native_grid == case.grid
    assert explanation.exact == case.exact
    assert explanation.weights == ("folded" if case.exact else "projection")
    file: Any = tmp_path / "config.json"  # timm 1.0.21 takes no text here
    # Old versions of timm keep the names of the pretrained weights' classes, which are refused.
    names = {"label_names": list("abcde")}
    save_config_for_hf(model, file, model_config=names, model_args=model._model_args)
    back: Any = timm.create_model(f"local-dir:{tmp_path}")
    back.load_state_dict(model.state_dict())
    assert torch.equal(back.eval()(clips), explanation.logits)


def test_all_registered_clip_models_are_tested() -> None:
    tested = {f"{case.name}_sehead" for case in CASES + OTHERS}
    assert tested == set(timm.list_models("*_sehead", module="zoo_video"))


@pytest.mark.parametrize("name", CLIPS)
def test_full_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights have torchvision's names and shapes, and the block those of its channels."""
    monkeypatch.undo()
    with torch.device("meta"):
        plain = getattr(torchvision.models.video, name)(num_classes=CLASSES)
        model: Any = timm.create_model(f"{name}_sehead", num_classes=CLASSES)
    found = {key: value.shape for key, value in model.state_dict().items()}
    block = {key: found.pop(key) for key in list(found) if key.startswith("se.")}
    assert found == {key: value.shape for key, value in plain.state_dict().items()}
    assert block["se.fc1.weight"][1] == model.num_features == model.get_classifier().weight.shape[1]


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t", "mvit_v2_s"])
def test_identity_gate_leaves_torchvisions_logits(name: str) -> None:
    """The state dict is torchvision's plus se.*, and under the identity gate so are the logits."""
    plain = getattr(torchvision.models.video, name)(num_classes=CLASSES).eval()
    model: Any = timm.create_model(f"{name}_sehead", num_classes=CLASSES).eval()
    missing, unexpected = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all(key.startswith("se.") for key in missing)
    clips = torch.randn(1, 3, 4, 64, 64)
    assert torch.equal(model(clips), plain(clips))


def test_kinetics_weights_come_through_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the address, hash check and tensors-only reading of torchvision's own loader."""
    asked: Dict[str, Any] = {}
    plain = torchvision.models.video.r3d_18()

    def load(url: str, *args: Any, **kwargs: Any) -> Any:
        asked.update(url=url, **kwargs)
        return plain.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    model: Any = timm.create_model("r3d_18_sehead", pretrained=True).eval()
    assert asked["url"] == CLIPS["r3d_18"].weights.url
    assert asked["check_hash"] and asked["weights_only"]
    clips = torch.randn(1, 3, 2, 32, 32)
    assert torch.equal(model(clips), plain.eval()(clips))
    assert model.class_labels()[0] == "abseiling" and "state_dict" not in model.pretrained_cfg
    fewer: Any = timm.create_model("r3d_18_sehead", pretrained=True, num_classes=3).eval()
    assert torch.equal(fewer.stem[0].weight, plain.stem[0].weight)
    assert fewer(clips).shape == (1, 3) and fewer.class_labels() is None


def test_kinetics_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", load)
    with pytest.raises(se_zoo.WeightsNotFoundError, match=r"download\.pytorch\.org.*no network"):
        timm.create_model("r3d_18_sehead", pretrained=True)


def test_image_is_a_clip_of_one_frame() -> None:
    for name in ("mc3_18", "framewise"):
        model = timm.create_model(f"{name}_sehead", num_classes=CLASSES).eval()
        images = torch.randn(2, 3, 64, 64)
        assert torch.equal(model(images), model(images[:, :, None]))  # type: ignore[operator]
        explanation = model.explain(images)  # type: ignore[operator]
        assert explanation.heatmap.shape == (2, 1, 64, 64) and explanation.is_clip


@pytest.mark.parametrize(
    "name, shape, says",
    [
        ("s3d", (1, 3, 8, 224, 224), "at least 13 frames"),
        ("s3d", (1, 3, 16, 112, 112), "209 x 209"),
        ("mvit_v2_s", (1, 3, 8, 64, 64), "exactly 4 frames of 64 x 64"),
        ("mvit_v2_s", (1, 3, 4, 96, 64), "exactly 4 frames of 64 x 64"),
        ("r3d_18", (3, 8, 32), r"\(B, C, T, H, W\)"),
        ("framewise", (1, 1, 3, 8, 32, 32), r"\(B, C, T, H, W\)"),
        ("r3d_18", (1, 4, 8, 32, 32), "channels"),
    ],
)
def test_clip_that_the_model_does_not_take(name: str, shape: Tuple[int, ...], says: str) -> None:
    model: Any = timm.create_model(f"{name}_sehead", num_classes=2).eval()
    with pytest.raises(InvalidInputError, match=says):
        model.explain(torch.randn(shape))


def test_image_model_does_not_take_clips() -> None:
    model: Any = timm.create_model("resnet10t_sehead")
    with pytest.raises(InvalidInputError, match=r"\(B, C, H, W\)"):
        model.explain(torch.randn(1, 3, 2, 64, 64))
    with pytest.raises(InvalidInputError, match="takes images"):
        se_zoo.resolve_clip_config(model)


def test_options_that_cannot_be() -> None:
    with pytest.raises(InvalidInputError, match="3 channels"):
        timm.create_model("r3d_18_sehead", in_chans=1)
    with pytest.raises(InvalidInputError, match="feature pyramid"):
        timm.create_model("r3d_18_sehead", features_only=True)
    with pytest.raises(TypeError, match="no_such"):
        timm.create_model("r3d_18_sehead", no_such=1)
    with pytest.raises(se_zoo.UnknownModelError, match="no backbone"):
        timm.create_model("framewise_sehead", backbone="resnet18_sehead")
    with pytest.raises(InvalidInputError, match="has a fixed pooling"):
        timm.create_model("r3d_18_sehead").reset_classifier(3, "max")  # type: ignore[operator]


# Drawing


def explained() -> Any:
    case = CASES[0]
    model = trained_looking(case)
    model.pretrained_cfg.update(num_classes=CLASSES, label_names=list("abcde"))
    return model.explain(case.clips(), ["a", "c"])


def test_strip_and_json(tmp_path: Path) -> None:
    import json

    from PIL import Image

    explanation = explained()
    explanation.save(tmp_path / "why.png")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.width > 4 * 160  # four frames
    content = json.loads((tmp_path / "why.json").read_text())
    assert content["native_grid"] == [4, 2, 3] and len(content["rows"]) == 4
    assert explanation.overlay().shape == (4, 4, 32, 48, 3)


def test_empty_map_of_a_clip_is_named_above_it() -> None:
    explanation = explained()
    heatmap = explanation.heatmap.clone()
    heatmap[0] = 0
    heatmap[1, 1:] = 0  # the first frame has evidence
    some = dataclasses.replace(explanation, method="class_gate", heatmap=heatmap)
    assert some.empty[:2] == (True, False)
    lines = strip_lines(some, to_pixels(some, None), 0.75, None)
    values = [value for _, value in some.captions()]
    assert [line[0].value for line in lines[1:3]] == [f"empty map, {values[0]}", values[1]]


def test_video_has_every_frame(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV (extra: video)")
    explanation = explained()
    explanation.save(tmp_path / "why.mp4", fps=12.5)
    with av.open(str(tmp_path / "why.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and float(stream.average_rate) == 12.5
        assert sum(1 for _ in container.decode(stream)) == 4
    assert (tmp_path / "why.json").is_file()
    with pytest.raises(InvalidInputError, match="fps"):
        explanation.save(tmp_path / "other.mp4", fps=0)
    assert not (tmp_path / "other.mp4").exists()


@pytest.mark.parametrize("seconds", [0.08, 2, 3600, 10_000])
def test_frames_of_a_video_stand_as_long_as_asked_for(tmp_path: Path, seconds: float) -> None:
    """Also the few frames that a model sees of a film of hours."""
    av = pytest.importorskip("av", reason="needs PyAV (extra: video)")
    explained().save(tmp_path / "why.mp4", fps=1 / seconds)
    with av.open(str(tmp_path / "why.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert [t - times[0] for t in times] == pytest.approx([n * seconds for n in range(4)], rel=1e-3)


def test_video_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InvalidInputError, match=r"se_zoo\[video\]"):
        explained().save(tmp_path / "why.mp4")
    assert not list(tmp_path.iterdir())


def test_frame_weights_add_up_to_the_logit() -> None:
    explanation = explained()
    weights = explanation.frame_weights
    assert weights.shape == (4, 4)
    logits = explanation.logits[explanation.image_index, torch.tensor(explanation.target)]
    assert torch.allclose(weights.mean(1) + explanation.constant, logits, atol=1e-4)
    figure = explanation.temporal()
    assert len(figure.axes[0].lines) == 5  # the rows, and zero


def test_pictures_of_images_have_no_frames(tmp_path: Path) -> None:
    explanation = timm.create_model("resnet10t_sehead").eval().explain(torch.randn(1, 3, 64, 64))  # type: ignore[operator]
    with pytest.raises(InvalidInputError, match="only clips have frames"):
        explanation.temporal()
    with pytest.raises(InvalidInputError, match=r"saved as \.png"):
        explanation.save(tmp_path / "why.mp4")


def test_clips_to_draw_on() -> None:
    import numpy as np

    explanation = explained()
    larger = np.zeros((2, 4, 64, 96, 3), dtype=np.uint8)
    assert explanation.overlay(larger).shape == (4, 4, 64, 96, 3)
    with pytest.raises(InvalidInputError, match="T, H, W, 3"):
        explanation.overlay(larger[:, 0])
    with pytest.raises(InvalidInputError, match="that the model saw, 4; they have 8"):
        explanation.overlay(np.repeat(larger, 2, axis=1))


def test_names_tell_clips_apart() -> None:
    model: Any = timm.create_model("framewise_sehead", backbone="test_resnet", num_frames=2).eval()
    found = model.explain(torch.randn(2, *model.input_shape()), 0)
    plain, named = found.grid(), found.grid(names=["a clip", "another one"])
    assert plain.size == named.size and plain != named
    with pytest.raises(InvalidInputError, match="1 names for 2 images"):
        found.grid(names=["a clip"])
