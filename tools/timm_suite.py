"""Run timm's own ``tests/test_models.py`` on the architectures that se_zoo registers.

    python -m tools.timm_suite
    python -m tools.timm_suite -k vit_tiny          # any of pytest's options

Run time: that of pytest on all of them; the first run downloads timm's source distribution.

The file is that of the installed timm version; the wheel has no tests, the source distribution on
the package index has. Only the result of ``list_models`` changes: it has ``*_sehead`` models alone,
each under the module name of timm's own family, so that the tests of features, intermediates and
pruning include them. Left out are tests of other, fixed models and those that download weights.
"""

import functools
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, List, Sequence

import pytest
import timm

import se_zoo
from se_zoo.files import replacing

CACHE = Path.home() / ".cache" / "se_zoo" / "timm_suite"


def _suite_file(version: str = timm.__version__) -> Path:
    """Return the path of a timm version's ``test_models.py``, downloaded once."""
    path = CACHE / version / "test_models.py"
    if path.is_file():
        return path
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary",
             ":all:", "--dest", folder, f"timm=={version}"],
            check=True,
        )  # fmt: skip
        archive = next(Path(folder).glob("timm-*.tar.gz"))
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"timm-{version}/tests/test_models.py")
            assert member is not None
            text = member.read()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:  # a file that is there is trusted
        temporary.write_bytes(text)
    return path


def _as_list(value: Any) -> List[str]:
    """Return a string as a list of it, and a sequence as a list."""
    return [value] if isinstance(value, str) else list(value)


def _family(name: str) -> str:
    """Return timm's module of an architecture; timm_sehead and the slim one are ResNets."""
    backbone = name.removesuffix("_sehead")
    if not timm.is_model(backbone):
        return "resnet"
    return timm.model_entrypoint(backbone).__module__.rpartition(".")[2]


def _only_ours(original: Any) -> Any:
    """Wrap ``list_models`` so that it lists our architectures only."""

    @functools.wraps(original)
    def list_models(filter: Any = "", module: Any = "", pretrained: Any = False, **kwargs: Any):
        if pretrained:
            return []  # tests of pretrained models download weights
        names = set(original(filter, **kwargs)) & set(
            original("*_sehead*", module="zoo_image", **kwargs)
        )
        if module:
            names = {n for n in names if _family(n) in _as_list(module)}
        return sorted(names)

    return list_models


def pytest_configure(config: pytest.Config) -> None:
    """Restrict timm's lists before the file is imported, in every worker too."""
    assert se_zoo.list_models()  # our architectures are registered
    timm.list_models = _only_ours(timm.list_models)
    timm.list_pretrained = lambda *args, **kwargs: []


def pytest_collection_modifyitems(config: pytest.Config, items: List[Any]) -> None:
    """Keep the tests of our architectures."""
    ours, others = [], []
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        keep = "_sehead" in str(params.get("model_name")) and "load_pretrained" not in item.name
        (ours if keep else others).append(item)
    items[:] = ours
    config.hook.pytest_deselected(items=others)


def main(arguments: Sequence[str]) -> int:
    """Run pytest on timm's file with this module as a plugin."""
    path = _suite_file()
    command = [
        sys.executable, "-m", "pytest", "-p", "tools.timm_suite", "-q", "--rootdir",
        str(path.parent), "-c", "/dev/null", "-p", "no:cacheprovider",
        "-W", "ignore::pytest.PytestUnknownMarkWarning", str(path), *arguments,
    ]  # fmt: skip
    return subprocess.run(command, cwd=Path(__file__).parent.parent).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
