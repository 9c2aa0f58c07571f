"""Weights against their config: nothing is drawn at random, cast or dropped in silence."""

import json
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import se_zoo
from se_zoo import SEZooError, UnknownModelError, WeightsNotFoundError
from se_zoo.models.load_model import load_any
from se_zoo.models.pretrained.weights_check import read_header
from se_zoo.models.speaker.lr_asd import convert_lr_asd
from se_zoo.train.model import load_init

from .tester import randomise

Change = Callable[[Dict[str, Any]], Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> Path:
    """A saved model of three classes."""
    torch.manual_seed(0)
    model = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3)
    return se_zoo.save(
        randomise(model), tmp_path_factory.mktemp("saved") / "model", labels=["a", "b", "c"]
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: Any) -> Path:
    """A folder of timm's save_for_hf, without an SE head."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(
        model, str(folder), model_args={"num_classes": 3}, safe_serialization=True
    )
    return folder


def changed(source: Path, folder: Path, config: Any = None, weights: Any = None) -> str:
    """Copy a model with another config or other weights, and return timm's name of it."""
    content = json.loads((source / "config.json").read_text())
    state = load_file(source / "model.safetensors")
    if config is not None:
        config(content)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    save_file(state if weights is None else weights(state), folder / "model.safetensors")
    return f"local-dir:{folder}"


def top(**entries: Any) -> Change:
    return lambda config: config.update(entries)


def cfg(**entries: Any) -> Change:
    return lambda config: config["pretrained_cfg"].update(entries)


def args(**entries: Any) -> Change:
    return lambda config: config["model_args"].update(entries)


MISFITS: Dict[str, Any] = {
    r"num_classes=4.* has 3 .*3 x 96": top(num_classes=4, label_names=None),
    r"num_classes is 3, and in model_args 4": args(num_classes=4),
    r"Missing key.*layer1.1.conv1": args(layers=[2, 1, 1, 1]),
    r"size mismatch for .*conv1": args(channels=[8, 8, 8, 8]),
    r"input_size\[0\]=1|do not fit": cfg(input_size=[1, 160, 160]),
    r"classifier='layer4'": cfg(classifier="layer4"),
    r"more layers than can be meant": args(layers=[5000] * 4),
    r"adds up to more than 1,000,000": args(layers=[10**9] * 4),
    r"from 1 to 4,096, not 20000": cfg(input_size=[3, 20000, 20000]),
}


@pytest.mark.parametrize("says", MISFITS)
def test_config_of_another_model_is_refused_before_anything_is_built(
    saved: Path, tmp_path: Path, says: str
) -> None:
    name = changed(saved, tmp_path / "x", MISFITS[says])
    cases: Any = ({}, {"num_classes": 7})
    for num_classes in cases:
        with pytest.raises((UnknownModelError, WeightsNotFoundError), match=says):
            timm.create_model(name, pretrained=True, **num_classes)
    with pytest.raises(SEZooError, match=says):
        load_any(name)


def test_plain_timm_folder_that_does_not_fit_is_refused_by_squeeze(
    plain: Path, tmp_path: Path
) -> None:
    assert se_zoo.squeeze(f"local-dir:{plain}", pretrained=True).num_classes == 3
    name = changed(plain, tmp_path / "x", lambda c: (c.update(num_classes=4), c.pop("model_args")))
    with pytest.raises(WeightsNotFoundError, match=r"num_classes=4.* has 3"):
        se_zoo.squeeze(name, pretrained=True)


def test_position_embedding_of_another_size_is_refused_unless_the_caller_asks(
    tmp_path: Path,
) -> None:
    """timm resizes it in silence; only the caller may ask for that."""
    model = timm.create_model("test_vit", num_classes=3)
    timm.models.save_for_hf(
        model, str(tmp_path / "vit"), model_args={"num_classes": 3}, safe_serialization=True
    )
    fixed = cfg(input_size=[3, 320, 320], fixed_input_size=True)
    name = changed(
        tmp_path / "vit", tmp_path / "x", lambda c: (fixed(c), c.pop("model_args", None))
    )
    with pytest.raises(WeightsNotFoundError, match=r"pos_embed has 1 x 101 x 64 .* 1 x 401 x 64"):
        se_zoo.squeeze(name, pretrained=True)
    asked = se_zoo.squeeze(f"local-dir:{tmp_path / 'vit'}", pretrained=True, img_size=320)
    assert asked.pos_embed.shape[1] == 401  # type: ignore[union-attr]


def test_missing_layers_are_refused_whatever_the_number_of_classes(
    saved: Path, tmp_path: Path
) -> None:
    """timm loads non-strictly where the caller asks for other classes."""
    name = changed(
        saved, tmp_path / "x", None,
        lambda state: {k: v for k, v in state.items() if "layer3" not in k},
    )  # fmt: skip
    cases: Any = ({}, {"num_classes": 7})
    for kwargs in cases:
        with pytest.raises(WeightsNotFoundError, match="layer3"):
            timm.create_model(name, pretrained=True, **kwargs)


def test_arguments_that_add_layers_are_refused_and_other_classes_are_not(saved: Path) -> None:
    name = f"local-dir:{saved}"
    model: Any = timm.create_model(name, pretrained=True, num_classes=7)
    state = load_file(saved / "model.safetensors")
    assert torch.equal(model.conv1[0].weight, state["conv1.0.weight"]) and model.num_classes == 7
    grey: Any = timm.create_model(name, pretrained=True, in_chans=1)
    assert grey.conv1[0].in_channels == 1
    with pytest.raises(WeightsNotFoundError, match="would stay random"):
        timm.create_model(name, pretrained=True, num_classes=7, layers=[2, 1, 1, 1])
    with pytest.raises(WeightsNotFoundError, match="do not fit"):
        timm.create_model(name, pretrained=True, num_classes=7, backbone="test_vit")
    with pytest.raises(WeightsNotFoundError, match=r"would stay random|do not fit"):
        timm.create_model(
            "timm_sehead", backbone="test_vit", pretrained=True, num_classes=7,
            pretrained_cfg_overlay={"file": str(saved / "model.safetensors")},
        )  # fmt: skip


def test_file_given_to_timm_as_an_overlay_must_have_the_classes_it_claims(saved: Path) -> None:
    overlay = {"file": str(saved / "model.safetensors"), "num_classes": 4}
    with pytest.raises(WeightsNotFoundError, match=r"num_classes=4.* has 3"):
        timm.create_model(
            "timm_sehead", backbone="test_resnet", pretrained=True, num_classes=3,
            pretrained_cfg_overlay=overlay,
        )  # fmt: skip


def integers(state: Any) -> Any:
    return {k: v.long() for k, v in state.items()}


def truth_values(state: Any) -> Any:
    return {k: v.bool() for k, v in state.items()}


def complex_numbers(state: Any) -> Any:
    return {k: v.to(torch.complex64) if v.is_floating_point() else v for k, v in state.items()}


def eight_bits(state: Any) -> Any:
    return {k: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for k, v in state.items()}


@pytest.mark.parametrize("cast", [integers, truth_values, complex_numbers, eight_bits])
def test_weights_of_another_type_are_refused_by_every_reader(
    saved: Path, tmp_path: Path, cast: Any
) -> None:
    name = changed(saved, tmp_path / "x", None, cast)
    with pytest.raises(WeightsNotFoundError, match=r"stored as|stores"):
        timm.create_model(name, pretrained=True)
    model = timm.create_model("timm_sehead", backbone="test_resnet", num_classes=3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(WeightsNotFoundError, match=r"stored as|stores"):
        load_init(model, tmp_path / "x")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_half_precision_is_loaded(saved: Path, tmp_path: Path) -> None:
    name = changed(
        saved, tmp_path / "x", None,
        lambda s: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
    )  # fmt: skip
    assert next(timm.create_model(name, pretrained=True).parameters()).dtype == torch.float32


#: Our names of LR-ASD's layers, and LR-ASD's; those of the encoders follow a rule.
LR_ASD = {
    "fusion.conv.": "model.fusion.attention.",
    "fusion.norm.": "model.fusion.bn.",
    "detector.gate.conv.": "model.detector.attention.attention.",
    "detector.gate.norm.": "model.detector.attention.bn.",
    "detector.forward_gru.": "model.detector.gru_forward.",
    "detector.backward_gru.": "model.detector.gru_backward.",
    "detector.classifier.": "lossAV.FC.",
    "visual_classifier.": "lossV.FC.",
}


def lr_asd_name(name: str) -> str:
    """LR-ASD's name of one of our tensors."""
    unit = re.fullmatch(r"(visual|audio)_encoder\.blocks\.(\d)\.(\d)\.(conv|norm)\.(.+)", name)
    if unit is None:
        ours = next(ours for ours in LR_ASD if name.startswith(ours))
        return LR_ASD[ours] + name.removeprefix(ours)
    encoder, block, number, module, rest = unit.groups()
    kind = "t" if int(number) >= 2 else {"visual": "s", "audio": "m"}[encoder]
    norm = "norm_" if module == "norm" else ""
    place = f"block{int(block) + 1}.{kind}_{norm}{int(number) % 2 + 1}"
    return f"model.{encoder}Encoder.{place}.{rest}"


def test_conversion_of_lr_asd_refuses_integers(tmp_path: Path) -> None:
    theirs = {}
    for name, tensor in se_zoo.create_speaker_model("asd_small_sehead").state_dict().items():
        if "classifier" in name:  # LR-ASD's have two logits
            tensor = torch.cat([-tensor, tensor])
        if not name.startswith("se."):
            theirs[lr_asd_name(name)] = tensor.contiguous()
    save_file(theirs, tmp_path / "floats.safetensors")
    convert_lr_asd(tmp_path / "floats.safetensors")
    save_file(integers(theirs), tmp_path / "integers.safetensors")
    with pytest.raises(WeightsNotFoundError, match=r"another type: .* stored as torch\.int64"):
        convert_lr_asd(tmp_path / "integers.safetensors")


def test_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    """A file may claim any shape; nothing of that size is allocated."""
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "good.safetensors")
    found = read_header(tmp_path / "good.safetensors")
    assert found["a"].is_meta and found["a"].shape == (2, 3)
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(len(header).to_bytes(8, "little") + header)
    started = time.perf_counter()
    with pytest.raises(Exception, match=r"[Ii]ncomplete|Safetensor|metadata"):
        read_header(bad)
    assert time.perf_counter() - started < 5
