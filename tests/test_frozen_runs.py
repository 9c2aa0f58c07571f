"""Runs that start from weights with folded BatchNorms, and runs that train a part of the model."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="training needs se_zoo[train]")
pytest.importorskip("datasets", reason="training needs se_zoo[train]")

from safetensors.torch import load_file, save_file

from .test_train import folder, run, weights  # noqa: F401  (folder is a fixture)

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: Any) -> Path:
    """The weights of a tiny run."""
    return run(folder, tmp_path_factory.mktemp("trained") / "run") / "export/model.safetensors"


def test_run_from_folded_weights_says_so_and_measures_statistics(
    folder: Path, trained: Path, tmp_path: Path, capsys: Any
) -> None:  # fmt: skip
    state = load_file(trained)
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            state[name] = torch.zeros_like(tensor)
        if name.endswith("running_var"):
            state[name] = torch.ones_like(tensor)
    file = str(tmp_path / "folded.safetensors")
    save_file(state, file)
    run(folder, tmp_path / "a", run={"init": file, "dry_run": True})
    assert "BatchNorms were folded" in (said := capsys.readouterr().err) and "measured on" in said
    for init, optim in ((file, {"freeze_norms": True}), (str(trained), {})):
        run(folder, tmp_path / "b", run={"init": init, "dry_run": True}, optim=optim)
        assert "folded" not in capsys.readouterr().err


def test_frozen_backbone_comes_out_as_it_went_in(
    folder: Path, trained: Path, tmp_path: Path
) -> None:  # fmt: skip
    before = load_file(trained)
    after = weights(
        run(folder, tmp_path / "run", run={"init": str(trained)}, optim={"freeze_backbone": True})
    )
    changed = {k.partition(".")[0] for k, v in after.items() if not torch.equal(v, before[k])}
    assert changed == {"se", "fc"}
