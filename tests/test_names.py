"""The names ``se_zoo/<backbone>_<data set>``, on every timm, however it was imported."""

import subprocess
import sys
from typing import Any

import pytest
import timm
import timm.models
from timm.models import _factory

import se_zoo
from se_zoo import UnknownModelError
from se_zoo.models.names import ALIASES, install_alias, registry_name


def test_alias_creates_the_tagged_architecture() -> None:
    model: Any = timm.create_model("se_zoo/resnet18_slim_celeba")
    assert model.pretrained_cfg["architecture"] == "resnet18_slim_sehead"
    assert model.pretrained_cfg["tag"] == "celeba" and model.num_classes == 40
    assert model.is_multi_label() and model.class_labels()[31] == "Smiling"


def test_every_declared_model_is_a_registered_tag() -> None:
    bundled = ["se_zoo/asd_tiny_grid", "se_zoo/resnet18_slim_celeba"]
    assert se_zoo.list_models(pretrained=True) == bundled
    names = se_zoo.list_models(declared=True)
    assert "se_zoo/resnet50_celeba" in names and "se_zoo/vit_base_patch16_224_in1k" in names
    tagged = timm.list_models("*_sehead*", include_tags=True)
    for name in names:
        backbone, tag = name.removeprefix("se_zoo/").rsplit("_", 1)
        assert registry_name(name) == f"{backbone}_sehead.{tag}" in tagged
        cfg = timm.get_pretrained_cfg(registry_name(name))
        assert cfg is not None and cfg.hf_hub_id == f"se-zoo/{backbone}_{tag}"
        classes = {"celeba": 40, "in1k": 1000, "k400": 400, "ucf101": 101, "grid": 1, "ava": 1}
        assert cfg.num_classes == classes[tag]
        assert not tag == "celeba" or len(cfg.label_names) == 40  # type: ignore[arg-type]


def test_declared_models_are_those_of_the_plan() -> None:
    assert {
        "resnet18_slim_celeba", "resnet18_celeba", "resnet50_celeba", "convnext_tiny_celeba",
        "vit_small_patch16_224_celeba", "resnet50_in1k", "convnext_tiny_in1k",
        "vit_base_patch16_224_in1k", "r2plus1d_18_k400", "r2plus1d_18_ucf101", "mvit_v2_s_k400",
        "swin3d_t_k400", "asd_tiny_grid", "asd_small_ava",
    } == set(ALIASES)  # fmt: skip


def test_vits_of_the_zoo_pool_by_average_so_that_maps_are_exact() -> None:
    model: Any = timm.create_model("se_zoo/vit_small_patch16_224_celeba", depth=1, embed_dim=96)
    assert model.global_pool == "avg"
    assert timm.create_model("vit_small_patch16_224_sehead", depth=1).global_pool == "token"


def test_gate_is_the_one_that_the_weights_were_trained_with() -> None:
    """The tags of this zoo are trained with the paper's gate, timm's without any."""
    for name in ("se_zoo/resnet18_celeba", "se_zoo/resnet50_in1k", "resnet18_slim_sehead"):
        model: Any = timm.create_model(name)
        assert model.se.gate_kind == "sigmoid"
    for name in ("resnet18_sehead", "resnet18_sehead.a1_in1k", "timm_sehead"):
        model = timm.create_model(name)
        assert model.se.gate_kind == "identity"


def test_bare_registry_names_pass() -> None:
    assert registry_name("resnet50_sehead") == "resnet50_sehead"
    assert registry_name("se_zoo/resnet50_sehead.celeba") == "resnet50_sehead.celeba"
    assert registry_name("resnet50_celeba") == "resnet50_sehead.celeba"


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("se_zoo/resnet50_celebA", "se_zoo/resnet50_celeba"),
        ("se_zoo/resnet_50_celeba", "se_zoo/resnet50_celeba"),
        ("se_zoo/resnet50_sehead.celba", "se_zoo/resnet50_sehead.celeba"),
        ("se_zoo/resnet50", "se_zoo/resnet50_"),
        ("se_zoo/", "list_models"),
        ("se_zoo/qqqqqqqqqqqq", "list_models"),
    ],
)
def test_unknown_name_gives_the_closest(name: str, closest: str) -> None:
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
    assert timm.models.safe_model_name("se_zoo/resnet50_celeba") == "resnet50_sehead_celeba"


def test_create_model_imported_before_se_zoo_knows_the_alias() -> None:
    script = """
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
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == "ok\n", done.stderr


def test_module_names_are_not_timms() -> None:
    """The registry groups by the last part of the module path: a module of ours that is called
    as one of timm's would turn up in timm's own lists."""
    ours = {timm.models.model_entrypoint(n).__module__ for n in se_zoo.list_models()}
    for module in {m.rsplit(".", 1)[1] for m in ours}:
        names = timm.list_models(module=module)
        assert names and all("_sehead" in name for name in names)
    assert not [n for n in timm.list_models(module="resnet") if "_sehead" in n]
