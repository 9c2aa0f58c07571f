"""What ``import se_zoo`` costs and touches."""

import json
import sys
from pathlib import Path

from .with_timm import run_with_timm

SCRIPT = """
import json, sys, warnings
import torch, timm
before, rng = set(sys.modules), torch.get_rng_state()
handlers = len(warnings.filters)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    import se_zoo
loaded = sorted(set(sys.modules) - before)
import se_zoo.cli
from se_zoo.data import build_tracks, check, open_table, open_tracks
print(json.dumps({
    "loaded": loaded,
    "with data": sorted(sys.modules),
    "rng": bool(torch.equal(rng, torch.get_rng_state())),
    "filters": len(warnings.filters) - handlers,
    "grad": torch.is_grad_enabled(),
    "threads": torch.get_num_threads(),
}))
"""


def test_import_is_light_quiet_and_changes_nothing(tmp_path: Path) -> None:
    found = json.loads(run_with_timm(SCRIPT, tmp_path))
    loaded = found["loaded"]
    for heavy in (
        "matplotlib", "PIL.ImageDraw", "PIL.ImageFont", "tyro", "datasets", "accelerate",
        "torchmetrics", "pandas", "pyarrow", "scipy", "cv2", "captum", "pytorch_grad_cam",
        "torchvision.transforms", "timm.data.imagenet_info", "tensorboard", "av", "onnx",
    ):  # fmt: skip
        assert not [m for m in loaded if m == heavy or m.startswith(f"{heavy}.")], heavy
    foreign = {m.split(".")[0] for m in loaded} - {"se_zoo"} - set(sys.stdlib_module_names)
    assert foreign <= {"timm", "torch", "numpy", "huggingface_hub", "safetensors"}, foreign
    assert "se_zoo.data.tables.parquet" in found["with data"]
    assert not {"datasets", "pandas", "pyarrow", "accelerate"} & set(found["with data"])
    assert found["rng"] and found["grad"] and found["filters"] == 0
    assert not list(tmp_path.iterdir())


def test_public_names_exist_and_are_documented() -> None:
    import se_zoo

    for name in se_zoo.__all__:
        assert hasattr(se_zoo, name)
        assert name == "__version__" or getattr(se_zoo, name).__doc__, f"{name} has no docstring"
