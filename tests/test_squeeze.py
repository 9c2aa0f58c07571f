"""``squeeze`` and ``unsqueeze``; saving, loading, and files that must not be loaded."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any, Dict

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

import se_zoo
from se_zoo import (
    InvalidInputError,
    UnknownModelError,
    UnsupportedBackboneError,
    WeightsNotFoundError,
)

from .tester import fingerprint, randomise, varied_images

SIZE = (64, 64)


def resnet(**kwargs: Any) -> Any:
    return randomise(timm.create_model("resnet10t", num_classes=5, **kwargs)).eval()


def logits_of(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(images)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet10t", 64), ("test_convnext", 64), ("test_vit", 160), ("test_vit4", 160),
     ("test_byobnet", 64), ("test_mambaout", 64), ("test_efficientnet_gn", 64)],
)  # fmt: skip
def test_identity_gate_keeps_class_names_and_every_bit(name: str, size: int) -> None:
    model = randomise(timm.create_model(name, num_classes=5)).eval()
    images = varied_images(2, (size, size))
    before, names, cls = logits_of(model, images), list(model.state_dict()), type(model)
    squeezed = se_zoo.squeeze(model)
    assert squeezed is model and isinstance(model, cls) and type(model) is not cls
    added = [n for n in model.state_dict() if n not in names]
    assert added == ["se.gate_scale", "se.fc1.weight", "se.fc2.weight"]
    assert [n for n in model.state_dict() if n not in added] == names
    assert torch.equal(logits_of(model, images), before)
    assert torch.equal(model.explain(images).logits, before)


def test_squeeze_keeps_modes_dtype_and_frozen_parameters() -> None:
    for training in (True, False):
        model = resnet().double().train(training)
        model.requires_grad_(False)
        se_zoo.squeeze(model)
        assert all(m.training == training for m in model.modules())
        assert {p.dtype for p in model.parameters()} == {torch.float64}
        assert [n for n, p in model.named_parameters() if p.requires_grad] == [
            "se.fc1.weight", "se.fc2.weight",
        ]  # fmt: skip


def test_squeeze_leaves_no_cache_and_no_batch_statistics() -> None:
    """The layout is found out on a twin without memory, never by running the model itself."""
    model = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=24)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    attributes = {n: sorted(vars(m)) for n, m in model.named_modules()}
    se_zoo.squeeze(model.train())
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert {n: sorted(vars(m)) for n, m in model.named_modules() if n in attributes and n} == {
        n: a for n, a in attributes.items() if n
    }


def test_name_is_created_with_arguments() -> None:
    model: Any = se_zoo.squeeze(
        "resnet10t", num_classes=3, in_chans=1, gate="sigmoid", reduction=8, multi_label=True
    )
    assert model.num_classes == 3 and model.conv1[0].weight.shape[1] == 1
    assert model.se_args == {"gate": "sigmoid", "reduction": 8} and model.is_multi_label()
    assert model.se.fc1.weight.shape == (64, 512)
    assert se_zoo.squeeze("resnet10t").se.gate_kind == "identity"


@pytest.mark.parametrize(
    "name, small",
    [("resnet10t", {}), ("convnext_atto", {"depths": (1, 1, 1, 1)}), ("tf_efficientnet_lite0", {})],
    ids=["resnet", "convnext", "efficientnet"],
)
def test_finer_grids_come_without_dilation_if_asked(
    name: str, small: Dict[str, Any], tmp_path: Path
) -> None:
    """The saved model is created again so, and a dilated one gives other features."""
    args: Any = dict(output_stride=16, num_classes=3, gate="sigmoid", **small)
    plain: Any = randomise(se_zoo.squeeze(name, dilated=False, **args)).eval()
    convolutions = [m for m in plain.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.dilation == (1, 1) for m in convolutions)
    dilated: Any = se_zoo.squeeze(name, **args).eval()
    dilated.load_state_dict(plain.state_dict())
    batch = torch.randn(2, 3, 64, 64)
    ours, theirs = plain.forward_features(batch), dilated.forward_features(batch)
    assert ours.shape == theirs.shape and not torch.equal(ours, theirs)
    se_zoo.save(plain, tmp_path / "saved")
    again: Any = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert torch.equal(again(batch), plain(batch))


def test_two_squeezed_models_share_their_class() -> None:
    first, second = se_zoo.squeeze("test_byobnet"), se_zoo.squeeze("test_byobnet")
    assert type(first) is type(second) and type(first).__name__ == "ByobNetSE"


@pytest.mark.parametrize("name", ["resnet10t", "test_byobnet"])
def test_unsqueeze_is_the_inverse(name: str) -> None:
    model: Any = randomise(timm.create_model(name, num_classes=5)).eval()
    images, before = varied_images(2, SIZE), fingerprint(model)
    expected, args = logits_of(model, images), copy.deepcopy(getattr(model, "_model_args", {}))
    se_zoo.squeeze(model, gate="sigmoid")
    assert not torch.allclose(logits_of(model, images), expected)
    assert se_zoo.unsqueeze(model) is model
    after = fingerprint(model)
    for key in ("class", "training", "config", "grad", "requires_grad", "hooks"):
        assert after[key] == before[key]
    assert list(after["state"]) == list(before["state"])
    assert model._model_args == args
    assert torch.equal(logits_of(model, images), expected)
    se_zoo.squeeze(model)  # once more: it still knows what it is
    assert model._model_args["backbone"] == name


def test_unsqueezed_registered_model_is_timms() -> None:
    model: Any = se_zoo.unsqueeze(timm.create_model("resnet10t_sehead", num_classes=5))
    assert type(model) is timm.models.ResNet
    assert model.pretrained_cfg["architecture"] == "resnet10t"


def test_refusals_name_the_model_and_leave_it_as_it_was() -> None:
    model = se_zoo.squeeze(resnet())
    before = type(model), list(model.state_dict())
    with pytest.raises(UnsupportedBackboneError, match="already"):
        se_zoo.squeeze(model)
    assert (type(model), list(model.state_dict())) == before
    with pytest.raises(UnsupportedBackboneError, match="no SE head"):
        se_zoo.unsqueeze(resnet())
    with pytest.raises(UnsupportedBackboneError, match="forward_head"):
        se_zoo.squeeze(torch.nn.Linear(3, 3))
    with pytest.raises(UnsupportedBackboneError, match="crossvit_tiny_240"):
        se_zoo.squeeze("crossvit_tiny_240")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(dict(gate="softmax"), "sigmoid, identity"), (dict(reduction=0), "positive"),
     (dict(reduction="a"), "positive whole .* 'a'")],
)  # fmt: skip
def test_bad_blocks_are_refused_before_anything_changes(arguments: dict, message: str) -> None:
    model = resnet()
    before = type(model), list(model.state_dict()), repr(model.pretrained_cfg)
    with pytest.raises(InvalidInputError, match=message):
        se_zoo.squeeze(model, **arguments)
    assert (type(model), list(model.state_dict()), repr(model.pretrained_cfg)) == before
    with pytest.raises(InvalidInputError, match=message):
        timm.create_model("resnet10t_sehead", **arguments)


def test_unknown_names_and_arguments() -> None:
    with pytest.raises(UnknownModelError, match="resnet_of_another_world"):
        se_zoo.squeeze("resnet_of_another_world")
    with pytest.raises(UnknownModelError, match="resnet_of_another_world"):
        timm.create_model("timm_sehead", backbone="resnet_of_another_world")
    with pytest.raises(UnknownModelError, match="resnet10t_sehead"):
        timm.create_model("timm_sehead", backbone="resnet10t_sehead")
    with pytest.raises(UnknownModelError, match="no_such_tag"):
        timm.create_model("timm_sehead", backbone="resnet18.no_such_tag")
    for kind in (TypeError, InvalidInputError):
        with pytest.raises(kind, match="num_classes, pretrained"):
            se_zoo.squeeze(resnet(), num_classes=3, pretrained=True)
        with pytest.raises(kind, match="no_such_argument"):
            se_zoo.squeeze("resnet10t", no_such_argument=1)
        with pytest.raises(kind, match="pretrained_strict"):
            timm.create_model("resnet10t_sehead", pretrained_strict=False)


@pytest.mark.parametrize(
    ("backbone", "arguments", "says"),
    [
        ("resnet10t", dict(output_stride=3), r"output_stride=3\. AssertionError: assert output_st"),
        ("test_vit", dict(output_stride=16), r"output_stride=16.* TypeError: .*'output_stride'"),
        ("resnet10t", dict(num_classes="2"), "num_classes must be a whole number .* not '2'"),
        ("resnet10t", dict(num_classes=-1), "num_classes must be a whole number .* not -1"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_a_backbone_does_not_take_are_one_error(
    backbone: str, arguments: Dict[str, Any], says: str
) -> None:
    """Whatever timm raises, the error names backbone and options, and is one of se_zoo."""
    with pytest.raises(InvalidInputError, match=says) as squeezed:
        se_zoo.squeeze(backbone, **arguments)
    with pytest.raises(InvalidInputError, match=says) as made:
        timm.create_model("timm_sehead", backbone=backbone, **arguments)
    if "num_classes" not in arguments:
        assert str(squeezed.value).startswith(f"{backbone} cannot be made with ")
        assert f"backbone={backbone!r}" in str(made.value)
        assert squeezed.value.__cause__ is not None
    is_type_error = "TypeError" in says
    assert isinstance(squeezed.value, TypeError) == isinstance(made.value, TypeError)
    assert isinstance(squeezed.value, TypeError) == is_type_error


def test_error_of_the_machine_is_not_taken_for_one_of_the_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(RuntimeError, match="CUDA error") as caught:
        se_zoo.squeeze("resnet10t", num_classes=3)
    assert not isinstance(caught.value, InvalidInputError)


def test_pickle_in_a_process_that_only_knows_se_zoo_and_timm() -> None:
    """Classes made at run time pickle by timm's class, not by a name that no module has."""
    model = se_zoo.squeeze("test_byobnet", num_classes=5).eval()
    data = pickle.dumps(model)
    assert b"ByobNetSE" not in data and b"ByobNet" in data
    images = varied_images(1, SIZE)
    assert torch.equal(logits_of(pickle.loads(data), images), logits_of(model, images))


def test_compiled_model_is_squeezed_within() -> None:
    plain = resnet()
    assert se_zoo.squeeze(torch.compile(plain, backend="eager")) is plain  # type: ignore[arg-type]
    with pytest.raises(UnsupportedBackboneError, match="already"):
        se_zoo.squeeze(torch.compile(plain, backend="eager"))  # type: ignore[arg-type]


def test_copy_of_a_compiled_model_computes_with_its_own_weights() -> None:
    """As an averaged model does that is made of a compiled one."""
    model: Any = se_zoo.squeeze("test_byobnet", num_classes=5).eval()
    model.compile(backend="eager")
    twin, again = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for parameter in twin.parameters():
        torch.nn.init.zeros_(parameter)
    images = varied_images(1, SIZE)
    assert not logits_of(twin, images).any() and logits_of(again, images).any()


# Folders and files


def saved(model: Any, folder: Path, **args: Any) -> Path:
    save_for_hf(model, str(folder), model_args=args, safe_serialization=True)
    return folder


def test_model_squeezed_by_hand_comes_back_as_timm_sehead(tmp_path: Path) -> None:
    model = se_zoo.squeeze(resnet(), gate="sigmoid", reduction=8, multi_label=True)
    saved(model, tmp_path, **{"num_classes": 5, **model._model_args})
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "timm_sehead"
    assert config["model_args"]["backbone"] == "resnet10t"
    back: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert back.se_args == {"gate": "sigmoid", "reduction": 8} and back.is_multi_label()
    images = varied_images(2, SIZE)
    assert torch.equal(logits_of(back, images), logits_of(model, images))


def test_label_names_come_back(tmp_path: Path) -> None:
    model: Any = timm.create_model("resnet18_slim_sehead.celeba")
    saved(model, tmp_path, **model._model_args)
    back: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert back.class_labels() == model.class_labels() and back.is_multi_label()
    assert back.image_stats() == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_folder_without_the_block_is_refused(tmp_path: Path) -> None:
    """A checkpoint of the zoo that lacks se.* is damaged; to guess a gate would be silent."""
    model: Any = timm.create_model("resnet10t_sehead", num_classes=5)
    saved(model, tmp_path, num_classes=5)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("se.")}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(WeightsNotFoundError, match=r"se\.\*"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize("missing", ["se.gate_scale", "se.fc2.weight", "fc.bias"])
def test_folder_with_a_key_missing_is_refused(tmp_path: Path, missing: str) -> None:
    model: Any = timm.create_model("resnet10t_sehead", num_classes=5)
    saved(model, tmp_path, num_classes=5)
    state = {k: v for k, v in model.state_dict().items() if k != missing}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=missing):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


class Exploit:
    """What a hostile pickle would run."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was loaded",)


def test_folder_with_a_pickle_alone_is_refused(tmp_path: Path) -> None:
    saved(timm.create_model("resnet10t_sehead", num_classes=5), tmp_path, num_classes=5)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"fc.weight": Exploit()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsNotFoundError, match="safetensors"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


@pytest.mark.parametrize("suffix", [".bin", ".pth", ".pt", ""])
def test_file_that_is_no_safetensors_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save({"fc.weight": Exploit()}, path)
    for name in ("resnet10t_sehead", "timm_sehead"):
        with pytest.raises(WeightsNotFoundError, match="safetensors"):
            timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})


def test_backbone_file_loads_under_an_identity_gate(tmp_path: Path) -> None:
    plain, images = resnet(), varied_images(2, SIZE)
    save_file(plain.state_dict(), tmp_path / "backbone.safetensors")
    overlay = {"file": str(tmp_path / "backbone.safetensors"), "num_classes": 5}
    for name, args in (("resnet10t_sehead", {}), ("timm_sehead", {"backbone": "resnet10t"})):
        model: Any = timm.create_model(
            name, pretrained=True, num_classes=5, pretrained_cfg_overlay=overlay, **args
        )
        assert torch.equal(logits_of(model.eval(), images), logits_of(plain, images))
        with pytest.raises(WeightsNotFoundError, match="identity"):
            timm.create_model(
                name, pretrained=True, num_classes=5, gate="sigmoid",
                pretrained_cfg_overlay=overlay, **args,
            )  # fmt: skip


def test_file_with_the_block_loads_under_any_gate(tmp_path: Path) -> None:
    model = randomise(timm.create_model("resnet10t_sehead", num_classes=5, gate="sigmoid")).eval()
    save_file(model.state_dict(), tmp_path / "whole.safetensors")
    back: Any = timm.create_model(
        "resnet10t_sehead", pretrained=True, num_classes=5, gate="sigmoid",
        pretrained_cfg_overlay={"file": str(tmp_path / "whole.safetensors"), "num_classes": 5},
    )  # fmt: skip
    images = varied_images(2, SIZE)
    assert torch.equal(logits_of(back.eval(), images), logits_of(model, images))


def test_new_classifier_on_loaded_weights(tmp_path: Path) -> None:
    """As in timm: another num_classes keeps the backbone and starts a new classifier."""
    plain = resnet()
    save_file(plain.state_dict(), tmp_path / "backbone.safetensors")
    model: Any = timm.create_model(
        "resnet10t_sehead", pretrained=True, num_classes=3,
        pretrained_cfg_overlay={"file": str(tmp_path / "backbone.safetensors"), "num_classes": 5},
    )  # fmt: skip
    assert model.fc.weight.shape == (3, 512)
    assert torch.equal(model.conv1[0].weight, plain.conv1[0].weight)
    assert torch.equal(model.explain(varied_images(1, SIZE)).gate, torch.ones(1, 512))


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_damaged_file_is_one_clear_error(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "damaged.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsNotFoundError, match=str(path)):
        timm.create_model(
            "resnet10t_sehead", pretrained=True, pretrained_cfg_overlay={"file": str(path)}
        )


def test_checkpoint_path_loads_a_whole_model(tmp_path: Path) -> None:
    model = randomise(timm.create_model("resnet10t_sehead", num_classes=5)).eval()
    save_file(model.state_dict(), tmp_path / "last.safetensors")
    back: Any = timm.create_model(
        "resnet10t_sehead", num_classes=5, checkpoint_path=str(tmp_path / "last.safetensors")
    )
    images = varied_images(1, SIZE)
    assert torch.equal(logits_of(back.eval(), images), logits_of(model, images))


# The rest of timm's interface


def test_gradient_checkpointing_and_group_matcher_are_timms() -> None:
    plain, model = timm.create_model("resnet10t"), timm.create_model("resnet10t_sehead")
    assert model.group_matcher() == plain.group_matcher()  # type: ignore[operator]
    model.set_grad_checkpointing(True)  # type: ignore[operator]
    assert model.grad_checkpointing is True
    assert model.get_classifier() is model.fc  # type: ignore[operator]


@pytest.mark.parametrize("prune_head", [True, False])
@pytest.mark.parametrize("positional", [True, False])
def test_pruning_drops_the_block_only_with_the_head(prune_head: bool, positional: bool) -> None:
    model: Any = timm.create_model("resnet10t_sehead", num_classes=5).eval()
    if positional:
        model.prune_intermediate_layers(2, False, prune_head)
    else:
        model.prune_intermediate_layers(2, prune_head=prune_head)
    names = [n for n in model.state_dict() if n.startswith("se.")]
    assert names == ([] if prune_head else ["se.gate_scale", "se.fc1.weight", "se.fc2.weight"])


def test_block_goes_with_a_head_that_timm_prunes_by_itself() -> None:
    """Later versions drop a head that does not fit the layers that stay, whatever is asked for."""
    models: Any = [
        timm.create_model(n, num_classes=5).eval() for n in ("resnet10t_sehead", "resnet10t")
    ]
    for model in models:
        model.prune_intermediate_layers([1], prune_head=False)
    ours, plain = models
    kept = [name for name in ours.state_dict() if name.startswith("se.")]
    assert bool(kept) == bool(plain.num_classes)
    if not plain.num_classes:
        images = varied_images(2, SIZE)
        assert logits_of(ours, images).shape == logits_of(plain, images).shape


def test_patches_with_padding_are_refused() -> None:
    """The gate is a mean over all places, so that of a padded image would be another one."""
    small: Any = dict(embed_dim=96, depth=2, num_heads=3, num_classes=3)
    model: Any = se_zoo.squeeze("naflexvit_base_patch16_gap", **small).eval()
    tokens, valid = torch.randn(1, 9, 96), torch.ones(1, 9, dtype=torch.bool)
    assert model.forward_head(tokens).shape == (1, 3)
    valid[:, 6:] = False
    with pytest.raises(InvalidInputError, match="average their padding"):
        model.forward_head(patches=tokens, patch_valid=valid)  # as NaFlexVit's forward does
    with pytest.raises(InvalidInputError, match="average their padding"):
        model.forward_head(tokens, patch_valid=valid)  # as Gemma's does


def test_global_pool_can_be_changed_and_maps_follow() -> None:
    model: Any = timm.create_model("resnet10t_sehead", num_classes=5, gate="sigmoid")
    randomise(model).eval()
    images = varied_images(1, SIZE)
    assert model.explain(images).exact
    model.reset_classifier(5, "max")
    assert model.explain(images).weights == "gradient"


def test_lists_and_configs() -> None:
    name = "resnet18_slim_sehead.celeba"
    assert timm.is_model("resnet50_sehead") and name in timm.list_models(
        "*_sehead*", pretrained=True, include_tags=True
    )
    cfg = timm.get_pretrained_cfg(name)
    assert cfg is not None and cfg.num_classes == 40
    assert cfg.hf_hub_id == "se-zoo/resnet18_slim_celeba"
    plain, se = timm.get_pretrained_cfg("resnet50"), timm.get_pretrained_cfg("resnet50_sehead")
    assert plain is not None and se is not None
    assert (se.tag, se.mean, se.input_size) == (plain.tag, plain.mean, plain.input_size)
    assert plain.architecture == "resnet50", "timm's own config was changed"


# Weights and the gate that they were trained with


@pytest.mark.parametrize("trained", ["sigmoid", "identity"])
def test_weights_of_another_gate_are_refused(tmp_path: Path, trained: str) -> None:
    """The factor of two between the gates would go unnoticed: names and shapes are the same."""
    other = {"sigmoid": "identity", "identity": "sigmoid"}[trained]
    weights = timm.create_model("resnet10t_sehead", gate=trained).state_dict()
    save_file(weights, tmp_path / "whole.safetensors")
    path = str(tmp_path / "whole.safetensors")
    model = timm.create_model("resnet10t_sehead", gate=other)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=f"trained with gate='{trained}'"):
            model.load_state_dict(weights, strict=strict)
    overlay = {"file": path}
    with pytest.raises(RuntimeError, match=f"trained with gate='{trained}'"):
        timm.create_model(
            "resnet10t_sehead", gate=other, pretrained=True, pretrained_cfg_overlay=overlay
        )
    with pytest.raises(RuntimeError, match=f"trained with gate='{trained}'"):
        timm.create_model("resnet10t_sehead", gate=other, checkpoint_path=path)


def test_folder_whose_config_lacks_the_model_arguments_is_refused(tmp_path: Path) -> None:
    """timm before 1.0.29 does not write them by itself; a default would load the wrong model."""
    model = se_zoo.squeeze(resnet(), gate="sigmoid")
    saved(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("model_args", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownModelError, match=r"names no backbone; .*se_zoo\.save"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)


def test_timm_folder_can_be_squeezed(tmp_path: Path) -> None:
    plain, images = resnet(), varied_images(2, SIZE)
    saved(plain, tmp_path, num_classes=5)
    (tmp_path / "pytorch_model.bin").write_bytes(b"not to be loaded")
    model: Any = se_zoo.squeeze(f"local-dir:{tmp_path}", pretrained=True)
    assert torch.equal(logits_of(model.eval(), images), logits_of(plain, images))
    assert model._model_args["backbone"] == "resnet10t"
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match="safetensors"):
        se_zoo.squeeze(f"local-dir:{tmp_path}", pretrained=True)


def test_names_that_have_an_se_head_already() -> None:
    for name in ("se_zoo/resnet18_slim_celeba", "resnet10t_sehead"):
        with pytest.raises(UnsupportedBackboneError, match="already"):
            se_zoo.squeeze(name)
    with pytest.raises(UnknownModelError, match=r"Closest: .*resnet50"):
        se_zoo.squeeze("resnet_50")
