"""Other versions of the libraries: what they lack is named, what they do more is not left out."""

import functools
import re
import types
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from packaging.version import Version
from timm.models.resnet import ResNet
from torch import nn

from se_zoo import SEZooWarning
from se_zoo.console import explained
from se_zoo.errors import other_version
from se_zoo.models import _timm, families
from se_zoo.version import TESTED

from .with_timm import run_with_timm

ROOT = Path(__file__).parent.parent


def failed(code: str) -> ImportError:
    with pytest.raises(ImportError) as info:
        exec(code, {})
    return info.value


@pytest.mark.parametrize(
    "code",
    ["from timm.models._registry import no_such_name", "import timm.models._no_such_module"],
)
def test_what_a_version_lacks_is_named_with_versions_and_fix(code: str) -> None:
    error = failed(code)
    message = other_version(error)
    assert message is not None and message == explained(error)
    for part in ("no_such_", f"timm {timm.__version__} lacks", "pip install -U se_zoo"):
        assert part in message
    assert f"pip install timm=={TESTED['timm']}" in message
    again = ImportError(message, name=error.name)  # as `import se_zoo` raises it
    assert other_version(again) == explained(again) == message


@pytest.mark.parametrize(
    "error",
    [
        failed("import no_such_package"),
        failed("from se_zoo.errors import no_such_name"),
        ImportError("libcudart.so.13: cannot open shared object file", name="torch._C"),
        ModuleNotFoundError("No module named 'timm'", name="timm"),
    ],
    ids=["package", "own", "library", "not_installed"],
)
def test_other_failed_imports_are_no_matter_of_versions(error: ImportError) -> None:
    assert other_version(error) is None


def test_import_says_which_version_of_timm_does_not_fit(tmp_path: Path) -> None:
    code = """
import timm.models._hub as hub
del hub.save_config_for_hf
try:
    import se_zoo
except ImportError as error:
    print(error)
"""
    printed = run_with_timm(code, tmp_path)
    assert "cannot import name 'save_config_for_hf'" in printed
    assert f"timm {timm.__version__} lacks a name that se_zoo" in printed


def test_function_that_timm_no_longer_calls_is_not_replaced(monkeypatch: Any) -> None:
    """Else configs would not be checked any more, in silence."""
    factory: Any = types.ModuleType("timm.models._factory")
    monkeypatch.setattr(_timm, "_factory", factory)
    with pytest.raises(ImportError, match="cannot import name 'parse_model_name'"):
        _timm.wrap_parse_model_name(lambda parse: parse)
    factory.parse_model_name = lambda name: (None, name)
    with pytest.raises(ImportError, match="cannot import name 'parse_model_name'") as info:
        _timm.wrap_parse_model_name(lambda parse: parse)
    assert other_version(info.value)
    exec("def create_model(name):\n    return parse_model_name(name)", vars(factory))
    assert _timm._used_by_the_factory("parse_model_name") is factory.parse_model_name
    own = factory.create_model
    factory.create_model = functools.wraps(own)(lambda *args: own(*args))  # by another package
    assert _timm._used_by_the_factory("parse_model_name") is factory.parse_model_name


class Later(nn.Module):
    """A ResNet of a later timm, with a norm in its head."""

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        x = self.head_norm(self.global_pool(x))
        return x if pre_logits else self.fc(x)


class Opaque(nn.Module):
    """A head whose code cannot be read."""

    forward_head = functools.partial(ResNet.forward_head)


def test_head_that_does_more_is_timms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Any = {}
    monkeypatch.setattr(families, "FAMILIES", known)
    assert not families.further_names(ResNet, families.ResNetSE)
    assert families.further_names(Opaque, families.ResNetSE) == {"forward_head"}
    with pytest.warns(SEZooWarning, match=r"Later does more .* \(head_norm\)"):
        families.register({Later: families.ResNetSE, ResNet: families.ResNetSE})
    assert known == {ResNet: families.ResNetSE}


def test_oldest_versions_are_those_of_the_package() -> None:
    file = ROOT / ".ci" / "floor.txt"
    if not file.is_file():
        pytest.skip("the sdist has no .ci")
    floor = dict(line.split("==") for line in file.read_text("utf-8").splitlines() if "==" in line)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    stated = dict(re.findall(r'^    "(\w+)>=([\d.]+)",$', project, re.MULTILINE))
    assert set(floor) == set(TESTED)
    for name, version in floor.items():
        assert Version(stated[name]) == Version(version) <= Version(TESTED[name])
