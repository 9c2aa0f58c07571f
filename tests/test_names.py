"""The names ``se_zoo/<backbone>_<data set>``, on every timm, however it was imported."""

from typing import Any

import pytest
import timm
import timm.models
import torch
from timm.models import _factory

import se_zoo
from se_zoo import UnknownModelError
from se_zoo.models.cfgs import BACKBONES
from se_zoo.models.names import install_alias, registry_name
from se_zoo.models.pretrained.manifest import hub_folder, manifest
from se_zoo.models.pretrained.own_models import own_models
from tools import timm_suite

from .preloaded import run_python


def test_alias_creates_the_tagged_architecture() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba")
    assert model.pretrained_cfg["architecture"] == "resnet18_slim_sehead"
    assert model.pretrained_cfg["tag"] == "celeba" and model.num_classes == 40
    assert model.is_multi_label() and model.class_labels()[31] == "Smiling"


def test_the_zoo_lists_the_models_whose_weights_exist_and_no_others() -> None:
    names = se_zoo.list_models(pretrained=True)
    assert names == sorted(f"se_zoo/{name}" for name in manifest())
    assert "se_zoo/resnet18_slim_celeba" in names
    for name in names:
        own = own_models()[name.removeprefix("se_zoo/")]
        assert (hub_folder(own.name) / "model.safetensors").is_file()
        assert own.name == f"{own.architecture.removesuffix('_sehead')}_{own.tag}"
        assert registry_name(name) == own.registry_name


def test_own_tags_of_the_registry_are_those_of_the_zoo() -> None:
    """A tag that points to the zoo's organisation has weights."""
    tagged = timm.list_models("*_sehead*", include_tags=True)
    cfgs = {name: timm.get_pretrained_cfg(name) for name in tagged if "." in name}
    ours = {n for n, cfg in cfgs.items() if cfg and str(cfg.hf_hub_id).startswith("se-zoo/")}
    assert ours == {own.registry_name for own in own_models().values()}


def test_timm_lists_the_names_of_the_zoo() -> None:
    names = se_zoo.list_models(pretrained=True)
    assert sorted(timm.list_models("se_zoo/*")) == names
    assert sorted(timm.list_pretrained("se_zoo/*")) == names
    for name in names:
        assert timm.is_model(name) and timm.is_model_pretrained(name)
        assert timm.is_model_pretrained(registry_name(name))
    assert not timm.is_model("se_zoo/resnet50_ceelba")


def test_gate_is_the_one_that_the_weights_were_trained_with() -> None:
    """The face models are trained with the paper's gate, timm's without any."""
    for name in ("se_zoo/resnet18_slim_celeba", "resnet18_slim_sehead"):
        model: Any = timm.create_model(name)
        assert model.se.gate_kind == "sigmoid" and model.is_multi_label()
    for name in ("resnet18_sehead", "resnet18_sehead.a1_in1k", "timm_sehead"):
        model = timm.create_model(name)
        assert model.se.gate_kind == "identity" and not model.is_multi_label()


def test_untagged_name_of_a_timm_backbone_is_the_backbone_as_timm_has_it() -> None:
    """The arguments of a trained model hold for its tag."""
    images = torch.randn(1, 3, 64, 64)
    for name, cells in (
        ("tf_efficientnet_lite0_sehead", 2),
        ("se_zoo/tf_efficientnet_lite0_in1k", 4),
    ):
        model: Any = timm.create_model(name, pretrained=True).eval()
        assert model.forward_features(images).shape[-1] == cells
        assert model.pretrained_cfg["tag"] == "in1k"


def test_other_labels_keep_the_gate_and_drop_what_holds_for_the_old_labels() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True, num_classes=3)
    assert model.se.gate_kind == "sigmoid"
    assert not model.is_multi_label() and model.thresholds is None


def test_what_was_measured_on_the_weights_is_not_taken_without_them() -> None:
    """Thresholds, offset and default map say nothing of a model that is trained from scratch."""
    trained: Any = timm.create_model("se_zoo/resnet18_slim_celeba", pretrained=True)
    assert trained.map_offset != (0.0, 0.0) and trained.thresholds is not None
    for name in ("resnet18_slim_sehead", "se_zoo/resnet18_slim_celeba"):
        model: Any = timm.create_model(name)
        assert model.map_offset == (0.0, 0.0) and model.thresholds is None and model.multi_label
    assert se_zoo.create_speaker_model("se_zoo/asd_tiny_grid").map_method is None


def test_bare_registry_names_pass() -> None:
    assert registry_name("resnet50_sehead") == "resnet50_sehead"
    assert registry_name("se_zoo/resnet18_slim_sehead.celeba") == "resnet18_slim_sehead.celeba"
    assert registry_name("resnet18_slim_celeba") == "resnet18_slim_sehead.celeba"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("se_zoo/resnet18_slim_celebA", "se_zoo/resnet18_slim_celeba"),
        ("se_zoo/resnet_18_slim_celeba", "se_zoo/resnet18_slim_celeba"),
        ("se_zoo/resnet18_slim_sehead.celba", "se_zoo/resnet18_slim_sehead.celeba"),
        ("se_zoo/resnet50_in1k", "se_zoo/resnet50_"),
        ("se_zoo/resnet50", "se_zoo/resnet50_"),
        ("se_zoo/", "list_models"),
        ("se_zoo/qqqqqqqqqqqq", "list_models"),
    ],
)
def test_unknown_name_gives_the_closest(
    name: str, closest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: the network is not asked."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(UnknownModelError) as info:
        timm.create_model(name)
    assert closest in str(info.value) and repr(name.removeprefix("se_zoo/")) in str(info.value)


@pytest.mark.parametrize("name", ["resnet18", "hf-hub:some/where", "local-dir:/some/where"])
def test_other_names_reach_timm_untouched(name: str) -> None:
    original = _factory.parse_model_name.__wrapped__  # type: ignore[attr-defined]
    assert _factory.parse_model_name(name) == original(name)


@pytest.mark.parametrize("name", ["no_such_model", "hf-hub:", "SE_ZOO/resnet50_celeba"])
def test_wrong_names_fail_as_in_timm(name: str) -> None:
    original = _factory.parse_model_name.__wrapped__  # type: ignore[attr-defined]

    def outcome(parse: Any) -> Any:
        try:
            return parse(name)
        except Exception as error:
            return type(error), str(error)

    assert outcome(_factory.parse_model_name) == outcome(original)


def test_alias_is_installed_once_and_in_both_places() -> None:
    installed = _factory.parse_model_name
    install_alias()
    install_alias()
    assert _factory.parse_model_name is installed is timm.models.parse_model_name  # type: ignore[attr-defined]
    assert not hasattr(installed.__wrapped__, "__wrapped__")  # type: ignore[attr-defined]
    assert installed.__name__ == "parse_model_name" and installed.__doc__


def test_safe_model_name_knows_the_alias() -> None:
    """timm's scripts name their output folders by it."""
    name = timm.models.safe_model_name("se_zoo/resnet18_slim_celeba")
    assert name == "resnet18_slim_sehead_celeba"


def test_create_model_imported_before_se_zoo_knows_the_alias() -> None:
    script = """
import warnings
warnings.simplefilter("error", UserWarning)
from timm import create_model
from timm.models import create_model as other, parse_model_name as kept
import se_zoo
for create in (create_model, other):
    model = create("se_zoo/resnet18_slim_celeba")
    assert model.pretrained_cfg["tag"] == "celeba", model.pretrained_cfg
    assert create("resnet10t").pretrained_cfg["architecture"] == "resnet10t"
import importlib
importlib.reload(se_zoo)
assert create_model("se_zoo/resnet18_slim_celeba").num_classes == 40
print("ok")
"""
    done = run_python("-c", script)
    assert done.stdout == "ok\n", done.stderr


def test_module_names_are_not_timms() -> None:
    """The registry groups by the last part of the module path: a module of ours that is called
    as one of timm's would turn up in timm's own lists."""
    ours = {timm.models.model_entrypoint(n).__module__ for n in se_zoo.list_models()}
    for module in {m.rsplit(".", 1)[1] for m in ours}:
        names = timm.list_models(module=module)
        assert names and all("_sehead" in name for name in names)
    assert not [n for n in timm.list_models(module="resnet") if "_sehead" in n]


def test_every_backbone_with_configs_has_an_entry_point_and_no_other() -> None:
    """timm asks for neither: one without the other is a model without weights, or none at all."""
    registered = timm.list_models("*_sehead", module="zoo_image")
    assert set(registered) == {"timm_sehead", *(f"{name}_sehead" for name in BACKBONES)}


def test_timms_suite_finds_every_architecture_in_a_family() -> None:
    """Its tests of features ask for the models of a family; one of no family would be left out."""
    ours = timm_suite._only_ours(timm.list_models)
    of_families = {name for family in timm.list_modules() for name in ours(module=family)}
    assert of_families == set(ours()) and "resnet10t_sehead" in ours(module="resnet")
